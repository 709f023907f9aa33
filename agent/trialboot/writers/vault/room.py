"""Room for what is kept: looked at before anything is copied, and what the vault itself takes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from trialboot.bootfiles import KEPT_FIRMWARE, boot_sets
from trialboot.errors import VaultRoomError
from trialboot.host import Host

MEBIBYTE: Final = 1 << 20
MOST: Final = 4096 * MEBIBYTE
"""What the vault may take in all: more than two sets of a big distribution, none of it shared."""
_FOLDERS: Final = 8 * MEBIBYTE
"""What the folders of a farm of links take: 1,500 of them, 4 KiB each, and a little more."""
_BESIDE: Final = MEBIBYTE
"""What is written below /boot beside kernel and initrds: manifest, second initrd, menu entry."""


def check_room(host: Host, place: str, needed: int = 0) -> None:
    """Make sure that so many bytes of copies go into a folder. Raises `VaultRoomError`.

    What is linked takes no room; folders, and what is written beside, are always reckoned with.
    """
    wanted = needed + (_FOLDERS if place == KEPT_FIRMWARE else _BESIDE)
    status = os.statvfs(host.path(place))
    free = status.f_bavail * status.f_frsize
    where = place if place == KEPT_FIRMWARE else place.rpartition("/")[0]
    if wanted > free:
        raise VaultRoomError(
            f"the vault needs {_mebibytes(wanted)} MiB, {where} has {free // MEBIBYTE} MiB free: "
            f"remove an old kernel or enlarge {where}"
        )


def check_share(host: Host, needed: int) -> None:
    """Make sure that so many bytes of copies stay within `MOST`. Raises `VaultRoomError`."""
    has = taken(host) if needed else 0
    if has + needed > MOST:
        raise VaultRoomError(
            f"the vault may take {MOST // MEBIBYTE} MiB: it has {_mebibytes(has)} MiB, and "
            f"{_mebibytes(needed)} MiB would come by copies"
        )


def against_packages(good: Path, before: Path) -> str:
    """Say why what is kept of a boot set stands in a package run's way; empty where it does not.

    It does where its file system has no room for one more kernel and initrd like the known-good's,
    and nobody else has its files. Both sets are given by the folders that the boot loader reads.
    Raises `OSError`.
    """
    alone = _alone(_statuses(before))
    if alone <= _BESIDE:
        return ""
    status = os.statvfs(before)
    free, another = status.f_bavail * status.f_frsize, sum(f.st_size for f in _statuses(good))
    if free >= another:
        return ""
    needed, has, holds = _mebibytes(another), free // MEBIBYTE, alone // MEBIBYTE
    return f"a kernel takes {needed} MiB, {has} MiB are free, and it alone holds {holds} MiB"


def taken(host: Host) -> int:
    """Tell how many bytes the vault alone holds: files that packages have too are not counted."""
    roots = (boot_sets(host), KEPT_FIRMWARE)
    return _alone(status for root in roots for status in _statuses(host.path(root)))


def _alone(statuses: Iterable[os.stat_result]) -> int:
    links: dict[tuple[int, int], int] = {}
    total = 0
    for status in statuses:
        key = (status.st_dev, status.st_ino)
        links[key] = links.get(key, 0) + 1
        if links[key] == status.st_nlink:  # the last of its names, and all are ours
            total += status.st_blocks * 512
    return total


def _statuses(root: Path) -> Iterator[os.stat_result]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.lstat(f"{folder}/{name}")


def _mebibytes(count: int) -> int:
    return -(-count // MEBIBYTE)
