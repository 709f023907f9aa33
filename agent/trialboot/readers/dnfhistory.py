"""The transaction histories of dnf: whether its newest transaction was begun and never ended."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from trialboot.core.facts import Unknown
from trialboot.host import Host

_STEPS: Final = 1_000_000
"""Instructions of SQLite's machine before it is stopped: the newest record takes about 30."""
_PATIENCE: Final = 0.5
"""Seconds to wait for a lock; readers and one writer do not lock each other out."""
_LONGEST: Final = 200
"""Characters of a command line that are told."""

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    program: str
    path: str
    newest: str
    """Asks for id, begin (Unix seconds), command line, and whether it has not ended."""


_HISTORIES: Final = (
    _History(
        # libdnf/transaction/sql/create.sql; state 0 is TransactionState::UNKNOWN.
        program="dnf",
        path="/var/lib/dnf/history.sqlite",
        newest="""
            SELECT id, dt_begin, substr(cmdline, 1, 200), state = 0 OR coalesce(dt_end, 0) = 0
            FROM trans ORDER BY id DESC LIMIT 1
        """,
    ),
    _History(
        # libdnf5/transaction/db/sql; the states are named in a table of their own.
        program="dnf5",
        path="/usr/lib/sysimage/libdnf5/transaction_history.sqlite",
        newest="""
            SELECT trans.id, dt_begin, substr(description, 1, 200), trans_state.name = 'Started'
            FROM trans LEFT JOIN trans_state ON trans_state.id = state_id
            ORDER BY trans.id DESC LIMIT 1
        """,
    ),
)


def read_unfinished(host: Host) -> tuple[str, ...] | Unknown:
    """Tell of each dnf whose newest transaction was not ended: killed, or running now.

    A sentence each; none where there is no history. An older record counts no longer: dnf does
    not mend it, but whoever ran dnf again has seen the host work.
    """
    sentences: list[str] = []
    for history in _HISTORIES:
        if host.exists(history.path):
            row = _newest(host.path(history.path), history.newest)
            if isinstance(row, Unknown):
                return Unknown(f"{history.path}: {row.why}")
            sentences.extend(parse_newest(history.program, row))
    return tuple(sentences)


def parse_newest(program: str, row: _Row | None) -> tuple[str, ...]:
    """Turn the newest record (id, begin, command line, not ended) into a sentence, or none."""
    if row is None or not row[3]:
        return ()
    number, begun, line, _ = row
    words = "".join(c if c.isprintable() else "?" for c in str(line or ""))
    told = f" «{words[:_LONGEST]}»" if words else ""
    return (f"{program}'s transaction {number}{told}, begun {_time(begun)}, has not ended",)


def _time(seconds: Any) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return "at an unknown time"


def _newest(path: Path, question: str) -> _Row | Unknown | None:
    import sqlite3  # noqa: PLC0415  4 ms and 1 MiB: only hosts with dnf pay

    # dnf logs ahead (WAL) and leaves its log; with the «-shm» file beside it SQLite reads both,
    # also on a read-only file system. Without one, the database is all there is.
    mode = "" if path.with_name(f"{path.name}-shm").exists() else "&immutable=1"
    address = f"{path.absolute().as_uri()}?mode=ro{mode}"
    try:
        with closing(sqlite3.connect(address, timeout=_PATIENCE, uri=True)) as base:
            # A damaged or hostile schema may loop: the first call of the handler is the last.
            base.set_progress_handler(lambda: 1, _STEPS)
            row: _Row | None = base.execute(question).fetchone()
    except sqlite3.Error as error:
        return Unknown(str(error))
    return row
