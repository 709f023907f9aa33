"""ELF files (elf(5)), as far as a kernel module is asked: sections by name, modinfo, build-id."""

import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeAlias

from trialboot.core.facts import Unknown

Piece: TypeAlias = Callable[[int, int], bytes]
"""Gives so many bytes at an offset of a file: `piece(length, offset)`, as pread(2) has them."""

SIGNATURE: Final = b"~Module signature appended~\n"
"""What a signed module ends with (Documentation/admin-guide/module-signing.rst)."""

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_NOTE: Final = struct.Struct("<III")
_LITTLE_ELF64: Final = b"\x7fELF\x02\x01"
_NO_BITS: Final = 8  # SHT_NOBITS: a size, and no bytes in the file
_GNU_BUILD_ID: Final = 3
_MOST: Final = 1 << 22  # bytes of a section: the largest table there can be, 65535 rows


def read_sections(piece: Piece, size: int, wanted: Collection[str]) -> dict[str, bytes] | Unknown:
    """Give those of the wanted sections that an ELF64 file of `size` bytes has.

    Only these, the header, the table of sections and their names are read. Big-endian and 32-bit
    files are Unknown, as damaged ones are.
    """
    header = piece(_HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_LITTLE_ELF64):
        return Unknown("it is no little-endian ELF64 file")
    *_, offset, _, _, _, _, width, count, names_at = _HEADER.unpack(header)
    if width != _SECTION.size:
        return Unknown(f"its sections are described by {width} bytes, not {_SECTION.size}")
    table = _range(piece, size, offset, width * count)
    if table is None:
        return Unknown("it is cut short: the table of its sections is not whole")
    rows = list(_SECTION.iter_unpack(table))
    if names_at >= len(rows):
        return Unknown("its sections have no names")
    return _named(piece, size, rows, rows[names_at], wanted)


def parse_modinfo(section: bytes) -> dict[str, tuple[str, ...]]:
    """Turn `.modinfo` (`key=value`, each ended by NUL) into the values of each key, as they come.

    A word without `=` says nothing to anybody and is left out.
    """
    values: dict[str, list[str]] = {}
    for word in section.split(b"\0"):
        key, equals, value = word.partition(b"=")
        if equals:
            values.setdefault(_text(key), []).append(_text(value))
    return {key: tuple(found) for key, found in values.items()}


def parse_parameters(modinfo: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Name a module's parameters, sorted: `NAME:text` and `NAME:type` (linux/moduleparam.h)."""
    texts = modinfo.get("parm", ())  # codespell:ignore parm
    words = (*texts, *modinfo.get("parmtype", ()))
    return tuple(sorted({word.partition(":")[0] for word in words}))


def parse_build_id(notes: bytes) -> str | Unknown:
    """Give the GNU build-id in hex among ELF notes (elf(5), Nhdr); empty if there is none."""
    try:
        for kind, owner, content in _notes(notes):
            if (kind, owner) == (_GNU_BUILD_ID, b"GNU\0"):
                return content.hex()
    except struct.error:
        return Unknown("its notes are cut short")
    return ""


def _named(
    piece: Piece,
    size: int,
    rows: list[tuple[int, ...]],
    names_row: tuple[int, ...],
    wanted: Collection[str],
) -> dict[str, bytes] | Unknown:
    names = _range(piece, size, names_row[4], names_row[5])
    if names is None:
        return Unknown("it is cut short: the names of its sections are not whole")
    found: dict[str, bytes] = {}
    for name_at, kind, _, _, offset, length, *_ in rows:
        name = _text(names[name_at : max(names.find(b"\0", name_at), name_at)])
        if name in wanted and name not in found and kind != _NO_BITS:
            content = _range(piece, size, offset, length)
            if content is None:
                return Unknown(f"it is cut short: {name} is not whole")
            found[name] = content
    return found


def _range(piece: Piece, size: int, offset: int, length: int) -> bytes | None:
    """Give a range of the file; None if it is not whole. Asks for nothing beyond the file."""
    if length > _MOST or offset + length > size:
        return None
    content = piece(length, offset)
    return content if len(content) == length else None


def _notes(notes: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Give type, owner and content of each note. Raises `struct.error` where one is cut short."""
    at = 0
    while at < len(notes):
        owner_size, size, kind = _NOTE.unpack_from(notes, at)
        begin = at + _NOTE.size
        content_at = begin + _padded(owner_size)
        if content_at + size > len(notes):
            raise struct.error("a note is longer than what holds it")
        yield kind, notes[begin : begin + owner_size], notes[content_at : content_at + size]
        at = content_at + _padded(size)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
