"""ELF files as far as a module is asked: sections, modinfo, build-id; damaged and hostile ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.module_files import elf64, note
from trialboot.core.elf import (
    Piece,
    parse_build_id,
    parse_modinfo,
    parse_parameters,
    read_sections,
)
from trialboot.core.facts import Unknown

FILE = elf64({".text": b"code", ".modinfo": b"license=GPL\0", ".note": b"n"})
OFFSET_OF_TABLE, WIDTH, COUNT, NAMES_AT = 40, 58, 60, 62
NO_TABLE = "it is cut short: the table of its sections is not whole"
NO_NAMES = "it is cut short: the names of its sections are not whole"


def piece_of(raw: bytes) -> Piece:
    """Read as pread(2) does, and refuse what would make it ask for too much."""

    def piece(length: int, offset: int) -> bytes:
        assert 0 <= length <= len(raw) or offset == 0
        return raw[offset : offset + length]

    return piece


def sections(raw: bytes, *wanted: str) -> dict[str, bytes] | Unknown:
    return read_sections(piece_of(raw), len(raw), wanted)


def changed(at: int, kind: str, value: int) -> bytes:
    raw = bytearray(FILE)
    struct.pack_into(kind, raw, at, value)
    return bytes(raw)


def row(number: int, field: int) -> int:
    """Give the place of one field of one section's row."""
    (table,) = struct.unpack_from("<Q", FILE, OFFSET_OF_TABLE)
    return int(table) + 64 * number + (0, 4, 8, 16, 24, 32)[field]


def test_wanted_sections_are_given_and_no_others() -> None:
    assert sections(FILE, ".modinfo", ".note", ".bss") == {
        ".modinfo": b"license=GPL\0",
        ".note": b"n",
    }
    assert sections(FILE) == {}


def test_only_the_wanted_pieces_are_read() -> None:
    asked: list[tuple[int, int]] = []

    def piece(length: int, offset: int) -> bytes:
        asked.append((length, offset))
        return FILE[offset : offset + length]

    read_sections(piece, len(FILE), (".modinfo",))
    assert [length for length, _ in asked] == [
        64,
        64 * 5,
        len(b"\0.text\0.modinfo\0.note\0.shstrtab\0"),
        12,
    ]


def test_of_two_sections_of_one_name_the_first_counts() -> None:
    raw = elf64({".modinfo": b"first", ".modinfx": b"second"}).replace(b".modinfx", b".modinfo")
    assert sections(raw, ".modinfo") == {".modinfo": b"first"}


def test_a_section_without_bytes_in_the_file_is_not_there() -> None:
    assert sections(changed(row(2, 1), "<I", 8), ".modinfo") == {}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is no little-endian ELF64 file"),
        (FILE[:63], "it is no little-endian ELF64 file"),
        (b"\xfd7zXZ" + b"\0" * 99, "it is no little-endian ELF64 file"),
        (changed(4, "B", 1), "it is no little-endian ELF64 file"),
        (changed(5, "B", 2), "it is no little-endian ELF64 file"),
        (changed(WIDTH, "<H", 40), "its sections are described by 40 bytes, not 64"),
        (changed(COUNT, "<H", 6), NO_TABLE),
        (changed(OFFSET_OF_TABLE, "<Q", 1 << 63), NO_TABLE),
        (FILE[:-1], NO_TABLE),
        (changed(COUNT, "<H", 0), "its sections have no names"),
        (changed(NAMES_AT, "<H", 5), "its sections have no names"),
        (changed(row(4, 4), "<Q", 1 << 40), NO_NAMES),
        (changed(row(2, 5), "<Q", 1 << 40), "it is cut short: .modinfo is not whole"),
        (changed(row(2, 4), "<Q", (1 << 64) - 1), "it is cut short: .modinfo is not whole"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_understood_is_unknown(raw: bytes, why: str) -> None:
    assert sections(raw, ".modinfo") == Unknown(why)


def test_a_file_that_shrinks_while_it_is_read_is_unknown() -> None:
    def piece(length: int, offset: int) -> bytes:
        return FILE[:100][offset : offset + length]

    found = read_sections(piece, len(FILE), (".modinfo",))
    assert found == Unknown(NO_TABLE)


def test_no_section_is_so_large_that_reading_it_costs_memory() -> None:
    asked: list[int] = []

    def piece(length: int, offset: int) -> bytes:
        asked.append(length)
        return changed(row(2, 5), "<Q", 1 << 30)[offset : offset + length]

    found = read_sections(piece, 1 << 40, (".modinfo",))
    assert found == Unknown("it is cut short: .modinfo is not whole")
    assert max(asked) <= 1 << 22


@given(st.data())
def test_a_damaged_file_never_stops_the_reading(data: st.DataObject) -> None:
    raw = bytearray(FILE)
    for place in data.draw(st.lists(st.integers(6, len(raw) - 1), max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    assert isinstance(sections(bytes(raw[:cut]), ".modinfo", ".note"), dict | Unknown)


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic_are_an_answer(tail: bytes) -> None:
    assert isinstance(sections(b"\x7fELF\x02\x01" + tail, ".modinfo"), dict | Unknown)


@given(
    st.dictionaries(
        st.text("abc.", min_size=1).map(lambda name: f".{name}"),
        st.binary(max_size=40),
        max_size=6,
    )
)
def test_what_was_written_is_read_back(content: dict[str, bytes]) -> None:
    assert sections(elf64(content), *content) == content


def test_modinfo_keeps_the_values_of_each_key_in_their_order() -> None:
    assert parse_modinfo(b"\0firmware=b\0firmware=a=1\0\0noise\0name=\xff\0version=") == {
        "firmware": ("b", "a=1"),
        "name": ("\ufffd",),
        "version": ("",),
    }


def test_parameters_are_named_once_with_or_without_a_text() -> None:
    modinfo = b"parm=b:text: more\0parmtype=b:int\0parmtype=a:bool\0"  # codespell:ignore parm
    words = parse_modinfo(modinfo)
    assert parse_parameters(words) == ("a", "b")
    assert parse_parameters({}) == ()


@given(st.binary(max_size=200))
def test_any_modinfo_is_an_answer(raw: bytes) -> None:
    assert isinstance(parse_parameters(parse_modinfo(raw)), tuple)


@pytest.mark.parametrize(
    ("notes", "answer"),
    [
        (b"", ""),
        (note(b"\x01\xab"), "01ab"),
        (note(b"x", owner=b"Linux\0") + note(b"\x02"), "02"),
        (note(b"x", kind=1) + note(b"\x03"), "03"),
        (note(b"x", owner=b"Xen\0"), ""),
        (note(b""), ""),
    ],
)
def test_a_build_id_is_found_among_the_notes(notes: bytes, answer: str) -> None:
    assert parse_build_id(notes) == answer


@pytest.mark.parametrize("kept", [1, 11, 12, 15, 16, 35])
def test_a_note_that_is_cut_short_is_unknown(kept: int) -> None:
    assert parse_build_id(note(b"i" * 20)[:kept]) == Unknown("its notes are cut short")


def test_a_note_that_claims_more_than_there_is_is_unknown() -> None:
    hostile = struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 3)
    assert parse_build_id(hostile) == Unknown("its notes are cut short")


@given(st.binary(max_size=120))
def test_any_notes_are_an_answer(raw: bytes) -> None:
    assert isinstance(parse_build_id(raw), str | Unknown)
