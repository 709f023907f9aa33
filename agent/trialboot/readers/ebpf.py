"""Reads which eBPF programs are attached where. The home of bpf(2).

It asks places, not lists, then for the names of the programs found there. Ids never leave this
file: a reboot renumbers them. It decodes rtnetlink too, for no version of pyroute2 can read the
id of a tc filter's program. Layouts: linux/{bpf,netlink,rtnetlink,pkt_cls,if_link}.h.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from trialboot.core.facts import Attachment, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

Attributes: TypeAlias = ctypes.Array[ctypes.c_char]

Syscall: TypeAlias = Callable[[int, Attributes], int]
"""bpf(2): a command and its attributes, which the kernel may change. Raises `OSError`."""

Netlink: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Sends a request and gives the datagrams of the answer. Raises `OSError`."""

PROG_GET_FD_BY_ID: Final = 13
OBJ_GET_INFO_BY_FD: Final = 15
PROG_QUERY: Final = 16
GET_LINK: Final = 18
GET_QDISC: Final = 38
GET_FILTER: Final = 46

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_MACHINE: Final = platform.machine()
_SYSCALL_NUMBERS: Final = {
    "x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280,
}  # fmt: skip
_PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
# The old ingress qdisc takes any parent for its one: asked for egress it shows ingress again.
_DIRECTIONS: Final = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
_TCX: Final = {46: "ingress", 47: "egress"}
_NETKIT: Final = {54: "egress", 55: "ingress"}  # primary, peer: as seen from the host's end
_NETNS: Final = {17: "flow_dissector", 36: "sk_lookup"}
_BPF_ID: Final = 11  # TCA_BPF_ID
_LSM_CGROUP: Final = 43
_CGROUP: Final = {
    0: "inet_ingress", 1: "inet_egress", 2: "inet_sock_create", 3: "sock_ops", 6: "device",
    8: "inet4_bind", 9: "inet6_bind", 10: "inet4_connect", 11: "inet6_connect",
    12: "inet4_post_bind", 13: "inet6_post_bind", 14: "udp4_sendmsg", 15: "udp6_sendmsg",
    18: "sysctl", 19: "udp4_recvmsg", 20: "udp6_recvmsg", 21: "getsockopt", 22: "setsockopt",
    29: "inet4_getpeername", 30: "inet6_getpeername", 31: "inet4_getsockname",
    32: "inet6_getsockname", 34: "inet_sock_release", _LSM_CGROUP: "lsm_cgroup",
    49: "unix_connect", 50: "unix_sendmsg", 51: "unix_recvmsg", 52: "unix_getpeername",
    53: "unix_getsockname",
}  # fmt: skip

_ROOM: Final = 64  # programs at one place, to begin with
_MOST_ROOM: Final = 4096
_TRIES: Final = 5  # of a netlink dump
_NO_SUCH_PLACE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO)  # it went away meanwhile


class Device(NamedTuple):
    """What the link dump says of one interface."""

    number: int
    place: str
    kind: str
    xdp: tuple[int, ...]  # ids of its XDP programs


class _Place(NamedTuple):
    """A place to query, and the attach types that it takes, by number."""

    name: str
    hook: str
    via: str
    kinds: dict[int, str]


_ROOT_CGROUP: Final = _Place("cgroup:root", "cgroup", "cgroup", _CGROUP)
_OWN_NETNS: Final = _Place("netns:self", "netns", "netns", _NETNS)


class _Seen(NamedTuple):
    """A program at a place, still by its id."""

    place: str
    hook: str
    direction: str
    via: str
    program: int
    label: str = ""  # name of the tc filter


def bpf(command: int, attributes: Attributes, machine: str = _MACHINE) -> int:
    """Make the system call. Raises `OSError`."""
    number = _SYSCALL_NUMBERS.get(machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"its number is not known on {machine}", "bpf(2)")
    answer = int(_LIBC.syscall(number, command, attributes, len(attributes)))
    if answer < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), f"bpf(2) command {command}")
    return answer


