"""The life of a trial: the table of legal moves, and `step`, which every event goes through.

The law:

- the loader's default is the known-good from the moment a change is seen, so that a candidate
  which never comes up is answered by the loader alone;
- only a candidate on trial can be rolled back: no change, no reboot;
- every reboot ends on a kept boot set that was checked by hash just before;
- a condemned fingerprint is remembered and not armed again: one rollback for one candidate;
- what a pre-check refuses is not tried, unless the operator allows that very boot set;
- what the host cannot try at all is not tried, whatever the operator allows;
- what a human chose in the boot menu is respected: it is neither tried nor condemned for it;
- not knowing neither blesses nor reboots;
- in observe mode nothing is pinned, cordoned or rebooted.

`step` decides and does nothing. What it returns is stored before it is performed. What a boot
means is in `booting`, what the next one would be in `arming`, verdicts and the vault in `ending`.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from trialboot.core.actions import Mend, Tell
from trialboot.core.arming import seen
from trialboot.core.booting import booted
from trialboot.core.ending import crowded, judged, unkept
from trialboot.core.trial import (
    MOST_ALLOWED,
    Allowed,
    Booted,
    Crowded,
    Damaged,
    Decision,
    Event,
    Judged,
    Phase,
    Policy,
    Retried,
    Seen,
    Trial,
    Unkept,
    same,
    with_story,
)

LEGAL: Final[Mapping[tuple[Phase, Phase], str]] = MappingProxyType(
    {
        (Phase.STEADY, Phase.ARMED): "change seen",
        (
            Phase.ARMED,
            Phase.STEADY,
        ): "undone, refused, another picked or booted once, or observe",
        (Phase.ARMED, Phase.TRIAL): "candidate booted",
        (Phase.ARMED, Phase.CONDEMNED): "never came up",
        (Phase.TRIAL, Phase.STEADY): "sound: blessed, or observe",
        (Phase.TRIAL, Phase.CONDEMNED): "worse, or left unproven",
        (Phase.CONDEMNED, Phase.RECOVERED): "known-good proven",
        (Phase.CONDEMNED, Phase.STRANDED): "known-good fails or is damaged",
        (Phase.CONDEMNED, Phase.STEADY): "observe",
        (Phase.RECOVERED, Phase.ARMED): "new change",
        (Phase.RECOVERED, Phase.STEADY): "change undone, retry or observe",
        (Phase.STRANDED, Phase.RECOVERED): "known-good proven",
        (Phase.STRANDED, Phase.STEADY): "retry or observe",
    }
)
"""Every move between phases, with the word that the diagram has for it."""


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
            return booted(trial, event, policy)
        case Seen():
            return seen(trial, event, policy)
        case Judged():
            return judged(trial, event, policy)
        case Retried() | Allowed():
            return _operator(trial, event)
        case Unkept() | Damaged() | Crowded():
            return _vault(trial, event, policy)


def _checked(before: Trial, decision: Decision) -> Decision:
    after = decision.trial
    if before.phase is not after.phase and (before.phase, after.phase) not in LEGAL:
        raise IllegalMoveError(f"{before.phase} to {after.phase}")
    wishes = [action.wish for action in decision.todo if isinstance(action, Tell)]
    kept = replace(
        after,
        cordon=wishes[-1].cordoned if wishes else after.cordon,
        replaced=after.replaced if after.phase is Phase.ARMED and after.candidate else None,
    )
    return replace(decision, trial=kept)


# --- the operator -----------------------------------------------------------------------------


def _operator(trial: Trial, event: Retried | Allowed) -> Decision:
    return _retried(trial, event) if isinstance(event, Retried) else _allowed(trial, event)


def _retried(trial: Trial, event: Retried) -> Decision:
    resting = trial.phase in {Phase.RECOVERED, Phase.STRANDED}
    again = replace(
        trial,
        phase=Phase.STEADY if resting else trial.phase,
        candidate=None if resting else trial.candidate,
        condemned=(),
        report_only="",
    )
    return same(with_story(again, event.at, "retry: the operator forgave what was condemned"))


def _allowed(trial: Trial, event: Allowed) -> Decision:
    refused = trial.refused
    if refused is None or not refused.objections:
        return same(trial)  # an obstacle is no question of leave
    allowed = (*trial.allowed, refused.fingerprint)[-MOST_ALLOWED:]
    words = f"allow: the operator wants {refused.release} to be tried all the same"
    return same(with_story(replace(trial, allowed=allowed, refused=None), event.at, words))


# --- the vault --------------------------------------------------------------------------------


def _vault(trial: Trial, event: Unkept | Damaged | Crowded, policy: Policy) -> Decision:
    match event:
        case Unkept():
            return unkept(trial, event, policy)
        case Damaged():
            return _damaged(trial, event, policy)
        case Crowded():
            return crowded(trial, event, policy)


def _damaged(trial: Trial, event: Damaged, policy: Policy) -> Decision:
    """Have the known-good made whole again, in any phase: it is what every fall ends on."""
    good = trial.known_good
    if not policy.armed or good is None or not trial.pinned or not event.why:
        return same(trial)
    words = f"the known-good was damaged and is mended: {event.why[0]}"
    if not trial.story or trial.story[-1].text != words:
        trial = with_story(trial, event.at, words)
    return Decision(trial=trial, todo=(Mend(good),))


def legal_moves() -> tuple[tuple[Phase, Phase, str], ...]:
    """Give the table for the diagram, in order."""
    return tuple((before, after, word) for (before, after), word in LEGAL.items())
