"""A package transaction: what is known of one, and how it is said in a line."""

from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import BootId, Unknown
from trialboot.core.language import Word
from trialboot.core.packagechange import PackageChange
from trialboot.core.packagenote import NOBODY, Leader

NOT_TOLD: Final = "not told"
"""The manager of a change that no hook told of."""


class State(Word):
    """How a transaction stands."""

    OPEN = "open"
    CLOSED = "closed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HalfDone:
    """One package that is neither installed nor gone, by dpkg's word for it."""

    name: str
    architecture: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """The last record of /var/log/apt/history.log; what it does not have is empty."""

    start: str
    """RFC 3339, UTC."""
    end: str
    """As the file has it; empty where apt did not come to write it."""
    command: str = ""
    user: str = ""
    """Requested-By: `NAME (UID)`."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Whether the package database is whole; each part fails by itself."""

    half_done: tuple[HalfDone, ...] | Unknown = ()
    updates: tuple[str, ...] | Unknown = ()
    """dpkg's update journal: files that it left in /var/lib/dpkg/updates."""
    history: HistoryRecord | Unknown | None = None
    """None where apt has written none."""
    unfinished: tuple[str, ...] | Unknown = ()
    """What dnf's histories say was begun and never ended: a sentence each."""


WHOLE: Final = Condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, by both clocks."""

    boot: BootId
    uptime: float
    """Seconds since the kernel started."""
    time: str
    """RFC 3339, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One run of a package manager, with all its cycles; or a change that no hook told of."""

    key: str
    """Unique in the journal, and never another's."""
    manager: str
    boot: str
    leader: Leader = NOBODY
    opened_at: float
    """Seconds since the kernel of `boot` started."""
    closed_at: float | None = None
    """The same, of the last end that was told."""
    time: str = ""
    """When it opened: RFC 3339, UTC."""
    state: State = State.OPEN
    why: str = ""
    command: str = ""
    user: str = ""
    cycles: int = 1
    """How often it began."""
    planned: tuple[str, ...] = ()
    """Names of the packages, in the order of the plan."""
    changes: tuple[PackageChange, ...] | Unknown = ()
    changed: int | None = None
    """How many changes there were, once some of them were dropped; see `changed_count`."""
    frontend: bool = False
    """It was a frontend that told its beginning: what its runs of dpkg tell lies in between."""
    settled: bool = False
    """The package database has been asked about it since its last note."""
    heard: tuple[float, int] = (0.0, 0)
    """Time and pid of its last note: notes that are read twice count once."""


Journal = tuple[Transaction, ...]
"""Newest last."""


def under_way(journal: Journal) -> Transaction | None:
    """Give the open transaction, if there is one."""
    return next((each for each in journal if each.state is State.OPEN), None)


def changed_count(transaction: Transaction) -> int | None:
    """Tell how many changes a transaction made, also those that were dropped; None: not known.

    Exact, but where a later cycle changed again what had been dropped: that counts twice.
    """
    if isinstance(transaction.changes, Unknown):
        return None
    return len(transaction.changes) if transaction.changed is None else transaction.changed


# --- words --------------------------------------------------------------------------------------

_COMMAND_AT_MOST: Final = 120


def words(transaction: Transaction) -> str:
    """Say a transaction in one line: manager, command, user, how much, how it ended and why."""
    said = f"{_who(transaction)}: {_how_much(transaction)}, {transaction.state}"
    if transaction.why:
        said = f"{said}: {transaction.why}"
    return "".join(letter if letter.isprintable() else " " for letter in said)


def _who(transaction: Transaction) -> str:
    command, user = transaction.command, transaction.user
    if len(command) > _COMMAND_AT_MOST:
        command = f"{command[:_COMMAND_AT_MOST]}…"
    told = [part for part in (command, f"by {user}" if user else "") if part]
    manager = transaction.manager
    return f"{manager} ({', '.join(told)})" if told else manager


def _how_much(transaction: Transaction) -> str:
    changes = transaction.changes
    if isinstance(changes, Unknown):
        return f"what it changed is not known ({changes.why})"
    if transaction.state is State.OPEN:
        return f"{_packages(len(transaction.planned))} planned"
    return f"{_packages(changed_count(transaction) or 0)} changed"


def _packages(number: int) -> str:
    return "1 package" if number == 1 else f"{number} packages"
