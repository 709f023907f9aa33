"""May this host be rebooted now? Every reason against it, and none that is made up."""

from dataclasses import replace

import pytest

from tests.unit.core.samples import boot_set
from trialboot.core.change import Area, Change, Risk
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Level, Protection
from trialboot.core.reboot import against_reboot
from trialboot.core.trial import Choice, Phase, Refused, Trial

NEW = Choice(entry=EntryId("new"), boot_set=boot_set("new"))
LACKING = replace(NEW, objections=("ice is missing",))
REFUSED = Refused(
    fingerprint=NEW.boot_set.fingerprint, release="6.1-new", objections=("ice is missing",), at=""
)
OUTLOOK = Outlook(
    taken_at="",
    boot=BootId("b"),
    running=NEW,
    wanted=NEW,
    next_entry=EntryId("new"),
    once_pending=False,
    changes=(),
    sentence="",
    protection=Protection(level=Level.FULL),
)
ELSEWHERE = Change(
    area=Area.LOADER,
    subject="kexec",
    before="",
    after="a kernel is staged",
    risk=Risk.DANGER,
    why="it may start",
)


def reasons(
    trial: Trial | None = None,
    outlook: Outlook | None = OUTLOOK,
    *,
    package_run: str = "",
    unfinished: bool = False,
    stale: bool = False,
) -> tuple[str, ...]:
    return against_reboot(
        trial or Trial(), outlook, package_run=package_run, unfinished=unfinished, stale=stale
    )


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.ARMED, Phase.RECOVERED])
def test_at_rest_and_armed_nothing_speaks_against_it(phase: Phase) -> None:
    assert reasons(Trial(phase=phase)) == ()


@pytest.mark.parametrize(
    ("phase", "word"),
    [(Phase.TRIAL, "on trial"), (Phase.CONDEMNED, "failed"), (Phase.STRANDED, "human")],
)
def test_a_trial_is_not_cut_short(phase: Phase, word: str) -> None:
    (why,) = reasons(Trial(phase=phase))
    assert word in why


def test_what_is_under_way_is_waited_for() -> None:
    assert reasons(package_run="apt", unfinished=True) == (
        "a package run is under way (apt)",
        "the boot loader is not set as decided yet",
    )


def test_what_changed_since_the_last_look_speaks_against_it() -> None:
    (why,) = reasons(stale=True)
    assert "not looked at yet" in why
    assert reasons(stale=True, package_run="apt") == ("a package run is under way (apt)",)


def test_not_knowing_speaks_against_it() -> None:
    assert reasons(outlook=None) == ("what the next boot loads was not looked at yet",)
    blind = replace(OUTLOOK, wanted=Unknown("no grub.cfg"), changes=Unknown("no grub.cfg"))
    assert reasons(outlook=blind) == ("what the next boot loads is not known: no grub.cfg",)


def test_a_failed_pre_check_speaks_against_it_until_the_operator_allows_it() -> None:
    lacking = replace(OUTLOOK, wanted=LACKING)
    for trial in (Trial(), Trial(pinned=True), Trial(refused=REFUSED)):
        assert reasons(trial, lacking) == ("ice is missing",)
    assert reasons(Trial(allowed=(NEW.boot_set.fingerprint,)), lacking) == ()


def test_what_this_host_cannot_try_speaks_against_it_whatever_is_allowed() -> None:
    hindered = replace(OUTLOOK, wanted=replace(LACKING, obstacles=("no one-shot reaches it",)))
    pinned = Trial(pinned=True)
    assert reasons(pinned, hindered) == ("no one-shot reaches it", "ice is missing")
    allowed = Trial(pinned=True, allowed=(NEW.boot_set.fingerprint,))
    assert reasons(allowed, hindered) == ("no one-shot reaches it",)


def test_where_nothing_is_tried_nothing_hinders_a_trial() -> None:
    hindered = replace(OUTLOOK, wanted=replace(NEW, obstacles=("no one-shot reaches it",)))
    assert reasons(outlook=hindered) == ()


def test_a_damaged_known_good_speaks_against_it() -> None:
    damaged = replace(OUTLOOK, damage=("/lib/modules/6.1 is gone",))
    assert reasons(outlook=damaged) == ("the known-good is not whole: /lib/modules/6.1 is gone",)


def test_another_loader_first_speaks_against_it() -> None:
    rows = (ELSEWHERE, replace(ELSEWHERE, risk=Risk.NOTICE), replace(ELSEWHERE, area=Area.KERNEL))
    assert reasons(outlook=replace(OUTLOOK, changes=rows)) == (
        "kexec: a kernel is staged: it may start",
    )
