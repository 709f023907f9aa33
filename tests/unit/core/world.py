"""A small model of a host for the explorer: loader, vault, node, power, and three boot sets.

The loader has a default and a one-shot as GRUB does: a one-shot is consumed at the next start,
whatever then happens. The vault refuses a boot set whose files are gone, may refuse any other one
for want of room or as damaged, and drops what the trial no longer names. A boot's id is "now"
while it runs and "before" afterwards, so that the model has finitely many states.

What the shell does about a full disk is asked of the shell itself (`trialboot.trial`). Accidents
come in families, so that each can be followed far: an ordinary life, a disk that fills up, a
loader that takes no writes, a vault that is damaged, somebody else at the loader.
"""

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum, auto
from itertools import product
from typing import Final, NamedTuple

from trialboot.core.actions import (
    PIN_ACTIONS,
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
from trialboot.core.bootset import BootSet
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.language import Word
from trialboot.core.machine import IllegalMoveError, step
from trialboot.core.node import Wish
from trialboot.core.trial import (
    AT_REST,
    FALLBACK,
    PICKED,
    Allowed,
    Booted,
    Choice,
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
from trialboot.errors import LoaderError, StoreError, TrialbootError
from trialboot.trial import may_be_forgotten, may_be_left_out, overtaking

NOW, BEFORE = BootId("now"), BootId("before")
KNOWN_GOOD_ENTRY, TOP = EntryId("known-good"), EntryId("top")
GOOD, FIRST, SECOND = "good", "first", "second"
GONE, NO_ROOM, DAMAGED = "the files are gone for", "no room for", "the vault is damaged for"
MAYBE: Final = "the vault may be damaged for"
SYNCED: Final = -1
AT: Final = "2026-01-01T00:00:00Z"
LACKS: Final = ("a module is missing",)
STUCK: Final = ("a one-shot is not cleared",)


def boot_set(name: str) -> BootSet:
    return BootSet(
        release=f"6.1-{name}",
        kernel=name,
        initrd=name,
        modules=name,
        firmware=name,
        command_line="ro",
    )


SETS: Final = {name: boot_set(name) for name in (GOOD, FIRST, SECOND)}
DAMAGE: Final = Damaged(at=AT, why=("packages took something",))
VERDICTS: Final = {o: Verdict(outcome=o, reasons=(f"because {o}",)) for o in Outcome}


class Nature(Word):
    """What a boot set is in truth."""

    SOUND = "sound"
    WORSE = "worse"
    UNSURE = "unsure"
    DEAD = "dead"
    """Panics early, or hangs and a watchdog resets it: our daemon never runs on it."""
    HUNG = "hung"
    """Hangs for ever: a human has to cycle the power."""
    LATE = "late"
    """Comes up, and panics before anything is known of it."""
    MISSING = "missing"
    """Its kernel or initrd is missing or truncated: the loader falls back to the default."""


COMES_UP: Final = frozenset({Nature.SOUND, Nature.WORSE, Nature.UNSURE, Nature.LATE})
ORDINARY: Final = frozenset({Nature.SOUND, Nature.WORSE, Nature.UNSURE, Nature.DEAD})
JUDGED: Final = COMES_UP - {Nature.LATE}


class Family(Enum):
    """Which accidents happen, beside power cuts and what operator and packages do."""

    LIFE = "an ordinary life"
    DISK = "the disk may fill up"
    LOADER = "the loader may take no writes"
    STICKY = "the loader cannot clear a one-shot"
    VAULT = "what is kept may be damaged"
    OTHERS = "somebody else is at the loader"


class Ability(Enum):
    """What can be written to the loader now."""

    ALL = "everything"
    ONCE = "the one-shot alone"
    NOTHING = "nothing"


class Start(Enum):
    """Who chose what runs now."""

    ONCE = auto()
    """The loader's one-shot, while a candidate was armed: this is a trial."""
    LEFT_OVER = auto()
    """A one-shot that the power cut did not let us take back."""
    DEFAULT = auto()
    HAND = auto()


class Stage(Enum):
    """How far the daemon has come since it was started."""

    FINISH = auto()
    """The rest of the stored decision is still to be performed."""
    BOOT = auto()
    """`Booted` is still to be told."""
    OPEN = auto()


class World(NamedTuple):
    """Everything that is on disk, in the loader, in the cluster and in the air."""

    first: Nature
    second: Nature
    one_entry: bool
    """All boot sets of the host's own share one menu entry, as a rebuilt initrd does."""
    wanted: str
    """What the host's own configuration boots; in `one_entry` the only files there are."""
    default: str | None
    """The kept boot set that is the loader's default; None is the host's own configuration."""
    once: EntryId | None
    vault: frozenset[str]
    running: str | None
    """None is a dead machine that only a person at the console can help."""
    by: Start
    cordoned: bool
    armed: bool
    stage: Stage
    stored: int
    """The stored decision, by its number on the `Shelf`."""
    lacking: bool = False
    """A pre-check speaks against SECOND: packages took a module from it."""
    cordons: bool = False
    """The operator's `verify.cordon_at_rest`."""
    rebooted: frozenset[str] = frozenset()
    """The boot sets that were rolled back by a reboot since the operator's last retry."""
    family: Family = Family.LIFE
    instead: str = ""
    """What the loader told of a one-shot that it did not boot."""
    full: bool = False
    """The disk takes no record."""
    disk: int = SYNCED
    """What is on disk where the daemon holds a newer decision in memory."""
    loader: Ability = Ability.ALL
    damaged: frozenset[str] = frozenset()
    """What is kept, and is no longer what its hash says."""
    drifted: bool = False
    """Somebody else has set the default since the daemon looked."""
    stray: bool = False
    """Somebody else has set the one-shot."""


_POLICIES: Final = {
    (armed, cordons): Policy(armed=armed, cordon_at_rest=cordons)
    for armed in (False, True)
    for cordons in (False, True)
}


class Shelf:
    """Numbers decisions, and remembers what `step` said, for speed."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self._numbers: dict[Decision, int] = {}
        self._steps: dict[tuple[int, str, str, str, Policy], Decision] = {}
        self._rests: dict[tuple[int, int], int] = {}
        self._left: dict[int, int] = {}

    def number(self, decision: Decision) -> int:
        if decision not in self._numbers:
            self._numbers[decision] = len(self.decisions)
            self.decisions.append(decision)
        return self._numbers[decision]

    def step(self, world: World, event: Event) -> Decision:
        policy = _POLICIES[world.armed, world.cordons]
        key = (world.stored, *_gist(event), policy)
        if key not in self._steps:
            trial = self.decisions[world.stored].trial
            self._steps[key] = step(trial, event, policy)
        return self._steps[key]

    def rest(self, stored: int, done: int) -> int:
        """Store what is left of a decision after so many of its actions."""
        if (stored, done) not in self._rests:
            decision = self.decisions[stored]
            rest = replace(decision, todo=decision.todo[done:])
            self._rests[stored, done] = self.number(rest)
        return self._rests[stored, done]

    def left(self, stored: int) -> int:
        """Let the boot that runs now be one of before."""
        if stored not in self._left:
            trial, todo = self.decisions[stored].trial, self.decisions[stored].todo
            if trial.boot == NOW:
                trial = replace(trial, boot=BEFORE)
            todo = tuple(Reboot("", BEFORE) if isinstance(a, Reboot) else a for a in todo)
            self._left[stored] = self.number(Decision(trial=trial, todo=todo))
        return self._left[stored]


Step = tuple[str, World]


class Model:
    """What can happen to a world, and the laws that every happening is held against."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.broken: list[str] = []
        """The laws that were broken since the explorer last looked."""

    def demand(self, holds: bool, law: str) -> None:  # noqa: FBT001  reads as a sentence
        if not holds:
            self.broken.append(law)

    def roots(self) -> Iterator[Step]:
        """Give the landmarks of ordinary lives: accidents are looked for around each of them."""
        for first, second, one_entry in product(
            Nature, (Nature.SOUND, Nature.WORSE), (False, True)
        ):
            menu = "one menu entry" if one_entry else "a menu entry each"
            told = f"first is {first}, second is {second}, {menu}"
            fresh = self._installed(first, second, Trial(), one_entry=one_entry)
            for words, world in self._life(fresh):
                yield f"{told}; {words}", world
            if second is Nature.WORSE and not one_entry:
                quiet = fresh._replace(cordons=False)
                for words, world in self._life(quiet):
                    yield f"{told}; no cordon at rest; {words}", world
        for family in Family:
            if family is not Family.LIFE:
                yield from self._family(family)
        lost = Trial(report_only="the record is damaged")
        damaged = self._installed(Nature.WORSE, Nature.SOUND, lost, one_entry=False)
        yield "first is worse; the record was lost", damaged

    @staticmethod
    def reach(world: World, depth: int) -> int:
        """Tell how far a world is followed: each accident of a family counts double."""
        ordinary = world.family is Family.LIFE and world.first in ORDINARY
        return depth if ordinary else depth - 2

    def _family(self, family: Family) -> Iterator[Step]:
        for first in Nature:
            told = f"first is {first}, second is worse; {family.value}"
            fresh = self._installed(first, Nature.WORSE, Trial(), one_entry=False)
            for words, world in self._life(fresh._replace(family=family)):
                yield f"{told}; {words}", world

    def _installed(self, first: Nature, second: Nature, trial: Trial, *, one_entry: bool) -> World:
        return World(
            first=first,
            second=second,
            one_entry=one_entry,
            wanted=GOOD,
            default=None,
            once=None,
            vault=frozenset(),
            running=GOOD,
            by=Start.DEFAULT,
            cordoned=False,
            armed=True,
            stage=Stage.BOOT,
            stored=self.shelf.number(Decision(trial=trial)),
        )

    def _life(self, world: World) -> Iterator[Step]:
        yield "installed", world
        for _ in range(2):
            world = self.calm(world)
        yield "the known-good is earned", world
        world = self.calm(world._replace(wanted=FIRST))
        yield "first is armed", world
        world = self._started(world)
        world = self.daemon(world)[-1][1]
        yield "the machine was restarted", world
        for _ in range(6):
            world = self.calm(world)
        yield "the trial is over", world
        if self.nature(world, FIRST) is Nature.SOUND:
            world = self._started(self.calm(world._replace(wanted=SECOND)))
            yield "another trial, with a known-good before the known-good", self.calm(world)

    def _started(self, world: World) -> World:
        """Start the machine, and cycle its power where it hangs."""
        world = self.start(world)
        return self.start(world) if world.running is None else world

    # --- the truth ----------------------------------------------------------------------------

    def trial(self, world: World) -> Trial:
        return self.shelf.decisions[world.stored].trial

    def acts(self, world: World) -> bool:
        """Tell whether anything but reports may be done."""
        return world.armed and not self.trial(world).report_only

    def known_good(self, world: World) -> str | None:
        good = self.trial(world).known_good
        return good.kernel if good else None

    @staticmethod
    def nature(world: World, name: str) -> Nature:
        return {GOOD: Nature.SOUND, FIRST: world.first, SECOND: world.second}[name]

    @staticmethod
    def entry(world: World, name: str) -> EntryId:
        return TOP if world.one_entry else EntryId(name)

    @staticmethod
    def loads(world: World, entry: EntryId) -> str:
        if entry == KNOWN_GOOD_ENTRY:
            return world.default or world.wanted
        return world.wanted if entry == TOP else str(entry)

    def booted(self, world: World) -> Booted:
        """Tell what the readers find: a boot set whose files were overwritten is not known."""
        name = world.running or GOOD
        kept = name in world.vault
        running: Choice | Unknown
        if not kept and self.loads(world, self.entry(world, name)) != name:
            running = Unknown("its files are gone")
        else:
            running = Choice(entry=self.entry(world, name), boot_set=SETS[name])
        return Booted(
            at=AT,
            boot=NOW,
            running=running,
            once_pending=world.once is not None,
            instead=world.instead,
        )

    def seen(self, world: World) -> Seen:
        wanted = Choice(
            entry=self.entry(world, world.wanted),
            boot_set=SETS[world.wanted],
            objections=LACKS if self.lacks(world) else (),
            obstacles=STUCK if world.family is Family.STICKY else (),
        )
        return Seen(at=AT, wanted=wanted, once=self.once(world))

    def once(self, world: World) -> Choice | None:
        if world.once is None:
            return None
        return Choice(entry=world.once, boot_set=SETS[self.loads(world, world.once)])

    @staticmethod
    def lacks(world: World) -> bool:
        return world.lacking and world.wanted == SECOND

    def verdicts(self, world: World) -> Iterator[Outcome]:
        """Give what can be found on this boot: also a known-good's network may break one day."""
        name = world.running or GOOD
        if self.nature(world, name) in JUDGED:
            yield Outcome(self.nature(world, name))
        if name == self.known_good(world) or name == GOOD:
            yield Outcome.WORSE
            yield Outcome.UNSURE

    # --- what can happen ----------------------------------------------------------------------

    def moves(self, world: World) -> Iterator[Step]:
        yield from self._by_hand(world)
        if world.running is None:
            yield "somebody cycles the power", self.start(world)
            return
        yield "power cut", self.start(world)
        yield from self.accidents(world)
        if world.stage is not Stage.OPEN:
            if world.stage is Stage.BOOT:
                unknown = Unknown("unread")
                pending = world.once is not None
                yield from self.tell(
                    world,
                    "the boot set that runs cannot be told",
                    Booted(at=AT, boot=NOW, running=unknown, once_pending=pending),
                )
            if world.stage is Stage.FINISH:
                yield from self.packages(world)
                yield self._flip(world)
            yield from self.daemon(world)
            return
        yield "the daemon is started again", self.restarted(world)
        if self.trial(world).running is None:
            yield from self.tell(world, "the daemon learns what runs", self.booted(world))
        yield from self.look(world)
        unreadable = Seen(at=AT, wanted=Unknown("unread"))
        yield from self.tell(world, "seen: unknown", unreadable)
        for outcome in self.verdicts(world):
            yield from self.judged(world, outcome)
        self._check_late(world)
        yield from self.tell(world, "packages damage the known-good", DAMAGE)
        yield from self.operator(world)
        yield from self.packages(world)

    def accidents(self, world: World) -> Iterator[Step]:
        match world.family:
            case Family.DISK:
                told = "room is made on the disk" if world.full else "the disk fills up"
                yield told, world._replace(full=not world.full)
            case Family.LOADER:
                for ability in set(Ability) - {world.loader}:
                    told = f"the loader takes {ability.value} now"
                    yield told, world._replace(loader=ability)
            case Family.VAULT:
                yield from self._damages(world)
            case Family.OTHERS:
                yield from self._others(world)
            case Family.LIFE | Family.STICKY:
                return

    @staticmethod
    def _damages(world: World) -> Iterator[Step]:
        for name in sorted(world.vault - world.damaged):
            told = f"the kept files of {name} are damaged"
            yield told, world._replace(damaged=world.damaged | {name})

    def _others(self, world: World) -> Iterator[Step]:
        """Let a postinst or an administrator set default and one-shot (grub-set-default)."""
        for name in SETS:
            told = f"somebody makes {name} the loader's default"
            drifted = world.drifted or world.default is not None
            yield told, world._replace(default=None, wanted=name, drifted=drifted)
            told = f"somebody has {name} booted once"
            yield told, world._replace(once=self.entry(world, name), stray=True)
        if world.once:
            yield "somebody takes the one-shot back", world._replace(once=None, stray=False)

    def look(self, world: World) -> list[Step]:
        """Tell what a snapshot finds: first that the default is lost, then what is wanted."""
        trial = self.trial(world)
        lost = trial.pinned and world.default != self.known_good(world)
        found = self.tell(world, "the default is lost", DAMAGE) if lost else []
        world = found[-1][1]._replace(drifted=False) if found else world
        return [*found[:-1], *self.tell(world, f"seen: {world.wanted}", self.seen(world))]

    def daemon(self, world: World) -> list[Step]:
        """Let the daemon do its next step after its start."""
        if world.stage is not Stage.FINISH:
            return self.tell(world, f"booted: {world.running}", self.booted(world))
        found = self.perform(world, "the daemon finishes the rest", Stage.BOOT)
        left = found[-1][1]
        if left.stage is not Stage.FINISH or left.running is None:
            return found
        policy = _POLICIES[self.acts(left), left.cordons]
        event = overtaking(self.shelf.decisions[left.stored], self.booted(left), policy)
        told = self.tell(left, f"booted: {left.running}", event) if event else found[-1:]
        return [*found[:-1], *told]

    def judged(self, world: World, outcome: Outcome) -> list[Step]:
        event = Judged(at=AT, boot=NOW, verdict=VERDICTS[outcome])
        outcomes = self.tell(world, f"judged {outcome} on {world.running}", event)
        after = outcomes[-1][1]
        knows = self.trial(after).running is not None
        if outcome is Outcome.SOUND and knows and after.running == self.known_good(after):
            hindered = after.full or after.loader is not Ability.ALL
            free = not after.cordoned or not self.acts(after) or hindered
            self.demand(free, "the known-good is proven sound and the node stays cordoned")
        return outcomes

    def operator(self, world: World) -> Iterator[Step]:
        # Who says so of a stranded node has it in hand.
        stranded = self.trial(world).phase is Phase.STRANDED
        by = Start.HAND if stranded and world.by is Start.ONCE else world.by
        retried = world._replace(rebooted=frozenset(), by=by)
        yield from self.tell(retried, "the operator says retry", Retried(at=AT))
        if self.trial(world).refused:
            yield from self.tell(world, "the operator says allow", Allowed(at=AT))
        yield self._flip(world)

    @staticmethod
    def _flip(world: World) -> Step:
        mode = "observe" if world.armed else "arm"
        # Who gives a trial up has it in hand: nothing else need end it.
        by = Start.HAND if world.by is Start.ONCE else world.by
        return f"the operator says {mode}", world._replace(armed=not world.armed, by=by)

    def packages(self, world: World) -> Iterator[Step]:
        for name in SETS:
            if name != world.wanted:
                yield f"packages: the host now wants {name}", world._replace(wanted=name)
        if world.wanted == SECOND:
            told = "complete" if world.lacking else "without a module"
            yield f"packages: {SECOND} is {told}", world._replace(lacking=not world.lacking)

    def _by_hand(self, world: World) -> Iterator[Step]:
        there = {world.wanted, world.default or world.wanted} if world.one_entry else set(SETS)
        for name in sorted(there):
            if self.nature(world, name) in COMES_UP:
                picked = world.once is not None and name == world.default
                after = self._new_boot(world)._replace(
                    running=name,
                    by=Start.HAND,
                    once=None,
                    stray=False,
                    instead=PICKED if picked else "",
                    # What a full disk could not condemn, a human may have tried again.
                    rebooted=frozenset() if world.full else world.rebooted,
                )
                yield f"the operator boots {name} from the menu", self.restarted(after)

    # --- power --------------------------------------------------------------------------------

    def start(self, world: World) -> World:
        """Start the machine as GRUB does; a boot set that dies is started over."""
        world = self._new_boot(world)
        chosen, by, instead = world.default or world.wanted, Start.DEFAULT, ""
        if world.once:
            tried = self.loads(world, world.once)
            nature = self.nature(world, tried)
            instead = FALLBACK if nature is Nature.MISSING and world.default else ""
            if nature in COMES_UP or nature is Nature.HUNG:
                chosen, by = tried, self._by(world)
        elif world.drifted:
            by = Start.HAND
        comes = self.nature(world, chosen) in COMES_UP
        hangs = by is not Start.DEFAULT
        self.demand(
            comes or hangs or world.default is None,
            "unbootable: the loader's default does not come up",
        )
        running = chosen if comes else None
        return self.restarted(
            world._replace(running=running, by=by, once=None, stray=False, instead=instead)
        )

    def _by(self, world: World) -> Start:
        if world.stray:
            return Start.HAND
        return Start.ONCE if self.trial(world).phase is Phase.ARMED else Start.LEFT_OVER

    def _new_boot(self, world: World) -> World:
        """Let the boot be over: what was only held in memory is lost."""
        known = world.stored if world.disk == SYNCED else world.disk
        return world._replace(stored=self.shelf.left(known), disk=SYNCED)

    def restarted(self, world: World) -> World:
        """Start the daemon, in this boot or a new one."""
        rest = self.shelf.decisions[world.stored].todo
        return world._replace(stage=Stage.FINISH if rest else Stage.BOOT)

    # --- decide, store, perform ---------------------------------------------------------------

    def tell(self, world: World, words: str, event: Event) -> list[Step]:
        """Tell the machine an event: what becomes of it, cut anywhere; the last one is not cut."""
        try:
            decision = self.shelf.step(world, event)
        except IllegalMoveError as error:
            self.demand(False, f"the table of moves has no {error}")
            return [(words, world)]
        self._check(world, event, decision)
        bare = _bare(decision)
        stored = self.shelf.number(bare)
        if stored == world.stored or (decision.trial == self.trial(world) and not decision.todo):
            return self.perform(world, words, Stage.OPEN)  # nothing to remember
        if world.full and not may_be_forgotten(bare):
            told = f"{words}; the disk is full, and nothing is done"
            # A boot that could not be told of is told again: nothing else is heard before.
            return [
                (told, world if isinstance(event, Booted) else world._replace(stage=Stage.OPEN))
            ]
        return self.perform(self._stored(world, stored), words, Stage.OPEN)

    @staticmethod
    def _stored(world: World, stored: int) -> World:
        """Remember a decision: on disk, or where that is full in memory."""
        if not world.full:
            return world._replace(stored=stored, disk=SYNCED)
        return world._replace(
            stored=stored, disk=world.stored if world.disk == SYNCED else world.disk
        )

    def perform(self, world: World, words: str, then: Stage) -> list[Step]:
        """Perform what is stored; every durable effect may be the last before the power goes."""
        decision = self.shelf.decisions[world.stored]
        found = self._interrupted(world, f"{words}; stored, then") if decision.todo else []
        once = any(isinstance(action, BootOnce) for action in decision.todo)
        if world.stage is Stage.FINISH and once and world.full:
            return [*found, (f"{words}; the disk is full", world)]
        return [*found, *self._rest(world, words, then, spare=may_be_forgotten(decision))]

    def _rest(self, world: World, words: str, then: Stage, *, spare: bool) -> list[Step]:
        todo = self.shelf.decisions[world.stored].todo
        if not todo:
            return [(words, world._replace(stage=then))]
        found: list[Step] = []
        if why := self._refusal(world, todo[0]):
            if isinstance(todo[0], Mend):
                return self._rest(self._saved(world, 1), words, then, spare=spare)
            found = self._unkept(world, f"{words}; {why} {_name(todo[0])}", then)
            if why in {GONE, DAMAGED}:
                return found
        if error := self._error(world, todo[0]):
            return [*found, *self._failed(world, words, then, error, spare=spare)]
        done = self._done(world, todo[0], todo[1:])
        found += self._interrupted(done, f"{words}; {_name(todo[0])} done, then")
        if isinstance(todo[0], Secure):
            return [*found, *self._go_back(done, words, then, todo[1])]
        return [*found, *self._remembered(done, words, then, spare=spare)]

    def _remembered(self, world: World, words: str, then: Stage, *, spare: bool) -> list[Step]:
        """Store what is left after an action, and go on with it."""
        told = f"{words}; {_name(self.shelf.decisions[world.stored].todo[0])} done, then"
        if world.full and not spare:
            return [(f"{told} the disk is full", world._replace(stage=Stage.FINISH))]
        world = self._saved(world, 1)
        found = self._interrupted(world, f"{told} its rest stored, then")
        return [*found, *self._rest(world, words, then, spare=spare)]

    def _failed(
        self, world: World, words: str, then: Stage, error: TrialbootError, *, spare: bool
    ) -> list[Step]:
        decision = self.shelf.decisions[world.stored]
        if may_be_left_out(decision, error):
            return self._rest(self._saved(world, 1), words, then, spare=spare)
        told = f"{words}; {_name(decision.todo[0])} fails: {error}"
        return [(told, world._replace(stage=Stage.FINISH))]

    def _go_back(self, world: World, words: str, then: Stage, reboot: Action) -> list[Step]:
        """Reboot, what was secured for it is stored together with it."""
        done = self._do(world, reboot)
        saved = self._saved(done, 2)
        if isinstance(reboot, Reboot) and reboot.leaving == NOW and world.armed:
            told = f"{words}; {_name(reboot)} done, then"
            found = [(f"{told} down before that is stored", self.start(done))]
            return [*found, (f"{words}; REBOOT", self.start(saved))]
        return [*self._interrupted(saved, words), (words, saved._replace(stage=then))]

    def _done(self, world: World, action: Action, rest: tuple[Action, ...]) -> World:
        done = self._do(world, action)
        last = isinstance(action, PIN_ACTIONS) and not _is_pin(rest)
        return self._forgotten(done) if last else done

    def _refusal(self, world: World, action: Action) -> str:
        """Say why the vault may refuse an action: it must where the files are gone."""
        match action:
            case Keep(boot_set=boot_set, entry=entry) if (
                boot_set.kernel not in world.vault - world.damaged
            ):
                return NO_ROOM if self.loads(world, entry) == boot_set.kernel else GONE
            case PinKnownGood(boot_set=boot_set) if boot_set.kernel != world.default:
                return MAYBE
            case PinKnownGood(boot_set=b) | Mend(boot_set=b) | Secure(boot_set=b):
                return DAMAGED if b.kernel in world.damaged else ""
            case _:
                return ""

    @staticmethod
    def _error(world: World, action: Action) -> TrialbootError | None:
        """Say what else fails: a loader that takes no write, a wish on a full disk."""
        if isinstance(action, Tell):
            return StoreError("the disk is full") if world.full else None
        default, once = world.default, world.once
        match action:
            case BootOnce(entry=entry):
                once = entry
            case ForgetOnce():
                once = None
            case PinKnownGood(boot_set=boot_set) | Mend(boot_set=boot_set):
                default = boot_set.kernel
            case Secure(boot_set=boot_set):
                default, once = boot_set.kernel, None
            case Unpin():
                default = None
            case _:
                return None
        fails = (world.loader is not Ability.ALL and default != world.default) or (
            world.loader is Ability.NOTHING and once != world.once
        )
        return LoaderError("the loader takes no write") if fails else None

    def _unkept(self, world: World, words: str, then: Stage) -> list[Step]:
        """Let the vault refuse: what the machine says to it replaces what was to be done."""
        event = Unkept(at=AT, boot=NOW, why="refused")
        decision = self.shelf.step(world, event)
        self._check(world, event, decision)
        # The daemon stores nothing where nothing has changed: the same would be tried for ever.
        self.demand(decision.trial != self.trial(world), "what cannot be kept stays to be done")
        bare = _bare(decision)
        if world.full and not may_be_forgotten(bare):
            told = f"{words}; the disk is full"
            return [(told, world._replace(stage=Stage.FINISH))]
        return self.perform(self._stored(world, self.shelf.number(bare)), words, then)

    def _forgotten(self, world: World) -> World:
        """Drop what the trial no longer names from the vault, as the pin worker does last."""
        trial = self.trial(world)
        candidate = trial.candidate.boot_set if trial.candidate else None
        named = (trial.known_good, trial.previous, candidate)
        needed = {boot_set.kernel for boot_set in named if boot_set}
        vault = world.vault & (needed | {world.default})  # the vault looks at the entry, too
        whole = world.default is None or world.default in needed or bool(world.damaged)
        self.demand(whole, "lost: the record does not name the loader's default")
        return world._replace(vault=vault, damaged=world.damaged & vault)

    def _saved(self, world: World, done: int) -> World:
        """Store what is left, as the daemon does after each action."""
        return self._stored(world, self.shelf.rest(world.stored, done))

    def _interrupted(self, world: World, words: str) -> list[Step]:
        return [
            (f"{words} power cut", self.start(world)),
            (f"{words} the daemon dies", self.restarted(world)),
        ]

    def _do(self, world: World, action: Action) -> World:
        match action:
            case Tell(wish=wish):
                return world._replace(cordoned=wish.cordoned)
            case Reboot(leaving=leaving):
                return self._reboot(world) if leaving == NOW and world.armed else world
            case Keep() | PinKnownGood() | BootOnce():
                self.demand(world.disk == SYNCED, "lost: armed or pinned without a record")
                return self._pinned(world, action)
            case _:
                return self._pinned(world, action)

    @staticmethod
    def _pinned(world: World, action: Action) -> World:
        after = world
        match action:
            case Keep(boot_set=boot_set):
                name = boot_set.kernel
                after = world._replace(vault=world.vault | {name}, damaged=world.damaged - {name})
            case PinKnownGood(boot_set=boot_set) | Mend(boot_set=boot_set):
                after = world._replace(default=boot_set.kernel, drifted=False)
            case Secure(boot_set=boot_set):
                after = world._replace(
                    default=boot_set.kernel, drifted=False, once=None, stray=False
                )
            case BootOnce(entry=entry):
                after = world._replace(once=entry, stray=False)
            case ForgetOnce():
                after = world._replace(once=None, stray=False)
            case Unpin():
                after = world._replace(default=None)
            case _:
                raise AssertionError(f"{action} is not the pin worker's")
        return after

    def _reboot(self, world: World) -> World:
        name = world.running or GOOD
        self.demand(
            name not in world.rebooted, f"loop: a second automatic reboot because of {name}"
        )
        good = self.known_good(world)
        checked = world.default is not None and world.default == good and world.once is None
        whole = world.default in world.vault - world.damaged
        self.demand(checked and whole, "unbootable: a reboot into what was not checked")
        return world._replace(rebooted=world.rebooted | {name})

    # --- the laws -----------------------------------------------------------------------------

    def _check(self, world: World, event: Event, decision: Decision) -> None:
        before, after = self.trial(world), decision.trial
        if not self.acts(world):
            harmless = all(_gives_back(action) for action in decision.todo)
            self.demand(harmless, f"observe mode, and yet: {', '.join(map(_name, decision.todo))}")
        if isinstance(event, Unkept):
            self._check_unkept(world, after, decision)
        elif after.known_good != before.known_good:
            earned = (
                isinstance(event, Judged)
                and event.verdict.outcome is Outcome.SOUND
                and after.known_good == SETS[world.running or ""]
            )
            self.demand(
                earned, "a boot set became the known-good without a sound verdict of its own"
            )
        if (before.phase, after.phase) == (Phase.ARMED, Phase.CONDEMNED):
            tried = world.once is None or world.instead == FALLBACK
            self.demand(
                tried and before.candidate is not None, "condemned, and it was not even tried"
            )
            self.demand(world.instead != PICKED, "condemned for what a human picked")
        if (before.phase, after.phase) == (Phase.ARMED, Phase.TRIAL) and world.by is Start.HAND:
            own = before.candidate is None or after.candidate is None or world.one_entry
            own = own or after.candidate == before.replaced  # booted once, and then by hand
            same = own or after.candidate.entry == before.candidate.entry  # type: ignore[union-attr]
            self.demand(same, "what a human picked is on trial")
        if isinstance(event, Judged):
            self._check_cordon(world, before, decision)
        self._check_todo(world, before, decision)
        self._check_mend(world, before, decision)

    def _check_unkept(self, world: World, after: Trial, decision: Decision) -> None:
        """A boot set was not kept: the record goes back to what the loader has, and no further."""
        before = self.trial(world)
        if before.phase is Phase.CONDEMNED:
            further = after.known_good in {before.known_good, before.previous}
            self.demand(further, "lost: not secured, and another known-good out of nowhere")
            return
        pinned = after.known_good.kernel if after.known_good and after.pinned else None
        named = pinned == world.default or world.drifted or bool(world.damaged)
        self.demand(named, "lost: not kept, and the record names what is not pinned")
        self.demand(after.candidate is None, "not kept, and still a candidate")
        told = after.boot == NOW
        self.demand(after.phase is Phase.STEADY or not told, f"not kept, and yet {after.phase}")
        harmless = all(_gives_back(action) for action in decision.todo)
        self.demand(harmless, f"not kept, and yet: {', '.join(map(_name, decision.todo))}")

    def _check_cordon(self, world: World, before: Trial, decision: Decision) -> None:
        cordons = any(isinstance(a, Tell) and a.wish.cordoned for a in decision.todo)
        obeyed = not cordons or world.cordons or before.phase not in AT_REST
        self.demand(obeyed, "a verdict at rest cordons, against the policy")

    def _check_late(self, world: World) -> None:
        """Let the verdict on an earlier boot come in now: it must move nothing."""
        for verdict in VERDICTS.values():
            event = Judged(at=AT, boot=BEFORE, verdict=verdict)
            decision = self.shelf.step(world, event)
            same = decision == Decision(trial=self.trial(world))
            self.demand(same, "a verdict on another boot has moved something")

    def _check_todo(self, world: World, before: Trial, decision: Decision) -> None:
        kept, after = world.vault, decision.trial
        touched = False
        for action in decision.todo:
            match action:
                case Keep(boot_set=boot_set):
                    clean = not touched or bool(world.damaged)
                    self.demand(clean, "the loader is touched before all is kept")
                    kept |= {boot_set.kernel}
                case PinKnownGood(boot_set=boot_set):
                    self.demand(boot_set.kernel in kept, "a pin on what was never kept")
                    self.demand(
                        boot_set == after.known_good, "a pin on what is not the known-good"
                    )
                    touched |= world.default != boot_set.kernel
                case Secure(boot_set=boot_set):
                    back = boot_set == after.known_good and boot_set.kernel in kept
                    self.demand(back, "lost: back to what is not kept, or not the known-good")
                case BootOnce(entry=entry):
                    known = before.running is not None
                    self.demand(known, "loop: a one-shot under what may have consumed it")
                    self._check_once(world, entry, decision)
                    touched = True
                case Reboot(leaving=leaving):
                    self._check_reboot(world, before, after)
                    secured = any(isinstance(a, Secure) for a in decision.todo)
                    self.demand(secured, "unbootable: a reboot that nothing has secured")
                    self.demand(leaving == NOW, "a reboot that leaves another boot")
                case ForgetOnce() | Unpin() | Tell() | Mend():
                    touched |= not isinstance(action, Tell | Mend)

    def _check_mend(self, world: World, before: Trial, decision: Decision) -> None:
        mended = [action.boot_set for action in decision.todo if isinstance(action, Mend)]
        other = world.default is None or world.family is Family.VAULT  # until the next look
        there = set(SETS) if other else {world.default}
        good = all(b == before.known_good and b.kernel in there for b in mended)
        self.demand(good, "what is mended is not the pinned known-good")

    def _check_once(self, world: World, entry: EntryId, decision: Decision) -> None:
        trial = decision.trial
        tried = SETS[self.loads(world, entry)].fingerprint
        refused = {c.fingerprint for c in trial.condemned}
        self.demand(tried not in refused, "a condemned boot set is to be booted once")
        self.demand(trial.phase is Phase.ARMED, "a one-shot outside of the phase armed")
        cleared = world.family is not Family.STICKY
        self.demand(cleared, "loop: a one-shot that the loader cannot clear")
        leave = not self.lacks(world) or tried in trial.allowed
        self.demand(leave, "what a pre-check refused is to be booted once, without leave")

    def _check_reboot(self, world: World, before: Trial, after: Trial) -> None:
        # From condemned: to the boot set before, for the known-good is damaged.
        on_the_way = (before.phase, after.phase) in {
            (Phase.TRIAL, Phase.CONDEMNED),
            (Phase.CONDEMNED, Phase.CONDEMNED),
        }
        self.demand(on_the_way, f"loop: a reboot from {before.phase} to {after.phase}")
        self.demand(world.running != self.known_good(world), "a reboot away from the known-good")

    def check_state(self, world: World) -> None:
        trial = self.trial(world)
        if world.once and trial.phase is Phase.ARMED and not world.drifted:
            self.demand(
                world.default is not None and world.default == self.known_good(world),
                "unbootable: a one-shot is set while the default is not the known-good",
            )
        kept = world.default is None or world.default in world.vault
        self.demand(kept, "unbootable: the default is not on disk")
        if world.stage is Stage.OPEN and not world.drifted:
            pinned = trial.known_good.kernel if trial.known_good and trial.pinned else None
            named = pinned == world.default or world.family is Family.VAULT
            self.demand(named, "lost: the record does not name what is pinned")
            # A full disk takes no wish: then the verdict goes first.
            told = trial.cordon == world.cordoned or world.family is Family.DISK
            self.demand(told, "lost: the record does not know the cordon")

    # --- calm ---------------------------------------------------------------------------------

    def calm(self, world: World) -> World:
        """Go on for one round without accidents: the daemon works, every set shows its nature."""
        dies = world.running and self.nature(world, world.running) is Nature.LATE
        late = dies and self.acts(world) and world.default is not None  # else it is the host's own
        if world.stage is not Stage.OPEN:
            after = self.daemon(world)[-1][1]
            return self.start(after) if late and after == world else after
        world = self.look(world)[-1][1]
        if late:
            return self.start(world)
        if world.stage is not Stage.OPEN:
            return world
        if self.trial(world).running is None:
            world = self.tell(world, "booted", self.booted(world))[-1][1]
        if world.stage is not Stage.OPEN:
            return world
        if dies:
            return world
        return self.judged(world, Outcome(self.nature(world, world.running or GOOD)))[-1][1]

    def check_calm(self, world: World) -> None:
        """Hold a world that calm no longer changes against what an operator may expect."""
        trial, running = self.trial(world), world.running
        if running is None:
            return
        if world.full or world.loader is not Ability.ALL:
            self._check_hindered(world, running)
            return
        if not self.acts(world):
            self._check_observed(world)
            return
        self._check_taking_pods(world, running)
        if world.by in {Start.ONCE, Start.DEFAULT}:
            self.demand(trial.phase is not Phase.CONDEMNED, "condemned, and there it stays")
            in_doubt = self.nature(world, running) is Nature.UNSURE
            self.demand(trial.phase is not Phase.TRIAL or in_doubt, "a trial does not end")
        if running == self.known_good(world):
            self.demand(trial.phase in AT_REST, f"the sound known-good stays {trial.phase}")
        pinned = running if trial.known_good is None else trial.known_good.kernel
        named = not trial.pinned or pinned == world.default or pinned in world.damaged
        self.demand(named, "unbootable: the default is another one for ever")
        self._check_one_shot(world)

    def _check_one_shot(self, world: World) -> None:
        trial = self.trial(world)
        if world.stray and world.once:
            led = SETS[self.loads(world, world.once)].fingerprint
            marked = {mark.fingerprint for mark in trial.condemned}
            self.demand(led not in marked, "a one-shot leads to a condemned boot set")
        elif trial.phase is not Phase.ARMED:
            self.demand(world.once is None, f"a one-shot is left over in the phase {trial.phase}")
        elif trial.running is not None:
            self.demand(world.once is not None, "armed, but nothing will try the candidate")
            refused = self.lacks(world) and SETS[SECOND].fingerprint not in trial.allowed
            self.demand(not refused, "armed, and a pre-check speaks against it")

    def _check_hindered(self, world: World, running: str) -> None:
        """Demand the least, with a full disk or a loader that takes no write: nobody is stuck.

        With a one-shot that cannot be taken back no reboot would end on the known-good.
        """
        known = self.trial(world).running is not None or world.stage is not Stage.OPEN
        bad = self.nature(world, running) is Nature.WORSE and world.by is Start.ONCE and known
        stuck = world.loader is Ability.NOTHING and world.once is not None
        excused = not self.acts(world) or stuck or self._is_condemned(world, running)
        self.demand(not bad or excused, "a bad candidate runs, and what hinders keeps it")

    def _is_condemned(self, world: World, name: str) -> bool:
        """Tell what no second rollback is made of."""
        marks = {mark.fingerprint for mark in self.trial(world).condemned}
        return SETS[name].fingerprint in marks and world.stage is Stage.OPEN

    def _check_observed(self, world: World) -> None:
        ours = world.once is not None and not world.stray
        self.demand(not ours, "observe mode, and the one-shot stays for ever")
        self.demand(world.default is None, "observe mode, and the pin stays for ever")
        self.demand(not world.cordoned, "observe mode, and the cordon stays for ever")

    def _check_taking_pods(self, world: World, running: str) -> None:
        at_rest = self.trial(world).phase is Phase.STEADY
        if running == self.known_good(world):
            self.demand(not world.cordoned, "the sound known-good runs cordoned for ever")
        if self.nature(world, running) is Nature.SOUND and at_rest:
            self.demand(not world.cordoned, "a sound boot set runs cordoned for ever")
        if self.nature(world, running) is Nature.WORSE:
            self._check_bad(world, running)

    def _check_bad(self, world: World, running: str) -> None:
        trial = self.trial(world)
        cordoned = world.cordoned or (trial.phase in AT_REST and not world.cordons)
        self.demand(cordoned, "a bad boot set runs and the node takes pods")
        obeyed = not world.cordoned or world.cordons or trial.phase not in AT_REST
        self.demand(obeyed, "the node stays cordoned at rest, against the policy")
        # One rollback for one candidate, and none of what nobody can name.
        refused = {mark.fingerprint for mark in trial.condemned}
        excused = trial.running is None or SETS[running].fingerprint in refused
        ended = excused or world.by is not Start.ONCE
        self.demand(ended, "a bad candidate runs and nothing ends it")


def _gist(event: Event) -> tuple[str, str, str]:
    """Tell events of this model apart, faster than by their values."""
    match event:
        case Booted(running=running):
            return "booted", _choice(running), f"{event.once_pending} {event.instead}"
        case Seen(wanted=wanted, once=once):
            return "seen", _choice(wanted), "none" if once is None else _choice(once)
        case Judged():
            return f"judged {event.boot}", event.verdict.outcome, ""
        case Unkept():
            return "unkept", "", ""
        case Retried() | Allowed() | Damaged():
            return type(event).__name__, "", ""


def _choice(choice: Choice | Unknown) -> str:
    if isinstance(choice, Unknown):
        return ""
    against = f"{bool(choice.objections)} {bool(choice.obstacles)}"
    return f"{choice.entry} {choice.boot_set.kernel} {against}"


def _bare(decision: Decision) -> Decision:
    """Drop what `step` never reads: words, times and the verdict that it was told."""
    trial = decision.trial
    condemned = sorted((replace(c, why="") for c in trial.condemned), key=lambda c: c.fingerprint)
    allowed = tuple(sorted(set(trial.allowed)))
    trial = replace(trial, story=(), judged=None, condemned=tuple(condemned), allowed=allowed)
    return Decision(trial=trial, todo=tuple(_bare_action(a) for a in decision.todo))


def _bare_action(action: Action) -> Action:
    match action:
        case Tell(wish=wish):
            return Tell(
                Wish(cordoned=wish.cordoned, reason="", message="", condition="", boot=NOW, at=AT)
            )
        case Reboot(leaving=leaving):
            return Reboot("", leaving)
        case _:
            return action


def _is_pin(todo: tuple[Action, ...]) -> bool:
    return bool(todo) and isinstance(todo[0], PIN_ACTIONS)


def _gives_back(action: Action) -> bool:
    match action:
        case Tell(wish=wish):
            return not wish.cordoned
        case _:
            return isinstance(action, ForgetOnce | Unpin)


def _name(action: Action) -> str:
    match action:
        case Keep(boot_set=b) | PinKnownGood(boot_set=b) | Mend(boot_set=b) | Secure(boot_set=b):
            return f"{type(action).__name__}({b.kernel})"
        case BootOnce(entry=entry):
            return f"BootOnce({entry})"
        case Tell(wish=wish):
            return "Tell(cordoned)" if wish.cordoned else "Tell(not cordoned)"
        case _:
            return type(action).__name__
