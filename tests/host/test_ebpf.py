"""Tiny programs, attached in each way that a CNI uses, are read back."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host import bpf_loader
from tests.host.bpf_loader import Attach, ProgType, TcParent
from tests.host.conftest import Inside, own_sysfs, sh
from trialboot.core.facts import Attachment, BpfObjects, Unknown
from trialboot.host import Host
from trialboot.readers.ebpf import parse_cgroup_root, read_attachments
from trialboot.readers.ebpf_objects import read_objects

pytestmark = pytest.mark.host

_HOST = Host()
_PAIR = """
ip link add eth0 type veth peer name eth1
ip link set eth0 up
ip link set eth1 up
"""


def _read(cgroup: Path | None = None) -> list[Attachment]:
    read = read_attachments(_HOST, cgroup=str(cgroup) if cgroup else None)
    assert not isinstance(read, Unknown), read.why
    # Of the machine that the tests run on: its root cgroup, and its sockmaps and netfilter links.
    ours = ("map:trialboot", "dev:", "netns:self", "cgroup:root" if cgroup else "dev:")
    return [one for one in read if one.place.startswith(ours)]


def _load(kind: ProgType, name: str, attach: int = 0) -> int:
    return bpf_loader.prog_load(kind, bpf_loader.TINY[kind], name, attach)


def _link(program: int, target: int, attach: Attach, flags: int = 0) -> None:
    """Attach by a link, which the child's end closes."""
    try:
        bpf_loader.link_create(program, target, attach, flags)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
        pytest.skip(f"this kernel has no {attach.name} links: {error.strerror}")


def _on(place: str, hook: str, direction: str, program: str, via: str) -> Attachment:
    return Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def test_tc_filters_are_read_back(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR)
        index = socket.if_nametoindex("eth0")
        bpf_loader.tc_clsact(index)
        into = _load(ProgType.SCHED_CLS, "cil_from_netdev")
        out = _load(ProgType.SCHED_CLS, "cil_to_netdev")
        bpf_loader.tc_attach(index, TcParent.INGRESS, into, "cil_from_netdev-eth0")
        bpf_loader.tc_attach(index, TcParent.EGRESS, out, "bpf_netdev_eth0.o:[to-netdev]")
        return _read()

    assert inside(read) == [
        _on("dev:eth0", "skb", "egress", "bpf_netdev_eth0.o:[to-netdev]", "tc"),
        _on("dev:eth0", "skb", "ingress", "cil_from_netdev", "tc"),
    ]


def test_the_old_ingress_qdisc_has_no_egress(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR + "tc qdisc add dev eth0 ingress")
        index = socket.if_nametoindex("eth0")
        program = _load(ProgType.SCHED_CLS, "handle_ingress")
        bpf_loader.tc_attach(index, TcParent.INGRESS, program, "handle_ingress")
        return _read()

    assert inside(read) == [_on("dev:eth0", "skb", "ingress", "handle_ingress", "tc")]


def test_classic_filters_are_no_programs(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(
            _PAIR
            + """
            tc qdisc add dev eth0 clsact
            tc filter add dev eth0 ingress bpf bytecode '1,6 0 0 4294967295' flowid 1:1
            """
        )
        return _read()

    assert inside(read) == []


def test_several_programs_of_one_tcx_hook_are_read_back(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR)
        index = socket.if_nametoindex("eth0")
        for name in ("first", "second"):
            _link(_load(ProgType.SCHED_CLS, name), index, Attach.TCX_INGRESS)
        _link(_load(ProgType.SCHED_CLS, "out"), index, Attach.TCX_EGRESS)
        return _read()

    assert inside(read) == [
        _on("dev:eth0", "skb", "egress", "out", "tcx"),
        _on("dev:eth0", "skb", "ingress", "first", "tcx"),
        _on("dev:eth0", "skb", "ingress", "second", "tcx"),
    ]


def test_a_full_tcx_hook_is_read_back(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR)
        index = socket.if_nametoindex("eth0")
        for number in range(63):  # BPF_MPROG_MAX - 1: one more is refused
            _link(_load(ProgType.SCHED_CLS, f"number_{number}"), index, Attach.TCX_INGRESS)
        return _read()

    assert len(inside(read)) == 63


@pytest.mark.parametrize("name", ["eth0", "lo"])
def test_generic_xdp_is_read_back(inside: Inside, name: str) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR)
        program = _load(ProgType.XDP, "cil_xdp_entry", Attach.XDP)
        _link(program, socket.if_nametoindex(name), Attach.XDP, bpf_loader.XDP_SKB_MODE)
        return _read()

    assert inside(read) == [_on(f"dev:{name}", "xdp", "", "cil_xdp_entry", "xdp")]


