"""Headers of rpm packages, whole and damaged."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Package, Unknown
from trialboot.core.rpmheader import parse_header

STRING = 6
INT32 = 4
NAME, VERSION, RELEASE, EPOCH, ARCHITECTURE, SUMMARY = 1000, 1001, 1002, 1003, 1022, 1004

Entry = tuple[int, int, int, bytes]
KERNEL: tuple[Entry, ...] = (
    (NAME, STRING, 1, b"kernel-core\0"),
    (VERSION, STRING, 1, b"6.12.0\0"),
    (RELEASE, STRING, 1, b"55.el10\0"),
    (SUMMARY, 9, 1, b"The kernel\0"),
    (ARCHITECTURE, STRING, 1, b"x86_64\0"),
)


def header(*entries: Entry, length: int | None = None, count: int | None = None) -> bytes:
    """Put a header together as rpm's headerExport does, without its immutable region."""
    index, store = b"", b""
    for tag, kind, values, raw in entries:
        store += b"\0" * (-len(store) % 4)
        index += struct.pack(">IIII", tag, kind, len(store), values)
        store += raw
    counts = (len(entries) if count is None else count, len(store) if length is None else length)
    return struct.pack(">II", *counts) + index + store


def with_entry(entry: Entry) -> bytes:
    return header(*(old for old in KERNEL if old[0] != entry[0]), entry)


def test_a_package_says_who_it_is() -> None:
    assert parse_header(header(*KERNEL)) == Package(
        name="kernel-core", version="6.12.0-55.el10", architecture="x86_64"
    )


@pytest.mark.parametrize(
    ("epoch", "version"), [(0, "6.12.0-55.el10"), (2, "2:6.12.0-55.el10"), (2**32 - 1, None)]
)
def test_an_epoch_is_told_where_it_counts(epoch: int, version: str | None) -> None:
    found = parse_header(with_entry((EPOCH, INT32, 1, struct.pack(">I", epoch))))
    assert isinstance(found, Package)
    assert found.version == (version or "4294967295:6.12.0-55.el10")


def test_what_has_no_architecture_is_still_named() -> None:
    key = parse_header(header(*(entry for entry in KERNEL if entry[0] != ARCHITECTURE)))
    assert isinstance(key, Package)
    assert key.architecture == ""


@pytest.mark.parametrize("tag", [NAME, VERSION, RELEASE])
def test_a_package_without_name_version_or_release_is_none(tag: int) -> None:
    without = header(*(entry for entry in KERNEL if entry[0] != tag))
    assert parse_header(without) == Unknown("an rpm header has no name, version or release")
    assert parse_header(with_entry((tag, STRING, 1, b"\0"))) == Unknown(
        "an rpm header has no name, version or release"
    )


@pytest.mark.parametrize(
    "entry",
    [
        (NAME, STRING, 2, b"a\0b\0"),
        (NAME, STRING, 0, b"a\0"),
        (NAME, 9, 1, b"a\0"),
        (NAME, STRING, 1, b"no end"),
        (NAME, STRING, 1, b"a" * 2000 + b"\0"),
        (EPOCH, INT32, 1, b"\0\0"),
    ],
)
def test_an_entry_that_is_not_what_rpm_writes_is_unknown(entry: Entry) -> None:
    tag = entry[0]
    assert parse_header(with_entry(entry)) == Unknown(f"an rpm header's tag {tag} cannot be read")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 64,
        header(*KERNEL)[:-1],
        header(*KERNEL, length=1 << 31),
        header(*KERNEL, count=1 << 16) + b"\0" * (1 << 21),
    ],
)
def test_what_is_no_whole_header_is_unknown(raw: bytes) -> None:
    assert isinstance(parse_header(raw), Unknown)


def test_bytes_that_are_no_text_are_marked() -> None:
    found = parse_header(with_entry((NAME, STRING, 1, b"caf\xe9\0")))
    assert isinstance(found, Package)
    assert found.name == "caf\N{REPLACEMENT CHARACTER}"


@given(st.data())
def test_a_damaged_header_never_stops_the_reading(data: st.DataObject) -> None:
    raw = bytearray(header(*KERNEL))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    assert isinstance(parse_header(bytes(raw[:cut])), Package | Unknown)


@given(st.binary(max_size=400))
def test_any_bytes_give_a_package_or_unknown(raw: bytes) -> None:
    assert isinstance(parse_header(raw), Package | Unknown)
