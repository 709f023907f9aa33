"""The menu, GRUB's files and their words: parsed, resolved, written back."""

import shlex
import string
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trialboot.core.bls import EntryFile
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import (
    format_environment,
    names_boot_entries,
    parse_environment,
    parse_menu,
)
from trialboot.core.grubwords import as_script, commands_of, loaded
from trialboot.core.menu import (
    GRUB,
    GRUB_BLS,
    KNOWN_GOOD,
    Menu,
    MenuEntry,
    Resolved,
    against_default,
    entry_of,
    next_entry,
    wanted_entry,
)
from trialboot.core.newc import archive
from trialboot.core.savedentry import with_default as with_saved_default
from trialboot.errors import LoaderError

LOADERS = Path(__file__).parent.parent / "loaders"
PLAIN = (LOADERS / "debian12-grub.cfg").read_text(encoding="utf-8")
OURS = (LOADERS / "debian12-grub-known-good.cfg").read_text(encoding="utf-8")
UUID = "5f0c6b3e-1111-2222-3333-444455556666"
SIMPLE = f"gnulinux-simple-{UUID}"
ADVANCED = f"gnulinux-advanced-{UUID}"
OLD = f"{ADVANCED}>gnulinux-6.1.0-56-amd64-advanced-{UUID}"
NEW = f"{ADVANCED}>gnulinux-6.12.117-amd64-advanced-{UUID}"
SAVED_DEFAULT = PLAIN.replace('default="0"', 'default="${saved_entry}"')


def menu_of(text: str, **environment: str) -> Menu:
    menu = parse_menu(text, environment)
    assert isinstance(menu, Menu), menu
    return menu


def resolved(answer: Resolved | Unknown) -> tuple[str, bool]:
    assert isinstance(answer, Resolved), answer
    return answer.entry.entry, answer.fell_back


def with_default(spec: str) -> str:
    return PLAIN.replace('default="0"', f"default='{spec}'")


def test_the_default_is_our_entry_by_name_whatever_boots_once() -> None:
    assert against_default(menu_of(OURS, saved_entry=KNOWN_GOOD)) == ""
    assert against_default(menu_of(OURS, saved_entry=KNOWN_GOOD, next_entry=NEW)) == ""
    other = "the boot loader's default is no longer the known-good"
    assert against_default(menu_of(OURS, saved_entry=NEW)) == other
    # GRUB takes the first entry, which is ours.
    chance = "the boot loader has no default, and takes the first of its menu"
    assert against_default(menu_of(OURS, saved_entry="gone")) == chance
    assert against_default(menu_of(OURS)) == chance
    assert isinstance(against_default(menu_of(OURS, saved_entry="1st")), Unknown)


