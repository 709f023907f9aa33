"""What GRUB's menu waits for: passwords, and menus without a timeout."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import Script, parse_menu
from trialboot.core.menu import BOOT_NEXT, KNOWN_GOOD, Carrier, Menu, Resolved, next_entry
from trialboot.core.obstacles import obstacles

TIMED = "set timeout=5\n"
ENTRIES = """
menuentry 'trialboot: known-good' --unrestricted $menuentry_id_option 'trialboot-known-good' {
  linux /k
}
menuentry 'open' --class os --unrestricted --id open {
  linux /k
}
menuentry 'closed' --users alice --id closed {
  linux /k
}
menuentry 'odd' --unrestricted --id odd {
  chainloader +1
}
submenu 'more' --id more {
  menuentry 'inner' --unrestricted --id inner {
    linux /k
  }
}
submenu 'all' --unrestricted --id all {
  menuentry 'inner' --unrestricted --id inner {
    linux /k
  }
}
"""
LOCKED = "set superusers='root'\npassword_pbkdf2 root grub.pbkdf2.sha512.1.2.3\n"
# Ubuntu's 00_header.
RECORDFAIL = """
if [ "${recordfail}" = 1 ] ; then
  set timeout=%s
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=hidden
    set timeout=0
  else
    set timeout=0
  fi
fi
function recordfail {
  set recordfail=1
  if [ -n "${have_grubenv}" ]; then if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi
}
"""
# Fedora's and RHEL's 01_users.
USERS = """
if [ -f ${prefix}/user.cfg ]; then
  source ${prefix}/user.cfg
  if [ -n "${GRUB2_PASSWORD}" ]; then
    set superusers="root"
    export superusers
    password_pbkdf2 root ${GRUB2_PASSWORD}
  fi
