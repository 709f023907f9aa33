"""Unified kernel images: the sections of a PE file, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.boot_hosts import image_parts
from trialboot.core.facts import Unknown
from trialboot.core.uki import Section, UnifiedImage, parse_image, parse_sections

LINUX = {".linux": Section(1024, 6)}
OS_RELEASE = b'PRETTY_NAME="Debian 13"\nID=debian\nVERSION_ID="13"\nEMPTY=\n# NAME=x\n'


def sections(raw: bytes) -> dict[str, Section]:
    found = parse_sections(raw, len(raw))
    assert isinstance(found, dict), found
    return found


def refused(raw: bytes, size: int | None = None) -> str:
    found = parse_sections(raw, len(raw) if size is None else size)
    assert isinstance(found, Unknown), found
    return found.why


def image(**texts: bytes) -> UnifiedImage | Unknown:
    given_texts = {"command_line": b"", "os_release": b"", "uname": b"", **texts}
    return parse_image(LINUX, **given_texts)


def why(**texts: bytes) -> str:
    found = image(**texts)
    assert isinstance(found, Unknown), found
    return found.why


def test_sections_are_found_by_their_names() -> None:
    raw = image_parts(text=b"code", linux=b"kernel", initrd=b"i" * 600, cmdline=b"ro")
    found = sections(raw)
    assert set(found) == {".linux", ".initrd", ".cmdline"}
    place = found[".initrd"]
    assert raw[place.offset : place.offset + place.size] == b"i" * 600


def test_an_image_says_what_it_boots_and_how_it_sorts() -> None:
    found = image(
        command_line=b" root=UUID=a ro\n\0\0", os_release=OS_RELEASE, uname=b"6.12.1-amd64"
    )
    assert found == UnifiedImage(
        linux=LINUX[".linux"],
        initrd=None,
        command_line="root=UUID=a ro",
        release="6.12.1-amd64",
        title="Debian 13",
        version="13",
        sort_key="debian",
    )


def test_an_image_of_a_version_of_its_own_sorts_by_that() -> None:
    told = b"IMAGE_ID='img'\nID=debian\nIMAGE_VERSION=9\nVERSION=1\n"
    found = image(os_release=told)
    assert isinstance(found, UnifiedImage)
    assert (found.title, found.version, found.sort_key) == ("img", "9", "img")


@pytest.mark.parametrize(
    ("texts", "because"),
    [
        ({"command_line": b"a\x01b"}, "control characters"),
        ({"command_line": b"a\nb"}, "control characters"),
        ({"command_line": b"\xff"}, "no UTF-8"),
        ({"uname": b"\xff"}, "no UTF-8"),
        ({"uname": b"../x"}, "no kernel release"),
        ({"os_release": b"\xff"}, ".osrel is no UTF-8"),
    ],
)
def test_odd_texts_are_refused(texts: dict[str, bytes], because: str) -> None:
    assert because in why(**texts)


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("profile", "profiles"),
        ("ucode", "microcode"),
        ("dtb", "device tree"),
        ("pcrsig", "TPM"),
    ],
)
def test_what_changes_the_boot_and_is_not_read_is_refused(name: str, because: str) -> None:
    raw = image_parts(linux=b"kernel", **{name: b"x"})
    found = parse_image(sections(raw), b"", b"", b"")
    assert isinstance(found, Unknown)
    assert because in found.why


def test_an_image_without_a_kernel_boots_nothing() -> None:
    found = parse_image({}, b"", b"", b"")
    assert isinstance(found, Unknown)
    assert found.why == "it holds no kernel"


RAW = image_parts(linux=b"kernel")


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"", "no PE"),
        (b"MZ", "no PE"),
        (RAW[:0x44], "no PE"),
        (RAW.replace(b"MZ", b"ZM", 1), "no PE"),
        (RAW.replace(b"PE\0\0\x64\x86", b"PE\0\0\x64\xaa"), "another architecture"),
        (RAW[: RAW.index(b".linux") + 20], "cut off"),
        (RAW.replace(b"\x64\x86\x01\0", b"\x64\x86\0\0"), "cut off"),
        (RAW.replace(b"\x64\x86\x01\0", b"\x64\x86\x61\0"), "cut off"),
        (RAW[:1024], "does not lie in the file"),
        (image_parts(linux=b""), "does not lie in the file"),
        (
            image_parts(linux=b"a", linu2=b"b").replace(b".linu2", b".linux"),
            "two sections .linux",
        ),
        (RAW.replace(b".linux\0\0\x06\0\0\0", b".linux\0\0\x01\x02\0\0"), "does not lie"),
    ],
)
def test_a_damaged_file_is_refused(raw: bytes, because: str) -> None:
    assert because in refused(raw)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: RAW[:0x80] + tail))
def test_any_bytes_have_sections_inside_the_file_or_none(raw: bytes) -> None:
    found = parse_sections(raw, len(raw))
    if isinstance(found, dict):
        assert all(s.offset + s.size <= len(raw) for s in found.values())


@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    raw = RAW[:at] + bytes([value]) + RAW[at + 1 :]
    found = parse_sections(raw, len(raw))
    if isinstance(found, dict):
        assert isinstance(parse_image(found, b"", b"", b""), UnifiedImage | Unknown)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=30))
def test_any_texts_are_read_or_refused(line: bytes, told: bytes, uname: bytes) -> None:
    found = image(command_line=line, os_release=told, uname=uname)
    if isinstance(found, UnifiedImage):
        assert found.command_line == found.command_line.strip()
