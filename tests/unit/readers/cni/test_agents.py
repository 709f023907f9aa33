"""Agents of a CNI, as a node shows them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.readers.cni.nodes import (
    BEGAN,
    CILIUM,
    CONTAINERD,
    CRIO,
    K3S,
    NOW,
    Node,
    identity,
    slice_of,
)
from trialboot.core.facts import Agent, Unknown
from trialboot.readers.cni.agents import read_agents
from trialboot.readers.cni.inventory import read_cni

POD = f"kube-system_cilium-x7k2p_{CILIUM}"
IMAGE = "quay.io/cilium/cilium:v1.17.2@sha256:" + "ab" * 32
REFUSED = '2024-05-01T09:58:00.1Z stderr F level=fatal msg="attaching: BPF program is too large"\n'


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def agents(node: Node) -> tuple[Agent, ...]:
    found = read_agents(node.host)
    assert not isinstance(found, Unknown)
    return found


def only(node: Node) -> Agent:
    (agent,) = agents(node)
    return agent


def cilium(node: Node, *, age: float = 500.0) -> None:
    """Let one cilium-agent run under containerd, as kubeadm sets it up."""
    node.process(4711, "cilium-agent", slice_of(CILIUM, identity("a")), age=age)
    node.bundle(
        CONTAINERD,
        identity("a"),
        {
            "io.kubernetes.cri.container-name": "cilium-agent",
            "io.kubernetes.cri.image-name": IMAGE,
        },
    )


def test_an_agent_under_containerd_is_told_with_its_age_and_image(node: Node) -> None:
    cilium(node)
    node.log(POD, "cilium-agent", 0)
    assert only(node) == Agent(name="cilium-agent", age=500.0, restarts=0, image=IMAGE, pod=CILIUM)


def test_a_node_without_agents_has_none(node: Node) -> None:
    assert agents(node) == ()


def test_on_k3s_its_own_process_stands_for_the_agents_in_it(node: Node) -> None:
    node.process(800, "k3s-server", "0::/system.slice/k3s.service\n")
    assert [agent.name for agent in agents(node)] == ["k3s-server"]


def test_an_agent_in_a_pod_of_k3s_is_found(node: Node) -> None:
    uid = "0b" * 16
    node.process(90, "kube-proxy", f"0::/kubepods/besteffort/pod{uid}/{identity('b')}\n")
    node.bundle(K3S, identity("b"), {"io.kubernetes.cri.image-name": "rancher/proxy:v1"})
    node.log(f"kube-system_kube-proxy-node1_{uid}", "kube-proxy", 3)
    assert only(node) == Agent(
        name="kube-proxy", age=500.0, restarts=0, image="rancher/proxy:v1", pod=uid
    )


def test_under_crio_the_image_is_told_with_its_digest(node: Node) -> None:
    node.process(5, "ovnkube", slice_of(CILIUM, identity("c"), "crio"))
    node.bundle(
        CRIO,
        identity("c"),
        {
            "io.kubernetes.container.name": "ovnkube-controller",
            "io.kubernetes.cri-o.ImageName": "quay.io/ovn:4.15",
            "io.kubernetes.cri-o.ImageRef": "quay.io/ovn@sha256:1",
        },
    )
    pod = f"openshift-ovn-kubernetes_ovnkube-node-1_{CILIUM}"
    node.log(pod, "ovnkube-controller", 7, REFUSED)
    node.log(pod, "ovnkube-controller", 8)
    agent = only(node)
    assert (agent.image, agent.restarts) == ("quay.io/ovn@sha256:1", 1)
    assert agent.refusals == ('level=fatal msg="attaching: BPF program is too large"',)


def test_a_crash_loop_is_seen_between_two_runs(node: Node) -> None:
    node.log(POD, "cilium-agent", 4, at=BEGAN - 90)  # of the boot before
    for number in range(4):
        node.log(POD, "cilium-agent", 5 + number, REFUSED)
    agent = only(node)
    assert (agent.name, agent.age, agent.restarts) == ("cilium-agent", 0.0, 3)
    assert agent.pod == CILIUM
    assert agent.refusals == ('level=fatal msg="attaching: BPF program is too large"',)


def test_logs_that_the_kubelet_removed_are_made_up_for_by_its_own_files(node: Node) -> None:
    """It keeps two logs, and a file for each start."""
    for number, at in enumerate((-500, -400, -300, -200, -100, 60, 160, 260, 360)):
        node.start(CILIUM, "cilium-agent", number, at=BEGAN + at)
    node.log(POD, "cilium-agent", 7)
    node.log(POD, "cilium-agent", 8)
    assert only(node).restarts == 3


def test_a_start_that_the_runtime_refused_is_no_restart(node: Node) -> None:
    for number in range(40):
        node.start(CILIUM, "cilium-agent", number, at=BEGAN + 10)
    node.log(POD, "cilium-agent", 0)
    node.log(POD, "cilium-agent", 1)
    assert only(node).restarts == 1


def test_an_agent_that_was_restarted_before_this_boot_only_was_not_in_it(node: Node) -> None:
    cilium(node)
    for number in range(6):
        node.log(POD, "cilium-agent", number, REFUSED, at=BEGAN - 600 + 60 * number)
        node.start(CILIUM, "cilium-agent", number, at=BEGAN - 600 + 60 * number)
    node.log(POD, "cilium-agent", 6)
    node.start(CILIUM, "cilium-agent", 6, at=BEGAN + 40)
    agent = only(node)
    assert (agent.restarts, agent.refusals) == (0, ())


def test_logs_of_the_boot_before_are_no_agent(node: Node) -> None:
    node.log(POD, "cilium-agent", 3, REFUSED, at=BEGAN - 10)
    assert agents(node) == ()


def test_a_log_from_the_future_was_written_by_a_clock_that_has_been_set(node: Node) -> None:
    node.log(POD, "cilium-agent", 3, REFUSED, at=NOW.timestamp() + 3600)
    assert agents(node) == ()


def test_rotated_parts_of_a_log_are_not_counted_as_runs(node: Node) -> None:
    cilium(node)
    node.log(POD, "cilium-agent", 11)
    for name in ("9.log.20240501-095500.gz", "10.log.20240501-095600", "11.log.20240501-095700"):
        node.write(f"/var/log/pods/{POD}/cilium-agent/{name}", "", BEGAN + 60)
    assert only(node).restarts == 0


def test_without_logs_and_without_the_kubelets_files_nothing_is_known(node: Node) -> None:
    cilium(node)
    agent = only(node)
    assert (agent.restarts, agent.pod) == (None, CILIUM)


def test_docker_s_logs_are_read_through_the_kubelet_s_links(node: Node) -> None:
    node.process(70, "kube-proxy", slice_of(CILIUM, identity("d"), "docker"))
    target = f"/var/lib/docker/containers/{identity('d')}/{identity('d')}-json.log"
    line = {"log": "Extension MARK revision 0 not supported, missing kernel module?\n"}
    node.write(target, json.dumps({**line, "stream": "stderr", "time": "2024-05-01T09:59:00Z"}))
    node.write(
        f"/var/lib/docker/containers/{identity('d')}/config.v2.json",
        json.dumps(
            {
                "Image": "sha256:01",
                "Config": {
                    "Image": "k8s.gcr.io/kube-proxy@sha256:02",
                    "Labels": {"io.kubernetes.container.name": "kube-proxy"},
                },
            }
        ),
    )
    folder = node.root / f"var/log/pods/kube-system_kube-proxy-1_{CILIUM}/kube-proxy"
    folder.mkdir(parents=True)
    for number, at in ((0, BEGAN - 60), (1, BEGAN + 60), (2, BEGAN + 90)):
        (folder / f"{number}.log").symlink_to(target)
        os.utime(folder / f"{number}.log", (at, at), follow_symlinks=False)
    assert only(node) == Agent(
        name="kube-proxy",
        age=500.0,
        restarts=1,
        image="k8s.gcr.io/kube-proxy@sha256:02",
        refusals=("Extension MARK revision 0 not supported, missing kernel module?",),
        pod=CILIUM,
    )


def test_probes_that_run_beside_an_agent_in_its_container_do_not_make_it_young(node: Node) -> None:
    cilium(node, age=450.0)
    node.process(9000, "cilium-agent", slice_of(CILIUM, identity("a")), age=1.0)
    node.log(POD, "cilium-agent", 0)
    assert only(node).age == 450.0


def test_a_zombie_is_no_agent(node: Node) -> None:
    node.process(4711, "cilium-agent", slice_of(CILIUM, identity("a")), state="Z")
    assert agents(node) == ()


def test_an_agent_that_is_a_service_has_the_restarts_that_systemd_counts(node: Node) -> None:
    node.process(33, "ovs-vswitchd", "0::/system.slice/ovs-vswitchd.service\n")
    node.units = {"ovs-vswitchd.service": 4}
    assert only(node) == Agent(name="ovs-vswitchd", age=500.0, restarts=4, image="")


def test_of_a_service_that_systemd_does_not_know_no_restarts_are_known(node: Node) -> None:
    node.process(33, "kube-router", "0::/system.slice/odd.service\n")
    assert only(node).restarts is None


def test_a_rollout_shows_as_another_pod_of_the_same_image(node: Node) -> None:
    """The pod of before may still have logs: until it has ended there are two agents."""
    cilium(node)
    other = CILIUM.replace("6f", "7f")
    node.process(4800, "cilium-agent", slice_of(other, identity("f")), age=20.0)
    node.log(POD, "cilium-agent", 0)
    node.log(f"kube-system_cilium-p2mq4_{other}", "cilium-agent", 0)
    assert [(agent.pod, agent.age) for agent in agents(node)] == [(CILIUM, 500.0), (other, 20.0)]


def test_a_crash_loop_in_a_tenant_s_namespace_is_no_agent_s(node: Node) -> None:
    """Else whoever may make pods could have a healthy node condemned."""
    for number in range(5):
        node.log(f"shop_evil_{CILIUM}", "cilium-agent", number, REFUSED)
    node.process(66, "cilium-agent", slice_of(CILIUM, identity("e")))
    assert agents(node) == ()


def test_without_proc_it_is_not_known_which_agents_run(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "proc/uptime").unlink()
    found = read_agents(node.host)
    assert isinstance(found, Unknown)
    assert found.why.startswith("/proc/uptime: ")


def test_the_whole_is_configuration_and_agents(node: Node) -> None:
    cilium(node)
    cni = read_cni(node.host)
    assert cni.configuration is None
    assert isinstance(cni.agents, tuple)
    assert [agent.name for agent in cni.agents] == ["cilium-agent"]


# --- what others may put there ------------------------------------------------------------------


SECRET = "/var/lib/secret/containers/{0}/{0}-json.log".format(identity("a"))
AROUND = SECRET.replace("/lib/", "/lib/docker/containers/../../")


def pipe(place: Path, _root: Path) -> None:
    os.mkfifo(place)


def link(place: Path, root: Path) -> None:
    place.symlink_to(root / "etc/shadow")


def link_around(place: Path, _root: Path) -> None:
    place.symlink_to(AROUND)


def link_to_a_link(place: Path, root: Path) -> None:
    target = f"/var/lib/docker/containers/{identity('b')}/{identity('b')}-json.log"
    (root / target.lstrip("/")).parent.mkdir()
    (root / target.lstrip("/")).symlink_to(root / "etc/shadow")
    place.symlink_to(target)


def loop(place: Path, _root: Path) -> None:
    place.symlink_to(place.name)


def folder(place: Path, _root: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize("make", [pipe, link, link_around, link_to_a_link, loop, folder])
def test_what_is_no_log_among_the_logs_is_left_alone(
    node: Node, make: Callable[[Path, Path], None]
) -> None:
    for path in ("/etc/shadow", SECRET, "/var/lib/docker/containers/x"):
        node.write(path, REFUSED)
    place = node.root / f"var/log/pods/{POD}/cilium-agent/0.log"
    place.parent.mkdir(parents=True)
    make(place, node.root)
    os.utime(place, (BEGAN + 60, BEGAN + 60), follow_symlinks=False)
    assert only(node).refusals == ()


def test_a_huge_log_is_read_at_its_end_alone(node: Node) -> None:
    log = node.log(POD, "cilium-agent", 0, REFUSED)
    with log.open("ab") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\n2024-05-01T09:59:00Z stderr F failed to probe\x1b[2J " + b"x" * 70_000)
    os.utime(log, (BEGAN + 60, BEGAN + 60))
    (line,) = only(node).refusals
    assert line.startswith("failed to probe [2J xxx")
    assert len(line) == 300


def test_no_more_than_three_lines_of_the_newest_two_logs_are_kept(node: Node) -> None:
    for number in range(3):
        lines = [f"2024-05-01T09:59:0{n}Z stderr F Verifier error {number}.{n}" for n in range(2)]
        node.log(POD, "cilium-agent", number, "\n".join(lines))
    assert only(node).refusals == (
        "Verifier error 2.1",
        "Verifier error 2.0",
        "Verifier error 1.1",
    )


@pytest.mark.parametrize(
    "name",
    [
        b"kube-system_a",
        b"kube-system_a_" + b"\xff" * 36,
        b"kube-system__" + CILIUM.encode(),
        b"x" * 200,
        b"kube-system_\n_" + CILIUM.encode(),
    ],
)
def test_folders_that_no_kubelet_made_are_no_pods(node: Node, name: bytes) -> None:
    folder = os.fsencode(node.root) + b"/var/log/pods/" + name + b"/cilium-agent"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    assert agents(node) == ()


@pytest.mark.parametrize(
    "specification",
    [b"", b"[" * 100_000, b"null", b"[1]", b'{"annotations": 7, "Config": []}', b"\xff" * 99],
)
def test_a_specification_that_makes_no_sense_tells_no_image(
    node: Node, specification: bytes
) -> None:
    cilium(node)
    node.write(CONTAINERD.format(identity("a")), specification)
    node.log(POD, "cilium-agent", 0)
    assert only(node) == Agent(name="cilium-agent", age=500.0, restarts=0, image="", pod=CILIUM)


def test_a_container_s_name_is_never_a_path(node: Node) -> None:
    cilium(node)
    node.bundle(CONTAINERD, identity("a"), {"io.kubernetes.cri.container-name": "../../../evil"})
    node.log(POD, "cilium-agent", 0)
    assert only(node).restarts == 0


def test_a_pipe_where_a_runtime_keeps_its_file_is_not_waited_for(node: Node) -> None:
    cilium(node)
    place = node.root / CONTAINERD.format(identity("a")).lstrip("/")
    place.unlink()
    os.mkfifo(place)
    assert only(node).image == ""