def test_driver_xdp_is_read_back(inside: Inside) -> None:
    def read() -> list[Attachment]:
        sh(_PAIR)
        program = _load(ProgType.XDP, "cil_xdp_entry", Attach.XDP)
        _link(program, socket.if_nametoindex("eth0"), Attach.XDP, 1 << 2)  # XDP_FLAGS_DRV_MODE
        return _read()

    assert inside(read) == [_on("dev:eth0", "xdp", "", "cil_xdp_entry", "xdp")]


@contextmanager
def _own_cgroup() -> Iterator[Path]:
    root = parse_cgroup_root(_HOST.read_text("/proc/self/mountinfo"))
    if root is None:
        pytest.skip("no cgroup2 tree is mounted")
    own = Path(root) / f"trialboot-test-{os.getpid()}"
    try:
        own.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup may be made: {error.strerror}")
    try:
        yield own
    finally:
        own.rmdir()


def test_cgroup_programs_are_read_back_however_attached(inside: Inside) -> None:
    def read() -> list[Attachment]:
        with _own_cgroup() as cgroup:
            target = os.open(cgroup, os.O_RDONLY)
            old = _load(ProgType.CGROUP_SOCK_ADDR, "cil_sock4", Attach.CGROUP_INET4_CONNECT)
            new = _load(ProgType.CGROUP_SOCK_ADDR, "cil_sock6", Attach.CGROUP_UDP6_SENDMSG)
            bpf_loader.prog_attach(target, old, Attach.CGROUP_INET4_CONNECT)
            _link(new, target, Attach.CGROUP_UDP6_SENDMSG)
            return _read(cgroup)

    assert inside(read) == [
        _on("cgroup:root", "cgroup", "inet4_connect", "cil_sock4", "cgroup"),
        _on("cgroup:root", "cgroup", "udp6_sendmsg", "cil_sock6", "cgroup"),
    ]


def test_the_root_of_the_cgroup_tree_is_found_and_read(inside: Inside) -> None:
    def read() -> tuple[Attachment, ...] | Unknown:
        return read_attachments(_HOST)

    assert isinstance(inside(read), tuple)


@pytest.mark.parametrize(
    ("kind", "attach", "name"),
    [
        (ProgType.FLOW_DISSECTOR, Attach.FLOW_DISSECTOR, "flow_dissector"),
        (ProgType.SK_LOOKUP, Attach.SK_LOOKUP, "sk_lookup"),
    ],
)
def test_programs_of_the_namespace_are_read_back(
    inside: Inside, kind: ProgType, attach: Attach, name: str
) -> None:
    def read() -> list[Attachment]:
        target = os.open("/proc/self/ns/net", os.O_RDONLY)
        _link(_load(kind, "mine", attach), target, attach)
        return _read()

    assert inside(read) == [_on("netns:self", "netns", name, "mine", "netns")]


