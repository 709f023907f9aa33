"""What a boot means for a trial: the part of the law that `machine.step` asks for `Booted`."""

from dataclasses import replace

from trialboot.core.actions import ForgetOnce
from trialboot.core.bootset import shown
from trialboot.core.ending import condemn, strand
from trialboot.core.facts import Unknown
from trialboot.core.trial import (
    FALLBACK,
    PICKED,
    Booted,
    Choice,
    Decision,
    Phase,
    Policy,
    Trial,
    is_condemned,
    is_known_good,
    is_ours,
    leads_alike,
    same,
    tell_cluster,
    with_story,
)


def booted(trial: Trial, event: Booted, policy: Policy) -> Decision:
    """Decide what a boot means."""
    if event.boot == trial.boot and (
        trial.running is not None or isinstance(event.running, Unknown)
    ):
        return same(trial)
    if isinstance(event.running, Unknown):
        # Not knowing what runs: nothing is concluded, and the next snapshot asks again.
        return same(
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
        return same(trial)
    rest = replace(trial, phase=Phase.STEADY, candidate=None)
    return same(with_story(rest, event.at, "observe mode: the trial was given up"))


def _booted_known(trial: Trial, event: Booted, running: Choice) -> Decision:
    match trial.phase:
        case Phase.ARMED:
            return _booted_armed(trial, event, running)
        case Phase.TRIAL:
            return _booted_trial(trial, event, running)
        case Phase.CONDEMNED:
            return _booted_condemned(trial, event, running)
        case Phase.STEADY | Phase.RECOVERED | Phase.STRANDED:
            return same(trial)


def _booted_armed(trial: Trial, event: Booted, running: Choice) -> Decision:
    if is_known_good(trial, running):
        return _booted_past(trial, event)
    if is_condemned(trial, running.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        words = f"{running.boot_set.release} was booted, which is condemned: no second trial"
        return Decision(trial=with_story(rest, event.at, words), todo=(ForgetOnce(),))
    if not _is_armed(trial, event, running):
        words = f"{running.boot_set.release} was booted from the menu: respected, and not on trial"
        return _given_up(trial, event, words)
    # A power cut between the one-shot and its record lets it be set again under what it booted.
    forget = (ForgetOnce(),) if _still_waits(trial, event) else ()
    trial = with_story(
        replace(trial, phase=Phase.TRIAL, candidate=running),
        event.at,
        f"trial: {running.boot_set.release} has booted ({shown(running.boot_set.fingerprint)})",
    )
    return Decision(
        trial=trial,
        todo=(
            *forget,
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
        return same(replace(trial, phase=Phase.STEADY))
    # A power cut before the one-shot's record has it set again, under another candidate's failure
    # if that was replaced just then: only the known-good may still be waiting for it.
    untold = event.instead != FALLBACK or trial.replaced is not None
    if _still_waits(trial, event) and untold:
        return same(replace(trial, replaced=None))
    if event.instead == PICKED:
        words = f"the known-good was picked in the boot menu, not {_release(trial)}: respected"
        return _given_up(trial, event, words)
    return _never_came_up(trial, event)


def _still_waits(trial: Trial, event: Booted) -> bool:
    """Tell whether our one-shot is still to come: somebody else's says nothing of the candidate.

    Theirs stays, and ours is gone: taken by this boot, or overwritten. So the candidate counts as
    tried, for it must not be tried twice.
    """
    once = event.once
    return event.once_pending and (not isinstance(once, Choice) or is_ours(trial, once))


def _is_armed(trial: Trial, event: Booted, running: Choice) -> bool:
    """Tell whether what runs was armed; a package run may have changed its files since.

    What was replaced runs where a power cut came before the new one-shot, which was set since.
    A candidate that could not be kept any more is not named: what else runs than it?
    """
    if trial.candidate is None:
        return True
    replaced = trial.replaced if event.once_pending else None
    return any(
        leads_alike(running, choice)
        for choice in (trial.candidate, replaced)
        if choice is not None
    )


def _given_up(trial: Trial, event: Booted, words: str) -> Decision:
    """End what was armed, and condemn nothing: the next look may arm it again."""
    rest = replace(trial, phase=Phase.STEADY, candidate=None)
    todo = (ForgetOnce(),) if _still_waits(trial, event) else ()
    return Decision(trial=with_story(rest, event.at, words), todo=todo)


def _booted_trial(trial: Trial, event: Booted, running: Choice) -> Decision:
    candidate = trial.candidate
    if candidate and running.boot_set.fingerprint == candidate.boot_set.fingerprint:
        return same(trial)
    return condemn(trial, event.at, f"{_release(trial)} went down before it was proven")


def _never_came_up(trial: Trial, event: Booted) -> Decision:
    how = (
        "the boot loader could not load it"
        if event.instead == FALLBACK
        else "a panic, a hang, emergency mode or a power cut came before trialboot ran in it"
    )
    return condemn(trial, event.at, f"{_release(trial)} never came up: {how}")


def _release(trial: Trial) -> str:
    return trial.candidate.boot_set.release if trial.candidate else "the candidate"


def _booted_condemned(trial: Trial, event: Booted, running: Choice) -> Decision:
    if is_known_good(trial, running):
        return same(
            with_story(trial, event.at, f"back on the known-good {running.boot_set.release}")
        )
    why = (
        f"the rollback did not stick: {running.boot_set.release} runs, not the known-good; "
        "no further reboot will be made"
    )
    return strand(trial, event.at, why)


def _trial_words(trial: Trial) -> str:
    candidate = trial.candidate
    return f"first boot of {candidate.boot_set.release}" if candidate else "first boot"
