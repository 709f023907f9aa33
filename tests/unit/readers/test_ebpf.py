"""The eBPF reader against an injected kernel: every errno, and netlink packed by hand."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.bpf_kernel import FakeKernel
from tests.fakes.netlink_messages import (
    DONE,
    FILTER,
    attribute,
    bpf_filter,
    device,
    message,
    number,
    tc,
)
from trialboot import bpf
from trialboot.core.facts import Attachment, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers import ebpf

TCX_INGRESS, TCX_EGRESS, NETKIT_PRIMARY, NETKIT_PEER = 46, 47, 54, 55
INET4_CONNECT, LSM_CGROUP, FLOW_DISSECTOR = 10, 43, 17
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
MOUNTINFO = """\
22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
39 31 0:38 /kubepods /mnt/part rw,relatime - cgroup2 cgroup2 rw
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
42 31 0:38 / /run/cilium/cgroupv2 rw,relatime - cgroup2 none rw
"""


def test_a_device_tells_name_kind_and_xdp_of_every_mode() -> None:
    xdp = attribute(2, b"\x04") + attribute(5, number(7)) + attribute(6, number(8))

    assert ebpf.parse_device(device(2, "eth0", "veth", xdp)) == ebpf.Device(
        2, "dev:eth0", "veth", (7, 8)
    )
    assert ebpf.parse_device(device(1, "lo")) == ebpf.Device(1, "dev:lo", "", ())


def test_only_a_filter_with_an_ebpf_program_has_one() -> None:
    assert ebpf.parse_filter(bpf_filter(42, "name")) == (42, "name")
    assert ebpf.parse_filter(tc(2, "bpf")) is None
    assert ebpf.parse_filter(tc(2, "bpf", options=attribute(7, b"classic\0"))) is None
    assert ebpf.parse_filter(tc(2, "u32", options=attribute(11, number(42)))) is None


def test_the_root_of_cgroup2_is_found_even_beside_version_1() -> None:
    assert ebpf.parse_cgroup_root(MOUNTINFO) == "/sys/fs/cgroup/unified"
    assert ebpf.parse_cgroup_root("31 23 0:28 / /sys rw - sysfs sysfs rw\n") is None


def test_a_part_of_cgroup2_is_not_taken_for_nothing() -> None:
    part = "39 31 0:38 /../.. /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
    with pytest.raises(HostError, match="the root of the cgroup tree is not seen here"):
        ebpf.parse_cgroup_root(part)


# ---- an injected kernel --------------------------------------------------------------------


@pytest.fixture
def read(tmp_path: Path) -> Callable[[FakeKernel], tuple[Attachment, ...] | Unknown]:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/net").touch()
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO)
    (tmp_path / "sys/fs/cgroup/unified").mkdir(parents=True)

    def reading(kernel: FakeKernel) -> tuple[Attachment, ...] | Unknown:
        host = Host(root=tmp_path, sleep=lambda _seconds: None)
        return ebpf.read_attachments(host, syscall=kernel.syscall, netlink=kernel.netlink)

    return reading


Read = Callable[[FakeKernel], tuple[Attachment, ...] | Unknown]


def on(place: str, hook: str, direction: str, program: str, via: str) -> Attachment:
    return Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def test_every_place_is_read(read: Read) -> None:
    kernel = FakeKernel(
        programs={1: "xdp", 2: "in", 3: "out", 4: "filter", 5: "primary", 6: "connect", 7: "flow"},
        links=[device(2, "nk0", "netkit", attribute(6, number(1)))],
        attached={TCX_INGRESS: [2, 3], NETKIT_PRIMARY: [5], INET4_CONNECT: [6], 17: [7]},
        qdiscs=[tc(2, "clsact"), tc(2, "noqueue"), tc(99, "clsact")],
        filters={EGRESS: [tc(2, "bpf"), bpf_filter(4, "filter-nk0")]},
    )

    assert read(kernel) == (
        on("cgroup:root", "cgroup", "inet4_connect", "connect", "cgroup"),
        on("dev:nk0", "skb", "egress", "filter", "tc"),
        on("dev:nk0", "skb", "egress", "primary", "netkit"),
        on("dev:nk0", "skb", "ingress", "in", "tcx"),
        on("dev:nk0", "skb", "ingress", "out", "tcx"),
        on("dev:nk0", "xdp", "", "xdp", "xdp"),
        on("netns:self", "netns", "flow_dissector", "flow", "netns"),
    )


def test_nothing_attached_is_nothing_and_not_unknown(read: Read) -> None:
    assert read(FakeKernel()) == ()


@pytest.mark.parametrize(
    ("kernel_name", "filter_name", "told"),
    [
        ("cil_from_contai", "cil_from_container-lxc12", "cil_from_contai"),
        ("handle_ingress", "", "handle_ingress"),
        ("classifier", "bpf_lxc.o:[from-container]", "bpf_lxc.o:[from-container]"),
        ("", "cilium-eth0", "cilium-eth0"),
    ],
)
def test_a_section_in_the_filters_name_tells_more_than_the_program(
    read: Read, kernel_name: str, filter_name: str, told: str
) -> None:
    kernel = FakeKernel(
        programs={4: kernel_name},
        qdiscs=[tc(2, "clsact")],
        filters={INGRESS: [bpf_filter(4, filter_name)]},
    )

    assert read(kernel) == (on("dev:eth0", "skb", "ingress", told, "tc"),)


def test_the_old_ingress_qdisc_is_asked_for_ingress_only(read: Read) -> None:
    one = [bpf_filter(4, "both")]
    kernel = FakeKernel({4: "one"}, qdiscs=[tc(2, "ingress")], filters={INGRESS: one, EGRESS: one})

    assert read(kernel) == (on("dev:eth0", "skb", "ingress", "one", "tc"),)


def test_only_netkit_devices_are_asked_for_netkit(read: Read) -> None:
    kernel = FakeKernel(links=[device(1, "lo"), device(7, "nk0", "netkit")])

    read(kernel)

    asked = {(target, kind) for target, kind, _ in kernel.queried if kind >= NETKIT_PRIMARY}
    assert asked == {(7, NETKIT_PRIMARY), (7, NETKIT_PEER)}


def test_lsm_programs_are_asked_for_as_the_kernel_wants_it(read: Read) -> None:
    kernel = FakeKernel({3: "lsm"}, attached={LSM_CGROUP: [3]})

    assert read(kernel) == (on("cgroup:root", "cgroup", "lsm_cgroup", "lsm", "cgroup"),)
    assert {kind for _, kind, flags in kernel.queried if flags} == {LSM_CGROUP}


# ---- every errno ---------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [TCX_INGRESS, LSM_CGROUP, FLOW_DISSECTOR])
def test_a_mechanism_newer_than_the_kernel_is_passed_over(read: Read, unknown: int) -> None:
    kernel = FakeKernel(
        {2: "connect"}, attached={INET4_CONNECT: [2]}, refused={unknown: errno.EINVAL}
    )

    assert read(kernel) == (on("cgroup:root", "cgroup", "inet4_connect", "connect", "cgroup"),)


@pytest.mark.parametrize("gone", [errno.ENOENT, errno.ENODEV, errno.ENXIO])
def test_a_place_that_went_away_has_nothing(read: Read, gone: int) -> None:
    kernel = FakeKernel({2: "out"}, attached={TCX_EGRESS: [2]}, refused={TCX_INGRESS: gone})

    found = read(kernel)

    assert found == tuple(
        on(place, "skb", "egress", "out", "tcx") for place in ("dev:eth0", "dev:lo")
    )


@pytest.mark.parametrize("command", [bpf.PROG_QUERY, bpf.PROG_GET_FD_BY_ID, 15])
@pytest.mark.parametrize("number_", [errno.EPERM, errno.EACCES])
def test_not_being_allowed_is_unknown(read: Read, command: int, number_: int) -> None:
    kernel = FakeKernel({2: "in"}, attached={TCX_INGRESS: [2]}, refused={-command: number_})

    found = read(kernel)

    assert isinstance(found, Unknown)
    assert found.why.endswith("; needs CAP_NET_ADMIN and CAP_SYS_ADMIN")


@pytest.mark.parametrize("problem", [errno.ENOSYS, errno.ENOMEM, errno.EFAULT, errno.E2BIG])
def test_any_other_refusal_is_unknown(read: Read, problem: int) -> None:
    assert read(FakeKernel(refused={-bpf.PROG_QUERY: problem})) == Unknown(os.strerror(problem))


def test_a_program_that_went_away_is_passed_over(read: Read) -> None:
    kernel = FakeKernel({2: "in"}, attached={INET4_CONNECT: [1, 2]})

    assert read(kernel) == (on("cgroup:root", "cgroup", "inet4_connect", "in", "cgroup"),)


def test_each_program_is_asked_for_once_and_closed(read: Read) -> None:
    kernel = FakeKernel({2: "in"}, attached={TCX_INGRESS: [2], TCX_EGRESS: [2]})

    assert len(read(kernel)) == 4  # type: ignore[arg-type]
    assert len(kernel.descriptors) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.descriptors[0])


TORN = [message(16, device(9, "torn"), flags=0x12), DONE]


@pytest.mark.parametrize("times", [1, 4])
def test_an_interrupted_dump_is_read_again(read: Read, times: int) -> None:
    kernel = FakeKernel({2: "in"}, attached={TCX_INGRESS: [2]}, netlink_answers=[TORN] * times)

    assert len(read(kernel)) == 2  # type: ignore[arg-type]


def test_a_dump_interrupted_five_times_is_unknown(read: Read) -> None:
    kernel = FakeKernel(netlink_answers=[TORN] * 5)

    assert read(kernel) == Unknown("netlink dump: changed while it was read")


def test_an_answer_cut_short_is_unknown(read: Read) -> None:
    kernel = FakeKernel(netlink_answers=[[message(18, device(1, "lo")[:18]), DONE]])

    assert read(kernel) == Unknown("netlink: the answer is cut short")


@pytest.mark.parametrize("gone", [errno.ENODEV, errno.EINVAL, errno.ENOENT])
def test_filters_of_a_device_that_went_away_are_none(read: Read, gone: int) -> None:
    kernel = FakeKernel(qdiscs=[tc(2, "clsact")], refused={-FILTER: gone})

    assert read(kernel) == ()


def test_an_unreadable_mount_table_is_unknown(tmp_path: Path) -> None:
    kernel = FakeKernel()

    found = ebpf.read_attachments(
        Host(root=tmp_path), syscall=kernel.syscall, netlink=kernel.netlink
    )

    assert found == Unknown("/proc/self/mountinfo: No such file or directory")


# ---- what the kernel does not know, sockmaps, netfilter ------------------------------------


@pytest.mark.parametrize("unknown", [TCX_INGRESS, NETKIT_PEER])
def test_a_mechanism_that_the_kernel_does_not_know_is_asked_for_once(
    read: Read, unknown: int
) -> None:
    links = [device(number_, f"nk{number_}", "netkit") for number_ in (1, 2, 3)]
    kernel = FakeKernel(links=links, refused={unknown: errno.EINVAL})

    assert read(kernel) == ()
    assert [kind for _, kind, _ in kernel.queried].count(unknown) == 1
    assert [kind for _, kind, _ in kernel.queried].count(TCX_EGRESS) == 3


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EOPNOTSUPP])
def test_a_netkit_device_that_is_no_primary_is_passed_over(read: Read, refusal: int) -> None:
    kernel = FakeKernel(
        {2: "in"},
        links=[device(2, "nk0", "netkit")],
        attached={TCX_INGRESS: [2]},
        refused={NETKIT_PRIMARY: refusal, NETKIT_PEER: refusal},
    )

    assert read(kernel) == (on("dev:nk0", "skb", "ingress", "in", "tcx"),)


SK_MSG_VERDICT, SK_SKB_STREAM_VERDICT, SK_SKB_VERDICT = 7, 5, 38


def test_programs_of_sockmaps_are_read_and_other_maps_not_asked(read: Read) -> None:
    kernel = FakeKernel(
        {2: "redirect", 3: "verdict"},
        maps={1: (1, "a_hash"), 5: (15, "cilium_sock_ops"), 6: (18, "sock_hash_0012")},
        attached={SK_MSG_VERDICT: [2], SK_SKB_VERDICT: [3]},
    )

    found = read(kernel)

    assert found == (
        on("map:cilium_sock_ops", "sockmap", "msg_verdict", "redirect", "sockmap"),
        on("map:cilium_sock_ops", "sockmap", "skb_verdict", "verdict", "sockmap"),
        on("map:sock_hash", "sockmap", "msg_verdict", "redirect", "sockmap"),
        on("map:sock_hash", "sockmap", "skb_verdict", "verdict", "sockmap"),
    )
    assert [kind for _, kind, _ in kernel.queried].count(SK_MSG_VERDICT) == 2


@pytest.mark.parametrize("refusal", [errno.EBUSY, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_verdict_that_a_sockmap_cannot_have_is_passed_over(read: Read, refusal: int) -> None:
    kernel = FakeKernel(
        {2: "redirect"},
        maps={5: (15, "socks")},
        attached={SK_MSG_VERDICT: [2]},
        refused={SK_SKB_STREAM_VERDICT: refusal},
    )

    assert read(kernel) == (on("map:socks", "sockmap", "msg_verdict", "redirect", "sockmap"),)


def test_a_map_that_went_away_is_passed_over(read: Read) -> None:
    kernel = FakeKernel({2: "x"}, maps={5: (15, "s")}, gone={5}, attached={SK_MSG_VERDICT: [2]})

    assert read(kernel) == ()


def netfilter(program: int, family: int, hook: int, kind: int = 10) -> bytes:
    return struct.pack("=IIIxxxxIIiI", kind, 1, program, family, hook, -100, 0)


@pytest.mark.parametrize(
    ("family", "hook", "told"),
    [(2, 0, "ipv4/prerouting"), (10, 4, "ipv6/postrouting"), (7, 9, "7/9")],
)
def test_netfilter_programs_are_read(read: Read, family: int, hook: int, told: str) -> None:
    kernel = FakeKernel(
        {2: "filter"},
        bpf_links={3: netfilter(2, family, hook, kind=11), 4: netfilter(2, family, hook)},
    )

    assert read(kernel) == (on("netns:self", "netfilter", told, "filter", "netfilter"),)


def test_a_kernel_without_links_has_no_netfilter_programs(read: Read) -> None:
    assert read(FakeKernel(refused={-bpf.LINK_GET_NEXT_ID: errno.EINVAL})) == ()


def test_thousands_of_links_are_read(read: Read) -> None:
    links = [device(number_, f"lxc{number_:x}", "veth") for number_ in range(1, 5001)]

    found = read(FakeKernel({2: "in"}, links=links, attached={TCX_INGRESS: [2]}))

    assert isinstance(found, tuple)
    assert len(found) == 5000


@pytest.mark.parametrize("parse", [ebpf.parse_device, ebpf.parse_filter])
@given(body=st.binary(max_size=120))
def test_any_bytes_are_a_device_or_filter_or_an_error(
    parse: Callable[[bytes], object], body: bytes
) -> None:
    try:
        parse(body)
    except OSError as error:
        assert error.errno == errno.EBADMSG  # noqa: PT017  any other error fails by itself


@given(st.binary(min_size=64, max_size=64))
def test_any_link_is_a_netfilter_link_or_none(info: bytes) -> None:
    found = ebpf.parse_netfilter(info)
    assert (found is not None) is info.startswith(number(10))
