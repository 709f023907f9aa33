"""The eBPF reader against an injected kernel: every errno, and netlink packed by hand."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trialboot import bpf, netlink
from trialboot.core.facts import Attachment, Unknown
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

# ---- netlink by hand -----------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def number(value: int) -> bytes:
    return struct.pack("=I", value)


def message(kind: int, body: bytes, flags: int = 2) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + padding


DONE = message(3, struct.pack("=i", 0))


def link(index: int, name: str, kind: str = "", xdp: bytes = b"") -> bytes:
    parts = attribute(3, name.encode() + b"\0")
    if kind:
        parts += attribute(18, attribute(1, kind.encode() + b"\0"))
    if xdp:
        parts += attribute(0x8000 | 43, xdp)  # NLA_F_NESTED
    return struct.pack("=BxHiII", 0, 1, index, 0x1003, 0) + parts


def tc(index: int, kind: str, parent: int = 0xFFFFFFF1, options: bytes = b"") -> bytes:
    head = struct.pack("=BxHiIII", 0, 0, index, 1, parent, 0)
    return head + attribute(1, kind.encode() + b"\0") + (attribute(2, options) if options else b"")


def bpf_filter(program: int, name: str) -> bytes:
    options = attribute(7, name.encode() + b"\0") + attribute(11, number(program))
    return tc(2, "bpf", INGRESS, options)


def test_messages_of_several_datagrams_are_one_dump() -> None:
    first = message(16, b"one") + message(16, b"four")
    second = message(16, b"last") + DONE

    assert netlink.parse_dump([first, second]) == (b"one", b"four", b"last")


@pytest.mark.parametrize(
    ("datagrams", "problem"),
    [
        ([message(16, b"body", flags=0x12), DONE], errno.EINTR),
        ([message(16, b"body"), message(3, struct.pack("=i", 0), flags=0x12)], errno.EINTR),
        ([message(2, struct.pack("=i", -errno.EPERM))], errno.EPERM),
        ([message(16, b"body"), message(3, struct.pack("=i", -errno.ENOMEM))], errno.ENOMEM),
        ([message(16, b"body")], errno.EBADMSG),
        ([], errno.EBADMSG),
        ([b"\x10\0\0"], errno.EBADMSG),
        ([message(16, b"longer body")[:-8]], errno.EBADMSG),
        ([struct.pack("=IHHII", 4, 16, 2, 1, 0)], errno.EBADMSG),
    ],
    ids=[
        "interrupted", "interrupted at the end", "refused", "broken off with an error",
        "no end", "no answer", "half a header", "half a body", "a length below the header's",
    ],
)  # fmt: skip
def test_a_dump_that_is_not_whole_is_an_error(datagrams: list[bytes], problem: int) -> None:
    with pytest.raises(OSError, match=r"netlink|changed|cut short") as caught:
        netlink.parse_dump(datagrams)

    assert caught.value.errno == problem


def test_an_acknowledgement_ends_a_dump() -> None:
    assert netlink.parse_dump([message(2, struct.pack("=i", 0))]) == ()


@pytest.mark.parametrize("chain", [b"\x05", b"\x08\0\x01\0abc", b"\x03\0\x01\0", b"\0\0\0\0"])
def test_attributes_cut_short_are_an_error(chain: bytes) -> None:
    with pytest.raises(OSError, match="cut short"):
        netlink.parse_attributes(chain)


def test_attributes_lose_their_flags_and_padding() -> None:
    chain = attribute(0x8000 | 2, b"abc") + attribute(3, b"")

    assert netlink.parse_attributes(chain) == {2: b"abc", 3: b""}


def test_a_device_tells_name_kind_and_xdp_of_every_mode() -> None:
    xdp = attribute(2, b"\x04") + attribute(5, number(7)) + attribute(6, number(8))

    assert ebpf.parse_device(link(2, "eth0", "veth", xdp)) == ebpf.Device(
        2, "dev:eth0", "veth", (7, 8)
    )
    assert ebpf.parse_device(link(1, "lo")) == ebpf.Device(1, "dev:lo", "", ())


def test_only_a_filter_with_an_ebpf_program_has_one() -> None:
    assert ebpf.parse_filter(bpf_filter(42, "name")) == (42, "name")
    assert ebpf.parse_filter(tc(2, "bpf")) is None
    assert ebpf.parse_filter(tc(2, "bpf", options=attribute(7, b"classic\0"))) is None
    assert ebpf.parse_filter(tc(2, "u32", options=attribute(11, number(42)))) is None


def test_the_root_of_cgroup2_is_found_even_beside_version_1() -> None:
    assert ebpf.parse_cgroup_root(MOUNTINFO) == "/sys/fs/cgroup/unified"
    assert ebpf.parse_cgroup_root("31 23 0:28 / /sys rw - sysfs sysfs rw\n") is None


# ---- an injected kernel --------------------------------------------------------------------


@dataclass
class FakeKernel:
    """Answers bpf(2) and rtnetlink; keeps what was asked."""

    programs: dict[int, str] = field(default_factory=dict)
    attached: dict[int, list[int]] = field(default_factory=dict)
    """Programs by attach type, at whatever place."""
    refused: dict[int, int] = field(default_factory=dict)
    """errno by attach type or, negative, by bpf command or netlink request."""
    links: list[bytes] = field(default_factory=lambda: [link(1, "lo"), link(2, "eth0", "veth")])
    qdiscs: list[bytes] = field(default_factory=list)
    filters: dict[int, list[bytes]] = field(default_factory=dict)
    """Filter messages by parent."""
    netlink_answers: list[list[bytes]] = field(default_factory=list)
    """Answers that go before the true ones."""
    queried: list[tuple[int, int, int]] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def syscall(self, command: int, attributes: bpf.Attributes) -> int:
        if -command in self.refused:
            raise OSError(self.refused[-command], os.strerror(self.refused[-command]))
        match command:
            case bpf.PROG_QUERY:
                return self._query(attributes)
            case bpf.PROG_GET_FD_BY_ID:
                return self._open(*struct.unpack_from("=I", attributes))
            case _:
                return self._inform(*struct.unpack_from("=IIQ", attributes))

    def netlink(self, request: bytes) -> Iterator[bytes]:
        if self.netlink_answers:
            yield from self.netlink_answers.pop(0)
            return
        length, kind, flags = struct.unpack_from("=IHH", request)
        assert (length, flags) == (len(request), 0x301)
        if -kind in self.refused:
            yield message(2, struct.pack("=i", -self.refused[-kind]))
        for body in self._rows(kind, request[16:]):
            yield message(16, body)
        yield DONE

    def _rows(self, kind: int, body: bytes) -> list[bytes]:
        if kind == ebpf.GET_LINK:
            return self.links
        if kind == ebpf.GET_QDISC:
            return self.qdiscs
        return self.filters.get(struct.unpack_from("=I", body, 12)[0], [])

    def _query(self, attributes: bpf.Attributes) -> int:
        target, kind, flags, _, pointer, room = struct.unpack_from("=IIIIQI", attributes)
        self.queried.append((target, kind, flags))
        if kind in self.refused:
            raise OSError(self.refused[kind], os.strerror(self.refused[kind]))
        ids = self.attached.get(kind, [])
        struct.pack_into("=I", attributes, 24, len(ids))
        if len(ids) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        ctypes.memmove(pointer, struct.pack(f"={len(ids)}I", *ids), 4 * len(ids))
        return 0

    def _open(self, program: int) -> int:
        if program not in self.programs:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.descriptors.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        self._named = self.programs[program].encode()
        return self.descriptors[-1]

    def _inform(self, descriptor: int, length: int, pointer: int) -> int:
        assert descriptor == self.descriptors[-1]
        assert length == 240
        ctypes.memmove(pointer + 64, self._named + b"\0", len(self._named) + 1)
        return 0


@pytest.fixture
def read(tmp_path: Path) -> Callable[[FakeKernel], tuple[Attachment, ...] | Unknown]:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/net").touch()
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO)
    (tmp_path / "sys/fs/cgroup/unified").mkdir(parents=True)

    def reading(kernel: FakeKernel) -> tuple[Attachment, ...] | Unknown:
        host = Host(root=tmp_path)
        return ebpf.read_attachments(host, syscall=kernel.syscall, netlink=kernel.netlink)

    return reading


Read = Callable[[FakeKernel], tuple[Attachment, ...] | Unknown]


def on(place: str, hook: str, direction: str, program: str, via: str) -> Attachment:
    return Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def test_every_place_is_read(read: Read) -> None:
    kernel = FakeKernel(
        programs={1: "xdp", 2: "in", 3: "out", 4: "filter", 5: "primary", 6: "connect", 7: "flow"},
        links=[link(2, "nk0", "netkit", attribute(6, number(1)))],
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
    kernel = FakeKernel(links=[link(1, "lo"), link(7, "nk0", "netkit")])

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


@pytest.mark.parametrize("count", [64, 65, 4096])
def test_room_is_made_for_many_programs(count: int) -> None:
    kernel = FakeKernel(attached={INET4_CONNECT: list(range(1, count + 1))})

    assert bpf.query(kernel.syscall, 3, INET4_CONNECT) == tuple(range(1, count + 1))


def test_room_is_not_made_without_end() -> None:
    kernel = FakeKernel(attached={INET4_CONNECT: list(range(1, 5000))})

    with pytest.raises(OSError, match="No space left"):
        bpf.query(kernel.syscall, 3, INET4_CONNECT)


def test_each_program_is_asked_for_once_and_closed(read: Read) -> None:
    kernel = FakeKernel({2: "in"}, attached={TCX_INGRESS: [2], TCX_EGRESS: [2]})

    assert len(read(kernel)) == 4  # type: ignore[arg-type]
    assert len(kernel.descriptors) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.descriptors[0])


def test_a_program_is_closed_even_if_it_tells_nothing() -> None:
    kernel = FakeKernel({2: "in"}, refused={-bpf.OBJ_GET_INFO_BY_FD: errno.EPERM})

    with pytest.raises(PermissionError):
        bpf.program_name(kernel.syscall, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.descriptors[0])


TORN = [message(16, link(9, "torn"), flags=0x12), DONE]


@pytest.mark.parametrize("times", [1, 4])
def test_an_interrupted_dump_is_read_again(read: Read, times: int) -> None:
    kernel = FakeKernel({2: "in"}, attached={TCX_INGRESS: [2]}, netlink_answers=[TORN] * times)

    assert len(read(kernel)) == 2  # type: ignore[arg-type]


def test_a_dump_interrupted_five_times_is_unknown(read: Read) -> None:
    kernel = FakeKernel(netlink_answers=[TORN] * 5)

    assert read(kernel) == Unknown("netlink dump: changed while it was read")


def test_an_answer_cut_short_is_unknown(read: Read) -> None:
    kernel = FakeKernel(netlink_answers=[[message(18, link(1, "lo")[:18]), DONE]])

    assert read(kernel) == Unknown("netlink: the answer is cut short")


@pytest.mark.parametrize("gone", [errno.ENODEV, errno.EINVAL, errno.ENOENT])
def test_filters_of_a_device_that_went_away_are_none(read: Read, gone: int) -> None:
    kernel = FakeKernel(qdiscs=[tc(2, "clsact")], refused={-ebpf.GET_FILTER: gone})

    assert read(kernel) == ()


def test_an_unreadable_mount_table_is_unknown(tmp_path: Path) -> None:
    kernel = FakeKernel()

    found = ebpf.read_attachments(
        Host(root=tmp_path), syscall=kernel.syscall, netlink=kernel.netlink
    )

    assert found == Unknown("/proc/self/mountinfo: No such file or directory")


def test_a_processor_without_a_number_for_bpf_is_refused_not_guessed() -> None:
    with pytest.raises(OSError, match="vax") as caught:
        bpf.bpf(bpf.PROG_QUERY, ctypes.create_string_buffer(64), "vax")
    assert caught.value.errno == errno.ENOSYS


def test_the_true_system_call_tells_its_errno() -> None:
    with pytest.raises(OSError, match=r"bpf\(2\) command 999"):
        bpf.bpf(999, ctypes.create_string_buffer(64))