def test_a_real_menu_is_read_with_its_submenu() -> None:
    menu = menu_of(PLAIN)
    assert [entry.place for entry in menu.entries] == [(0,), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert menu.submenus[0].entry == ADVANCED
    first = menu.entries[0]
    assert (first.entry, first.title, first.kernel, first.initrds, first.arguments) == (
        SIMPLE,
        "Debian GNU/Linux",
        "/vmlinuz-6.12.117-amd64",
        ("/initrd.img-6.12.117-amd64",),
        'root=/dev/sda2 ro "dyndbg=file x.c +p" quiet panic=10',
    )
    assert (menu.default_spec, menu.host_default, menu.known_good) == ("0", "", "")


def test_our_menu_remembers_what_the_host_asked_for() -> None:
    menu = menu_of(OURS, saved_entry=KNOWN_GOOD)
    assert (menu.default_spec, menu.host_default, menu.known_good) == ("saved", "0", "aaaa")
    assert resolved(next_entry(menu)) == (KNOWN_GOOD, False)
    assert resolved(wanted_entry(menu)) == (SIMPLE, False)


@pytest.mark.parametrize(
    ("spec", "entry", "fell_back"),
    [
        ("0", SIMPLE, False),
        ("1", NEW, False),
        ("1>2", OLD, False),
        (OLD, OLD, False),
        (f"{ADVANCED}>Debian GNU/Linux, with Linux 6.1.0-56-amd64", OLD, False),
        ("Advanced options for Debian GNU/Linux", NEW, False),
        ("Debian GNU/Linux", SIMPLE, False),
        (f"{ADVANCED}>nothing", NEW, True),
        ("7", SIMPLE, True),
        ("nothing", SIMPLE, True),
        (f"{SIMPLE}>2", SIMPLE, False),
    ],
)
def test_a_default_is_followed_as_grub_does(spec: str, entry: str, fell_back: bool) -> None:  # noqa: FBT001
    assert resolved(next_entry(menu_of(with_default(spec)))) == (entry, bool(fell_back))


def test_an_empty_default_is_the_first_entry() -> None:
    assert resolved(next_entry(menu_of(SAVED_DEFAULT))) == (SIMPLE, True)


def test_a_one_shot_goes_before_the_default() -> None:
    answer = next_entry(menu_of(SAVED_DEFAULT, saved_entry=SIMPLE, next_entry=OLD))
    assert resolved(answer) == (OLD, False)
    assert isinstance(answer, Resolved)
    assert answer.why.startswith("one-shot")


@pytest.mark.parametrize(
    ("text", "environment", "then", "afterwards"),
    [
        (SAVED_DEFAULT, {"saved_entry": OLD, "prev_saved_entry": SIMPLE}, OLD, SIMPLE),
        (SAVED_DEFAULT, {"saved_entry": OLD, "prev_saved_entry": ""}, OLD, OLD),
        (
            SAVED_DEFAULT,
            {"saved_entry": OLD, "prev_saved_entry": SIMPLE, "next_entry": NEW},
            NEW,
            SIMPLE,
        ),
        (PLAIN, {"saved_entry": OLD, "prev_saved_entry": NEW}, SIMPLE, SIMPLE),
        (OURS, {"saved_entry": KNOWN_GOOD, "prev_saved_entry": OLD}, KNOWN_GOOD, OLD),
        (
            SAVED_DEFAULT.replace("${prev_saved_entry}", ""),
            {"saved_entry": OLD, "prev_saved_entry": SIMPLE},
            OLD,
            OLD,
        ),
    ],
)
def test_what_replaces_the_saved_default_at_the_next_boot_is_seen(
    text: str, environment: dict[str, str], then: str, afterwards: str
) -> None:
    menu = menu_of(text, **environment)
    assert resolved(next_entry(menu))[0] == then
    assert resolved(next_entry(replace(menu, once="")))[0] == afterwards


def test_a_default_that_is_replaced_at_the_next_boot_is_not_ours() -> None:
    menu = menu_of(OURS, saved_entry=KNOWN_GOOD, prev_saved_entry=OLD)
    assert against_default(menu) == "the boot loader's default is no longer the known-good"
    mended = with_saved_default({"saved_entry": KNOWN_GOOD, "prev_saved_entry": OLD}, KNOWN_GOOD)
    assert against_default(menu_of(OURS, **mended)) == ""


def test_a_name_that_starts_with_a_digit_is_not_guessed() -> None:
    assert isinstance(next_entry(menu_of(with_default("6.1-custom"))), Unknown)


def _entries(*names: str) -> str:
    return "".join(f"menuentry 'Title {n}' --id {n} {{\n linux /{n}\n}}\n" for n in names)


def _on_efi(text: str) -> str:
    return f'if [ "${{grub_platform}}" = efi ]; then\n{text}fi\n'


ONE_LINE = 'if [ $grub_platform = efi ]; then menuentry "Title e" --id e { linux /e; }; fi\n'
SPELLINGS = [
    _on_efi(_entries("e")),
    ONE_LINE,
    ONE_LINE.replace("$grub_platform", '"$grub_platform"').replace("then", "\nthen\n"),
    f"if [ $x ]; then\n true\nelse\n{_entries('e')}fi\n",
    f"if [ $x ]; then\n true\nelif [ $y ]; then\n{_entries('e')}fi\n",
    f"for n in $names; do\n{_entries('e')}done\n",
    "while [ $x ]; do menuentry 'Title e' --id e { linux /e; }; done\n",
    f"function late {{\n{_entries('e')}}}\n",
]


@pytest.mark.parametrize("perhaps", SPELLINGS)
@pytest.mark.parametrize(
    ("spec", "entry"),
    [
        ("0", "a"),
        ("1", None),
        ("2", None),
        ("3", "a"),
        ("a", "a"),
        ("e", None),
        ("Title e", None),
        ("b", "b"),
        ("Title b", "b"),
        ("nothing", "a"),
        ("", "a"),
    ],
)
def test_an_entry_that_the_boot_may_leave_out_is_not_counted_on(
    perhaps: str, spec: str, entry: str | None
) -> None:
    text = f"{_entries('a')}{perhaps}{_entries('b')}set default=$saved_entry\n"
    menu = menu_of(text, saved_entry=spec)
    assert [(known.entry, known.perhaps) for known in menu.entries] == [
        ("a", False),
        ("e", True),
        ("b", False),
    ]
    answer = next_entry(menu)
    if entry is not None:
        assert resolved(answer)[0] == entry
    else:
        assert isinstance(answer, Unknown)
        assert answer.why.endswith("whether the menu has «Title e» is decided by the boot")


@pytest.mark.parametrize("spec", ["", "0", "nothing", "9"])
def test_a_first_entry_that_may_be_left_out_is_nothing_to_fall_to(spec: str) -> None:
    menu = menu_of(_on_efi(_entries("e")) + _entries("b"), next_entry=spec)
    assert isinstance(next_entry(menu), Unknown)
    assert resolved(next_entry(replace(menu, once="b"))) == ("b", False)


def test_a_submenu_counts_its_own_entries() -> None:
    sub = f"submenu 'Sub' --id sub {{\n{_entries('a')}{_on_efi(_entries('e'))}{_entries('b')}}}\n"
    menu = menu_of(_entries("top") + sub + _on_efi(_entries("last")))
    assert resolved(next_entry(replace(menu, once="sub>0")))[0] == "sub>a"
    assert resolved(next_entry(replace(menu, once="1>b")))[0] == "sub>b"
    assert isinstance(next_entry(replace(menu, once="sub>2")), Unknown)
    whole = menu_of(_entries("top") + _on_efi(sub), next_entry="sub>a")
    assert isinstance(next_entry(whole), Unknown)


def test_what_stands_behind_a_condition_that_is_decided_is_counted_on() -> None:
    text = f'if [ "${{recordfail}}" = 1 ]; then\n{_entries("a")}else\n{_entries("b")}fi\n'
    assert resolved(next_entry(menu_of(text))) == ("b", False)
    assert resolved(next_entry(menu_of(text, recordfail="1"))) == ("a", False)
    three = text.replace("else", f"elif [ x ]; then\n{_entries('c')}else")
    assert resolved(next_entry(menu_of(three, recordfail="1"))) == ("a", False)
    assert [e.entry for e in menu_of(three, recordfail="1").entries] == ["a"]
    assert [(e.entry, e.perhaps) for e in menu_of(three).entries] == [("c", True), ("b", True)]


ASKED = 'if [ "${next_entry}" ]; then\n set default="${next_entry}"\nelse\n set default=1\nfi\n'


@pytest.mark.parametrize(
    "text", [ASKED, ASKED.replace('[ "', '[ -n "'), "set default=1\n", "default=1\n"]
)
def test_a_default_beside_the_one_shot_is_decided(text: str) -> None:
    assert menu_of(text + _entries("a", "b")).default_spec == "1"


@pytest.mark.parametrize(
    "text",
    [
        _on_efi("set default=1\n"),
        _on_efi("default=1\n"),
        "if [ $x ]; then set default=1; fi\n",
        f"if [ $x ]; then\n true\nelse\n{ASKED}fi\n",
        ASKED.replace("else", "elif [ $x ]; then"),
        ASKED.replace("else", "elif [ $x ]; then\n true\nelse"),
        "function f {\n set default=1\n}\n",
        "submenu 's' {\n set default=1\n}\n",
        "for n in $x; do set default=1; done\n",
    ],
)
def test_a_default_that_is_set_only_where_the_boot_says_so_is_unevaluable(text: str) -> None:
    menu = parse_menu(text + _entries("a", "b"), {})
    assert isinstance(menu, Unknown)
    assert "depends on the boot" in menu.why


@pytest.mark.parametrize("guard", ["then", "else", "do"])
def test_a_file_that_is_sourced_on_the_line_of_its_condition_is_seen(guard: str) -> None:
    menu = parse_menu(f"{_entries('a')}if [ -f /x ]; {guard} source /x.cfg; fi\n", {})
    assert isinstance(menu, Unknown)
    assert "another file" in menu.why


@pytest.mark.parametrize("spec", ["0", "1>2", SIMPLE, OLD, "nothing"])
def test_what_real_menus_add_at_their_end_does_no_harm(spec: str) -> None:
    firmware = (
        'if [ "$grub_platform" = "efi" ]; then\n\tfwsetup --is-supported\n'
        "\tif [ \"$?\" = 0 ]; then\n\t\tmenuentry 'UEFI Firmware Settings' "
        "$menuentry_id_option 'uefi-firmware' {\n\t\t\tfwsetup\n\t\t}\n\tfi\nfi\n"
    )
    plain = next_entry(menu_of(with_default(spec)))
    assert isinstance(plain, Resolved)
    assert next_entry(menu_of(with_default(spec) + firmware)) == plain
    armed = menu_of(OURS + firmware, saved_entry=KNOWN_GOOD)
    assert resolved(next_entry(armed)) == (KNOWN_GOOD, False)
    assert resolved(wanted_entry(armed)) == (SIMPLE, False)


def test_an_empty_menu_boots_nothing_we_know() -> None:
    assert isinstance(next_entry(menu_of("")), Unknown)
    assert isinstance(next_entry(menu_of("submenu 'a' --id a {\n}\n")), Unknown)


@pytest.mark.parametrize(
    ("host", "admin", "saved", "entry"),
    [
        ("0", "", KNOWN_GOOD, SIMPLE),
        ("1>2", "", KNOWN_GOOD, OLD),
        ("saved", OLD, KNOWN_GOOD, OLD),
        ("saved", OLD, NEW, NEW),
        ("saved", "", KNOWN_GOOD, SIMPLE),
        (OLD, SIMPLE, KNOWN_GOOD, OLD),
        (KNOWN_GOOD, "", KNOWN_GOOD, SIMPLE),
    ],
)
def test_what_the_host_wants_is_counted_without_us(
    host: str, admin: str, saved: str, entry: str
) -> None:
    text = OURS.replace("host_default='0'", f"host_default='{host}'")
    menu = menu_of(text, saved_entry=saved, trialboot_admin_saved=admin, next_entry=NEW)
    assert resolved(wanted_entry(menu))[0] == entry


def test_a_host_that_saves_its_default_itself_is_asked_itself() -> None:
    assert resolved(wanted_entry(menu_of(SAVED_DEFAULT, saved_entry=OLD))) == (OLD, False)
    assert resolved(wanted_entry(menu_of(with_default("1>2")))) == (OLD, False)


def test_our_entry_may_stand_anywhere() -> None:
    moved = "menuentry 'a' --id a {\n linux /a\n}\n" + OURS
    menu = menu_of(moved, saved_entry=KNOWN_GOOD)
    assert resolved(wanted_entry(menu))[0] == "a"


ARGUMENTS = "root=/dev/sda2 ro dyndbg=x quiet"
ONE = f"menuentry 'One' --id one {{\n linux /vmlinuz {ARGUMENTS}\n initrd /initrd\n}}\n"


@pytest.mark.parametrize("image", ["/vmlinuz", "(hd0,gpt2)/vmlinuz"])
def test_a_running_kernel_is_found_in_the_menu(image: str) -> None:
    assert entry_of(menu_of(ONE), f"BOOT_IMAGE={image} {ARGUMENTS}") == "one"


def test_a_quoted_argument_is_found_as_grub_hands_it_over() -> None:
    line = 'root=/dev/sda2 ro "dyndbg=file x.c +p" quiet panic=10'
    assert entry_of(menu_of(PLAIN), f"BOOT_IMAGE=/vmlinuz-6.1.0-56-amd64 {line}") == OLD


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"BOOT_IMAGE=/vmlinuz {ARGUMENTS} single", "with these arguments"),
        (ARGUMENTS, "BOOT_IMAGE= is not"),
        ("BOOT_IMAGE=/trialboot/bbbb/vmlinuz trialboot.boot=bbbb", "any more"),
    ],
)
def test_a_kernel_that_no_entry_boots_is_not_guessed(line: str, why: str) -> None:
    answer = entry_of(menu_of(ONE), line)
    assert isinstance(answer, Unknown)
    assert why in answer.why


