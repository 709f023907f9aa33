"""The package database as dpkg keeps it: what is installed, and whether all of it is whole.

Hooks only say when it may have changed. No process is spawned and no lock is taken.
"""

import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from trialboot.core.facts import Package, Unknown
from trialboot.core.transaction import Condition, HalfDone, HistoryRecord
from trialboot.host import Host

FOLDER: Final = "/var/lib/dpkg"
STATUS: Final = f"{FOLDER}/status"
UPDATES: Final = f"{FOLDER}/updates"
HISTORY: Final = "/var/log/apt/history.log"
_STATUS_AT_MOST: Final = 12 << 20
"""Bytes: 3,000 packages take 3 MiB."""
_PACKAGES_AT_MOST: Final = 50_000
_TAIL: Final = 16 << 10
"""Bytes of apt's history: the last record, as a rule."""
_LONG_TAIL: Final = 1 << 20
"""Bytes for a record that names thousands of packages."""

_WHOLE: Final = frozenset({b"installed", b"config-files", b"not-installed"})
_UNPACKED: Final = frozenset(
    {b"installed", b"unpacked", b"half-configured", b"triggers-awaited", b"triggers-pending"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What one reading of the package database gives."""

    packages: tuple[Package, ...] | Unknown
    condition: Condition


def read_database(host: Host) -> Database:
    """Read packages and condition in one pass over the status file."""
    raw = _read_status(host)
    packages, half_done = (raw, raw) if isinstance(raw, Unknown) else parse_status(raw)
    return Database(
        packages=packages,
        condition=Condition(
            half_done=half_done if host.exists(FOLDER) else (),
            updates=_read_updates(host),
            history=_read_history(host),
        ),
    )


def _read_status(host: Host) -> bytes | Unknown:
    try:
        with host.path(STATUS).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(min(size, _STATUS_AT_MOST) + 1)
    except OSError as error:
        return Unknown(f"{STATUS}: {error.strerror}")
    if len(raw) > _STATUS_AT_MOST or raw.count(b"\nPackage: ") > _PACKAGES_AT_MOST:
        return Unknown(f"{STATUS}: too large to be dpkg's")
    return raw


def parse_status(raw: bytes) -> tuple[tuple[Package, ...], tuple[HalfDone, ...]]:
    """Give the packages whose files are there, and those that are not whole; both sorted.

    The files of a package that is only unpacked, or waits for a trigger, are those of its version
    all the same; of one that is half-installed they are of none.
    """
    found: list[tuple[str, str, str]] = []
    half_done: list[tuple[str, str, str]] = []
    for paragraph in raw.split(b"\n\n"):
        lines = b"\n%b\n" % paragraph
        state = _field(lines, b"\nStatus: ").rpartition(b" ")[2]
        name = _field(lines, b"\nPackage: ").decode(errors="replace")
        if not state or not name:
            continue
        architecture = _field(lines, b"\nArchitecture: ").decode(errors="replace")
        if state in _UNPACKED:
            version = _field(lines, b"\nVersion: ").decode(errors="replace")
            found.append((name, architecture, version))
        if state not in _WHOLE:
            half_done.append((name, architecture, state.decode(errors="replace")))
    return (
        tuple(Package(name=n, architecture=a, version=v) for n, a, v in sorted(found)),
        tuple(HalfDone(name=n, architecture=a, state=s) for n, a, s in sorted(half_done)),
    )


def _field(lines: bytes, key: bytes) -> bytes:
    at = lines.find(key)
    return b"" if at < 0 else lines[at + len(key) : lines.find(b"\n", at + len(key))]


def _read_updates(host: Host) -> tuple[str, ...] | Unknown:
    """Name what is left of dpkg's update journal; it is folded into the status file at the end."""
    try:
        names = [entry.name for entry in host.path(UPDATES).iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        return Unknown(f"{UPDATES}: {error.strerror}")
    return tuple(sorted(name for name in names if name.isdecimal()))


def _read_history(host: Host) -> HistoryRecord | Unknown | None:
    try:
        tail = _tail(host, _TAIL)
        if len(tail) == _TAIL and _START not in tail:
            tail = _tail(host, _LONG_TAIL)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unknown(f"{HISTORY}: {error.strerror}")
    return parse_history(tail)


def _tail(host: Host, size: int) -> bytes:
    with host.path(HISTORY).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)


_START: Final = b"\nStart-Date: "


def parse_history(tail: bytes) -> HistoryRecord | Unknown | None:
    """Give the last record of apt's history; None where there is none (it is rotated)."""
    _, found, record = (b"\n" + tail).rpartition(_START)
    if not found:
        return Unknown(f"{HISTORY}: no record is found") if record.strip() else None
    start, *lines = record.decode(errors="replace").split("\n")
    values = {key: value for key, _, value in (line.partition(": ") for line in lines)}
    moment = _utc(start)
    if not moment:
        return Unknown(f"{HISTORY}: {start[:40]!r} is no time")
    return HistoryRecord(
        start=moment,
        end=values.get("End-Date", ""),
        command=values.get("Commandline", ""),
        user=values.get("Requested-By", ""),
        error=values.get("Error", ""),
    )


def _utc(local: str) -> str:
    """Turn the host's local time, as apt writes it, into RFC 3339 in UTC; empty if it is none."""
    try:
        seconds = time.mktime(time.strptime(local.strip(), "%Y-%m-%d %H:%M:%S"))
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
