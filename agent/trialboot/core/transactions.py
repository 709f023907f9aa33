"""The journal of package transactions: the whole law of how notes become transactions.

Hooks only say when and why; the difference of the package database says what. `take` folds the
notes of the hooks into the journal, `settle` adds what the database itself tells. Both may be said
twice. Whatever comes, at most one transaction is open: the others ended, or were given up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from trialboot.core.facts import BootId, Unknown
from trialboot.core.packagechange import PackageChange, combined, sides, weightiest
from trialboot.core.packagenote import NOBODY, Note, leader_of, manager_of
from trialboot.core.transaction import (
    NOT_TOLD,
    Condition,
    HistoryRecord,
    Journal,
    Moment,
    State,
    Transaction,
    changed_count,
)

QUIET: Final = 60.0
"""Seconds after its end in which a leader may begin again and it is the same transaction:
unattended-upgrades reopens its cache between its steps, which takes seconds on a busy node."""
SILENT: Final = 600.0
"""Seconds without a note after which a run is over, where no package database is locked."""
KEPT: Final = 200
"""Transactions that the journal holds."""
PLANNED_AT_MOST: Final = 500
"""Names that are remembered of a plan."""
ROWS: Final = 2000
"""Changes and planned names that the whole journal holds: the daemon that reads it is small."""
TEXT_AT_MOST: Final = 1000
"""Characters that are kept of a command, a user's name or a reason."""


def suspects(journal: Journal, notes: Iterable[Note] = ()) -> tuple[tuple[int, float], ...]:
    """Name the leaders whose life matters: pid, and uptime in seconds at which each was seen."""
    seen = {each.leader.pid: each.heard[0] for each in journal if each.state is State.OPEN}
    seen |= {leader_of(note).pid: note.at for note in notes if _is_about_a_run(note)}
    return tuple(sorted((pid, at) for pid, at in seen.items() if pid))


# --- notes --------------------------------------------------------------------------------------

_BEGINS: Final = frozenset({"begin", "dpkg-begin"})
_ENDS: Final = frozenset({"end", "dpkg-end"})


def take(
    journal: Journal,
    notes: Sequence[Note],
    *,
    boot: BootId,
    uptime: float,
    alive: frozenset[int],
    locked: bool,
) -> Journal:
    """Fold notes, in the order they were left, into the journal.

    `boot` is the present one, `uptime` the seconds since its kernel started; `alive` are the pids
    of those `suspects` that live; `locked` tells that somebody holds a package database: a run
    whose leader was killed goes on in its dpkg. A torn note and one of a kernel hook or a trigger
    change nothing: they only tell when to look.
    """
    for note in notes:
        if _is_about_a_run(note) and not _is_heard(journal, note):
            fold = _begin if note.event in _BEGINS else _end
            journal = fold(journal, note, alive)
    return _bounded(_checked(journal, boot, uptime, alive, locked=locked))


def _is_about_a_run(note: Note) -> bool:
    between = note.action == "trigger" or note.action.startswith("kernel:")
    return note.whole and not between and note.event in _BEGINS | _ENDS


def _is_heard(journal: Journal, note: Note) -> bool:
    """Tell a note that was read before: the daemon may die before it has removed it."""
    last = _last_of(journal, note)
    return last is not None and note.pid > 0 and (note.at, note.pid) <= last.heard


def _last_of(journal: Journal, note: Note) -> Transaction | None:
    leader = leader_of(note)
    own = (each for each in reversed(journal) if (each.boot, each.leader) == (note.boot, leader))
    return next(own, None)


def _begin(journal: Journal, note: Note, alive: frozenset[int]) -> Journal:
    last = _last_of(journal, note)
    if last is not None and last.state is State.OPEN and _is_the_same_step(last, note):
        return _with(journal, last, _heard(last, note))
    if journal and _goes_on(journal[-1], note):
        before, newest = journal[:-1], _begun_again(journal[-1], note)
    else:
        before, newest = journal, _opened(journal, note)
    # One that goes on may have an open one before it: where only its first end was told.
    return (*(_given_up(each, note, alive) for each in before), newest)


def _begun_again(last: Transaction, note: Note) -> Transaction:
    return replace(
        _heard(last, note),
        state=State.OPEN,
        why="",
        cycles=last.cycles + 1,
        planned=_planned(last.planned, note),
        frontend=not note.event.startswith("dpkg-"),
        settled=False,
    )


def _is_the_same_step(last: Transaction, note: Note) -> bool:
    """Tell a beginning that was told already, in other words.

    aptitude gives its lock away, so each of its runs of dpkg takes itself for a bare one.
    unattended-upgrades reads apt's configuration twice: each of its steps calls each hook twice.
    """
    if note.event == "dpkg-begin":
        return last.frontend
    names = _planned((), note)
    return bool(names) and set(names) <= set(last.planned) and note.at - last.heard[0] <= QUIET


def _goes_on(last: Transaction, note: Note) -> bool:
    """Tell another cycle of the newest transaction from a new one."""
    if (last.boot, last.leader) != (note.boot, leader_of(note)):
        return False
    if last.state is State.OPEN:
        return last.cycles > 1  # an aborted step of many; an aborted first one is superseded
    return last.closed_at is not None and note.at - last.closed_at <= QUIET


