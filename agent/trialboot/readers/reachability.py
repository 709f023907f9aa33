"""Whether addresses answer: connections, echoes and ARP, tried all at once.

From wherever the thread is: `netns.inside` brings it to a pod. RFC 792, 4443 (echo), 826 (ARP).
"""

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from trialboot.core.proof import Means, Way
from trialboot.host import Host

SILENCE: Final = "no answer"
_CAME_BACK: Final = (0, errno.ECONNREFUSED)
_UNDER_WAY: Final = (0, errno.EINPROGRESS)
_ECHO: Final = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # request, reply
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET: Final = 1
_ETH_P_ARP: Final = 0x0806
_REQUEST, _REPLY = 1, 2
_LARGEST: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where packets leave for the default gateway."""

    index: int
    """Of the link."""
    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One socket that an answer is awaited on."""

    way: Way
    socket: socket.socket
    writes: bool
    """The answer shows in that it can be written to."""
    answer: Callable[[], str | None]
    """Looks at what came: empty is reached, a word is why not, None is nothing for us."""


def reach(host: Host, ways: Sequence[Way], door: Door, seconds: float) -> dict[Way, str]:
    """Try all of them for so many seconds; empty for one that was reached, else why not."""
    told = dict.fromkeys(ways, SILENCE)
    with ExitStack() as sockets:
        waiting = [attempt for way in ways for attempt in _begun(way, door, told)]
        for attempt in waiting:
            sockets.enter_context(attempt.socket)
        until = host.monotonic() + seconds
        while waiting and (left := until - host.monotonic()) > 0:
            for attempt in _ready(waiting, left):
                answer = attempt.answer()
                if answer is None:
                    continue
                waiting.remove(attempt)
                told[attempt.way] = told[attempt.way] and answer
            waiting = [attempt for attempt in waiting if told[attempt.way]]
    return told


def _begun(way: Way, door: Door, told: dict[Way, str]) -> Iterator[_Attempt]:
    try:
        yield from _attempts(way, door)
    except OSError as error:
        told[way] = error.strerror or str(error)


def _ready(waiting: Sequence[_Attempt], seconds: float) -> list[_Attempt]:
    reading = [attempt.socket for attempt in waiting if not attempt.writes]
    writing = [attempt.socket for attempt in waiting if attempt.writes]
    readable, writable, _ = select.select(reading, writing, [], seconds)
    return [a for a in waiting if a.socket in (writable if a.writes else readable)]


def _attempts(way: Way, door: Door) -> Iterator[_Attempt]:
    """Begin what this way takes. Raises `OSError`."""
    match way.means:
        case Means.TCP:
            yield _connection(way)
        case Means.PING:
            yield _echo(way, way.address, 0)
        case Means.SERVICE:
            raise OSError(errno.EDESTADDRREQ, "no process of a pod was told its address")
        case Means.GATEWAY:
            if not door.gateway:
                raise OSError(errno.EDESTADDRREQ, "the pod has no gateway")
            yield _echo(way, door.gateway, door.index)
            if _family(door.gateway) is socket.AF_INET:
                yield _arp(way, door)


def _connection(way: Way) -> _Attempt:
    made = socket.socket(_family(way.address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    problem = made.connect_ex((way.address, way.port))
    if problem not in _UNDER_WAY:
        made.close()
        raise OSError(problem, os.strerror(problem))
    return _Attempt(way=way, socket=made, writes=True, answer=lambda: _connected(made))


def _connected(made: socket.socket) -> str:
    problem = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return "" if problem in _CAME_BACK else os.strerror(problem)


def _echo(way: Way, address: str, index: int) -> _Attempt:
    """Send an echo; one that comes back with our token is ours, whatever its sender's address."""
    family = _family(address)
    protocol = socket.IPPROTO_ICMP if family is socket.AF_INET else socket.IPPROTO_ICMPV6
    made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    request, reply = _ECHO[family]
    token = os.urandom(16)
    packet = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1) + token
    summed = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    try:
        if family is socket.AF_INET:
            made.sendto(summed, (address, 0))
        else:  # the kernel sums ICMPv6 itself; a link-local address is of a link
            made.sendto(packet, (address, 0, 0, index))
    except OSError:
        made.close()
        raise
    return _Attempt(
        way=way, socket=made, writes=False, answer=lambda: _echoed(made, family, reply, token)
    )


def _echoed(made: socket.socket, family: int, reply: int, token: bytes) -> str | None:
    packet = _received(made)
    if family == socket.AF_INET and packet:  # a raw socket of IPv4 gives its header too
        packet = packet[(packet[0] & 0xF) * 4 :]
    return "" if packet[:1] == bytes([reply]) and packet[8:] == token else None


def checksum(packet: bytes) -> int:
    """Give the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arp(way: Way, door: Door) -> _Attempt:
    """Ask who has the gateway: some answer for it without an address that an echo could reach."""
    name = socket.if_indextoname(door.index)
    own, gateway = _source(door.gateway), socket.inet_aton(door.gateway)
    made = socket.socket(
        socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ARP)
    )
    try:
        made.bind((name, _ETH_P_ARP))
        mac = made.getsockname()[4]
        words = (_ETHERNET, 0x0800, 6, 4, _REQUEST, mac, own, bytes(6), gateway)
        made.sendto(_ARP.pack(*words), (name, _ETH_P_ARP, 0, 0, b"\xff" * 6))
    except OSError:
        made.close()
        raise
    return _Attempt(way=way, socket=made, writes=False, answer=lambda: _replied(made, gateway))


def _replied(made: socket.socket, gateway: bytes) -> str | None:
    packet = _received(made)
    if len(packet) < _ARP.size:
        return None
    _, _, _, _, operation, _, sender, _, _ = _ARP.unpack_from(packet)
    return "" if operation == _REPLY and sender == gateway else None


def _source(address: str) -> bytes:
    """Tell our own address on the way there, without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((address, 9))
        return socket.inet_aton(made.getsockname()[0])


def _received(made: socket.socket) -> bytes:
    try:
        return made.recv(_LARGEST)
    except OSError:  # nothing after all, or an ICMP error about the echo: no answer yet
        return b""


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