def test_our_own_boot_is_known_by_its_word() -> None:
    line = "BOOT_IMAGE=/trialboot/aaaa/vmlinuz quiet trialboot.boot=aaaa"
    assert entry_of(menu_of(OURS), line) == KNOWN_GOOD


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("set default=2\n", "depends on the boot"),
        ('set default="${somewhere}"\n', "depends on the boot"),
        ("if [ $a = b ]; then set default=3; fi\n", "depends on the boot"),
        ("default=3\n", "depends on the boot"),
        ("source /boot/grub/other.cfg\n", "another file"),
        ("blscfg\n", "another file"),
    ],
)
def test_what_is_decided_at_boot_is_unevaluable(more: str, why: str) -> None:
    answer = parse_menu(PLAIN + more, {})
    assert isinstance(answer, Unknown)
    assert answer.why.startswith("unevaluable")
    assert why in answer.why


@pytest.mark.parametrize(
    "harmless",
    [
        "if [ \"x$default\" = 'a' ]; then default='b>a'; fi;\n",
        "function f {\n set x=1\n}\n",
        "}\n",
        "{\n}\n",
        "# set default=4\n",
        "menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n fwsetup\n}\n",
    ],
)
def test_what_does_not_change_the_default_is_no_trouble(harmless: str) -> None:
    assert resolved(next_entry(menu_of(PLAIN + harmless))) == (SIMPLE, False)


