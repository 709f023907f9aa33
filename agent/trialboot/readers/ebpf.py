"""Reads which eBPF programs are attached where.

It asks places, not lists, then for the names of the programs found there. Ids never leave this
file: a reboot renumbers them. Layouts: linux/{bpf,rtnetlink,pkt_cls,if_link}.h.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from trialboot.bpf import (
    LINKS,
    MAPS,
    NO_SUCH_PLACE,
    PROGRAMS,
    Syscall,
    bpf,
    described,
    ids,
    map_name,
    opened,
    program_name,
    query,
)
from trialboot.core.facts import Attachment, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.netlink import (
    Netlink,
    dump,
    dump_links,
    exchange,
    parse_attributes,
    text,
    unpack,
)

GET_QDISC: Final = 38
GET_FILTER: Final = 46

_PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
# The old ingress qdisc takes any parent for its one: asked for egress it shows ingress again.
_DIRECTIONS: Final = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
_TCX: Final = {46: "ingress", 47: "egress"}
_NETKIT: Final = {54: "egress", 55: "ingress"}  # primary, peer: as seen from the host's end
_NETNS: Final = {17: "flow_dissector", 36: "sk_lookup"}
_SOCKMAP: Final = {4: "stream_parser", 5: "stream_verdict", 7: "msg_verdict", 38: "skb_verdict"}
_SOCKMAPS: Final = (15, 18)  # BPF_MAP_TYPE_SOCKMAP, SOCKHASH
_NETFILTER_LINK: Final = 10
_NETFILTER_HOOKS: Final = {
    0: "prerouting",
    1: "input",
    2: "forward",
    3: "output",
    4: "postrouting",
}
_FAMILIES: Final = {2: "ipv4", 10: "ipv6"}
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
    refusals: tuple[int, ...] = ()
    """Errors by which the kernel says that this one place takes no such program."""


_ROOT_CGROUP: Final = _Place("cgroup:root", "cgroup", "cgroup", _CGROUP)
_OWN_NETNS: Final = _Place("netns:self", "netns", "netns", _NETNS)
# The pod's end of a netkit pair is asked for through the host's (EACCES); a single device has no
# pair (EOPNOTSUPP). netkit_dev_fetch() in drivers/net/netkit.c.
_NO_PRIMARY: Final = (errno.EACCES, errno.EOPNOTSUPP)
# A map that has one kind of verdict takes no other. sock_map_prog_lookup() in net/core/sock_map.c.
_NO_SUCH_VERDICT: Final = (errno.EBUSY, errno.EOPNOTSUPP)


class _Seen(NamedTuple):
    """A program at a place, still by its id."""

    place: str
    hook: str
    direction: str
    via: str
    program: int
    label: str = ""  # name of the tc filter


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Who is asked, and which attach types it turned out not to know."""

    syscall: Syscall
    netlink: Netlink
    sleep: Callable[[float], None]
    unknown: set[int] = field(default_factory=set)


def read_attachments(
    host: Host,
    *,
    syscall: Syscall = bpf,
    netlink: Netlink = exchange,
    cgroup: str | None = None,  # a folder of cgroup2 to read instead of its root
) -> tuple[Attachment, ...] | Unknown:
    """Read every program attached to links, root cgroup, network namespace, netfilter, sockmaps.

    Sockmaps and netfilter links are the whole host's: bpf(2) does not tell whose network they
    serve.
    """
    kernel = _Kernel(syscall, netlink, host.sleep)
    try:
        seen = (
            *_on_links(kernel),
            *_in_cgroup(host, kernel, cgroup),
            *_at(kernel, host.path("/proc/self/ns/net"), _OWN_NETNS),
            *_in_netfilter(kernel),
            *_in_sockmaps(kernel),
        )
        return tuple(sorted(set(_attachments(syscall, seen))))
    except HostError as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(_why(error))


def parse_device(body: bytes) -> Device:
    """Give the interface of one RTM_NEWLINK message. Raises `OSError` if it is cut short."""
    (number,) = unpack("=4xi", body)
    link = parse_attributes(body, 16)
    details = parse_attributes(link.get(18, b""))  # IFLA_LINKINFO
    modes = parse_attributes(link.get(43, b""))  # IFLA_XDP: driver, generic, hardware
    programs = (unpack("=I", modes[mode])[0] for mode in (5, 6, 7) if mode in modes)
    name, kind = text(link.get(3, b"")), text(details.get(1, b""))
    return Device(number, f"dev:{name}", kind, tuple(programs))


def parse_filter(body: bytes) -> tuple[int, str] | None:
    """Give program id and filter name of one RTM_NEWTFILTER message; None: no eBPF in it."""
    message = parse_attributes(body, 20)
    if text(message.get(1, b"")) != "bpf":
        return None
    options = parse_attributes(message.get(2, b""))
    if _BPF_ID not in options:  # the row of a priority has no options, classic BPF has no id
        return None
    return unpack("=I", options[_BPF_ID])[0], text(options.get(7, b""))


