"""The life of a trial: phases, events, the table of legal moves, and `step`, all in this file.

The law:

- the loader's default is the known-good from the moment a change is seen, so that a candidate
  which never comes up is answered by the loader alone;
- only a candidate on trial can be rolled back: no change, no reboot;
- a condemned fingerprint is remembered and not armed again: one rollback for one candidate;
- not knowing neither blesses nor reboots;
- in observe mode nothing is pinned, cordoned or rebooted.

`step` decides and does nothing. What it returns is stored before it is performed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from trialboot.core.actions import (
    Action,
    BootOnce,
    ForgetOnce,
    Keep,
    PinKnownGood,
    Reboot,
    Tell,
    Unpin,
)
from trialboot.core.bootset import BootSet, Fingerprint, shown
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.language import Word
from trialboot.core.node import Notice, Wish
from trialboot.core.verdict import Outcome, Verdict

MOST_MOMENTS: Final = 24
NO_BOOT: Final = BootId("")


class Phase(Word):
    """Where a trial stands. Written to disk by these names: never rename one."""

    STEADY = "steady"
    ARMED = "armed"
    TRIAL = "trial"
    CONDEMNED = "condemned"
    RECOVERED = "recovered"
    STRANDED = "stranded"


LEGAL: Final[Mapping[tuple[Phase, Phase], str]] = MappingProxyType(
    {
        (Phase.STEADY, Phase.ARMED): "change seen",
        (Phase.ARMED, Phase.STEADY): "change undone, or observe",
        (Phase.ARMED, Phase.TRIAL): "candidate booted",
        (Phase.ARMED, Phase.CONDEMNED): "never came up",
        (Phase.TRIAL, Phase.STEADY): "sound: blessed, or observe",
        (Phase.TRIAL, Phase.CONDEMNED): "worse, or left unproven",
        (Phase.CONDEMNED, Phase.RECOVERED): "known-good proven",
        (Phase.CONDEMNED, Phase.STRANDED): "known-good fails too",
        (Phase.CONDEMNED, Phase.STEADY): "observe",
        (Phase.RECOVERED, Phase.ARMED): "new change",
        (Phase.RECOVERED, Phase.STEADY): "change undone, retry or observe",
        (Phase.STRANDED, Phase.RECOVERED): "known-good proven",
        (Phase.STRANDED, Phase.STEADY): "retry or observe",
    }
)
"""Every move between phases, with the word that the diagram has for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator allows."""

    armed: bool = False
    """False is observe mode: nothing is pinned, cordoned or rebooted."""
    unsure_rolls_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A boot set and the menu entry that loads it."""

    entry: EntryId
    boot_set: BootSet
    summary: str = ""
    """What it changes, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condemned:
    """A boot set that failed its trial: not tried again until it changes or «retry»."""

    fingerprint: Fingerprint
    release: str
    why: str
    at: str
    reasons: tuple[str, ...] = ()
    """All that the verdict had to say; none where the candidate never came up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of a trial's story."""

    at: str
    boot: BootId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that is remembered, and the only thing that is."""

    phase: Phase = Phase.STEADY
    known_good: BootSet | None = None
    pinned: bool = False
    """The known-good is kept in the vault and is the loader's default."""
    candidate: Choice | None = None
    boot: BootId = NO_BOOT
    """The boot that `Booted` told of last."""
    running: Choice | None = None
    """What that boot loaded; None while it is not known."""
    condemned: tuple[Condemned, ...] = ()
    judged: Verdict | None = None
    """The verdict on `boot`; None until there is one."""
    story: tuple[Moment, ...] = ()
    report_only: str = ""
    """Why nothing but reports may be done, such as a record that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """The machine runs this boot; told at each start of the daemon, once a boot is enough."""

    at: str
    boot: BootId
    running: Choice | Unknown
    once_pending: bool
    """The loader still holds a one-shot: it has not been consumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the host's own configuration would boot next, left to itself."""

    at: str
    wanted: Choice | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on a boot."""

    at: str
    boot: BootId
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """The operator wants condemned boot sets to be tried again."""

    at: str


Event: TypeAlias = Booted | Seen | Judged | Retried


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the trial is now, and what is still to be done: stored before it is performed."""

    trial: Trial
    todo: tuple[Action, ...] = ()


