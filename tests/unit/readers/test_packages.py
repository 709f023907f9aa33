"""The package database as dpkg keeps it, and apt's own record of its last run."""

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Package, Unknown
from trialboot.core.transaction import Condition, HalfDone, HistoryRecord
from trialboot.host import Host
from trialboot.readers.packages import (
    HISTORY,
    STATUS,
    UPDATES,
    Database,
    parse_history,
    parse_status,
    read_database,
)

TEXT = """\
Package: zlib1g
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 1:1.2.13.dfsg-1
Description: compression library
 Package: this is not a field
 .
 Version: neither is this

Package: linux-image-6.1.0-56-amd64
Status: deinstall ok config-files
Architecture: amd64
Version: 6.1.1

Package: base
Status: hold ok installed
Architecture: all
Version: 3

Package: broken
Status: install ok half-configured
Architecture: all
Version: 4

Package: torn
Status: install reinstreq half-installed
Architecture: all
Version: 5

Package: waits
Status: install ok triggers-pending
Architecture: all
Version: 6

Package: zlib1g
Status: install ok installed
Architecture: i386
Version: 1:1.2.13.dfsg-1
"""
RECORD = """
Start-Date: 2026-11-25  13:11:00
Commandline: apt-get install linux-image-amd64
Requested-By: ann (1000)
Install: linux-image-6.1.0-56-amd64:amd64 (6.1.1, automatic)
Error: Sub-process /usr/bin/dpkg returned an error code (1)
End-Date: 2026-11-25  13:12:00
"""


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def package(name: str, architecture: str, version: str) -> Package:
    return Package(name=name, architecture=architecture, version=version)


def half(name: str, state: str) -> HalfDone:
    return HalfDone(name=name, architecture="all", state=state)


def dpkg(root: Path, status: str | bytes | None = TEXT, history: str | None = None) -> Host:
    for path, text in ((STATUS, status), (HISTORY, history)):
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Host(root=root)


PACKAGES = (
    package("base", "all", "3"),
    package("broken", "all", "4"),
    package("waits", "all", "6"),
    package("zlib1g", "amd64", "1:1.2.13.dfsg-1"),
    package("zlib1g", "i386", "1:1.2.13.dfsg-1"),
)
HALF_DONE = (
    half("broken", "half-configured"),
    half("torn", "half-installed"),
    half("waits", "triggers-pending"),
)


def test_what_is_there_and_what_is_half_done_are_given_in_order() -> None:
    assert parse_status(TEXT.encode()) == (PACKAGES, HALF_DONE)


@pytest.mark.parametrize("text", ["", "\n\n\n", "Package: a\n", "Status: a ok installed\n"])
def test_an_empty_database_has_no_packages(text: str) -> None:
    assert parse_status(text.encode()) == ((), ())


def test_one_reading_gives_both(tmp_path: Path) -> None:
    host = dpkg(tmp_path)
    condition = Condition(half_done=HALF_DONE, updates=(), history=None)
    assert read_database(host) == Database(packages=PACKAGES, condition=condition)


def test_a_missing_database_is_unknown_never_empty(tmp_path: Path) -> None:
    host = dpkg(tmp_path, status=None)
    why = Unknown(f"{STATUS}: No such file or directory")
    assert read_database(host).packages == why
    assert read_database(host).condition.half_done == why


def test_a_host_without_dpkg_has_nothing_half_done(tmp_path: Path) -> None:
    assert read_database(Host(root=tmp_path)).condition == Condition(
        half_done=(), updates=(), history=None
    )
    assert isinstance(read_database(Host(root=tmp_path)).packages, Unknown)


@pytest.mark.parametrize(
    "status", [b"x" * (13 << 20), b"\nPackage: a\nStatus: a b installed\n" * 50_001]
)
def test_what_is_too_large_to_be_a_database_is_unknown(tmp_path: Path, status: bytes) -> None:
    host = dpkg(tmp_path, status)
    assert read_database(host).packages == Unknown(f"{STATUS}: too large to be dpkg's")


def test_the_largest_database_takes_little_memory(tmp_path: Path) -> None:
    paragraph = b"Package: package-name-%d\nStatus: install ok installed\nVersion: 1\n%s\n\n"
    host = dpkg(tmp_path, b"".join(paragraph % (n, b"x" * 150) for n in range(50_000)))
    tracemalloc.start()
    found = read_database(host).packages
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, tuple)
    assert len(found) == 50_000
    assert peak < 64 << 20


