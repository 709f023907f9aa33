"""rtnetlink spoken raw: one request, its dump, the attributes of a message.

No version of pyroute2 can read the id of a tc filter's program, and a table of 10,000 routes
costs it a second and 80 MB. Layouts: linux/{netlink,rtnetlink}.h; RFC 3549.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

Netlink: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Sends a request and gives the datagrams of the answer. Raises `OSError`."""

_TRIES: Final = 5  # of a dump


def exchange(request: bytes) -> Iterator[bytes]:
    """Send one rtnetlink request and give datagrams as they come. Raises `OSError`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(request)
        while True:
            yield netlink.recv(1 << 17)


def dump(netlink: Netlink, kind: int, body: bytes) -> tuple[bytes, ...]:
    """Give the bodies of all messages of one dump, tried again while the kernel changes it.

    Raises `OSError`.
    """
    request = struct.pack("=IHHII", 16 + len(body), kind, 0x301, 1, 0) + body  # REQUEST, DUMP
    for _ in range(_TRIES - 1):
        with suppress(InterruptedError):
            return parse_dump(netlink(request))
    return parse_dump(netlink(request))


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
            (problem,) = unpack("=i", body) if body else (0,)
            if problem:
                raise OSError(-problem, os.strerror(-problem), "netlink")
            return tuple(bodies)
        bodies.append(body)
    raise cut_short()


def _messages(datagrams: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for datagram in datagrams:
        rest = memoryview(datagram)
        while rest:
            length, kind, flags = _header("=IHH8x", rest)
            if flags & 0x10:  # NLM_F_DUMP_INTR
                raise OSError(errno.EINTR, "changed while it was read", "netlink dump")
            yield kind, bytes(rest[16:length])
            rest = rest[-(-length // 4) * 4 :]


def _header(layout: str, data: bytes | memoryview) -> tuple[int, ...]:
    """Unpack a header that starts with the length of itself and what belongs to it."""
    fields = unpack(layout, data)
    if not struct.calcsize(layout) <= fields[0] <= len(data):
        raise cut_short()
    return fields


def unpack(layout: str, data: bytes | memoryview) -> tuple[int, ...]:
    """Unpack numbers from the front of `data`. Raises `OSError` if it is cut short."""
    if len(data) < struct.calcsize(layout):
        raise cut_short()
    return struct.unpack_from(layout, data)


def cut_short() -> OSError:
    """Give the error of an answer that ends too early."""
    return OSError(errno.EBADMSG, "the answer is cut short", "netlink")


def text(raw: bytes) -> str:
    """Give a name that ends with a zero; any bytes may be in it."""
    return raw.partition(b"\0")[0].decode(errors="replace")