@pytest.mark.parametrize(
    ("kind", "attach", "verdict"),
    [
        (ProgType.SK_MSG, Attach.SK_MSG_VERDICT, "msg_verdict"),
        (ProgType.SK_SKB, Attach.SK_SKB_STREAM_VERDICT, "stream_verdict"),
    ],
)
def test_programs_of_a_sockmap_are_read_back(
    inside: Inside, kind: ProgType, attach: Attach, verdict: str
) -> None:
    def read() -> list[Attachment]:
        target = bpf_loader.map_create(bpf_loader.SOCKMAP, "trialboot_00123")
        bpf_loader.prog_attach(target, _load(kind, "redirect"), attach, flags=0)
        return _read()

    expected = _on("map:trialboot", "sockmap", verdict, "redirect", "sockmap")
    assert inside(read) == [expected]


def test_netfilter_programs_are_read_back(inside: Inside) -> None:
    def read() -> list[Attachment]:
        try:
            program = _load(ProgType.NETFILTER, "my_filter", Attach.NETFILTER)
            bpf_loader.netfilter_link(program, socket.AF_INET6, 3, 100)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                raise
            pytest.skip(f"this kernel has no netfilter programs: {error.strerror}")
        return [one for one in _read() if one.program == "my_filter"]

    assert inside(read) == [
        _on("netns:self", "netfilter", "ipv6/output", "my_filter", "netfilter")
    ]


def test_both_programs_of_a_netkit_pair_are_read_back_at_the_hosts_end(inside: Inside) -> None:
    def read() -> list[Attachment]:
        try:
            sh("ip link add nk0 type netkit")
        except AssertionError as error:
            pytest.skip(f"this kernel has no netkit: {str(error).splitlines()[0]}")
        index = socket.if_nametoindex("nk0")
        _link(_load(ProgType.SCHED_CLS, "primary"), index, Attach.NETKIT_PRIMARY)
        _link(_load(ProgType.SCHED_CLS, "peer"), index, Attach.NETKIT_PEER)
        return _read()

    assert inside(read) == [
        _on("dev:nk0", "skb", "egress", "primary", "netkit"),
        _on("dev:nk0", "skb", "ingress", "peer", "netkit"),
    ]


def test_all_objects_and_pins_are_told(inside: Inside) -> None:
    def read() -> BpfObjects | Unknown:
        own_sysfs()
        sh(_PAIR + "mkdir -p /sys/fs/bpf/cilium/endpoints/123")
        program = _load(ProgType.SCHED_CLS, "trialboot_test")
        bpf_loader.obj_pin(program, Path("/sys/fs/bpf/cilium/endpoints/123/prog"))
        _map = bpf_loader.map_create(bpf_loader.SOCKMAP, "trialboot_00123")
        _link(program, socket.if_nametoindex("eth0"), Attach.TCX_INGRESS)
        return read_objects(_HOST)

    objects = inside(read)
    assert isinstance(objects, BpfObjects), objects
    assert objects.programs >= 1
    assert 1 <= len(objects.largest) <= 10
    assert dict(objects.maps)["trialboot"] == 1
    assert dict(objects.links)["tcx"] >= 1
    assert "/sys/fs/bpf/cilium/endpoints/*/prog" in objects.pins


def test_nothing_attached_is_nothing_and_not_unknown(inside: Inside) -> None:
    assert inside(_read) == []


def test_without_the_capability_it_is_unknown(inside: Inside) -> None:
    def read() -> tuple[Attachment, ...] | Unknown:
        os.setresuid(65534, 65534, 65534)
        return read_attachments(_HOST)

    found = inside(read)
    assert isinstance(found, Unknown)
    assert found.why.endswith("needs CAP_NET_ADMIN and CAP_SYS_ADMIN")


def test_no_descriptor_is_left_open(inside: Inside) -> None:
    def read() -> tuple[int, int]:
        sh(_PAIR)
        _link(_load(ProgType.SCHED_CLS, "mine"), socket.if_nametoindex("eth0"), Attach.TCX_EGRESS)
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert len(_read()) == 1
        return before, len(list(Path("/proc/self/fd").iterdir()))

    before, after = inside(read)
    assert before == after
