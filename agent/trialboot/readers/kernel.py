"""The kernel that runs: release, build, command line, boot id, start time, taint, build-id."""

import re
import struct
from contextlib import suppress
from typing import Final

from trialboot.core.facts import BootId, Kernel, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

IMAGE_HEAD: Final = 0x20000
"""Bytes of a kernel image within which x86's banner lies: a 16-bit offset plus 0x200."""

_BANNER_POINTER: Final = 0x20E
_LONGEST_BANNER: Final = 512
"""Bytes: release and build have 64 at most, the builder's name and host about as many each."""

_LONGEST_TEXT: Final = 16 << 10
"""Characters; COMMAND_LINE_SIZE is 2,048 on x86 and 4,096 at most elsewhere."""
_NOTES_AT_MOST: Final = 64 << 10
"""Bytes; the kernel's own notes have some hundred."""

_NOTE: Final = struct.Struct("<III")
_BUILD_ID: Final = 3
"""NT_GNU_BUILD_ID (elf(5))."""

_KEXEC: Final = 0xD
"""What kexec-tools and kexec_file_load(2) say they are (Documentation/arch/x86/boot.rst,
type_of_loader; arch/x86/kernel/kexec-bzimage64.c)."""
_LOADER: Final = re.compile(r"\d{1,9}", re.ASCII)

_UPTIME: Final = re.compile(r"\d{1,12}\.\d{1,9}", re.ASCII)
_RELEASE: Final = re.compile(r"^Linux version ([^\s/\0]{1,64}) ")
"""A release has 64 characters at most (UTS_LEN), and is the name of a folder."""
_BANNER: Final = re.compile(r"[^\s/\0]{1,64}(\s|$)")
_BUILD: Final = re.compile(r"(?:^|\s)(#\d.*)")


def read_kernel(host: Host) -> Kernel | Unknown:
    """Read `/proc` and `/sys/kernel`: nothing here needs a privilege."""
    try:
        return parse_kernel(
            version=host.read_text("/proc/version"),
            command_line=host.read_text("/proc/cmdline"),
            boot=host.read_text("/proc/sys/kernel/random/boot_id"),
            stat=host.read_text("/proc/stat"),
            taint=host.read_text("/proc/sys/kernel/tainted"),
            notes=_notes(host),
            kexec_loaded=_told(host, "/sys/kernel/kexec_loaded"),
            loader=_told(host, "/proc/sys/kernel/bootloader_type"),
        )
    except HostError as error:
        return Unknown(str(error))


def read_boot_id(host: Host) -> BootId:
    """Read the boot id alone. Raises `HostError`."""
    return BootId(host.read_text("/proc/sys/kernel/random/boot_id").strip())


def read_uptime(host: Host) -> float:
    """Give the seconds since the kernel started. Raises `HostError`."""
    found = _UPTIME.match(host.read_text("/proc/uptime"))
    if not found:
        raise HostError("/proc/uptime does not begin with a number of seconds")
    return float(found[0])


def parse_kernel(
    *,
    version: str,
    command_line: str,
    boot: str,
    stat: str,
    taint: str,
    notes: bytes = b"",
    kexec_loaded: str = "",
    loader: str = "",
) -> Kernel | Unknown:
    """Parse `/proc/version`, `cmdline`, `boot_id`, `stat` (its line btime) and `tainted`.

    `notes` and `kexec_loaded` are those of `/sys/kernel`, `loader` is
    `/proc/sys/kernel/bootloader_type`; empty where the kernel has none.
    """
    if max(map(len, (version, command_line, boot))) > _LONGEST_TEXT:
        return Unknown("/proc tells more of the kernel than any kernel does")
    release = _RELEASE.match(version)
    if not release:
        return Unknown("/proc/version does not begin with «Linux version RELEASE»")
    started = re.search(r"^btime (\d{1,18})$", stat, re.ASCII | re.MULTILINE)
    if not started:
        return Unknown("/proc/stat has no line btime")
    if not re.fullmatch(r"\d{0,20}", taint.strip(), re.ASCII):
        return Unknown("/proc/sys/kernel/tainted is no number")
    return Kernel(
        release=release.group(1),
        version=version.strip(),
        command_line=command_line.strip(),
        boot=BootId(boot.strip()),
        taint=int(taint.strip() or 0),
        boot_time=int(started.group(1)),
        build_id=parse_build_id(notes),
        kexec_staged=kexec_loaded.strip() == "1",
        by_kexec=parse_loader(loader) == _KEXEC,
    )


def parse_loader(text: str) -> int | None:
    """Give the kind of boot loader of `/proc/sys/kernel/bootloader_type`; None if none is told.

    x86 alone has the file: the loader's kind in all but the lowest four bits, which are its
    version (Documentation/admin-guide/sysctl/kernel.rst).
    """
    number = _LOADER.fullmatch(text.strip())
    return int(number[0]) >> 4 if number else None


def parse_build_id(notes: bytes) -> str:
    """Give the GNU build-id of ELF notes (elf(5), little-endian) in hex; empty if there is none.

    Each note is three u32 (length of the name, length of the content, type), then both, padded to
    four bytes.
    """
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name = at + _NOTE.size
        content = name + (name_size + 3) // 4 * 4
        at = content + (size + 3) // 4 * 4
        if kind == _BUILD_ID and notes[name : name + name_size] == b"GNU\0" and at <= len(notes):
            return notes[content : content + size].hex()
    return ""


def parse_build(version: str) -> str:
    """Give the build of `/proc/version` or of a banner: `#1 SMP ... Debian 6.1.1-1 (date)`.

    Two kernels of one release and another build are two kernels (UTS_VERSION of the kernel's
    scripts/mkcompile_h, 64 characters at most in both places). Empty where none is told.
    """
    build = _BUILD.search(version)
    return build.group(1).strip() if build else ""


def parse_image_banner(head: bytes) -> str | Unknown:
    """Give what a kernel image says it is: `RELEASE (builder) #1 SMP ...`.

    x86 boot protocol (Documentation/arch/x86/boot.rst): `HdrS` at 0x202, and at 0x20e the offset,
    less 0x200, of the NUL-terminated banner.
    """
    if head[0x202:0x206] != b"HdrS":
        return Unknown("not an x86 kernel image; other architectures are not understood yet")
    start = int.from_bytes(head[_BANNER_POINTER : _BANNER_POINTER + 2], "little") + 0x200
    banner = head[start : start + _LONGEST_BANNER].partition(b"\0")[0].decode(errors="replace")
    if not _BANNER.match(banner):
        return Unknown("the kernel image has no version banner")
    return banner.strip()


def _notes(host: Host) -> bytes:
    # A kernel without sysfs notes shows none, which is what is told then.
    with suppress(OSError), host.path("/sys/kernel/notes").open("rb") as file:
        return file.read(_NOTES_AT_MOST)
    return b""


def _told(host: Host, path: str) -> str:
    with suppress(HostError):  # not there: no kexec in this kernel, or another architecture
        return host.read_text(path)
    return ""
