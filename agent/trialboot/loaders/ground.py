"""Reads what the protection of a host stands on: file system, device, journal and watchdogs."""

import errno
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot.bootfiles import host_path, read_menu
from trialboot.core.facts import Unknown
from trialboot.core.menu import MenuEntry, wanted_entry
from trialboot.core.protection import Ground
from trialboot.errors import HostError
from trialboot.host import Host

_CHECKPOINT: Final = 0x4004662B
"""EXT4_IOC_CHECKPOINT, _IOW('f', 43, __u32), since Linux 5.14 (fs/ext4/ext4.h)."""
_DRY_RUN: Final = 0x4
_MOUNT: Final = re.compile(
    r"\d+ \d+ (\d{1,9}:\d{1,9}) \S+ (\S+) [^\n]*? - (\S+) (?:\S* (\S+))?", re.ASCII
)
"""Device, place, file system, its own options; before the dash any number of optional fields."""
_SECTOR: Final = 512
WATCHDOG_IN_INITRD: Final = "/etc/trialboot/watchdog-in-initrd"
"""The operator's switch, which initrds are built by."""
_MANAGER: Final = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
_PROPERTY: Final = ("org.freedesktop.DBus.Properties", "Get")


def ground_of(host: Host, *, carrier: str, against_once: tuple[str, ...]) -> Ground:
    """Read what every loader's protection stands on, beside what carries its one-shot."""
    menu = read_menu(host)
    wanted = menu if isinstance(menu, Unknown) else wanted_entry(menu)
    entry = wanted if isinstance(wanted, Unknown) else wanted.entry
    return Ground(
        carrier=carrier,
        against_once=against_once,
        running=_running(host),
        candidate=entry if isinstance(entry, Unknown) else entry.arguments,
        watchdogs=watchdogs(host),
        watchdog_seconds=watchdog_seconds(host),
        early_watchdog=entry if isinstance(entry, Unknown) else _armed_by(host, entry),
    )


def _running(host: Host) -> str | Unknown:
    try:
        return host.read_text("/proc/cmdline").strip()
    except HostError as error:
        return Unknown(str(error))


def _armed_by(host: Host, entry: MenuEntry) -> bool | Unknown:
    place = host_path(host, entry.initrds[-1]) if entry.initrds else ""
    return place if isinstance(place, Unknown) else early_watchdog(host, place)


