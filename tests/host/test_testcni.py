"""The CNI of the test machines, run on this kernel in network and mount namespaces of its own."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.host import bpf_loader as bpf

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

Answer = TypeVar("Answer")

TESTCNI: Final = Path(__file__).parents[1] / "vm/guest/rootfs/usr/local/lib/testcni"
NIC: Final = "eth0"
PINS: Final = Path("/sys/fs/bpf/testcni")
VETH: Final = re.compile(r"veth[0-9a-f]{8}")
FIRST_REFUSING: Final = (7, 2)
START_SECONDS: Final = 60
NEW_NETWORK_AND_MOUNTS: Final = 0x40000000 | 0x00020000
PRIVATE_ALL_THE_WAY_DOWN: Final = 0x4000 | 0x40000

SKB_ROLES: Final = {
    (NIC, "ingress"): ["tcni_from_nic"],
    (NIC, "egress"): ["tcni_to_nic"],
    ("pod", "ingress"): ["tcni_from_pod"],
    ("pod", "egress"): [],
}
CGROUP_ROLES: Final = {
    bpf.Attach.CGROUP_INET4_CONNECT: ["tcni_connect4", "tcni_setret4"],
    bpf.Attach.CGROUP_INET6_CONNECT: ["tcni_connect6"],
    bpf.Attach.CGROUP_UDP4_SENDMSG: ["tcni_sendmsg4"],
}
EXPECTED_ATTACH: Final = {
    bpf.ProgType.CGROUP_SOCK: bpf.Attach.CGROUP_INET_SOCK_CREATE,
    bpf.ProgType.CGROUP_SOCK_ADDR: bpf.Attach.CGROUP_INET4_CONNECT,
    bpf.ProgType.SK_LOOKUP: bpf.Attach.SK_LOOKUP,
    bpf.ProgType.NETFILTER: bpf.Attach.NETFILTER,
}
NEWER: Final = {bpf.ProgType.NETFILTER: "6.4"}
"""Types that a kernel which we still run on does not know."""
CONNECTS: Final = """
import os, socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.connect(("::1", 9))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
"""
REACHES: Final = """
import os, socket, sys
client = socket.socket()
client.settimeout(10)
print(os.strerror(client.connect_ex((sys.argv[1], 9))))
"""


@dataclass
class Node:
    """A thread that lives in namespaces of its own, with a NIC and a child cgroup."""

    thread: ThreadPoolExecutor
    folder: Path
    cgroup: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def do(self, deed: Callable[[], Answer]) -> Answer:
        """Do it over there."""
        return self.thread.submit(deed).result()

    def run(self, *words: str) -> str:
        """Run a command over there."""
        return self.do(
            lambda: subprocess.run(words, check=True, capture_output=True, text=True).stdout
        )

    def start(self, **environment: str) -> Cni:
        """Start the CNI there and wait until it is ready or has given up."""
        place = self.folder / "notify"
        place.unlink(missing_ok=True)
        given = {"PATH": os.environ["PATH"], "CGROUP": str(self.cgroup)} | environment
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(place))
            process = self.do(lambda: _start(given | {"NOTIFY_SOCKET": str(place)}))
            self.started.append(process)
            ready = _wait_ready(told, process)
        return Cni(process, ready)

    def kill_all(self) -> None:
        """End every CNI a failed test left running."""
        for process in self.started:
            process.kill()
            process.communicate()

    def query(self, device: str, hook: bpf.Attach) -> list[str]:
        """Names of the programs at a tcx hook."""
        return self.do(lambda: _names(socket.if_nametoindex(device), hook))

    def query_cgroup(self) -> dict[bpf.Attach, list[str]]:
        """Names of the programs at the hooks of our cgroup."""
        return self.do(self._query_cgroup)

    def _query_cgroup(self) -> dict[bpf.Attach, list[str]]:
        directory = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return {hook: _names(directory, hook) for hook in CGROUP_ROLES}
        finally:
            os.close(directory)

    def filters(self, device: str, direction: str) -> list[str]:
        """Names of the tc filters of a device, as tc(8) sees them."""
        rows = json.loads(self.run("tc", "-j", "filter", "show", "dev", device, direction) or "[]")
        return [row["options"]["bpf_name"] for row in rows if "bpf_name" in row.get("options", {})]

    def veths(self) -> list[str]:
        """Host ends of the cables of the pods."""
        links = json.loads(self.run("ip", "-j", "link", "show"))
        return [link["ifname"] for link in links if VETH.fullmatch(link["ifname"])]

    def skb_roles(self, look: Callable[[str, str], list[str]]) -> dict[tuple[str, str], list[str]]:
        """What is attached to NIC and pods, one entry for all pods if they are alike."""
        places = [(NIC, NIC), *((veth, "pod") for veth in self.veths())]
        roles: dict[tuple[str, str], list[str]] = {}
        for device, place in places:
            for direction in ("ingress", "egress"):
                found = look(device, direction)
                assert roles.setdefault((place, direction), found) == found
        return roles

    def tcx_roles(self) -> dict[tuple[str, str], list[str]]:
        """The roles held by tcx."""
        hooks = {"ingress": bpf.Attach.TCX_INGRESS, "egress": bpf.Attach.TCX_EGRESS}
        return self.skb_roles(lambda device, direction: self.query(device, hooks[direction]))

    def tc_roles(self) -> dict[tuple[str, str], list[str]]:
        """The roles held by tc filters."""
        return self.skb_roles(self.filters)


@dataclass
class Cni:
    """A running or ended CNI."""

    process: subprocess.Popen[str]
    ready: bool

    def stop(self) -> str:
        """Stop it as systemd does and return what it logged; its exit is clean."""
        self.process.send_signal(signal.SIGTERM)
        log = self.log()
        assert self.process.returncode == 0, log
        return log

    def log(self) -> str:
        """What it had logged when it ended."""
        return self.process.communicate(timeout=START_SECONDS)[1]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ThreadPoolExecutor(max_workers=1) as thread:
        cgroup = thread.submit(_enter).result()
        made = Node(thread, tmp_path, cgroup)
        try:
            made.do(_plug_nic)
            yield made
        finally:
            made.kill_all()
            made.do(lambda: _leave(cgroup))


def _enter() -> Path:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p)
    if libc.unshare(NEW_NETWORK_AND_MOUNTS):
        pytest.skip(f"no namespaces: {os.strerror(ctypes.get_errno())}")
    if libc.mount(b"none", b"/", None, PRIVATE_ALL_THE_WAY_DOWN, None):
        pytest.skip(f"no private mounts: {os.strerror(ctypes.get_errno())}")
    for kind, where in ("tmpfs", "/run"), ("bpf", "/sys/fs/bpf"), ("cgroup2", "/run/cgroup2"):
        if where.startswith("/run/"):
            Path(where).mkdir()
        if libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None):
            pytest.skip(f"cannot mount {kind}: {os.strerror(ctypes.get_errno())}")
    cgroup = Path(f"/run/cgroup2/testcni-{os.getpid()}")
    cgroup.mkdir()
    return cgroup


def _plug_nic() -> None:
    for command in (
        "ip link set lo up",
        f"ip link add {NIC} type veth peer name switch0",
        "ip link set switch0 up",
        f"ip address add 10.0.2.15/24 dev {NIC}",
        f"ip link set {NIC} up",
        "ip route add default via 10.0.2.2",
    ):
        done = subprocess.run(command.split(), check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{command}: {done.stderr.strip()}")


def _leave(cgroup: Path) -> None:
    if PINS.exists():
        for pin in [path for path in PINS.rglob("*") if path.is_file()]:
            pin.unlink()
    cgroup.rmdir()


def _start(environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-IB", str(TESTCNI)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _wait_ready(told: socket.socket, process: subprocess.Popen[str]) -> bool:
    for _ in range(START_SECONDS * 10):
        if select.select([told], [], [], 0.1)[0]:
            return told.recv(64) == b"READY=1"
        if process.poll() is not None:
            return False
    raise AssertionError("the CNI is neither ready nor gone")


def _names(target: int, hook: bpf.Attach) -> list[str]:
    return sorted(bpf.prog_name(prog_id) for prog_id in bpf.prog_query(target, hook))


@pytest.fixture
def accepting(node: Node) -> Node:
    """A node whose kernel lets the CNI start, and knows tcx."""
    if _release() >= FIRST_REFUSING:
        pytest.skip(f"Linux {os.uname().release} refuses bpf_set_retval with a context")
    try:
        node.query(NIC, bpf.Attach.TCX_INGRESS)
    except OSError as error:
        pytest.skip(f"no tcx: {error.strerror}")
    return node


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def _run_once(node: Node, **environment: str) -> str:
    cni = node.start(**environment)
    assert cni.ready, cni.log()
    return cni.stop()


@pytest.mark.skipif(_release() < FIRST_REFUSING, reason="this kernel accepts the probe")
def test_a_kernel_that_refuses_the_probe_leaves_the_hooks_empty(node: Node) -> None:
    cni = node.start()
    assert 'msg="failed to probe bpf_set_retval: load program: EINVAL: ' in cni.log()
    _assert_nothing_done(node, cni)


def test_told_to_fail_it_leaves_the_hooks_empty(node: Node) -> None:
    cni = node.start(FAIL="1")
    assert cni.log().startswith('level=fatal msg="failed to probe bpf_set_retval: ')
    _assert_nothing_done(node, cni)


def _assert_nothing_done(node: Node, cni: Cni) -> None:
    assert not cni.ready
    assert cni.process.returncode == 1
    assert node.veths() == []
    assert node.query_cgroup() == {hook: [] for hook in CGROUP_ROLES}
    assert node.filters(NIC, "ingress") == []


def test_without_a_default_route_it_gives_up_until_restarted(accepting: Node) -> None:
    accepting.run("ip", "route", "delete", "default")
    cni = accepting.start()
    assert 'msg="no default route yet"' in cni.log()
    assert cni.process.returncode == 1


def test_attachments_are_in_place_and_outlive_the_cni(accepting: Node) -> None:
    log = _run_once(accepting)
    assert 'msg="kernel accepts bpf_set_retval"' in log
    assert 'msg="programs are attached" skb=tcx cgroup=link' in log
    assert accepting.tcx_roles() == SKB_ROLES
    assert accepting.query_cgroup() == CGROUP_ROLES


def test_the_old_way_yields_the_same_roles(accepting: Node) -> None:
    log = _run_once(accepting, LEGACY="1")
    assert 'msg="programs are attached" skb=tc cgroup=attach' in log
    assert accepting.tc_roles() == SKB_ROLES
    assert accepting.query_cgroup() == CGROUP_ROLES


@pytest.mark.parametrize(("first", "then"), [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")])
def test_a_restart_replaces_what_an_earlier_instance_left(
    accepting: Node, first: str, then: str
) -> None:
    _run_once(accepting, LEGACY=first)
    before = set(accepting.veths())
    _run_once(accepting, LEGACY=then)
    after = set(accepting.veths())
    assert len(before) == len(after) == 3
    assert before.isdisjoint(after)
    nothing: dict[tuple[str, str], list[str]] = {place: [] for place in SKB_ROLES}
    assert accepting.tcx_roles() == (SKB_ROLES if then == "0" else nothing)
    assert accepting.tc_roles() == (SKB_ROLES if then == "1" else nothing)
    assert accepting.query_cgroup() == CGROUP_ROLES


def test_routes_rules_and_pods_are_there_once(accepting: Node) -> None:
    _run_once(accepting)
    _run_once(accepting)
    rules = accepting.run("ip", "rule", "show", "pref", "9").splitlines()
    assert [" ".join(rule.split()) for rule in rules] == [
        "9: from all fwmark 0x200/0xf00 lookup 2004"
    ]
    remote = accepting.run("ip", "route", "show", "proto", "80")
    assert "10.244.1.0/24 via 10.0.2.2 dev eth0" in remote
    assert "10.244.2.0/24 via 10.0.2.2 dev eth0" in remote
    assert "local default dev lo" in accepting.run("ip", "route", "show", "table", "2004")
    assert "10.244.0.1/24" in accepting.run("ip", "address", "show", "dev", "cni0")


def test_a_cni_that_gives_a_number_starts_on_every_kernel(node: Node) -> None:
    assert node.start(SCALAR="1").ready
    assert node.query_cgroup() == CGROUP_ROLES


def test_another_order_yields_the_same_roles(accepting: Node) -> None:
    log = _run_once(accepting, SEED="2", PODS="5")
    came = re.findall(r"pod is up\" pod=tcni-pod(\d)", log)
    assert sorted(came) == list("12345") != came
    assert accepting.tcx_roles() == SKB_ROLES
    assert accepting.query_cgroup() == CGROUP_ROLES


def test_slow_pods_come_after_ready(accepting: Node) -> None:
    assert accepting.start(POD_DELAY="0.7").ready
    assert accepting.query(NIC, bpf.Attach.TCX_INGRESS) == ["tcni_from_nic"]
    assert accepting.veths() == []
    _wait(lambda: len(accepting.veths()) == 3)


def test_pods_go_and_others_come(accepting: Node) -> None:
    cni = accepting.start(CHURN="0.2")
    before = set(accepting.veths())
    _wait(lambda: before.isdisjoint(accepting.veths()))
    assert "pod is gone" in cni.stop()
    _run_once(accepting)
    assert len(accepting.veths()) == 3


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(START_SECONDS * 10):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_objects_are_left_where_cilium_leaves_its_own(accepting: Node, tmp_path: Path) -> None:
    (tmp_path / "bpf_sock.o").write_bytes(b"an object")
    _run_once(accepting, OBJECTS=str(tmp_path))
    left = accepting.do(lambda: Path("/var/run/cilium/state/bpf_sock.o").read_bytes())
    assert left == b"an object"


def test_a_pod_reaches_another(accepting: Node) -> None:
    _run_once(accepting)
    there = ("ip", "netns", "exec", "tcni-pod1", sys.executable, "-IBc", REACHES, "10.244.0.13")
    assert accepting.run(*there).strip() == os.strerror(errno.ECONNREFUSED)


def test_nobodys_connect_fails(accepting: Node) -> None:
    _run_once(accepting)
    accepting.run(sys.executable, "-IBc", CONNECTS, str(accepting.cgroup))


@pytest.mark.parametrize("prog_type", list(bpf.TINY))
def test_every_tiny_program_loads(prog_type: bpf.ProgType) -> None:
    expected = EXPECTED_ATTACH.get(prog_type, 0)
    try:
        os.close(bpf.prog_load(prog_type, bpf.TINY[prog_type], "tiny", expected))
    except bpf.RefusedError as error:
        if error.errno != errno.EINVAL or prog_type not in NEWER:
            raise
        pytest.skip(
            f"this kernel is older than {NEWER[prog_type]}: {prog_type!r} is unknown to it"
        )


def test_a_refused_program_says_why() -> None:
    with pytest.raises(bpf.RefusedError, match="Permission denied") as refused:
        bpf.prog_load(bpf.ProgType.SCHED_CLS, bpf.EXIT, "unset_answer")
    assert "R0 !read_ok" in refused.value.log


def test_xdp_is_attached_as_long_as_its_link_is_open(node: Node) -> None:
    program = bpf.prog_load(bpf.ProgType.XDP, bpf.TINY[bpf.ProgType.XDP], "tiny_xdp")
    link = node.do(lambda: bpf.xdp_attach(socket.if_nametoindex(NIC), program))
    assert "tiny_xdp" in node.run("ip", "-d", "link", "show", "dev", NIC)
    os.close(link)
    os.close(program)
    assert "tiny_xdp" not in node.run("ip", "-d", "link", "show", "dev", NIC)
