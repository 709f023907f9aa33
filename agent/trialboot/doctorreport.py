"""What doctor found, for people and for tools: the level first, then the worst rows."""

from collections.abc import Iterable
from typing import Any

from trialboot.core.doctor import Diagnosis
from trialboot.core.examined import Row, State
from trialboot.core.facts import Unknown


def as_json(found: Diagnosis) -> dict[str, Any]:
    """Put a diagnosis into plain JSON values."""
    return {
        "level": "unknown" if isinstance(found.level, Unknown) else str(found.level),
        "reasons": list(found.reasons),
        "notes": list(found.notes),
        "as_root": found.as_root,
        "rows": [
            {
                "subject": row.subject,
                "state": str(row.state),
                "found": row.found,
                "remedy": row.remedy,
            }
            for row in found.rows
        ],
    }


def doctor_lines(found: Diagnosis) -> list[str]:
    """Say what this host can survive, and what is to be done, the worst first."""
    blind = [] if found.as_root else ["not run as root: some of it is not known (sudo)"]
    level = "not known" if isinstance(found.level, Unknown) else str(found.level)
    return [
        *blind,
        f"protection: {level}",
        *(f"  - {reason}" for reason in found.reasons),
        *(f"  note: {note}" for note in found.notes),
        *(line for state in State for line in _state_lines(found, state)),
    ]


def _state_lines(found: Diagnosis, state: State) -> list[str]:
    rows = [row for row in found.rows if row.state is state]
    if not rows:
        return []
    if state is State.FINE:
        return [f"{state}: {', '.join(row.subject for row in rows)}"]
    return [f"{state}:", *row_lines(rows)]


def row_lines(rows: Iterable[Row]) -> list[str]:
    """Say what was found of each subject, and what to do about it."""
    return [line for row in rows for line in _row_lines(row)]


def _row_lines(row: Row) -> list[str]:
    told = [f"  {row.subject}: {row.found}"]
    return [*told, f"      → {row.remedy}"] if row.remedy else told
