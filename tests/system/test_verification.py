"""A node verified under a real systemd: the sandbox shows it all, and sends for the others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import bpf_loader
from tests.system import roots
from tests.system.conftest import Lend
from tests.system.nspawn import Machine
from trialboot.core.contract import Contract, lines_of
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Outcome, Verdict
from trialboot.host import Host
from trialboot.writers import store

pytestmark = pytest.mark.system
on_each_suite = pytest.mark.parametrize("node", roots.SUITES, indirect=True)

CONFIGURATION = """
[verify]
minimum_settle_seconds = 1
settle_seconds = 2
deadline_seconds = 8
interval_seconds = 1
check_seconds = 5
units = ["pod.service"]
processes = ["sleep"]
[prove]
enabled = true
seconds = 1
targets = ["gateway"]
"""
# An agent counts once it has run for five minutes: here the wait alone is another one.
HASTE = "s/^STABLE_SECONDS: Final = 300.0$/STABLE_SECONDS: Final = 0.1/w /dev/stdout"
CONTRACT = "/usr/lib/python3/dist-packages/trialboot/core/contract.py"
POD_UID = "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"
CONTAINER = "ab" * 32
LOGS = f"/var/log/pods/kube-system_cilium-x1_{POD_UID}/cilium-agent"
RUNTIME = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CONTAINER}"
AGENT = f"cri-containerd-{CONTAINER}.service"
IMAGE = "quay.io/cilium/cilium:v1.16.1"
# The node's own link, a rule and a route as Cilium sets them, one pod, and Cilium's agent; its
# files with the modes that kubelet and containerd give them.
NODE = f"""
ip link add eth0 type veth peer name far
ip link set far up
ip addr add 10.9.9.2/24 dev eth0
ip link set eth0 up
ip route add default via 10.9.9.1
ip rule add fwmark 0x200/0xf00 lookup 2004 pref 9
ip route add local 0.0.0.0/0 dev lo table 2004
echo 1 >/proc/sys/net/ipv4/ip_forward

systemd-run --unit=pod --service-type=exec -p PrivateNetwork=yes --uid=nobody sleep 7001
pid=$(systemctl show --value --property=MainPID pod)
ip link add lxc1a2b type veth peer name eth0 netns $pid
ip addr add 10.1.0.1/24 dev lxc1a2b
ip link set lxc1a2b up
nsenter --target $pid --net sh -ec '
    ip addr add 10.1.0.2/24 dev eth0
    ip link set eth0 up
    ip route add default via 10.1.0.1'
python3 /srv/attach.py

mkdir -p /etc/cni/net.d {LOGS} {RUNTIME}
echo '{{"plugins": [{{"type": "cilium-cni"}}]}}' >/etc/cni/net.d/05-cilium.conflist
echo '{{"annotations": {{"io.kubernetes.cri.container-name": "cilium-agent",
    "io.kubernetes.cri.image-name": "{IMAGE}"}}}}' >{RUNTIME}/config.json
echo "$(date -u +%FT%TZ) stderr F all is well" >{LOGS}/0.log
chmod 0711 /run/containerd
chmod 0750 /var/log/pods
chmod 0640 {LOGS}/0.log
cp /usr/bin/sleep /srv/cilium-agent
systemd-run --unit={AGENT} --service-type=exec \\
    --slice=kubepods-besteffort-pod{POD_UID.replace("-", "_")}.slice /srv/cilium-agent 7002
"""
ATTACH = """
import os, socket
import bpf_loader as bpf

def load(kind, name, attach=0):
    return bpf.prog_load(kind, bpf.TINY[kind], name, attach)

for link, name in ("eth0", "cil_from_netdev"), ("lxc1a2b", "cil_from_contai"):
    index = socket.if_nametoindex(link)
    bpf.tc_clsact(index)
    program = load(bpf.ProgType.SCHED_CLS, name)
    bpf.tc_attach(index, bpf.TcParent.INGRESS, program, name)
connect = bpf.Attach.CGROUP_INET4_CONNECT
program = load(bpf.ProgType.CGROUP_SOCK_ADDR, "cil_sock4_conne", connect)
bpf.prog_attach(os.open("/sys/fs/cgroup", os.O_RDONLY), program, connect)
"""
# The journal's boot is the one that services see: nspawn hides it from all but them.
ONE_BOOT = """
umount /proc/sys/kernel/random/boot_id
umount /proc/sys/kernel/random/boot_id || true
systemctl restart systemd-journald.service
"""
BREAK = f"""
ip rule del pref 9
ip route del default
echo 0 >/proc/sys/net/ipv4/ip_forward
tc filter del dev eth0 ingress
systemctl stop {AGENT} pod.service
"""
# A crash loop of the agent, and one of a service: each says why.
REFUSE = f"""
systemctl stop {AGENT} pod.service
for run in 1 2 3; do
    echo "$(date -u +%FT%TZ) stderr F level=error msg=Verifier error: program cil_from_netdev" \\
        >{LOGS}/$run.log
