"""The reading side of newc: where members lie, and what is no archive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.core.newc import HEADER, Member, archive, member_at, name_of

FILES = st.dictionaries(
    st.text("abc", min_size=1, max_size=9), st.tuples(st.just(0o644), st.binary(max_size=40))
)


def members(raw: bytes) -> list[tuple[str, bytes]]:
    found, at = [], 0
    while isinstance(member := member_at(raw[at : at + HEADER], at), Member):
        name = name_of(raw[member.name_at : member.name_at + member.name_size])
        found.append((name, raw[member.content_at : member.content_at + member.size]))
        at = member.next_at
    return found


@given(FILES)
def test_what_was_packed_is_found_again(files: dict[str, tuple[int, bytes]]) -> None:
    packed = members(archive(files))
    assert packed[:-1] == [(name, content) for name, (_, content) in sorted(files.items())]
    assert packed[-1] == ("TRAILER!!!", b"")


def test_folders_that_the_initrd_before_it_has_as_links_are_not_packed() -> None:
    files = {"usr/lib/dracut/hooks/a.sh": (0o755, b"x"), "scripts/b": (0o755, b"y")}
    assert members(archive(files))[:-1] == [
        ("scripts", b""),
        ("scripts/b", b"y"),
        ("usr/lib/dracut/hooks/a.sh", b"x"),
    ]


def header(
    magic: bytes = b"070701", size: bytes = b"00000001", name: bytes = b"00000002"
) -> bytes:
    zero = b"00000000"
    return magic + zero * 6 + size + zero * 4 + name + zero


def test_offsets_count_from_the_start_of_the_initrd() -> None:
    assert member_at(header(magic=b"070702"), 512) == Member(
        name_at=622, name_size=2, content_at=624, size=1
    )


@pytest.mark.parametrize("raw", [b"", b"\0" * HEADER, b"\x28\xb5\x2f\xfd" * 40, b"07070"])
def test_what_has_no_magic_is_no_archive(raw: bytes) -> None:
    assert member_at(raw, 0) is None


@pytest.mark.parametrize(
    "raw",
    [
        header()[:-1],
        header(size=b"0000000g"),
        header(size=b"-0000001"),
        header(name=b"00000000"),
        header(name=b"00001001"),
        header(name=b"ffffffff"),
    ],
)
def test_a_damaged_header_is_told_with_its_place(raw: bytes) -> None:
    found = member_at(raw, 512)
    assert isinstance(found, Unknown)
    assert "byte 512" in found.why


@given(st.binary(max_size=120), st.integers(0, 1 << 40))
def test_any_bytes_are_a_member_or_none_or_damaged(raw: bytes, at: int) -> None:
    assert isinstance(member_at(b"070701" + raw, at), Member | Unknown)
    assert isinstance(name_of(raw), str)