@pytest.mark.parametrize(
    ("body", "doubt"),
    [
        ("linux /a ro\nlinux /a ro panic=-1\n", "more than one kernel"),
        ("linux /a ro\ninitrd /b\ninitrd /c\n", "more than one initrd"),
        ("linux ${kernel} ro\n", "variable"),
    ],
)
def test_an_entry_that_decides_at_boot_is_in_doubt(body: str, doubt: str) -> None:
    menu = menu_of(f"menuentry 'a' {{\n{body}}}\n")
    assert doubt in menu.entries[0].doubt
    answer = next_entry(menu)
    assert isinstance(answer, Unknown)
    assert doubt in answer.why


def test_of_two_entries_with_one_id_grub_takes_the_first() -> None:
    """A stock entry that was copied with its id, and is the host's default by its title."""
    copied = f"menuentry 'Tuned' $menuentry_id_option '{SIMPLE}' {{\n linux /a ro isolcpus=2\n}}\n"
    menu = menu_of(with_default("Tuned") + copied)
    answer = next_entry(menu)
    assert isinstance(answer, Unknown)
    assert "has the same id" in answer.why
    ran = entry_of(menu, "BOOT_IMAGE=/a ro isolcpus=2")
    assert isinstance(ran, Unknown)
    assert "«Tuned»: an entry before it has the same id" in ran.why
    assert resolved(next_entry(menu_of(PLAIN + copied))) == (SIMPLE, False)