fi
"""


def against(text: str, entry: str, **environment: str) -> tuple[str, ...]:
    menu = parse_menu(text, environment)
    assert isinstance(menu, Menu), menu
    return obstacles(menu, EntryId(entry))


@pytest.mark.parametrize("entry", [KNOWN_GOOD, "open", "closed", "more>inner", "all>inner"])
def test_without_superusers_nothing_asks(entry: str) -> None:
    assert against(TIMED + ENTRIES, entry) == ()


@pytest.mark.parametrize("entry", [KNOWN_GOOD, "open", "all>inner"])
def test_an_unrestricted_entry_starts_in_a_menu_with_a_password(entry: str) -> None:
    assert against(TIMED + LOCKED + ENTRIES, entry) == ()


@pytest.mark.parametrize(("entry", "title"), [("closed", "closed"), ("more>inner", "more")])
def test_an_entry_that_asks_for_a_password_is_told(entry: str, title: str) -> None:
    (why,) = against(TIMED + LOCKED + ENTRIES, entry)
    assert f"password before it starts «{title}»" in why


def test_what_is_no_entry_or_no_linux_is_told() -> None:
    assert against(TIMED + ENTRIES, "gone") == ("the boot menu has no entry «gone»",)
    assert against(TIMED + ENTRIES, "odd") == ("«odd»: it starts no Linux kernel",)


@pytest.mark.parametrize(
    ("timeout", "why"),
    [
        ("", "sets no timeout"),
        ("set timeout=-1\n", "timeout=-1: the menu waits"),
        ("if [ x$grub_platform = xefi ]; then\n set timeout=-1\nfi\n" + TIMED, ""),
        (TIMED + "if [ x$grub_platform = xefi ]; then\n set timeout=-1\nfi\n", "timeout=-1"),
        ("set timeout=${later}\n", "not known: timeout=${later}"),
        ("set timeout=soon\n", "not known: timeout=soon"),
        ("timeout=0\n", ""),
    ],
)
def test_a_menu_that_waits_for_a_key_is_told(timeout: str, why: str) -> None:
    found = against(timeout + ENTRIES, "open")
    assert why in "".join(found)
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("seconds", "failed", "waits"),
    [("30", "1", False), ("30", "", False), ("-1", "1", True), ("-1", "", False)],
)
def test_recordfail_counts_only_after_a_boot_that_failed(
    seconds: str,
    failed: str,
    waits: bool,  # noqa: FBT001  a row of the table
) -> None:
    for entry in ("open", KNOWN_GOOD):
        found = against(RECORDFAIL % seconds + ENTRIES, entry, recordfail=failed)
        assert bool(found) is waits


def test_a_password_of_rhel_counts_where_user_cfg_has_one() -> None:
    assert against(TIMED + USERS + ENTRIES, "closed") == ()
    user_cfg = "GRUB2_PASSWORD=grub.pbkdf2.sha512.1.2.3\n"
    assert len(against(TIMED + USERS + ENTRIES + user_cfg, "closed")) == 1


def test_what_is_not_understood_is_told_with_file_and_line() -> None:
    scripts = [
        Script("/boot/grub/grub.cfg", "set a=b\n\nmenuentry 'x' {\n linux /k\n}\n"),
        Script("custom.cfg beside it", "echo 'two\nlines'\nsource /a.cfg\nconfigfile /x\n"),
    ]
    found = parse_menu(scripts, {})
    assert not isinstance(found, Menu)
    assert found.why.startswith("unevaluable custom.cfg beside it, line 3: it goes on in another")


@pytest.mark.parametrize("value", ["boot-next:/boot/efi", "own-block:/boot/plain"])
def test_what_carries_the_one_shots_is_read(value: str) -> None:
    menu = parse_menu(f"set trialboot_carrier='{value}'\n", {})
    assert isinstance(menu, Menu)
    kind, folder = value.split(":")
    assert menu.carrier == Carrier(kind, folder)
    assert (menu.carrier.kind == BOOT_NEXT) == value.startswith("boot")


@pytest.mark.parametrize("value", ["", "boot-next:", "boot-next:efi", "tape:/dev/st0"])
def test_a_carrier_that_is_not_known_is_not_understood(value: str) -> None:
    found = parse_menu(f"set trialboot_carrier='{value}'\n", {})
    assert not isinstance(found, Menu)
    assert "grub.cfg, line 1: what carries its one-shots" in found.why


OURS = (Path(__file__).parents[1] / "loaders/debian12-grub-known-good.cfg").read_text()
FRAGMENTS = (
    *OURS.splitlines(),
    *USERS.splitlines(),
    *(RECORDFAIL % "-1").splitlines(),
    *("else", "elif [ -s x ]; then", "fi", "}", "{", "if true; then set default=1; fi"),
    *("set default=2", "set default=${x}", "default='a>b'", "set timeout=", "set superusers="),
    *("source $prefix/x", ". /y", "configfile z", "blscfg", "menuentry", "submenu 'x'", "linux"),
    *("menuentry 'a' { linux /a ; initrd /b }", "set trialboot_carrier='boot-next:/e'", "'", '"'),
    *("function f {", "while [ -s x ]; do", "done", "load_env --file x y", "\\", "$", "# '"),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=40),
    st.dictionaries(st.sampled_from(["next_entry", "saved_entry", "recordfail"]), st.text()),
)
def test_any_hand_made_menu_is_understood_or_told_with_its_line(
    lines: list[str], environment: dict[str, str]
) -> None:
    menu = parse_menu([Script("/boot/grub/grub.cfg", "\n".join(lines))], environment)
    if isinstance(menu, Unknown):
        assert re.match(r"unevaluable /boot/grub/grub\.cfg, line [1-9]\d*: .", menu.why)
        return
    assert isinstance(next_entry(menu), Resolved | Unknown)
    for entry in menu.entries:
        assert all(obstacles(menu, entry.entry))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_menu_that_lost_lines_never_hides_what_waits(data: st.DataObject) -> None:
    lines = (LOCKED + OURS).splitlines()
    lost = data.draw(st.sets(st.integers(3, len(lines) - 1), max_size=6))
    menu = parse_menu("\n".join(line for n, line in enumerate(lines) if n not in lost), {})
    if isinstance(menu, Menu):
        closed = [entry for entry in menu.entries if not entry.unrestricted]
        assert all(obstacles(menu, entry.entry) for entry in closed)
