"""Emergency mode, a start that never ends and a soft-reboot, under a real systemd."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.conftest import Lend
from tests.system.nspawn import Machine
from tests.unit.workers.standing import stand
from trialboot.core.bootset import plain_command_line
from trialboot.core.facts import Kernel
from trialboot.core.trial import Decision, Phase, Trial
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.workers.standstill import GRACE
from trialboot.writers import store

pytestmark = pytest.mark.system

UNITS = "etc/systemd/system"
# As after a failed check: the root is read-only, and nothing can be made in /tmp.
BROKEN = """\
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=local-fs.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c "mount -o remount,bind,ro /; false"
"""
NEVER_ONLINE = """\
[Unit]
DefaultDependencies=no
Before=network-online.target
[Service]
Type=oneshot
ExecStart=/bin/sleep infinity
"""
# Ends after the first verification has begun.
SLOW = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "until systemctl is-active trialboot-verify | grep -x activating; do :; done"
"""
VERIFYING = ("systemctl", "show", "-PActiveState", "trialboot-verify.service")
SAID = ("journalctl", "--no-pager", "--output=cat", "--unit=trialboot-standstill.service")


@pytest.fixture
def machine(request: pytest.FixtureRequest, installed: Lend, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose candidate has been booted once, still off."""
    suite = getattr(request, "param", "trixie")
    with roots.copy(installed(suite), tmp_path / "copy") as place:
        stand(place)
        made = Machine(place, tmp_path)
        try:
            yield made
        finally:
            made.__exit__()


def want(machine: Machine, name: str, text: str, *, by: str, kind: str = "wants") -> None:
    """Add a unit that a target pulls in."""
    units = machine.place / UNITS
    (units / name).write_text(text)
    (units / f"{by}.{kind}").mkdir(exist_ok=True)
    (units / f"{by}.{kind}" / name).symlink_to(f"../{name}")


def record(machine: Machine) -> Decision:
    found = store.read_decision(Host(root=machine.place))
    assert isinstance(found, Decision)
    return found


def arm_what_runs(machine: Machine) -> None:
    """Have the candidate be known by the kernel that runs: a container has that of its host."""
    runs = kernel.read_kernel(Host())
    trial = record(machine).trial
    assert isinstance(runs, Kernel)
    assert trial.candidate
    boot_set = replace(
        trial.candidate.boot_set,
        release=runs.release,
        command_line=plain_command_line(runs.command_line),
    )
    armed = replace(trial, candidate=replace(trial.candidate, boot_set=boot_set))
    store.save_decision(Host(root=machine.place), Decision(trial=armed))


@pytest.mark.parametrize("machine", ["trixie", "sid"], indirect=True)
def test_a_trial_in_emergency_mode_reboots_by_itself(machine: Machine) -> None:
    want(machine, "broken.service", BROKEN, by="local-fs.target", kind="requires")
    arm_what_runs(machine)
    before = record(machine)
    began = time.monotonic()
    machine.start_in_vain()  # nothing else would reboot it, and no file can tell
    assert time.monotonic() - began > GRACE
    assert record(machine) == before


def test_rescue_mode_that_somebody_asked_for_is_left_alone(machine: Machine) -> None:
    machine.start()
    on_trial = put_on_trial(machine)
    machine.run(("systemctl", "--no-block", "isolate", "rescue.target"))
    said = machine.wait_for(SAID, "trialboot does nothing")
    assert "this boot had come up: somebody asked for this mode" in said
    assert replace(record(machine).trial, story=()) == on_trial


def test_a_daemon_that_waits_for_the_network_is_started_all_the_same(machine: Machine) -> None:
    want(machine, "never-online.service", NEVER_ONLINE, by="network-online.target")
    soon = machine.place / UNITS / "trialboot-late-start.timer.d"
    soon.mkdir()
    (soon / "soon.conf").write_text("[Timer]\nOnBootSec=\nOnBootSec=8s\n")
    machine.begin()
    machine.wait_for(("systemctl", "is-active", "sysinit.target"), "active")
    waiting = machine.run(("systemctl", "list-jobs", "--no-legend"))
    assert "trialbootd.service start waiting" in " ".join(waiting.split())
    machine.wait_for(("systemctl", "show", "-PActiveState", "trialbootd.service"), "active\n")
    machine.wait_for(("trialboot", "status", "--json"), '"phase"')
    assert "never-online.service" in machine.run(("systemctl", "list-jobs", "--no-legend"))


def test_a_verification_in_the_midst_of_a_start_holds_up_nothing_but_the_word_for_it(
    machine: Machine,
) -> None:
    want(machine, "slow.service", SLOW, by="multi-user.target")
    machine.start()
    assert machine.run(VERIFYING) == "activating\n"
    assert machine.run(("systemctl", "is-active", "slow.service", "default.target")) == (
        "active\nactive\n"
    )
    # As docs/operations.md says: systemd counts jobs, whosever they are. (The first verification
    # does not wait for the end of this start: a container has the uptime of its host.)
    assert machine.try_run(("systemctl", "is-system-running"))[1] == "starting\n"


def test_a_soft_reboot_is_the_same_boot(machine: Machine) -> None:
    """The kernel stays, and with it the boot id: a trial neither ends nor begins."""
    machine.start()
    on_trial = put_on_trial(machine)
    machine.run(("systemctl", "--no-block", "soft-reboot"))
    machine.wait_for(("systemctl", "show", "-PSoftRebootsCount"), "1\n", timeout=60)
    _wait_until_it_has_looked(machine)
    assert replace(record(machine).trial, story=()) == on_trial


def put_on_trial(machine: Machine) -> Trial:
    """Have the candidate be what runs; leave the machine in the midst of its verification."""
    machine.run(("systemctl", "stop", "trialbootd.service"))
    decision = record(machine)
    on_trial = replace(
        decision.trial,
        phase=Phase.TRIAL,
        story=(),
        boot=machine.boot_id(),
        running=decision.trial.candidate,
    )
    store.save_decision(Host(root=machine.place), Decision(trial=on_trial))
    _forget_what_it_saw(machine)
    machine.run(("systemctl", "start", "trialbootd.service"))
    _wait_until_it_has_looked(machine)
    assert replace(record(machine).trial, story=()) == on_trial
    _forget_what_it_saw(machine)
    machine.wait_for(VERIFYING, "activating")
    return on_trial


def _forget_what_it_saw(machine: Machine) -> None:
    (machine.place / "var/lib/trialboot/snapshot.json").unlink(missing_ok=True)


def _wait_until_it_has_looked(machine: Machine) -> None:
    machine.wait_for(("systemctl", "is-active", "trialbootd.service"), "active", timeout=60)
    machine.wait_for(("ls", "/var/lib/trialboot"), "snapshot.json", timeout=60)
    state = json.loads(machine.run(("trialboot", "status", "--json")))
    assert state["phase"] == "trial"