def settle(folder: Path, *, rehearse: bool = False) -> str:
    """Bring what fsync left in the journal of ext3/ext4 to its place. Gives a note if that failed.

    GRUB reads the file system without replaying its journal: a rename that is only in the journal
    would be invisible to GRUB after a power cut. On vfat and ext2 the fsync of file and folder has
    done it all. Where the kernel does not know the call, the file system itself checkpoints within
    a minute or so, and at unmount.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _CHECKPOINT, struct.pack("I", _DRY_RUN if rehearse else 0))
    except OSError as error:
        # ENODEV: there is no journal, so nothing waits in it. EPERM at a rehearsal: the snapshot
        # worker may not even ask; the pin worker, who writes, may.
        if error.errno == errno.ENODEV or (rehearse and error.errno == errno.EPERM):
            return ""
        return f"the journal below {folder} is not written through: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""


@dataclass(frozen=True, slots=True)
class Mount:
    """The mount that holds a path."""

    place: str
    file_system: str
    device: str
    """`major:minor`."""
    is_read_only: bool = False
    """The file system itself, that is: the sandbox of a unit makes only its mounts read-only."""


def mounts_of(host: Host) -> list[Mount] | Unknown:
    """Give all mounts, in the order in which they were made."""
    try:
        lines = host.read_text("/proc/self/mountinfo").splitlines()
    except HostError as error:
        return Unknown(str(error))
    return [mount for mount in map(_mount, lines) if mount]


def mount_of(host: Host, path: str) -> Mount | Unknown:
    """Find the mount that holds a path; of several at one place the last one covers the others."""
    mounts = mounts_of(host)
    if isinstance(mounts, Unknown):
        return mounts
    holding = [m for m in mounts if f"{path}/".startswith(m.place.rstrip("/") + "/")]
    if not holding:
        return Unknown(f"no mount holds {path}")
    return max(reversed(holding), key=lambda mount: len(mount.place))


def device_kind(host: Host, number: str) -> str | Unknown:
    """Say whether a block device is plain to GRUB (`partition`), or what stands between."""
    folder = host.path(f"/sys/dev/block/{number}")
    if not folder.exists():
        return Unknown(f"/sys/dev/block/{number} is not there")
    if (folder / "dm").exists():
        return _mapping(folder / "dm" / "uuid")
    # A partition of an array lies inside the array's own folder.
    if (folder / "md").exists() or (folder.resolve().parent / "md").exists():
        return "md"
    return "partition"


def block_size(host: Host, number: str) -> int:
    """Give the bytes of a block of the disk that a partition is on; 512 where it is not told."""
    disk = host.path(f"/sys/dev/block/{number}").resolve().parent
    try:
        return int((disk / "queue/logical_block_size").read_text("ascii"))
    except (OSError, ValueError):
        return _SECTOR


def udev_words(host: Host, number: str) -> dict[str, str] | Unknown:
    """Give what udev found out about a block device: its partition, its file system.

    The lines `E:NAME=VALUE` of /run/udev/data; systemd's own tools read them too
    (src/libsystemd/sd-device/sd-device.c of https://github.com/systemd/systemd).
    """
    try:
        lines = host.read_text(f"/run/udev/data/b{number}").splitlines()
    except HostError as error:
        return Unknown(str(error))
    pairs = (line[2:].partition("=") for line in lines if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def watchdogs(host: Host) -> tuple[str, ...] | Unknown:
    """Give the identity of each watchdog device."""
    try:
        found = sorted(host.path("/sys/class/watchdog").glob("*/identity"))
        return tuple(file.read_text("utf-8", "replace").strip() for file in found)
    except OSError as error:
        return Unknown(f"/sys/class/watchdog: {error.strerror}")


def watchdog_seconds(host: Host, name: str = "RuntimeWatchdogUSec") -> float | Unknown:
    """Ask systemd for its RuntimeWatchdogSec; 0 is off. `name` may be `RebootWatchdogUSec`."""
    interface = "org.freedesktop.systemd1.Manager"
    try:
        microseconds = host.call(*_MANAGER, *_PROPERTY, interface, name)
    except HostError as error:
        return Unknown(str(error))
    # All bits set stands for «never».
    return 0.0 if int(microseconds) == (1 << 64) - 1 else int(microseconds) / 1_000_000


def early_watchdog(host: Host, initrd: str) -> bool | Unknown:
    """Tell whether an initrd arms the watchdog: it was asked for, and the initrd made after that.

    `initrd` is a path of the host; empty where the boot has none.
    """
    try:
        asked = host.path(WATCHDOG_IN_INITRD).stat().st_mtime
        return bool(initrd) and host.path(initrd).stat().st_mtime >= asked
    except FileNotFoundError:
        return False
    except OSError as error:
        return Unknown(f"{initrd or WATCHDOG_IN_INITRD}: {error.strerror}")


def _mount(line: str) -> Mount | None:
    """Read a line of mountinfo (proc_pid_mountinfo(5)); None for what is none."""
    found = _MOUNT.match(line)
    if not found:
        return None
    device, place, file_system, own_options = found.groups()
    is_read_only = "ro" in (own_options or "").split(",")
    return Mount(place, file_system, device, is_read_only=is_read_only)


def _mapping(uuid: Path) -> str:
    try:
        prefix = uuid.read_text("utf-8", "replace").partition("-")[0].strip().lower()
    except OSError:
        prefix = ""
    return prefix or "device mapper"
