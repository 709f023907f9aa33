"""What becomes of what the next boot would be: the part of the law for `Seen`."""

from dataclasses import replace

from trialboot.core.actions import Action, BootOnce, ForgetOnce, Keep, PinKnownGood, Unpin
from trialboot.core.bootset import BootSet, shown
from trialboot.core.facts import Unknown
from trialboot.core.trial import (
    Choice,
    Decision,
    Phase,
    Policy,
    Refused,
    Seen,
    Trial,
    against_trial,
    is_condemned,
    is_ours,
    leads_alike,
    same,
    standing_objections,
    tell_cluster,
    with_story,
)


def seen(trial: Trial, event: Seen, policy: Policy) -> Decision:
    """Decide what becomes of what the next boot would be."""
    if not policy.armed:
        return _released(_with_refusal(trial, event), event)
    if trial.known_good is None or not trial.pinned:
        return same(trial)
    return _with_right_once(_seen_pinned(trial, event, trial.known_good), event, trial.known_good)


def _seen_pinned(trial: Trial, event: Seen, good: BootSet) -> Decision:
    if isinstance(event.wanted, Unknown) or trial.running is None:
        # It may be a candidate that runs: nothing is armed or undone under it.
        return same(trial)
    match trial.phase:
        case Phase.STEADY | Phase.RECOVERED:
            return _seen_at_rest(trial, event, event.wanted, good)
        case Phase.ARMED:
            return _seen_armed(trial, event, event.wanted, good)
        case Phase.TRIAL | Phase.CONDEMNED | Phase.STRANDED:
            return same(trial)


def _somebodys(trial: Trial, event: Seen) -> Choice | None:
    """Give the one-shot that somebody else has set (grub-reboot); None where there is none."""
    once, wanted = event.once, event.wanted
    if not isinstance(once, Choice):
        return None
    as_wanted = isinstance(wanted, Choice) and leads_alike(once, wanted)
    ours = as_wanted or is_ours(trial, once) or is_condemned(trial, once.boot_set)
    return None if ours else once


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
    if isinstance(once, Choice) and is_condemned(trial, once.boot_set):
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


def _released(trial: Trial, event: Seen) -> Decision:
    """Observe mode: loader and cordon are given back, whatever the phase."""
    if not trial.pinned and not trial.cordon:
        return same(trial)
    forget = () if _somebodys(trial, event) else (ForgetOnce(),)
    loader = (*forget, Unpin()) if trial.pinned else ()
    rest = replace(trial, phase=Phase.STEADY, pinned=False, candidate=None)
    words = "observe mode: boot loader and cordon are the host's own again"
    tell = tell_cluster(rest, event.at, "Observing", words, cordoned=False, condition="Unknown")
    return Decision(trial=with_story(rest, event.at, words), todo=(*loader, tell))


def _with_refusal(trial: Trial, event: Seen) -> Trial:
    """Remember in observe mode what a pre-check speaks against: nothing holds it back there."""
    if isinstance(event.wanted, Unknown):
        return trial
    # Nothing is tried in observe mode: what only hinders a trial is no news of the next boot.
    wanted = replace(event.wanted, obstacles=())
    if _is_refused(trial, wanted):
        return _refuse(trial, event.at, wanted).trial
    return replace(trial, refused=None)


def _seen_at_rest(trial: Trial, event: Seen, wanted: Choice, good: BootSet) -> Decision:
    if wanted.boot_set.fingerprint == good.fingerprint:
        trial = replace(trial, refused=None)
        if trial.phase is Phase.RECOVERED:
            return same(
                with_story(
                    replace(trial, phase=Phase.STEADY, candidate=None),
                    event.at,
                    "the condemned change is gone from this host",
                )
            )
        return same(trial)
    if is_condemned(trial, wanted.boot_set):
        return same(replace(trial, refused=None))
    if _is_refused(trial, wanted):
        return _refuse(trial, event.at, wanted)
    if once := _somebodys(trial, event):
        return _wait(trial, event.at, wanted, once)
    return _arm(replace(trial, story=()), event.at, wanted, good)


def _seen_armed(trial: Trial, event: Seen, wanted: Choice, good: BootSet) -> Decision:
    at, armed = event.at, trial.candidate
    if once := _somebodys(trial, event):
        # It stands where ours stood: if it fails to come up, that is not held against ours.
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        told = with_story(rest, at, f"armed no more: {_wish(once)}")
        return _seen_at_rest(told, event, wanted, good)
    if _is_refused(trial, wanted):
        # Also what is armed already: a module may have come into use since.
        refused = _refuse(replace(trial, phase=Phase.STEADY, candidate=None), at, wanted)
        return replace(refused, todo=(ForgetOnce(),))
    if armed and _names_the_same(armed, wanted):
        return same(trial)
    if wanted.boot_set.fingerprint == good.fingerprint:
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        return Decision(trial=with_story(rest, at, "the change was undone"), todo=(ForgetOnce(),))
    if is_condemned(trial, wanted.boot_set):
        rest = replace(trial, phase=Phase.STEADY, candidate=None)
        told = with_story(rest, at, "the host is back at a condemned boot set: not tried again")
        return Decision(trial=told, todo=(ForgetOnce(),))
    return _arm(trial, at, wanted, good)


def _is_refused(trial: Trial, wanted: Choice) -> bool:
    return bool(against_trial(trial, wanted))


def _wait(trial: Trial, at: str, wanted: Choice, once: Choice) -> Decision:
    """Arm nothing over what somebody wants to be booted once: the look after that boot does."""
    words = f"{_wish(once)}; the change is armed after that"
    return _refuse(trial, at, replace(wanted, obstacles=(words,)), head="not armed yet")


def _wish(once: Choice) -> str:
    return f"«{once.entry}» is booted once by somebody's wish"


def _refuse(trial: Trial, at: str, wanted: Choice, *, head: str = "") -> Decision:
    """Remember what is not tried, once; the loader's default is the known-good already."""
    refused = Refused(
        fingerprint=wanted.boot_set.fingerprint,
        release=wanted.boot_set.release,
        objections=standing_objections(trial, wanted),
        at=at,
        obstacles=wanted.obstacles,
    )
    if trial.refused and replace(trial.refused, at=at) == refused:
        return same(trial)
    why = "this host cannot try it" if wanted.obstacles else "a pre-check failed"
    words = f"{head or why}: {refused.release}: {against_trial(trial, wanted)[0]}"
    return same(with_story(replace(trial, refused=refused), at, words))


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
