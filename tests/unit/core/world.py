"""A small model of a host for the explorer: loader, vault, node, power, and three boot sets.

The loader has a default and a one-shot as GRUB does: a one-shot is consumed at the next start,
whatever then happens. The vault refuses a boot set whose files are gone, may refuse any other one
for want of room or as damaged, and drops what the trial no longer names. A boot's id is "now"
while it runs and "before" afterwards, so that the model has finitely many states.

What the shell does about a full disk is asked of the shell itself (`trialboot.trial`). Accidents
come in families, so that each can be followed far: an ordinary life, a disk that fills up, a
loader that takes no writes, a vault that is damaged, somebody else at the loader.
"""

from dataclasses import replace
from enum import Enum, auto
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
from trialboot.core.machine import step
from trialboot.core.node import Wish
from trialboot.core.trial import (
    Allowed,
    Booted,
    Choice,
    Crowded,
    Damaged,
    Decision,
    Event,
    Judged,
    Policy,
    Retried,
    Seen,
    Unkept,
)
from trialboot.core.verdict import Outcome, Verdict

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
CROWDS: Final = {
    name: Crowded(at=AT, fingerprint=kept.fingerprint, why="the next kernel has no room")
    for name, kept in SETS.items()
}
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


POLICIES: Final = {
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
        policy = POLICIES[world.armed, world.cordons]
        key = (world.stored, *gist(event), policy)
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


def gist(event: Event) -> tuple[str, str, str]:
    """Tell events of this model apart, faster than by their values."""
    match event:
        case Booted(running=running, once=once):
            pending = "none" if once is None else told(once)
            return "booted", told(running), f"{event.once_pending} {pending} {event.instead}"
        case Seen(wanted=wanted, once=once):
            return "seen", told(wanted), "none" if once is None else told(once)
        case Judged():
            return f"judged {event.boot}", event.verdict.outcome, ""
        case Unkept():
            return "unkept", "", ""
        case Crowded(fingerprint=fingerprint):
            return "crowded", fingerprint, ""
        case Retried() | Allowed() | Damaged():
            return type(event).__name__, "", ""


def told(choice: Choice | Unknown) -> str:
    if isinstance(choice, Unknown):
        return ""
    against = f"{bool(choice.objections)} {bool(choice.obstacles)}"
    return f"{choice.entry} {choice.boot_set.kernel} {against}"


def bare(decision: Decision) -> Decision:
    """Drop what `step` never reads: words, times and the verdict that it was told."""
    trial = decision.trial
    condemned = sorted((replace(c, why="") for c in trial.condemned), key=lambda c: c.fingerprint)
    allowed = tuple(sorted(set(trial.allowed)))
    trial = replace(trial, story=(), judged=None, condemned=tuple(condemned), allowed=allowed)
    return Decision(trial=trial, todo=tuple(bare_action(a) for a in decision.todo))


def bare_action(action: Action) -> Action:
    match action:
        case Tell(wish=wish):
            return Tell(
                Wish(cordoned=wish.cordoned, reason="", message="", condition="", boot=NOW, at=AT)
            )
        case Reboot(leaving=leaving):
            return Reboot("", leaving)
        case _:
            return action


def is_pin(todo: tuple[Action, ...]) -> bool:
    return bool(todo) and isinstance(todo[0], PIN_ACTIONS)


def gives_back(action: Action) -> bool:
    match action:
        case Tell(wish=wish):
            return not wish.cordoned
        case _:
            return isinstance(action, ForgetOnce | Unpin)


def action_name(action: Action) -> str:
    match action:
        case Keep(boot_set=b) | PinKnownGood(boot_set=b) | Mend(boot_set=b) | Secure(boot_set=b):
            return f"{type(action).__name__}({b.kernel})"
        case BootOnce(entry=entry):
            return f"BootOnce({entry})"
        case Tell(wish=wish):
            return "Tell(cordoned)" if wish.cordoned else "Tell(not cordoned)"
        case _:
            return type(action).__name__
