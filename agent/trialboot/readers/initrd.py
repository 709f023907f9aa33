"""What an initrd holds and what it lacks: microcode at its start, and its age."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.newc import HEADER, Member, member_at, name_of
from trialboot.covered import modules_folder
from trialboot.errors import HostError
from trialboot.host import Host

_MICROCODE: Final = "kernel/x86/microcode/"
"""Where the kernel looks in the early archive (Documentation/arch/x86/microcode.rst)."""
_BYTES_LIMIT: Final = 64 * 1024 * 1024
_MEMBER_LIMIT: Final = 100_000
_PIECE: Final = 64 * 1024
_ALIGNMENT: Final = 4
_LISTS: Final = "/var/lib/dpkg/info"
_LISTED: Final = re.compile(
    r"(?:firmware-.*|linux-firmware.*|.*-microcode|initramfs-tools.*|dracut.*)\.list"
)
_CONFIGURATION: Final = ("/etc/modprobe.d", "/etc/initramfs-tools", "/etc/dracut.conf.d")
_REASONS: Final = 3


def read_microcode(host: Host, path: str) -> tuple[tuple[str, str], ...] | Unknown:
    """Give name and SHA-256 of each microcode file in the uncompressed archives at the start.

    Several such archives may follow one another; whatever is no archive ends them.
    """
    try:
        with host.path(path).open("rb") as file:
            return tuple(_Archives(file.fileno()).microcode().items())
    except OSError as error:
        return Unknown(f"{path}: {error.strerror}")
    except HostError as error:
        return Unknown(f"{path}: {error}")


def read_stale(host: Host, path: str, release: str) -> tuple[str, ...] | Unknown:
    """Name what an initrd is made from and older than, for people; nothing where it is not.

    Firmware files themselves are not asked, nor is the initrd's ctime: hard links change those.
    """
    try:
        made = host.path(path).stat().st_mtime_ns
        newer = list(_newer(host, release, made))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")
    more = [f"{len(newer) - _REASONS} more"] if len(newer) > _REASONS else []
    return (*newer[:_REASONS], *more)


def _newer(host: Host, release: str, made: int) -> Iterator[str]:
    """Name what changed after a time in nanoseconds: packages, modules, configuration."""
    for name in _listed(host):
        if host.path(f"{_LISTS}/{name}").stat().st_mtime_ns > made:
            yield f"the package {name.removesuffix('.list')}"
    dependencies = f"{modules_folder(host, release)}/modules.dep"
    if host.exists(dependencies) and host.path(dependencies).stat().st_mtime_ns > made:
        yield f"the modules of {release}"
    for folder in _CONFIGURATION:
        top = host.path(folder)
        for file in sorted(found for found in top.rglob("*") if found.is_file()):
            if file.stat().st_ctime_ns > made:
                yield f"{folder}/{file.relative_to(top)}"


def _listed(host: Host) -> list[str]:
    """Name the lists of files of the packages that end up in an initrd; a folder has thousands."""
    try:
        with os.scandir(host.path(_LISTS)) as entries:
            return sorted(entry.name for entry in entries if _LISTED.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):  # a host without dpkg
        return []


@dataclass(slots=True)
class _Archives:
    """The uncompressed archives at the start of a file, read piece by piece, within a limit."""

    descriptor: int
    bytes_left: int = _BYTES_LIMIT

    def microcode(self) -> dict[str, str]:
        """Hash each microcode file; of two with one name the first, as the kernel takes it."""
        found: dict[str, str] = {}
        for member in self._members():
            name = name_of(self._read(member.name_at, member.name_size))
            own = name.removeprefix(_MICROCODE)
            if own != name and member.size and own not in found:
                found[own] = self._sha256(member)
        return found

    def _members(self) -> Iterator[Member]:
        size, at = os.fstat(self.descriptor).st_size, 0
        for _ in range(_MEMBER_LIMIT):
            member = member_at(self._read(at, HEADER), at)
            if member is None:
                return
            if isinstance(member, Unknown):
                raise HostError(member.why)
            if member.content_at + member.size > size:
                raise HostError(f"the archive is cut short at byte {size}")
            yield member
            at = self._behind_padding(member.next_at)
        raise HostError(f"the archive has more than {_MEMBER_LIMIT} members")

    def _behind_padding(self, at: int) -> int:
        """Skip zeros, four at a time: where a header may begin."""
        wanted = _ALIGNMENT
        while True:
            piece = self._read(at, wanted)
            zeros = len(piece) - len(piece.lstrip(b"\0"))
            at += zeros - zeros % _ALIGNMENT
            if zeros < wanted:
                return at
            wanted = _PIECE

    def _sha256(self, member: Member) -> str:
        digest = hashlib.sha256()
        end = member.content_at + member.size
        for at in range(member.content_at, end, _PIECE):
            digest.update(self._read(at, min(_PIECE, end - at)))
        return digest.hexdigest()

    def _read(self, at: int, count: int) -> bytes:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise HostError(f"more than {_BYTES_LIMIT} bytes of it would have to be read")
        return os.pread(self.descriptor, count, at)
