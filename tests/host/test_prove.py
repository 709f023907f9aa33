"""Targets are tried from pods made of real namespaces: a node, its pods, and another machine."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import Inside, sh
from trialboot.config import Config, Prove
from trialboot.core.facts import Unknown
from trialboot.core.proof import Means, Proof, Way, proof_check, remembered
from trialboot.core.verdict import Answer
from trialboot.host import Host
from trialboot.netns import Namespace, namespace_of, own_inode
from trialboot.netns import inside as inside_namespace
from trialboot.proving import prove
from trialboot.readers.podnetworks import read_pods

pytestmark = pytest.mark.host

OTHER = "tcp://10.9.0.2:7000"
CLOSED = "tcp://10.9.0.2:7001"
PING = "ping://10.9.0.2"
TARGETS = ("gateway", "service", OTHER, PING)


@contextmanager
def machine(environment: dict[str, str] | None = None) -> Iterator[int]:
    """Have a process with a network namespace of its own; give its number."""
    with subprocess.Popen(
        ["/usr/bin/unshare", "--net", "sleep", "120"], env=environment
    ) as process:
        try:
            _wait_for(lambda: namespace_of(Host(), process.pid).inode != own_inode(Host()))
            yield process.pid
        finally:
            process.kill()


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def within(pid: int, commands: str) -> None:
    sh("".join(f"nsenter --target {pid} --net {line}\n" for line in commands.splitlines() if line))


@dataclass
class Node:
    """This namespace as a node: pods behind veths, and another machine behind an uplink."""

    stack: ExitStack
    other: int = 0
    pods: dict[str, int] = field(default_factory=dict)

    def connect(self) -> None:
        self.other = self.stack.enter_context(machine())
        sh(
            f"""
            ip link add up0 type veth peer name eth0 netns {self.other}
            ip addr add 10.9.0.1/24 dev up0
            ip link set up0 up
            echo 1 > /proc/sys/net/ipv4/ip_forward
            """
        )
        within(
            self.other,
            """
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
ip link set lo up
ip route add 10.1.0.0/16 via 10.9.0.1
""",
        )
        with inside_namespace(Host(), namespace_of(Host(), self.other)):
            self.stack.enter_context(socket.create_server(("10.9.0.2", 7000)))

    def add_pod(
        self, link: str, number: int = 0, environment: dict[str, str] | None = None
    ) -> int:
        pid = self.stack.enter_context(machine(environment))
        sh(
            f"""
            ip link add {link} type veth peer name eth0 netns {pid}
            ip addr add 10.1.{number}.1/24 dev {link}
            ip link set {link} up
            """
        )
        within(
            pid,
            f"""
ip addr add 10.1.{number}.2/24 dev eth0
ip link set eth0 up
ip route add default via 10.1.{number}.1
""",
        )
        self.pods[link] = pid
        return pid


@contextmanager
def node() -> Iterator[Node]:
    with ExitStack() as stack:
        made = Node(stack)
        made.connect()
        yield made


SERVICE = {
    "PATH": "/usr/bin:/bin",
    "SECRET": "s3cret",
    "KUBERNETES_SERVICE_HOST": "10.9.0.2",
    "KUBERNETES_SERVICE_PORT": "7000",
}


def tried(*targets: str, seconds: float = 0.4) -> Proof:
    return prove(Host(), Config(prove=Prove(enabled=True, targets=targets, seconds=seconds)))


def answers(proof: Proof) -> dict[str, str]:
    return {reach.target: reach.why for reach in proof.reaches}


def test_all_is_reached_from_a_sound_pod(inside: Inside) -> None:
    def look() -> tuple[Proof, Any]:
        with node() as made:
            made.add_pod("lxc1a2b", environment=SERVICE)
            return tried(*TARGETS, CLOSED), read_pods(Host())

    proof, pods = inside(look)
    assert answers(proof) == dict.fromkeys(
        ("gateway", "service (10.9.0.2:7000)", OTHER, PING, CLOSED), ""
    )
    assert proof.pods == ("lxc*",)
    (pod,) = pods
    assert (pod.link, pod.gateway) == ("lxc1a2b", "10.1.0.1")
    assert pod.service == Way(means=Means.TCP, address="10.9.0.2", port=7000)
    assert "s3cret" not in repr(pods)


def test_incident_17_what_goes_to_another_node_is_dropped_and_the_host_reaches_it(
    inside: Inside,
) -> None:
    def look() -> tuple[Proof, Proof]:
        with node() as made:
            made.add_pod("lxc1a2b", environment=SERVICE)
            before = tried("gateway", OTHER, PING)
            within(made.other, "ip route replace blackhole 10.1.0.0/16")
            sh("ping -c 1 -W 2 10.9.0.2 >/dev/null" if _has_ping() else "true")
            return before, tried("gateway", OTHER, PING)

    before, now = inside(look)
    check = proof_check(now, remembered(before, ()))
    assert (check.answer, check.proof) == (Answer.FAIL, False)
    assert check.reasons == tuple(
        f"{target} is not reached from 1 pod (lxc*): no answer; it was on the last sound boot"
        for target in (OTHER, PING)
    )


def _has_ping() -> bool:
    return Path("/usr/bin/ping").exists() or Path("/bin/ping").exists()


def test_a_node_that_knows_no_way_says_so(inside: Inside) -> None:
    def look() -> Proof:
        with node() as made:
            made.add_pod("lxc1a2b")
            sh("ip link set up0 down")
            return tried("service", OTHER, PING, "tcp://[fd00::1]:1")

    told = answers(inside(look))
    assert told["service"] == "no process of a pod was told its address"
    assert told[OTHER] in {"Network is unreachable", "No route to host"}
    assert told[PING] == "no answer"
    assert told["tcp://[fd00::1]:1"] in {
        "Network is unreachable",
        "Cannot assign requested address",
    }


def test_one_way_of_a_target_is_enough(inside: Inside) -> None:
    def look() -> Proof:
        with node() as made:
            made.add_pod("lxc1a2b")
            return tried(f"ping://10.9.0.77 {OTHER}", "ping://10.9.0.77 ping://10.9.0.78")

    both, neither = inside(look).reaches
    assert (both.reached, neither.reached, neither.why) == (True, False, "no answer")


def test_a_gateway_that_answers_arp_alone_is_reached(inside: Inside) -> None:
    def look() -> dict[str, str]:
        with node() as made:
            made.add_pod("cali1a2b")
            sh("echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all")
            return answers(tried("gateway", "ping://10.1.0.1"))

    assert inside(look) == {"gateway": "", "ping://10.1.0.1": "no answer"}


def test_a_gateway_that_is_away_is_not_reached(inside: Inside) -> None:
    def look() -> dict[str, str]:
        with node() as made:
            made.add_pod("lxc1a2b")
            sh("ip addr flush dev lxc1a2b")
            return answers(tried("gateway"))

    assert inside(look)["gateway"] == "no answer"


def test_a_gateway_of_ipv6_alone_is_reached(inside: Inside) -> None:
    def look() -> dict[str, str]:
        with node() as made:
            pid = made.add_pod("lxc1a2b")
            sh("ip addr add fe80::1/64 dev lxc1a2b nodad")
            within(
                pid,
                """
