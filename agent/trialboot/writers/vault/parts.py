"""The parts of a kept boot set: where they lie, what they hold, and what boots of them."""

from pathlib import Path
from typing import Final

from trialboot.bootfiles import KEPT_FIRMWARE, boot_sets
from trialboot.content import Cache, file_sha256, is_module, read_tree
from trialboot.core.bootset import (
    BootSet,
    Fingerprint,
    KeptBoot,
    initrd_identity,
    shown,
    tree_identity,
)
from trialboot.core.facts import Unknown
from trialboot.core.menu import BOOT_WORD, FIRMWARE_WORD, MODULES_WORD
from trialboot.errors import VaultError
from trialboot.host import Host
from trialboot.writers.vault import manifest
from trialboot.writers.vault.layout import KERNEL, firmware_of, initrd_names, label, modules_of
from trialboot.writers.vault.manifest import Manifest

SECOND: Final = "firmware.cpio"
"""The second initrd; since it had the firmware tree alone to bind."""


def boot_folder(host: Host, fingerprint: Fingerprint) -> Path:
    """Give the folder of a kept boot set that the loader reads."""
    return host.path(f"{boot_sets(host)}/{fingerprint}")


def tree_folder(host: Host, fingerprint: Fingerprint) -> Path:
    """Give the folder of its firmware and module trees."""
    return host.path(f"{KEPT_FIRMWARE}/{fingerprint}")


def read_manifest(host: Host, fingerprint: Fingerprint) -> Manifest | Unknown:
    """Read what was kept under a fingerprint."""
    try:
        return manifest.read(boot_folder(host, fingerprint))
    except OSError as error:
        return Unknown(f"the boot set {shown(fingerprint)} is not kept: {error.strerror}")
    except ValueError as error:
        return Unknown(f"the manifest of {shown(fingerprint)} cannot be read: {error}")


def boot_files(host: Host, fingerprint: Fingerprint) -> KeptBoot:
    """Give what a boot loader needs of a kept boot set. Raises `VaultError`."""
    found = read_manifest(host, fingerprint)
    if isinstance(found, Unknown):
        raise VaultError(found.why)
    folder = f"{boot_sets(host)}/{fingerprint}"
    names = initrd_names(len(found.initrds))
    # Without an initrd of its own nothing would run what the second one holds.
    binds = bool(found.second and names)
    words = {
        BOOT_WORD: fingerprint,
        FIRMWARE_WORD: firmware_of(fingerprint) if found.firmware and binds else "",
        MODULES_WORD: modules_of(found.boot_set) if found.modules and binds else "",
    }
    return KeptBoot(
        boot_set=found.boot_set,
        kernel=f"{folder}/{KERNEL}",
        initrds=tuple(f"{folder}/{name}" for name in (*names, *([SECOND] if binds else []))),
        words=tuple(f"{word}={value}" for word, value in words.items() if value),
    )


def boot_parts(host: Host, fingerprint: Fingerprint) -> tuple[tuple[str, str], ...] | Unknown:
    """Name the files that the loader reads of a kept boot set, each with its SHA-256."""
    found = read_manifest(host, fingerprint)
    if isinstance(found, Unknown):
        return found
    folder = f"{boot_sets(host)}/{fingerprint}"
    return tuple((f"{folder}/{name}", identity) for name, identity in _files(found))


def initrds_of(host: Host, boot_set: BootSet) -> tuple[str, ...] | Unknown:
    """Name a kept boot set's own initrds, in their order."""
    found = read_manifest(host, boot_set.fingerprint)
    if isinstance(found, Unknown):
        return found
    folder = f"{boot_sets(host)}/{boot_set.fingerprint}"
    return tuple(f"{folder}/{name}" for name in initrd_names(len(found.initrds)))


def check(boot: Path, tree: Path, kept: Manifest, cache: Cache) -> None:
    """Compare the parts of a boot set with its identities. Raises `VaultError`, `OSError`."""
    named = label(kept.boot_set)
    for name, identity in _files(kept):
        if file_sha256(boot / name) != identity:
            raise VaultError(f"{name} is not what the boot set {named} holds: it changed")
    if initrd_identity(kept.initrds) != kept.boot_set.initrd:
        names = " + ".join(initrd_names(len(kept.initrds))) or "no initrd"
        raise VaultError(f"{names} is not what the boot set {named} holds: it changed")
    if kept.firmware:
        found = read_tree(tree / "firmware", cache=cache)
        _check_tree("firmware", tree_identity(found), kept.boot_set.firmware, named)
    if kept.modules:
        modules = read_tree(tree / "modules" / kept.modules, cache=cache, wanted=is_module)
        _check_tree("module", tree_identity(modules), kept.boot_set.modules, named)


def _check_tree(kind: str, found: str, wanted: str, named: str) -> None:
    if found != wanted:
        raise VaultError(f"the {kind} tree is not what {named} holds: it changed")


def _files(kept: Manifest) -> list[tuple[str, str]]:
    """Name the files below /boot, each with its SHA-256."""
    initrds = zip(initrd_names(len(kept.initrds)), kept.initrds, strict=True)
    second = [(SECOND, kept.second)] if kept.second else []
    return [(KERNEL, kept.boot_set.kernel), *initrds, *second]
