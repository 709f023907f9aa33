"""Where what is kept lies, and how files get there: as links, else as copies if there is room.

An initrd that dracut made is always a copy: dracut writes the next one into the same file.
"""

import ctypes
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from trialboot.bootfiles import KEPT_FIRMWARE
from trialboot.content import (
    Cache,
    link_file,
    link_tree,
)
from trialboot.core.bootset import BootSet, Fingerprint, shown
from trialboot.errors import VaultError
from trialboot.host import Host
from trialboot.writers.vault.room import check_room, check_share

KERNEL: Final = "vmlinuz"
_INITRD: Final = "initrd.img"
_DRACUT: Final = ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut")


def firmware_of(fingerprint: Fingerprint) -> str:
    """Name the kept firmware tree of a boot set."""
    return f"{KEPT_FIRMWARE}/{fingerprint}/firmware"


def modules_of(boot_set: BootSet) -> str:
    """Name the kept module tree of a boot set."""
    return f"{KEPT_FIRMWARE}/{boot_set.fingerprint}/modules/{boot_set.release}"


def kept_modules(host: Host, boot_set: BootSet) -> Path:
    """Give the kept module tree; the release is a word of a kernel image and becomes a path."""
    if "/" in boot_set.release or boot_set.release.startswith("."):
        raise VaultError(f"«{boot_set.release}» is no name of a module tree")
    return host.path(modules_of(boot_set))


def initrd_names(count: int) -> tuple[str, ...]:
    """Name the kept initrds of a boot set that has so many."""
    if count == 1:
        return (_INITRD,)
    return tuple(f"initrd-{number}.img" for number in range(1, count + 1))


def label(boot_set: BootSet) -> str:
    """Name a boot set to people."""
    return shown(boot_set.fingerprint)


def draft_of(final: Path) -> Path:
    """Name the folder that becomes this one once it is whole."""
    return final.with_name(f".{final.name}.draft")


def remove_folder(folder: Path) -> None:
    """Remove a folder that may not be there. Raises `OSError`."""
    if folder.exists():
        shutil.rmtree(folder)


def writes_over_initrds(host: Host) -> bool:
    """Tell whether a new initrd is written into the file of the old one, and so into its links.

    dracut.sh ends with cp(1) onto the file that is there, which truncates it; update-initramfs
    renames a new file over it.
    """
    return any(host.exists(path) for path in _DRACUT)


def bring(
    host: Host,
    place: str,
    linked: Iterable[tuple[Path, Path]],
    cache: Cache,
    copied: Iterable[tuple[Path, Path]] = (),
) -> None:
    """Hard-link files; copy those that cannot or must not be, if there is room for all of them.

    `place` is the folder of the host that they go to. Raises `VaultRoomError`, `OSError`.
    """
    refused = [pair for pair in _files_of(linked) if not link_file(*pair, cache)]
    copy_files(host, place, [*refused, *_files_of(copied)])


def _files_of(pairs: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    # A file that is kept is the file, never a link to it: /boot/vmlinuz may be one.
    return [(source.resolve(strict=True), target) for source, target in pairs]


def bring_tree(host: Host, source: Path, target: Path, cache: Cache) -> None:
    """Do so for a whole tree."""
    copy_files(host, KEPT_FIRMWARE, link_tree(source, target, cache))


def copy_files(host: Host, place: str, refused: list[tuple[Path, Path]]) -> None:
    """Copy what could not be linked. Raises `VaultRoomError` if there is no room for all of it."""
    needed = sum(source.stat().st_size for source, _ in refused)
    check_room(host, place, needed)
    check_share(host, needed)
    for source, target in refused:
        shutil.copy2(source, target)


def sync_file_system(folder: Path) -> None:
    """Flush the one file system that holds a folder: sync(2) would wait for a dead NFS server."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)
