"""A kernel that answers bpf(2) and rtnetlink as it was told to, with any errno."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fakes.netlink_messages import DONE, LINK, QDISC, device, message, refusal
from trialboot import bpf


@dataclass
class FakeKernel:
    """Answers bpf(2) and rtnetlink; keeps what was asked."""

    programs: dict[int, str] = field(default_factory=dict)
    attached: dict[int, list[int]] = field(default_factory=dict)
    """Programs by attach type, at whatever place."""
    refused: dict[int, int] = field(default_factory=dict)
    """errno by attach type or, negative, by bpf command or netlink request."""
    links: list[bytes] = field(
        default_factory=lambda: [device(1, "lo"), device(2, "eth0", "veth")]
    )
    qdiscs: list[bytes] = field(default_factory=list)
    filters: dict[int, list[bytes]] = field(default_factory=dict)
    """Filter messages by parent."""
    maps: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Type and name."""
    bpf_links: dict[int, bytes] = field(default_factory=dict)
    """struct bpf_link_info."""
    costs: dict[int, int] = field(default_factory=dict)
    """verified_insns of programs."""
    gone: set[int] = field(default_factory=set)
    """Objects that are listed, and went away before they could be opened."""
    netlink_answers: list[list[bytes]] = field(default_factory=list)
    """Answers that go before the true ones."""
    queried: list[tuple[int, int, int]] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    _told: bytes = b""

    def syscall(self, command: int, attributes: bpf.Attributes) -> int:
        if -command in self.refused:
            raise _error(self.refused[-command])
        match command:
            case bpf.PROG_QUERY:
                return self._query(attributes)
            case bpf.OBJ_GET_INFO_BY_FD:
                return self._inform(*struct.unpack_from("=IIQ", attributes))
            case bpf.PROG_GET_NEXT_ID | bpf.MAP_GET_NEXT_ID | bpf.LINK_GET_NEXT_ID:
                return self._list(command, attributes)
            case _:
                return self._open(command, *struct.unpack_from("=I", attributes))

    def netlink(self, request: bytes) -> Iterator[bytes]:
        if self.netlink_answers:
            yield from self.netlink_answers.pop(0)
            return
        length, kind, flags = struct.unpack_from("=IHH", request)
        assert (length, flags) == (len(request), 0x301)
        if -kind in self.refused:
            yield refusal(self.refused[-kind])
        for body in self._rows(kind, request[16:]):
            yield message(16, body)
        yield DONE

    def _rows(self, kind: int, body: bytes) -> list[bytes]:
        if kind == LINK:
            return self.links
        if kind == QDISC:
            return self.qdiscs
        return self.filters.get(struct.unpack_from("=I", body, 12)[0], [])

    def _query(self, attributes: bpf.Attributes) -> int:
        target, kind, flags, _, pointer, room = struct.unpack_from("=IIIIQI", attributes)
        self.queried.append((target, kind, flags))
        if kind in self.refused:
            raise _error(self.refused[kind])
        ids = self.attached.get(kind, [])
        struct.pack_into("=I", attributes, 24, len(ids))
        if len(ids) > room:
            raise _error(errno.ENOSPC)
        ctypes.memmove(pointer, struct.pack(f"={len(ids)}I", *ids), 4 * len(ids))
        return 0

    def _list(self, command: int, attributes: bpf.Attributes) -> int:
        (after,) = struct.unpack_from("=I", attributes)
        match command:
            case bpf.PROG_GET_NEXT_ID:
                known = list(self.programs)
            case bpf.MAP_GET_NEXT_ID:
                known = list(self.maps)
            case _:
                known = list(self.bpf_links)
        following = [id_ for id_ in sorted(known) if id_ > after]
        if not following:
            raise _error(errno.ENOENT)
        struct.pack_into("=I", attributes, 4, following[0])
        return 0

    def _open(self, command: int, id_: int) -> int:
        told = self._known(command)
        if id_ not in told or id_ in self.gone:
            raise _error(errno.ENOENT)
        self.descriptors.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        self._told = told[id_]
        return self.descriptors[-1]

    def _known(self, command: int) -> dict[int, bytes]:
        match command:
            case bpf.PROG_GET_FD_BY_ID:
                return {
                    id_: struct.pack("=64x16s136xI20x", name.encode(), self.costs.get(id_, 0))
                    for id_, name in self.programs.items()
                }
            case bpf.MAP_GET_FD_BY_ID:
                return {
                    id_: struct.pack("=I20x16s", kind, name.encode())
                    for id_, (kind, name) in self.maps.items()
                }
            case _:
                return self.bpf_links

    def _inform(self, descriptor: int, length: int, pointer: int) -> int:
        assert descriptor == self.descriptors[-1]
        assert length >= len(self._told)
        ctypes.memmove(pointer, self._told, len(self._told))
        return 0


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
