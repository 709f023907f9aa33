"""The kernel that runs: release, build, command line, boot id, start time, taint."""

import re
from typing import Final

from trialboot.core.facts import BootId, Kernel, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

IMAGE_HEAD: Final = 0x20000
"""Bytes of a kernel image within which x86's banner lies: a 16-bit offset plus 0x200."""

_BANNER_POINTER: Final = 0x20E
_RELEASE: Final = re.compile(r"^Linux version (\S+) ")


def read_kernel(host: Host) -> Kernel | Unknown:
    """Read `/proc`: nothing here needs a privilege."""
    try:
        return parse_kernel(
            version=host.read_text("/proc/version"),
            command_line=host.read_text("/proc/cmdline"),
            boot=host.read_text("/proc/sys/kernel/random/boot_id"),
            stat=host.read_text("/proc/stat"),
            taint=host.read_text("/proc/sys/kernel/tainted"),
        )
    except HostError as error:
        return Unknown(str(error))


def read_boot_id(host: Host) -> BootId:
    """Read the boot id alone. Raises `HostError`."""
    return BootId(host.read_text("/proc/sys/kernel/random/boot_id").strip())


def read_uptime(host: Host) -> float:
    """Give the seconds since the kernel started. Raises `HostError`."""
    return float(host.read_text("/proc/uptime").split()[0])


def parse_kernel(
    *, version: str, command_line: str, boot: str, stat: str, taint: str
) -> Kernel | Unknown:
    """Parse `/proc/version`, `cmdline`, `boot_id`, `stat` (its line btime) and `tainted`."""
    release = _RELEASE.match(version)
    if not release:
        return Unknown("/proc/version does not begin with «Linux version RELEASE»")
    started = re.search(r"^btime (\d+)$", stat, re.MULTILINE)
    if not started:
        return Unknown("/proc/stat has no line btime")
    return Kernel(
        release=release.group(1),
        version=version.strip(),
        command_line=command_line.strip(),
        boot=BootId(boot.strip()),
        taint=int(taint.strip() or 0),
        boot_time=int(started.group(1)),
    )


def parse_image_release(head: bytes) -> str | Unknown:
    """Give the release that a kernel image says it is.

    x86 boot protocol (Documentation/arch/x86/boot.rst): `HdrS` at 0x202, and at 0x20e the offset,
    less 0x200, of a NUL-terminated `RELEASE (builder) #1 ...`.
    """
    if head[0x202:0x206] != b"HdrS":
        return Unknown("not an x86 kernel image; other architectures are not understood yet")
    start = int.from_bytes(head[_BANNER_POINTER : _BANNER_POINTER + 2], "little") + 0x200
    banner = head[start : start + 256].partition(b"\0")[0].decode(errors="replace")
    release = banner.split(" ", 1)[0]
    return release or Unknown("the kernel image has no version banner")
