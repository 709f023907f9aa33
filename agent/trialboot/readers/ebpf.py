"""Reads which eBPF programs are attached where.

It asks places, not lists, then for the names of the programs found there. Ids never leave this
file: a reboot renumbers them. Layouts: linux/{bpf,rtnetlink,pkt_cls,if_link}.h.
"""

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from trialboot.bpf import NO_SUCH_PLACE, Syscall, bpf, program_name, query
from trialboot.core.facts import Attachment, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.netlink import Netlink, dump, exchange, parse_attributes, text, unpack

GET_LINK: Final = 18
GET_QDISC: Final = 38
GET_FILTER: Final = 46

_PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
# The old ingress qdisc takes any parent for its one: asked for egress it shows ingress again.
_DIRECTIONS: Final = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
_TCX: Final = {46: "ingress", 47: "egress"}
_NETKIT: Final = {54: "egress", 55: "ingress"}  # primary, peer: as seen from the host's end
_NETNS: Final = {17: "flow_dissector", 36: "sk_lookup"}
_BPF_ID: Final = 11  # TCA_BPF_ID
_CGROUP: Final = {
    0: "inet_ingress", 1: "inet_egress", 2: "inet_sock_create", 3: "sock_ops", 6: "device",
    8: "inet4_bind", 9: "inet6_bind", 10: "inet4_connect", 11: "inet6_connect",
    12: "inet4_post_bind", 13: "inet6_post_bind", 14: "udp4_sendmsg", 15: "udp6_sendmsg",
    18: "sysctl", 19: "udp4_recvmsg", 20: "udp6_recvmsg", 21: "getsockopt", 22: "setsockopt",
    29: "inet4_getpeername", 30: "inet6_getpeername", 31: "inet4_getsockname",
    32: "inet6_getsockname", 34: "inet_sock_release", 43: "lsm_cgroup",
    49: "unix_connect", 50: "unix_sendmsg", 51: "unix_recvmsg", 52: "unix_getpeername",
    53: "unix_getsockname",
}  # fmt: skip


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
    (number,) = unpack("=4xi", body)
    link = parse_attributes(body[16:])
    details = parse_attributes(link.get(18, b""))  # IFLA_LINKINFO
    modes = parse_attributes(link.get(43, b""))  # IFLA_XDP: driver, generic, hardware
    programs = (unpack("=I", modes[mode])[0] for mode in (5, 6, 7) if mode in modes)
    name, kind = text(link.get(3, b"")), text(details.get(1, b""))
    return Device(number, f"dev:{name}", kind, tuple(programs))


def parse_filter(body: bytes) -> tuple[int, str] | None:
    """Give program id and filter name of one RTM_NEWTFILTER message; None: no eBPF in it."""
    message = parse_attributes(body[20:])
    if text(message.get(1, b"")) != "bpf":
        return None
    options = parse_attributes(message.get(2, b""))
    if _BPF_ID not in options:  # the row of a priority has no options, classic BPF has no id
        return None
    return unpack("=I", options[_BPF_ID])[0], text(options.get(7, b""))


def parse_cgroup_root(mountinfo: str) -> str | None:
    """Give where the root of the cgroup2 tree is mounted (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and place.split()[3] == "/":
            return place.split()[4]
    return None


def _on_links(syscall: Syscall, netlink: Netlink) -> Iterator[_Seen]:
    devices = {one.number: one for one in map(parse_device, dump(netlink, GET_LINK, bytes(16)))}
    for number, device in devices.items():
        yield from (_Seen(device.place, "xdp", "", "xdp", id_) for id_ in device.xdp)
        yield from _queried(syscall, number, _Place(device.place, "skb", "tcx", _TCX))
        if device.kind == "netkit":
            yield from _queried(syscall, number, _Place(device.place, "skb", "netkit", _NETKIT))
    for qdisc in dump(netlink, GET_QDISC, bytes(20)):
        (number,) = unpack("=4xi", qdisc)
        kind = text(parse_attributes(qdisc[20:]).get(1, b""))
        for direction in _DIRECTIONS.get(kind, ()) if number in devices else ():
            for found in _filters(netlink, number, _PARENTS[direction]):
                yield _Seen(devices[number].place, "skb", direction, "tc", *found)


def _filters(netlink: Netlink, number: int, parent: int) -> Iterator[tuple[int, str]]:
    body = struct.pack("=BxHiIII", 0, 0, number, 0, parent, 0)
    with _passing_over(*NO_SUCH_PLACE, errno.EINVAL):  # EINVAL: the qdisc went away
        yield from filter(None, map(parse_filter, dump(netlink, GET_FILTER, body)))


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


def _attachments(syscall: Syscall, seen: Sequence[_Seen]) -> Iterator[Attachment]:
    names = {id_: program_name(syscall, id_) for id_ in {one.program for one in seen}}
    for one in seen:
        name = names[one.program]
        if name is not None:
            program = one.label if "[" in one.label else name or one.label
            place, hook, direction, via, *_ = one
            yield Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


@contextmanager
def _passing_over(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def _why(error: OSError) -> str:
    said = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    needs = "; needs CAP_NET_ADMIN and CAP_SYS_ADMIN"
    return said + needs if isinstance(error, PermissionError) else said
