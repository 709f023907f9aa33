"""The operator's checks and the active proof inside their sandboxes, under a real systemd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import roots
from tests.system.conftest import Lend
from tests.system.nspawn import Machine

pytestmark = pytest.mark.system

CHECKS = {
    "required.d/10-may-ping": (
        "exec python3 -c 'import socket as s; s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_ICMP)'"
    ),
    "required.d/20-writes": "touch /etc/written 2>&1 || exit 2",
    "required.d/30-endless": "trap '' TERM; while :; do sleep 7001; done",
    "required.d/40-leaves": "setsid sh -c \"trap '' TERM; sleep 7002\" & exit 0",
    "required.d/50-prints": "head -c 1000000000 /dev/zero; echo; echo much; exit 2",
    "wanted.d/10-cuts-off": "ip link set lo down 2>&1 || exit 2",
}
TARGETS = ["gateway", "service", "tcp://127.0.0.7:1", "ping://10.1.0.1", "ping://10.1.0.9"]


@pytest.fixture(params=roots.SUITES)
def machine(request: pytest.FixtureRequest, installed: Lend, tmp_path: Path) -> Iterator[Machine]:
    """A running machine with our package in it."""
    with (
        roots.copy(installed(request.param), tmp_path / "copy") as place,
        Machine(place, tmp_path) as booted,
    ):
        yield booted


def configure(machine: Machine, text: str) -> None:
    (machine.place / "etc/trialboot/trialboot.toml").write_text(text)


def record(machine: Machine, worker: str, name: str) -> Any:
    """Start a service of ours, and give what it left."""
    machine.run(("systemctl", "start", f"trialboot-{worker}.service"), timeout=120)
    return json.loads(machine.run(("cat", f"/run/trialboot/{name}.json")))["value"]


def test_checks_see_the_network_change_nothing_and_leave_nothing(machine: Machine) -> None:
    configure(machine, "verify.check_seconds = 12\n")
    for name, script in CHECKS.items():
        path = machine.place / "etc/trialboot/checks.d" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    found = record(machine, "operator-checks", "operator-checks")
    assert [check["name"] for check in found] == sorted(CHECKS)
    assert {check["name"]: (check["answer"], check["why"]) for check in found} == {
        "required.d/10-may-ping": ("pass", ""),
        "required.d/20-writes": (
            "fail",
            "said «touch: cannot touch '/etc/written': Read-only file system» (exit 2)",
        ),
        "required.d/30-endless": ("no_verdict", "said nothing (no end within 12 s)"),
        "required.d/40-leaves": ("pass", ""),
        "required.d/50-prints": ("fail", "said «much» (exit 2)"),
        "wanted.d/10-cuts-off": (
            "fail",
            "said «RTNETLINK answers: Operation not permitted» (exit 2)",
        ),
    }
    assert " sleep 700" not in machine.run(("ps", "-eo", "args"))


def test_pods_of_any_user_are_entered_and_reach_what_they_must(machine: Machine) -> None:
    configure(machine, f"[prove]\nenabled = true\nseconds = 1\ntargets = {json.dumps(TARGETS)}\n")
    assert record(machine, "prove", "proof") == {"is": "Proof", "pods": [], "reaches": []}
    # exec: it has a network of its own by the time that systemd-run ends.
    started = ("systemd-run", "--unit=pod", "--service-type=exec")
    words = (*started, "--property=PrivateNetwork=yes", "--uid=nobody")
    told = ("--setenv=KUBERNETES_SERVICE_HOST=10.1.0.1", "--setenv=KUBERNETES_SERVICE_PORT=77")
    machine.run((*words, *told, "sleep", "7003"))
    pid = machine.run(("systemctl", "show", "--value", "--property=MainPID", "pod")).strip()
    inside = f"nsenter --target {pid} --net ip"
    for line in (
        f"ip link add lxc1a2b type veth peer name eth0 netns {pid}",
        "ip addr add 10.1.0.1/24 dev lxc1a2b",
        "ip link set lxc1a2b up",
        f"{inside} addr add 10.1.0.2/24 dev eth0",
        f"{inside} link set eth0 up",
        f"{inside} route add default via 10.1.0.1",
    ):
        machine.run(line.split())
    found = record(machine, "prove", "proof")
    assert found["pods"] == ["lxc*"]
    assert {reach["target"]: reach["why"] for reach in found["reaches"]} == {
        "gateway": "",
        "service (10.1.0.1:77)": "",
        "tcp://127.0.0.7:1": "",
        "ping://10.1.0.1": "",
        "ping://10.1.0.9": "no answer",
    }