@pytest.mark.parametrize(
    ("line", "known"),
    [(r"by\x2dlabel x=\\y", True), (r"by\\x2dlabel x=\\y", True), (r"by\x2dlabel x=\y", False)],
)
def test_a_boot_is_known_by_either_way_in_which_grub_hands_a_hex_escape_over(
    line: str, *, known: bool
) -> None:
    menu = menu_of("menuentry 'a' {\n linux /a ro by\\\\x2dlabel x=\\\\y\n}\n")
    assert (entry_of(menu, f"BOOT_IMAGE=/a ro {line}") == "a") == known


def test_what_lies_below_a_submenu_with_the_id_of_another_is_out_of_reach() -> None:
    sub = "submenu 's' --id s {{\n menuentry '{0}' --id {0} {{\n linux /{0} ro\n }}\n}}\n"
    menu = menu_of(sub.format("a") + sub.format("b"))
    assert [(e.entry, bool(e.doubt)) for e in menu.entries] == [("s>a", False), ("s>b", True)]


@pytest.mark.parametrize(
    ("setting", "body", "environment", "doubted"),
    [
        ("set tuned_params='isolcpus=2-7 nohz=on'\n", "linux /a ro $tuned_params\n", {}, True),
        ("set tuned_params=\nexport tuned_params\n", "linux /a ro $tuned_params\n", {}, False),
        ("", "set more=quiet\nlinux /a ro ${more}\n", {}, True),
        ("", "linux /a ro $kernelopts\n", {"kernelopts": "quiet"}, True),
        ("", "linux /a ro $kernelopts\n", {"kernelopts": ""}, False),
        ("", "linux /a ro $nobody_sets_it\n", {}, False),
        ("set vt_handoff=vt.handoff=7\n", "linux /a ro $vt_handoff\n", {}, False),
    ],
)
def test_an_argument_that_is_a_variable_with_a_value_is_in_doubt(
    setting: str, body: str, environment: dict[str, str], *, doubted: bool
) -> None:
    """As tuned writes them: what they hold changes without a change of the entry."""
    menu = menu_of(f"{setting}menuentry 'a' {{\n{body}}}\n", **environment)
    assert ("among its arguments is not known" in menu.entries[0].doubt) == doubted


