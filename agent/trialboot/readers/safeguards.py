"""Reads what stands around a trial: GRUB's own settings, lockups, room, units, kexec, Secure Boot.

Each is read apart: what cannot be read is Unknown by itself, and hides nothing else.
"""

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from trialboot.bootfiles import GRUB_CFG
from trialboot.core.examined import GrubFiles, Room
from trialboot.core.facts import Unknown
from trialboot.errors import HostError
from trialboot.host import Host

OUR_SCRIPT: Final = "/etc/grub.d/09_trialboot"
SETTINGS: Final = "/etc/default/grub.d"
OUR_SETTINGS: Final = "trialboot.cfg"
_UNITS: Final = "/etc/systemd/system"
_RESCUE: Final = (
    "emergency.target.wants/trialboot-standstill.service",
    "rescue.target.wants/trialboot-standstill.service",
    "sysinit.target.wants/trialboot-late-start.timer",
)
_GATE: Final = "boot-complete.target.requires/trialboot-boot-check.service"
_LOCKUPS: Final = ("softlockup_panic", "hung_task_panic")
_SECTION: Final = re.compile(r"^### (BEGIN|END) (\S+) ###$", re.MULTILINE)
"""What grub-mkconfig writes around the output of each script."""
_ENTRY: Final = re.compile(r"^[ \t]*(?:menuentry|submenu)\b", re.MULTILINE)
_WAITS: Final = re.compile(r"^[ \t]*set timeout=-1$", re.MULTILINE)
_PASSWORD: Final = re.compile(r"^[ \t]*set superusers=[\"']?[^\"'\s]", re.MULTILINE)
_LINUX_ENTRY: Final = re.compile(r"^[ \t]*menuentry\b.*--class gnu-linux\b.*$", re.MULTILINE)
_SETS_DEFAULT: Final = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?:GRUB_DEFAULT=|GRUB_SAVEDEFAULT=[\"']?true\b)", re.MULTILINE
)
_LOADS_KEXEC: Final = re.compile(r"^[ \t]*LOAD_KEXEC=[\"']?(?:true|yes|1)\b", re.MULTILINE)
_KEPT_BY_APT: Final = re.compile(r'"\^linux-\.\*-(\S+)\$"')
_SECURE_BOOT: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def read_grub_files(host: Host) -> GrubFiles | Unknown:
    """Read what of GRUB's own configuration may come between us and the menu."""
    try:
        text = host.read_text(GRUB_CFG)
        return GrubFiles(
            script=os.access(host.path(OUR_SCRIPT), os.X_OK),
            before_ours=entries_before_ours(text),
            other_default=tuple(_other_default(host)),
            waits=_WAITS.search(text) is not None,
            password=asks_for_password(text),
        )
    except HostError as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(f"{SETTINGS}: {error.strerror}")


def entries_before_ours(text: str) -> tuple[str, ...]:
    """Name the scripts of a generated grub.cfg that sort before ours and write menu entries."""
    marks = list(_SECTION.finditer(text))
    found = []
    for begin, end in pairwise(marks):
        script = begin[2]
        a_section = begin[1] == "BEGIN" and (end[1], end[2]) == ("END", script)
        if a_section and script < OUR_SCRIPT and _ENTRY.search(text, begin.end(), end.start()):
            found.append(script)
    return tuple(found)


def asks_for_password(text: str) -> bool:
    """Tell whether a menu has a password that the host's own Linux entries are not free of."""
    if not _PASSWORD.search(text):
        return False
    own = [line for line in _LINUX_ENTRY.findall(text) if "trialboot-known-good" not in line]
    return any("--unrestricted" not in line for line in own)


def _other_default(host: Host) -> Iterator[str]:
    """Name the files after ours, as the shell sorts them, that take the default from us."""
    folder = host.path(SETTINGS)
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.cfg")):
        shown = f"{SETTINGS}/{path.name}"
        if path.name > OUR_SETTINGS and _SETS_DEFAULT.search(host.read_text(shown)):
            yield shown


def read_lockups(host: Host) -> tuple[tuple[str, int], ...]:
    """Read what this kernel does about lockups; a setting that it does not have is left out."""
    found = []
    for name in _LOCKUPS:
        text = _text(host, f"/proc/sys/kernel/{name}")
        if text.isdecimal():
            found.append((name, int(text)))
    return tuple(found)


def read_room(host: Host, path: str, needed: int = 0) -> Room | Unknown:
    """Ask how much root may still write where a path lies, or would lie; in bytes."""
    place = host.path(path)
    while not place.exists() and place != host.root:
        place = place.parent
    try:
        status = os.statvfs(place)
    except OSError as error:
        return Unknown(f"{path}: {error.strerror}")
    return Room(free=status.f_bfree * status.f_frsize, needed=needed)


def read_rescue(host: Host) -> tuple[str, ...]:
    """Name the links that let units act in emergency and rescue mode, and that are missing."""
    return tuple(link for link in _RESCUE if not _is_linked(host, link))


def read_gate(host: Host) -> bool:
    """Tell whether boot-complete.target waits for the verdict."""
    return _is_linked(host, _GATE)


def _is_linked(host: Host, link: str) -> bool:
    path = host.path(f"{_UNITS}/{link}")
    # Links name paths of the host: below another root they dangle.
    return path.is_symlink() or path.exists()


def read_kept_by_apt(host: Host, folder: str, file: str) -> str | Unknown | None:
    """Name the kernel release whose packages apt is told to keep; None on a host without apt."""
    if not host.exists(folder):
        return None
    if not host.exists(file):
        return ""
    try:
        found = _KEPT_BY_APT.search(host.read_text(file))
    except HostError as error:
        return Unknown(str(error))
    return re.sub(r"\[(.)\]", r"\1", found[1]) if found else ""


def read_kexec(host: Host) -> tuple[str, ...]:
    """Say why a reboot may go past the boot loader."""
    told = []
    if _text(host, "/sys/kernel/kexec_loaded") == "1":
        told.append("a kernel is staged by kexec")
    if _LOADS_KEXEC.search(_text(host, "/etc/default/kexec")):
        told.append("LOAD_KEXEC is on in /etc/default/kexec")
    return tuple(told)


def read_secure_boot(host: Host) -> bool | Unknown | None:
    """Read whether Secure Boot is on; None without UEFI.

    One byte behind the four of the attributes (UEFI specification 2.10, 3.3; efivarfs).
    """
    if not host.exists("/sys/firmware/efi"):
        return None
    try:
        content = host.path(_SECURE_BOOT).read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        return Unknown(f"SecureBoot: {error.strerror}")
    return content[4] == 1 if len(content) == 5 else Unknown("SecureBoot is not one byte")  # noqa: PLR2004


def read_rpm(host: Host) -> bool:
    """Tell a host whose packages are rpms."""
    there = any(host.exists(path) for path in ("/usr/lib/sysimage/rpm", "/var/lib/rpm"))
    return there and not host.exists("/var/lib/dpkg/status")


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:  # not there: this kernel, or this host, has no such thing
        return ""
