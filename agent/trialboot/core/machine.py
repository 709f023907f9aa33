"""The life of a trial: phases, events, the table of legal moves, and `step`, all in this file.

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

`step` decides and does nothing. What it returns is stored before it is performed.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from trialboot.core.actions import (
    Action,
    BootOnce,
    ForgetOnce,
    Keep,
    Mend,
    PinKnownGood,
    Reboot,
    Secure,
    Tell,
    Unpin,
)
from trialboot.core.bootset import BootSet, shown
from trialboot.core.facts import Unknown
from trialboot.core.trial import (
    FALLBACK,
    MOST_ALLOWED,
    PICKED,
    Allowed,
    Booted,
    Choice,
    Condemned,
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
    against_trial,
    first_reason,
    standing_objections,
    tell_cluster,
    with_story,
)
from trialboot.core.verdict import Outcome

LEGAL: Final[Mapping[tuple[Phase, Phase], str]] = MappingProxyType(
    {
        (Phase.STEADY, Phase.ARMED): "change seen",
        (Phase.ARMED, Phase.STEADY): "change undone, refused, another picked, or observe",
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
            return _booted(trial, event, policy)
        case Seen():
            return _seen(trial, event, policy)
        case Judged():
            return _judged(trial, event, policy)
        case Unkept():
            return _unkept(trial, event, policy)
        case Retried() | Allowed():
            return _operator(trial, event)
        case Damaged():
            return _damaged(trial, event, policy)


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


def _same(trial: Trial) -> Decision:
    return Decision(trial=trial)


# --- a boot ---------------------------------------------------------------------------------


def _booted(trial: Trial, event: Booted, policy: Policy) -> Decision:
    if event.boot == trial.boot and (
        trial.running is not None or isinstance(event.running, Unknown)
    ):
        return _same(trial)
    if isinstance(event.running, Unknown):
        # Not knowing what runs: nothing is concluded, and the next snapshot asks again.
        return _same(
            with_story(
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
    return _same(with_story(rest, event.at, "observe mode: the trial was given up"))


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
    if _is_known_good(trial, running):
        return _booted_past(trial, event)
    if _is_condemned(trial, running.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        words = f"{running.boot_set.release} was booted, which is condemned: no second trial"
        return Decision(trial=with_story(rest, event.at, words), todo=(ForgetOnce(),))
    if not _is_armed(trial, event, running):
        words = f"{running.boot_set.release} was booted from the menu: respected, and not on trial"
        return _given_up(trial, event, words)
    # A power cut between the one-shot and its record lets it be set again under what it booted.
    trial = with_story(
        replace(trial, phase=Phase.TRIAL, candidate=running),
        event.at,
        f"trial: {running.boot_set.release} has booted ({shown(running.boot_set.fingerprint)})",
    )
    return Decision(
        trial=trial,
        todo=(
            *((ForgetOnce(),) if event.once_pending else ()),
            tell_cluster(
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


def _booted_past(trial: Trial, event: Booted) -> Decision:
    """Say what became of an armed candidate where the known-good runs."""
    if trial.candidate is None:  # it could not be kept, and was not tried
        return _same(replace(trial, phase=Phase.STEADY))
    # A power cut before the one-shot's record has it set again, under another candidate's failure
    # if that was replaced just then: only the known-good may still be waiting for it.
    untold = event.instead != FALLBACK or trial.replaced is not None
    if event.once_pending and untold:
        return _same(replace(trial, replaced=None))
    if event.instead == PICKED:
        words = f"the known-good was picked in the boot menu, not {_release(trial)}: respected"
        return _given_up(trial, event, words)
    return _never_came_up(trial, event)


def _is_armed(trial: Trial, event: Booted, running: Choice) -> bool:
    """Tell whether what runs was armed; a package run may have changed its files since.

    What was replaced runs where a power cut came before the new one-shot, which was set since.
    A candidate that could not be kept any more is not named: what else runs than it?
    """
    if trial.candidate is None:
        return True
    replaced = trial.replaced if event.once_pending else None
    return any(
        running.entry == choice.entry
        or running.boot_set.fingerprint == choice.boot_set.fingerprint
        for choice in (trial.candidate, replaced)
        if choice is not None
    )


def _given_up(trial: Trial, event: Booted, words: str) -> Decision:
    """End what was armed, and condemn nothing: the next look may arm it again."""
    rest = replace(trial, phase=Phase.STEADY, candidate=None)
    todo = (ForgetOnce(),) if event.once_pending else ()
    return Decision(trial=with_story(rest, event.at, words), todo=todo)


def _booted_trial(trial: Trial, event: Booted, running: Choice) -> Decision:
    candidate = trial.candidate
    if candidate and running.boot_set.fingerprint == candidate.boot_set.fingerprint:
        return _same(trial)
    return _condemn(trial, event.at, f"{_release(trial)} went down before it was proven")


def _never_came_up(trial: Trial, event: Booted) -> Decision:
    how = (
        "the boot loader could not load it"
        if event.instead == FALLBACK
        else "the boot loader went back by itself"
    )
    return _condemn(trial, event.at, f"{_release(trial)} never came up: {how}")


def _release(trial: Trial) -> str:
    return trial.candidate.boot_set.release if trial.candidate else "the candidate"


def _booted_condemned(trial: Trial, event: Booted, running: Choice) -> Decision:
    if _is_known_good(trial, running):
        return _same(
            with_story(trial, event.at, f"back on the known-good {running.boot_set.release}")
        )
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
        return _released(_with_refusal(trial, event), event.at)
    if trial.known_good is None or not trial.pinned:
        return _same(trial)
    return _with_right_once(_seen_pinned(trial, event, trial.known_good), event, trial.known_good)


def _seen_pinned(trial: Trial, event: Seen, good: BootSet) -> Decision:
    if isinstance(event.wanted, Unknown) or trial.running is None:
        # It may be a candidate that runs: nothing is armed or undone under it.
        return _same(trial)
    match trial.phase:
        case Phase.STEADY | Phase.RECOVERED:
            return _seen_at_rest(trial, event.at, event.wanted, good)
        case Phase.ARMED:
            return _seen_armed(trial, event.at, event.wanted, good)
        case Phase.TRIAL | Phase.CONDEMNED | Phase.STRANDED:
            return _same(trial)


def _with_right_once(decision: Decision, event: Seen, good: BootSet) -> Decision:
    """Have the one-shot be what was decided; what an operator set for once is left alone.

    Without the candidate's own the next boot would condemn what was never tried.
    """
    trial, once = decision.trial, event.once
    if any(isinstance(action, BootOnce | ForgetOnce) for action in decision.todo):
        return decision
    candidate = trial.candidate if trial.phase is Phase.ARMED else None
    if candidate and trial.running is None:
        return decision  # it may be what runs, and have consumed it
    if isinstance(once, Choice) and _is_condemned(trial, once.boot_set):
        words = (
            f"a one-shot led to {once.boot_set.release}, which is condemned: taken back "
            "(«trialboot retry» first)"
        )
    elif once is None and candidate:
        words = f"the one-shot for {candidate.boot_set.release} was gone: set again"
    else:
        return decision
    todo = _tries(good, candidate) if candidate else (ForgetOnce(), *decision.todo)
    return Decision(trial=with_story(trial, event.at, words), todo=todo)


def _released(trial: Trial, at: str) -> Decision:
    """Observe mode: loader and cordon are given back, whatever the phase."""
    if not trial.pinned and not trial.cordon:
        return _same(trial)
    loader = (ForgetOnce(), Unpin()) if trial.pinned else ()
    rest = replace(trial, phase=Phase.STEADY, pinned=False, candidate=None)
    words = "observe mode: boot loader and cordon are the host's own again"
    tell = tell_cluster(rest, at, "Observing", words, cordoned=False, condition="Unknown")
    return Decision(trial=with_story(rest, at, words), todo=(*loader, tell))


def _with_refusal(trial: Trial, event: Seen) -> Trial:
    """Remember in observe mode what a pre-check speaks against: nothing holds it back there."""
    if isinstance(event.wanted, Unknown):
        return trial
    # Nothing is tried in observe mode: what only hinders a trial is no news of the next boot.
    wanted = replace(event.wanted, obstacles=())
    if _is_refused(trial, wanted):
        return _refuse(trial, event.at, wanted).trial
    return replace(trial, refused=None)


def _seen_at_rest(trial: Trial, at: str, wanted: Choice, good: BootSet) -> Decision:
    if wanted.boot_set.fingerprint == good.fingerprint:
        trial = replace(trial, refused=None)
        if trial.phase is Phase.RECOVERED:
            return _same(
                with_story(
                    replace(trial, phase=Phase.STEADY, candidate=None),
                    at,
                    "the condemned change is gone from this host",
                )
            )
        return _same(trial)
    if _is_condemned(trial, wanted.boot_set):
        return _same(replace(trial, refused=None))
    if _is_refused(trial, wanted):
        return _refuse(trial, at, wanted)
    return _arm(replace(trial, story=()), at, wanted, good)


def _seen_armed(trial: Trial, at: str, wanted: Choice, good: BootSet) -> Decision:
    armed = trial.candidate
    if _is_refused(trial, wanted):
        # Also what is armed already: a module may have come into use since.
        refused = _refuse(replace(trial, phase=Phase.STEADY, candidate=None), at, wanted)
        return replace(refused, todo=(ForgetOnce(),))
    if armed and _names_the_same(armed, wanted):
        return _same(trial)
    if wanted.boot_set.fingerprint == good.fingerprint:
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        return Decision(trial=with_story(rest, at, "the change was undone"), todo=(ForgetOnce(),))
    if _is_condemned(trial, wanted.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        told = with_story(rest, at, "the host is back at a condemned boot set: not tried again")
        return Decision(trial=told, todo=(ForgetOnce(),))
    return _arm(trial, at, wanted, good)


def _is_refused(trial: Trial, wanted: Choice) -> bool:
    return bool(against_trial(trial, wanted))


def _refuse(trial: Trial, at: str, wanted: Choice) -> Decision:
    """Remember what is not tried, once; the loader's default is the known-good already."""
    refused = Refused(
        fingerprint=wanted.boot_set.fingerprint,
        release=wanted.boot_set.release,
        objections=standing_objections(trial, wanted),
        at=at,
        obstacles=wanted.obstacles,
    )
    if trial.refused and replace(trial.refused, at=at) == refused:
        return _same(trial)
    head = "this host cannot try it" if wanted.obstacles else "a pre-check failed"
    words = f"{head}: {refused.release}: {against_trial(trial, wanted)[0]}"
    return _same(with_story(replace(trial, refused=refused), at, words))


