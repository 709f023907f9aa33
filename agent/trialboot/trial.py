"""The shell of the machine: step, remember, perform, and the rest of it after a power cut."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol

from trialboot.core.actions import (
    PIN_ACTIONS,
    Action,
    BootOnce,
    ForgetOnce,
    Keep,
    Mend,
    PinKnownGood,
    Reboot,
    Tell,
    Unpin,
)
from trialboot.core.facts import BootId
from trialboot.core.language import assert_never
from trialboot.core.machine import step
from trialboot.core.node import Wish
from trialboot.core.trial import Decision, Event, Policy, Trial
from trialboot.errors import TrialbootError


class Hands(Protocol):
    """What performing needs of a host. The daemon has one, `trialboot run` another."""

    @property
    def boot(self) -> BootId:
        """The boot that this process runs in."""

    def save(self, decision: Decision) -> None:
        """Remember durably."""

    def pin(self, decision: Decision, actions: Sequence[Action]) -> None:
        """Perform the leading loader and vault actions of a decision that is on disk."""

    def tell(self, wish: Wish) -> None:
        """Remember the wish for the cluster; delivering it is not waited for."""

    def reboot(self, why: str) -> None:
        """Restart the machine."""


def advance(trial: Trial, event: Event, policy: Policy, hands: Hands) -> Decision:
    """Step, remember, perform. Gives the decision with what is left to do (nothing, if all went).

    An error of a hand leaves the rest of the decision on disk; `finish` takes it up again.
    """
    decision = step(trial, event, policy)
    if decision.trial == trial and not decision.todo:
        return decision
    hands.save(decision)
    return finish(decision, hands)


def finish(decision: Decision, hands: Hands) -> Decision:
    """Perform what is left of a decision; each step is remembered, and may be done twice."""
    while decision.todo:
        try:
            done = _perform_next(decision, hands)
        except TrialbootError:
            if not _may_be_left_out(decision):
                raise
            done = 1
        decision = replace(decision, todo=decision.todo[done:])
        hands.save(decision)
    return decision


def _may_be_left_out(decision: Decision) -> bool:
    """Tell what is tried and not insisted on: before a rollback's reboot, and mending.

    The loader has consumed its one-shot by then, and the cluster is told again after the reboot:
    neither a full disk nor a broken loader file may keep a node on a condemned boot set. Mending
    is asked for again by the next snapshot: it must not hold up a verdict.
    """
    first, *rest = decision.todo
    if isinstance(first, Mend):
        return True
    return isinstance(first, ForgetOnce | Tell) and any(isinstance(a, Reboot) for a in rest)


def _perform_next(decision: Decision, hands: Hands) -> int:
    """Perform the next action, or run of pin actions; give how many."""
    pins = list(takewhile(lambda action: isinstance(action, PIN_ACTIONS), decision.todo))
    if pins:
        hands.pin(decision, pins)
        return len(pins)
    _perform(decision.todo[0], hands)
    return 1


def _perform(action: Action, hands: Hands) -> None:
    match action:
        case Tell(wish):
            hands.tell(wish)
        case Reboot(why, leaving):
            if leaving == hands.boot:
                hands.reboot(why)
        case Keep() | PinKnownGood() | BootOnce() | ForgetOnce() | Unpin() | Mend():
            raise AssertionError(f"{action} is the pin worker's")
        case _:
            assert_never(action)
