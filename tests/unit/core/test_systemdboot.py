"""systemd-boot's menu: patterns, variables, and the entry that all settings lead to."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.bls import EntryFile
from trialboot.core.facts import Unknown
from trialboot.core.menu import (
    KNOWN_GOOD,
    SYSTEMD_BOOT,
    Menu,
    MenuEntry,
    Resolved,
    entry_of,
    next_entry,
    wanted_entry,
)
from trialboot.core.systemdboot import (
    ENTRY_DEFAULT,
    ENTRY_ONE_SHOT,
    OURS,
    Before,
    Choices,
    format_before,
    format_text,
    image_of,
    known_good_file,
    menu_of,
    parse_before,
    parse_default,
    parse_features,
    parse_variable,
)
from trialboot.core.uki import ImageFile, Section, UnifiedImage

OLD, NEW = "debian-6.1.0-56-amd64.conf", "debian-6.12.117-amd64.conf"


def file_of(name: str, *more: str, linux: str = "linux /l") -> EntryFile:
    return EntryFile(name=name, text="\n".join((linux, f"options root={name}", *more)))


FILES = (file_of(OLD, "initrd /i", "initrd /j"), file_of(NEW, "title New"))


NOTHING_SET = Choices()


def answer(
    files: Sequence[EntryFile] = FILES,
    images: Sequence[ImageFile] = (),
    choices: Choices = NOTHING_SET,
) -> str:
    found = next_entry(menu_of(files, images, choices))
    return found.entry.entry if isinstance(found, Resolved) else found.why


def variable(text: str) -> bytes:
    return b"\x07\0\0\0" + text.encode("utf-16-le") + b"\0\0"


def test_entries_are_named_by_their_files_and_lie_on_the_host() -> None:
    menu = menu_of([FILES[0], FILES[1]], [], Choices())
    assert menu.entries == (
        MenuEntry(
            entry=menu.entries[0].entry,
            title="New",
            place=(0,),
            kernel="/boot/l",
            arguments=f"root={NEW}",
            name=NEW,
        ),
        MenuEntry(
            entry=menu.entries[1].entry,
            title=OLD,
            place=(1,),
            kernel="/boot/l",
            initrds=("/boot/i", "/boot/j"),
            arguments=f"root={OLD}",
            name=OLD,
        ),
    )
    assert [entry.entry for entry in menu.entries] == [NEW, OLD]
    assert menu.loader == SYSTEMD_BOOT


@pytest.mark.parametrize(
    ("choices", "entry"),
    [
        ({}, NEW),
        ({"file": OLD}, OLD),
        ({"file": "debian-6.1.*"}, OLD),
        ({"file": "DEBIAN-6.1.*"}, OLD),
        ({"file": "gone*"}, NEW),
        ({"file": "debian-6.1"}, NEW),
        ({"file": NEW, "default": OLD}, OLD),
        ({"file": OLD, "default": "gone"}, OLD),
        ({"file": "@saved", "last": OLD}, OLD),
        ({"file": "@saved", "last": "gone"}, NEW),
        ({"file": NEW, "default": "@SAVED", "last": OLD}, OLD),
        ({"file": OLD, "default": "@saved", "last": "gone"}, OLD),
        ({"file": NEW, "default": NEW, "once": OLD.upper()}, OLD),
        ({"file": OLD, "once": "gone"}, OLD),
    ],
)
def test_settings_are_followed_in_the_loader_s_order(choices: dict[str, Any], entry: str) -> None:
    assert answer(choices=Choices(**choices)) == entry


def test_what_is_wanted_leaves_a_one_shot_out() -> None:
    menu = menu_of(FILES, [], Choices(file=OLD, once=NEW))
    found = wanted_entry(menu)
    assert isinstance(found, Resolved)
    assert (found.entry.entry, found.fell_back, menu.once) == (OLD, False, NEW)


def test_a_default_that_names_nothing_is_the_first_entry() -> None:
    found = next_entry(menu_of(FILES, [], Choices(file="gone")))
    assert isinstance(found, Resolved)
    assert found.fell_back


def test_an_entry_without_tries_comes_last_but_may_still_be_named() -> None:
    worn = file_of("debian-9+0-3.conf")
    assert answer([*FILES, worn]) == NEW
    assert answer([*FILES, worn], choices=Choices(file="debian-9*")) == "debian-9.conf"
    assert answer([*FILES, file_of("debian-9+2-1.conf")]) == "debian-9.conf"


def unread(*names: str) -> list[ImageFile]:
    odd = Unknown("it is no PE file")
    return [ImageFile(name=name, folder="/boot", image=odd) for name in names]


def test_where_a_unified_image_may_come_first_nothing_is_said() -> None:
    image = unread("Debian-7.efi")
    assert "it is no PE file" in answer(images=image)
    assert "«debian-7.efi»" in answer(images=image, choices=Choices(file="debian-*"))
    assert answer(images=image, choices=Choices(file="debian-*.conf")) == NEW
    assert answer(images=unread("debian-7+0-3.efi")) == NEW
    assert "no PE" in answer([], images=unread("debian-7+0-3.efi"))
    assert answer(images=unread("notes.txt", ".a.efi", "auto-a.efi")) == NEW


def unified(name: str, **told: str) -> ImageFile:
    image = UnifiedImage(linux=Section(0, 1), initrd=None, command_line="ro x", **told)
    return ImageFile(name=name, folder="/efi", image=image)


def test_a_unified_image_is_sorted_by_its_os_release() -> None:
    newer = unified("z+3.efi", sort_key="debian", version="7", title="Debian 7")
    keyed = file_of("a.conf", "sort-key debian", "version 6")
    menu = menu_of([keyed, *FILES], [newer], Choices())
    entry = menu.entries[0]
    assert [e.entry for e in menu.entries] == ["z.efi", "a.conf", NEW, OLD]
    assert (entry.kernel, entry.arguments) == ("/efi/EFI/Linux/z+3.efi", "ro x")
    assert (entry.name, entry.image, entry.title) == ("z+3.efi", newer.image, "Debian 7")
    assert answer([keyed], [unified("b.efi", sort_key="debian", version="5")]) == "a.conf"


def test_entries_that_only_a_counter_tells_apart_are_in_doubt() -> None:
    twins = [file_of("a.conf"), file_of("a+3.conf")]
    assert "but for the counter of tries" in answer(twins)
    assert answer([*twins, *FILES], choices=Choices(file=NEW)) == NEW


# --- our own entry -----------------------------------------------------------------------------

OUR_FILE = EntryFile(
    name=OURS,
    text=known_good_file(
        "6.1", "/trialboot/ab/vmlinuz", ["/trialboot/ab/initrd.img"], "root=x trialboot.boot=ab"
    ),
)


def test_our_entry_stands_first_and_goes_by_the_name_that_all_loaders_share() -> None:
    menu = menu_of([*FILES, OUR_FILE], [], Choices())
    ours = menu.entries[0]
    assert (ours.entry, ours.name, menu.known_good) == (KNOWN_GOOD, OURS, "ab")
    assert (ours.kernel, ours.initrds) == (
        "/boot/trialboot/ab/vmlinuz",
        ("/boot/trialboot/ab/initrd.img",),
    )
    assert answer([*FILES, OUR_FILE]) == KNOWN_GOOD
    assert menu_of([*FILES, file_of(OURS)], [], Choices()).known_good == ""


@pytest.mark.parametrize(
    ("choices", "host_default"),
    [
        (Choices(), NEW),
        (Choices(default=OURS), NEW),
        (Choices(default=OURS.upper(), file=OLD), OLD),
        (Choices(default=OURS, before=Before(default=OLD)), OLD),
        (Choices(default=OURS, before=Before(default="@saved", last=OLD)), OLD),
        (Choices(default=OURS, file="@saved", before=Before(last=OLD)), OLD),
        (Choices(default=OLD, before=Before(default=NEW)), OLD),
        (Choices(default="@saved", last=OURS), NEW),
        (Choices(file="trialboot*"), NEW),
    ],
)
def test_what_the_host_asks_for_is_found_behind_our_default(
    choices: Choices, host_default: str
) -> None:
    menu = menu_of([*FILES, OUR_FILE], [], choices)
    assert menu.host_default == host_default
    found = wanted_entry(menu)
    assert isinstance(found, Resolved)
    assert (found.entry.entry, found.fell_back) == (host_default, False)


def test_a_host_that_has_nothing_of_ours_has_no_default_behind_ours() -> None:
    assert menu_of(FILES, [], Choices(file=OLD)).host_default == ""
    assert menu_of(FILES, [], Choices(default=OURS)).host_default == NEW
    assert menu_of([OUR_FILE], [], Choices()).host_default == ""


def test_a_default_before_ours_that_the_loader_found_by_itself_is_not_known() -> None:
    before = Before(default="auto-windows")
    found = wanted_entry(menu_of([*FILES, OUR_FILE], [], Choices(default=OURS, before=before)))
    assert isinstance(found, Unknown)
    assert "finds it by itself" in found.why


@pytest.mark.parametrize("options", ["a\nlinux /evil", "", " a", '"a"', "a\rb"])
def test_what_a_boot_entry_cannot_say_is_not_written(options: str) -> None:
    with pytest.raises(ValueError, match="no boot entry can say"):
        known_good_file("6.1", "/trialboot/ab/vmlinuz", [], options)


@given(st.text(max_size=80) | st.text("ab =\"'\\\t\n\r#", max_size=20))
def test_any_command_line_is_written_as_it_is_or_not_at_all(line: str) -> None:
    try:
        text = known_good_file("6.1", "/trialboot/ab/vmlinuz", ["/trialboot/ab/initrd.img"], line)
    except ValueError:
        return
    menu = menu_of([EntryFile(name=OURS, text=text)], [], Choices())
    assert [(e.entry, e.arguments, e.kernel) for e in menu.entries] == [
        (KNOWN_GOOD, line, "/boot/trialboot/ab/vmlinuz")
    ]


@given(
    st.text("abc-+.0129", min_size=1, max_size=12).filter(lambda name: name[0] != "."),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
    st.sampled_from([".conf", ".CONF"]),
)
def test_an_entry_keeps_its_name_while_its_tries_are_counted(
    name: str, left: int, done: int, ending: str
) -> None:
    names = [f"{name}+{left + 1}{ending}", f"{name}+{left}-{done}{ending}"]
    menus = [menu_of([file_of(each)], [], Choices(once=each, booted=each)) for each in names]
    (first,), (second,) = (menu.entries for menu in menus)
    assert first.entry == second.entry == menus[0].once == menus[1].once == menus[1].booted
    assert [first.name, second.name] == [each.lower() for each in names]


@given(st.text(), st.text())
def test_what_was_set_before_us_comes_back(default: str, last: str) -> None:
    before = Before(default=default, last=last)
    assert parse_before(format_before(before)) == before


@given(st.text(max_size=50) | st.just("[" * 100000))
def test_any_text_was_written_by_us_or_not(text: str) -> None:
    assert isinstance(parse_before(text), Before | Unknown)


def test_what_we_did_not_write_is_not_believed() -> None:
    assert isinstance(parse_before("{}"), Unknown)
    assert isinstance(parse_before("[]"), Unknown)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=99))
def test_a_variable_says_what_was_written(text: str) -> None:
    assert parse_variable(b"\7\0\0\0" + format_text(text)) == text


@given(st.binary(max_size=20))
def test_features_are_a_number_of_eight_bytes(raw: bytes) -> None:
    found = parse_features(raw)
    assert isinstance(found, int) is (len(raw) == 12)
    assert parse_features(b"\7\0\0\0\x0c" + bytes(7)) == ENTRY_DEFAULT | ENTRY_ONE_SHOT


def test_an_entry_that_was_not_read_may_come_first_too() -> None:
    refused = EntryFile(name="big.conf", text=Unknown("it is too large"))
    assert "it is too large" in answer([*FILES, refused])
    assert answer([*FILES, refused], choices=Choices(file=NEW)) == NEW


@pytest.mark.parametrize("setting", ["once", "default", "file"])
def test_what_the_loader_finds_by_itself_is_not_known(setting: str) -> None:
    asked: dict[str, Any] = {setting: "auto-windows"}
    assert "finds it by itself" in answer(choices=Choices(**asked))


def test_no_entry_at_all_is_an_empty_menu() -> None:
    assert "empty menu" in answer([])


@pytest.mark.parametrize(
    "hidden",
    [
        EntryFile(name="z.txt", text="linux /l"),
        EntryFile(name="auto-z.conf", text="linux /l"),
        EntryFile(name=".z.conf", text="linux /l"),
        EntryFile(name="z.conf", text="title z"),
        file_of("z.conf", "architecture aa64"),
    ],
)
def test_what_systemd_boot_hides_is_hidden(hidden: EntryFile) -> None:
    assert answer([*FILES, hidden]) == NEW


def test_an_architecture_is_compared_without_case() -> None:
    assert answer([*FILES, file_of("z.conf", "architecture X64")]) == "z.conf"


@pytest.mark.parametrize("kind", ["efi", "uki", "uki-url"])
def test_what_is_no_linux_is_in_doubt(kind: str) -> None:
    assert "not understood yet: /grub.efi" in answer(
        [file_of("z.conf", linux=f"{kind} /grub.efi")]
    )


def test_the_image_is_told_so_that_the_caller_can_look() -> None:
    assert image_of(EntryFile(name="a.conf", text="linux a/l", folder="/efi")) == "/efi/a/l"
    assert image_of(EntryFile(name="a.conf", text="efi /a.efi", folder="/efi")) == "/efi/a.efi"
    assert image_of(EntryFile(name="a.conf", text="uki-url http://a/b")) == ""
    assert image_of(EntryFile(name="a.conf", text="title a")) == ""
    assert image_of(EntryFile(name="a.conf", text=Unknown("a"))) == ""


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a.conf", "a.conf", True),
        ("a", "a.conf", False),
        ("a*", "a.conf", True),
        ("*", "a.conf", True),
        ("*.conf", "a.conf", True),
        ("*.conf*", "a.conf", True),
        ("a*b*c.conf", "axxbyycc.conf", True),
        ("a*b*d*c.conf", "axxbyyc.conf", False),
        ("ab*ba.conf", "aba.conf", False),
        ("?.conf", "a.conf", True),
        ("?.conf", "ab.conf", False),
        ("[ab].conf", "b.conf", True),
        ("[a-c].conf", "b.conf", True),
        ("[a-c].conf", "-.conf", False),
        ("[a-c-f].conf", "-.conf", True),
        ("[a-c-f].conf", "e.conf", False),
        ("[-a].conf", "-.conf", True),
        ("[a-].conf", "-.conf", True),
        ("[]a].conf", "].conf", True),
        (r"[\]a].conf", "].conf", True),
        ("[!a].conf", "a.conf", True),
        (r"\*.conf", "*.conf", True),
        (r"\*.conf", "a.conf", False),
        ("[a.conf", "[a.conf", False),
        ("a.conf\\", "a.conf", False),
        ("*a" * 200 + "b", "a" * 250 + ".conf", False),
    ],
)
def test_patterns_fit_as_efi_fnmatch_has_it(pattern: str, name: str, fits: bool) -> None:  # noqa: FBT001  a column of the table
    menu = menu_of([file_of(name)], [], Choices(default=pattern))
    assert (menu.default_spec == name) is fits


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("", ""),
        ("timeout 3\n#default a\ndefault debian-*\n", "debian-*"),
        ("default a\ndefault b\n", "b"),
        ("default a\ndefault @weird\n", "a"),
        ("default @Saved\n", "@Saved"),
        ("default\n", ""),
    ],
)
def test_loader_conf_names_the_default(text: str, default: str) -> None:
    assert parse_default(text) == default


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (variable("a.conf"), "a.conf"),
        (variable("a.conf")[:-2], "a.conf"),
        (variable("a\0b"), "a"),
        (b"\x07\0\0\0", ""),
        (b"", None),
        (b"\x07\0\0\0a", None),
        (b"\x07\0\0\0\x00\xd8", None),
        (variable("a" * 9000), None),
    ],
)
def test_variables_are_utf_16_behind_their_attributes(raw: bytes, text: str | None) -> None:
    found = parse_variable(raw)
    assert isinstance(found, Unknown) if text is None else found == text


def booted(menu: Menu, command_line: str) -> str:
    found = entry_of(menu, command_line)
    return found.why if isinstance(found, Unknown) else found


def test_the_running_kernel_is_found_by_its_arguments() -> None:
    menu = menu_of(FILES, [], Choices())
    assert booted(menu, f"initrd=\\i initrd=\\j root={OLD}") == OLD
    assert "no entry of the menu" in booted(menu, "root=other")


def test_of_equal_arguments_the_loader_says_which_it_was() -> None:
    files = [
        EntryFile(name="a+2-1.conf", text="linux /a\noptions initrd=/x ro"),
        EntryFile(name="b.conf", text="linux /b\noptions ro"),
    ]
    assert booted(menu_of(files, [], Choices(booted="A+3.conf")), "ro") == "a.conf"
    assert booted(menu_of(files, [], Choices(booted="b.conf")), "ro") == "b.conf"
    assert "more than one entry" in booted(menu_of(files, [], Choices(booted="gone")), "ro")
    assert "more than one entry" in booted(menu_of(files, [], Choices()), "ro")


TEXTS = st.text(max_size=60) | st.text("ab*?[]\\-!.conf", max_size=20)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), st.lists(TEXTS, max_size=3), TEXTS, TEXTS)
def test_any_files_and_settings_have_an_answer(
    files: list[tuple[str, str]], images: list[str], first: str, second: str
) -> None:
    given_files = [file_of(f"{name}.conf", text) for name, text in files]
    choices = Choices(
        file=parse_default(f"default {first}"), default=second, once=first, last=second
    )
    menu = menu_of(given_files, unread(*(f"{name}.efi" for name in images)), choices)
    assert isinstance(next_entry(menu), Unknown | Resolved)
    assert isinstance(wanted_entry(menu), Unknown | Resolved)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_variable_or_unknown(raw: bytes) -> None:
    assert isinstance(parse_variable(raw), str | Unknown)
