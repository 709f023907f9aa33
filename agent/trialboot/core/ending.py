"""How a trial ends: blessed, condemned, gone back from, or stranded; by a verdict or the vault."""

from dataclasses import replace

from trialboot.core.actions import (
    Action,
    ForgetOnce,
    GiveUp,
    Keep,
    PinKnownGood,
    Reboot,
    Secure,
    Tell,
)
from trialboot.core.bootset import BootSet
from trialboot.core.trial import (
    AT_REST,
    Choice,
    Condemned,
    Crowded,
    Decision,
    Judged,
    Phase,
    Policy,
    Trial,
    Unkept,
    first_reason,
    is_condemned,
    is_known_good,
    last_why,
    same,
    tell_cluster,
    with_story,
)
from trialboot.core.verdict import Outcome


def judged(trial: Trial, event: Judged, policy: Policy) -> Decision:
    """Decide what a verdict ends."""
    if event.boot != trial.boot:
        return same(trial)
    trial = replace(trial, judged=event.verdict)
    if not policy.armed:
        return same(trial)
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
            return same(trial)


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
        return same(trial)
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
        return same(trial)
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
    # Last at the loader: where the power goes before, all that is left over leads to the default.
    return Decision(trial=blessed, todo=(*_pin(proven), ForgetOnce(spent=True), tell))


def _roll_back(trial: Trial, event: Judged) -> Decision:
    words = f"verdict {event.verdict.outcome}: {first_reason(event.verdict)}"
    reasons = (*event.verdict.reasons, *event.verdict.evidence)
    decision = condemn(trial, event.at, words, reasons)
    if trial.known_good is None:
        return decision  # nothing to go back to
    return _going_back(decision, trial.known_good, words)


def _going_back(decision: Decision, good: BootSet, why: str) -> Decision:
    """Reboot after what is told, once a restart is known to end on the known-good."""
    told = tuple(action for action in decision.todo if isinstance(action, Tell))
    reboot = Reboot(why, decision.trial.boot)
    return replace(decision, todo=(*told, Secure(good), reboot))


def condemn(trial: Trial, at: str, why: str, reasons: tuple[str, ...] = ()) -> Decision:
    """End a trial, and remember its boot set as one that failed."""
    candidate = trial.candidate
    marked = trial.condemned
    if candidate and not is_condemned(trial, candidate.boot_set):
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
    if running is None or not is_known_good(trial, running):
        # The condemned candidate still runs: its reboot is under way, or did not stick.
        return same(trial)
    match event.verdict.outcome:
        case Outcome.SOUND:
            back = with_story(
                replace(trial, phase=Phase.RECOVERED),
                event.at,
                f"recovered: {running.boot_set.release} has proven its network",
            )
            words = f"back on {running.boot_set.release}: {last_why(trial)}"
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
            return strand(
                trial, event.at, f"the known-good fails too: {first_reason(event.verdict)}"
            )
        case Outcome.WORSE | Outcome.UNSURE:
            return same(trial)


def strand(trial: Trial, at: str, why: str) -> Decision:
    """Give up: cordoned, and no more reboots."""
    lost = with_story(replace(trial, phase=Phase.STRANDED), at, f"stranded: {why}")
    tell = tell_cluster(
        lost, at, "Stranded", why, cordoned=True, condition="False", notice="Warning"
    )
    return Decision(trial=lost, todo=(ForgetOnce(), tell))


# --- the vault --------------------------------------------------------------------------------


def unkept(trial: Trial, event: Unkept, policy: Policy) -> Decision:
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
            return same(trial)


def _not_secured(trial: Trial, event: Unkept, policy: Policy) -> Decision:
    """Go back further, to what was the known-good before: no reboot ends on damaged files."""
    good, before = trial.known_good, trial.previous
    words = f"the known-good {good.release if good else ''} is damaged: {event.why}"
    told = with_story(trial, event.at, words)
    running = trial.running if event.boot == trial.boot else None
    if not policy.armed or running is None or is_known_good(trial, running):
        return same(told)  # there is nothing to leave any more
    if before is None or is_condemned(trial, before):
        return strand(trial, event.at, f"{words}; no further reboot will be made")
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
    return _going_back(Decision(trial=back, todo=(tell,)), before, last_why(trial))


def crowded(trial: Trial, event: Crowded, policy: Policy) -> Decision:
    """Give up the generation before the known-good, where no boot set is being tried.

    Better a known-good with nothing behind it than a package run that fails for what is kept.
    """
    before = trial.previous
    if not policy.armed or trial.phase not in AT_REST or before is None:
        return same(trial)
    choices = (trial.candidate, trial.running)
    needed = [trial.known_good, *(choice.boot_set for choice in choices if choice)]
    if before.fingerprint != event.fingerprint or before in needed:
        return same(trial)
    words = f"{before.release}, from before the known-good, is kept no longer: {event.why}"
    rest = with_story(replace(trial, previous=None), event.at, words)
    return Decision(trial=rest, todo=(GiveUp(before),))
