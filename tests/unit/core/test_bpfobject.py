"""The ELF patch: Cilium's traits become what libbpf takes, and no bytes at all break it."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bpf.objects import build
from tests.fakes.module_files import elf64
from trialboot.core import bpfobject
from trialboot.core.bpfobject import patched

CILIUM = build("cilium")
PLAIN = build("set_retval")
MACHINE, KIND = 18, 16


def with_half_word(at: int, value: int) -> bytes:
    raw = bytearray(CILIUM)
    struct.pack_into("<H", raw, at, value)
    return bytes(raw)


def test_an_object_without_such_traits_stays_as_it_is() -> None:
    assert patched(PLAIN) == PLAIN


def test_the_patch_keeps_the_length_and_the_instructions() -> None:
    new = patched(CILIUM)
    assert len(new) == len(CILIUM)
    changed = [at for at in range(len(new)) if new[at] != CILIUM[at]]
    # A pinning's type, two symbols made global, two initial values that name a function.
    assert 3 <= len(changed) <= 20


def test_a_patched_object_needs_no_patch() -> None:
    once = patched(CILIUM)
    assert patched(once) == once


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is no little-endian ELF64 file"),
        (b"\x7fELF\x01\x01" + bytes(100), "it is no little-endian ELF64 file"),
        (b"\x7fELF\x02\x02" + bytes(100), "it is no little-endian ELF64 file"),
        (with_half_word(MACHINE, 62), "it is no object of eBPF"),
        (with_half_word(KIND, 2), "it is no object of eBPF"),
        (with_half_word(58, 40), "its sections are described by 40 bytes, not 64"),
        (elf64({".text": b"code"}), "it is no object of eBPF"),
        (CILIUM[:-200], "cut short"),
        (CILIUM[:80], "cut short"),
    ],
)
def test_what_is_no_whole_object_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        patched(raw)


@given(st.binary(max_size=4096))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    with suppress(ValueError):
        assert len(patched(raw)) == len(raw)


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_object_is_patched_or_refused(data: st.DataObject) -> None:
    raw = bytearray(CILIUM)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 4))
        struct.pack_into("<I", raw, at, data.draw(st.integers(0, 2**32 - 1)))
    with suppress(ValueError):
        assert len(patched(bytes(raw))) == len(raw)


# --- maps that are pinned otherwise --------------------------------------------------------------

MAGIC = b"\x9f\xeb\x01"
BY_NAME = 1


def btf_of(content: bytearray) -> tuple[list[bpfobject._Type], list[int]]:
    """Give the types of an object, and the places of all members called `pinning`."""
    section = next(
        s for s in bpfobject._sections(content) if content[s.offset : s.offset + 3] == MAGIC
    )
    types, strings = bpfobject._types(content, section)
    return types, list(bpfobject._pinning_members(content, types, strings))


def pinnings(content: bytearray) -> list[int | None]:
    types, members = btf_of(content)
    return [bpfobject._number(content, types, member) for member in members]


def all_foreign() -> bytearray:
    """Cilium's object, with every map pinned as only Cilium's loader knows."""
    content = bytearray(CILIUM)
    types, members = btf_of(content)
    values = [bpfobject._number(content, types, member) for member in members]
    foreign = next(m for m, v in zip(members, values, strict=True) if v not in (0, 1))
    for member in members:
        content[member + 4 : member + 8] = CILIUM[foreign + 4 : foreign + 8]
    return content


def test_the_test_object_is_pinned_in_both_ways() -> None:
    assert sorted(map(str, pinnings(bytearray(CILIUM)))) == ["1", "16"]
    assert pinnings(bytearray(patched(CILIUM))) == [BY_NAME, BY_NAME]


def test_without_a_map_that_is_pinned_by_name_any_such_number_does() -> None:
    assert pinnings(bytearray(patched(bytes(all_foreign()))))[0] in (0, 1)


def test_an_object_that_has_no_such_number_is_refused() -> None:
    content = all_foreign()
    types, _ = btf_of(content)
    for kind in types:
        if kind.kind == bpfobject._ARRAY:
            at = kind.at + bpfobject._BTF_TYPE.size + 8
            if content[at : at + 4] in (struct.pack("<I", 0), struct.pack("<I", 1)):
                content[at : at + 4] = struct.pack("<I", 7)
    with pytest.raises(ValueError, match="pinned in a way that libbpf does not know"):
        patched(bytes(content))


def test_a_pinning_that_is_no_number_is_left_alone() -> None:
    content = bytearray(CILIUM)
    types, members = btf_of(content)
    plain = next(
        number
        for number, kind in enumerate(types)
        if kind.kind == bpfobject._POINTER
        and (kind.third >= len(types) or types[kind.third].kind != bpfobject._ARRAY)
    )
    for member in members:
        content[member + 4 : member + 8] = struct.pack("<I", plain)
    assert pinnings(content) == [None, None]
    assert pinnings(bytearray(patched(bytes(content)))) == [None, None]


def test_a_btf_that_does_not_begin_as_one_is_refused() -> None:
    broken = bytes(CILIUM).replace(MAGIC, b"\0\0\0")
    with pytest.raises(ValueError, match="does not begin as BTF does"):
        patched(broken)


def test_a_btf_that_is_cut_short_is_refused() -> None:
    content = bytearray(CILIUM)
    # struct btf_header: type_len is its fourth number of 32 bits (include/uapi/linux/btf.h).
    struct.pack_into("<I", content, content.index(MAGIC) + 12, len(content))
    with pytest.raises(ValueError, match="cut short"):
        patched(bytes(content))


def test_a_type_of_a_kind_that_is_not_known_is_refused() -> None:
    content = bytearray(CILIUM)
    types, _ = btf_of(content)
    content[types[1].at + 7] = 31
    with pytest.raises(ValueError, match="kind 31, which is not known"):
        patched(bytes(content))


# --- sections and initial values -----------------------------------------------------------------


def test_a_section_that_ends_behind_the_file_is_refused() -> None:
    content = bytearray(CILIUM)
    # e_shoff and the sh_size of the section behind the first, the null one (elf(5)).
    (sections,) = struct.unpack_from("<Q", content, 0x28)
    struct.pack_into("<Q", content, sections + 64 + 0x20, len(content))
    with pytest.raises(ValueError, match="a section is not whole"):
        patched(bytes(content))


def test_an_initial_value_that_is_no_functions_place_is_left_alone() -> None:
    content = bytearray(CILIUM)
    sections = bpfobject._sections(content)
    table = next(section for section in sections if section.name == ".rel.maps")
    maps = sections[table.info]
    entries = range(table.offset, table.offset + table.size, bpfobject._RELOCATION.size)
    for at in entries:
        place, _ = bpfobject._RELOCATION.unpack_from(content, at)
        struct.pack_into("<Q", content, maps.offset + place, 1)
    new = patched(bytes(content))
    assert new[table.offset : table.offset + table.size] == bytes(
        content[table.offset : table.offset + table.size]
    )
