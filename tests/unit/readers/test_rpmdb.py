"""The package database of rpm: whole, in use, damaged, foreign."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.test_rpmheader import ARCHITECTURE, KERNEL, NAME, STRING, header, with_entry
from trialboot.core.facts import Package, Unknown
from trialboot.host import Host
from trialboot.readers.rpmdb import PLACES, parse_rows, read_rpm_packages

SCHEMA = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
APP = with_entry((NAME, STRING, 1, b"app\0"))
KEY = header((NAME, STRING, 1, b"gpg-pubkey\0"), *KERNEL[1:3])
FOUND = (
    Package(name="app", version="6.12.0-55.el10", architecture="x86_64"),
    Package(name="kernel-core", version="6.12.0-55.el10", architecture="x86_64"),
)


def database(root: Path, *headers: object, place: str = PLACES[0]) -> Path:
    """Make a database as rpm leaves it at the end of a transaction: its log is empty."""
    path = root / place.lstrip("/") / "rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA synchronous = OFF")
        base.execute(SCHEMA)
        base.executemany("INSERT INTO Packages (blob) VALUES (?)", [(raw,) for raw in headers])
    return path


@pytest.mark.parametrize("place", PLACES)
def test_packages_are_read_from_either_place_in_order(tmp_path: Path, place: str) -> None:
    database(tmp_path, header(*KERNEL), APP, place=place)
    assert read_rpm_packages(Host(root=tmp_path)) == FOUND


def test_a_key_is_no_package(tmp_path: Path) -> None:
    assert all(tag != ARCHITECTURE for tag, *_ in KERNEL[:3])
    database(tmp_path, KEY, APP)
    assert read_rpm_packages(Host(root=tmp_path)) == FOUND[:1]


def test_a_database_without_packages_has_none(tmp_path: Path) -> None:
    database(tmp_path)
    assert read_rpm_packages(Host(root=tmp_path)) == ()


def test_no_database_is_unknown(tmp_path: Path) -> None:
    assert read_rpm_packages(Host(root=tmp_path)) == Unknown("no rpm database")


@pytest.mark.parametrize("name", ["Packages", "Packages.db"])
def test_an_older_or_foreign_form_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "var/lib/rpm"
    folder.mkdir(parents=True)
    (folder / name).touch()
    assert read_rpm_packages(Host(root=tmp_path)) == Unknown(
        f"/var/lib/rpm/{name}: this form of rpm's database is not understood"
    )


def test_reading_writes_nothing_beside_the_database(tmp_path: Path) -> None:
    path = database(tmp_path, APP)
    before = path.read_bytes()
    read_rpm_packages(Host(root=tmp_path))
    assert [entry.name for entry in path.parent.iterdir()] == ["rpmdb.sqlite"]
    assert path.read_bytes() == before


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give the connection of an rpm that runs; it logs ahead and never empties the log."""
    path = database(tmp_path, APP)
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA wal_autocheckpoint = 0")
        yield base


def test_what_a_running_rpm_has_finished_is_seen(
    tmp_path: Path, writer: sqlite3.Connection
) -> None:
    writer.execute("INSERT INTO Packages (blob) VALUES (?)", (header(*KERNEL),))
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM Packages")
    assert read_rpm_packages(Host(root=tmp_path)) == FOUND


def test_what_a_killed_rpm_had_finished_is_seen(tmp_path: Path) -> None:
    path = database(tmp_path, APP)
    child = os.fork()
    if child == 0:
        base = sqlite3.connect(path, isolation_level=None)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("INSERT INTO Packages (blob) VALUES (?)", (header(*KERNEL),))
        os._exit(0)
    os.waitpid(child, 0)
    assert path.with_name("rpmdb.sqlite-wal").stat().st_size > 0
    assert read_rpm_packages(Host(root=tmp_path)) == FOUND


def test_a_locked_database_is_unknown(tmp_path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("INSERT INTO Packages (blob) VALUES (?)", (header(*KERNEL),))
    writer.execute("PRAGMA locking_mode = EXCLUSIVE")
    writer.execute("INSERT INTO Packages (blob) VALUES (?)", (header(*KERNEL),))
    assert read_rpm_packages(Host(root=tmp_path)) == Unknown("rpm database: database is locked")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "rpm database: no such table: Packages"),
        (b"not a database at all " * 50, "rpm database: file is not a database"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "rpm database: "),
    ],
)
def test_a_file_that_is_no_database_is_unknown(tmp_path: Path, content: bytes, why: str) -> None:
    database(tmp_path).write_bytes(content)
    found = read_rpm_packages(Host(root=tmp_path))
    assert isinstance(found, Unknown)
    assert found.why.startswith(why)


def test_a_database_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    path = database(tmp_path)
    path.unlink()
    path.mkdir()
    found = read_rpm_packages(Host(root=tmp_path))
    assert isinstance(found, Unknown)
    assert found.why.startswith("rpm database: ")


@pytest.mark.parametrize("damaged", [b"", b"\xff" * 40, "text", 7, bytes(16 * 1024 * 1024 + 1)])
def test_one_unreadable_package_makes_the_whole_unknown(tmp_path: Path, damaged: object) -> None:
    database(tmp_path, APP, damaged)
    assert isinstance(read_rpm_packages(Host(root=tmp_path)), Unknown)


def test_a_view_that_never_ends_is_stopped(tmp_path: Path) -> None:
    path = database(tmp_path)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DROP TABLE Packages")
        base.execute(
            "CREATE VIEW Packages AS WITH RECURSIVE n(i) AS"
            " (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT x'' AS blob FROM n WHERE i < 0"
        )
    assert read_rpm_packages(Host(root=tmp_path)) == Unknown("rpm database: interrupted")


def test_packages_without_end_are_unknown() -> None:
    rows = ((APP,) for _ in iter(int, 1))
    assert parse_rows(rows) == Unknown("the rpm database has more than 50000 packages")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_database_never_stops_the_reading(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    path = database(root, header(*KERNEL), *[APP] * 20)
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=20)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    assert isinstance(read_rpm_packages(Host(root=root)), tuple | Unknown)
