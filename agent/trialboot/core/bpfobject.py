"""The ELF patch without which libbpf refuses the objects of a CNI that brings its own loader.

Cilium's loader knows a kind of pinning that libbpf does not (16: replace what is pinned), and
takes static functions for programs. Both are put right in place, so the file keeps its length and
its instructions. Formats: elf(5); Documentation/bpf/btf.rst of the kernel.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ENTRIES: Final = ("tc/", "xdp/")
"""How the sections begin whose static functions are programs."""

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQ")
_BTF_HEADER: Final = struct.Struct("<HBBIIIII")
_BTF_TYPE: Final = struct.Struct("<III")
_RELOCATABLE, _BPF = 1, 247  # ET_REL, EM_BPF
_SYMBOLS, _NO_BITS, _RELOCATIONS = 2, 8, 9  # SHT_SYMTAB, SHT_NOBITS, SHT_REL
_FUNCTION, _OF_SECTION = 2, 3  # STT_FUNC, STT_SECTION
_GLOBAL_FUNCTION: Final = 0x12
_BTF_MAGIC: Final = 0xEB9F
_POINTER, _ARRAY, _STRUCT = 2, 3, 4
_PIN_BY_NAME: Final = 1
_KNOWN_PINNING: Final = (0, _PIN_BY_NAME)
# Bytes that follow a BTF type, by its kind: fixed, and for each of its members.
_BEHIND: Final = {
    1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0),
    15: (0, 12), 17: (4, 0), 19: (0, 12),
}  # fmt: skip
_LAST_KIND: Final = 19


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    offset: int
    size: int
    link: int
    info: int


@dataclass(frozen=True, slots=True)
class _Type:
    """One BTF type: where it stands in the file, and its third number (a size or another type)."""

    at: int
    kind: int
    members: int
    third: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    at: int
    kind: int
    section: int
    value: int


def patched(raw: bytes) -> bytes:
    """Give the object as libbpf takes it, of the same length.

    Raises `ValueError` for whatever is no little-endian ELF64 object of eBPF that is whole.
    """
    content = bytearray(raw)
    try:
        sections = _sections(content)
        for section in sections:
            if section.name == ".BTF":
                _pin_by_name(content, section)
            if section.kind == _SYMBOLS:
                _make_global(content, sections, section)
                _name_functions(content, sections, section)
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is cut short or damaged: {error}") from error
    return bytes(content)


def _sections(content: bytearray) -> list[_Section]:
    if len(content) < _HEADER.size or not content.startswith(b"\x7fELF\x02\x01"):
        raise ValueError("it is no little-endian ELF64 file")
    _, kind, machine, _, _, _, at, _, _, _, _, width, count, names = _HEADER.unpack_from(content)
    if (kind, machine) != (_RELOCATABLE, _BPF):
        raise ValueError("it is no object of eBPF")
    if width != _SECTION.size:
        raise ValueError(f"its sections are described by {width} bytes, not {_SECTION.size}")
    rows = [_SECTION.unpack_from(content, at + number * width) for number in range(count)]
    for row in rows:
        if row[1] != _NO_BITS and row[4] + row[5] > len(content):
            raise ValueError("it is cut short: a section is not whole")
    strings = rows[names][4]
    return [_Section(_text(content, strings + r[0]), r[1], r[4], r[5], r[6], r[7]) for r in rows]


def _text(content: bytearray, at: int) -> str:
    end = content.find(b"\0", at)
    return content[at : max(end, at)].decode(errors="replace")


def _make_global(content: bytearray, sections: list[_Section], table: _Section) -> None:
    """Make the static functions of entry sections what libbpf takes for programs."""
    for symbol in _symbols(content, table):
        is_entry = symbol.kind == _FUNCTION and symbol.section < len(sections)
        if is_entry and sections[symbol.section].name.startswith(ENTRIES):
            content[symbol.at + 4] = _GLOBAL_FUNCTION


def _name_functions(content: bytearray, sections: list[_Section], table: _Section) -> None:
    """Let the initial values of maps name functions: of static ones they name section and place.

    libbpf looks a value up by the name of its symbol, and a section has none.
    """
    symbols = list(_symbols(content, table))
    functions = {
        (symbol.section, symbol.value): number
        for number, symbol in enumerate(symbols)
        if symbol.kind == _FUNCTION
    }
    for section in sections:
        if section.kind == _RELOCATIONS and section.name == ".rel.maps":
            maps = sections[section.info]
            for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
                _name_function(content, maps, at, symbols, functions)


def _name_function(
    content: bytearray,
    maps: _Section,
    at: int,
    symbols: list[_Symbol],
    functions: dict[tuple[int, int], int],
) -> None:
    place, info = _RELOCATION.unpack_from(content, at)
    symbol = symbols[info >> 32]
    if symbol.kind != _OF_SECTION:
        return
    (value,) = struct.unpack_from("<Q", content, maps.offset + place)
    number = functions.get((symbol.section, value))
    if number is not None:
        _RELOCATION.pack_into(content, at, place, number << 32 | info & 0xFFFFFFFF)


def _symbols(content: bytearray, table: _Section) -> Iterator[_Symbol]:
    for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
        _, info, _, section, value, _ = _SYMBOL.unpack_from(content, at)
        yield _Symbol(at, info & 0xF, section, value)


def _pin_by_name(content: bytearray, section: _Section) -> None:
    """Give every map whose kind of pinning libbpf does not know the one by name."""
    types, strings = _types(content, section)
    values = {at: _number(content, types, at) for at in _pinning_members(content, types, strings)}
    foreign = [at for at, value in values.items() if value not in (None, *_KNOWN_PINNING)]
    if foreign:
        wanted = _type_of_one(content, types, values)
        for at in foreign:
            struct.pack_into("<I", content, at + 4, wanted)


def _types(content: bytearray, section: _Section) -> tuple[list[_Type], int]:
    """Give the types, the first of them «void», and where the strings begin."""
    magic, _, _, header, types_at, size, strings_at, _ = _BTF_HEADER.unpack_from(
        content, section.offset
    )
    if magic != _BTF_MAGIC:
        raise ValueError("its BTF does not begin as BTF does")
    begin = section.offset + header
    at, end = begin + types_at, begin + types_at + size
    if end > len(content):
        raise ValueError("its BTF is cut short")
    types = [_Type(0, 0, 0, 0)]
    while at < end:
        _, info, third = _BTF_TYPE.unpack_from(content, at)
        kind, members = info >> 24 & 31, info & 0xFFFF
        if not 0 < kind <= _LAST_KIND:
            raise ValueError(f"its BTF has a type of kind {kind}, which is not known")
        types.append(_Type(at, kind, members, third))
        fixed, each = _BEHIND.get(kind, (0, 0))
        at += _BTF_TYPE.size + fixed + each * members
    return types, begin + strings_at


def _pinning_members(content: bytearray, types: list[_Type], strings: int) -> Iterator[int]:
    """Give the places of all members of structures that are called `pinning`."""
    word = b"pinning\0"
    for type_ in types:
        if type_.kind == _STRUCT:
            for number in range(type_.members):
                at = type_.at + _BTF_TYPE.size * (number + 1)
                name, _, _ = _BTF_TYPE.unpack_from(content, at)
                if content[strings + name : strings + name + len(word)] == word:
                    yield at


def _number(content: bytearray, types: list[_Type], member: int) -> int | None:
    """Give the number that a member of a map's declaration stands for; None if for none."""
    _, wanted, _ = _BTF_TYPE.unpack_from(content, member)
    return _length(content, types, wanted)


def _length(content: bytearray, types: list[_Type], pointer: int) -> int | None:
    """Give the length of the array that a type points to: that is how libbpf spells numbers."""
    if pointer >= len(types) or types[pointer].kind != _POINTER:
        return None
    array = types[pointer].third
    if array >= len(types) or types[array].kind != _ARRAY:
        return None
    (length,) = struct.unpack_from("<I", content, types[array].at + _BTF_TYPE.size + 8)
    return int(length)


def _type_of_one(content: bytearray, types: list[_Type], values: dict[int, int | None]) -> int:
    for member, value in values.items():
        if value == _PIN_BY_NAME:
            _, wanted, _ = _BTF_TYPE.unpack_from(content, member)
            return int(wanted)
    for pointer in range(len(types)):
        if _length(content, types, pointer) in _KNOWN_PINNING:
            return pointer
    raise ValueError("its maps are pinned in a way that libbpf does not know")
