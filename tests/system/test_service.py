"""The package under a real systemd: it runs, survives reboots and upgrades, and leaves cleanly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.spooled import take_notes
from tests.system import roots
from tests.system.conftest import OLDER, PACKAGE, Lend
from tests.system.nspawn import Machine
from tests.system.packages import SPOOL, Installed, apt
from trialboot import __version__
from trialboot.host import Host

pytestmark = pytest.mark.system

OUR_FAILED = ("systemctl", "list-units", "--failed", "--no-legend", "trialboot*")
DAEMON = ("systemctl", "is-active", "trialbootd.service")


@pytest.fixture
def machine(request: pytest.FixtureRequest, bare: Lend, tmp_path: Path) -> Iterator[Machine]:
    """A running machine in which our package is still to be installed."""
    suite = getattr(request, "param", "bookworm")
    with roots.copy(bare(suite), tmp_path / "copy") as place, Machine(place, tmp_path) as booted:
        yield booted


def nothing_failed(machine: Machine) -> None:
    """Make sure that systemd has no unit of ours in its list of failures."""
    failed = machine.run(OUR_FAILED)
    assert failed == "", machine.run(("journalctl", "--no-pager", "--unit=trialboot*"))


def runs(machine: Machine) -> None:
    """Make sure that the daemon is up, has a state, and that nothing of ours has failed."""
    machine.wait_for(DAEMON, "active")
    machine.wait_for(("trialboot", "status", "--json"), '"phase"')
    # The daemon's first snapshot, and what else it does at once.
    machine.wait_for(("ls", "/var/lib/trialboot"), "snapshot.json")
    state = json.loads(machine.run(("trialboot", "status", "--json")))
    assert state["mode"] == "observe"
    assert state["phase"] == "steady"
    nothing_failed(machine)


@pytest.mark.parametrize("machine", roots.SUITES, indirect=True)
def test_it_runs_from_installation_over_a_reboot_to_its_purge(machine: Machine) -> None:
    said = machine.run(apt("install", PACKAGE))
    # A newer Python compiles our modules, too, without a word.
    assert "arning" not in said
    runs(machine)
    machine.reboot()
    runs(machine)
    machine.run(apt("purge", "trialboot"))
    nothing_failed(machine)
    assert Installed(machine.place).traces() == []
    assert machine.run(("busctl", "list", "--no-legend")).count("trialboot") == 0
    machine.reboot()
    assert machine.run(("systemctl", "is-system-running")) == "running\n"


def test_doctor_looks_by_itself_and_a_host_without_a_boot_loader_is_not_armed(
    machine: Machine,
) -> None:
    machine.run(apt("install", PACKAGE))
    runs(machine)
    states = rows(machine)
    # What systemd and the bus answer here, and what the package has enabled.
    assert states["daemon"] == "fine"
    assert states["RuntimeWatchdogSec"] == "lowers the protection"
    assert states["boot-complete.target"] == "fine"
    assert states["boot loader"] == "blocks arming"
    refused = "trialboot arm; echo ended with $?"
    said = machine.run(("sh", "-c", f"{refused} 2>&1"))
    assert "ended with 74" in said
    assert 'mode = "observe"' in (machine.place / "etc/trialboot/trialboot.toml").read_text()
    machine.run(("systemctl", "stop", "trialbootd.service"))
    assert rows(machine)["daemon"] == "lowers the protection"


def rows(machine: Machine) -> dict[str, str]:
    """Ask doctor how each subject stands."""
    found = json.loads(machine.run(("trialboot", "doctor", "--json")))
    return {row["subject"]: row["state"] for row in found["rows"]}


def test_an_upgrade_of_ours_keeps_the_daemon_running_and_what_the_operator_wrote(
    machine: Machine,
) -> None:
    machine.run(apt("install", OLDER))
    configuration = machine.place / "etc/trialboot/trialboot.toml"
    configuration.write_text(f"# The operator's.\n{configuration.read_text()}")
    runs(machine)
    said = machine.run(apt("install", PACKAGE))
    assert "Configuration file" not in said
    assert configuration.read_text().startswith("# The operator's.\n")
    assert Installed(machine.place).state("trialboot") == f"installed {__version__}"
    runs(machine)


def test_a_run_that_touches_what_boots_ends_with_a_notice_and_reaches_the_journal(
    machine: Machine,
) -> None:
    machine.run(apt("install", PACKAGE))
    runs(machine)
    assert "trialboot:" not in machine.run(apt("install", "toy-a"))
    said = machine.run(apt("install", "toy-firmware-usr"))
    assert said.splitlines()[-1].startswith("trialboot: ")
    count = f"ls -A /{SPOOL} | wc -l"
    machine.wait_for(("sh", "-c", f"echo left=$({count})"), "left=0\n")
    journal = ("journalctl", "--identifier=trialboot", "--output=cat", "--no-pager")
    machine.wait_for(journal, "install toy-firmware-usr")
    runs(machine)


def test_packagekit_runs_the_same_hooks(machine: Machine) -> None:
    machine.run(apt("install", PACKAGE))
    machine.run(("systemctl", "stop", "trialbootd.service"))
    take_notes(Host(root=machine.place))
    code, said = machine.try_run(("pkcon", "--noninteractive", "install", "toy-a"), timeout=90)
    assert code == 0, said
    assert Installed(machine.place).state("toy-a") == "installed 2.0"
    notes = take_notes(Host(root=machine.place))
    assert notes[0].event == "begin"
    assert notes[-1].event == "end"
    assert any("toy-a" in line for line in notes[0].packages)