def parse_cgroup_root(mountinfo: str) -> str | None:
    """Give where the root of the cgroup2 tree is mounted (proc_pid_mountinfo(5)); None: nowhere.

    There is one such tree: the mounts that CNIs make for themselves (/run/cilium/cgroupv2,
    /run/calico/cgroup) show the same root, with the same programs, and need no look of their own.
    Raises `HostError` where only a part of the tree is seen, as from a container.
    """
    lines = (line.partition(" - ") for line in mountinfo.splitlines())
    mounts = [place.split() for place, _, kind in lines if kind.startswith("cgroup2 ")]
    for mount in mounts:
        if mount[3] == "/":
            return mount[4]
    if mounts:
        raise HostError(f"the root of the cgroup tree is not seen here: {mounts[0][4]} is no root")
    return None


def parse_netfilter(info: bytes) -> tuple[int, str] | None:
    """Give program id and hook of a netfilter link (struct bpf_link_info); None: another link."""
    kind, program, family, hook = struct.unpack_from("=I4xI4xII", info)
    if kind != _NETFILTER_LINK:
        return None
    hooks = _NETFILTER_HOOKS
    return program, f"{_FAMILIES.get(family, family)}/{hooks.get(hook, hook)}"


def _on_links(kernel: _Kernel) -> Iterator[_Seen]:
    bodies = dump_links(kernel.netlink, kernel.sleep)
    devices = {one.number: one for one in map(parse_device, bodies)}
    for number, device in devices.items():
        yield from (_Seen(device.place, "xdp", "", "xdp", id_) for id_ in device.xdp)
        yield from _queried(kernel, number, _Place(device.place, "skb", "tcx", _TCX))
        if device.kind == "netkit":
            place = _Place(device.place, "skb", "netkit", _NETKIT, _NO_PRIMARY)
            yield from _queried(kernel, number, place)
    for qdisc in dump(kernel.netlink, GET_QDISC, bytes(20), kernel.sleep):
        (number,) = unpack("=4xi", qdisc)
        kind = text(parse_attributes(qdisc, 20).get(1, b""))
        for direction in _DIRECTIONS.get(kind, ()) if number in devices else ():
            for found in _filters(kernel, number, _PARENTS[direction]):
                yield _Seen(devices[number].place, "skb", direction, "tc", *found)


def _filters(kernel: _Kernel, number: int, parent: int) -> Iterator[tuple[int, str]]:
    body = struct.pack("=BxHiIII", 0, 0, number, 0, parent, 0)
    try:
        bodies = dump(kernel.netlink, GET_FILTER, body, kernel.sleep)
    except OSError as error:
        if error.errno not in (*NO_SUCH_PLACE, errno.EINVAL):  # EINVAL: the qdisc went away
            raise
        return
    yield from filter(None, map(parse_filter, bodies))


def _in_cgroup(host: Host, kernel: _Kernel, cgroup: str | None) -> list[_Seen]:
    root = cgroup or parse_cgroup_root(host.read_text("/proc/self/mountinfo"))
    if root is None:  # nothing can be attached to a tree that is mounted nowhere
        return []
    return _at(kernel, host.path(root), _ROOT_CGROUP)


def _at(kernel: _Kernel, path: Path, place: _Place) -> list[_Seen]:
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return list(_queried(kernel, target, place))
    finally:
        os.close(target)


def _in_netfilter(kernel: _Kernel) -> Iterator[_Seen]:
    for id_ in ids(kernel.syscall, LINKS):
        info = described(kernel.syscall, LINKS, id_)
        found = parse_netfilter(info) if info else None
        if found:
            program, hook = found
            yield _Seen("netns:self", "netfilter", hook, "netfilter", program)


def _in_sockmaps(kernel: _Kernel) -> Iterator[_Seen]:
    for id_ in ids(kernel.syscall, MAPS):
        info = described(kernel.syscall, MAPS, id_)
        if info and struct.unpack_from("=I", info)[0] in _SOCKMAPS:
            yield from _in_sockmap(kernel, id_, map_name(info))


def _in_sockmap(kernel: _Kernel, id_: int, name: str) -> list[_Seen]:
    target = opened(kernel.syscall, MAPS, id_)
    if target is None:
        return []
    try:
        place = _Place(f"map:{name}", "sockmap", "sockmap", _SOCKMAP, _NO_SUCH_VERDICT)
        return list(_queried(kernel, target, place))
    finally:
        os.close(target)


def _queried(kernel: _Kernel, target: int, place: _Place) -> Iterator[_Seen]:
    for kind, direction in place.kinds.items():
        if kind not in kernel.unknown:
            for id_ in _programs(kernel, target, kind, place.refusals):
                yield _Seen(place.name, place.hook, direction, place.via, id_)


def _programs(
    kernel: _Kernel, target: int, kind: int, refusals: tuple[int, ...]
) -> tuple[int, ...]:
    try:
        return query(kernel.syscall, target, kind)
    except OSError as error:
        if error.errno == errno.EINVAL:  # newer than this kernel: no place will have one
            kernel.unknown.add(kind)
        elif error.errno not in refusals:
            raise
        return ()


def _attachments(syscall: Syscall, seen: tuple[_Seen, ...]) -> Iterator[Attachment]:
    told = {id_: described(syscall, PROGRAMS, id_) for id_ in {one.program for one in seen}}
    names = {id_: program_name(info) for id_, info in told.items() if info}
    for place, hook, direction, via, id_, label in seen:
        if id_ in names:
            program = label if "[" in label else names[id_] or label
            yield Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def _why(error: OSError) -> str:
    said = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    needs = "; needs CAP_NET_ADMIN and CAP_SYS_ADMIN"
    return said + needs if isinstance(error, PermissionError) else said
