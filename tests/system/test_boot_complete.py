"""The gate of boot-complete.target under a real systemd, for whoever counts boots by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.conftest import Lend
from tests.system.nspawn import Machine
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Outcome, Verdict
from trialboot.host import Host
from trialboot.writers import store

pytestmark = pytest.mark.system

GATE = "trialboot-boot-check.service"
CONFIGURATION = "etc/trialboot/trialboot.toml"


@pytest.fixture
def machine(installed: Lend, tmp_path: Path) -> Iterator[Machine]:
    """An armed machine on which nothing is judged by itself."""
    with roots.copy(installed("bookworm"), tmp_path / "copy") as place:
        (place / CONFIGURATION).write_text('mode = "armed"\n')
        (place / "etc/systemd/system/trialboot-verify.service").symlink_to("/dev/null")
        with Machine(place, tmp_path) as booted:
            yield booted


def completes(machine: Machine) -> bool:
    """Ask for the target as systemd-bless-boot does, and wait for what becomes of it."""
    code, _ = machine.try_run(("systemctl", "start", "boot-complete.target"), timeout=30)
    return code == 0


def judge(machine: Machine, outcome: Outcome) -> None:
    verdict = Verdict(outcome=outcome, reasons=("link eth0 is missing",))
    found = Judgement(boot=machine.boot_id(), at="2026-01-01T00:00:00Z", verdict=verdict)
    store.save(Host(root=machine.inside()), store.JUDGEMENT, found, mode=0o644)


@pytest.mark.parametrize("outcome", [Outcome.WORSE, Outcome.UNSURE])
def test_a_boot_that_is_not_sound_does_not_complete(machine: Machine, outcome: Outcome) -> None:
    judge(machine, outcome)
    assert not completes(machine)
    assert machine.try_run(("systemctl", "is-active", "boot-complete.target"))[1] == "inactive\n"
    said = machine.run(("journalctl", "--no-pager", "--output=cat", f"--unit={GATE}"))
    assert f"this boot is {outcome}: link eth0 is missing" in said
    assert not completes(machine)  # it stays so


def test_a_sound_boot_completes_and_one_without_a_verdict_waits(machine: Machine) -> None:
    machine.run(("systemctl", "start", "--no-block", "boot-complete.target"))
    machine.wait_for(("systemctl", "is-active", GATE), "activating")
    assert machine.try_run(("systemctl", "is-active", "boot-complete.target"))[1] == "inactive\n"
    judge(machine, Outcome.SOUND)
    machine.wait_for(("systemctl", "show", "-PActiveState", "boot-complete.target"), "active\n")


def test_in_observe_mode_every_boot_completes(machine: Machine) -> None:
    judge(machine, Outcome.WORSE)
    (machine.place / CONFIGURATION).write_text('mode = "observe"\n')
    assert completes(machine)
