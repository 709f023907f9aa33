"""The vault: keeps boot sets whole, so that the known-good is there when packages replaced it.

Kernel and initrd lie below /boot, where the loader reads them; the firmware tree lies as hard
links on the file system of /lib/firmware. The folder below /boot is renamed into place last: what
stands there is complete.
"""

import ctypes
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from trialboot.bootfiles import BOOT_SETS, KEPT_FIRMWARE, KNOWN_GOOD_FILE
from trialboot.content import file_sha256, paths_of, read_tree
from trialboot.core.bootset import BootSet, Fingerprint, shown, tree_identity
from trialboot.core.facts import Unknown
from trialboot.core.newc import archive
from trialboot.errors import VaultError
from trialboot.host import Host, sync_folder, write_durably

FORMAT: Final = 1
INITRAMFS: Final = "/usr/lib/trialboot/initramfs"
"""The files of the second initrd, as they lie in it (packaging/initramfs)."""

_KERNEL: Final = "vmlinuz"
_INITRD: Final = "initrd.img"
_SECOND: Final = "firmware.cpio"
_MANIFEST: Final = "manifest.json"
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the parts of a boot set lie now, as paths of the host; empty for a part it lacks."""

    kernel: str
    initrd: str
    firmware: str


def firmware_of(fingerprint: Fingerprint) -> str:
    """Name the kept firmware tree of a boot set."""
    return f"{KEPT_FIRMWARE}/{fingerprint}/firmware"


def keep(host: Host, boot_set: BootSet, sources: Sources) -> None:
    """Keep a boot set. Raises `VaultError`, and nothing incomplete stays under its name.

    Keeping it again verifies it; a damaged one is kept anew.
    """
    fingerprint = boot_set.fingerprint
    if fingerprint in kept(host):
        with suppress(VaultError):
            verify(host, fingerprint)
            return
    try:
        _build(host, boot_set, sources)
    except OSError as error:
        told = f"{error.filename or BOOT_SETS}: {error.strerror}"
        raise VaultError(f"the boot set {shown(fingerprint)} is not kept: {told}") from error
    finally:
        _sweep(host)


def verify(host: Host, fingerprint: Fingerprint) -> None:
    """Compare what is kept with its fingerprint, byte by byte. Raises `VaultError`."""
    boot_set = load(host, fingerprint)
    if isinstance(boot_set, Unknown):
        raise VaultError(boot_set.why)
    if boot_set.fingerprint != fingerprint:
        raise VaultError(f"the manifest of {shown(fingerprint)} is of another boot set")
    folder = host.path(f"{BOOT_SETS}/{fingerprint}")
    firmware = host.path(firmware_of(fingerprint))
    try:
        second = _manifest(folder)["second_initrd"]
        _check(folder, firmware, boot_set, second)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def load(host: Host, fingerprint: Fingerprint) -> BootSet | Unknown:
    """Read what was kept under a fingerprint."""
    folder = host.path(f"{BOOT_SETS}/{fingerprint}")
    try:
        return BootSet(**_manifest(folder)["boot_set"])
    except OSError as error:
        return Unknown(f"the boot set {shown(fingerprint)} is not kept: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return Unknown(f"the manifest of {shown(fingerprint)} cannot be read: {error}")


def kept(host: Host) -> tuple[Fingerprint, ...]:
    """Name the boot sets that are kept."""
    manifests = host.path(BOOT_SETS).glob(f"*/{_MANIFEST}")
    names = (manifest.parent.name for manifest in manifests)
    return tuple(sorted(Fingerprint(name) for name in names if not name.startswith(".")))


def drop(host: Host, fingerprint: Fingerprint) -> None:
    """Forget a boot set, unless the menu's known-good entry boots it. Raises `VaultError`."""
    known_good = host.path(KNOWN_GOOD_FILE)
    try:
        if known_good.exists() and fingerprint in known_good.read_text(encoding="utf-8"):
            raise VaultError(f"{shown(fingerprint)} is what the known-good entry boots")
        folder = host.path(f"{BOOT_SETS}/{fingerprint}")
        if folder.exists():
            folder.rename(_draft(folder))
            sync_folder(folder.parent)
        _remove(host.path(f"{KEPT_FIRMWARE}/{fingerprint}"))
        _sweep(host)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _build(host: Host, boot_set: BootSet, sources: Sources) -> None:
    _sweep(host)
    boot, tree = _drafts(host, boot_set.fingerprint)
    boot.mkdir(parents=True, mode=0o700)
    (tree / "firmware").mkdir(parents=True)
    _bring(_boot_files(host, sources, boot))
    _bring(_firmware_files(host, sources, tree / "firmware"))
    second = _second_initrd(host, boot, sources)
    _check(boot, tree / "firmware", boot_set, second)
    _write_manifest(host, boot, boot_set, second)
    _sync_file_system(tree)
    _sync_file_system(boot)
    for draft in (tree, boot):
        _put(draft, draft.with_name(boot_set.fingerprint))


