"""Notes that the package manager's hooks leave: when something may have changed, and why.

The format is packaging/apt's: `key=value` lines, the last one `end`; a file without it is torn.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from trialboot.host import Host

FOLDER: Final = "/var/lib/trialboot/spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note: `begin` or `end` (with `dpkg-` before it for bare dpkg) and the planned steps."""

    event: str
    boot: str
    packages: tuple[str, ...]
    whole: bool


def take_notes(host: Host) -> tuple[Note, ...]:
    """Read all notes in the order they were left, and remove them.

    They are hints about time and cause, so a note lost to a crash costs nothing: the daemon's own
    comparison is the truth.
    """
    folder = host.path(FOLDER)
    notes = []
    for path in sorted(folder.glob("*.ev")) if folder.is_dir() else ():
        # One that cannot be read is there again, or gone, at the next wake-up.
        with suppress(OSError):
            notes.append(parse_note(path.read_text(encoding="utf-8", errors="replace")))
            path.unlink()
    return tuple(notes)


def run_after(run: str, note: Note) -> str:
    """Tell which package run is under way after a note: `apt`, `dpkg`, or empty for none.

    Kernel hooks and triggers leave `dpkg-end` in the middle of apt's run: only its own `end`
    ends that.
    """
    match note.event:
        case "begin":
            return "apt"
        case "dpkg-begin":
            return run or "dpkg"
        case "dpkg-end" if run == "apt":
            return run
        case _:
            return ""


def parse_note(text: str) -> Note:
    """Turn a note into its parts; unknown keys are left out, a torn one says so."""
    lines = text.splitlines()
    pairs = [line.partition("=") for line in lines]
    values = {key: value for key, _, value in pairs}
    return Note(
        event=values.get("event", ""),
        boot=values.get("boot", ""),
        packages=tuple(value for key, _, value in pairs if key == "pkg"),
        whole=bool(lines) and lines[-1] == "end",
    )
