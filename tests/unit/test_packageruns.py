"""The journal on disk: notes and package lists are let go only once they are remembered."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.packagechange import PackageChange
from trialboot.core.protection import Level, Protection
from trialboot.core.transaction import State
from trialboot.errors import StoreError
from trialboot.host import Host
from trialboot.packageruns import JOURNAL, MOST_BYTES, PackageRuns
from trialboot.readers.spool import FOLDER
from trialboot.writers import store

BOOT = BootId("boot-now")
APT = 777
TIME = "2026-01-01T00:00:00Z"
KERNEL = "linux-image-6.2 - - none < 6.2 amd64 none /a.deb"


class Place:
    """A host that is a folder, with an apt that lives or not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Host(root=root)
        (root / FOLDER.lstrip("/")).mkdir(parents=True)
        self.write("/proc/uptime", "900.00 1.00")
        self.write(f"/proc/{APT}/stat", f"{APT} (apt-get) S {'0 ' * 18}1000 0\n")

    def write(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def note(self, at: int, event: str, *plan: str, chain: str = f"{APT}:apt-get") -> None:
        lines = [f"event={event}", f"up={at}.00", f"boot={BOOT}", f"pid={at}", f"chain={chain}"]
        lines += [f"pkg={step}" for step in plan]
        self.write(f"{FOLDER}/{at:013}-{at}-{event}.ev", "\n".join([*lines, "end", ""]))

    def notes(self) -> list[str]:
        return sorted(path.name for path in (self.root / FOLDER.lstrip("/")).iterdir())

    def runs(self) -> PackageRuns:
        return PackageRuns(self.host, BOOT)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def outlook(**more: Any) -> Outlook:
    return Outlook(
        taken_at=TIME,
        boot=BOOT,
        running=Unknown("x"),
        wanted=Unknown("x"),
        next_entry=EntryId("a"),
        once_pending=False,
        changes=(),
        sentence="",
        protection=Protection(level=Level.FULL),
        **more,
    )


def test_nothing_heard_is_nothing_told(place: Place) -> None:
    heard = place.runs().take_notes()
    assert (heard.any, heard.ends, heard.touches_boot) == (False, 0, False)
    assert not (place.root / JOURNAL.lstrip("/")).exists()


def test_a_run_is_under_way_from_its_begin_to_its_end(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL)
    assert runs.take_notes().any
    assert runs.manager == "apt"
    assert place.notes() == []
    place.note(310, "end")
    heard = runs.take_notes()
    assert (heard.ends, heard.touches_boot, runs.manager) == (1, True, "")


def test_a_run_of_other_packages_does_not_touch_the_boot(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", "vim - - none < 9 amd64 none /vim.deb")
    place.note(310, "end")
    assert runs.take_notes().touches_boot is False


def test_the_journal_outlives_the_daemon(place: Place) -> None:
    place.note(300, "begin", KERNEL)
    place.runs().take_notes()
    assert place.runs().manager == "apt"


def test_notes_stay_while_the_journal_cannot_be_written(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL)
    (place.root / JOURNAL.lstrip("/")).mkdir()
    with pytest.raises(StoreError):
        runs.take_notes()
    assert len(place.notes()) == 1
    (place.root / JOURNAL.lstrip("/")).rmdir()
    assert runs.take_notes().any
    assert place.notes() == []


def test_a_dead_leader_ends_its_run(place: Place) -> None:
    runs = place.runs()
    assert runs.look_for_the_dead() is False
    place.note(300, "begin", KERNEL)
    runs.take_notes()
    assert runs.look_for_the_dead() is False
    shutil.rmtree(place.root / f"proc/{APT}")
    assert runs.look_for_the_dead() is True
    assert runs.journal[-1].state is State.INTERRUPTED


def test_a_run_that_nobody_leads_is_over_after_ten_silent_minutes(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL, chain="")
    runs.take_notes()
    place.write("/proc/uptime", "899.00 1.00")
    assert runs.look_for_the_dead() is False
    place.write("/proc/uptime", "901.00 1.00")
    assert runs.look_for_the_dead() is True
    ended = runs.settle(outlook(), TIME)
    assert ended is not None
    assert ended.state is State.INTERRUPTED


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def dpkg_at_work(place: Place) -> Iterator[None]:
    """Hold dpkg's lock in another process, as dpkg does."""
    place.write("/var/lib/dpkg/lock", "")
    argv = [sys.executable, "-c", HOLD, str(place.root / "var/lib/dpkg/lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        yield
        holder.communicate()


def test_a_run_whose_leader_was_killed_goes_on_while_its_dpkg_does(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL)
    runs.take_notes()
    shutil.rmtree(place.root / f"proc/{APT}")
    with dpkg_at_work(place):
        assert runs.look_for_the_dead() is False
        assert runs.settle(outlook(), TIME) is None
        assert runs.manager == "apt"
    assert runs.look_for_the_dead() is True
    assert runs.journal[-1].why.endswith("is gone and never told its end")


def test_a_leader_that_stays_keeps_no_silent_run_open(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL)
    runs.take_notes()
    place.write("/proc/uptime", "901.00 1.00")
    with dpkg_at_work(place):
        assert runs.look_for_the_dead() is False
    assert runs.look_for_the_dead() is True
    assert (runs.manager, runs.journal[-1].why) == ("", "it never told its end")


def test_what_the_database_tells_is_remembered_before_its_list_is_accepted(place: Place) -> None:
    runs = place.runs()
    place.note(300, "begin", KERNEL)
    place.note(310, "end")
    runs.take_notes()
    place.write(store.PACKAGES_SEEN, "newer")
    ended = runs.settle(outlook(), TIME)
    assert ended is not None
    assert (ended.state, ended.settled) == (State.CLOSED, True)
    assert place.host.read_text(store.PACKAGES) == "newer"
    assert not place.host.exists(store.PACKAGES_SEEN)
    assert runs.settle(outlook(), TIME) is None


NOT_READ = Unknown("the database cannot be read")


def test_a_list_is_not_accepted_whose_difference_nobody_told(place: Place) -> None:
    """A snapshot saw a newer list, the daemon died, the next snapshot could read nothing."""
    runs = place.runs()
    store.save(place.host, store.PACKAGES, ())
    place.write(store.PACKAGES_SEEN, "newer")
    runs.settle(outlook(packages=NOT_READ), TIME)
    assert place.host.read_text(store.PACKAGES_SEEN) == "newer"
    change = PackageChange(name="a", architecture="all", before="1", after="2")
    ended = runs.settle(outlook(packages=(change,)), TIME)
    assert ended is not None
    assert ended.changes == (change,)
    assert place.host.read_text(store.PACKAGES) == "newer"


@pytest.mark.parametrize("before", [None, "", "no list"])
def test_the_first_list_is_accepted_as_one_to_hold_the_next_against(
    place: Place, before: str | None
) -> None:
    if before is not None:
        place.write(store.PACKAGES, before)
    place.write(store.PACKAGES_SEEN, "first")
    place.runs().settle(outlook(packages=NOT_READ), TIME)
    assert place.host.read_text(store.PACKAGES) == "first"


def test_a_journal_that_is_too_large_is_not_read_but_set_aside(place: Place) -> None:
    store.save(place.host, JOURNAL, ())
    path = place.root / JOURNAL.lstrip("/")
    path.write_bytes(path.read_bytes().ljust(MOST_BYTES))
    assert place.runs().trouble == ""
    path.write_bytes(path.read_bytes() + b" ")
    assert f"has {MOST_BYTES + 1} bytes" in place.runs().trouble
    assert not path.exists()


def test_a_journal_that_cannot_be_read_is_set_aside(place: Place) -> None:
    place.write(JOURNAL, json.dumps({"format": 9}))
    runs = place.runs()
    assert runs.journal == ()
    assert "it was set aside as" in runs.trouble
    assert list((place.root / "var/lib/trialboot").glob("transactions.json.unreadable-*"))