def test_titles_and_ids_come_in_all_spellings() -> None:
    text = (
        "menuentry 'It'\\''s > one' --users root --hotkey=x --id=it {\n linux /a $gone b$gone\n}\n"
        'menuentry "With \\"quotes\\" $x" {\n if [ a ]; then initrd /b; fi\n linux\n}\n'
        "submenu Sub {\n menuentry 'a>b' --unrestricted {\n }\n}\n"
    )
    menu = menu_of(text)
    assert [(entry.entry, entry.title) for entry in menu.entries] == [
        ("it", "It's > one"),
        ('With "quotes" ${x}', 'With "quotes" ${x}'),
        ("Sub>a>>b", "a>b"),
    ]
    assert menu.entries[0].arguments == "b"
    assert menu.entries[1].initrds == ("/b",)
    assert resolved(next_entry(menu_of(text + "set default='Sub>a>>b'\n")))[0] == "Sub>a>>b"


def test_the_known_good_without_its_word_has_no_fingerprint() -> None:
    assert menu_of(f"menuentry 'a' --id {KNOWN_GOOD} {{\n linux /a\n}}\n").known_good == ""


MACHINE = "6a9857a393724b7a981ebb5b8495b9ea"
BLS_OLD, BLS_NEW = f"{MACHINE}-6.11.0-63.fc42.x86_64", f"{MACHINE}-6.12.1-1.fc42.x86_64"
BLS_FILES = [
    EntryFile(name=f"{name}.conf", text=f"title {name}\nlinux /{name}\noptions $kernelopts\n")
    for name in (BLS_OLD, BLS_NEW, f"{MACHINE}-0-rescue")
]
BLS = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="${saved_entry}"
fi
if [ -f ${prefix}/user.cfg ]; then
  source ${prefix}/user.cfg
