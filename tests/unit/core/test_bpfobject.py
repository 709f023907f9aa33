"""The ELF patch: Cilium's traits become what libbpf takes, and no bytes at all break it."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bpf.objects import build
from tests.fakes.module_files import elf64
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
