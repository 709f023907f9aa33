"""No accident leads where nobody may be, and the explorer would say so if one did.

Run with `pytest -s` to see how many worlds there are; TRIALBOOT_EXPLORE_DEPTH goes deeper.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.unit.core import model
from tests.unit.core.explorer import DEPTH, Explorer
from tests.unit.core.mutants import mutants_of
from tests.unit.core.world import Family
from trialboot.core import arming, booting, ending, machine
from trialboot.core.actions import Secure
from trialboot.core.record import parse, plain
from trialboot.core.trial import Decision


def test_no_accident_leads_where_nobody_may_be() -> None:
    explorer = Explorer()
    explorer.explore(DEPTH)
    seen = explorer.summary(DEPTH)
    print(seen)
    for decision in explorer.model.shelf.decisions:
        assert parse(Decision, json.loads(json.dumps(plain(decision)))) == decision
    assert not explorer.broken, f"{seen}\n{explorer.told()}"


# --- a wrong law is found out -------------------------------------------------------------------

NEAR: Final = 4
LAW: Final = (machine, booting, arming, ending)
MUTANTS: Final = {mutant.name: mutant for module in LAW for mutant in mutants_of(module)}
CONDEMNED_ONCE: Final = "isinstance(once, Choice) and is_condemned(trial, once.boot_set)"
WRONG: Final = {
    "a human's choice of the known-good condemns the candidate": (
        "booting._booted_past: event.instead == PICKED -> False"
    ),
    "whatever a human picks is on trial": (
        "booting._booted_armed: not _is_armed(trial, event, running) -> False"
    ),
    "a candidate that was armed is taken for a human's choice": (
        "booting._booted_armed: not _is_armed(trial, event, running) -> True"
    ),
    "the failure of a one-shot that still waits is held against it": (
        "booting._booted_past: _still_waits(trial, event) and untold -> False"
    ),
    "a one-shot is set anew under what may have consumed it": (
        "arming._with_right_once: candidate and trial.running is None -> False"
    ),
    "a stray one-shot to a condemned boot set is left alone": (
        f"arming._with_right_once: {CONDEMNED_ONCE} -> False"
    ),
    "a condemned boot set is tried again": (
        "arming._seen_at_rest: is_condemned(trial, wanted.boot_set) -> False"
    ),
    "what this host cannot try is tried": (
        "arming._seen_at_rest: _is_refused(trial, wanted) -> False"
    ),
    "a verdict on another boot counts": "ending.judged: event.boot != trial.boot -> False",
    "a default that somebody else set is left alone": (
        "machine._damaged: not policy.armed or good is None or (not trial.pinned) or "
        "(not event.why) -> True"
    ),
    "the generation before the known-good is given up while a trial is on": (
        "ending.crowded: not policy.armed or trial.phase not in AT_REST or before is None -> "
        "not policy.armed or before is None"
    ),
    "what runs, or the record still names, is given up": (
        "ending.crowded: before.fingerprint != event.fingerprint or before in needed -> "
        "before.fingerprint != event.fingerprint"
    ),
    "a candidate on trial that went down goes on": (
        "booting._booted_trial: candidate and running.boot_set.fingerprint == "
        "candidate.boot_set.fingerprint -> True"
    ),
}


@pytest.mark.parametrize("name", WRONG.values(), ids=WRONG)
def test_a_wrong_law_is_found_out_with_a_story(name: str) -> None:
    with MUTANTS[name].alive():
        broken = _broken()
    assert broken


def _broken() -> dict[str, list[str]]:
    explorer = Explorer()
    explorer.explore(NEAR, stop_early=True)
    for story in explorer.broken.values():
        assert 1 <= len(story) <= NEAR + 8, "the shortest story, and what calm makes of it"
    return explorer.broken


WISHED: Final = {
    "a change is armed over somebody's one-shot": (
        "arming._seen_at_rest: (once := _somebodys(trial, event)) -> False"
    ),
    "a candidate stays armed beside somebody's one-shot": (
        "arming._seen_armed: (once := _somebodys(trial, event)) -> False"
    ),
    "our own one-shot is taken for somebody's": (
        "arming._somebodys: as_wanted or is_ours(trial, once) or is_condemned(trial, "
        "once.boot_set) -> as_wanted or is_condemned(trial, once.boot_set)"
    ),
    "observe mode takes somebody's one-shot back": (
        "arming._released: () if _somebodys(trial, event) else (ForgetOnce(),) -> (ForgetOnce(),)"
    ),
    "somebody's one-shot is taken for ours": (
        "booting._still_waits: event.once_pending and (not isinstance(once, Choice) or "
        "is_ours(trial, once)) -> event.once_pending"
    ),
}


class _Strangers(model.Model):
    """Only the worlds in which somebody else is at the loader: they are few."""

    def roots(self) -> Iterator[model.Step]:
        yield from self._family(Family.OTHERS)


@pytest.mark.parametrize("name", WISHED.values(), ids=WISHED)
def test_a_wrong_law_for_somebodys_one_shot_is_found_out(name: str) -> None:
    explorer = Explorer(model=_Strangers())
    with MUTANTS[name].alive():
        explorer.explore(NEAR + 1, stop_early=True)
    assert explorer.broken


def _unsecured(right: Callable[..., Decision]) -> Callable[..., Decision]:
    def wrong(*given: Any) -> Decision:
        decision = right(*given)
        todo = tuple(action for action in decision.todo if not isinstance(action, Secure))
        return replace(decision, todo=todo)

    return wrong


def test_a_reboot_that_nothing_has_secured_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_going_back", _unsecured(ending._going_back))
    assert any(law.startswith("unbootable:") for law in _broken())


@pytest.mark.parametrize("held", [True, False])
def test_a_shell_that_forgets_too_much_or_too_little_is_found_out(
    monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    monkeypatch.setattr(model, "may_be_forgotten", lambda _: held)
    assert _broken()