def _heard(each: Transaction, note: Note) -> Transaction:
    return replace(each, heard=(note.at, note.pid))


def _with(journal: Journal, old: Transaction, new: Transaction) -> Journal:
    return tuple(new if each is old else each for each in journal)


def _given_up(each: Transaction, note: Note, alive: frozenset[int]) -> Transaction:
    """End an open transaction that another one follows: the databases have one writer."""
    if each.state is not State.OPEN:
        return each
    if each.boot != note.boot:
        return _cut_off(each)
    newcomer = leader_of(note)
    if each.leader == newcomer:
        why = "it was stopped before it began to change anything, and begun anew"
    elif _is_dead(each, alive):
        return _killed(each)
    else:
        why = f"{manager_of(note)} began before its end was told"
    return replace(each, state=State.SUPERSEDED, why=why)


def _end(journal: Journal, note: Note, alive: frozenset[int]) -> Journal:
    del alive  # who tells an end has ended well, dead or not
    last = _last_of(journal, note)
    if last is None or not _may_end(last, note):
        lone = _closed(_opened(journal, note), note)
        return (*journal, replace(lone, why="its beginning was not told"))
    within = last.frontend and note.event == "dpkg-end" and last.state is State.OPEN
    return _with(journal, last, _heard(last, note) if within else _closed(last, note))


def _may_end(last: Transaction, note: Note) -> bool:
    """Tell whether an end is this transaction's, also of one that was given up too early."""
    if last.state is State.OPEN or last.closed_at is None:
        return True
    return note.at - last.closed_at <= QUIET


def _closed(each: Transaction, note: Note) -> Transaction:
    return replace(
        _heard(each, note), state=State.CLOSED, why="", closed_at=note.at, settled=False
    )


def _opened(journal: Journal, note: Note) -> Transaction:
    leader = leader_of(note)
    return Transaction(
        key=_new_key(journal, note.boot, note.at, leader.pid),
        manager=manager_of(note),
        boot=note.boot,
        leader=leader,
        opened_at=note.at,
        time=note.time,
        command=note.command,
        user=note.user,
        planned=_planned((), note),
        frontend=not note.event.startswith("dpkg-"),
        heard=(note.at, note.pid),
    )


def _new_key(journal: Journal, boot: str, at: float, pid: int) -> str:
    base = f"{boot[:8]}-{at:.2f}-{pid}"
    taken = {each.key for each in journal}
    return next(key for key in (f"{base}-{n}" for n in count(1)) if key not in taken)


def _planned(before: tuple[str, ...], note: Note) -> tuple[str, ...]:
    """Add the names of a plan; what only waits to be configured is an earlier run's."""
    steps = (line.split(maxsplit=8) for line in note.packages)
    names = [step[0] for step in steps if step and step[-1] != "**CONFIGURE**"]
    return tuple(dict.fromkeys((*before, *names)))[:PLANNED_AT_MOST]


# --- those that never told their end ------------------------------------------------------------


def _checked(
    journal: Journal, boot: BootId, uptime: float, alive: frozenset[int], *, locked: bool
) -> Journal:
    """End those that are over though nobody told; who holds a database is at work."""

    def checked(each: Transaction) -> Transaction:
        if each.state is not State.OPEN:
            return each
        if each.boot != boot:
            return _cut_off(each)
        if locked:
            return each
        if _is_dead(each, alive):
            return _killed(each)
        # Its leader is not known, or is a program that stays: aptitude, a management agent.
        silent = uptime - each.heard[0] > SILENT
        return _interrupted(each, "it never told its end") if silent else each

    return tuple(map(checked, journal))


def _is_dead(each: Transaction, alive: frozenset[int]) -> bool:
    return each.leader != NOBODY and each.leader.pid not in alive


def _cut_off(each: Transaction) -> Transaction:
    return _interrupted(each, "power loss or reset")


def _killed(each: Transaction) -> Transaction:
    who = f"{each.leader.name} (process {each.leader.pid})"
    return _interrupted(each, f"{who} is gone and never told its end")


def _interrupted(each: Transaction, why: str) -> Transaction:
    return replace(each, state=State.INTERRUPTED, why=why)


# --- what the package database tells ------------------------------------------------------------


def settle(
    journal: Journal,
    condition: Condition,
    changes: tuple[PackageChange, ...] | Unknown,
    *,
    now: Moment,
    alive: frozenset[int],
    locked: bool,
) -> Journal:
    """Add what the package database tells: what changed since it was read last, and how it is.

    The difference belongs to the newest transaction if notes came since; else to one of its own,
    whose manager was not told. To settle again with the same difference adds nothing, so the
    journal may be stored before the package list that the next difference is taken from.
    """
    journal = _checked(journal, now.boot, now.uptime, alive, locked=locked)
    if not journal or journal[-1].settled:
        if isinstance(changes, Unknown) or not changes or _has_them(journal, changes):
            return journal
        journal = (*journal, _untold(journal, now))
    last = journal[-1]
    last = _with_changes(last, changes)
    if last.state is not State.OPEN:
        last = _judged(last, condition)
    return _bounded((*journal[:-1], last))


