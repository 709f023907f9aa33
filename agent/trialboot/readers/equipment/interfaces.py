"""Network interfaces: what drives each, and which of them the default route needs."""

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot.core.facts import Interface, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

AskDriver = Callable[[str], bytes]
"""Gives the kernel's `struct ethtool_drvinfo` of one interface. Raises `OSError`."""

_FOLDER: Final = "/sys/class/net"
_SIOCETHTOOL: Final = 0x8946
_GDRVINFO: Final = 3
_LENGTH: Final = 196
_WORD: Final = 32
"""`struct ethtool_drvinfo` (linux/ethtool.h): u32 cmd, then words of 32 bytes, 196 in all."""

_SILENT: Final = frozenset({errno.EOPNOTSUPP, errno.ENODEV})
"""An interface without a driver (lo), and one that went away since it was listed."""

_UP: Final = 0x1
_REJECT: Final = 0x200
"""RTF_UP, and RTF_REJECT of an unreachable route (linux/route.h)."""

_IPV4: Final = re.compile(
    r"^([^\s/\0]+)[ \t]+0{8}[ \t]+[0-9A-F]{8}[ \t]+([0-9A-F]{4,8})"
    r"[ \t]+\d+[ \t]+\d+[ \t]+-?\d+[ \t]+0{8}[ \t]",
    re.ASCII | re.MULTILINE,
)
_IPV6: Final = re.compile(
    r"^0{32} 00 0{32} 00 [0-9a-f]{32} [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} ([0-9a-f]{8})"
    r"[ \t]+([^\s/\0]+)[ \t]*$",
    re.ASCII | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverInfo:
    """What ETHTOOL_GDRVINFO tells; each word is empty where the driver tells none."""

    driver: str
    firmware: str
    bus: str


def ask_driver(name: str) -> bytes:
    """Ask the kernel for an interface's ETHTOOL_GDRVINFO; no privilege needed. Raises `OSError`.

    Every family of sockets takes the question; AF_UNIX is the one that a sandbox leaves open.
    """
    answer = ctypes.create_string_buffer(_GDRVINFO.to_bytes(4, sys.byteorder), _LENGTH)
    request = struct.pack("16sP16x", os.fsencode(name)[:15], ctypes.addressof(answer))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door, _SIOCETHTOOL, request)
    return answer.raw


def read_interfaces(host: Host, *, ask: AskDriver = ask_driver) -> tuple[Interface, ...] | Unknown:
    """Read the interfaces of this network namespace, sorted by name.

    `driver` is the module's name where /sys tells it, else the word that the driver itself gives.
    `default_route` is true for the links of default routes in the main tables, whatever their
    metric, and for what these links are built on: ports of a bridge, members of a bond.
    """
    try:
        needed = _beneath(host, _default_links(host))
        folder = host.path(_FOLDER)
        # bonding_masters is a file among the folders.
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        return tuple(_interface(host, name, name in needed, ask) for name in names)
    except HostError as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def parse_driver_info(raw: bytes) -> DriverInfo:
    """Take the words of a `struct ethtool_drvinfo` apart; «N/A» is what some drivers say."""
    words = [_word(raw[at : at + _WORD]) for at in range(4, 4 + 4 * _WORD, _WORD)]
    return DriverInfo(driver=words[0], firmware=words[2], bus=words[3])


def parse_ipv4_defaults(text: str) -> tuple[str, ...]:
    """Name the links of default routes in `/proc/net/route`, sorted.

    The kernel shows the first next hop alone of a route that has several.
    """
    rows = (match.groups() for match in _IPV4.finditer(text))
    return tuple(sorted({name for name, flags in rows if _leads_out(flags)}))


def parse_ipv6_defaults(text: str) -> tuple[str, ...]:
    """Name the links of default routes in `/proc/net/ipv6_route`, sorted."""
    rows = (match.groups() for match in _IPV6.finditer(text))
    return tuple(sorted({name for flags, name in rows if _leads_out(flags)}))


def _interface(host: Host, name: str, default_route: bool, ask: AskDriver) -> Interface:  # noqa: FBT001  a field handed on
    try:
        told = parse_driver_info(ask(name))
    except OSError as error:
        if error.errno not in _SILENT:
            raise HostError(f"driver of {name}: {error.strerror}") from error
        told = DriverInfo(driver="", firmware="", bus="")
    device = host.path(f"{_FOLDER}/{name}/device")
    return Interface(
        name=name,
        driver=_target(device / "driver/module").replace("-", "_") or told.driver,
        firmware=told.firmware,
        bus=told.bus or _target(device),
        default_route=default_route,
    )


def _target(link: Path) -> str:
    """Name what a link of sysfs leads to."""
    try:
        return link.readlink().name if link.is_symlink() else ""
    except FileNotFoundError:  # made by software, or its driver is built in
        return ""


def _default_links(host: Host) -> set[str]:
    links = set(parse_ipv4_defaults(host.read_text("/proc/net/route")))
    if host.exists("/proc/net/ipv6_route"):  # not there with ipv6.disable=1
        links.update(parse_ipv6_defaults(host.read_text("/proc/net/ipv6_route")))
    return links


def _beneath(host: Host, tops: set[str]) -> set[str]:
    """Give links and all that they are built on (`lower_NAME` in their folders)."""
    found: set[str] = set()
    waiting = sorted(tops)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_lower(host.path(f"{_FOLDER}/{name}")))
    return found


def _lower(folder: Path) -> Iterator[str]:
    if folder.is_dir():  # it may be gone since the routes were read
        names = (path.name for path in folder.iterdir())
        yield from (name.removeprefix("lower_") for name in names if name.startswith("lower_"))


def _leads_out(flags: str) -> bool:
    return int(flags, 16) & (_UP | _REJECT) == _UP


def _word(raw: bytes) -> str:
    text = raw.partition(b"\0")[0].decode(errors="replace")
    word = "".join(letter for letter in text if letter.isprintable()).strip()
    return "" if word == "N/A" else word
