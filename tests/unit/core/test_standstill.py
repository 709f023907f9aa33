"""A trial that stands still is left only where nothing speaks against it."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.samples import boot_set
from trialboot.core.facts import BootId, EntryId, Kernel, Unknown
from trialboot.core.menu import KNOWN_GOOD, SYSTEMD_BOOT, Menu, MenuEntry
from trialboot.core.standstill import Standstill, why_stay
from trialboot.core.trial import Choice, Phase, Trial

GOOD, NEW = boot_set("old"), boot_set("new")
OWN = MenuEntry(
    entry=KNOWN_GOOD,
    title="known-good",
    place=(0,),
    arguments=f"ro trialboot.boot={GOOD.fingerprint}",
)
OTHER = MenuEntry(entry=EntryId("new"), title="new", place=(1,), kernel="/vmlinuz", arguments="ro")
OLD = MenuEntry(entry=EntryId("old"), title="old", place=(2,), kernel="/old", arguments="ro")
MENU = Menu(entries=(OWN, OTHER, OLD), default_spec="saved", saved=KNOWN_GOOD)
KERNEL = Kernel(
    release="6.1-new", version="", command_line="BOOT_IMAGE=/vmlinuz ro", boot=BootId("b")
)
TRIAL = Trial(
    phase=Phase.ARMED,
    known_good=GOOD,
    pinned=True,
    candidate=Choice(entry=EntryId("new"), boot_set=NEW),
)
NOW = Standstill(
    armed=True,
    trial=TRIAL,
    kernel=KERNEL,
    menu=MENU,
    boot_next="",
    judged_here=False,
    came_up=False,
    by_kexec=False,
    password_asked=False,
)
NOT_KNOWN = "what runs is not known to be the candidate"


def with_line(words: str) -> Kernel:
    return replace(KERNEL, command_line=f"BOOT_IMAGE=/vmlinuz {words}")


@pytest.mark.parametrize("phase", [Phase.ARMED, Phase.TRIAL])
def test_a_trial_that_stands_still_is_left(phase: Phase) -> None:
    assert why_stay(replace(NOW, trial=replace(TRIAL, phase=phase))) == ""


def test_what_the_host_always_has_on_its_command_line_asks_for_nothing() -> None:
    good = replace(GOOD, command_line="ro systemd.unit=node.target")
    own = replace(OWN, arguments=f"ro trialboot.boot={good.fingerprint}")
    now = replace(
        NOW,
        trial=replace(TRIAL, known_good=good),
        kernel=with_line("ro systemd.unit=node.target"),
        menu=replace(MENU, entries=(own, replace(OTHER, arguments="ro systemd.unit=node.target"))),
    )
    assert why_stay(now) == ""
    assert "asks for it" in why_stay(replace(now, trial=TRIAL))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"armed": False}, "trialboot is not armed"),
        ({"armed": Unknown("unknown key: mod")}, "unknown key: mod"),
        ({"trial": None}, "there is no record: is /var a file system that is not mounted?"),
        ({"trial": Unknown("not JSON")}, "the record cannot be read: not JSON"),
        ({"trial": replace(TRIAL, report_only="set aside")}, "set aside"),
        ({"trial": replace(TRIAL, candidate=None)}, "no trial is on"),
        ({"trial": replace(TRIAL, pinned=False)}, "no trial is on"),
        ({"kernel": Unknown("/proc/version: gone")}, "/proc/version: gone"),
        ({"kernel": with_line("ro trialboot.boot=0123")}, "the known-good runs"),
        (
            {"by_kexec": True},
            "this boot was started by kexec: it is no trial",
        ),
        ({"by_kexec": Unknown("trial.env: EIO")}, "trial.env: EIO"),
        ({"kernel": with_line("ro single")}, "«single» on the command line asks for it"),
        ({"kernel": with_line("ro emergency")}, "«emergency» on the command line asks for it"),
        (
            {"kernel": with_line("systemd.unit=rescue.target ro")},
            "«systemd.unit=rescue.target» on the command line asks for it",
        ),
        (
            {"kernel": replace(KERNEL, release="6.1-old", command_line="BOOT_IMAGE=/old ro")},
            "«old» runs, which is not on trial",
        ),
        (
            {"kernel": with_line("ro nomodeset")},
            f"{NOT_KNOWN}: no entry of the menu boots /vmlinuz with these arguments",
        ),
        ({"judged_here": True}, "trialbootd runs: it judges this boot"),
        ({"came_up": True}, "this boot had come up: somebody asked for this mode"),
        ({"came_up": Unknown("systemctl: gone")}, "systemctl: gone"),
        ({"password_asked": True}, "a password is asked for: the boot waits for a human"),
        ({"menu": Unknown("/boot is empty")}, "the boot loader cannot be read: /boot is empty"),
        ({"menu": replace(MENU, once="new")}, "«new» is to be booted once more"),
        ({"boot_next": "Boot0003 «x»"}, "«Boot0003 «x»» is to be booted once more"),
        ({"boot_next": Unknown("EFI variables: EIO")}, "EFI variables: EIO"),
        (
            {"menu": replace(MENU, saved="new")},
            "the boot loader's default, «new», is not the known-good",
        ),
        (
            {"trial": replace(TRIAL, known_good=None)},
            "the boot loader's default, «trialboot-known-good», is not the known-good",
        ),
        (
            {"menu": replace(MENU, entries=(replace(OWN, doubt="no kernel"),))},
            "saved default «trialboot-known-good» leads to «trialboot-known-good»: no kernel",
        ),
    ],
)
def test_each_doubt_is_a_reason_to_stay(change: dict[str, Any], why: str) -> None:
    assert why_stay(replace(NOW, **change)) == why


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.ARMED, Phase.TRIAL}))
def test_no_other_phase_is_left(phase: Phase) -> None:
    assert why_stay(replace(NOW, trial=replace(TRIAL, phase=phase))) == "no trial is on"


def test_what_kexec_started_for_us_has_a_word_more() -> None:
    assert why_stay(replace(NOW, kernel=with_line("ro trialboot.kexec=0123"))) == ""


def test_of_equal_entries_the_candidates_need_not_be_the_first() -> None:
    simple = replace(OTHER, entry=EntryId("simple"), place=(3,))
    assert why_stay(replace(NOW, menu=replace(MENU, entries=(OWN, simple, OTHER)))) == ""


def test_the_candidate_is_left_also_where_the_menu_has_its_entry_no_more() -> None:
    menu = replace(MENU, entries=(OWN, replace(OTHER, arguments="ro quiet"), OLD))
    assert why_stay(replace(NOW, menu=menu)) == ""
    others = replace(KERNEL, release="6.1-other")
    assert NOT_KNOWN in why_stay(replace(NOW, menu=menu, kernel=others))


def test_what_the_candidate_has_replaced_was_armed_too() -> None:
    """The power went before the new one-shot was set, and the boot took the old one."""
    before = Choice(entry=EntryId("old"), boot_set=boot_set("before"))
    ran = replace(KERNEL, command_line="BOOT_IMAGE=/old ro")
    assert why_stay(replace(NOW, trial=replace(TRIAL, replaced=before), kernel=ran)) == ""


def test_a_candidate_whose_entry_was_given_to_a_newer_kernel_is_left() -> None:
    """As «gnulinux-simple» is by a package run early in the candidate's own boot."""
    taken = replace(OTHER, kernel="/vmlinuz-newer")
    menu = replace(MENU, entries=(OWN, taken, replace(OTHER, entry=EntryId("advanced>new"))))
    assert why_stay(replace(NOW, menu=menu)) == ""


def test_systemd_boot_says_which_of_equal_entries_it_took() -> None:
    """There all kernels have the same command line."""
    menu = replace(MENU, loader=SYSTEMD_BOOT, default_spec=KNOWN_GOOD)
    kernel = replace(KERNEL, command_line="initrd=\\initrd ro")
    taken = replace(NOW, kernel=kernel, menu=replace(menu, booted="new"))
    assert why_stay(taken) == ""
    other = replace(taken, menu=replace(menu, booted="old"))
    assert why_stay(other) == "«old» runs, which is not on trial"
    untold = replace(taken, menu=menu)
    assert why_stay(untold) == ""
    old = replace(kernel, release="6.1-old")
    assert "more than one entry" in why_stay(replace(untold, kernel=old))