fi
insmod increment
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if  [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
  else
    decrement boot_counter
  fi
fi
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=UUID=a ro"
fi
insmod blscfg
blscfg
menuentry 'Windows' --id win {
 chainloader /win
}
"""


def bls_menu(text: str = BLS, **environment: str) -> Menu | Unknown:
    return parse_menu(text, environment, BLS_FILES)


@pytest.mark.parametrize(
    ("environment", "entry", "fell_back"),
    [
        ({}, BLS_NEW, True),
        ({"saved_entry": BLS_OLD}, BLS_OLD, False),
        ({"saved_entry": "1"}, BLS_OLD, False),
        ({"saved_entry": BLS_NEW, "next_entry": BLS_OLD}, BLS_OLD, False),
        ({"saved_entry": f"{MACHINE}-gone"}, BLS_NEW, True),
        ({"saved_entry": "9"}, BLS_NEW, True),
        ({"saved_entry": "win"}, "win", False),
        ({"saved_entry": "3"}, "win", False),
        ({"saved_entry": "9" * 5000}, BLS_NEW, True),
    ],
)
def test_the_boot_entries_stand_where_blscfg_is_and_names_go_before_numbers(
    environment: dict[str, str],
    entry: str,
    fell_back: bool,  # noqa: FBT001  a column of the table
) -> None:
    menu = bls_menu(**environment)
    assert isinstance(menu, Menu)
    assert menu.loader == GRUB_BLS
    assert [e.place for e in menu.entries] == [(0,), (1,), (2,), (3,)]
    assert resolved(next_entry(menu)) == (entry, fell_back)


def test_kernelopts_come_from_the_environment_else_from_the_menu() -> None:
    for environment, line in (({}, "root=UUID=a ro"), ({"kernelopts": "root=b"}, "root=b")):
        menu = bls_menu(**environment)
        assert isinstance(menu, Menu)
        assert (menu.entries[0].arguments, menu.entries[0].doubt) == (line, "")
        assert entry_of(menu, f"BOOT_IMAGE=(hd0,gpt2)/{BLS_OLD} {line}") == BLS_OLD


def test_a_value_that_the_boot_decides_is_in_doubt() -> None:
    text = "if [ $x = y ]; then\n set kernelopts=a\nelse\n set kernelopts=b\nfi\n" + BLS
    menu = bls_menu(text)
    assert isinstance(menu, Menu)
    assert "depends on the boot" in menu.entries[0].doubt


def test_what_follows_a_condition_that_does_not_hold_is_read() -> None:
    text = BLS.replace(
        "  set kernelopts=", "  set a=b\nelif [ c ]; then\n  set d=e\nelse\n set f="
    )
    menu = bls_menu(text, kernelopts="g")
    assert isinstance(menu, Menu)
    assert menu.entries[0].arguments == "g"


def test_boot_entries_may_stand_in_a_submenu_and_are_taken_once() -> None:
    text = "submenu 'All' --id all {\n blscfg\n}\nblscfg\nset default='all>1'\n"
    menu = bls_menu(text, kernelopts="a")
    assert isinstance(menu, Menu)
    assert [e.place for e in menu.entries] == [(0, 0), (0, 1), (0, 2)]
    assert resolved(next_entry(menu)) == (f"all>{BLS_OLD}", False)


@pytest.mark.parametrize(
    ("text", "environment", "why"),
    [
        (BLS, {"boot_counter": "1"}, "depends on the boot"),
        (BLS, {"env_block": "(hd0)512+1"}, "second block"),
        (BLS, {"blsdir": "/root/loader"}, "not known"),
        (BLS.replace("\nblscfg\n", "\nblscfg default\n"), {}, "not known: «blscfg default»"),
        (BLS.replace("\nblscfg\n", "\nif [ a ]; then\nblscfg\nfi\n"), {}, "not known"),
        (BLS + "source /other.cfg\n", {}, "another file"),
    ],
)
def test_a_menu_of_boot_entries_that_the_boot_decides_is_unevaluable(
    text: str, environment: dict[str, str], why: str
) -> None:
    menu = bls_menu(text, **environment)
    assert isinstance(menu, Unknown)
    assert why in menu.why


def test_a_menu_says_whether_it_needs_boot_entries() -> None:
    assert names_boot_entries(BLS)
    assert not names_boot_entries(PLAIN)
    assert not names_boot_entries("# no blscfg here\n")
    assert menu_of(PLAIN).loader == GRUB


def test_an_entry_without_a_name_breaks_nothing() -> None:
    assert resolved(next_entry(menu_of("menuentry {\n}\nset default=a\n"))) == ("", True)


NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=12)
VALUES = st.text(string.printable + "é#\\\n", max_size=30).map(lambda v: v.replace("\r", ""))


@given(st.dictionaries(NAMES, VALUES, max_size=8))
@example({"saved_entry": "a\\b\nc"})
def test_an_environment_block_comes_back_as_written(values: dict[str, str]) -> None:
    content = format_environment(values)
    assert len(content) == 1024
    assert parse_environment(content) == values


@given(st.binary(max_size=2048))
def test_garbage_never_breaks_the_environment(content: bytes) -> None:
    assert isinstance(parse_environment(content), Unknown | dict)


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b"saved_entry=a\n"])
def test_what_grub_would_not_read_is_unknown(content: bytes) -> None:
    assert isinstance(parse_environment(content), Unknown)


def test_comments_and_odd_lines_are_skipped() -> None:
    content = b"# GRUB Environment Block\n# WARNING: a=b\nodd\nc=d\n####"
    assert parse_environment(content) == {"c": "d"}


def test_a_full_environment_block_is_an_error() -> None:
    with pytest.raises(LoaderError, match="full"):
        format_environment({"a": "b" * 1024})


WORDS = st.lists(
    st.text(string.ascii_letters + " $;{}&|<>#*?'=,.-%\"\\x2d", min_size=1), min_size=1
).map(tuple)


@given(WORDS)
@example(("$vt", "a;b", "{x}", "#c"))
@example(("it's here", "a  b", 'x={"a": 1}', "a\\b c", "x2d", "\\x2d", "\\\\x2d", "\\x2"))
def test_what_grub_hands_over_can_be_written_for_it(words: tuple[str, ...]) -> None:
    """The words of a generated menu, however they are quoted there."""
    line = loaded(words)
    script = as_script(line)
    if "${" in line and isinstance(script, Unknown):
        return  # a variable's name to us, letters to GRUB
    assert isinstance(script, str)
    (command,) = commands_of(f"linux /k {script}")
    assert loaded(command[2:]) == line


@pytest.mark.parametrize("line", ['odd="quote', 'mid"d l"e', "back\\slash", "two  blanks", "a\n"])
def test_what_grub_cannot_hand_over_is_not_written(line: str) -> None:
    assert isinstance(as_script(line), Unknown)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (r'"dyndbg=file x.c +p $y" plain', '"dyndbg=file x.c +p " plain'),
        (
            r"""it\'s 'a b\c' "d\"e" \\x2d '\x2D' \\xg1 z\xyz""",
            r"""it\'s "a b\\c" d\"e \\x2d \\x2D \\xg1 zxyz""",
        ),
        ("one \\\n two th\\\nree 'bo\\\nth' \"fi\\\nve\"", "one two three bo\\\\\nth five"),
    ],
)
def test_words_are_cut_and_handed_over_as_grub_does(script: str, line: str) -> None:
    (command,) = commands_of(f"linux /k {script}")
    assert loaded(command[2:]) == line


