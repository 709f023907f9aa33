"""Notes that the package managers' hooks leave: when something may have changed, and why.

The format is that of packaging/dpkg/package-hook: `key=value` lines, the last one `end`; a file
without it is torn. What the hooks know of processes is completed here: which of them still live.
"""

import fcntl
import os
import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from trialboot.core.packagenote import Leader, Note
from trialboot.host import Host

FOLDER: Final = "/var/lib/trialboot/spool"
_READ_AT_MOST: Final = 65536
"""Bytes of a note: some 600 steps of a plan. The rest is skipped, up to the last line."""
_DRAFT_AT_MOST: Final = 60.0
"""Seconds that a hook may take to write its note: it takes milliseconds."""
_LAST_LINE: Final = b"\nend\n"
_SECONDS: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """Notes in the order they were left, and the files that hold them."""

    notes: tuple[Note, ...]
    files: tuple[str, ...]


def read_notes(host: Host) -> Spooled:
    """Read all notes. To be removed once they are in the journal: read twice, they count once."""
    folder = host.path(FOLDER)
    notes, files = [], []
    for path in sorted(folder.glob("*.ev")) if folder.is_dir() else ():
        # One that cannot be read is there again, or gone, at the next wake-up.
        with suppress(OSError):
            if path.is_file():
                notes.append(parse_note(_text_of(path), _time_of(path)))
                files.append(path.name)
    return Spooled(notes=in_order(notes), files=tuple(files))


def remove_notes(host: Host, files: Iterable[str]) -> None:
    """Remove the files of notes that are remembered, and drafts whose hook was killed."""
    for name in files:
        with suppress(OSError):
            (host.path(FOLDER) / name).unlink()
    long_ago = host.now().timestamp() - _DRAFT_AT_MOST
    for draft in host.path(FOLDER).glob("*.tmp"):
        with suppress(OSError):
            if draft.stat().st_mtime < long_ago:
                draft.unlink()


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_READ_AT_MOST)
        if len(raw) == _READ_AT_MOST:
            file.seek(-len(_LAST_LINE), os.SEEK_END)
            raw = raw[: raw.rfind(b"\n")] + (_LAST_LINE if file.read() == _LAST_LINE else b"\n")
    return raw.decode("utf-8", errors="replace")


def _time_of(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def in_order(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Sort notes as they were left: boot after boot, and within one by its own clock."""
    known = tuple(notes)
    first: dict[str, str] = {}
    for note in known:
        first[note.boot] = min(first.get(note.boot, note.time), note.time)
    return tuple(sorted(known, key=lambda note: (first[note.boot], note.boot, note.at, note.pid)))


def parse_note(text: str, time: str = "") -> Note:
    """Turn a note, and the time at which it was written, into its parts.

    Unknown keys are left out, values that are none count as not told, a torn note says so.
    """
    lines = text.split("\n")
    pairs = [line.partition("=") for line in lines]
    values = {key: value for key, _, value in pairs}
    return Note(
        event=values.get("event", ""),
        boot=values.get("boot", ""),
        packages=tuple(value for key, _, value in pairs if key == "pkg"),
        whole=lines[-2:] == ["end", ""],
        at=_seconds(values.get("up", "")),
        time=time,
        pid=_number(values.get("pid", "")),
        chain=_chain(values.get("chain", "")),
        action=values.get("action", ""),
        user=values.get("sudo_user", ""),
        command=values.get("command", ""),
    )


def _seconds(word: str) -> float:
    return float(word) if _SECONDS.fullmatch(word) else 0.0


def _number(word: str) -> int:
    return int(word) if _NUMBER.fullmatch(word) else 0


def _chain(value: str) -> tuple[Leader, ...]:
    pairs = (word.partition(":") for word in value.split())
    return tuple(Leader(pid=_number(pid), name=name) for pid, _, name in pairs if _number(pid))


_STARTED: Final = 19
"""Index of `starttime`, field 22 of /proc/PID/stat (proc(5)), behind the name in brackets."""
_SLACK: Final = 1.0
"""Seconds: the clock that starts are told by is coarse."""


def read_alive(host: Host, suspects: Iterable[tuple[int, float]]) -> frozenset[int]:
    """Tell which processes still live that lived at some uptime in seconds.

    A process that was started later has only the number of the one that is meant. Where that
    cannot be told it counts as alive: nobody is called dead without evidence.
    """
    return frozenset(pid for pid, seen in suspects if _lives(host.path(f"/proc/{pid}/stat"), seen))


def _lives(stat: Path, seen: float) -> bool:
    try:
        text = stat.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    fields = text.rpartition(")")[2].split()
    if len(fields) <= _STARTED or not fields[_STARTED].isdecimal():
        return True
    started = int(fields[_STARTED]) / os.sysconf("SC_CLK_TCK")
    return fields[0] not in {"Z", "X"} and started <= seen + _SLACK


_LOCKS: Final = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
)
"""Files that dpkg, apt and rpm lock with fcntl(2) for as long as they change their databases."""
_FLOCK: Final = "hhqqi"
"""struct flock of fcntl(2): type, whence, start, length, pid."""


def is_locked(host: Host) -> bool:
    """Tell whether anybody holds a package database. Where that cannot be asked it counts as held.

    To ask takes no lock and needs no right to write; to close a file that was asked about would
    let go only locks of this very process, which has none.
    """
    return any(_is_held(host.path(lock)) for lock in _LOCKS)


def _is_held(lock: Path) -> bool:
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
