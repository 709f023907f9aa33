"""The shell of the machine: step, remember, perform, and the rest of it after a power cut."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol, TypeAlias

from trialboot.core.actions import (
    PIN_ACTIONS,
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
from trialboot.core.facts import BootId
from trialboot.core.language import assert_never
from trialboot.core.machine import step
from trialboot.core.node import Wish
from trialboot.core.trial import Booted, Decision, Event, Phase, Policy, Trial
from trialboot.errors import StoreError, TrialbootError

_Remember: TypeAlias = Callable[[Decision], None]


class Hands(Protocol):
    """What performing needs of a host. The daemon has one, `trialboot run` another."""

    @property
    def boot(self) -> BootId:
        """The boot that this process runs in."""

    def save(self, decision: Decision) -> None:
        """Remember durably. Raises `StoreError` where the disk is full or broken."""

    def hold(self, decision: Decision) -> None:
        """Remember for this boot alone, where the pin worker finds it."""

    def pin(self, decision: Decision, actions: Sequence[Action]) -> None:
        """Perform the leading loader and vault actions of a decision that is on disk."""

    def tell(self, wish: Wish) -> None:
        """Remember the wish for the cluster; delivering it is not waited for."""

    def reboot(self, why: str) -> None:
        """Restart the machine. Raises until it is known not to be wanted any more.

        A restart that was asked for may not come: then it is still to be done.
        """


def advance(trial: Trial, event: Event, policy: Policy, hands: Hands) -> Decision:
    """Step, remember, perform. Gives the decision with what is left to do (nothing, if all went).

    An error of a hand leaves the rest of the decision on disk; `finish` takes it up again.
    """
    decision = step(trial, event, policy)
    if decision.trial == trial and not decision.todo:
        return decision
    remember = _memory_for(decision, hands)
    remember(decision)
    return _perform_all(decision, hands, remember)


def finish(decision: Decision, hands: Hands) -> Decision:
    """Perform what is left of a decision; each step is remembered, and may be done twice."""
    remember = _memory_for(decision, hands)
    if any(isinstance(action, BootOnce) for action in decision.todo):
        # It may have been booted already, and be what runs: where that could not be remembered
        # afterwards, each boot would set it anew, and a candidate that panics would loop.
        remember(decision)
    return _perform_all(decision, hands, remember)


def overtaking(decision: Decision, event: Event, policy: Policy) -> Event | None:
    """Give what may be told although a decision is not performed yet; None for all else.

    An armed candidate runs: what is left of arming it is idle. The loader is taken to hold the
    one-shot that is still to be set, as it would if that had been performed first.
    """
    trial = decision.trial
    if not isinstance(event, Booted) or trial.phase is not Phase.ARMED:
        return None
    told = replace(event, once_pending=True)
    return told if step(trial, told, policy).trial.phase is Phase.TRIAL else None


def _perform_all(decision: Decision, hands: Hands, remember: _Remember) -> Decision:
    while decision.todo:
        try:
            over = _is_left_over(decision, hands.boot)
            done = 1 if over else _perform_next(decision, hands)
        except TrialbootError as error:
            if not may_be_left_out(decision, error):
                raise
            done = 1
        decision = replace(decision, todo=decision.todo[done:])
        remember(decision)
    return decision


def _memory_for(decision: Decision, hands: Hands) -> _Remember:
    """Give what remembers a decision and each rest of it.

    A full disk must not keep a node on a bad candidate. What only runs or ends a trial may be
    forgotten: the record before it, armed or on trial with this candidate, leads to the same end
    once the known-good boots, and arms nothing. All else is done only if it can be remembered.
    """
    forgettable = may_be_forgotten(decision)

    def remember(rest: Decision) -> None:
        try:
            hands.save(rest)
        except StoreError:
            if not forgettable:
                raise
            hands.hold(rest)

    return remember


def may_be_forgotten(decision: Decision) -> bool:
    """Tell whether a decision only runs or ends a trial: a full disk does not hold it up."""
    if any(isinstance(action, Reboot) for action in decision.todo):
        return True
    harmless = all(isinstance(action, ForgetOnce | Tell | Mend) for action in decision.todo)
    return decision.trial.phase is Phase.TRIAL and harmless


def may_be_left_out(decision: Decision, error: TrialbootError) -> bool:
    """Tell what is tried and not insisted on: telling before a rollback, and mending.

    The cluster is told again after the reboot. That the reboot ends on the known-good is insisted
    on (`Secure`). Mending is asked for again by the next snapshot: it must not hold up a verdict,
    and nor must a cordon that a full disk cannot remember. What is given up and still there, the
    next run of the pin worker tidies away.
    """
    first, *rest = decision.todo
    match first:
        case Mend() | GiveUp():
            return True
        case Tell():
            rolls_back = any(isinstance(action, Reboot) for action in rest)
            full = isinstance(error, StoreError) and decision.trial.phase is Phase.TRIAL
            return rolls_back or full
        case _:
            return False


def _is_left_over(decision: Decision, boot: BootId) -> bool:
    """Tell whether a reboot is to be made safe that would leave a boot which has ended already."""
    match decision.todo:
        case (Secure(), Reboot(_, leaving), *_):
            return leaving != boot
        case _:
            return False


def _perform_next(decision: Decision, hands: Hands) -> int:
    """Perform the next action, or run of pin actions; give how many.

    What secures a reboot and the reboot are one: whoever takes it up again checks again.
    """
    pins = list(takewhile(lambda action: isinstance(action, PIN_ACTIONS), decision.todo))
    if not pins:
        _perform(decision.todo[0], hands)
        return 1
    hands.pin(decision, pins)
    if not isinstance(pins[-1], Secure):
        return len(pins)
    _perform(decision.todo[len(pins)], hands)
    return len(pins) + 1


def _perform(action: Action, hands: Hands) -> None:
    match action:
        case Tell(wish):
            hands.tell(wish)
        case Reboot(why, leaving):
            if leaving == hands.boot:
                hands.reboot(why)
        case (
            Keep()
            | PinKnownGood()
            | BootOnce()
            | ForgetOnce()
            | Unpin()
            | Mend()
            | Secure()
            | GiveUp()
        ):
            raise AssertionError(f"{action} is the pin worker's")
        case _:
            assert_never(action)
