"""EFI's boot variables: load options, the device paths in them, BootOrder and BootNext.

The layouts are those of the UEFI specification 2.10, sections 3.1.3 (load options), 3.3 (the
variables) and 10.3 (device paths). What has another layout is Unknown: it is somebody else's, and
is left alone.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Unknown

ACTIVE: Final = 1
"""LOAD_OPTION_ACTIVE: the firmware may start it."""

TRIAL_ENTRY: Final = "trialboot trial"
"""Description of the one entry that is ours. It is never in BootOrder."""
TRIAL_FOLDER: Final = "EFI/trialboot"
"""Folder of our entry's files on the ESP."""

_NAME: Final = re.compile(r"Boot([0-9A-Fa-f]{4})")
_NUMBERS: Final = 0x10000
_NUMBER: Final = struct.Struct("<H")
_OPTION: Final = struct.Struct("<IH")
"""Attributes, FilePathListLength."""
_NODE: Final = struct.Struct("<BBH")
"""Type, subtype and length of a node of a device path."""
_DISK: Final = struct.Struct("<IQQ16sBB")
"""Partition number, start, size, signature, format and signature type of a hard drive node."""
_MEDIA: Final = 0x04
_HARD_DRIVE: Final = 0x01
_FILE: Final = 0x04
_END: Final = 0x7F
_WHOLE: Final = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition as a device path names it (hard drive media device path, 10.3.5.1)."""

    number: int
    start: int
    """In blocks of the disk, as the size."""
    size: int
    signature: bytes
    """16 bytes: a GPT's GUID, or the four bytes of an MBR and zeros."""
    is_gpt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOption:
    """What one `Boot####` starts, as far as it names a file on a partition."""

    description: str
    partition: Partition | None = None
    """None where the path begins at a bus, or names no partition at all."""
    file: str = ""
    """With slashes, from the root of the partition; empty where the firmware chooses it."""
    attributes: int = ACTIVE


def boot_number(name: str) -> int | None:
    """Give the number in the name of a variable; firmware writes small letters too."""
    found = _NAME.fullmatch(name)
    return int(found[1], 16) if found else None


def parse_number(value: bytes) -> int | Unknown:
    """Give the u16 that BootNext and BootCurrent hold, without the attributes before it."""
    return (
        _NUMBER.unpack(value)[0] if len(value) == _NUMBER.size else Unknown("not two bytes long")
    )


def format_number(number: int) -> bytes:
    """Write what BootNext holds."""
    return _NUMBER.pack(number)


def parse_order(value: bytes) -> tuple[int, ...] | Unknown:
    """Read BootOrder. Numbers may come twice, and may name nothing."""
    if len(value) % _NUMBER.size:
        return Unknown("BootOrder is not made of pairs of bytes")
    return tuple(number for (number,) in _NUMBER.iter_unpack(value))


def format_order(order: Iterable[int]) -> bytes:
    """Write BootOrder."""
    return b"".join(map(_NUMBER.pack, order))


def free_number(taken: Iterable[int]) -> int | Unknown:
    """Give the lowest number that nothing has: a `Boot####` for an entry of ours.

    What BootOrder names is taken even where there is no such entry: a new one of that number would
    stand in the order at once.
    """
    numbers = frozenset(taken)
    free = next((number for number in range(_NUMBERS) if number not in numbers), None)
    return Unknown("all Boot#### are taken") if free is None else free


def parse_description(option: bytes) -> str | Unknown:
    """Give the description of a load option, without the attributes of its variable."""
    found = _described(option)
    if isinstance(found, Unknown):
        return found
    description, _ = found
    return description


def parse_option(option: bytes) -> LoadOption | Unknown:
    """Read a load option, without the attributes of its variable."""
    found = _described(option)
    if isinstance(found, Unknown):
        return found
    description, at = found
    attributes, length = _OPTION.unpack_from(option)
    path = option[at : at + length]
    if len(path) < length:
        return Unknown("its device path is longer than the option")
    nodes = _nodes(path)
    if isinstance(nodes, Unknown):
        return nodes
    partitions = [_partition(node) for kind, node in nodes if kind == (_MEDIA, _HARD_DRIVE)]
    files = [_file(node) for kind, node in nodes if kind == (_MEDIA, _FILE)]
    wrong = [part for part in (*partitions, *files) if isinstance(part, Unknown)]
    if wrong or len(partitions) > 1:
        return wrong[0] if wrong else Unknown("its device path names two partitions")
    return LoadOption(
        description=description,
        partition=next((part for part in partitions if isinstance(part, Partition)), None),
        file=_joined(file for file in files if isinstance(file, str)),
        attributes=attributes,
    )