class IllegalMoveError(AssertionError):
    """A move that the table does not have: a bug in this file, never an operator's mistake."""


def step(trial: Trial, event: Event, policy: Policy) -> Decision:
    """Decide what an event makes of a trial. An event that changes nothing gives no action."""
    if trial.report_only:
        policy = replace(policy, armed=False)
    return _checked(trial, _step(trial, event, policy))


def _step(trial: Trial, event: Event, policy: Policy) -> Decision:
    match event:
        case Booted():
            return _booted(trial, event, policy)
        case Seen():
            return _seen(trial, event, policy)
        case Judged():
            return _judged(trial, event, policy)
        case Retried():
            return _retried(trial, event)


def _checked(before: Trial, decision: Decision) -> Decision:
    after = decision.trial
    if before.phase is not after.phase and (before.phase, after.phase) not in LEGAL:
        raise IllegalMoveError(f"{before.phase} to {after.phase}")
    return decision


def _same(trial: Trial) -> Decision:
    return Decision(trial=trial)


# --- a boot ---------------------------------------------------------------------------------


def _booted(trial: Trial, event: Booted, policy: Policy) -> Decision:
    if event.boot == trial.boot and trial.running is not None:
        return _same(trial)
    if isinstance(event.running, Unknown):
        # Not knowing what runs: nothing is concluded, and the next snapshot asks again.
        return _same(
            _told(
                replace(trial, boot=event.boot, running=None, judged=None),
                event.at,
                f"what this boot loaded is not known: {event.running.why}",
            )
        )
    came = replace(trial, boot=event.boot, running=event.running, judged=None)
    if not policy.armed:
        return _booted_unarmed(came, event)
    return _booted_known(came, event, event.running)


def _booted_unarmed(trial: Trial, event: Booted) -> Decision:
    """Observe mode: what the loader did is not judged; a trial that is over is forgotten."""
    waits = trial.phase is Phase.ARMED and event.once_pending
    if waits or trial.phase not in {Phase.ARMED, Phase.TRIAL, Phase.CONDEMNED}:
        return _same(trial)
    rest = replace(trial, phase=Phase.STEADY, candidate=None)
    return _same(_told(rest, event.at, "observe mode: the trial was given up"))


def _booted_known(trial: Trial, event: Booted, running: Choice) -> Decision:
    match trial.phase:
        case Phase.ARMED:
            return _booted_armed(trial, event, running)
        case Phase.TRIAL:
            return _booted_trial(trial, event, running)
        case Phase.CONDEMNED:
            return _booted_condemned(trial, event, running)
        case Phase.STEADY | Phase.RECOVERED | Phase.STRANDED:
            return _same(trial)


