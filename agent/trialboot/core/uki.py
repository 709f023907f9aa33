"""Unified kernel images: a PE file with kernel, initrd and command line in sections of its own.

UAPI.5, https://uapi-group.org/specifications/specs/unified_kernel_image/, and the PE format of
Microsoft («PE Format», sections «COFF File Header» and «Section Table»). Strict: an image that
holds what could change the boot and is not read here is Unknown.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Unknown

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of an image in which all its headers lie."""
TEXT_LIMIT: Final = 64 * 1024
"""Bytes of a section with text that are read at most."""

_COFF: Final = struct.Struct("<HHIIIHH")
_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
_POINTER: Final = 0x3C
_X64: Final = 0x8664
_SECTIONS_AT_MOST: Final = 96
"""The Windows loader's limit («COFF File Header»); ukify makes about fifteen."""
_OURS: Final = frozenset({".linux", ".initrd", ".cmdline", ".osrel", ".uname"})
_ODD: Final[Mapping[str, str]] = {
    ".profile": "several profiles in one image are not read yet",
    ".ucode": "microcode in a section of its own is not read yet",
    ".dtb": "a device tree is not read",
    ".pcrsig": "what it signs for a TPM would not fit a kept copy of its parts",
}
"""Sections that change the boot, and why an image with them is not understood."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_RELEASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}", re.ASCII)
_OS_LINE: Final = re.compile(r"\s*([A-Z0-9_]+)=(.*?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Section:
    """Where a part of the image lies in its file, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedImage:
    """What an image would boot, and how systemd-boot sorts and calls it."""

    linux: Section
    initrd: Section | None
    """None where the image brings no initrd."""
    command_line: str
    release: str = ""
    """`.uname`: empty where the image does not say it."""
    title: str = ""
    version: str = ""
    sort_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One file below `EFI/Linux`."""

    name: str
    folder: str
    """Where the file system is mounted that holds it."""
    image: UnifiedImage | Unknown


def parse_sections(head: bytes, size: int) -> dict[str, Section] | Unknown:
    """Find the sections of a PE file of so many bytes by its first `HEAD_LIMIT` bytes."""
    start = int.from_bytes(head[_POINTER : _POINTER + 4], "little")
    coff = head[start + 4 : start + 4 + _COFF.size]
    if head[:2] != b"MZ" or head[start : start + 4] != b"PE\0\0" or len(coff) < _COFF.size:
        return Unknown("it is no PE file")
    machine, count, _, _, _, optional, _ = _COFF.unpack(coff)
    if machine != _X64:
        return Unknown("it is made for another architecture than x86-64")
    table = head[start + 4 + _COFF.size + optional :][: count * _SECTION.size]
    if not 0 < count <= _SECTIONS_AT_MOST or len(table) < count * _SECTION.size:
        return Unknown("its section table is cut off")
    return _table(table, size)


def parse_image(
    sections: Mapping[str, Section], command_line: bytes, os_release: bytes, uname: bytes
) -> UnifiedImage | Unknown:
    """Say what an image boots by its sections and the content of three of them."""
    odd = next((why for name, why in _ODD.items() if name in sections), "")
    if odd:
        return Unknown(odd)
    if ".linux" not in sections:
        return Unknown("it holds no kernel")
    line, release, told = _text(command_line), _text(uname), _os_release(os_release)
    for part in (line, release):
        if isinstance(part, Unknown):
            return part
    if isinstance(told, Unknown):
        return told
    if release and not _RELEASE.fullmatch(str(release)):
        return Unknown("its .uname is no kernel release")
    names = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
    return UnifiedImage(
        linux=sections[".linux"],
        initrd=sections.get(".initrd"),
        command_line=str(line),
        release=str(release),
        title=_first(told, "PRETTY_NAME", "IMAGE_ID", "NAME", "ID"),
        version=_first(told, *names),
        sort_key=_first(told, "IMAGE_ID", "ID"),
    )


def _table(table: bytes, size: int) -> dict[str, Section] | Unknown:
    found: dict[str, Section] = {}
    for raw_name, memory, _, raw, offset, *_ in _SECTION.iter_unpack(table):
        name = raw_name.rstrip(b"\0").decode("ascii", "replace")
        if name not in _OURS and name not in _ODD:
            continue
        if name in found:
            return Unknown(f"it has two sections {name}")
        # What systemd-stub takes is the size in memory; the file may pad it, never lack any of it.
        if not 0 < memory <= raw or offset + raw > size:
            return Unknown(f"its section {name} does not lie in the file")
        found[name] = Section(offset, memory)
    return found


def _text(raw: bytes) -> str | Unknown:
    """Read a line of text as systemd-stub does: up to a NUL, without blanks around it."""
    try:
        text = raw.partition(b"\0")[0].decode("utf-8").strip()
    except UnicodeDecodeError:
        return Unknown("a text in it is no UTF-8")
    return Unknown("a text in it has control characters") if _CONTROL.search(text) else text


def _os_release(raw: bytes) -> dict[str, str] | Unknown:
    """Read os-release as systemd-boot does (`line_get_key_value`): without shell's escapes."""
    try:
        text = raw.partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError:
        return Unknown("its .osrel is no UTF-8")
    found = {}
    for line in re.split(r"[\r\n]", text):
        pair = _OS_LINE.fullmatch(line)
        if pair and pair[2]:
            found[pair[1]] = _unquoted(pair[2])
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _first(told: Mapping[str, str], *names: str) -> str:
    """Take the first name that is set (`bootspec_pick_name_version_sort_key`)."""
    return next((told[name] for name in names if name in told), "")
