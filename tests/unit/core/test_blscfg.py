"""GRUB's blscfg: the order of its entries, their variables, and what it makes of each file."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.bls import EntryFile
from trialboot.core.blscfg import blscfg_entries, compare_names
from trialboot.core.facts import Unknown
from trialboot.core.menu import MenuEntry

MACHINE = "6a9857a393724b7a981ebb5b8495b9ea"


def made(*lines: str, **variables: str) -> MenuEntry:
    text = "\n".join(("linux /vmlinuz", *lines))
    (entry,) = blscfg_entries([EntryFile(name="a-1-2.conf", text=text)], variables)
    return entry


KERNELS = [
    f"{MACHINE}-{version}"
    for version in (
        "0-rescue",
        "5.14.0~rc1-1.el9.x86_64",
        "5.14.0-1.el9.x86_64",
        "5.14.0+debug-1.el9.x86_64",
        "5.14.0.1-1.el9.x86_64",
        "5.14.2-1.el9.x86_64",
        "5.14.10-1.el9.x86_64",
        "5.14.10-70.13.1.el9_0.x86_64",
        "5.14.10-570.12.1.el9_6.x86_64",
        "6.1.0-1.el9.x86_64",
    )
]


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations(KERNELS, 2)))
def test_newer_kernels_stand_above_older_ones(left: str, right: str) -> None:
    assert compare_names(left, right) < 0
    assert compare_names(right, left) > 0
    files = [EntryFile(name=f"{name}.conf", text="linux /l\n") for name in (left, right)]
    found = blscfg_entries(files, {})
    assert [(e.entry, e.place) for e in found] == [(right, (0,)), (left, (1,))]


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("a", "a", 0),
        ("a-1", "a-01", 0),
        ("a.b", "a_b", 0),
        ("a-", "a", 0),
        ("1", "a", 1),
        ("a", "b", -1),
        ("a+b", "a", 1),
        ("a+b", "ab", -1),
        ("a~", "a", -1),
        ("a~b", "a+b", -1),
        ("name", "name-1", -1),
        ("name-2", "name-1-1", 1),
        ("9" * 5000, "1" + "0" * 5000, -1),
    ],
)
def test_names_compare_as_rpm_compares_them(left: str, right: str, order: int) -> None:
    assert compare_names(left, right) == order
    assert compare_names(right, left) == -order


def test_an_entry_has_all_that_its_file_says() -> None:
    entry = made(
        "title Fedora Linux (6.11) 42",
        "options root=UUID=x ro 'dyndbg=file x.c +p'",
        "initrd /early.img",
        "initrd /initramfs.img $tuned_initrd",
        "id anything",
        "grub_users $grub_users",
        tuned_initrd="(${root})/tuned.img",
    )
    assert entry == MenuEntry(
        entry=entry.entry,
        title="Fedora Linux (6.11) 42",
        place=(0,),
        kernel="/vmlinuz",
        initrds=("/early.img", "/initramfs.img", "/tuned.img"),
        arguments='root=UUID=x ro "dyndbg=file x.c +p"',
    )
    assert entry.entry == "a-1-2"


def test_only_the_first_line_of_a_key_counts_and_an_empty_line_ends_the_file() -> None:
    entry = made("options a", "options b", "title t", "", "initrd /i")
    assert (entry.arguments, entry.title, entry.initrds) == ("a", "t", ())


def test_comments_indents_and_tabs_are_read_as_grub_reads_them() -> None:
    entry = made("# options x", " \ttitle  t u", "options\ta\r", "\rinitrd /i")
    assert (entry.title, entry.arguments, entry.initrds) == ("t u", "a", ("/i",))
    assert made("options\ta b").arguments == ""  # the key is «options<tab>a» to GRUB


def test_without_a_title_the_kernel_is_the_title() -> None:
    assert made().title == "/vmlinuz"


@pytest.mark.parametrize(
    ("options", "variables", "arguments"),
    [
        ("$kernelopts", {"kernelopts": "root=a ro"}, "root=a ro"),
        ("$kernelopts $tuned_params", {"kernelopts": "root=a"}, "root=a"),
        ("$kernelopts $tuned_params x", {"kernelopts": "a", "tuned_params": "b c"}, "a b c x"),
        ("a=$kernelopts/b", {"kernelopts": "c"}, "a=c /b"),
        ("root=a $tuned_params", {}, "root=a"),
    ],
)
def test_variables_of_the_options_get_their_values(
    options: str, variables: dict[str, str], arguments: str
) -> None:
    entry = made(f"options {options}", **variables)
    assert (entry.arguments, entry.doubt) == (arguments, "")


def test_without_options_the_default_ones_count() -> None:
    assert made(default_kernelopts="root=a quiet").arguments == "root=a quiet"
    assert made("options b", default_kernelopts="a").arguments == "b"


def test_early_initrds_lie_beside_the_first_one() -> None:
    entry = made("initrd /sub/initramfs.img", early_initrd="ucode.img acpi.img")
    assert entry.initrds == ("/sub/ucode.img", "/sub/acpi.img", "/sub/initramfs.img")
    assert made(early_initrd="ucode.img").initrds == ("/ucode.img",)


@pytest.mark.parametrize(
    ("line", "variables", "doubt"),
    [
        ("options $kernelopts", {}, "«$kernelopts» is set nowhere"),
        ("options ${kernelopts}", {"kernelopts": "a"}, "versions of GRUB differ over «$»"),
        (r"options a=\$b", {"b": "c"}, "versions of GRUB differ over"),
        ("options $a", {"a": "${b}"}, "«$b» is set nowhere"),
        ("options $a", {"a": "${a}"}, "depends on the boot"),
        ("options a; b", {}, "for several commands"),
        ("options $a $a", {}, "«$a» is set nowhere"),
        ("options a {b}", {}, "for several commands"),
        ("initrd $mystery", {}, "«$mystery» is set nowhere"),
    ],
)
def test_what_only_the_boot_decides_is_in_doubt(
    line: str, variables: dict[str, str], doubt: str
) -> None:
    assert doubt in made(line, **variables).doubt


def test_two_files_that_are_one_name_to_grub_are_in_doubt() -> None:
    files = [EntryFile(name=name, text="linux /l\n") for name in ("a-1.conf", "a-01.conf")]
    (entry,) = blscfg_entries(files, {})
    assert "«a-01»" in entry.doubt


def test_what_grub_does_not_list_is_not_listed() -> None:
    nothing = [
        EntryFile(name=".a.conf", text="linux /l\n"),
        EntryFile(name=".conf", text="linux /l\n"),
        EntryFile(name="a.CONF", text="linux /l\n"),
        EntryFile(name="b.conf", text="title t\n"),
        EntryFile(name="b-01.conf", text=""),
        EntryFile(name="b-1.conf", text=""),
    ]
    assert blscfg_entries(nothing, {}) == ()


def test_a_file_that_was_refused_keeps_its_place_with_the_reason() -> None:
    files = [
        EntryFile(name="a-2.conf", text=Unknown("too large")),
        EntryFile(name="a-1.conf", text="linux /l\n"),
    ]
    first, second = blscfg_entries(files, {})
    assert (first.entry, first.doubt, second.entry) == ("a-2", "too large", "a-1")


def test_an_angle_in_a_name_is_doubled_as_grub_wants_it() -> None:
    (entry,) = blscfg_entries([EntryFile(name="a>b.conf", text="linux /l\n")], {})
    assert entry.entry == "a>>b"


NAMES = st.text("ab1-.~+_", max_size=10)


@given(NAMES, NAMES)
def test_names_compare_the_same_from_both_sides(left: str, right: str) -> None:
    assert compare_names(left, right) == -compare_names(right, left)
    assert compare_names(left, left) == 0


TEXTS = st.text(max_size=200) | st.text("linuxoptsrd $\\{}'\"\t\n;#/", max_size=200)


@given(st.dictionaries(st.text(max_size=8), TEXTS, max_size=4), TEXTS)
def test_any_file_is_an_entry_or_none(files: dict[str, str], value: str) -> None:
    given_files = [EntryFile(name=f"{n}.conf", text=f"linux {t}") for n, t in files.items()]
    found = blscfg_entries(given_files, {"kernelopts": value, "early_initrd": value})
    assert [entry.place for entry in found] == [(n,) for n in range(len(found))]
