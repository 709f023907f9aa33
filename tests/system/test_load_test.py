"""The load test under a real systemd: its sandboxes let it load, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bpf.objects import build
from tests.system import roots
from tests.system.conftest import Lend
from tests.system.nspawn import Machine
from trialboot.core.facts import BootId, Unknown
from trialboot.core.loadtest import Accepted, KeptObject, LoadTest, Manifest, Refused, load_check
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Answer, Outcome, Verdict
from trialboot.host import Host
from trialboot.loadtest import MANIFEST, RESULT
from trialboot.writers import objects, store

pytestmark = pytest.mark.system
on_each_suite = pytest.mark.parametrize("machine", roots.SUITES, indirect=True)

OTHER_KERNEL = "4.19.0-other"
CILIUM = "/run/cilium/state"
COMPILED = ("cilium", "large", "set_retval", "small_enough", "too_large")
# An agent with files that only it sees, and that only their owner may read; and its programs.
AGENT = """
mkdir -p /srv/calico/bpf
mv /srv/shipped.o /srv/calico/bpf/to_hep.o
cp /srv/calico/bpf/to_hep.o /srv/held.o
cp /srv/unused.o /srv/calico/bpf/unused.o
chmod 600 /srv/calico/bpf/*
chown -R nobody /srv/calico
cp /usr/bin/sleep /srv/calico-node
systemd-run --service-type=exec -p BindPaths=/srv/calico:/usr/lib/calico /srv/calico-node 7001
systemd-run --unit=programs --service-type=notify -p NotifyAccess=all python3 /srv/hold.py
"""
HOLD = """
import subprocess, time
from pathlib import Path
from trialboot import libbpf
library = libbpf.find_library()
def hold(_):
    subprocess.run(["systemd-notify", "--ready"], check=True)
    time.sleep(7002)
library.bpf_object__close = hold
libbpf.load(Path("/srv/held.o").read_bytes(), "to_hep.o", library)
"""
KUBELET = "[Service]\nExecStart=sleep 7003\n[Install]\nWantedBy=multi-user.target\n"
PROCESSES = ("ps", "-eo", "args")


@pytest.fixture
def machine(request: pytest.FixtureRequest, installed: Lend, tmp_path: Path) -> Iterator[Machine]:
    """A running machine with our package in it, whose daemon does not run."""
    suite = getattr(request, "param", "bookworm")
    with roots.copy(installed(suite), tmp_path / "copy") as place:
        roots.chroot_run(place, ("systemctl", "mask", "trialbootd.service"))
        with Machine(place, tmp_path, may_bpf=True) as booted:
            yield booted


def host_of(machine: Machine) -> Host:
    """Give the door to its files, those in /run too."""
    return Host(root=machine.inside())


def write(machine: Machine, path: str, content: bytes) -> None:
    place = host_of(machine).path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def start(machine: Machine, worker: str) -> None:
    machine.run(("systemctl", "start", f"trialboot-{worker}.service"), timeout=120)


def manifest_of(machine: Machine) -> Manifest:
    found = store.load(host_of(machine), MANIFEST, Manifest)
    assert isinstance(found, Manifest), found
    return found


def result_of(machine: Machine) -> LoadTest:
    found = store.load(host_of(machine), RESULT, LoadTest)
    assert isinstance(found, LoadTest), found
    return found


def traces(machine: Machine) -> tuple[str, str, list[str]]:
    """Give what a load test could leave: mounts, pins, processes of ours."""
    processes = machine.run(PROCESSES).splitlines()
    return (
        machine.run(("cat", "/proc/1/mountinfo")),
        machine.run(("ls", "-A", "/sys/fs/bpf")),
        [line for line in processes if "trialboot" in line],
    )


def mount_pins(machine: Machine) -> None:
    """Give it the folder of pins that a host has."""
    for line in (
        "mount -o remount,rw /sys",
        "mkdir -p /sys/fs/bpf",
        "mount -t bpf bpf /sys/fs/bpf",
    ):
        machine.run(line.split())


def compile_objects(machine: Machine) -> None:
    for name in COMPILED:
        write(machine, f"{CILIUM}/{name}.o", build(name))


def has_judged(machine: Machine, outcome: Outcome) -> None:
    host = host_of(machine)
    verdict = Verdict(outcome=outcome, reasons=())
    judgement = Judgement(boot=machine.boot_id(), at=host.moment(), verdict=verdict)
    store.save(host, store.JUDGEMENT, judgement, mode=0o644)


def comes_from_another_kernel(machine: Machine) -> None:
    """Let all that is kept have been taken by a kernel before this one, what is too large too."""
    before = manifest_of(machine)
    kept = (
        replace(one, control=Accepted()) if isinstance(one.control, Refused) else one
        for one in before.objects
    )
    other = replace(before, release=OTHER_KERNEL, version=OTHER_KERNEL, objects=tuple(kept))
    store.save(host_of(machine), MANIFEST, other)


@on_each_suite
def test_objects_are_kept_after_a_sound_verdict_with_what_this_kernel_says(
    machine: Machine,
) -> None:
    compile_objects(machine)
    has_judged(machine, Outcome.UNSURE)
    start(machine, "keep-objects")
    assert not host_of(machine).exists(MANIFEST)

    has_judged(machine, Outcome.SOUND)
    start(machine, "keep-objects")
    kept = manifest_of(machine)
    assert (kept.boot, kept.left_out) == (machine.boot_id(), ())
    controls = {Path(one.name).stem: one.control for one in kept.objects}
    assert controls.keys() == set(COMPILED)
    assert isinstance(controls["too_large"], Refused)
    assert "BPF program is too large. Processed 1000001 insn" in controls["too_large"].log
    taken = {name: c for name, c in controls.items() if isinstance(c, Accepted)}
    assert {"cilium", "large", "small_enough"} <= taken.keys()
    assert all(program.verified_instructions for c in taken.values() for program in c.programs)
    probes = {probe.name: probe.result for probe in kept.probes}
    assert isinstance(probes["a tc program"], Accepted)
    # In a network namespace of its own, by a program of the host.
    assert isinstance(probes["MARK of ip6tables"], Accepted), probes["MARK of ip6tables"]


@on_each_suite
def test_another_kernel_is_asked_for_all_of_them_and_nothing_of_that_stays(
    machine: Machine,
) -> None:
    start(machine, "load-test")  # nothing is kept: it is not even run
    assert not host_of(machine).exists(RESULT)
    mount_pins(machine)
    compile_objects(machine)
    before = traces(machine)
    has_judged(machine, Outcome.SOUND)
    start(machine, "keep-objects")
    start(machine, "load-test")
    assert result_of(machine).not_needed == "the kernel is the one that they were tried on"

    comes_from_another_kernel(machine)
    start(machine, "load-test")
    found = result_of(machine)
    assert {Path(one.name).stem for one in found.objects} == set(COMPILED)
    check = load_check(manifest_of(machine), found, machine.boot_id())
    assert (check.answer, check.proof) == (Answer.FAIL, True)
    (reason,) = (line for line in check.reasons if "too_large.o" in line)
    assert "program cil_too_large is refused" in reason
    assert f"(E2BIG), {OTHER_KERNEL} took it: BPF program is too large" in reason
    assert not [note for note in check.notes if "was not tested" in note]

    assert traces(machine) == before
    assert machine.run(("systemctl", "--failed", "--no-legend")) == ""


def test_programs_in_the_image_of_an_agent_are_kept_where_it_has_loaded_them(
    machine: Machine,
) -> None:
    for name, content in {
        "shipped.o": build("cilium"), "unused.o": build("set_retval"), "hold.py": HOLD.encode(),
    }.items():  # fmt: skip
        write(machine, f"/srv/{name}", content)
    machine.run(("sh", "-exc", AGENT))
    has_judged(machine, Outcome.SOUND)
    start(machine, "keep-objects")
    kept = manifest_of(machine)
    (shipped,) = kept.objects
    assert (shipped.name, shipped.shipped) == ("calico-node:/usr/lib/calico/bpf/to_hep.o", True)
    assert "cil_from_test" in {program.name for program in shipped.used}
    assert kept.left_out == ("1 objects that the CNI does not use",)


@on_each_suite
def test_a_boot_goes_on_after_the_load_test_whatever_becomes_of_it(machine: Machine) -> None:
    large = build("too_large")
    host = host_of(machine)
    copies = {objects.keep(host, large + bytes(more)): more for more in range(1, 7)}
    kept = (
        KeptObject(
            name=f"{more}.o", digest=digest, size=len(large) + more, shipped=False,
            control=Accepted(),
        )
        for digest, more in copies.items()
    )  # fmt: skip
    manifest = Manifest(
        boot=BootId("before"),
        release=OTHER_KERNEL,
        version=OTHER_KERNEL,
        seen="",
        objects=tuple(kept),
    )
    store.save(host, MANIFEST, manifest)
    write(machine, "/etc/systemd/system/kubelet.service", KUBELET.encode())
    machine.run(("systemctl", "enable", "kubelet.service"))
    # Its lock lies in /run, where there is none yet.
    machine.run(("update-alternatives", "--set", "ip6tables", "/usr/sbin/ip6tables-legacy"))

    machine.reboot()
    assert ended(machine) == ("success", True)
    found = result_of(machine)
    refused = [one.name for one in found.objects if isinstance(one.result, Refused)]
    assert refused == [one.name for one in manifest.objects]
    assert all(not isinstance(probe.result, Unknown) for probe in found.probes), found.probes

    late = b"[Service]\nTimeoutStartSec=1s\n"
    write(machine, "/etc/systemd/system/trialboot-load-test.service.d/late.conf", late)
    machine.reboot()
    assert ended(machine) == ("timeout", True)
    assert not host_of(machine).exists(RESULT)
    assert "trialboot.workers" not in machine.run(PROCESSES)


def ended(machine: Machine) -> tuple[str, bool]:
    """Tell how the load test ended, and whether the kubelet runs and was started after it."""
    machine.wait_for(("systemctl", "is-active", "kubelet.service"), "active")
    result = show(machine, "trialboot-load-test", "Result")
    over = int(show(machine, "trialboot-load-test", "ExecMainExitTimestampMonotonic"))
    began = int(show(machine, "kubelet", "ExecMainStartTimestampMonotonic"))
    return result, 0 < over <= began


def show(machine: Machine, unit: str, name: str) -> str:
    words = ("systemctl", "show", "--value", f"--property={name}", f"{unit}.service")
    return machine.run(words).strip()
