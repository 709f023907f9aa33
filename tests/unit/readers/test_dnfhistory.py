"""The histories of dnf4 and dnf5: ended, killed, damaged."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers.dnfhistory import parse_newest, read_unfinished

DNF4 = "var/lib/dnf/history.sqlite"
DNF5 = "usr/lib/sysimage/libdnf5/transaction_history.sqlite"
SCHEMA4 = """
    CREATE TABLE trans (id INTEGER PRIMARY KEY AUTOINCREMENT, dt_begin INTEGER NOT NULL,
        dt_end INTEGER, cmdline TEXT, state INTEGER NOT NULL, comment TEXT DEFAULT '');
"""
SCHEMA5 = """
    CREATE TABLE trans_state (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO trans_state VALUES (1, 'Started'), (2, 'Ok'), (3, 'Error');
    CREATE TABLE trans (id INTEGER PRIMARY KEY AUTOINCREMENT, dt_begin INTEGER NOT NULL,
        dt_end INTEGER, description TEXT, state_id INTEGER REFERENCES trans_state(id));
"""
OK4, OK5 = (1795613221, 1795613222, "-y install toy", 1), (1795613359, 1795613360, "dnf5 x", 2)
KILLED4, KILLED5 = (1795613300, 0, "-y upgrade", 0), (1795613400, 0, "dnf5 upgrade", 1)
SAID4 = "dnf's transaction 2 «-y upgrade», begun 2026-11-25T13:28:20+00:00, has not ended"
SAID5 = "dnf5's transaction 2 «dnf5 upgrade», begun 2026-11-25T13:30:00+00:00, has not ended"
Record = tuple[object, ...]


def history(root: Path, name: str, *records: Record) -> Path:
    path = root / name
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA synchronous = OFF")
        base.executescript(SCHEMA4 if name == DNF4 else SCHEMA5)
        columns = "cmdline, state" if name == DNF4 else "description, state_id"
        insert = f"INSERT INTO trans (dt_begin, dt_end, {columns}) VALUES (?, ?, ?, ?)"  # noqa: S608  both are ours
        base.executemany(insert, records)
    return path


def test_without_dnf_nothing_is_unfinished(tmp_path: Path) -> None:
    assert read_unfinished(Host(root=tmp_path)) == ()


@pytest.mark.parametrize("name", [DNF4, DNF5])
def test_an_empty_history_has_nothing_unfinished(tmp_path: Path, name: str) -> None:
    history(tmp_path, name)
    assert read_unfinished(Host(root=tmp_path)) == ()


@pytest.mark.parametrize(
    ("name", "records", "said"),
    [
        (DNF4, (OK4, OK4), ()),
        (DNF4, (OK4, KILLED4), (SAID4,)),
        (DNF4, (OK4, (1795613300, None, "-y upgrade", 0)), (SAID4,)),
        (DNF4, (OK4, (1795613300, None, "-y upgrade", 2)), (SAID4,)),
        (DNF4, (KILLED4, OK4), ()),
        (DNF4, ((1, 2, "x", 2),), ()),
        (DNF5, (OK5, OK5), ()),
        (DNF5, (OK5, KILLED5), (SAID5,)),
        (DNF5, (KILLED5, OK5), ()),
        (DNF5, ((1, 2, "x", 3),), ()),
        (DNF5, ((1, 2, "x", 77),), ()),
    ],
)
def test_only_the_newest_transaction_counts(
    tmp_path: Path, name: str, records: tuple[Record, ...], said: tuple[str, ...]
) -> None:
    history(tmp_path, name, *records)
    assert read_unfinished(Host(root=tmp_path)) == said


def test_both_dnfs_are_asked(tmp_path: Path) -> None:
    history(tmp_path, DNF4, OK4, KILLED4)
    history(tmp_path, DNF5, OK5, KILLED5)
    assert read_unfinished(Host(root=tmp_path)) == (SAID4, SAID5)


def test_a_history_is_read_with_the_log_that_a_killed_dnf_left(tmp_path: Path) -> None:
    path = history(tmp_path, DNF4, OK4)
    child = os.fork()
    if child == 0:
        base = sqlite3.connect(path, isolation_level=None)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("INSERT INTO trans VALUES (2, 1795613300, 0, '-y upgrade', 0, '')")
        os._exit(0)
    os.waitpid(child, 0)
    before = sorted(path.parent.iterdir())
    assert len(before) == 3
    assert read_unfinished(Host(root=tmp_path)) == (SAID4,)
    assert sorted(path.parent.iterdir()) == before


def test_reading_writes_nothing_beside_a_history_without_log(tmp_path: Path) -> None:
    path = history(tmp_path, DNF4, OK4)
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = WAL")
    assert read_unfinished(Host(root=tmp_path)) == ()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, ()),
        ((7, 1, "x", 0), ()),
        ((7, 1, "x", None), ()),
        (
            (7, 0, None, 1),
            ("dnf's transaction 7, begun 1970-01-01T00:00:00+00:00, has not ended",),
        ),
        ((7, "soon", "", 1), ("dnf's transaction 7, begun at an unknown time, has not ended",)),
        ((7, 2**62, "", 1), ("dnf's transaction 7, begun at an unknown time, has not ended",)),
        (
            (7, 0, "a\nb\x1b[1m", 1),
            ("dnf's transaction 7 «a?b?[1m», begun 1970-01-01T00:00:00+00:00, has not ended",),
        ),
    ],
)
def test_a_record_is_told_in_one_plain_line(row: Record | None, said: tuple[str, ...]) -> None:
    assert parse_newest("dnf", row) == said


@pytest.mark.parametrize("name", [DNF4, DNF5])
@pytest.mark.parametrize(
    "content", [b"", b"no database " * 99, b"SQLite format 3\0" + b"\xff" * 999]
)
def test_a_history_that_cannot_be_read_is_unknown_and_named(
    tmp_path: Path, name: str, content: bytes
) -> None:
    history(tmp_path, name).write_bytes(content)
    found = read_unfinished(Host(root=tmp_path))
    assert isinstance(found, Unknown)
    assert found.why.startswith(f"/{name}: ")


def test_a_history_that_never_ends_is_stopped(tmp_path: Path) -> None:
    path = history(tmp_path, DNF4)
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript("""
            DROP TABLE trans;
            CREATE VIEW trans AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT i AS id, 0 AS dt_begin, 0 AS dt_end, '' AS cmdline, 0 AS state FROM n;
        """)
    assert read_unfinished(Host(root=tmp_path)) == Unknown(f"/{DNF4}: interrupted")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_history_never_stops_the_reading(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    path = history(root, data.draw(st.sampled_from([DNF4, DNF5])), OK4, KILLED4)
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=20)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    assert isinstance(read_unfinished(Host(root=root)), tuple | Unknown)