def format_option(option: LoadOption) -> bytes:
    """Write a load option that names a file on a partition, without optional data."""
    path = b"".join(_path_of(option))
    text = f"{option.description}\0".encode("utf-16-le")
    return _OPTION.pack(option.attributes, len(path)) + text + path


def is_ours(option: LoadOption | Unknown) -> bool:
    """Tell whether an entry is the one that trialboot made: both its name and its file say so."""
    if isinstance(option, Unknown):
        return False
    in_folder = option.file.lower().startswith(f"/{TRIAL_FOLDER}/".lower())
    return option.description == TRIAL_ENTRY and in_folder


def _described(option: bytes) -> tuple[str, int] | Unknown:
    """Give the description, and where the device path begins."""
    text = option[_OPTION.size :]
    ends = (at for at in range(0, len(text) - 1, 2) if text[at : at + 2] == b"\0\0")
    end = next(ends, None)
    if end is None:
        return Unknown("the description has no end")
    try:
        described = text[:end].decode("utf-16-le")
    except UnicodeDecodeError:
        return Unknown("the description is no UTF-16")
    if not described.isprintable():
        return Unknown("the description is no plain text")
    return described, _OPTION.size + end + 2


_Node = tuple[tuple[int, int], bytes]


def _nodes(path: bytes) -> list[_Node] | Unknown:
    """Cut the first device path of a list into its nodes; others after it are alternatives."""
    nodes: list[_Node] = []
    at = 0
    while at + _NODE.size <= len(path):
        kind, subkind, length = _NODE.unpack_from(path, at)
        if length < _NODE.size or at + length > len(path):
            return Unknown("a node of its device path has no length that it can have")
        if (kind, subkind) == (_END, _WHOLE):
            return nodes
        nodes.append(((kind, subkind), path[at + _NODE.size : at + length]))
        at += length
    return Unknown("its device path has no end")


def _partition(node: bytes) -> Partition | Unknown:
    if len(node) != _DISK.size:
        return Unknown("its partition is not told as UEFI tells partitions")
    number, start, size, signature, scheme, kind = _DISK.unpack(node)
    if (scheme, kind) not in {(1, 1), (2, 2)}:
        return Unknown("its partition is neither of a GPT nor of an MBR")
    is_gpt = scheme == 2  # noqa: PLR2004  10.3.5.1: 1 is MBR, 2 is GPT
    return Partition(number=number, start=start, size=size, signature=signature, is_gpt=is_gpt)


def _file(node: bytes) -> str | Unknown:
    try:
        text = node.decode("utf-16-le")
    except UnicodeDecodeError:
        return Unknown("its file name is no UTF-16")
    name, end, rest = text.partition("\0")
    if not end or rest.strip("\0") or not name.isprintable():
        return Unknown("its file name is no plain text")
    return name


def _joined(parts: Iterable[str]) -> str:
    names = [name for part in parts for name in part.replace("\\", "/").split("/") if name]
    return "".join(f"/{name}" for name in names)


def _path_of(option: LoadOption) -> Iterator[bytes]:
    if option.partition:
        part, kind = option.partition, 2 if option.partition.is_gpt else 1
        disk = _DISK.pack(part.number, part.start, part.size, part.signature, kind, kind)
        yield _NODE.pack(_MEDIA, _HARD_DRIVE, _NODE.size + len(disk)) + disk
    if option.file:
        name = (option.file.replace("/", "\\") + "\0").encode("utf-16-le")
        yield _NODE.pack(_MEDIA, _FILE, _NODE.size + len(name)) + name
    yield _NODE.pack(_END, _WHOLE, _NODE.size)