def _boot_files(host: Host, sources: Sources, boot: Path) -> list[tuple[Path, Path]]:
    pairs = ((sources.kernel, boot / _KERNEL), (sources.initrd, boot / _INITRD))
    return [(host.path(source), target) for source, target in pairs if source]


def _firmware_files(host: Host, sources: Sources, tree: Path) -> list[tuple[Path, Path]]:
    if not sources.firmware:
        return []
    source = host.path(sources.firmware)
    return [(source / name, tree / name) for name in paths_of(source)]


def _bring(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Hard-link files; copy those that cannot be linked, if there is room for all of them."""
    refused = [pair for pair in pairs if not _linked(*pair)]
    if not refused:
        return
    _check_room(refused)
    for source, target in refused:
        shutil.copy2(source, target)


def _linked(source: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and target.name not in {_KERNEL, _INITRD}:
        target.symlink_to(source.readlink())
        return True
    try:
        # A file that is kept is the file, never a link to it: /boot/vmlinuz may be one.
        os.link(source.resolve(strict=True), target)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _check_room(pairs: list[tuple[Path, Path]]) -> None:
    needed = sum(source.stat().st_size for source, _ in pairs) + _MEBIBYTE
    folder = pairs[0][1].parent
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        place = "/boot" if pairs[0][1].name in {_KERNEL, _INITRD} else KEPT_FIRMWARE
        raise VaultError(
            f"needs {-(-needed // _MEBIBYTE)} MiB, {place} has {free // _MEBIBYTE} MiB free: "
            "remove an old kernel or enlarge /boot"
        )


def _second_initrd(host: Host, boot: Path, sources: Sources) -> str:
    """Pack what binds the kept firmware tree at boot; give its hash, or empty where none is."""
    if not sources.firmware:
        return ""
    folder = host.path(INITRAMFS)
    names = paths_of(folder)
    files = {
        name: ((folder / name).stat().st_mode & 0o777, (folder / name).read_bytes())
        for name in names
    }
    write_durably(boot / _SECOND, archive(files))
    return file_sha256(boot / _SECOND)


def _check(boot: Path, firmware: Path, boot_set: BootSet, second: str) -> None:
    wanted = {_KERNEL: boot_set.kernel, _INITRD: boot_set.initrd, _SECOND: second}
    for name, identity in wanted.items():
        if identity and file_sha256(boot / name) != identity:
            raise VaultError(
                f"{name} is not what the boot set {_shown(boot_set)} holds: it changed"
            )
    # No second initrd stands for a boot set without a firmware tree.
    if second and tree_identity(read_tree(firmware)) != boot_set.firmware:
        raise VaultError(f"the firmware tree is not what {_shown(boot_set)} holds: it changed")


def _write_manifest(host: Host, boot: Path, boot_set: BootSet, second: str) -> None:
    manifest = {
        "format": FORMAT,
        "boot_set": asdict(boot_set),
        "second_initrd": second,
        "kept_at": host.now().isoformat(timespec="seconds"),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    write_durably(boot / _MANIFEST, text.encode(), mode=0o644)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"not a manifest of format {FORMAT}")
    return manifest


def _put(draft: Path, final: Path) -> None:
    """Rename a finished draft into place; what is damaged there goes first."""
    if final.exists():
        _remove(final)
    draft.rename(final)
    sync_folder(final.parent)


def _drafts(host: Host, fingerprint: Fingerprint) -> tuple[Path, Path]:
    places = (host.path(f"{root}/{fingerprint}") for root in (BOOT_SETS, KEPT_FIRMWARE))
    boot, tree = (_draft(place) for place in places)
    return boot, tree


def _draft(final: Path) -> Path:
    return final.with_name(f".{final.name}.draft")


def _sweep(host: Host) -> None:
    """Remove what an interrupted keep or drop left."""
    for root in (BOOT_SETS, KEPT_FIRMWARE):
        for draft in host.path(root).glob(".*.draft"):
            if draft.is_dir():
                shutil.rmtree(draft)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync_file_system(folder: Path) -> None:
    """Flush the one file system that holds a folder: sync(2) would wait for a dead NFS server."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def _shown(boot_set: BootSet) -> str:
    return shown(boot_set.fingerprint)