ip -4 route flush default
ip addr add fd00::2/64 dev eth0 nodad
ip addr add fe80::2/64 dev eth0 nodad
ip -6 route add default via fe80::1 dev eth0
""",
            )
            return answers(tried("gateway"))

    assert inside(look) == {"gateway": ""}


def test_three_pods_are_tried_the_health_endpoint_first(inside: Inside) -> None:
    def look() -> Proof:
        with node() as made:
            for number, link in enumerate(("lxc3a", "lxc1a", "lxc_health", "lxc2a")):
                made.add_pod(link, number)
            # All but the last of the three are cut off: one that reaches it is enough.
            for link in ("lxc_health", "lxc1a"):
                sh(f"ip link set {link} down")
            return tried(OTHER)

    proof = inside(look)
    assert proof.pods == ("lxc_health", "lxc*", "lxc*")
    assert answers(proof) == {OTHER: ""}


def test_a_nested_nodes_pod_with_the_same_indexes_is_not_ours(inside: Inside) -> None:
    def look() -> tuple[bool, ...]:
        with node() as made, machine() as nested, machine(SERVICE) as inner:
            pair = "type veth peer index 61 name eth0 netns"
            own = made.stack.enter_context(machine())
            sh(f"ip link add index 60 name lxc1a2b {pair} {own}")
            within(nested, f"ip link add index 60 name lxc9f {pair} {inner}")
            pods = read_pods(Host())
            assert isinstance(pods, tuple)
            return tuple(pod.namespace.pid == own for pod in pods)

    assert inside(look) == (True,)


def test_what_is_no_pod_is_not_entered(inside: Inside) -> None:
    def look() -> tuple[Any, Proof]:
        with node() as made:
            made.add_pod("docker7")
            return read_pods(Host()), tried("gateway")

    pods, proof = inside(look)
    assert pods == ()
    assert proof.pods == ()


def test_a_pod_that_ended_meanwhile_is_left_and_this_namespace_kept(inside: Inside) -> None:
    def look() -> tuple[bool, list[str]]:
        before = own_inode(Host())
        with machine() as pid:
            space = namespace_of(Host(), pid)
        told = [_refusal(gone) for gone in (space, Namespace(os.getpid(), space.inode))]
        return own_inode(Host()) == before, told

    assert inside(look) == (True, ["FileNotFoundError", "ProcessLookupError"])


def _refusal(space: Namespace) -> str:
    try:
        with inside_namespace(Host(), space):
            return "entered"
    except OSError as error:
        return type(error).__name__


def test_without_rights_nothing_is_known(inside: Inside) -> None:
    def look() -> Any:
        with node() as made:
            made.add_pod("lxc1a2b")
            read_pods(Host())  # loads the library while its files can be read
            os.setresuid(-1, 65534, -1)
            return read_pods(Host())

    assert isinstance(inside(look), Unknown)