def _booted_armed(trial: Trial, event: Booted, running: Choice) -> Decision:
    # A power cut between the one-shot and its record lets it be set again under what it booted:
    # only the known-good may still be waiting for it.
    if _is_known_good(trial, running):
        return _same(trial) if event.once_pending else _never_came_up(trial, event.at)
    if _is_condemned(trial, running.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        words = f"{running.boot_set.release} was booted, which is condemned: no second trial"
        return Decision(trial=_told(rest, event.at, words), todo=(ForgetOnce(),))
    # Usually the candidate itself. A package run may have changed its files once more after it
    # was armed: what runs is what is on trial.
    trial = _told(
        replace(trial, phase=Phase.TRIAL, candidate=running),
        event.at,
        f"trial: {running.boot_set.release} has booted ({shown(running.boot_set.fingerprint)})",
    )
    return Decision(
        trial=trial,
        todo=(
            *((ForgetOnce(),) if event.once_pending else ()),
            _tell(
                trial,
                event.at,
                "TrialRunning",
                _trial_words(trial),
                cordoned=True,
                condition="Unknown",
                notice="Normal",
            ),
        ),
    )


def _booted_trial(trial: Trial, event: Booted, running: Choice) -> Decision:
    candidate = trial.candidate
    if candidate and running.boot_set.fingerprint == candidate.boot_set.fingerprint:
        return _same(trial)
    return _never_came_up(trial, event.at)


def _never_came_up(trial: Trial, at: str) -> Decision:
    release = trial.candidate.boot_set.release if trial.candidate else "the candidate"
    was_up = trial.phase is Phase.TRIAL
    why = (
        f"{release} went down before it was proven"
        if was_up
        else f"{release} never came up: the boot loader went back by itself"
    )
    return _condemn(trial, at, why, ())


def _booted_condemned(trial: Trial, event: Booted, running: Choice) -> Decision:
    if _is_known_good(trial, running):
        return _same(_told(trial, event.at, f"back on the known-good {running.boot_set.release}"))
    why = (
        f"the rollback did not stick: {running.boot_set.release} runs, not the known-good; "
        "no further reboot will be made"
    )
    return _strand(trial, event.at, why)


def _is_known_good(trial: Trial, running: Choice) -> bool:
    good = trial.known_good
    return good is not None and running.boot_set.fingerprint == good.fingerprint


# --- what the next boot would be --------------------------------------------------------------


def _seen(trial: Trial, event: Seen, policy: Policy) -> Decision:
    if not policy.armed:
        return _released(trial, event.at)
    if isinstance(event.wanted, Unknown) or trial.known_good is None or not trial.pinned:
        return _same(trial)
    if trial.running is None:
        # It may be a candidate that runs: nothing is armed or undone under it.
        return _same(trial)
    match trial.phase:
        case Phase.STEADY | Phase.RECOVERED:
            return _seen_at_rest(trial, event.at, event.wanted)
        case Phase.ARMED:
            return _seen_armed(trial, event.at, event.wanted)
        case Phase.TRIAL | Phase.CONDEMNED | Phase.STRANDED:
            return _same(trial)


def _released(trial: Trial, at: str) -> Decision:
    """Observe mode: loader and cordon are given back, whatever the phase."""
    if not trial.pinned:
        return _same(trial)
    rest = replace(trial, phase=Phase.STEADY, pinned=False, candidate=None)
    words = "observe mode: boot loader and cordon are the host's own again"
    tell = _tell(rest, at, "Observing", words, cordoned=False, condition="Unknown")
    return Decision(trial=_told(rest, at, words), todo=(ForgetOnce(), Unpin(), tell))


def _seen_at_rest(trial: Trial, at: str, wanted: Choice) -> Decision:
    if trial.known_good and wanted.boot_set.fingerprint == trial.known_good.fingerprint:
        if trial.phase is Phase.RECOVERED:
            return _same(
                _told(
                    replace(trial, phase=Phase.STEADY, candidate=None),
                    at,
                    "the condemned change is gone from this host",
                )
            )
        return _same(trial)
    if _is_condemned(trial, wanted.boot_set):
        return _same(trial)
    return _arm(replace(trial, story=()), at, wanted)


def _seen_armed(trial: Trial, at: str, wanted: Choice) -> Decision:
    armed = trial.candidate
    if armed and _names_the_same(armed, wanted):
        return _same(trial)
    if trial.known_good and wanted.boot_set.fingerprint == trial.known_good.fingerprint:
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        return Decision(trial=_told(rest, at, "the change was undone"), todo=(ForgetOnce(),))
    if _is_condemned(trial, wanted.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        told = _told(rest, at, "the host is back at a condemned boot set: not tried again")
        return Decision(trial=told, todo=(ForgetOnce(),))
    return _arm(trial, at, wanted)


def _arm(trial: Trial, at: str, wanted: Choice) -> Decision:
    good = trial.known_good
    armed = _told(
        replace(trial, phase=Phase.ARMED, candidate=wanted),
        at,
        f"armed: {wanted.summary or wanted.boot_set.release} "
        f"({shown(wanted.boot_set.fingerprint)})",
    )
    pin = (PinKnownGood(good),) if good else ()
    # The candidate is kept before it is tried: package files may change under a running trial.
    return Decision(
        trial=armed,
        todo=(*pin, Keep(wanted.boot_set, wanted.entry), BootOnce(wanted.entry)),
    )


def _names_the_same(one: Choice, other: Choice) -> bool:
    same_set = one.boot_set.fingerprint == other.boot_set.fingerprint
    return same_set and one.entry == other.entry


def _is_condemned(trial: Trial, boot_set: BootSet) -> bool:
    return any(c.fingerprint == boot_set.fingerprint for c in trial.condemned)


# --- a verdict --------------------------------------------------------------------------------


def _judged(trial: Trial, event: Judged, policy: Policy) -> Decision:
    if event.boot != trial.boot:
        return _same(trial)
    trial = replace(trial, judged=event.verdict)
    if not policy.armed:
        return _same(trial)
    match trial.phase:
        case Phase.STEADY | Phase.ARMED | Phase.RECOVERED:
            return _judged_at_rest(trial, event)
        case Phase.TRIAL:
            return _judged_trial(trial, event, policy)
        case Phase.CONDEMNED | Phase.STRANDED:
            return _judged_known_good(trial, event)


def _judged_at_rest(trial: Trial, event: Judged) -> Decision:
    """No trial runs: nothing can be blamed, so nothing is rebooted."""
    match event.verdict.outcome:
        case Outcome.WORSE:
            words = f"no change to blame, so no reboot: {_first(event.verdict)}"
            return Decision(
                trial=trial,
                todo=(
                    _tell(
                        trial,
                        event.at,
                        "NetworkWorse",
                        words,
                        cordoned=True,
                        condition="False",
                        notice="Warning",
                    ),
                ),
            )
        case Outcome.SOUND:
            return _sound_at_rest(trial, event)
        case Outcome.UNSURE:
            return _same(trial)


def _sound_at_rest(trial: Trial, event: Judged) -> Decision:
    running = trial.running
    # A boot set is earned once: what the operator boots by hand beside a pinned known-good is not.
    earned = running is not None and trial.phase is Phase.STEADY and not trial.pinned
    if running and earned:
        trial = _told(
            replace(trial, known_good=running.boot_set, pinned=True),
            event.at,
            f"{running.boot_set.release} has proven itself and is the known-good",
        )
    words = f"{running.boot_set.release if running else 'this boot'} has proven its network"
    tell = _tell(trial, event.at, "BootProven", words, cordoned=False, condition="True")
    return Decision(trial=trial, todo=(*_pin(running if earned else None), tell))


def _pin(good: Choice | None) -> tuple[Action, ...]:
    return (Keep(good.boot_set, good.entry), PinKnownGood(good.boot_set)) if good else ()


def _judged_trial(trial: Trial, event: Judged, policy: Policy) -> Decision:
    if trial.running is None:
        # It may be the known-good that runs: a verdict on it is none on the candidate.
        return _same(trial)
    match event.verdict.outcome:
        case Outcome.SOUND:
            return _bless(trial, event)
        case Outcome.WORSE:
            return _roll_back(trial, event)
        case Outcome.UNSURE if policy.unsure_rolls_back:
            return _roll_back(trial, event)
        case Outcome.UNSURE:
            words = f"not proven and not refuted: {_first(event.verdict)}"
            return Decision(
                trial=_told(trial, event.at, f"unsure: {_first(event.verdict)}"),
                todo=(
                    _tell(
                        trial,
                        event.at,
                        "TrialUnsure",
                        words,
                        cordoned=True,
                        condition="Unknown",
                        notice="Warning",
                    ),
                ),
            )


def _bless(trial: Trial, event: Judged) -> Decision:
    proven = trial.candidate
    if proven is None:
        return _same(trial)
    blessed = _told(
        replace(
            trial, phase=Phase.STEADY, known_good=proven.boot_set, pinned=True, candidate=None
        ),
        event.at,
        f"blessed: {proven.boot_set.release} has proven itself and is the known-good",
    )
    words = f"{proven.boot_set.release} has proven its network and is the known-good"
    tell = _tell(
        blessed, event.at, "BootProven", words, cordoned=False, condition="True", notice="Normal"
    )
    return Decision(trial=blessed, todo=(*_pin(proven), tell))


def _roll_back(trial: Trial, event: Judged) -> Decision:
    words = f"verdict {event.verdict.outcome}: {_first(event.verdict)}"
    rebooting = (Reboot(words, trial.boot),)
    return _condemn(trial, event.at, words, rebooting, event.verdict.reasons)


def _condemn(
    trial: Trial, at: str, why: str, then: tuple[Action, ...], reasons: tuple[str, ...] = ()
) -> Decision:
    candidate = trial.candidate
    marked = trial.condemned
    if candidate and not _is_condemned(trial, candidate.boot_set):
        fresh = Condemned(
            fingerprint=candidate.boot_set.fingerprint,
            release=candidate.boot_set.release,
            why=why,
            at=at,
            reasons=reasons,
        )
        marked = (*marked, fresh)
    over = _told(replace(trial, phase=Phase.CONDEMNED, condemned=marked), at, f"condemned: {why}")
    tell = _tell(over, at, "TrialFailed", why, cordoned=True, condition="False", notice="Warning")
    return Decision(trial=over, todo=(ForgetOnce(), tell, *then))


def _judged_known_good(trial: Trial, event: Judged) -> Decision:
    running = trial.running
    if running is None or not _is_known_good(trial, running):
        # The condemned candidate still runs: its reboot is under way, or did not stick.
        return _same(trial)
    match event.verdict.outcome:
        case Outcome.SOUND:
            back = _told(
                replace(trial, phase=Phase.RECOVERED),
                event.at,
                f"recovered: {running.boot_set.release} has proven its network",
            )
            words = f"back on {running.boot_set.release}: {_last_why(trial)}"
            return Decision(
                trial=back,
                todo=(
                    _tell(
                        back,
                        event.at,
                        "Recovered",
                        words,
                        cordoned=False,
                        condition="True",
                        notice="Warning",
                    ),
                ),
            )
        case Outcome.WORSE if trial.phase is Phase.CONDEMNED:
            return _strand(trial, event.at, f"the known-good fails too: {_first(event.verdict)}")
        case Outcome.WORSE | Outcome.UNSURE:
            return _same(trial)


def _strand(trial: Trial, at: str, why: str) -> Decision:
    lost = _told(replace(trial, phase=Phase.STRANDED), at, f"stranded: {why}")
    tell = _tell(lost, at, "Stranded", why, cordoned=True, condition="False", notice="Warning")
    return Decision(trial=lost, todo=(ForgetOnce(), tell))


# --- the operator -----------------------------------------------------------------------------


def _retried(trial: Trial, event: Retried) -> Decision:
    resting = trial.phase in {Phase.RECOVERED, Phase.STRANDED}
    again = replace(
        trial,
        phase=Phase.STEADY if resting else trial.phase,
        candidate=None if resting else trial.candidate,
        condemned=(),
        report_only="",
    )
    return _same(_told(again, event.at, "retry: the operator forgave what was condemned"))


# --- words ------------------------------------------------------------------------------------


def _told(trial: Trial, at: str, text: str) -> Trial:
    story = (*trial.story, Moment(at=at, boot=trial.boot, text=text))
    return replace(trial, story=story[-MOST_MOMENTS:])


def _first(verdict: Verdict) -> str:
    more = len(verdict.reasons) - 1
    return f"{verdict.reasons[0]}{f' (and {more} more)' if more > 0 else ''}"


def _last_why(trial: Trial) -> str:
    return trial.condemned[-1].why if trial.condemned else "the trial ended"


def _trial_words(trial: Trial) -> str:
    candidate = trial.candidate
    return f"first boot of {candidate.boot_set.release}" if candidate else "first boot"


def _tell(
    trial: Trial,
    at: str,
    reason: str,
    message: str,
    *,
    cordoned: bool,
    condition: str,
    notice: str = "",
) -> Tell:
    # One Event a boot and reason: the key makes a repeated request harmless.
    key = f"{trial.boot[:8]}-{reason.lower()}"
    notices = (
        (Notice(key=key, kind=notice, reason=reason, message=message, at=at),) if notice else ()
    )
    return Tell(
        Wish(
            cordoned=cordoned,
            reason=reason,
            message=message,
            condition=condition,
            boot=trial.boot,
            at=at,
            notices=notices,
        )
    )


def legal_moves() -> tuple[tuple[Phase, Phase, str], ...]:
    """Give the table for the diagram, in order."""
    return tuple((before, after, word) for (before, after), word in LEGAL.items())