@pytest.mark.parametrize("path", [STATUS, UPDATES, HISTORY])
def test_what_is_of_another_kind_is_unknown_alone(tmp_path: Path, path: str) -> None:
    host = dpkg(tmp_path, status=None)
    place = tmp_path / path.lstrip("/")
    if path == UPDATES:
        place.write_text("")
    else:
        place.mkdir()
    condition = read_database(host).condition
    parts = {STATUS: condition.half_done, UPDATES: condition.updates, HISTORY: condition.history}
    assert isinstance(parts[path], Unknown)
    assert path in str(parts[path])
    unknown = [part for part in parts.values() if isinstance(part, Unknown)]
    assert len(unknown) == (1 if path == STATUS else 2)  # there is no status file then


@given(st.binary())
def test_any_bytes_are_a_database(raw: bytes) -> None:
    packages, half_done = parse_status(raw)
    assert isinstance(packages, tuple)
    assert isinstance(half_done, tuple)


@given(st.data())
def test_a_damaged_database_never_stops_the_reading(data: st.DataObject) -> None:
    raw = bytearray(TEXT.encode())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    packages, half_done = parse_status(bytes(raw[:cut]))
    assert len(packages) <= 7
    assert len(half_done) <= 7


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([], ()),
        (["tmp.i"], ()),
        (["0001"], ("0001",)),
        (["tmp.i", "0002", "0001"], ("0001", "0002")),
    ],
)
def test_a_killed_dpkg_leaves_its_journal(
    tmp_path: Path, entries: list[str], left: tuple[str, ...]
) -> None:
    host = dpkg(tmp_path)
    folder = tmp_path / UPDATES.lstrip("/")
    folder.mkdir()
    for name in entries:
        (folder / name).touch()
    assert read_database(host).condition.updates == left


# --- apt's history ------------------------------------------------------------------------------


def test_the_last_record_says_who_how_and_whether_it_ended(tmp_path: Path) -> None:
    earlier = RECORD.replace("13:1", "12:1").replace("ann", "bob")
    assert read_database(
        dpkg(tmp_path, history=earlier + RECORD)
    ).condition.history == HistoryRecord(
        start="2026-11-25T13:11:00Z",
        end="2026-11-25  13:12:00",
        command="apt-get install linux-image-amd64",
        user="ann (1000)",
        error="Sub-process /usr/bin/dpkg returned an error code (1)",
    )


def test_a_record_of_a_killed_apt_has_no_end() -> None:
    tail = RECORD + "\nStart-Date: 2026-11-25  14:00:00\nCommandline: apt-get install x\n"
    assert parse_history(tail.encode()) == HistoryRecord(
        start="2026-11-25T14:00:00Z", end="", command="apt-get install x"
    )


def test_local_time_is_told_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-5")  # five hours ahead
    time.tzset()
    record = parse_history(RECORD.encode())
    assert isinstance(record, HistoryRecord)
    assert record.start == "2026-11-25T08:11:00Z"


@pytest.mark.parametrize("text", ["", "\n", "\n\n"])
def test_a_history_that_was_rotated_has_no_record(tmp_path: Path, text: str) -> None:
    assert read_database(dpkg(tmp_path, history=text)).condition.history is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\0\0\0", "no record is found"),
        ("Start-Date: soon\n", "'soon' is no time"),
        ("Start-Date: \n", "'' is no time"),
        ("Start-Date: 2026-13-25  13:11:00\n", "is no time"),
    ],
)
def test_a_history_that_is_none_is_unknown(text: str, why: str) -> None:
    found = parse_history(text.encode())
    assert isinstance(found, Unknown)
    assert why in found.why


@pytest.mark.parametrize("size", [5_000, 50_000])
def test_a_long_record_is_read_from_its_start(tmp_path: Path, size: int) -> None:
    long = RECORD.replace("(6.1.1, automatic)", "(6.1.1, automatic), p (1)" * (size // 25))
    record = read_database(dpkg(tmp_path, history=RECORD * 100 + long)).condition.history
    assert isinstance(record, HistoryRecord)
    assert (record.command, bool(record.end)) == ("apt-get install linux-image-amd64", True)


def test_only_the_end_of_a_huge_history_is_read(tmp_path: Path) -> None:
    host = dpkg(tmp_path, history="x" * (20 << 20) + RECORD)
    tracemalloc.start()
    assert isinstance(read_database(host).condition.history, HistoryRecord)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_an_endless_record_is_unknown(tmp_path: Path) -> None:
    found = read_database(dpkg(tmp_path, history="x" * (3 << 20))).condition.history
    assert found == Unknown(f"{HISTORY}: no record is found")


@given(st.binary())
def test_any_bytes_are_a_history(raw: bytes) -> None:
    found = parse_history(raw)
    assert found is None or isinstance(found, HistoryRecord | Unknown)
    again = parse_history(b"\nStart-Date: " + raw)
    assert isinstance(again, HistoryRecord | Unknown)