def _arm(trial: Trial, at: str, wanted: Choice, good: BootSet) -> Decision:
    armed = with_story(
        replace(
            trial,
            phase=Phase.ARMED,
            candidate=wanted,
            replaced=trial.candidate if trial.phase is Phase.ARMED else None,
            refused=None,
        ),
        at,
        f"armed: {wanted.summary or wanted.boot_set.release} "
        f"({shown(wanted.boot_set.fingerprint)})",
    )
    return Decision(trial=armed, todo=_tries(good, wanted))


def _tries(good: BootSet, wanted: Choice) -> tuple[Action, ...]:
    # The candidate is kept before it is tried: package files may change under a running trial.
    keep = Keep(wanted.boot_set, wanted.entry)
    return (PinKnownGood(good), keep, BootOnce(wanted.entry))


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
            return _judged_at_rest(trial, event, policy)
        case Phase.TRIAL:
            return _judged_trial(trial, event, policy)
        case Phase.CONDEMNED | Phase.STRANDED:
            return _judged_known_good(trial, event)


def _judged_at_rest(trial: Trial, event: Judged, policy: Policy) -> Decision:
    """No trial runs: nothing can be blamed, so nothing is rebooted."""
    match event.verdict.outcome:
        case Outcome.WORSE:
            return _worse_at_rest(trial, event, policy)
        case Outcome.SOUND:
            return _sound_at_rest(trial, event)
        case Outcome.UNSURE:
            return _same(trial)