@given(st.text(max_size=200))
def test_any_text_is_a_menu_or_unknown(text: str) -> None:
    assert isinstance(parse_menu(text, {}), Unknown | Menu)
    assert isinstance(parse_menu(f"{BLS}{text}", {}, BLS_FILES), Unknown | Menu)


@given(st.data())
def test_every_listed_entry_can_be_named(data: st.DataObject) -> None:
    titles = st.lists(st.text(string.ascii_letters + " >'", min_size=1), min_size=1, unique=True)
    names = [name for name in data.draw(titles) if name.strip(" >'")]
    body = "".join(
        f"menuentry {shlex.quote(name)} --id {shlex.quote(f'id-{n}')} {{\n linux /k{n}\n}}\n"
        for n, name in enumerate(names)
    )
    if not names:
        return
    chosen = data.draw(st.integers(0, len(names) - 1))
    menu = menu_of(body + 'set default="${saved_entry}"\n', saved_entry=f"id-{chosen}")
    assert resolved(next_entry(menu)) == (f"id-{chosen}", False)


@given(
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.one_of(st.integers(0, 6), st.integers(0, 5).map(lambda n: f"id-{n}"), st.just("")),
)
def test_what_is_resolved_is_so_whatever_the_boot_decides(
    perhaps: list[bool], spec: int | str
) -> None:
    nodes = [(_entries(f"id-{n}"), unsure) for n, unsure in enumerate(perhaps)]
    text = "".join(_on_efi(node) if unsure else node for node, unsure in nodes)
    answer = next_entry(menu_of(text, next_entry=str(spec)))
    if not any(perhaps):
        assert isinstance(answer, Resolved)
    if isinstance(answer, Unknown):
        return
    for there in product(*((True, False) if unsure else (True,) for unsure in perhaps)):
        real = "".join(node for (node, _), kept in zip(nodes, there, strict=True) if kept)
        assert resolved(next_entry(menu_of(real, next_entry=str(spec))))[0] == answer.entry.entry


def test_an_archive_is_always_the_same_bytes() -> None:
    files = {"a/b": (0o755, b"xyz"), "a/c/d": (0o644, b"")}
    packed = archive(files)
    assert packed == archive(dict(reversed(files.items())))
    assert len(packed) % 4 == 0
    assert packed.count(b"070701") == 5


def test_a_menu_is_a_value() -> None:
    entry = MenuEntry(entry=EntryId("a"), title="a", place=(0,))
    assert Menu(entries=(entry,), default_spec="0") == Menu(entries=(entry,), default_spec="0")
