"""The values of a trial: what is remembered, what is told to it, and the words it is told in."""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from trialboot.core.actions import Action, Tell
from trialboot.core.bootset import BootSet, Fingerprint
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.language import Word
from trialboot.core.node import Notice, Wish
from trialboot.core.verdict import Verdict

MOST_MOMENTS: Final = 24
MOST_ALLOWED: Final = 8
NO_BOOT: Final = BootId("")
NOT_LOOKED_AT: Final = Unknown("not looked at")

PICKED: Final = "picked"
"""`Booted.instead`: somebody chose the known-good in the boot menu."""
FALLBACK: Final = "fallback"
"""`Booted.instead`: the boot loader could not load the candidate."""


class Phase(Word):
    """Where a trial stands. Written to disk by these names: never rename one."""

    STEADY = "steady"
    ARMED = "armed"
    TRIAL = "trial"
    CONDEMNED = "condemned"
    RECOVERED = "recovered"
    STRANDED = "stranded"


AT_REST: Final = frozenset({Phase.STEADY, Phase.ARMED, Phase.RECOVERED})
"""The phases in which no verdict on the boot that runs ends anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator allows."""

    armed: bool = False
    """False is observe mode: nothing is pinned, cordoned or rebooted."""
    unsure_rolls_back: bool = False
    cordon_at_rest: bool = False
    """A worse verdict cordons the node also where no trial runs; it never reboots there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A boot set and the menu entry that loads it."""

    entry: EntryId
    boot_set: BootSet
    summary: str = ""
    """What it changes, in one sentence."""
    objections: tuple[str, ...] = ()
    """Pre-checks that failed: why it must not be tried as it is."""
    obstacles: tuple[str, ...] = ()
    """Why this host cannot try it at all, whatever the operator allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condemned:
    """A boot set that failed its trial: not tried again until it changes or «retry»."""

    fingerprint: Fingerprint
    release: str
    why: str
    at: str
    reasons: tuple[str, ...] = ()
    """All that the verdict had to say; none where the candidate never came up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A boot set that is not tried: until it changes, or «allow» where no obstacle is left."""

    fingerprint: Fingerprint
    release: str
    objections: tuple[str, ...]
    """Pre-checks that failed, which the operator has not overruled."""
    at: str
    obstacles: tuple[str, ...] = ()
    """Why this host cannot try it at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of a trial's story."""

    at: str
    boot: BootId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that is remembered, and the only thing that is."""

    phase: Phase = Phase.STEADY
    known_good: BootSet | None = None
    pinned: bool = False
    """The known-good is kept in the vault and is the loader's default."""
    previous: BootSet | None = None
    """What was pinned before the known-good; still in the vault."""
    cordon: bool = False
    """The Node was last told to be cordoned."""
    candidate: Choice | None = None
    replaced: Choice | None = None
    """What was armed before the candidate: a power cut may still have had it booted once."""
    boot: BootId = NO_BOOT
    """The boot that `Booted` told of last."""
    running: Choice | None = None
    """What that boot loaded; None while it is not known."""
    condemned: tuple[Condemned, ...] = ()
    refused: Refused | None = None
    """What the host's own configuration would boot, where a pre-check speaks against it."""
    allowed: tuple[Fingerprint, ...] = ()
    """What the operator wants to be tried although a pre-check failed."""
    judged: Verdict | None = None
    """The verdict on `boot`; None until there is one."""
    story: tuple[Moment, ...] = ()
    report_only: str = ""
    """Why nothing but reports may be done, such as a record that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """The machine runs this boot; told at each start of the daemon, once a boot is enough."""

    at: str
    boot: BootId
    running: Choice | Unknown
    once_pending: bool
    """The loader still holds a one-shot: it has not been consumed."""
    once: Choice | Unknown | None = NOT_LOOKED_AT
    """What that one-shot leads to; it is taken for ours where that is not known."""
    instead: str = ""
    """Why the loader booted the known-good although it had consumed a one-shot for a candidate.

    PICKED, FALLBACK, or empty where it does not say so.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the host's own configuration would boot next, left to itself."""

    at: str
    wanted: Choice | Unknown
    once: Choice | Unknown | None = NOT_LOOKED_AT
    """What the loader's one-shot leads to; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on a boot."""

    at: str
    boot: BootId
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Unkept:
    """The vault does not have a boot set: its files have changed, or there was no room."""

    at: str
    boot: BootId
    """The boot that runs; `Booted` may still be to come."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """The operator wants condemned boot sets to be tried again."""

    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The operator wants what a pre-check refused to be tried all the same."""

    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """The known-good is no longer whole on disk: packages took something from it."""

    at: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowded:
    """The next package run may lack the room that a kept boot set takes where the loader reads."""

    at: str
    fingerprint: Fingerprint
    """Of the set that stands in its way: the record may name another one by now."""
    why: str


