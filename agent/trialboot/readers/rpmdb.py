"""The package database of rpm: which packages are installed, without rpm and without its locks.

SQLite, rpm's default since 4.16; header and table are those of rpm's lib/backend/sqlite.c.
"""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from trialboot.core.facts import Package, Unknown
from trialboot.core.rpmheader import parse_header
from trialboot.host import Host

PLACES: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
_DATABASE: Final = "rpmdb.sqlite"
_OTHER_FORMS: Final = ("Packages", "Packages.db")
"""Berkeley DB (RHEL 8 and older) and ndb (SUSE)."""

_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one header; that of a package with 20,000 files has about 3 MiB."""
_MOST: Final = 50_000
_STEPS: Final = 5_000_000
"""Instructions of SQLite's machine before it is stopped: a row takes about 15."""
_PATIENCE: Final = 0.5
"""Seconds to wait for a lock; readers and one writer do not lock each other out."""

_HEADERS: Final = """
    SELECT CASE WHEN length(blob) <= ? THEN blob END FROM Packages LIMIT ?
"""


def read_rpm_packages(host: Host) -> tuple[Package, ...] | Unknown:
    """Read all installed packages, sorted; an unreadable one makes the whole unknown."""
    for place in PLACES:
        if host.exists(f"{place}/{_DATABASE}"):
            return _read(host.path(f"{place}/{_DATABASE}"))
    for place in PLACES:
        for name in _OTHER_FORMS:
            if host.exists(f"{place}/{name}"):
                return Unknown(f"{place}/{name}: this form of rpm's database is not understood")
    return Unknown("no rpm database")


def parse_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[Package, ...] | Unknown:
    """Turn the headers of the table `Packages` into packages; `gpg-pubkey` is a key, not one."""
    found = []
    for number, (header,) in enumerate(rows, 1):
        if number > _MOST:
            return Unknown(f"the rpm database has more than {_MOST} packages")
        package = _package(header)
        if isinstance(package, Unknown):
            return package
        if package.name != "gpg-pubkey":
            found.append(package)
    return tuple(sorted(found))


def _package(header: Any) -> Package | Unknown:
    if not isinstance(header, bytes):
        return Unknown("a header of the rpm database is too large, or is none")
    return parse_header(header)


def _read(path: Path) -> tuple[Package, ...] | Unknown:
    import sqlite3  # noqa: PLC0415  4 ms and 1 MiB: only hosts with rpm pay

    try:
        settled = _settled(path)
        address = _address(path, settled)
        with closing(sqlite3.connect(address, timeout=_PATIENCE, uri=True)) as base:
            # A damaged or hostile schema may loop: the first call of the handler is the last.
            base.set_progress_handler(lambda: 1, _STEPS)
            packages = parse_rows(base.execute(_HEADERS, (_LARGEST, _MOST + 1)))
        moved = settled is not None and _settled(path) != settled
    except (sqlite3.Error, OSError) as error:
        return Unknown(f"rpm database: {error}")
    return Unknown("the rpm database changed while it was read") if moved else packages


def _settled(path: Path) -> tuple[int, int] | None:
    """Give change time and size of a database whose log is empty: the file is all there is.

    rpm empties the log when it ends (`wal_checkpoint = TRUNCATE`). One that is not empty belongs
    to a transaction that runs, or was killed.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _address(path: Path, settled: tuple[int, int] | None) -> str:
    """Name the database to SQLite (https://www.sqlite.org/uri.html), to be read only.

    `immutable`: no lock is taken and no `-shm` file is made beside it; that also works where the
    file system is read-only. It would not see the log: with one, SQLite reads as rpm itself does.
    """
    mode = "mode=ro" if settled is None else "mode=ro&immutable=1"
    return f"{path.absolute().as_uri()}?{mode}"