def _with_changes(last: Transaction, changes: tuple[PackageChange, ...] | Unknown) -> Transaction:
    whole, changed = combined(last.changes, changes), last.changed
    if isinstance(whole, Unknown) or isinstance(last.changes, Unknown):
        changed = None
    elif changed is not None:
        changed += len(whole) - len(last.changes)
    return replace(last, changes=whole, changed=changed)


def _has_them(journal: Journal, changes: tuple[PackageChange, ...]) -> bool:
    """Tell a difference that was added before: the daemon died before it stored the new list.

    Where a package came and went again in between no trace of it is left, and it is told twice.
    """
    known = journal[-1].changes if journal else ()
    if isinstance(known, Unknown):
        return False
    if journal and journal[-1].changed is not None:
        return bool(known) and weightiest(changes, len(known)) == known
    (gone, came), (lost, found) = sides(known), sides(changes)
    replaced = {place for place, _ in found}
    return found <= came and {row for row in lost if row[0] not in replaced} <= gone


def _untold(journal: Journal, now: Moment) -> Transaction:
    return Transaction(
        key=_new_key(journal, now.boot, now.uptime, 0),
        manager=NOT_TOLD,
        boot=now.boot,
        opened_at=now.uptime,
        closed_at=now.uptime,
        time=now.time,
        state=State.CLOSED,
    )


def _judged(last: Transaction, condition: Condition) -> Transaction:
    """Give a transaction that is over its final state, and what apt wrote down of it."""
    record = _record_of(last, condition)
    if record is not None:
        command, user = record.command or last.command, record.user or last.user
        last = replace(last, command=command, user=user)
    last = replace(last, settled=True)
    if last.state is not State.CLOSED:
        return last
    if record is not None and not record.end:
        return replace(last, state=State.INTERRUPTED, why="apt never wrote down its end")
    broken = _what_is_broken(condition, record)
    if broken:
        return replace(last, state=State.FAILED, why=broken)
    return replace(last, why=last.why or _what_is_unknown(condition))


_WITH_HISTORY: Final = frozenset(
    {"apt", "aptdaemon", "aptitude", "nala", "PackageKit", "synaptic", "unattended-upgrades"}
)


def _record_of(last: Transaction, condition: Condition) -> HistoryRecord | None:
    """Give apt's last record if it is this transaction's: not older, and not of bare dpkg."""
    record = condition.history
    if not isinstance(record, HistoryRecord) or last.manager not in _WITH_HISTORY:
        return None
    return record if last.time and record.start >= last.time else None


def _what_is_broken(condition: Condition, record: HistoryRecord | None) -> str:
    parts: list[str] = []
    if isinstance(condition.half_done, tuple):
        parts += [f"{each.name} is {each.state}" for each in condition.half_done[:3]]
        more = len(condition.half_done) - len(parts)
        parts += [f"{more} more packages are not whole"] if more > 0 else []
    if isinstance(condition.updates, tuple) and condition.updates:
        parts.append("dpkg was stopped in the middle of its records")
    if isinstance(condition.unfinished, tuple):
        parts += condition.unfinished
    if record is not None and record.error:
        parts.append(f"apt says: {record.error}")
    return "; ".join(parts)


def _what_is_unknown(condition: Condition) -> str:
    parts = (condition.half_done, condition.updates, condition.unfinished)
    unread = [part.why for part in parts if isinstance(part, Unknown)]
    return f"whether it is whole is not known: {'; '.join(unread)}" if unread else ""


# --- what is held of them -----------------------------------------------------------------------


def _bounded(journal: Iterable[Transaction]) -> Journal:
    """Hold the newest transactions, and rows of the newest of them: of the rest, how many."""
    held: list[Transaction] = []
    room = ROWS
    for each in reversed(tuple(journal)[-KEPT:]):
        one = _short(each if held else _newest(each))
        rows = _rows(one)
        if rows > room:
            one, room = _without_rows(one), 0
        else:
            room -= rows
        held.append(one)
    return tuple(reversed(held))


def _rows(each: Transaction) -> int:
    changes = 0 if isinstance(each.changes, Unknown) else len(each.changes)
    return len(each.planned) + changes


def _newest(each: Transaction) -> Transaction:
    if isinstance(each.changes, Unknown) or _rows(each) <= ROWS:
        return each
    cut = weightiest(each.changes, ROWS - len(each.planned))
    return replace(each, changes=cut, changed=changed_count(each))


def _without_rows(each: Transaction) -> Transaction:
    if isinstance(each.changes, Unknown):
        return replace(each, planned=())
    return replace(each, planned=(), changes=(), changed=changed_count(each))


def _short(each: Transaction) -> Transaction:
    if max(len(each.command), len(each.user), len(each.why)) <= TEXT_AT_MOST:
        return each
    return replace(
        each,
        command=each.command[:TEXT_AT_MOST],
        user=each.user[:TEXT_AT_MOST],
        why=each.why[:TEXT_AT_MOST],
    )
