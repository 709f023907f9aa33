"""rtnetlink messages packed by hand, as a kernel sends them."""

import struct
from typing import Final

LINK: Final = 18
QDISC: Final = 38
FILTER: Final = 46
INTERRUPTED: Final = 0x12  # NLM_F_MULTI, NLM_F_DUMP_INTR


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(found: dict[int, bytes | int]) -> bytes:
    """Pack a chain; numbers as 32 bits."""
    return b"".join(
        attribute(kind, number(value) if isinstance(value, int) else value)
        for kind, value in found.items()
    )


def number(value: int) -> bytes:
    return struct.pack("=I", value)


def message(kind: int, body: bytes, flags: int = 2) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + padding


DONE: Final = message(3, struct.pack("=i", 0))


def refusal(problem: int) -> bytes:
    return message(2, struct.pack("=i", -problem))


def link(
    index: int, name: bytes, found: dict[int, bytes | int] | None = None, flags: int = 0x11003
) -> bytes:
    head = struct.pack("=BxHiII", 0, 1, index, flags, 0)
    return head + attributes({3: name + b"\0", **(found or {})})


def device(index: int, name: str, kind: str = "", xdp: bytes = b"") -> bytes:
    """Pack a link of a kind, with its XDP programs."""
    found: dict[int, bytes | int] = {}
    if kind:
        found[18] = attribute(1, kind.encode() + b"\0")
    if xdp:
        found[0x8000 | 43] = xdp  # NLA_F_NESTED
    return link(index, name.encode(), found)


def tc(index: int, kind: str, parent: int = 0xFFFFFFF1, options: bytes = b"") -> bytes:
    head = struct.pack("=BxHiIII", 0, 0, index, 1, parent, 0)
    return head + attribute(1, kind.encode() + b"\0") + (attribute(2, options) if options else b"")


def bpf_filter(program: int, name: str) -> bytes:
    options = attribute(7, name.encode() + b"\0") + attribute(11, number(program))
    return tc(2, "bpf", 0xFFFFFFF2, options)