Event: TypeAlias = Booted | Seen | Judged | Unkept | Retried | Allowed | Damaged | Crowded


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the trial is now, and what is still to be done: stored before it is performed."""

    trial: Trial
    todo: tuple[Action, ...] = ()


def same(trial: Trial) -> Decision:
    """Give a decision that changes nothing but the trial."""
    return Decision(trial=trial)


def is_known_good(trial: Trial, running: Choice) -> bool:
    """Tell whether what runs is the known-good."""
    good = trial.known_good
    return good is not None and running.boot_set.fingerprint == good.fingerprint


def is_condemned(trial: Trial, boot_set: BootSet) -> bool:
    """Tell whether a boot set failed its trial, and was not forgiven."""
    return any(c.fingerprint == boot_set.fingerprint for c in trial.condemned)


def leads_alike(one: Choice, other: Choice) -> bool:
    """Tell whether two choices are one: a package run may have changed an entry's files since."""
    return one.entry == other.entry or one.boot_set.fingerprint == other.boot_set.fingerprint


def is_ours(trial: Trial, once: Choice) -> bool:
    """Tell whether a one-shot leads to what is armed, or to what that has replaced."""
    armed = (trial.candidate, trial.replaced) if trial.phase is Phase.ARMED else ()
    return any(choice is not None and leads_alike(once, choice) for choice in armed)


def last_why(trial: Trial) -> str:
    """Say why the last trial failed."""
    return trial.condemned[-1].why if trial.condemned else "the trial ended"


def standing_objections(trial: Trial, wanted: Choice) -> tuple[str, ...]:
    """Name the failed pre-checks of a boot set that the operator has not overruled."""
    return () if wanted.boot_set.fingerprint in trial.allowed else wanted.objections


def against_trial(trial: Trial, wanted: Choice) -> tuple[str, ...]:
    """Say why a boot set is not tried, what cannot be overruled first; empty where it is."""
    return (*wanted.obstacles, *standing_objections(trial, wanted))


def with_story(trial: Trial, at: str, text: str) -> Trial:
    """Add one line to a trial's story; the oldest goes where there are too many."""
    story = (*trial.story, Moment(at=at, boot=trial.boot, text=text))
    return replace(trial, story=story[-MOST_MOMENTS:])


def first_reason(verdict: Verdict) -> str:
    """Give a verdict's first reason, and how many more there are."""
    more = len(verdict.reasons) - 1
    return f"{verdict.reasons[0]}{f' (and {more} more)' if more > 0 else ''}"


def tell_cluster(
    trial: Trial,
    at: str,
    reason: str,
    message: str,
    *,
    cordoned: bool,
    condition: str,
    notice: str = "",
) -> Tell:
    """Wish something of the Node; with `notice`, an Event too, of this type."""
    # One Event a boot and reason: the key makes a repeated request harmless.
    key = f"{trial.boot[:8]}-{reason.lower()}"
    notices = (
        (Notice(key=key, kind=notice, reason=reason, message=message, at=at),) if notice else ()
    )
    return Tell(
        Wish(
            cordoned=cordoned,
            reason=reason,
            message=message,
            condition=condition,
            boot=trial.boot,
            at=at,
            notices=notices,
        )
    )
