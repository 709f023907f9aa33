"""rtnetlink spoken raw: one request, its dump, the attributes of a message.

No version of pyroute2 can read the id of a tc filter's program, its import alone costs 110 ms and
25 MB, and a table of 10,000 routes costs it a second and 80 MB. Layouts:
linux/{netlink,rtnetlink,if_link}.h; RFC 3549.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

Netlink: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Sends a request and gives the datagrams of the answer. Raises `OSError`."""

Attributes: TypeAlias = dict[int, bytes]
"""What a message has, by type (without the flags of a type)."""

TRIES: Final = 5  # of a dump
_PAUSE: Final = 0.05  # seconds between two tries
_GET_LINK: Final = 18
# Counters are two thirds of a link's message, and nobody here reads them.
_LINKS: Final = struct.pack("=BxHiIIHHI", 0, 0, 0, 0, 0, 8, 29, 8)  # IFLA_EXT_MASK: SKIP_STATS
_LINK_NAME: Final = 3
_MESSAGE: Final = struct.Struct("=IHH8x")
_ATTRIBUTE: Final = struct.Struct("=HH")


def exchange(request: bytes) -> Iterator[bytes]:
    """Send one rtnetlink request and give datagrams as they come. Raises `OSError`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(request)
        while True:
            yield netlink.recv(1 << 17)


def dump(
    netlink: Netlink, kind: int, body: bytes, sleep: Callable[[float], None], tries: int = TRIES
) -> tuple[bytes, ...]:
    """Give the bodies of all messages of one dump, tried again while the kernel changes it.

    Raises `OSError`, EINTR if the kernel changed it at each try.
    """
    request = struct.pack("=IHHII", 16 + len(body), kind, 0x301, 1, 0) + body  # REQUEST, DUMP
    try:
        return parse_dump(netlink(request))
    except InterruptedError:
        if tries == 1:
            raise
    sleep(_PAUSE)
    return dump(netlink, kind, body, sleep, tries - 1)


def ask(netlink: Netlink, kind: int, body: bytes) -> tuple[bytes, ...]:
    """Give the bodies of the messages that answer a request which is no dump. Raises `OSError`."""
    # With NLM_F_ACK the kernel ends the answer as it ends a dump: with an error, or the number 0.
    return parse_dump(netlink(struct.pack("=IHHII", 16 + len(body), kind, 0x5, 1, 0) + body))


def dump_links(netlink: Netlink, sleep: Callable[[float], None]) -> tuple[bytes, ...]:
    """Give all RTM_NEWLINK messages of this network namespace. Raises `OSError`."""
    return dump(netlink, _GET_LINK, _LINKS, sleep)


def link_name(body: bytes) -> tuple[int, bytes]:
    """Give ifindex and name of an RTM_NEWLINK message, whatever bytes the name has.

    The kernel puts the name first: to look no further saves a third of the cost of all links.
    Raises `OSError` if the message is cut short.
    """
    (number,) = unpack("=4xi", body)
    name = parse_attributes(body, 16, until=_LINK_NAME).get(_LINK_NAME, b"")
    return number, name.partition(b"\0")[0]


def parse_attributes(chain: bytes, at: int = 0, *, until: int | None = None) -> Attributes:
    """Split the chain of attributes that begins at `at`, as far as the type `until`.

    Raises `OSError` if it is cut short.
    """
    found, end, header = {}, len(chain), _ATTRIBUTE.unpack_from
    try:
        while at < end and until not in found:
            length, kind = header(chain, at)
            if not 4 <= length <= end - at:  # noqa: PLR2004  the header's own length
                raise cut_short()
            found[kind & 0x3FFF] = chain[at + 4 : at + length]
            at += (length + 3) & ~3
    except struct.error:
        raise cut_short() from None
    return found


def parse_dump(datagrams: Iterable[bytes]) -> tuple[bytes, ...]:
    """Give the bodies of a dump's messages.

    Raises `OSError`: the kernel's own error, EBADMSG if the answer is cut short, and EINTR if
    something changed while it was read.
    """
    bodies: list[bytes] = []
    for kind, body in _messages(datagrams):
        if kind in {2, 3}:  # NLMSG_ERROR, NLMSG_DONE: both may carry an error
            (problem,) = unpack("=i", body) if body else (0,)
            if problem:
                raise OSError(-problem, os.strerror(-problem), "netlink")
            return tuple(bodies)
        bodies.append(body)
    raise cut_short()


def _messages(datagrams: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    header = _MESSAGE.unpack_from
    for datagram in datagrams:
        at, end = 0, len(datagram)
        while at < end:
            if end - at < _MESSAGE.size:
                raise cut_short()
            length, kind, flags = header(datagram, at)
            if not _MESSAGE.size <= length <= end - at:
                raise cut_short()
            if flags & 0x10:  # NLM_F_DUMP_INTR
                raise OSError(errno.EINTR, "changed while it was read", "netlink dump")
            yield kind, datagram[at + 16 : at + length]
            at += (length + 3) & ~3


def unpack(layout: str, data: bytes) -> tuple[int, ...]:
    """Unpack numbers from the front of `data`. Raises `OSError` if it is cut short."""
    try:
        return struct.unpack_from(layout, data)
    except struct.error:
        raise cut_short() from None


def cut_short() -> OSError:
    """Give the error of an answer that ends too early."""
    return OSError(errno.EBADMSG, "the answer is cut short", "netlink")


def text(raw: bytes) -> str:
    """Give a name that ends with a zero; any bytes may be in it."""
    return raw.partition(b"\0")[0].decode(errors="replace")
