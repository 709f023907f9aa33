"""Notes of the package manager's hooks: read in order, and gone once they are remembered."""

import errno
import fcntl
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.spooled import take_notes
from trialboot.core.packagenote import Leader, Note
from trialboot.host import Host
from trialboot.readers.spool import (
    FOLDER,
    in_order,
    is_locked,
    parse_note,
    read_alive,
    read_notes,
    remove_notes,
)

WHOLE = """\
v=1
event=begin
up=12.34
boot=abc
pid=103
ppid=102
chain=102:sh 100:apt-get 90:bash
action=install
sudo_user=ann
command=apt-get install x=1
pkg=linux-image 1 < 2
pkg=firmware - < 1
end
"""
MTIME = 1_700_000_000


def left(root: Path, **notes: str) -> Host:
    folder = root / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    for name, text in notes.items():
        (folder / f"{name}.ev").write_text(text, encoding="utf-8")
        os.utime(folder / f"{name}.ev", (MTIME, MTIME))
    return Host(root=root)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER.lstrip("/")).iterdir())


def test_a_note_is_read_with_all_its_parts() -> None:
    assert parse_note(WHOLE, "2026-11-25T12:00:00Z") == Note(
        event="begin",
        boot="abc",
        packages=("linux-image 1 < 2", "firmware - < 1"),
        whole=True,
        at=12.34,
        time="2026-11-25T12:00:00Z",
        pid=103,
        chain=(
            Leader(pid=102, name="sh"),
            Leader(pid=100, name="apt-get"),
            Leader(pid=90, name="bash"),
        ),
        action="install",
        user="ann",
        command="apt-get install x=1",
    )


@pytest.mark.parametrize(
    "text",
    ["", "\n", "event=begin\n", "event=begin\nboot=a\npkg=linux-im", "end\nevent=begin\n", "end"],
)
def test_a_note_without_its_end_is_torn(text: str) -> None:
    assert not parse_note(text).whole


def test_unknown_keys_are_left_out() -> None:
    assert parse_note("event=end\nmood=good\nboot=b\nend\n") == Note(
        event="end", boot="b", packages=(), whole=True
    )


@pytest.mark.parametrize(
    "line",
    ["up=nan", "up=-1", "up=1e9", "up=", "pid=-3", "pid=x", "pid=" + "9" * 5000, "up=\u0663"],
)
def test_numbers_that_are_none_count_as_not_told(line: str) -> None:
    note = parse_note(f"{line}\nend\n")
    assert (note.at, note.pid) == (0.0, 0)


@pytest.mark.parametrize("chain", ["", "apt", ":", "x:apt -4:sh 0:init", "=:= 99999999999:y"])
def test_a_chain_that_is_none_names_nobody(chain: str) -> None:
    assert parse_note(f"chain={chain}\nend\n").chain == ()


@given(st.text())
def test_any_text_is_a_note(text: str) -> None:
    assert isinstance(parse_note(text), Note)


def test_notes_are_taken_in_their_order_and_only_once(tmp_path: Path) -> None:
    host = left(tmp_path, b="event=end\nend\n", a="event=begin\nend\n", c="event=dpkg-end\n")
    assert [note.event for note in take_notes(host)] == ["begin", "end", "dpkg-end"]
    assert take_notes(host) == ()
    assert names(tmp_path) == []


def test_notes_stay_until_they_are_remembered(tmp_path: Path) -> None:
    host = left(tmp_path, a=WHOLE, b=WHOLE)
    spooled = read_notes(host)
    assert spooled == read_notes(host)
    assert [note.time for note in spooled.notes] == ["2023-11-14T22:13:20Z"] * 2
    (tmp_path / FOLDER.lstrip("/") / "c.ev").write_text(WHOLE)
    (tmp_path / FOLDER.lstrip("/") / "a.ev").unlink()
    remove_notes(host, spooled.files)
    assert names(tmp_path) == ["c.ev"]


def test_the_order_is_that_of_boots_then_of_their_clocks() -> None:
    def of(boot: str, at: float, time: str, pid: int = 1) -> Note:
        return Note(event="end", boot=boot, whole=True, at=at, time=time, pid=pid)

    right = (
        of("b", 90000, "2026-01-01"),
        of("b", 90001, "2026-01-02"),
        of("a", 3, "2026-01-03", 9),
        of("a", 3, "2026-01-03", 10),
        of("a", 4, "2026-01-02"),
    )
    assert in_order(reversed(right)) == in_order(right)
    assert [note.boot for note in in_order(reversed(right))] == ["b", "b", "a", "a", "a"]
    assert [note.pid for note in in_order(right)] == [1, 1, 9, 10, 1]


def test_drafts_and_other_files_are_left_alone(tmp_path: Path) -> None:
    host = left(tmp_path)
    (tmp_path / FOLDER.lstrip("/") / ".draft").write_text("event=begin")
    (tmp_path / FOLDER.lstrip("/") / "README").write_text("not a note")
    assert take_notes(host) == ()
    assert names(tmp_path) == [".draft", "README"]


def test_what_is_no_file_stops_nothing(tmp_path: Path) -> None:
    host = left(tmp_path, b="event=end\nend\n")
    (tmp_path / FOLDER.lstrip("/") / "a.ev").mkdir()
    os.mkfifo(tmp_path / FOLDER.lstrip("/") / "c.ev")
    (tmp_path / FOLDER.lstrip("/") / "d.ev").symlink_to("/dev/zero")
    (tmp_path / FOLDER.lstrip("/") / "e.ev").symlink_to("nowhere")
    assert [note.event for note in take_notes(host)] == ["end"]
    assert names(tmp_path) == ["a.ev", "c.ev", "d.ev", "e.ev"]


