"""Firmware of network devices and what waits in them, by devlink over generic netlink.

Kernel: Documentation/networking/devlink/devlink-info.rst, linux/devlink.h, linux/genetlink.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from trialboot.core.facts import Device
from trialboot.errors import HostError

Exchange = Callable[[bytes], bytes]
"""Sends one netlink message and gives all messages of its answer. Raises `OSError`."""

_HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length with itself, type, flags, sequence, port."""

_GENERIC: Final = struct.Struct("=BBH")
"""genlmsghdr: command, version, reserved."""

_ATTRIBUTE: Final = struct.Struct("=HH")
"""nlattr: length with itself, type."""

_NUMBER: Final = struct.Struct("=H")
_CODE: Final = struct.Struct("=i")
_TYPE: Final = 0x3FFF
"""NLA_TYPE_MASK: the bits above it say «nested» and «network byte order»."""

_PROTOCOL: Final = 16
"""NETLINK_GENERIC (linux/netlink.h)."""

_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2
_GET_INFO, _BUS, _NAME, _RUNNING, _STORED = 51, 1, 2, 101, 102
_VERSION_NAME, _VERSION_VALUE = 103, 104

_MAX_ERRNO: Final = 4096

_SECONDS: Final = 10.0
"""Some drivers ask their firmware through a slow mailbox."""

_LARGEST: Final = 16 << 20
_CUT_SHORT: Final = "the kernel's answer is cut short"


def ask_generic_netlink(request: bytes) -> bytes:
    """Send one message to generic netlink and gather its answer. Raises `OSError`."""
    answer = piece = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _PROTOCOL) as door:
        door.settimeout(_SECONDS)
        door.bind((0, 0))
        door.send(request)
        while not is_end(piece):
            piece, _, flags, _ = door.recvmsg(1 << 18)
            answer += piece
            if flags & socket.MSG_TRUNC or len(answer) > _LARGEST:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    return answer


def read_devlink(
    exchange: Exchange = ask_generic_netlink,
) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Ask what devlink devices run and have stored; give them, and what went wrong as a sentence.

    A kernel without devlink has no such devices. Needs no privilege.
    """
    try:
        family = parse_family(exchange(_family_question()))
        return (parse_info(exchange(_info_question(family)), family) if family else ()), ()
    except OSError as error:
        return (), (f"devlink: {error.strerror or error}",)
    except HostError as error:
        return (), (f"devlink: {error}",)


def is_end(piece: bytes) -> bool:
    """Tell whether an answer ends with this datagram; one that is cut short ends it too."""
    try:
        return any(kind in {_ERROR, _DONE} for kind, _ in _messages(piece))
    except HostError:
        return True


def parse_family(raw: bytes) -> int:
    """Give the number of devlink's family; 0 where the kernel has none. Raises `HostError`."""
    for kind, content in _messages(raw):
        if kind == _CONTROLLER:
            number = dict(_attributes(content[_GENERIC.size :])).get(_FAMILY_ID, b"")
            return int(_first(_NUMBER, number))
        if kind in {_ERROR, _DONE}:
            if _code(content) == errno.ENOENT:
                return 0
            _hold_good(content)
    raise HostError(_CUT_SHORT)


def parse_info(raw: bytes, family: int) -> tuple[Device, ...]:
    """Give each version that a device tells it runs, in their order. Raises `HostError`.

    `stored` is set where flash holds another version than the one that runs.
    """
    devices: list[Device] = []
    for kind, content in _messages(raw):
        if kind == family:
            devices.extend(_devices(content[_GENERIC.size :]))
        if kind in {_ERROR, _DONE}:
            _hold_good(content)
            return tuple(devices)
    raise HostError(_CUT_SHORT)


def _devices(raw: bytes) -> Iterator[Device]:
    attributes = _attributes(raw)
    place = dict(attributes)
    running = dict(_version(value) for kind, value in attributes if kind == _RUNNING)
    stored = dict(_version(value) for kind, value in attributes if kind == _STORED)
    for name, version in running.items():
        waiting = stored.get(name, version)
        yield Device(
            kind="devlink",
            name=f"{_text(place.get(_BUS, b''))}/{_text(place.get(_NAME, b''))} {name}",
            running=version,
            stored=waiting if waiting != version else "",
        )


def _version(raw: bytes) -> tuple[str, str]:
    words = dict(_attributes(raw))
    return _text(words.get(_VERSION_NAME, b"")), _text(words.get(_VERSION_VALUE, b""))


def _family_question() -> bytes:
    name = b"devlink\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), _FAMILY_NAME) + name
    return _question(_CONTROLLER, _ACK, _GET_FAMILY, attribute)


def _info_question(family: int) -> bytes:
    return _question(family, _DUMP, _GET_INFO, b"")


def _question(kind: int, flags: int, command: int, attributes: bytes) -> bytes:
    content = _GENERIC.pack(command, 1, 0) + attributes
    return _HEADER.pack(_HEADER.size + len(content), kind, _REQUEST | flags, 1, 0) + content


def _messages(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Give type and content of each message. Raises `HostError` if one is cut short."""
    at = 0
    while at < len(raw):
        length, kind = _first(_HEADER, raw[at:]), _first(_NUMBER, raw[at + 4 :])
        if not _HEADER.size <= length <= len(raw) - at:
            raise HostError(_CUT_SHORT)
        yield kind, raw[at + _HEADER.size : at + length]
        at += (length + 3) // 4 * 4


def _attributes(raw: bytes) -> list[tuple[int, bytes]]:
    """Give type and value of each attribute. Raises `HostError` if one is cut short."""
    found, at = [], 0
    while at < len(raw):
        length, kind = _first(_NUMBER, raw[at:]), _first(_NUMBER, raw[at + 2 :])
        if not _ATTRIBUTE.size <= length <= len(raw) - at:
            raise HostError(_CUT_SHORT)
        found.append((kind & _TYPE, raw[at + _ATTRIBUTE.size : at + length]))
        at += (length + 3) // 4 * 4
    return found


def _hold_good(content: bytes) -> None:
    code = _code(content)
    if code:
        raise HostError(os.strerror(code) if 0 < code < _MAX_ERRNO else f"error {code}")


def _code(content: bytes) -> int:
    """Give the errno of an error or of an end; 0 for success. An end may come without one."""
    return -int(_first(_CODE, content)) if content else 0


def _first(shape: struct.Struct, raw: bytes) -> int:
    if len(raw) < shape.size:
        raise HostError(_CUT_SHORT)
    return int(shape.unpack_from(raw)[0])


def _text(raw: bytes) -> str:
    text = raw.partition(b"\0")[0].decode(errors="replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()
