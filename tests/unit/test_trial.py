"""Step, remember, perform: whatever happens between two effects, the end is the same."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, get_args

import pytest

from tests.unit.core.samples import boot_set
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
from trialboot.core.facts import BootId, EntryId
from trialboot.core.machine import step
from trialboot.core.node import Wish
from trialboot.core.record import parse, plain
from trialboot.core.trial import (
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
    Retried,
    Seen,
    Trial,
    Unkept,
)
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import HostError, StoreError, TrialbootError
from trialboot.trial import advance, finish, overtaking

AT: Final = "2026-01-01T00:00:00Z"
NOW, LATER = BootId("boot-now"), BootId("boot-later")
GOOD, NEW, OTHER = (
    Choice(entry=EntryId(f"entry-{name}"), boot_set=boot_set(name))
    for name in ("good", "new", "other")
)
ARMED, OBSERVE = Policy(armed=True), Policy()


class PowerCutError(BaseException):
    """The machine lost its power."""


@dataclass
class World:
    """A host with its disk, loader, vault and Node; it loses power after so many effects."""

    boot: BootId = NOW
    disk: str = ""
    held: str = ""
    """What this boot alone remembers, for the disk did not take it."""
    default: str = ""
    once: str = ""
    vault: set[str] = field(default_factory=set)
    wish: Wish | None = None
    reboots: list[BootId] = field(default_factory=list)
    effects: int = 0
    power: int = -1
    """How many effects still happen; -1 is for ever."""
    broken: dict[str, TrialbootError] = field(default_factory=dict)
    """What each hand raises instead of doing its work."""

    def save(self, decision: Decision) -> None:
        self._effect("save")
        self.disk, self.held = json.dumps(plain(decision)), ""

    def hold(self, decision: Decision) -> None:
        self._effect("hold")
        self.held = json.dumps(plain(decision))

    def pin(self, decision: Decision, actions: Sequence[Action]) -> None:
        # The pin worker reads them from the disk: what is there must be what is asked.
        assert self.stored() == decision
        assert tuple(actions) == decision.todo[: len(actions)]
        for action in actions:
            self._effect("pin")
            self._touch(action)

    def _touch(self, action: Action) -> None:
        match action:
            case Keep(kept, _):
                self.vault.add(kept.release)
            case PinKnownGood(kept) | Mend(kept):
                assert kept.release in self.vault, "only what is kept can be pinned"
                self.default = kept.release
            case Secure(kept):
                assert kept.release in self.vault, "only what is kept can be booted"
                self.default, self.once = kept.release, ""
            case BootOnce(entry):
                self.once = entry
            case ForgetOnce():
                self.once = ""
            case Unpin():
                self.default = ""
            case GiveUp(kept):
                self.vault.discard(kept.release)
            case _:
                raise AssertionError(f"{action} is not the pin worker's")

    def tell(self, wish: Wish) -> None:
        self._effect("tell")
        self.wish = wish

    def reboot(self, why: str) -> None:
        assert why
        self._effect("reboot")
        self.reboots.append(self.boot)

    def _effect(self, hand: str) -> None:
        if self.power == 0:
            raise PowerCutError(hand)
        if hand in self.broken:
            raise self.broken[hand]
        self.power -= 1
        self.effects += 1

    def stored(self) -> Decision:
        return parse(Decision, json.loads(self.held or self.disk))

    def restart(self) -> None:
        self.boot, self.held = LATER, ""

    def end(self) -> object:
        """Give everything that outlives a boot, but the count of reboots."""
        return self.stored(), self.default, self.once, frozenset(self.vault), self.wish


@dataclass(frozen=True)
class Case:
    trial: Trial
    event: Event
    policy: Policy

    @property
    def todo(self) -> tuple[Action, ...]:
        return step(self.trial, self.event, self.policy).todo

    def world(self, power: int = -1) -> World:
        vault = {NEW.boot_set.release, OTHER.boot_set.release} if self.trial.candidate else set()
        if self.trial.pinned and self.trial.known_good:
            vault.add(self.trial.known_good.release)
        return World(
            disk=json.dumps(plain(Decision(trial=self.trial))),
            once="left over",
            default="known-good" if self.trial.pinned else "",
            vault=vault,
            power=power,
        )

    def told(self, world: World) -> Decision:
        return advance(self.trial, self.event, self.policy, world)


def parts(case: Case) -> tuple[Trial, Event, Policy]:
    return case.trial, case.event, case.policy


def trials() -> Iterator[Trial]:
    """Give each phase as the machine leaves it, on what may run in it."""
    fresh = Trial(boot=NOW, running=GOOD)
    rest = replace(fresh, known_good=GOOD.boot_set, pinned=True)
    mark = Condemned(
        fingerprint=NEW.boot_set.fingerprint, release="6.1-new", why="no routes", at=AT
    )
    failed = replace(rest, candidate=NEW, condemned=(mark,))
    yield fresh
    yield rest
    yield replace(rest, previous=OTHER.boot_set)
    yield replace(rest, condemned=(mark,))
    yield replace(rest, phase=Phase.ARMED, candidate=NEW)
    yield replace(rest, phase=Phase.ARMED, candidate=OTHER, condemned=(mark,))
    yield replace(rest, phase=Phase.TRIAL, candidate=NEW, running=NEW)
    for phase in (Phase.CONDEMNED, Phase.RECOVERED, Phase.STRANDED):
        yield replace(failed, phase=phase)
    yield replace(failed, phase=Phase.CONDEMNED, running=NEW)


def events() -> Iterator[Event]:
    for choice in (GOOD, NEW, OTHER):
        yield Seen(at=AT, wanted=choice)
        for pending in (False, True):
            yield Booted(at=AT, boot=LATER, running=choice, once_pending=pending)
    for outcome in Outcome:
        yield Judged(at=AT, boot=NOW, verdict=Verdict(outcome=outcome, reasons=("because",)))
    yield Unkept(at=AT, boot=NOW, why="no room")
    yield Retried(at=AT)
    yield Damaged(at=AT, why=("modules.dep is gone",))
    fingerprint = OTHER.boot_set.fingerprint
    yield Crowded(at=AT, fingerprint=fingerprint, why="no room for the next kernel")


def cases() -> list[Case]:
    policies = (ARMED, OBSERVE, replace(ARMED, unsure_rolls_back=True))
    every = (Case(*parts) for parts in product(trials(), events(), policies))
    # Policies often decide the same: one case for one decision.
    decisions = {step(*parts(case)): case for case in every if case.todo}
    return list(decisions.values())


CASES: Final = cases()


def name_of(case: Case) -> str:
    words = "+".join(type(action).__name__ for action in case.todo)
    return f"{case.trial.phase}-{type(case.event).__name__}-{words}"


every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def test_the_cases_hold_every_action() -> None:
    assert {type(action) for case in CASES for action in case.todo} == set(get_args(Action))


def test_the_cases_hold_every_event_that_has_actions_and_every_phase() -> None:
    assert {type(case.event) for case in CASES} == {
        *(Booted, Crowded, Damaged, Judged, Seen, Unkept)
    }
    assert {case.trial.phase for case in CASES} == set(Phase)


@every_case
def test_all_is_done_and_nothing_is_left(case: Case) -> None:
    world = case.world()
    decision = case.told(world)
    assert decision == world.stored() == Decision(trial=step(*parts(case)).trial)
    assert len(world.reboots) == sum(isinstance(action, Reboot) for action in case.todo)


@every_case
def test_a_power_cut_anywhere_ends_the_same(case: Case) -> None:
    whole = case.world()
    case.told(whole)
    for power in range(1, whole.effects):
        world = case.world(power)
        with pytest.raises(PowerCutError):
            case.told(world)
        reboots = list(world.reboots)
        world.boot, world.power = LATER, -1
        assert finish(world.stored(), world) == whole.stored()
        assert ends_as(world, whole, case)
        assert world.reboots == reboots, "a reboot that names the left boot was made again"


@every_case
def test_a_power_cut_before_the_record_leaves_all_as_it_was(case: Case) -> None:
    world, before = case.world(power=0), case.world()
    with pytest.raises(PowerCutError):
        case.told(world)
    assert (world.end(), world.effects) == (before.end(), 0)


@every_case
def test_a_second_power_cut_while_finishing_ends_the_same(case: Case) -> None:
    whole = case.world()
    case.told(whole)
    for first, second in product(range(1, whole.effects), range(whole.effects)):
        world = case.world(first)
        with pytest.raises(PowerCutError):
            case.told(world)
        world.boot, world.power = LATER, second
        try:
            finish(world.stored(), world)
        except PowerCutError:
            world.power = -1
            finish(world.stored(), world)
        assert ends_as(world, whole, case)


def ends_as(cut: World, whole: World, case: Case) -> bool:
    """Compare what is left in a later boot: there, no reboot out of an earlier one is secured."""
    before = case.world()
    if any(isinstance(action, Secure) for action in case.todo) and cut.default == before.default:
        whole = replace(whole, default=before.default, once=before.once)
    return cut.end() == whole.end()


@every_case
def test_a_daemon_that_dies_in_the_same_boot_ends_the_same_and_reboots(case: Case) -> None:
    whole = case.world()
    case.told(whole)
    for power in range(1, whole.effects):
        world = case.world(power)
        with pytest.raises(PowerCutError):
            case.told(world)
        world.power = -1
        finish(world.stored(), world)
        assert world.end() == whole.end()
        assert set(world.reboots) == set(whole.reboots)


HANDS: Final = {"pin": PIN_ACTIONS, "tell": (Tell,), "reboot": (Reboot,)}


@pytest.mark.parametrize("hand", HANDS)
@every_case
def test_a_hand_that_fails_leaves_the_rest_on_disk_and_finishing_completes_it(
    case: Case, hand: str
) -> None:
    concerned = [i for i, action in enumerate(case.todo) if isinstance(action, HANDS[hand])]
    whole = case.world()
    case.told(whole)
    world = case.world()
    world.broken[hand] = HostError("refused")
    if not concerned:
        assert case.told(world) == whole.stored()
        return
    if hand == "tell" and any(isinstance(action, Reboot) for action in case.todo):
        # A rollback is not kept back by what cannot be said before it.
        assert case.told(world) == whole.stored()
        assert world.reboots == whole.reboots
        return
    if any(isinstance(action, Mend | GiveUp) for action in case.todo):
        # The next snapshot, or run of the pin worker, sees to it again: it holds up no verdict.
        assert case.told(world) == whole.stored()
        return
    for _ in range(2):  # trying again while it is still broken is harmless
        with pytest.raises(HostError, match="refused"):
            case.told(world)
        first = concerned[0] - (hand == "reboot")  # what secures a reboot is part of it
        assert world.stored().todo == case.todo[first:]
        assert world.stored().trial == whole.stored().trial
    world.broken.clear()
    assert finish(world.stored(), world) == whole.stored()
    assert world.end() == whole.end()
    assert world.reboots == whole.reboots


def runs_or_ends_a_trial(case: Case) -> bool:
    """Tell what a full disk must not hold up: the record before it leads to the same end."""
    kinds = {type(action) for action in case.todo}
    on_trial = step(*parts(case)).trial.phase is Phase.TRIAL
    return Reboot in kinds or (on_trial and kinds <= {ForgetOnce, Tell, Mend})


@every_case
def test_what_cannot_be_remembered_is_not_done(case: Case) -> None:
    if runs_or_ends_a_trial(case):
        return
    world, before = case.world(), case.world()
    world.broken["save"] = StoreError("the disk is full")
    with pytest.raises(StoreError, match="full"):
        case.told(world)
    assert (world.end(), world.effects, world.reboots) == (before.end(), 0, [])


@every_case
def test_a_full_disk_holds_no_trial_up(case: Case) -> None:
    if not runs_or_ends_a_trial(case):
        return
    whole, world = case.world(), case.world()
    case.told(whole)
    world.broken = dict.fromkeys(("save", "tell"), StoreError("the disk is full"))
    assert case.told(world) == whole.stored() == world.stored()
    assert world.reboots == whole.reboots
    assert (world.default, world.once) == (whole.default, whole.once)
    world.restart()
    assert world.stored() == Decision(trial=case.trial), "the record is the one before"


def test_a_disk_that_fills_up_during_a_rollback_does_not_hold_it_up() -> None:
    case = next(c for c in CASES if Reboot in map(type, c.todo))
    whole = case.world()
    case.told(whole)
    for power in range(whole.effects):
        world = case.world(power)
        with pytest.raises(PowerCutError):
            case.told(world)
        world.power, world.broken["save"] = -1, StoreError("the disk is full")
        finish(world.stored(), world)
        # The daemon dies at an instant, and the disk is full for the next one.
        assert set(world.reboots) == (set() if power == 0 else {NOW})
        assert power == 0 or (world.default, world.once) == ("6.1-good", "")


def test_neither_a_held_record_nor_a_boot_in_memory_makes_up_for_no_room_at_all() -> None:
    case = next(c for c in CASES if Reboot in map(type, c.todo))
    world = case.world()
    world.broken = dict.fromkeys(("save", "hold"), StoreError("nothing takes it"))
    with pytest.raises(StoreError):
        case.told(world)
    assert world.reboots == []


def test_a_one_shot_is_not_set_again_where_that_cannot_be_remembered() -> None:
    case = next(c for c in CASES if BootOnce in map(type, c.todo))
    world = case.world(power=len(case.todo) + 1)  # all is done, and its rest not yet stored
    with pytest.raises(PowerCutError):
        case.told(world)
    assert world.once == NEW.entry
    world.boot, world.once, world.power = LATER, "", -1  # the loader has consumed it
    world.broken["save"] = StoreError("the disk is full")
    with pytest.raises(StoreError):
        finish(world.stored(), world)
    assert world.once == ""


def test_a_candidate_that_runs_overtakes_what_is_left_of_arming_it() -> None:
    rest = Trial(boot=NOW, running=GOOD, known_good=GOOD.boot_set, pinned=True)
    armed = replace(rest, phase=Phase.ARMED, candidate=NEW)

    def told(trial: Trial, choice: Choice) -> Event | None:
        event = Booted(at=AT, boot=LATER, running=choice, once_pending=False)
        rest = Decision(trial=trial, todo=(BootOnce(OTHER.entry),))
        return overtaking(rest, event, ARMED)

    found = told(armed, NEW)
    assert isinstance(found, Booted)
    assert found.once_pending
    # A power cut came before the one-shot of what replaced it.
    assert told(replace(armed, candidate=OTHER, replaced=NEW), NEW) == found
    assert told(armed, GOOD) is None
    assert told(rest, NEW) is None
    assert overtaking(Decision(trial=armed), Retried(at=AT), ARMED) is None


def test_an_event_that_changes_nothing_is_not_even_written() -> None:
    trial = Trial(boot=NOW, running=GOOD, known_good=GOOD.boot_set, pinned=True)
    world = World(power=0)
    assert advance(trial, Seen(at=AT, wanted=GOOD), ARMED, world) == Decision(trial=trial)
    assert world.disk == ""


def test_a_reboot_is_decided_on_disk_before_it_is_made() -> None:
    trial = Trial(
        boot=NOW,
        running=NEW,
        candidate=NEW,
        known_good=GOOD.boot_set,
        pinned=True,
        phase=Phase.TRIAL,
    )
    world = World(disk=json.dumps(plain(Decision(trial=trial))), vault={GOOD.boot_set.release})
    world.broken["reboot"] = HostError("an inhibitor holds it")
    worse = Judged(at=AT, boot=NOW, verdict=Verdict(outcome=Outcome.WORSE, reasons=("gone",)))
    with pytest.raises(HostError, match="inhibitor"):
        advance(trial, worse, ARMED, world)
    assert world.stored().trial.phase is Phase.CONDEMNED
    # Who takes it up again checks again that it ends on the known-good.
    assert world.stored().todo == (Secure(GOOD.boot_set), Reboot("verdict worse: gone", NOW))
    assert world.once == ""
    assert world.wish is not None
    assert world.wish.cordoned