done
chmod 0640 {LOGS}/*
systemd-run --unit=pod --description=crashes -p Restart=always -p StartLimitBurst=5 \\
    sh -c 'echo BPF program is too large. Processed 1000001 insn; exit 1'
"""
LEARNED = {
    "role: cgroup:root|cgroup|inet4_connect|cil_sock4_connect",
    "role: dev:eth0|skb|ingress|cil_from_netdev",
    "pods: lxc*|skb|ingress|cil_from_container: on 1",
    "route: default via 10.9.9.1 dev eth0 table 254",
    "rule: from all fwmark 0x200/0xf00 lookup 2004",
    "pod routes: lxc* IPv4: on 1",
    "sysctl: net.ipv4.ip_forward = 1",
    "sysctl: net.ipv4.conf.lxc*.forwarding = 1",
    "agent: cilium-agent",
}
LOST = (
    "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)",
    "route default via 10.9.9.1 dev eth0 table 254 is gone",
    "rule from all fwmark 0x200/0xf00 lookup 2004 is gone",
    "sysctl net.ipv4.ip_forward is 0, was 1",
    "cilium-agent does not run, it did before",
    "pod.service is inactive, restarted 0 times in this boot",
    "no process sleep runs",
)
JOURNAL = ("journalctl", "--output=cat", "--no-pager", "--unit=trialboot-verify.service")


@pytest.fixture
def node(request: pytest.FixtureRequest, installed: Lend, tmp_path: Path) -> Iterator[Machine]:
    """A running node of a cluster with our package in it, whose daemon is still to be started."""
    with roots.copy(installed(request.param), tmp_path / "copy") as place:
        # Disabled is not enough: where boot-complete.target is reached, it is wanted by that.
        roots.chroot_run(place, ("systemctl", "mask", "trialbootd.service"))
        assert roots.chroot_run(place, ("sed", "-i", HASTE, CONTRACT)) != ""
        (place / "etc/trialboot/trialboot.toml").write_text(CONFIGURATION)
        shutil.copy(Path(bpf_loader.__file__), place / "srv")
        (place / "srv/attach.py").write_text(ATTACH)
        with Machine(place, tmp_path, may_bpf=True) as booted:
            booted.run(("sh", "-exc", NODE))
            yield booted


def judged(machine: Machine) -> Verdict:
    """Have the node judged, and give the verdict."""
    machine.run(("systemctl", "start", "trialboot-verify.service"), timeout=120)
    found = store.load(Host(root=machine.inside()), store.JUDGEMENT, Judgement)
    assert isinstance(found, Judgement), found
    return found.verdict


def learned(machine: Machine) -> list[str]:
    """Give the lines of the contract."""
    found = store.load(Host(root=machine.inside()), store.CONTRACTS, tuple[Contract, ...])
    assert isinstance(found, tuple), found
    assert found[0].cni.images == (("cilium-agent", IMAGE),)
    return [line for _, line in lines_of(found[0])]


def check(machine: Machine, name: str, script: str) -> None:
    path = machine.place / "etc/trialboot/checks.d" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@on_each_suite
def test_a_sound_node_is_learned_with_all_that_its_sandbox_may_see(node: Machine) -> None:
    check(node, "required.d/10-fine", "exit 0")
    node.run(("systemctl", "unmask", "trialbootd.service"))
    node.run(("systemctl", "start", "trialbootd.service"))
    node.wait_for(("trialboot", "contract"), "CNI: cilium-cni", timeout=60)
    lines = learned(node)
    assert set(lines) >= LEARNED
    told = node.run(("trialboot", "contract")).splitlines()
    assert set(lines) | {f"image: cilium-agent {IMAGE}"} <= set(told)
    assert "sound\n" in node.run(("trialboot", "verify"))
    node.wait_for(("ls", "/var/lib/trialboot"), "objects.json")  # what follows a sound verdict
    node.run(("trialboot", "contract", "--forget"))
    assert node.run(("trialboot", "contract")).startswith("Nothing was learned yet")
    judged(node)
    assert learned(node) == lines
    assert node.run(("systemctl", "--failed", "--no-legend")) == ""


@on_each_suite
def test_what_a_node_lost_is_told_at_the_deadline(node: Machine) -> None:
    assert judged(node).outcome is Outcome.SOUND
    node.run(("sh", "-exc", BREAK))
    verdict = judged(node)
    assert verdict.outcome is Outcome.WORSE
    assert set(LOST) <= set(verdict.reasons)
    assert node.run(JOURNAL).count("waiting for ") > 1
    code, said = node.try_run(("trialboot", "verify"))
    assert code == 1
    assert all(reason in said for reason in LOST)


@on_each_suite
def test_what_the_kernel_refused_is_found_in_logs_and_proves_it_at_once(node: Machine) -> None:
    node.run(("sh", "-exc", ONE_BOOT))
    assert judged(node).outcome is Outcome.SOUND
    node.run(("sh", "-exc", REFUSE))
    node.wait_for(("systemctl", "is-failed", "pod.service"), "failed")
    verdict = judged(node)
    assert verdict.outcome is Outcome.WORSE
    assert "waiting for" not in node.run(JOURNAL)
    said = "\n".join(verdict.reasons)
    assert "cilium-agent does not run, it did before, its container was restarted 3 times" in said
    assert "the kernel refused cilium-agent: level=error msg=Verifier error: program" in said
    assert "the kernel refused it: BPF program is too large. Processed 1000001 insn" in said


@on_each_suite
def test_a_required_check_that_lasts_makes_the_boot_worse_and_is_named(node: Machine) -> None:
    check(node, "required.d/10-gateway", "echo no answer from 10.9.9.1; exit 2")
    check(node, "wanted.d/10-slow", "echo slow; exit 2")
    verdict = judged(node)
    assert verdict.outcome is Outcome.WORSE
    (reason,) = verdict.reasons
    assert "required.d/10-gateway" in reason
    assert "no answer from 10.9.9.1" in reason
    notes = [note for one in verdict.checks for note in one.notes]
    assert [note for note in notes if "wanted.d/10-slow" in note]
    assert "waiting for operator" in node.run(JOURNAL)
