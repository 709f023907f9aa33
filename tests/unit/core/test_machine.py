"""The table of the machine: each phase, each event, and what is done for it."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot.core.actions import (
    Action,
    BootOnce,
    ForgetOnce,
    GiveUp,
    Keep,
    Mend,
    PinKnownGood,
    Reboot,
    Secure,
    Tell,
    Unpin,
)
from trialboot.core.bootset import BootSet
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.language import assert_never
from trialboot.core.machine import LEGAL, IllegalMoveError, legal_moves, step
from trialboot.core.menu import KNOWN_GOOD
from trialboot.core.node import Wish
from trialboot.core.trial import (
    AT_REST,
    FALLBACK,
    MOST_ALLOWED,
    MOST_MOMENTS,
    NOT_LOOKED_AT,
    PICKED,
    Allowed,
    Booted,
    Choice,
    Condemned,
    Crowded,
    Damaged,
    Decision,
    Event,
    Judged,
    Phase,
    Policy,
    Refused,
    Retried,
    Seen,
    Trial,
    Unkept,
)
from trialboot.core.verdict import Outcome, Verdict

AT = "2026-01-01T00:00:00Z"
HERE, LATER = BootId("boot-here-now"), BootId("boot-later-on")
ARMED, OBSERVE = Policy(armed=True, cordon_at_rest=True), Policy()
EAGER = Policy(armed=True, unsure_rolls_back=True)
LENIENT = Policy(armed=True)
BLIND = Unknown("no permission")


def choice(name: str, entry: str = "", summary: str = "", *objections: str) -> Choice:
    return Choice(
        entry=EntryId(entry or name),
        boot_set=boot_set(name),
        summary=summary,
        objections=objections,
    )


GOOD, NEW, OTHER, THIRD = choice("good"), choice("new"), choice("other"), choice("third")
LACKING = choice("new", "", "", "ice is missing")
HINDERED = replace(NEW, obstacles=("no one-shot reaches it",))
SOUND, WORSE, UNSURE = (
    Verdict(outcome=outcome, reasons=(f"because {outcome}",)) for outcome in Outcome
)


def condemned(what: Choice) -> Condemned:
    return Condemned(
        fingerprint=what.boot_set.fingerprint, release=what.boot_set.release, why="bad", at=AT
    )


FRESH = Trial(boot=HERE, running=GOOD)
STEADY = Trial(boot=HERE, running=GOOD, known_good=GOOD.boot_set, pinned=True)
WAITING = replace(STEADY, phase=Phase.ARMED, candidate=NEW)
REPLACING = replace(WAITING, candidate=OTHER, replaced=NEW)
TRYING = replace(WAITING, phase=Phase.TRIAL, running=NEW)
BACK = replace(WAITING, phase=Phase.CONDEMNED, condemned=(condemned(NEW),))
LEAVING = replace(BACK, running=NEW)
RECOVERED = replace(BACK, phase=Phase.RECOVERED)
BLESSED = replace(STEADY, running=NEW, known_good=NEW.boot_set, previous=GOOD.boot_set)
STRANDED = replace(BACK, phase=Phase.STRANDED)
REFUSED = Refused(
    fingerprint=NEW.boot_set.fingerprint,
    release=NEW.boot_set.release,
    objections=LACKING.objections,
    at=AT,
)


def booted(
    running: Choice | Unknown, boot: BootId = LATER, *, pending: bool = False, instead: str = ""
) -> Booted:
    return Booted(at=AT, boot=boot, running=running, once_pending=pending, instead=instead)


def beside(once: Choice | Unknown, running: Choice, instead: str = "") -> Booted:
    """Tell of a boot after which the loader holds this one-shot."""
    return replace(booted(running, pending=True, instead=instead), once=once)


def seen(wanted: Choice | Unknown, once: Choice | Unknown | None = NOT_LOOKED_AT) -> Seen:
    return Seen(at=AT, wanted=wanted, once=once)


def judged(verdict: Verdict, boot: BootId = HERE) -> Judged:
    return Judged(at=AT, boot=boot, verdict=verdict)


UNKEPT = Unkept(at=AT, boot=HERE, why="needs 90 MiB, /boot has 3 MiB free")
UNKEPT_LATER = replace(UNKEPT, boot=LATER)
RETRY = Retried(at=AT)
ALLOW = Allowed(at=AT)
CROWDED = Crowded(
    at=AT, fingerprint=GOOD.boot_set.fingerprint, why="a kernel takes 90 MiB, 3 MiB are free"
)
DAMAGED = Damaged(at=AT, why=("/lib/modules/6.1-good is gone",))
NOTHING: list[str] = []
CORDON, UNCORDON = "Tell cordoned", "Tell free"


def words(action: Action) -> str:
    match action:
        case Tell(wish=wish):
            return CORDON if wish.cordoned else UNCORDON
        case (
            Keep(boot_set=kept)
            | PinKnownGood(boot_set=kept)
            | Mend(boot_set=kept)
            | Secure(boot_set=kept)
            | GiveUp(boot_set=kept)
        ):
            return f"{type(action).__name__} {kept.kernel}"
        case BootOnce(entry=entry):
            return f"BootOnce {entry}"
        case Reboot(leaving=leaving):
            return f"Reboot {leaving}"
        case ForgetOnce(spent=True):
            return "ForgetOnce spent"
        case ForgetOnce() | Unpin():
            return type(action).__name__


def outcome(trial: Trial, event: Event, policy: Policy = ARMED) -> tuple[Phase, list[str]]:
    decision = step(trial, event, policy)
    return decision.trial.phase, [words(action) for action in decision.todo]


def wish_of(decision: Decision) -> Wish:
    (wish,) = (action.wish for action in decision.todo if isinstance(action, Tell))
    return wish


def last_line(decision: Decision) -> str:
    return decision.trial.story[-1].text


PIN_AND_TRY = ["PinKnownGood good", "Keep new", "BootOnce new"]
FAILED = ["ForgetOnce", CORDON]
TABLE: dict[str, tuple[Trial, Event, Phase, list[str]]] = {
    # booted
    "steady, another boot": (STEADY, booted(GOOD), Phase.STEADY, NOTHING),
    "recovered, another boot": (RECOVERED, booted(NEW), Phase.RECOVERED, NOTHING),
    "stranded, another boot": (STRANDED, booted(GOOD), Phase.STRANDED, NOTHING),
    "armed, the candidate runs": (WAITING, booted(NEW), Phase.TRIAL, [CORDON]),
    "armed, changed once more": (
        WAITING,
        booted(choice("other", entry="new")),
        Phase.TRIAL,
        [CORDON],
    ),
    "armed, the same set from another entry": (
        WAITING,
        booted(choice("new", entry="twin")),
        Phase.TRIAL,
        [CORDON],
    ),
    "armed, a third one was picked": (WAITING, booted(OTHER), Phase.STEADY, NOTHING),
    "armed, a third one was picked, and the one-shot is set": (
        WAITING,
        booted(OTHER, pending=True),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "armed, a power cut had what was replaced booted once": (
        REPLACING,
        booted(NEW, pending=True),
        Phase.TRIAL,
        ["ForgetOnce", CORDON],
    ),
    "armed, what was replaced was picked": (REPLACING, booted(NEW), Phase.STEADY, NOTHING),
    "armed, the known-good was picked": (
        WAITING,
        booted(GOOD, instead=PICKED),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, the known-good was picked, and the one-shot is set": (
        WAITING,
        booted(GOOD, pending=True, instead=PICKED),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, the loader could not load it": (
        WAITING,
        booted(GOOD, instead=FALLBACK),
        Phase.CONDEMNED,
        FAILED,
    ),
    "armed, the loader could not load it, and the one-shot is set": (
        WAITING,
        booted(GOOD, pending=True, instead=FALLBACK),
        Phase.CONDEMNED,
        FAILED,
    ),
    "armed, the loader could not load what was replaced": (
        REPLACING,
        booted(GOOD, pending=True, instead=FALLBACK),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, the loader could not load what replaced another": (
        REPLACING,
        booted(GOOD, instead=FALLBACK),
        Phase.CONDEMNED,
        FAILED,
    ),
    "armed, the known-good again": (WAITING, booted(GOOD), Phase.CONDEMNED, FAILED),
    "armed, the one-shot still waits": (
        WAITING,
        booted(GOOD, pending=True),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, told the same boot again": (WAITING, booted(GOOD, HERE), Phase.ARMED, NOTHING),
    "armed, what runs is not known": (WAITING, booted(BLIND), Phase.ARMED, NOTHING),
    "armed, known in the end": (
        replace(WAITING, running=None, boot=LATER),
        booted(NEW),
        Phase.TRIAL,
        [CORDON],
    ),
    "armed, the one-shot was set once more under the candidate": (
        WAITING,
        booted(NEW, pending=True),
        Phase.TRIAL,
        ["ForgetOnce", CORDON],
    ),
    "armed, a condemned one was booted instead": (
        replace(WAITING, condemned=(condemned(OTHER),)),
        booted(OTHER),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "trial, the candidate again": (TRYING, booted(NEW), Phase.TRIAL, NOTHING),
    "trial, it went down": (TRYING, booted(GOOD), Phase.CONDEMNED, FAILED),
    "trial without a candidate": (
        replace(TRYING, candidate=None),
        booted(NEW),
        Phase.CONDEMNED,
        FAILED,
    ),
    "condemned, back": (LEAVING, booted(GOOD), Phase.CONDEMNED, NOTHING),
    "condemned, it did not stick": (LEAVING, booted(NEW), Phase.STRANDED, FAILED),
    # seen
    "steady, nothing new": (STEADY, seen(GOOD), Phase.STEADY, NOTHING),
    "steady, a change": (STEADY, seen(NEW), Phase.ARMED, PIN_AND_TRY),
    "steady, the change is not known": (STEADY, seen(BLIND), Phase.STEADY, NOTHING),
    "steady, nothing earned yet": (FRESH, seen(NEW), Phase.STEADY, NOTHING),
    "steady, known but not pinned": (
        replace(STEADY, pinned=False),
        seen(NEW),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, the same change": (WAITING, seen(NEW), Phase.ARMED, NOTHING),
    "armed, the same change in other words": (
        WAITING,
        seen(choice("new", summary="told anew")),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, the same set at another entry": (
        WAITING,
        seen(choice("new", entry="moved")),
        Phase.ARMED,
        ["PinKnownGood good", "Keep new", "BootOnce moved"],
    ),
    "armed, another change": (
        WAITING,
        seen(OTHER),
        Phase.ARMED,
        ["PinKnownGood good", "Keep other", "BootOnce other"],
    ),
    "steady, and it is not known what runs": (
        replace(STEADY, running=None),
        seen(NEW),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, and it is not known what runs": (
        replace(WAITING, running=None),
        seen(OTHER),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, undone": (WAITING, seen(GOOD), Phase.STEADY, ["ForgetOnce"]),
    "armed, back at a condemned one": (
        replace(WAITING, condemned=(condemned(OTHER),)),
        seen(OTHER),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "recovered, the condemned one is still wanted": (
        RECOVERED,
        seen(NEW),
        Phase.RECOVERED,
        NOTHING,
    ),
    "recovered, the condemned one is gone": (RECOVERED, seen(GOOD), Phase.STEADY, NOTHING),
    "recovered, a new change": (
        RECOVERED,
        seen(OTHER),
        Phase.ARMED,
        ["PinKnownGood good", "Keep other", "BootOnce other"],
    ),
    "trial, a change": (TRYING, seen(OTHER), Phase.TRIAL, NOTHING),
    "condemned, a change": (BACK, seen(OTHER), Phase.CONDEMNED, NOTHING),
    "stranded, a change": (STRANDED, seen(OTHER), Phase.STRANDED, NOTHING),
    # pre-checks
    "steady, a change that lacks a module": (STEADY, seen(LACKING), Phase.STEADY, NOTHING),
    "armed, and it lacks a module now": (WAITING, seen(LACKING), Phase.STEADY, ["ForgetOnce"]),
    "recovered, a change that lacks a module": (
        RECOVERED,
        seen(choice("other", "", "", "ice is missing")),
        Phase.RECOVERED,
        NOTHING,
    ),
    "refused, mended since": (
        replace(STEADY, refused=REFUSED),
        seen(OTHER),
        Phase.ARMED,
        ["PinKnownGood good", "Keep other", "BootOnce other"],
    ),
    "refused, and allowed": (
        replace(STEADY, allowed=(REFUSED.fingerprint,)),
        seen(LACKING),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "armed, allowed, seen again": (
        replace(WAITING, allowed=(REFUSED.fingerprint,)),
        seen(LACKING),
        Phase.ARMED,
        NOTHING,
    ),
    "steady, what this host cannot try": (STEADY, seen(HINDERED), Phase.STEADY, NOTHING),
    "armed, and this host cannot try it now": (
        WAITING,
        seen(HINDERED),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "allowed, and this host cannot try it": (
        replace(STEADY, allowed=(REFUSED.fingerprint,)),
        seen(HINDERED),
        Phase.STEADY,
        NOTHING,
    ),
    "allow, nothing is refused": (STEADY, ALLOW, Phase.STEADY, NOTHING),
    "allow": (replace(STEADY, refused=REFUSED), ALLOW, Phase.STEADY, NOTHING),
    # the one-shot
    "steady, a one-shot of the operator's": (
        replace(STEADY, condemned=(condemned(NEW),)),
        seen(GOOD, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "steady, a one-shot leads to a condemned one": (
        replace(STEADY, condemned=(condemned(NEW),)),
        seen(GOOD, NEW),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "recovered, a one-shot leads to the condemned one": (
        RECOVERED,
        seen(BLIND, NEW),
        Phase.RECOVERED,
        ["ForgetOnce"],
    ),
    "stranded, a one-shot leads to the condemned one": (
        STRANDED,
        seen(NEW, NEW),
        Phase.STRANDED,
        ["ForgetOnce"],
    ),
    "recovered, a new change replaces the one-shot": (
        RECOVERED,
        seen(OTHER, NEW),
        Phase.ARMED,
        ["PinKnownGood good", "Keep other", "BootOnce other"],
    ),
    "armed, its one-shot is there": (WAITING, seen(NEW, NEW), Phase.ARMED, NOTHING),
    "armed, its one-shot is gone": (WAITING, seen(NEW, None), Phase.ARMED, PIN_AND_TRY),
    "armed, its one-shot is gone, and what is wanted is not known": (
        WAITING,
        seen(BLIND, None),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "armed, the operator boots another once": (
        WAITING,
        seen(NEW, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "armed and undone, the operator boots another once": (
        WAITING,
        seen(GOOD, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "armed and refused, the operator boots another once": (
        WAITING,
        seen(LACKING, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, another change, the operator boots a third once": (
        WAITING,
        seen(OTHER, THIRD),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, another change, its own one-shot is there": (
        WAITING,
        seen(OTHER, choice("rebuilt", entry="new")),
        Phase.ARMED,
        ["PinKnownGood good", "Keep other", "BootOnce other"],
    ),
    "armed, the one-shot of what was replaced is there": (
        REPLACING,
        seen(THIRD, NEW),
        Phase.ARMED,
        ["PinKnownGood good", "Keep third", "BootOnce third"],
    ),
    "steady, a change, the operator boots another once": (
        STEADY,
        seen(NEW, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "recovered, a new change, the operator boots another once": (
        RECOVERED,
        seen(OTHER, THIRD),
        Phase.RECOVERED,
        NOTHING,
    ),
    "steady, a change, the operator boots that once": (
        STEADY,
        seen(NEW, choice("rebuilt", entry="new")),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "steady, a change, somebody has the known-good boot once": (
        STEADY,
        seen(NEW, GOOD),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, somebody has the known-good boot once instead": (
        WAITING,
        seen(NEW, choice("kept", entry=KNOWN_GOOD)),
        Phase.STEADY,
        NOTHING,
    ),
    "steady, a change, a condemned one boots once": (
        replace(STEADY, condemned=(condemned(OTHER),)),
        seen(NEW, OTHER),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "steady, a change, what boots once is not known": (
        STEADY,
        seen(NEW, BLIND),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "armed, its one-shot waits, and is known": (
        WAITING,
        beside(NEW, GOOD),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, what waits is not known": (WAITING, beside(BLIND, GOOD), Phase.ARMED, NOTHING),
    "armed, the known-good again, and somebody's one-shot waits": (
        WAITING,
        beside(OTHER, GOOD),
        Phase.CONDEMNED,
        FAILED,
    ),
    "armed, the known-good again, and a one-shot to itself waits": (
        WAITING,
        beside(GOOD, GOOD),
        Phase.CONDEMNED,
        FAILED,
    ),
    "armed, the known-good was picked, and somebody's one-shot waits": (
        WAITING,
        beside(OTHER, GOOD, PICKED),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, the candidate runs, and somebody's one-shot waits": (
        WAITING,
        beside(OTHER, NEW),
        Phase.TRIAL,
        [CORDON],
    ),
    "armed, another was picked, and somebody's one-shot waits": (
        WAITING,
        beside(THIRD, OTHER),
        Phase.STEADY,
        NOTHING,
    ),
    "armed, its one-shot is gone, and it may be what runs": (
        replace(WAITING, running=None),
        seen(NEW, None),
        Phase.ARMED,
        NOTHING,
    ),
    "armed, a condemned one would boot once": (
        replace(WAITING, condemned=(condemned(OTHER),)),
        seen(NEW, OTHER),
        Phase.ARMED,
        PIN_AND_TRY,
    ),
    "armed and undone, a condemned one would boot once": (
        replace(WAITING, condemned=(condemned(OTHER),)),
        seen(GOOD, OTHER),
        Phase.STEADY,
        ["ForgetOnce"],
    ),
    "on trial, a condemned one would boot once": (
        replace(TRYING, condemned=(condemned(OTHER),)),
        seen(NEW, OTHER),
        Phase.TRIAL,
        ["ForgetOnce"],
    ),
    "a one-shot while nothing is pinned": (
        replace(STEADY, pinned=False, condemned=(condemned(NEW),)),
        seen(GOOD, NEW),
        Phase.STEADY,
        NOTHING,
    ),
    # a boot by kexec: nobody knows what it loaded
    "kexec, steady": (STEADY, booted(BLIND), Phase.STEADY, NOTHING),
    "kexec, on trial": (TRYING, booted(BLIND), Phase.TRIAL, NOTHING),
    "kexec, condemned": (LEAVING, booted(BLIND), Phase.CONDEMNED, NOTHING),
    "kexec, recovered": (RECOVERED, booted(BLIND), Phase.RECOVERED, NOTHING),
    "kexec, stranded": (STRANDED, booted(BLIND), Phase.STRANDED, NOTHING),
    # damage
    "steady, the known-good is damaged": (STEADY, DAMAGED, Phase.STEADY, ["Mend good"]),
    "trial, the known-good is damaged": (TRYING, DAMAGED, Phase.TRIAL, ["Mend good"]),
    "no damage": (STEADY, replace(DAMAGED, why=()), Phase.STEADY, NOTHING),
    "damaged, nothing earned yet": (FRESH, DAMAGED, Phase.STEADY, NOTHING),
    "damaged, not pinned": (replace(STEADY, pinned=False), DAMAGED, Phase.STEADY, NOTHING),
    # judged
    "the first sound boot": (
        FRESH,
        judged(SOUND),
        Phase.STEADY,
        ["Keep good", "PinKnownGood good", UNCORDON],
    ),
    "steady and sound": (STEADY, judged(SOUND), Phase.STEADY, [UNCORDON]),
    "steady and worse": (STEADY, judged(WORSE), Phase.STEADY, [CORDON]),
    "steady and unsure": (STEADY, judged(UNSURE), Phase.STEADY, NOTHING),
    "sound, and nobody knows what": (
        replace(FRESH, running=None),
        judged(SOUND),
        Phase.STEADY,
        [UNCORDON],
    ),
    "booted by hand beside the known-good": (
        replace(STEADY, running=OTHER),
        judged(SOUND),
        Phase.STEADY,
        [UNCORDON],
    ),
    "armed and sound": (WAITING, judged(SOUND), Phase.ARMED, [UNCORDON]),
    "armed and worse": (WAITING, judged(WORSE), Phase.ARMED, [CORDON]),
    "recovered and sound": (RECOVERED, judged(SOUND), Phase.RECOVERED, [UNCORDON]),
    "recovered and worse": (RECOVERED, judged(WORSE), Phase.RECOVERED, [CORDON]),
    "trial, sound": (
        TRYING,
        judged(SOUND),
        Phase.STEADY,
        ["Keep new", "PinKnownGood new", "ForgetOnce spent", UNCORDON],
    ),
    "trial without a candidate, sound": (
        replace(TRYING, candidate=None),
        judged(SOUND),
        Phase.TRIAL,
        NOTHING,
    ),
    "trial, worse": (
        TRYING,
        judged(WORSE),
        Phase.CONDEMNED,
        [CORDON, "Secure good", f"Reboot {HERE}"],
    ),
    "trial, unsure": (TRYING, judged(UNSURE), Phase.TRIAL, [CORDON]),
    "trial, the verdict on another boot": (
        TRYING,
        judged(WORSE, LATER),
        Phase.TRIAL,
        NOTHING,
    ),
    "trial of nobody knows what, sound": (
        replace(TRYING, running=None),
        judged(SOUND),
        Phase.TRIAL,
        NOTHING,
    ),
    "trial of nobody knows what, worse": (
        replace(TRYING, running=None),
        judged(WORSE),
        Phase.TRIAL,
        NOTHING,
    ),
    "condemned, the known-good is sound": (BACK, judged(SOUND), Phase.RECOVERED, [UNCORDON]),
    "condemned, the known-good fails": (BACK, judged(WORSE), Phase.STRANDED, FAILED),
    "condemned, the known-good is unsure": (BACK, judged(UNSURE), Phase.CONDEMNED, NOTHING),
    "condemned, it still runs": (LEAVING, judged(WORSE), Phase.CONDEMNED, NOTHING),
    "condemned, nobody knows what runs": (
        replace(BACK, running=None),
        judged(SOUND),
        Phase.CONDEMNED,
        NOTHING,
    ),
    "stranded, the known-good is sound": (STRANDED, judged(SOUND), Phase.RECOVERED, [UNCORDON]),
    "stranded, the known-good fails": (STRANDED, judged(WORSE), Phase.STRANDED, NOTHING),
    "stranded, the known-good is unsure": (STRANDED, judged(UNSURE), Phase.STRANDED, NOTHING),
    # the vault
    "unkept, the first one earned": (STEADY, UNKEPT, Phase.STEADY, [UNCORDON]),
    "unkept, the blessed one": (BLESSED, UNKEPT, Phase.STEADY, [UNCORDON]),
    "unkept, the candidate": (WAITING, UNKEPT, Phase.STEADY, ["ForgetOnce"]),
    "unkept, the candidate, and it may run": (
        WAITING,
        UNKEPT_LATER,
        Phase.ARMED,
        ["ForgetOnce"],
    ),
    "unkept, the candidate, and it does run": (
        replace(WAITING, candidate=None),
        booted(NEW),
        Phase.TRIAL,
        [CORDON],
    ),
    "unkept, the candidate, and it does not run": (
        replace(WAITING, candidate=None),
        booted(GOOD),
        Phase.STEADY,
        NOTHING,
    ),
    "unkept, on trial": (TRYING, UNKEPT, Phase.TRIAL, NOTHING),
    "unkept, condemned, and the known-good runs": (BACK, UNKEPT, Phase.CONDEMNED, NOTHING),
    "not secured, and there was one before": (
        replace(LEAVING, previous=OTHER.boot_set),
        UNKEPT,
        Phase.CONDEMNED,
        [CORDON, "Secure other", f"Reboot {HERE}"],
    ),
    "not secured, and there was none before": (LEAVING, UNKEPT, Phase.STRANDED, FAILED),
    "not secured, and the one before is condemned": (
        replace(LEAVING, previous=NEW.boot_set),
        UNKEPT,
        Phase.STRANDED,
        FAILED,
    ),
    "not secured, and the reboot was made": (
        replace(LEAVING, previous=OTHER.boot_set),
        UNKEPT_LATER,
        Phase.CONDEMNED,
        NOTHING,
    ),
    "unkept, recovered": (RECOVERED, UNKEPT, Phase.RECOVERED, NOTHING),
    "unkept, stranded": (STRANDED, UNKEPT, Phase.STRANDED, NOTHING),
    # the operator
    "retry, steady": (STEADY, RETRY, Phase.STEADY, NOTHING),
    "retry, armed": (WAITING, RETRY, Phase.ARMED, NOTHING),
    "retry, on trial": (TRYING, RETRY, Phase.TRIAL, NOTHING),
    "retry, condemned": (BACK, RETRY, Phase.CONDEMNED, NOTHING),
    "retry, recovered": (RECOVERED, RETRY, Phase.STEADY, NOTHING),
    "retry, stranded": (STRANDED, RETRY, Phase.STEADY, NOTHING),
}


@pytest.mark.parametrize(("trial", "event", "phase", "todo"), TABLE.values(), ids=TABLE)
def test_the_table_of_phases_and_events(
    trial: Trial, event: Event, phase: Phase, todo: list[str]
) -> None:
    assert outcome(trial, event) == (phase, todo)


GIVEN_BACK = ["ForgetOnce", "Unpin", UNCORDON]
OBSERVED: dict[str, tuple[Trial, Event, Phase, list[str]]] = {
    "the one-shot still waits": (WAITING, booted(GOOD, pending=True), Phase.ARMED, NOTHING),
    "the candidate runs": (WAITING, booted(NEW), Phase.STEADY, NOTHING),
    "the candidate went down": (TRYING, booted(GOOD), Phase.STEADY, NOTHING),
    "the rollback did not stick": (LEAVING, booted(NEW), Phase.STEADY, NOTHING),
    "steady, another boot": (STEADY, booted(NEW), Phase.STEADY, NOTHING),
    "a change": (replace(STEADY, pinned=False), seen(NEW), Phase.STEADY, NOTHING),
    "pinned, at rest": (STEADY, seen(NEW), Phase.STEADY, GIVEN_BACK),
    "pinned, armed": (WAITING, seen(NEW), Phase.STEADY, GIVEN_BACK),
    "pinned, the operator boots another once": (
        STEADY,
        seen(NEW, OTHER),
        Phase.STEADY,
        ["Unpin", UNCORDON],
    ),
    "pinned, what is wanted is not known, the operator boots another once": (
        STEADY,
        seen(BLIND, OTHER),
        Phase.STEADY,
        ["Unpin", UNCORDON],
    ),
    "pinned, on trial": (TRYING, seen(NEW), Phase.STEADY, GIVEN_BACK),
    "pinned, condemned": (LEAVING, seen(NEW), Phase.STEADY, GIVEN_BACK),
    "pinned, recovered": (RECOVERED, seen(BLIND), Phase.STEADY, GIVEN_BACK),
    "pinned, stranded": (STRANDED, seen(NEW), Phase.STEADY, GIVEN_BACK),
    "cordoned, nothing pinned": (
        replace(FRESH, cordon=True),
        seen(NEW),
        Phase.STEADY,
        [UNCORDON],
    ),
    "cordoned, nothing pinned, what is wanted is not known": (
        replace(FRESH, cordon=True),
        seen(BLIND),
        Phase.STEADY,
        [UNCORDON],
    ),
    "cordoned, recovered, nothing pinned any more": (
        replace(RECOVERED, pinned=False, cordon=True),
        seen(NEW),
        Phase.STEADY,
        [UNCORDON],
    ),
    "pinned and cordoned": (
        replace(STRANDED, cordon=True),
        seen(NEW),
        Phase.STEADY,
        GIVEN_BACK,
    ),
    "not cordoned, nothing pinned": (FRESH, seen(NEW), Phase.STEADY, NOTHING),
    "not kept": (STEADY, UNKEPT, Phase.STEADY, [UNCORDON]),
    "the candidate was not kept": (WAITING, UNKEPT, Phase.STEADY, ["ForgetOnce"]),
    "sound": (FRESH, judged(SOUND), Phase.STEADY, NOTHING),
    "worse": (STEADY, judged(WORSE), Phase.STEADY, NOTHING),
    "damaged": (STEADY, DAMAGED, Phase.STEADY, NOTHING),
    "crowded": (BLESSED, CROWDED, Phase.STEADY, NOTHING),
    "allow": (replace(STEADY, refused=REFUSED), ALLOW, Phase.STEADY, NOTHING),
}


@pytest.mark.parametrize(("trial", "event", "phase", "todo"), OBSERVED.values(), ids=OBSERVED)
def test_observe_mode_only_gives_back(
    trial: Trial, event: Event, phase: Phase, todo: list[str]
) -> None:
    assert outcome(trial, event, OBSERVE) == (phase, todo)


@pytest.mark.parametrize(("trial", "event", "phase", "todo"), OBSERVED.values(), ids=OBSERVED)
def test_a_lost_record_is_observe_mode_whatever_the_policy_says(
    trial: Trial, event: Event, phase: Phase, todo: list[str]
) -> None:
    lost = replace(trial, report_only="the record was damaged")
    assert outcome(lost, event, EAGER) == (phase, todo)


def test_retry_ends_report_only_and_forgives() -> None:
    lost = replace(RECOVERED, report_only="the record was damaged")
    after = step(lost, RETRY, ARMED).trial
    assert (after.report_only, after.condemned, after.candidate) == ("", (), None)
    assert step(WAITING, RETRY, ARMED).trial.candidate == NEW


def test_what_a_pre_check_refuses_is_remembered_once_with_all_objections() -> None:
    decision = step(STEADY, seen(LACKING), ARMED)
    assert decision.trial.refused == REFUSED
    assert last_line(decision) == "a pre-check failed: 6.1-new: ice is missing"
    assert step(decision.trial, seen(LACKING), ARMED) == Decision(trial=decision.trial)
    more = replace(LACKING, objections=("ice is missing", "vxlan is missing"))
    told = step(decision.trial, seen(more), ARMED).trial
    assert told.refused == replace(REFUSED, objections=more.objections)
    assert len(told.story) == 2


def test_what_this_host_cannot_try_is_told_once_and_no_leave_helps() -> None:
    both = replace(HINDERED, objections=LACKING.objections)
    decision = step(STEADY, seen(both), ARMED)
    hindered = decision.trial.refused
    assert hindered == replace(REFUSED, obstacles=HINDERED.obstacles)
    assert last_line(decision) == "this host cannot try it: 6.1-new: no one-shot reaches it"
    assert step(decision.trial, seen(both), ARMED) == Decision(trial=decision.trial)
    allowed = step(decision.trial, ALLOW, ARMED).trial
    still = step(allowed, seen(both), ARMED)
    assert still.trial.refused == replace(REFUSED, objections=(), obstacles=HINDERED.obstacles)
    assert still.todo == ()
    # Nothing is left that the operator could overrule.
    assert step(still.trial, ALLOW, ARMED) == Decision(trial=still.trial)
    assert outcome(still.trial, seen(NEW)) == (Phase.ARMED, PIN_AND_TRY)


def test_in_observe_mode_nothing_is_tried_and_nothing_hinders_it() -> None:
    assert step(FRESH, seen(HINDERED), OBSERVE).trial.refused is None


def test_in_observe_mode_a_refusal_is_remembered_too_and_can_be_allowed() -> None:
    seen_lacking = step(FRESH, seen(LACKING), OBSERVE)
    assert (seen_lacking.trial.refused, seen_lacking.todo) == (REFUSED, ())
    assert step(seen_lacking.trial, seen(LACKING), OBSERVE) == Decision(trial=seen_lacking.trial)
    assert step(seen_lacking.trial, seen(BLIND), OBSERVE).trial.refused == REFUSED
    allowed = step(seen_lacking.trial, ALLOW, OBSERVE).trial
    assert step(allowed, seen(LACKING), OBSERVE).trial.refused is None
    assert step(seen_lacking.trial, seen(NEW), OBSERVE).trial.refused is None


@pytest.mark.parametrize("wanted", [GOOD, NEW])
def test_a_refusal_ends_with_what_was_refused(wanted: Choice) -> None:
    refused = replace(STEADY, refused=REFUSED)
    assert step(refused, seen(wanted), ARMED).trial.refused is None
    marked = replace(refused, condemned=(condemned(NEW),))
    assert step(marked, seen(NEW), ARMED).trial.refused is None


def test_what_the_operator_allows_is_that_very_boot_set() -> None:
    decision = step(replace(STEADY, refused=REFUSED), ALLOW, ARMED)
    allowed = decision.trial
    assert (allowed.refused, allowed.allowed) == (None, (REFUSED.fingerprint,))
    assert last_line(decision) == ("allow: the operator wants 6.1-new to be tried all the same")
    assert outcome(allowed, seen(LACKING)) == (Phase.ARMED, PIN_AND_TRY)
    other = choice("other", "", "", "ice is missing")
    assert outcome(allowed, seen(other)) == (Phase.STEADY, NOTHING)


def test_the_operators_leave_is_remembered_for_a_few_boot_sets() -> None:
    trial = STEADY
    for number in range(MOST_ALLOWED + 3):
        lacking = choice(str(number), "", "", "ice is missing")
        trial = step(step(trial, seen(lacking), ARMED).trial, ALLOW, ARMED).trial
    assert len(trial.allowed) == MOST_ALLOWED
    assert trial.allowed[-1] == boot_set(str(MOST_ALLOWED + 2)).fingerprint


def test_a_one_shot_that_is_put_right_is_told() -> None:
    marked = replace(STEADY, condemned=(condemned(NEW),))
    assert last_line(step(marked, seen(GOOD, NEW), ARMED)) == (
        "a one-shot led to 6.1-new, which is condemned: taken back («trialboot retry» first)"
    )
    gone = step(WAITING, seen(NEW, None), ARMED)
    assert last_line(gone) == "the one-shot for 6.1-new was gone: set again"
    assert gone.trial.candidate == NEW


def test_a_damaged_known_good_is_replaced_by_the_one_before_it_and_told_loudly() -> None:
    decision = step(replace(LEAVING, previous=OTHER.boot_set), UNKEPT, ARMED)
    after = decision.trial
    assert (after.known_good, after.previous) == (OTHER.boot_set, None)
    assert last_line(decision) == (
        "6.1-other is the known-good again, for the known-good 6.1-good is damaged: "
        "needs 90 MiB, /boot has 3 MiB free"
    )
    assert wish_of(decision).reason == "KnownGoodDamaged"
    assert Reboot("bad", HERE) in decision.todo
    # That one is damaged too.
    again = step(after, UNKEPT, ARMED)
    assert again.trial.phase is Phase.STRANDED
    assert last_line(again).endswith("; no further reboot will be made")


def test_in_observe_mode_a_damaged_known_good_reboots_nobody() -> None:
    decision = step(replace(LEAVING, previous=OTHER.boot_set), UNKEPT, OBSERVE)
    assert (decision.trial.phase, decision.todo) == (Phase.CONDEMNED, ())
    assert decision.trial.known_good == GOOD.boot_set


def test_a_trial_without_a_known_good_is_condemned_and_not_left() -> None:
    assert outcome(replace(TRYING, known_good=None), judged(WORSE)) == (Phase.CONDEMNED, FAILED)


def test_a_boot_by_kexec_is_judged_and_ends_nothing() -> None:
    for trial in (WAITING, TRYING, LEAVING, RECOVERED, STRANDED):
        unknown = step(trial, booted(BLIND), ARMED).trial
        for verdict in (SOUND, WORSE, UNSURE):
            decision = step(unknown, judged(verdict, LATER), ARMED)
            assert decision.trial.phase is trial.phase
            assert {words(action) for action in decision.todo} <= {CORDON, UNCORDON}
        # Nothing is armed or undone under it; the next boot by the loader tells.
        assert step(unknown, seen(OTHER), ARMED) == Decision(trial=unknown)
    left = step(step(TRYING, booted(BLIND), ARMED).trial, booted(GOOD, HERE), ARMED)
    assert left.trial.phase is Phase.CONDEMNED


def test_what_somebody_boots_once_is_waited_for_and_the_change_is_armed_after_it() -> None:
    waiting = step(STEADY, seen(NEW, OTHER), ARMED)
    wish = "«other» is booted once by somebody's wish"
    assert last_line(waiting) == f"not armed yet: 6.1-new: {wish}; the change is armed after that"
    refused = waiting.trial.refused
    assert refused
    assert (refused.release, refused.objections) == ("6.1-new", ())
    assert refused.obstacles == (f"{wish}; the change is armed after that",)
    assert step(waiting.trial, seen(NEW, OTHER), ARMED) == Decision(trial=waiting.trial)
    there = step(waiting.trial, booted(OTHER), ARMED).trial
    assert (there.phase, there.running) == (Phase.STEADY, OTHER)
    proven = step(there, judged(SOUND, LATER), ARMED).trial
    assert proven.known_good == GOOD.boot_set
    after = step(proven, seen(NEW, None), ARMED)
    assert (after.trial.phase, after.trial.candidate, after.trial.refused) == (
        Phase.ARMED,
        NEW,
        None,
    )


def test_what_is_armed_makes_way_for_what_somebody_boots_once() -> None:
    waiting = step(WAITING, seen(NEW, OTHER), ARMED).trial
    told = [moment.text for moment in waiting.story]
    assert told[0] == "armed no more: «other» is booted once by somebody's wish"
    # Had it been left armed, it would be condemned where «other» does not come up.
    assert step(waiting, booted(GOOD), ARMED).trial.condemned == ()
    assert step(waiting, seen(NEW, None), ARMED).trial.phase is Phase.ARMED


def test_damage_is_told_once_and_mended_each_time() -> None:
    once = step(STEADY, DAMAGED, ARMED)
    assert last_line(once) == (
        "the known-good was damaged and is mended: /lib/modules/6.1-good is gone"
    )
    assert step(once.trial, DAMAGED, ARMED) == once


def test_a_verdict_is_remembered_even_in_observe_mode() -> None:
    assert step(STEADY, judged(WORSE), OBSERVE).trial.judged == WORSE
    assert step(STEADY, judged(WORSE, LATER), ARMED).trial.judged is None


def test_a_new_boot_has_no_verdict_yet() -> None:
    told = step(replace(STEADY, judged=SOUND), booted(GOOD), ARMED).trial
    assert (told.judged, told.boot, told.running) == (None, LATER, GOOD)
    blind = step(replace(STEADY, judged=SOUND), booted(BLIND), ARMED).trial
    assert (blind.judged, blind.boot, blind.running) == (None, LATER, None)
    assert blind.story[-1].text == "what this boot loaded is not known: no permission"


def test_telling_a_boot_twice_changes_nothing() -> None:
    once = step(WAITING, booted(NEW), ARMED).trial
    assert step(once, booted(NEW), ARMED) == Decision(trial=once)


def test_what_is_still_not_known_changes_nothing() -> None:
    once = step(WAITING, booted(BLIND), ARMED).trial
    assert step(once, booted(BLIND), ARMED) == Decision(trial=once)
    assert step(once, booted(NEW), ARMED).trial.phase is Phase.TRIAL


def test_what_runs_is_what_is_on_trial() -> None:
    rebuilt = choice("other", entry="new")
    assert step(WAITING, booted(rebuilt), ARMED).trial.candidate == rebuilt
    left = step(REPLACING, booted(NEW, pending=True), ARMED).trial
    assert (left.candidate, left.replaced) == (NEW, None)


def test_what_was_replaced_is_known_until_the_loader_holds_the_new_one_shot() -> None:
    assert step(WAITING, seen(OTHER), ARMED).trial.replaced == NEW
    assert step(STEADY, seen(OTHER), ARMED).trial.replaced is None
    assert step(REPLACING, booted(GOOD, pending=True), ARMED).trial.replaced is None
    assert step(REPLACING, seen(GOOD), ARMED).trial.replaced is None
    assert step(REPLACING, UNKEPT_LATER, ARMED).trial.replaced is None
    unnamed = step(REPLACING, UNKEPT_LATER, ARMED).trial
    assert outcome(unnamed, booted(OTHER)) == (Phase.TRIAL, [CORDON])


def test_what_a_human_picked_is_respected_and_told() -> None:
    good = step(WAITING, booted(GOOD, instead=PICKED), ARMED)
    assert last_line(good) == "the known-good was picked in the boot menu, not 6.1-new: respected"
    third = step(WAITING, booted(OTHER), ARMED)
    assert last_line(third) == "6.1-other was booted from the menu: respected, and not on trial"
    for decision in (good, third):
        assert (decision.trial.condemned, decision.trial.candidate) == ((), None)
        assert outcome(decision.trial, seen(NEW)) == (Phase.ARMED, PIN_AND_TRY)
    assert outcome(third.trial, judged(WORSE, LATER)) == (Phase.STEADY, [CORDON])


def test_a_blessed_candidate_is_the_known_good() -> None:
    after = step(TRYING, judged(SOUND), ARMED).trial
    assert (after.known_good, after.pinned, after.candidate) == (NEW.boot_set, True, None)
    assert after.story[-1].text == "blessed: 6.1-new has proven itself and is the known-good"


def test_the_first_sound_boot_is_earned_once() -> None:
    after = step(FRESH, judged(SOUND), ARMED).trial
    assert (after.known_good, after.pinned) == (GOOD.boot_set, True)
    beside = step(replace(STEADY, running=OTHER), judged(SOUND), ARMED).trial
    assert beside.known_good == GOOD.boot_set


def test_what_was_pinned_before_is_remembered_by_a_blessing_alone() -> None:
    assert step(TRYING, judged(SOUND), ARMED).trial.previous == GOOD.boot_set
    # Earned where nothing is pinned: what the record named before is not in the loader.
    unpinned = replace(BLESSED, pinned=False, running=OTHER)
    assert step(unpinned, judged(SOUND), ARMED).trial.previous is None
    for event in (judged(SOUND), judged(WORSE), seen(OTHER), booted(GOOD), RETRY):
        assert step(BLESSED, event, ARMED).trial.previous == GOOD.boot_set


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.ARMED, Phase.RECOVERED])
def test_where_packages_lack_room_the_generation_before_is_given_up(phase: Phase) -> None:
    decision = step(replace(BLESSED, phase=phase), CROWDED, ARMED)
    assert decision.todo == (GiveUp(GOOD.boot_set),)
    assert decision.trial.previous is None
    assert last_line(decision) == (
        "6.1-good, from before the known-good, is kept no longer: "
        "a kernel takes 90 MiB, 3 MiB are free"
    )
    assert step(decision.trial, CROWDED, ARMED) == Decision(trial=decision.trial)


@pytest.mark.parametrize(
    "trial",
    [
        STEADY,
        *(replace(BLESSED, phase=p) for p in (Phase.TRIAL, Phase.CONDEMNED, Phase.STRANDED)),
        replace(BLESSED, phase=Phase.ARMED, candidate=GOOD),
        replace(BLESSED, known_good=GOOD.boot_set),
        replace(BLESSED, running=GOOD),
        replace(BLESSED, previous=OTHER.boot_set),
    ],
    ids=[
        *("none", "trial", "condemned", "stranded", "the candidate", "the known-good"),
        *("what runs", "another one by now"),
    ],
)
def test_what_may_still_be_needed_is_not_given_up_for_room(trial: Trial) -> None:
    assert step(trial, CROWDED, ARMED) == Decision(trial=trial)


@pytest.mark.parametrize(
    ("trial", "known_good"),
    [(STEADY, None), (BLESSED, GOOD.boot_set), (WAITING, GOOD.boot_set)],
    ids=["the first one earned", "the blessed one", "the candidate"],
)
def test_what_is_not_kept_is_not_what_the_record_names(
    trial: Trial, known_good: BootSet | None
) -> None:
    decision = step(trial, UNKEPT, ARMED)
    after = decision.trial
    assert (after.known_good, after.pinned) == (known_good, known_good is not None)
    assert (after.previous, after.candidate) == (None, None)
    assert last_line(decision) == (
        "could not be kept, so nothing was pinned: needs 90 MiB, /boot has 3 MiB free"
    )


def test_a_blessing_that_is_not_kept_leaves_what_was_before_the_trial() -> None:
    blessed = step(TRYING, judged(SOUND), ARMED).trial
    after = step(blessed, UNKEPT, ARMED).trial
    assert (after.known_good, after.pinned) == (TRYING.known_good, TRYING.pinned)
    assert not after.cordon
    # It is tried again like any change, for the files may be there then.
    assert outcome(after, seen(NEW)) == (Phase.ARMED, PIN_AND_TRY)


def test_what_is_not_kept_condemns_nothing() -> None:
    for trial in (STEADY, BLESSED, WAITING):
        after = step(trial, UNKEPT, ARMED).trial
        assert (after.condemned, after.running) == ((), trial.running)


TOLD = [
    (WAITING, booted(NEW), True),
    (TRYING, judged(UNSURE), True),
    (TRYING, judged(WORSE), True),
    (STEADY, judged(WORSE), True),
    (BACK, judged(WORSE), True),
    (TRYING, judged(SOUND), False),
    (STEADY, judged(SOUND), False),
    (BACK, judged(SOUND), False),
    (BLESSED, UNKEPT, False),
]


@pytest.mark.parametrize(("trial", "event", "cordon"), TOLD)
def test_the_record_knows_what_the_node_was_last_told(
    trial: Trial, event: Event, *, cordon: bool
) -> None:
    assert step(replace(trial, cordon=not cordon), event, ARMED).trial.cordon is cordon


@pytest.mark.parametrize("cordon", [False, True])
def test_what_tells_the_node_nothing_leaves_its_cordon(*, cordon: bool) -> None:
    for trial, event in ((STEADY, seen(NEW)), (WAITING, UNKEPT), (RECOVERED, RETRY)):
        decision = step(replace(trial, cordon=cordon), event, ARMED)
        assert decision.trial.cordon is cordon


def test_a_cordon_is_given_back_once() -> None:
    after = step(replace(FRESH, cordon=True), seen(NEW), OBSERVE).trial
    assert not after.cordon
    assert step(after, seen(NEW), OBSERVE) == Decision(trial=after)


def test_a_recovered_node_that_was_unpinned_does_not_earn_what_runs() -> None:
    free = replace(RECOVERED, pinned=False, running=NEW)
    assert step(free, judged(SOUND), ARMED).trial.known_good == GOOD.boot_set


def test_unsure_rolls_back_only_where_the_operator_says_so() -> None:
    assert outcome(TRYING, judged(UNSURE), EAGER) == (
        Phase.CONDEMNED,
        [CORDON, "Secure good", f"Reboot {HERE}"],
    )


@pytest.mark.parametrize("trial", [FRESH, STEADY, WAITING, RECOVERED], ids=lambda t: t.phase)
@pytest.mark.parametrize("cordon", [False, True])
def test_a_worse_verdict_at_rest_cordons_by_policy_and_tells_in_any_case(
    trial: Trial, *, cordon: bool
) -> None:
    before = replace(trial, cordon=cordon)
    assert outcome(before, judged(WORSE), ARMED) == (trial.phase, [CORDON])
    lenient = step(before, judged(WORSE), LENIENT)
    assert (lenient.trial.phase, lenient.trial.cordon) == (trial.phase, False)
    wish = wish_of(lenient)
    assert (wish.cordoned, wish.condition, wish.reason) == (False, "False", "NetworkWorse")
    assert [notice.kind for notice in wish.notices] == ["Warning"]
    assert wish.message == (
        "no change to blame, so no reboot, and no cordon by verify.cordon_at_rest: because worse"
    )


def test_a_trial_and_what_follows_it_cordon_whatever_the_policy_at_rest_says() -> None:
    for trial, event in (
        (WAITING, booted(NEW)),
        (TRYING, judged(WORSE)),
        (TRYING, judged(UNSURE)),
        (BACK, judged(WORSE)),
    ):
        assert step(trial, event, LENIENT) == step(trial, event, ARMED)
        assert wish_of(step(trial, event, LENIENT)).cordoned


def test_a_condemned_boot_set_is_remembered_once_with_all_reasons() -> None:
    verdict = Verdict(outcome=Outcome.WORSE, reasons=("a is gone", "b is gone"))
    after = step(TRYING, judged(verdict), ARMED).trial
    (mark,) = after.condemned
    assert mark.fingerprint == NEW.boot_set.fingerprint
    assert mark.release == "6.1-new"
    assert mark.why == "verdict worse: a is gone (and 1 more)"
    assert mark.reasons == ("a is gone", "b is gone")
    assert mark.at == AT


def test_a_condemned_boot_set_is_not_condemned_twice() -> None:
    again = replace(TRYING, condemned=(condemned(NEW),))
    assert step(again, booted(GOOD), ARMED).trial.condemned == (condemned(NEW),)


def test_an_earlier_condemned_one_stays_condemned() -> None:
    second = replace(TRYING, condemned=(condemned(OTHER),))
    marks = step(second, judged(WORSE), ARMED).trial.condemned
    assert [mark.release for mark in marks] == ["6.1-other", "6.1-new"]


@pytest.mark.parametrize(
    ("trial", "instead", "why"),
    [
        (
            WAITING,
            "",
            "6.1-new never came up: a panic, a hang, emergency mode or a power cut came before",
        ),
        (WAITING, FALLBACK, "6.1-new never came up: the boot loader could not load it"),
        (TRYING, "", "6.1-new went down before it was proven"),
        (replace(TRYING, candidate=None), "", "the candidate went down before it was proven"),
    ],
)
def test_a_candidate_that_is_gone_is_told_how(trial: Trial, instead: str, why: str) -> None:
    decision = step(trial, booted(GOOD, instead=instead), ARMED)
    assert last_line(decision).startswith(f"condemned: {why}")
    marks = decision.trial.condemned
    assert [mark.reasons for mark in marks] == [()] * (1 if trial.candidate else 0)


WISHES: dict[str, tuple[Decision, str, str, str]] = {
    "trial": (step(WAITING, booted(NEW), ARMED), "TrialRunning", "Unknown", "Normal"),
    "unsure": (step(TRYING, judged(UNSURE), ARMED), "TrialUnsure", "Unknown", "Warning"),
    "blessed": (step(TRYING, judged(SOUND), ARMED), "BootProven", "True", "Normal"),
    "condemned": (step(TRYING, judged(WORSE), ARMED), "TrialFailed", "False", "Warning"),
    "recovered": (step(BACK, judged(SOUND), ARMED), "Recovered", "True", "Warning"),
    "stranded": (step(BACK, judged(WORSE), ARMED), "Stranded", "False", "Warning"),
    "worse at rest": (step(STEADY, judged(WORSE), ARMED), "NetworkWorse", "False", "Warning"),
    "sound at rest": (step(STEADY, judged(SOUND), ARMED), "BootProven", "True", ""),
    "not kept": (step(STEADY, UNKEPT, ARMED), "BootUnkept", "True", ""),
    "observed": (step(STEADY, seen(NEW), OBSERVE), "Observing", "Unknown", ""),
}


@pytest.mark.parametrize(
    ("decision", "reason", "condition", "notice"), WISHES.values(), ids=WISHES
)
def test_the_node_object_says_what_happened(
    decision: Decision, reason: str, condition: str, notice: str
) -> None:
    wish = wish_of(decision)
    assert (wish.reason, wish.condition) == (reason, condition)
    assert (wish.boot, wish.at) == (decision.trial.boot, AT)
    notices = [(n.kind, n.reason, n.message, n.key) for n in wish.notices]
    key = f"{decision.trial.boot[:8]}-{reason.lower()}"
    assert notices == ([(notice, reason, wish.message, key)] if notice else [])


MESSAGES: dict[str, tuple[Decision, str]] = {
    "trial": (step(WAITING, booted(NEW), ARMED), "first boot of 6.1-new"),
    "unsure": (
        step(TRYING, judged(UNSURE), ARMED),
        "not proven and not refuted: because unsure",
    ),
    "recovered": (step(BACK, judged(SOUND), ARMED), "back on 6.1-good: bad"),
    "recovered, forgiven meanwhile": (
        step(replace(BACK, condemned=()), judged(SOUND), ARMED),
        "back on 6.1-good: the trial ended",
    ),
    "worse at rest": (
        step(STEADY, judged(WORSE), ARMED),
        "no change to blame, so no reboot: because worse",
    ),
    "sound, not known what": (
        step(replace(FRESH, running=None), judged(SOUND), ARMED),
        "this boot has proven its network",
    ),
    "not kept": (
        step(BLESSED, UNKEPT, ARMED),
        "could not be kept, so nothing was pinned: needs 90 MiB, /boot has 3 MiB free",
    ),
    "observed": (
        step(replace(FRESH, cordon=True), seen(NEW), OBSERVE),
        "observe mode: boot loader and cordon are the host's own again",
    ),
    "did not stick": (
        step(LEAVING, booted(NEW), ARMED),
        (
            "the rollback did not stick: 6.1-new runs, not the known-good; "
            "no further reboot will be made"
        ),
    ),
}


@pytest.mark.parametrize(("decision", "message"), MESSAGES.values(), ids=MESSAGES)
def test_the_message_is_a_sentence_for_the_operator(decision: Decision, message: str) -> None:
    assert wish_of(decision).message == message


def test_the_story_starts_anew_with_each_trial_and_stays_short() -> None:
    old = step(STEADY, RETRY, ARMED).trial
    armed = step(old, seen(choice("new", summary="another kernel")), ARMED).trial
    assert [moment.text.split(" (")[0] for moment in armed.story] == ["armed: another kernel"]
    for _ in range(MOST_MOMENTS + 5):
        armed = step(armed, RETRY, ARMED).trial
    assert len(armed.story) == MOST_MOMENTS


def test_a_second_candidate_goes_on_with_the_same_story() -> None:
    armed = step(STEADY, seen(NEW), ARMED).trial
    again = step(armed, seen(OTHER), ARMED).trial
    assert len(again.story) == 2
    assert again.story[0] == armed.story[0]


def test_a_reboot_is_the_last_action_and_names_the_boot_it_leaves() -> None:
    todo = step(TRYING, judged(WORSE), ARMED).todo
    assert todo[-1] == Reboot("verdict worse: because worse", HERE)


def test_an_illegal_move_is_a_bug_and_not_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialboot.core.machine.LEGAL", {})
    with pytest.raises(IllegalMoveError, match=r"^steady to armed$"):
        step(STEADY, seen(NEW), ARMED)


def test_the_table_has_a_way_out_of_each_phase_and_no_move_to_itself() -> None:
    moves = legal_moves()
    assert {before for before, _, _ in moves} == set(Phase)
    assert {after for _, after, _ in moves} == set(Phase)
    assert all(before is not after for before, after, _ in moves)
    assert [(before, after) for before, after, _ in moves] == list(LEGAL)


@pytest.mark.parametrize(
    ("phase", "name"),
    list(
        zip(
            Phase,
            ["steady", "armed", "trial", "condemned", "recovered", "stranded"],
            strict=True,
        )
    ),
)
def test_phases_keep_the_names_that_are_on_disk(phase: Phase, name: str) -> None:
    assert phase.value == name


def test_a_forgotten_case_says_so() -> None:
    with pytest.raises(AssertionError, match="no case for 'x'"):
        assert_never("x")  # type: ignore[arg-type]


CHOICES = st.sampled_from([GOOD, NEW, OTHER])
WANTED = CHOICES | st.sampled_from([LACKING, HINDERED]) | st.just(BLIND)
TRIALS = st.builds(
    Trial,
    phase=st.sampled_from(Phase),
    known_good=st.sampled_from([GOOD.boot_set, NEW.boot_set, None]),
    pinned=st.booleans(),
    previous=st.sampled_from([GOOD.boot_set, OTHER.boot_set, None]),
    cordon=st.booleans(),
    candidate=CHOICES | st.none(),
    replaced=CHOICES | st.none(),
    boot=st.sampled_from([HERE, LATER]),
    running=CHOICES | st.none(),
    condemned=st.lists(CHOICES.map(condemned), max_size=2).map(tuple),
    refused=st.sampled_from([None, REFUSED]),
    allowed=st.sampled_from([(), (REFUSED.fingerprint,)]),
    report_only=st.sampled_from(["", "damaged"]),
)
EVENTS = st.one_of(
    st.builds(
        booted,
        CHOICES | st.just(BLIND),
        st.sampled_from([HERE, LATER]),
        pending=st.booleans(),
        instead=st.sampled_from(["", PICKED, FALLBACK]),
    ),
    st.builds(seen, WANTED, WANTED | st.none()),
    st.builds(judged, st.sampled_from([SOUND, WORSE, UNSURE]), st.sampled_from([HERE, LATER])),
    st.just(UNKEPT),
    st.just(RETRY),
    st.just(ALLOW),
    st.just(DAMAGED),
    st.just(CROWDED),
)
POLICIES = st.builds(
    Policy,
    armed=st.booleans(),
    unsure_rolls_back=st.booleans(),
    cordon_at_rest=st.booleans(),
)
# What is asked of all trials happens to few of them by chance: these are close to it.
PINNED = TRIALS.map(
    lambda trial: replace(
        trial, known_good=GOOD.boot_set, pinned=True, boot=HERE, condemned=(), report_only=""
    )
)
ON_TRIAL = PINNED.map(lambda trial: replace(trial, phase=Phase.TRIAL, candidate=NEW, running=NEW))
RESTING = PINNED.map(lambda trial: replace(trial, phase=Phase.STEADY, running=GOOD))
GONE_WRONG = EVENTS | st.sampled_from([judged(WORSE), judged(UNSURE)])
DEEP = settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])


@DEEP
@given(TRIALS, EVENTS, POLICIES)
def test_any_trial_and_event_gives_a_legal_decision(
    trial: Trial, event: Event, policy: Policy
) -> None:
    after = step(trial, event, policy)
    moved = (trial.phase, after.trial.phase)
    assert moved[0] is moved[1] or moved in LEGAL


@DEEP
@given(TRIALS | ON_TRIAL, GONE_WRONG, POLICIES)
def test_a_reboot_only_ever_ends_a_trial(trial: Trial, event: Event, policy: Policy) -> None:
    after = step(trial, event, policy)
    if any(isinstance(action, Reboot) for action in after.todo):
        assert policy.armed
        assert not trial.report_only
        came = trial.phase is Phase.TRIAL or (
            trial.phase is Phase.CONDEMNED and isinstance(event, Unkept)
        )
        assert came
        assert after.trial.phase is Phase.CONDEMNED
        assert trial.running is not None
        assert isinstance(after.todo[-2], Secure), "a reboot into what was not checked"
        assert after.todo[-2].boot_set == after.trial.known_good


@DEEP
@given(TRIALS | RESTING, GONE_WRONG, POLICIES)
def test_the_policy_at_rest_decides_nothing_but_the_cordon_of_a_worse_verdict(
    trial: Trial, event: Event, policy: Policy
) -> None:
    strict = step(trial, event, replace(policy, cordon_at_rest=True))
    lenient = step(trial, event, replace(policy, cordon_at_rest=False))
    if lenient != strict:
        assert isinstance(event, Judged)
        assert event.verdict == WORSE
        assert trial.phase in AT_REST
        assert [words(action) for action in strict.todo] == [CORDON]
        assert [words(action) for action in lenient.todo] == [UNCORDON]
        assert replace(lenient.trial, cordon=True) == strict.trial


@DEEP
@given(TRIALS, EVENTS, POLICIES)
def test_observe_mode_pins_cordons_and_reboots_nothing(
    trial: Trial, event: Event, policy: Policy
) -> None:
    after = step(trial, event, replace(policy, armed=False))
    assert {words(action) for action in after.todo} <= set(GIVEN_BACK)


@DEEP
@given(TRIALS | RESTING, WANTED, POLICIES)
def test_what_a_pre_check_speaks_against_is_tried_only_with_the_operators_leave(
    trial: Trial, wanted: Choice | Unknown, policy: Policy
) -> None:
    after = step(trial, seen(wanted), policy)
    if any(isinstance(action, BootOnce) for action in after.todo):
        assert wanted != HINDERED
        assert wanted != LACKING or LACKING.boot_set.fingerprint in trial.allowed


@DEEP
@given(TRIALS, EVENTS, POLICIES)
def test_the_record_knows_the_cordon(trial: Trial, event: Event, policy: Policy) -> None:
    after = step(trial, event, policy)
    told = [action.wish.cordoned for action in after.todo if isinstance(action, Tell)]
    assert after.trial.cordon is [trial.cordon, *told][-1]


@DEEP
@given(TRIALS, POLICIES)
def test_what_is_not_kept_touches_no_more_of_the_host(trial: Trial, policy: Policy) -> None:
    after = step(trial, UNKEPT, policy)
    if trial.phase is not Phase.CONDEMNED:
        assert {words(action) for action in after.todo} <= {"ForgetOnce", UNCORDON}
    assert after.trial.condemned == trial.condemned
    assert after.trial.running == trial.running


@DEEP
@given(TRIALS, EVENTS, POLICIES, st.sampled_from(["", "1970-01-01T00:00:07Z", "9999"]))
def test_no_clock_decides_anything(trial: Trial, event: Event, policy: Policy, at: str) -> None:
    """Times are told and never compared: a clock may jump, or be out of order, as it likes."""
    now = step(trial, event, policy)
    then = step(trial, replace(event, at=at), policy)
    assert (now.trial.phase, list(map(words, now.todo))) == (
        then.trial.phase,
        list(map(words, then.todo)),
    )
    assert _without_times(now.trial) == _without_times(then.trial)


def _without_times(trial: Trial) -> Trial:
    refused = replace(trial.refused, at="") if trial.refused else None
    marks = tuple(replace(mark, at="") for mark in trial.condemned)
    return replace(trial, story=(), condemned=marks, refused=refused)


@DEEP
@given(TRIALS, EVENTS, POLICIES)
def test_the_last_verdict_and_the_story_decide_nothing(
    trial: Trial, event: Event, policy: Policy
) -> None:
    bare = step(trial, event, policy)
    told = step(step(trial, RETRY, policy).trial, event, policy)
    again = step(replace(trial, judged=WORSE, story=told.trial.story), event, policy)
    assert (again.todo, again.trial.phase) == (bare.todo, bare.trial.phase)
