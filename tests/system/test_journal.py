"""Real runs of apt, aptitude, unattended-upgrades and dpkg, as the journal has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.system import toys
from tests.system.packages import Installed, apt
from trialboot.core.facts import BootId, Package
from trialboot.core.packagechange import difference
from trialboot.core.packagenote import Note
from trialboot.core.transaction import NOT_TOLD, Journal, Moment, State, Transaction, words
from trialboot.core.transactions import settle, take
from trialboot.host import Host
from trialboot.readers.kernel import read_boot_id, read_uptime
from trialboot.readers.packages import read_database

pytestmark = pytest.mark.system

FOREIGN = "/etc/apt/apt.conf.d/90toy"
NOW = "2100-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read apt's local times as the roots have them, where no time zone is set."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Daemon:
    """Does with notes and database what trialbootd does; nothing of a run lives when it looks."""

    def __init__(self, debian: Installed) -> None:
        self._debian = debian
        self._host = Host(root=debian.place)
        self._journal: Journal = ()
        self._packages = self._read()
        self._looks = 0

    def _read(self) -> tuple[Package, ...]:
        packages = read_database(self._host).packages
        assert isinstance(packages, tuple)
        return packages

    def look(self) -> list[Transaction]:
        """Give the transactions that came since the last look."""
        boot: BootId = read_boot_id(Host())
        known = len(self._journal)
        self._looks += 1
        before, self._packages = self._packages, self._read()
        notes = [self._numbered(note) for note in self._debian.notes()]
        journal = take(
            self._journal, notes, boot=boot, uptime=0.0, alive=frozenset(), locked=False
        )
        self._journal = settle(
            journal,
            read_database(self._host).condition,
            difference(before, self._packages),
            now=Moment(boot=boot, uptime=read_uptime(Host()), time=NOW),
            alive=frozenset(),
            locked=False,
        )
        assert all(each.state is not State.OPEN for each in self._journal)
        return list(self._journal[known:])

    def _numbered(self, note: Note) -> Note:
        """Give processes other numbers after each look: in a root they start at 1 each time."""
        first = 1000 * self._looks
        chain = tuple(replace(leader, pid=first + leader.pid) for leader in note.chain)
        return replace(note, chain=chain)


def changes(transaction: Transaction) -> dict[str, str]:
    assert isinstance(transaction.changes, tuple)
    return {each.name: f"{each.before}→{each.after}" for each in transaction.changes}


def test_a_run_of_apt_is_told_with_its_command_and_what_it_changed(debian: Installed) -> None:
    daemon = Daemon(debian)
    debian.apt("install", "toy-b=1.0", "toy-a=1.0")
    (one,) = daemon.look()
    assert (one.state, one.cycles, one.leader.name) == (State.CLOSED, 1, "apt-get")
    assert changes(one) == {"toy-a": "→1.0", "toy-b": "→1.0"}
    assert words(one) == (
        "apt (apt-get -q -y install toy-b=1.0 toy-a=1.0): 2 packages changed, closed"
    )
    debian.apt("dist-upgrade")
    (two,) = daemon.look()
    assert changes(two) == {"toy-a": "1.0→2.0", "toy-b": "1.0→2.0"}
    debian.apt("purge", "toy-a")
    (three,) = daemon.look()
    assert changes(three) == {"toy-a": "2.0→", "toy-b": "2.0→"}


def test_bare_dpkg_is_told_once_with_triggers_in_the_middle(debian: Installed) -> None:
    daemon = Daemon(debian)
    debian.run("dpkg", "-i", toys.file_name("toy-firmware-usr", "1.0"))
    (one,) = daemon.look()
    assert (one.manager, one.state, one.cycles) == ("dpkg", State.CLOSED, 1)
    assert changes(one) == {"toy-firmware-usr": "→1.0"}


def test_aptitude_is_one_transaction(debian: Installed) -> None:
    daemon = Daemon(debian)
    debian.run("aptitude", "-q", "-y", "install", "toy-b")
    (one,) = daemon.look()
    assert (one.manager, one.state, one.cycles) == ("aptitude", State.CLOSED, 1)
    assert changes(one) == {"toy-a": "→2.0", "toy-b": "→2.0"}


@pytest.mark.parametrize(("minimal", "least", "most"), [("true", 10, 20), ("false", 1, 2)])
def test_unattended_upgrades_are_one_transaction(
    debian: Installed, minimal: str, least: int, most: int
) -> None:
    load = [toy.name for toy in toys.toys() if toy.name.startswith("toy-load-")]
    debian.apt("install", *(f"{name}=1.0" for name in load))
    daemon = Daemon(debian)
    daemon.look()
    debian.write(
        "/etc/apt/apt.conf.d/52toys",
        f'Unattended-Upgrade::Origins-Pattern {{ "origin={toys.ORIGIN}"; }};\n'
        f'Unattended-Upgrade::MinimalSteps "{minimal}";\n',
    )
    debian.run("unattended-upgrade", "--verbose")
    (one,) = daemon.look()
    assert (one.manager, one.state) == ("unattended-upgrades", State.CLOSED)
    assert least <= one.cycles <= most
    assert changes(one) == dict.fromkeys(load, "1.0→2.0")


def test_a_failing_package_makes_it_failed_and_its_repair_closed(debian: Installed) -> None:
    daemon = Daemon(debian)
    debian.write(toys.FAIL, "")
    debian.try_run(*apt("install", "toy-fails"))
    (failed,) = daemon.look()
    assert failed.state is State.FAILED
    assert failed.why.startswith("toy-fails is half-configured; apt says: Sub-process")
    debian.run("rm", toys.FAIL)
    debian.apt("install", "--fix-broken")
    (repaired,) = daemon.look()
    assert (repaired.state, repaired.why, changes(repaired)) == (State.CLOSED, "", {})


def test_a_killed_apt_is_interrupted_and_the_repair_by_dpkg_closed(debian: Installed) -> None:
    daemon = Daemon(debian)
    with debian.at_terminal("apt-get -q -y install toy-sleeps; sleep 600") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("apt-get")
        debian.write(toys.WAKE, "")
    (killed,) = daemon.look()
    assert (killed.state, changes(killed)) == (State.INTERRUPTED, {"toy-sleeps": "→2.0"})
    assert killed.why.startswith("apt-get (process ")
    assert killed.command == "apt-get -q -y install toy-sleeps"
    debian.run("dpkg", "--configure", "-a")
    (repaired,) = daemon.look()
    assert (repaired.manager, repaired.state) == ("dpkg", State.CLOSED)


def test_a_dpkg_that_is_killed_below_apt_makes_it_failed(debian: Installed) -> None:
    daemon = Daemon(debian)
    with debian.at_terminal("apt-get -q -y install toy-sleeps; echo code=$?") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("dpkg")
        terminal.wait_for("code=100")
    (failed,) = daemon.look()
    assert failed.state is State.FAILED
    assert failed.why.startswith("toy-sleeps is ")
    assert "dpkg was stopped in the middle of its records; apt says: Sub-process" in failed.why


def test_a_killed_bare_dpkg_is_interrupted(debian: Installed) -> None:
    daemon = Daemon(debian)
    package = toys.file_name("toy-sleeps", "2.0")
    with debian.at_terminal(f"dpkg -i {package}; echo code=$?") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("dpkg")
        terminal.wait_for("code=137")
    (killed,) = daemon.look()
    assert (killed.manager, killed.state) == ("dpkg", State.INTERRUPTED)


def test_a_veto_of_another_hook_is_a_run_without_an_end_that_changed_nothing(
    debian: Installed,
) -> None:
    daemon = Daemon(debian)
    debian.write(FOREIGN, 'DPkg::Pre-Install-Pkgs { "false"; };\n')
    debian.try_run(*apt("install", "toy-a"))
    debian.run("rm", FOREIGN)
    (vetoed,) = daemon.look()
    debian.apt("install", "toy-a")
    (closed,) = daemon.look()
    assert (vetoed.state, vetoed.planned, changes(vetoed)) == (
        State.INTERRUPTED,
        ("toy-a",),
        {},
    )
    assert (closed.state, changes(closed)) == (State.CLOSED, {"toy-a": "→2.0"})


def test_a_run_that_no_hook_told_of_is_found_all_the_same(debian: Installed) -> None:
    daemon = Daemon(debian)
    debian.run("rm", "/etc/dpkg/dpkg.cfg.d/trialboot")
    debian.run("dpkg", "-i", toys.file_name("toy-a", "1.0"))
    (one,) = daemon.look()
    assert (one.manager, one.state, changes(one)) == (NOT_TOLD, State.CLOSED, {"toy-a": "→1.0"})
    assert daemon.look() == []
