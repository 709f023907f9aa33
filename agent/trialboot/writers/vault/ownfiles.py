"""Kept initrds that are still the host's own file, where dracut would write to both at once.

They were kept by an older version, or before dracut came to this host.
"""

import os
import shutil
from pathlib import Path

from trialboot.bootfiles import boot_sets
from trialboot.content import file_sha256
from trialboot.core.bootset import Fingerprint, shown
from trialboot.core.facts import Unknown
from trialboot.errors import VaultError
from trialboot.host import Host, sync_folder
from trialboot.writers.vault.layout import draft_of, initrd_names, writes_over_initrds
from trialboot.writers.vault.parts import boot_folder, read_manifest
from trialboot.writers.vault.room import check_room, check_share


def shared_initrds(host: Host, fingerprint: Fingerprint) -> tuple[Path, ...]:
    """Name the kept initrds that somebody else's file is, where dracut writes over such files."""
    return tuple(path for path, _ in _shared(host, fingerprint))


def own_initrds(host: Host, fingerprint: Fingerprint) -> None:
    """Make copies of the kept initrds that are somebody else's file, too.

    One that is no longer what was kept is left as it is. Raises `VaultError`, `VaultRoomError`.
    """
    try:
        shared = _shared(host, fingerprint)
        if not shared:
            return
        needed = sum(path.stat().st_size for path, _ in shared)
        check_room(host, boot_sets(host), needed)
        check_share(host, needed)
        for path, identity in shared:
            _part(path, identity, fingerprint)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _shared(host: Host, fingerprint: Fingerprint) -> list[tuple[Path, str]]:
    found = read_manifest(host, fingerprint)
    if isinstance(found, Unknown) or not writes_over_initrds(host):
        return []
    folder = boot_folder(host, fingerprint)
    paths = [folder / name for name in initrd_names(len(found.initrds))]
    pairs = zip(paths, found.initrds, strict=True)
    return [(path, identity) for path, identity in pairs if _names_of(path) > 1]


def _names_of(path: Path) -> int:
    return path.stat().st_nlink if path.exists() else 0


def _part(path: Path, identity: str, fingerprint: Fingerprint) -> None:
    """Replace a file by its copy, so that a power cut leaves one of them whole."""
    draft = draft_of(path)
    try:
        shutil.copy2(path, draft)
        # Hashed only now: dracut may be writing to the old one at this moment.
        if file_sha256(draft) != identity:
            raise VaultError(f"{path.name} is not what {shown(fingerprint)} holds: it changed")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
