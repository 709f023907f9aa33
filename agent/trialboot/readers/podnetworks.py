"""The pods of this node as places to send from: their namespaces, gateways, the Service they know.

The home of pyroute2: here are few messages, a handful of links and routes a pod, and its decoding
of both families is shorter than one of our own. It serves in any namespace that a thread is in.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Any, Final, TypeAlias

from trialboot.core.cni import NODE_DEVICES, pod_class
from trialboot.core.facts import Unknown
from trialboot.core.proof import Means, Way
from trialboot.host import Host
from trialboot.netlink import ask, exchange, parse_attributes, unpack
from trialboot.netns import Namespace, inside, namespace_of, own_inode

Message: TypeAlias = Any
"""A netlink message of pyroute2, whose versions agree on `message[field]` and `get_attr(name)`."""

Ends: TypeAlias = Mapping[int, tuple[str, int]]
"""The host's ends of pod links, by the id that the kernel gave the other end's namespace in ours:
its name, and the index of the other end. Indexes alone pair also with a nested node's pods."""

_MOST_NAMESPACES: Final = 512
_MOST_ASKED: Final = 16  # processes of a namespace, for their environment
_MOST_ENVIRONMENT: Final = 1 << 20  # bytes
_TRIES: Final = 5  # of a dump, which the kernel may change meanwhile
_FAMILIES: Final = (2, 10)  # IPv4, IPv6
_TABLE_MAIN: Final = 254
_UNICAST: Final = 1
_INIT: Final = 1  # the host's own: in no pod
_GET_NSID: Final = 90  # RTM_GETNSID, linux/net_namespace.h
_NSID, _OF_PID = 1, 2  # NETNSA_NSID, NETNSA_PID


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One namespace on the pod network of this node."""

    kind: str
    """The class of its link, `lxc*`; the link itself for a CNI's own endpoint, `lxc_health`."""
    link: str
    """The host's end."""
    index: int
    """Of the link's other end, inside."""
    gateway: str
    """Where its default route leads; empty where that needs no gateway."""
    namespace: Namespace
    service: Way | None
    """The API server's Service, as its processes were told; None if none was."""


def read_pods(host: Host) -> tuple[Pod, ...] | Unknown:
    """Find the pods; a CNI's own endpoint first: no policy of the cluster's applies to it."""
    try:
        ends = parse_ends(_dump(lambda netlink: netlink.get_links()))
        spaces, hidden = _namespaces(host) if ends else ({}, 0)
        every = (_read_pod(host, pids, ends) for pids in spaces.values())
        found = [pod for pod in islice(every, _MOST_NAMESPACES) if pod]
    except OSError as error:
        return Unknown(f"pods: {error.strerror or error}")
    if hidden and not found:
        return Unknown(f"pods: {hidden} processes may not be looked at")
    return tuple(sorted(found, key=lambda pod: (pod.link not in NODE_DEVICES, pod.link)))


def parse_ends(links: Iterable[Message]) -> Ends:
    """Find the host's ends of pod links, whose other ends are in other namespaces."""
    named = ((link, link.get_attr("IFLA_IFNAME")) for link in links)
    ends = {
        link.get_attr("IFLA_LINK_NETNSID"): (name, link.get_attr("IFLA_LINK") or 0)
        for link, name in named
        if name in NODE_DEVICES or pod_class(name)
    }
    return {nsid: end for nsid, end in ends.items() if nsid is not None}


def parse_gateway(routes: Iterable[Message]) -> str:
    """Give the gateway of the first default route; empty if there is none."""
    gateways = (
        route.get_attr("RTA_GATEWAY")
        for route in routes
        if not route["dst_len"] and route["type"] == _UNICAST and route["table"] == _TABLE_MAIN
    )
    return next((str(gateway) for gateway in gateways if gateway), "")


def parse_service(environment: bytes) -> Way | None:
    """Find the API server's Service in /proc/PID/environ. Of all else in there nothing is kept."""
    pairs = (entry.partition(b"=") for entry in environment.split(b"\0"))
    told = {
        name: value.decode("ascii", "replace")
        for name, _, value in pairs
        if name in {b"KUBERNETES_SERVICE_HOST", b"KUBERNETES_SERVICE_PORT"}
    }
    try:
        address = str(ip_address(told[b"KUBERNETES_SERVICE_HOST"]))
        port = int(told.get(b"KUBERNETES_SERVICE_PORT", "443"))
    except (KeyError, ValueError):
        return None
    return Way(means=Means.TCP, address=address, port=port) if 0 < port < 1 << 16 else None


def _namespaces(host: Host) -> tuple[dict[int, list[Namespace]], int]:
    """Find the network namespaces that are not ours, each with its processes.

    Also counts the processes that we may not look at.
    """
    own, hidden = own_inode(host), 0
    found: dict[int, list[Namespace]] = {}
    for pid in sorted(int(e.name) for e in host.path("/proc").iterdir() if e.name.isdecimal()):
        space = _namespace(host, pid) if pid != _INIT else None
        if isinstance(space, PermissionError):
            hidden += 1
        elif space and space.inode != own:
            found.setdefault(space.inode, []).append(space)
    return found, hidden


def _namespace(host: Host, pid: int) -> Namespace | PermissionError | None:
    """Tell a process's namespace; None if it ended meanwhile."""
    try:
        return namespace_of(host, pid)
    except PermissionError as error:
        return error
    except (FileNotFoundError, ProcessLookupError):
        return None


def _read_pod(host: Host, processes: Sequence[Namespace], ends: Ends) -> Pod | None:
    """Look into a namespace; None if it is no pod's, or is gone."""
    try:
        end = ends.get(_namespace_id(processes[0].pid))
        if end is None:
            return None
        with inside(host, processes[0]):
            gateway = _gateway()
    except (FileNotFoundError, ProcessLookupError):
        return None
    link, index = end
    return Pod(
        kind=pod_class(link) or link,
        link=link,
        index=index,
        gateway=gateway,
        namespace=processes[0],
        service=_service(host, processes),
    )


def _namespace_id(pid: int) -> int:
    """Ask which id a process's namespace has in ours; -1 if none: no link leads there.

    pyroute2 can ask that from 0.7 on.
    """
    body = struct.pack("=BxxxHHI", 0, 8, _OF_PID, pid)
    answers = (parse_attributes(answer, 4) for answer in ask(exchange, _GET_NSID, body))
    return next((unpack("=i", told[_NSID])[0] for told in answers if _NSID in told), -1)


def _gateway() -> str:
    families = (parse_gateway(_routes(family)) for family in _FAMILIES)
    return next((gateway for gateway in families if gateway), "")


def _routes(family: int) -> list[Message]:
    return _dump(lambda netlink: netlink.get_routes(family=family))


def _service(host: Host, processes: Sequence[Namespace]) -> Way | None:
    for process in processes[:_MOST_ASKED]:
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            host.path(f"/proc/{process.pid}/environ").open("rb") as file,
        ):
            found = parse_service(file.read(_MOST_ENVIRONMENT))
            if found:
                return found
    return None


def _dump(ask: Callable[[Any], Iterable[Message]]) -> list[Message]:
    """Dump once more where the kernel changed it meanwhile. Raises `OSError`."""
    for _ in range(_TRIES - 1):
        with suppress(OSError), _netlink() as netlink:
            return list(ask(netlink))
    with _netlink() as netlink:
        return list(ask(netlink))


@contextmanager
def _netlink() -> Iterator[Any]:
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415  25 MB and 400 ms

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise OSError(error.code, str(error), "netlink") from error
