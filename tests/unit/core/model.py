"""What can happen to the model of a host, at every instant: the explorer follows it."""

from collections.abc import Iterator
from itertools import product

from tests.unit.core.laws import Laws
from tests.unit.core.world import (
    AT,
    COMES_UP,
    CROWDS,
    DAMAGE,
    DAMAGED,
    FIRST,
    GONE,
    GOOD,
    MAYBE,
    NO_ROOM,
    NOW,
    ORDINARY,
    POLICIES,
    SECOND,
    SETS,
    SYNCED,
    VERDICTS,
    Ability,
    Family,
    Nature,
    Stage,
    Start,
    World,
    action_name,
    bare,
    is_pin,
)
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
from trialboot.core.facts import Unknown
from trialboot.core.machine import IllegalMoveError
from trialboot.core.trial import (
    FALLBACK,
    PICKED,
    Allowed,
    Booted,
    Decision,
    Event,
    Judged,
    Phase,
    Retried,
    Seen,
    Trial,
    Unkept,
)
from trialboot.core.verdict import Outcome
from trialboot.errors import LoaderError, StoreError, TrialbootError
from trialboot.trial import may_be_forgotten, may_be_left_out, overtaking

Step = tuple[str, World]


class Model(Laws):
    """What can happen to a world, power cuts and all."""

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
        for name, event in CROWDS.items():
            yield from self.tell(world, f"packages lack the room of {name}", event)
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
        policy = POLICIES[self.acts(left), left.cordons]
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
        plain = bare(decision)
        stored = self.shelf.number(plain)
        if stored == world.stored or (decision.trial == self.trial(world) and not decision.todo):
            return self.perform(world, words, Stage.OPEN)  # nothing to remember
        if world.full and not may_be_forgotten(plain):
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
            found = self._unkept(world, f"{words}; {why} {action_name(todo[0])}", then)
            if why in {GONE, DAMAGED}:
                return found
        if error := self._error(world, todo[0]):
            return [*found, *self._failed(world, words, then, error, spare=spare)]
        done = self._done(world, todo[0], todo[1:])
        found += self._interrupted(done, f"{words}; {action_name(todo[0])} done, then")
        if isinstance(todo[0], Secure):
            return [*found, *self._go_back(done, words, then, todo[1])]
        return [*found, *self._remembered(done, words, then, spare=spare)]

    def _remembered(self, world: World, words: str, then: Stage, *, spare: bool) -> list[Step]:
        """Store what is left after an action, and go on with it."""
        told = f"{words}; {action_name(self.shelf.decisions[world.stored].todo[0])} done, then"
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
        told = f"{words}; {action_name(decision.todo[0])} fails: {error}"
        return [(told, world._replace(stage=Stage.FINISH))]

    def _go_back(self, world: World, words: str, then: Stage, reboot: Action) -> list[Step]:
        """Reboot, what was secured for it is stored together with it."""
        done = self._do(world, reboot)
        saved = self._saved(done, 2)
        if isinstance(reboot, Reboot) and reboot.leaving == NOW and world.armed:
            told = f"{words}; {action_name(reboot)} done, then"
            found = [(f"{told} down before that is stored", self.start(done))]
            return [*found, (f"{words}; REBOOT", self.start(saved))]
        return [*self._interrupted(saved, words), (words, saved._replace(stage=then))]

    def _done(self, world: World, action: Action, rest: tuple[Action, ...]) -> World:
        done = self._do(world, action)
        last = isinstance(action, PIN_ACTIONS) and not is_pin(rest)
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
            case ForgetOnce(spent=spent):
                once = once if spent else None
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
        plain = bare(decision)
        if world.full and not may_be_forgotten(plain):
            told = f"{words}; the disk is full"
            return [(told, world._replace(stage=Stage.FINISH))]
        return self.perform(self._stored(world, self.shelf.number(plain)), words, then)

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
            case ForgetOnce(spent=spent):
                after = world if spent else world._replace(once=None, stray=False)
            case Unpin():
                after = world._replace(default=None)
            case GiveUp(boot_set=boot_set):
                left = world.vault - ({boot_set.kernel} - {world.default})
                after = world._replace(vault=left, damaged=world.damaged & left)
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

    # --- calm

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