def _worse_at_rest(trial: Trial, event: Judged, policy: Policy) -> Decision:
    """Tell, and cordon by policy: what the policy says now also undoes what it said before."""
    cordons = policy.cordon_at_rest
    none = "no reboot" if cordons else "no reboot, and no cordon by verify.cordon_at_rest"
    tell = tell_cluster(
        trial,
        event.at,
        "NetworkWorse",
        f"no change to blame, so {none}: {first_reason(event.verdict)}",
        cordoned=cordons,
        condition="False",
        notice="Warning",
    )
    return Decision(trial=trial, todo=(tell,))


def _sound_at_rest(trial: Trial, event: Judged) -> Decision:
    running = trial.running
    # A boot set is earned once: what the operator boots by hand beside a pinned known-good is not.
    earned = running is not None and trial.phase is Phase.STEADY and not trial.pinned
    if running and earned:
        trial = with_story(
            replace(trial, known_good=running.boot_set, pinned=True, previous=None),
            event.at,
            f"{running.boot_set.release} has proven itself and is the known-good",
        )
    words = f"{running.boot_set.release if running else 'this boot'} has proven its network"
    tell = tell_cluster(trial, event.at, "BootProven", words, cordoned=False, condition="True")
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
            words = f"not proven and not refuted: {first_reason(event.verdict)}"
            return Decision(
                trial=with_story(trial, event.at, f"unsure: {first_reason(event.verdict)}"),
                todo=(
                    tell_cluster(
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
    blessed = with_story(
        replace(
            trial,
            phase=Phase.STEADY,
            known_good=proven.boot_set,
            pinned=True,
            previous=trial.known_good,
            candidate=None,
        ),
        event.at,
        f"blessed: {proven.boot_set.release} has proven itself and is the known-good",
    )
    words = f"{proven.boot_set.release} has proven its network and is the known-good"
    tell = tell_cluster(
        blessed, event.at, "BootProven", words, cordoned=False, condition="True", notice="Normal"
    )
    return Decision(trial=blessed, todo=(*_pin(proven), tell))


def _roll_back(trial: Trial, event: Judged) -> Decision:
    words = f"verdict {event.verdict.outcome}: {first_reason(event.verdict)}"
    reasons = (*event.verdict.reasons, *event.verdict.evidence)
    decision = _condemn(trial, event.at, words, reasons)
    if trial.known_good is None:
        return decision  # nothing to go back to
    return _going_back(decision, trial.known_good, words)


def _going_back(decision: Decision, good: BootSet, why: str) -> Decision:
    """Reboot after what is told, once a restart is known to end on the known-good."""
    told = tuple(action for action in decision.todo if isinstance(action, Tell))
    reboot = Reboot(why, decision.trial.boot)
    return replace(decision, todo=(*told, Secure(good), reboot))


def _condemn(trial: Trial, at: str, why: str, reasons: tuple[str, ...] = ()) -> Decision:
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
    over = with_story(
        replace(trial, phase=Phase.CONDEMNED, condemned=marked), at, f"condemned: {why}"
    )
    tell = tell_cluster(
        over, at, "TrialFailed", why, cordoned=True, condition="False", notice="Warning"
    )
    return Decision(trial=over, todo=(ForgetOnce(), tell))


def _judged_known_good(trial: Trial, event: Judged) -> Decision:
    running = trial.running
    if running is None or not _is_known_good(trial, running):
        # The condemned candidate still runs: its reboot is under way, or did not stick.
        return _same(trial)
    match event.verdict.outcome:
        case Outcome.SOUND:
            back = with_story(
                replace(trial, phase=Phase.RECOVERED),
                event.at,
                f"recovered: {running.boot_set.release} has proven its network",
            )
            words = f"back on {running.boot_set.release}: {_last_why(trial)}"
            return Decision(
                trial=back,
                todo=(
                    tell_cluster(
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
            return _strand(
                trial, event.at, f"the known-good fails too: {first_reason(event.verdict)}"
            )
        case Outcome.WORSE | Outcome.UNSURE:
            return _same(trial)


def _strand(trial: Trial, at: str, why: str) -> Decision:
    lost = with_story(replace(trial, phase=Phase.STRANDED), at, f"stranded: {why}")
    tell = tell_cluster(
        lost, at, "Stranded", why, cordoned=True, condition="False", notice="Warning"
    )
    return Decision(trial=lost, todo=(ForgetOnce(), tell))


# --- the vault --------------------------------------------------------------------------------


def _unkept(trial: Trial, event: Unkept, policy: Policy) -> Decision:
    """Give up a pin: keeping comes first, so the loader still has what it had."""
    words = f"could not be kept, so nothing was pinned: {event.why}"
    match trial.phase:
        case Phase.ARMED:
            # After a power cut an earlier one-shot may have booted it: `Booted` will tell.
            now = Phase.STEADY if event.boot == trial.boot else Phase.ARMED
            rest = replace(trial, phase=now, candidate=None)
            return Decision(trial=with_story(rest, event.at, words), todo=(ForgetOnce(),))
        case Phase.STEADY:
            before = trial.previous
            rest = replace(trial, known_good=before, pinned=before is not None, previous=None)
            # The boot itself was sound: the node is not held back for it.
            tell = tell_cluster(
                rest, event.at, "BootUnkept", words, cordoned=False, condition="True"
            )
            return Decision(trial=with_story(rest, event.at, words), todo=(tell,))
        case Phase.CONDEMNED:
            return _not_secured(trial, event, policy)
        case Phase.TRIAL | Phase.RECOVERED | Phase.STRANDED:
            return _same(trial)


def _not_secured(trial: Trial, event: Unkept, policy: Policy) -> Decision:
    """Go back further, to what was the known-good before: no reboot ends on damaged files."""
    good, before = trial.known_good, trial.previous
    words = f"the known-good {good.release if good else ''} is damaged: {event.why}"
    told = with_story(trial, event.at, words)
    running = trial.running if event.boot == trial.boot else None
    if not policy.armed or running is None or _is_known_good(trial, running):
        return _same(told)  # there is nothing to leave any more
    if before is None or _is_condemned(trial, before):
        return _strand(trial, event.at, f"{words}; no further reboot will be made")
    words = f"{before.release} is the known-good again, for {words}"
    back = with_story(replace(trial, known_good=before, previous=None), event.at, words)
    tell = tell_cluster(
        back,
        event.at,
        "KnownGoodDamaged",
        words,
        cordoned=True,
        condition="False",
        notice="Warning",
    )
    return _going_back(Decision(trial=back, todo=(tell,)), before, _last_why(trial))


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
    return _same(with_story(again, event.at, "retry: the operator forgave what was condemned"))


def _allowed(trial: Trial, event: Allowed) -> Decision:
    refused = trial.refused
    if refused is None or not refused.objections:
        return _same(trial)  # an obstacle is no question of leave
    allowed = (*trial.allowed, refused.fingerprint)[-MOST_ALLOWED:]
    words = f"allow: the operator wants {refused.release} to be tried all the same"
    return _same(with_story(replace(trial, allowed=allowed, refused=None), event.at, words))


def _damaged(trial: Trial, event: Damaged, policy: Policy) -> Decision:
    """Have the known-good made whole again, in any phase: it is what every fall ends on."""
    good = trial.known_good
    if not policy.armed or good is None or not trial.pinned or not event.why:
        return _same(trial)
    words = f"the known-good was damaged and is mended: {event.why[0]}"
    if not trial.story or trial.story[-1].text != words:
        trial = with_story(trial, event.at, words)
    return Decision(trial=trial, todo=(Mend(good),))


def _last_why(trial: Trial) -> str:
    return trial.condemned[-1].why if trial.condemned else "the trial ended"


def _trial_words(trial: Trial) -> str:
    candidate = trial.candidate
    return f"first boot of {candidate.boot_set.release}" if candidate else "first boot"


def legal_moves() -> tuple[tuple[Phase, Phase, str], ...]:
    """Give the table for the diagram, in order."""
    return tuple((before, after, word) for (before, after), word in LEGAL.items())