def test_bytes_that_are_no_text_are_still_a_note(tmp_path: Path) -> None:
    host = left(tmp_path)
    place = tmp_path / FOLDER.lstrip("/") / "a.ev"
    place.write_bytes(b"event=end\npkg=" + os.urandom(3).replace(b"\n", b"x") + b"\xff\nend\n")
    assert [note.event for note in take_notes(host)] == ["end"]


@pytest.mark.parametrize(("ending", "whole"), [("end\n", True), ("", False), ("xend\n", False)])
def test_a_huge_note_is_read_in_part_and_its_last_line_counts(
    tmp_path: Path, ending: str, *, whole: bool
) -> None:
    steps = "".join(f"pkg=package{n} 1.0 amd64 same < 1.1 amd64 same\n" for n in range(200_000))
    host = left(tmp_path, a=f"event=begin\n{steps}{ending}")
    tracemalloc.start()
    (note,) = read_notes(host).notes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (note.event, note.whole) == ("begin", whole)
    assert 1000 < len(note.packages) < 2000
    assert set(note.packages) <= {line[4:] for line in steps.splitlines()}, "no half lines"
    assert peak < 4 << 20


def test_drafts_of_killed_hooks_are_swept_and_those_of_living_ones_left(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    for name, age in (("old.tmp", 120), ("new.tmp", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    assert take_notes(Host(root=tmp_path)) == ()
    assert [path.name for path in folder.iterdir()] == ["new.tmp"]


def test_without_a_spool_there_are_no_notes(tmp_path: Path) -> None:
    assert take_notes(Host(root=tmp_path)) == ()


# --- processes ---------------------------------------------------------------------------------


def stat(state: str, started: int, name: str = "apt-get") -> str:
    """Write a line of /proc/PID/stat; `started` is in seconds."""
    ticks = started * os.sysconf("SC_CLK_TCK")
    return f"100 ({name}) {state} 1 {'0 ' * 17}{ticks} 0 0\n"


@pytest.mark.parametrize(
    ("text", "alive"),
    [
        (stat("S", 40), True),
        (stat("R", 40, "a) Z 1 (b"), True),
        (stat("Z", 40), False),
        (stat("X", 40), False),
        (stat("S", 60), False),  # a later one with the same number
        ("", True),
        ("100 (apt", True),
        (stat("S", 40).replace("4000 ", "soon "), True),
        (None, False),
    ],
)
def test_a_leader_lives_while_its_process_does(
    tmp_path: Path, text: str | None, *, alive: bool
) -> None:
    if text is not None:
        (tmp_path / "proc/100").mkdir(parents=True)
        (tmp_path / "proc/100/stat").write_text(text)
    found = read_alive(Host(root=tmp_path), [(100, 50.0), (101, 50.0)])
    assert found == (frozenset({100}) if alive else frozenset())


def test_nobody_is_called_dead_without_evidence(tmp_path: Path) -> None:
    (tmp_path / "proc/100/stat").mkdir(parents=True)
    assert read_alive(Host(root=tmp_path), [(100, 50.0)]) == {100}


def test_this_process_lives_and_one_that_ended_does_not() -> None:
    host = Host()
    now = float(host.read_text("/proc/uptime").split()[0])
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    us = [(os.getpid(), now), (child.pid, now)]
    assert read_alive(host, us) == {os.getpid(), child.pid}
    child.communicate()
    assert read_alive(host, us) == {os.getpid()}
    assert read_alive(host, [(os.getpid(), 0.0)]) == frozenset(), "it was started later"


# --- locks --------------------------------------------------------------------------------------

LOCKS = (
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/lib/rpm/.rpm.lock",
    "usr/lib/sysimage/rpm/.rpm.lock",
)


def lock_in(root: Path, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("mode", ["LOCK_EX", "LOCK_SH"])
@pytest.mark.parametrize("name", LOCKS)
def test_a_package_database_is_held_as_long_as_its_holder_lives(
    tmp_path: Path, name: str, mode: str
) -> None:
    for each in LOCKS:
        lock_in(tmp_path, each).chmod(0o640)
    argv = [sys.executable, "-c", HOLD, str(tmp_path / name), mode]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        assert is_locked(Host(root=tmp_path))
        assert is_locked(Host(root=tmp_path)), "to ask did not let it go"
        holder.communicate()
    assert not is_locked(Host(root=tmp_path))


HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(file, getattr(fcntl, sys.argv[2]))
print(flush=True)
sys.stdin.read()
"""


def test_to_ask_takes_no_lock(tmp_path: Path) -> None:
    path = lock_in(tmp_path, LOCKS[0])
    assert not is_locked(Host(root=tmp_path))
    with path.open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_there_is_no_database_nobody_holds_one(tmp_path: Path) -> None:
    assert not is_locked(Host(root=tmp_path))
    (tmp_path / "var").write_text("no folder")
    assert not is_locked(Host(root=tmp_path))


def test_a_lock_that_cannot_be_opened_counts_as_held(tmp_path: Path) -> None:
    path = tmp_path / LOCKS[0]
    path.parent.mkdir(parents=True)
    path.symlink_to(path.name)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        path.open()
    assert is_locked(Host(root=tmp_path))


def test_what_is_no_file_does_not_stop_who_asks(tmp_path: Path) -> None:
    path = lock_in(tmp_path, LOCKS[0])
    path.unlink()
    os.mkfifo(path)
    assert not is_locked(Host(root=tmp_path))