def exchange(request: bytes) -> Iterator[bytes]:
    """Send one rtnetlink request and give datagrams as they come. Raises `OSError`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(request)
        while True:
            yield netlink.recv(1 << 17)


def read_attachments(
    host: Host,
    *,
    syscall: Syscall = bpf,
    netlink: Netlink = exchange,
    cgroup: str | None = None,  # a folder of cgroup2 to read instead of its root
) -> tuple[Attachment, ...] | Unknown:
    """Read every program attached to the links, the root cgroup and the network namespace."""
    try:
        seen = (
            *_on_links(syscall, netlink),
            *_in_cgroup(host, syscall, cgroup),
            *_opened(syscall, host.path("/proc/self/ns/net"), _OWN_NETNS),
        )
        return tuple(sorted(set(_attachments(syscall, seen))))
    except HostError as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(_why(error))


def parse_device(body: bytes) -> Device:
    """Give the interface of one RTM_NEWLINK message. Raises `OSError` if it is cut short."""
    (number,) = _unpack("=4xi", body)
    link = parse_attributes(body[16:])
    details = parse_attributes(link.get(18, b""))  # IFLA_LINKINFO
    modes = parse_attributes(link.get(43, b""))  # IFLA_XDP: driver, generic, hardware
    programs = (_unpack("=I", modes[mode])[0] for mode in (5, 6, 7) if mode in modes)
    name, kind = _text(link.get(3, b"")), _text(details.get(1, b""))
    return Device(number, f"dev:{name}", kind, tuple(programs))


def parse_filter(body: bytes) -> tuple[int, str] | None:
    """Give program id and filter name of one RTM_NEWTFILTER message; None: no eBPF in it."""
    message = parse_attributes(body[20:])
    if _text(message.get(1, b"")) != "bpf":
        return None
    options = parse_attributes(message.get(2, b""))
    if _BPF_ID not in options:  # the row of a priority has no options, classic BPF has no id
        return None
    return _unpack("=I", options[_BPF_ID])[0], _text(options.get(7, b""))


def parse_attributes(chain: bytes) -> dict[int, bytes]:
    """Split a chain of netlink attributes by type. Raises `OSError` if it is cut short."""
    attributes = {}
    while chain:
        length, kind = _header("=HH", chain)
        attributes[kind & 0x3FFF] = chain[4:length]
        chain = chain[-(-length // 4) * 4 :]
    return attributes


def parse_dump(datagrams: Iterable[bytes]) -> tuple[bytes, ...]:
    """Give the bodies of a dump's messages.

    Raises `OSError`: the kernel's own error, EBADMSG if the answer is cut short, and EINTR if
    something changed while it was read.
    """
    bodies: list[bytes] = []
    for kind, body in _messages(datagrams):
        if kind in {2, 3}:  # NLMSG_ERROR, NLMSG_DONE: both may carry an error
            (problem,) = _unpack("=i", body) if body else (0,)
            if problem:
                raise OSError(-problem, os.strerror(-problem), "netlink")
            return tuple(bodies)
        bodies.append(body)
    raise _cut_short()


def parse_cgroup_root(mountinfo: str) -> str | None:
    """Give where the root of the cgroup2 tree is mounted (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and place.split()[3] == "/":
            return place.split()[4]
    return None


def _messages(datagrams: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for datagram in datagrams:
        rest = memoryview(datagram)
        while rest:
            length, kind, flags = _header("=IHH8x", rest)
            if flags & 0x10:  # NLM_F_DUMP_INTR
                raise OSError(errno.EINTR, "changed while it was read", "netlink dump")
            yield kind, bytes(rest[16:length])
            rest = rest[-(-length // 4) * 4 :]


def _dump(netlink: Netlink, kind: int, body: bytes) -> tuple[bytes, ...]:
    request = struct.pack("=IHHII", 16 + len(body), kind, 0x301, 1, 0) + body  # REQUEST, DUMP
    for _ in range(_TRIES - 1):
        with suppress(InterruptedError):
            return parse_dump(netlink(request))
    return parse_dump(netlink(request))


def _on_links(syscall: Syscall, netlink: Netlink) -> Iterator[_Seen]:
    devices = {one.number: one for one in map(parse_device, _dump(netlink, GET_LINK, bytes(16)))}
    for number, device in devices.items():
        yield from (_Seen(device.place, "xdp", "", "xdp", id_) for id_ in device.xdp)
        yield from _queried(syscall, number, _Place(device.place, "skb", "tcx", _TCX))
        if device.kind == "netkit":
            yield from _queried(syscall, number, _Place(device.place, "skb", "netkit", _NETKIT))
    for qdisc in _dump(netlink, GET_QDISC, bytes(20)):
        (number,) = _unpack("=4xi", qdisc)
        kind = _text(parse_attributes(qdisc[20:]).get(1, b""))
        for direction in _DIRECTIONS.get(kind, ()) if number in devices else ():
            for found in _filters(netlink, number, _PARENTS[direction]):
                yield _Seen(devices[number].place, "skb", direction, "tc", *found)


def _filters(netlink: Netlink, number: int, parent: int) -> Iterator[tuple[int, str]]:
    body = struct.pack("=BxHiIII", 0, 0, number, 0, parent, 0)
    with _passing_over(*_NO_SUCH_PLACE, errno.EINVAL):  # EINVAL: the qdisc went away
        yield from filter(None, map(parse_filter, _dump(netlink, GET_FILTER, body)))


def _in_cgroup(host: Host, syscall: Syscall, cgroup: str | None) -> list[_Seen]:
    root = cgroup or parse_cgroup_root(host.read_text("/proc/self/mountinfo"))
    if root is None:  # nothing can be attached to a tree that is mounted nowhere
        return []
    return _opened(syscall, host.path(root), _ROOT_CGROUP)


def _opened(syscall: Syscall, path: Path, place: _Place) -> list[_Seen]:
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return list(_queried(syscall, target, place))
    finally:
        os.close(target)


def _queried(syscall: Syscall, target: int, place: _Place) -> Iterator[_Seen]:
    for kind, direction in place.kinds.items():
        with _passing_over(errno.EINVAL):  # newer than this kernel
            for id_ in query(syscall, target, kind):
                yield _Seen(place.name, place.hook, direction, place.via, id_)


def query(syscall: Syscall, target: int, kind: int, room: int = _ROOM) -> tuple[int, ...]:
    """Give the ids of the programs of one attach type; none if the place went away.

    Raises `OSError`, EINVAL for an attach type that the kernel does not know.
    """
    # Without this flag lsm_cgroup wants one pointer more; at the root both say the same.
    flags = 1 if kind == _LSM_CGROUP else 0  # BPF_F_QUERY_EFFECTIVE
    ids = (ctypes.c_uint32 * room)()
    fields = (target, kind, flags, 0, ctypes.addressof(ids), room, 0, 0, 0, 0, 0)
    attributes = ctypes.create_string_buffer(struct.pack("=IIIIQIIQQQQ", *fields), 64)
    try:
        syscall(PROG_QUERY, attributes)
    except OSError as error:
        if error.errno in _NO_SUCH_PLACE:
            return ()
        if error.errno == errno.ENOSPC and room < _MOST_ROOM:
            return query(syscall, target, kind, room * 4)
        raise
    return tuple(ids[: struct.unpack_from("=I", attributes, 24)[0]])


def _attachments(syscall: Syscall, seen: Sequence[_Seen]) -> Iterator[Attachment]:
    names = {id_: program_name(syscall, id_) for id_ in {one.program for one in seen}}
    for one in seen:
        name = names[one.program]
        if name is not None:
            program = one.label if "[" in one.label else name or one.label
            place, hook, direction, via, *_ = one
            yield Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def program_name(syscall: Syscall, id_: int) -> str | None:
    """Give a program's name as the kernel keeps it; None if the program is gone."""
    try:
        attributes = ctypes.create_string_buffer(struct.pack("=III", id_, 0, 0), 12)
        descriptor = syscall(PROG_GET_FD_BY_ID, attributes)
    except FileNotFoundError:
        return None
    try:
        info = ctypes.create_string_buffer(240)
        wanted = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
        syscall(OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(wanted, 16))
        return _text(info.raw[64:80])
    finally:
        os.close(descriptor)


@contextmanager
def _passing_over(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def _header(layout: str, data: bytes | memoryview) -> tuple[int, ...]:
    """Unpack a header that starts with the length of itself and what belongs to it."""
    fields = _unpack(layout, data)
    if not struct.calcsize(layout) <= fields[0] <= len(data):
        raise _cut_short()
    return fields


def _unpack(layout: str, data: bytes | memoryview) -> tuple[int, ...]:
    if len(data) < struct.calcsize(layout):
        raise _cut_short()
    return struct.unpack_from(layout, data)


def _cut_short() -> OSError:
    return OSError(errno.EBADMSG, "the answer is cut short", "netlink")


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def _why(error: OSError) -> str:
    said = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    needs = "; needs CAP_NET_ADMIN and CAP_SYS_ADMIN"
    return said + needs if isinstance(error, PermissionError) else said
