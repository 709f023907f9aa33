"""Boot sets as they are kept: verified when they come, verified when they are asked for."""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from trialboot.bootfiles import KEPT_FIRMWARE, KNOWN_GOOD_FILE, boot_sets
from trialboot.content import (
    Cache,
    file_sha256,
    is_module,
    paths_of,
    read_tree,
    remove_tree,
)
from trialboot.core.bootset import BootSet, Fingerprint, shown, tree_identity
from trialboot.core.facts import Unknown
from trialboot.core.newc import archive
from trialboot.errors import HostError, VaultError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.writers.vault.layout import (
    INITRD,
    KERNEL,
    bring,
    bring_tree,
    draft_of,
    kept_modules,
    label,
    remove_folder,
    sync_file_system,
)
from trialboot.writers.vault.moduletrees import forget_restored, sweep_modules

FORMAT: Final = 1
INITRAMFS: Final = "/usr/lib/trialboot/initramfs"
"""The files of the second initrd, as they lie in it (packaging/initramfs)."""
_SECOND: Final = "firmware.cpio"
_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the parts of a boot set lie now, as paths of the host; empty for a part it lacks."""

    kernel: str
    initrd: str
    firmware: str
    modules: str = ""
    """The folder of its kernel release in /lib/modules, with all that is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a manifest says of the parts that not every boot set has."""

    second: str
    """SHA-256 of the second initrd; empty where no firmware tree is kept."""
    modules: str
    """The release whose module tree is kept; empty where none is, as before modules were kept."""


def keep(host: Host, boot_set: BootSet, sources: Sources, cache: Cache | None = None) -> None:
    """Keep a boot set. Raises `VaultError`, and nothing incomplete stays under its name.

    Keeping it again verifies it; a damaged one is kept anew. What the cache knows of a file is
    not read again, and is known of its new link afterwards.
    """
    fingerprint = boot_set.fingerprint
    if fingerprint in kept(host):
        with suppress(VaultError):
            verify(host, fingerprint)
            return
    try:
        _build(host, boot_set, sources, {} if cache is None else cache)
    except OSError as error:
        told = f"{error.filename or boot_sets(host)}: {error.strerror}"
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
    folder = host.path(f"{boot_sets(host)}/{fingerprint}")
    tree = host.path(f"{KEPT_FIRMWARE}/{fingerprint}")
    try:
        _check(folder, tree, boot_set, _kept_parts(folder), {})
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def load(host: Host, fingerprint: Fingerprint) -> BootSet | Unknown:
    """Read what was kept under a fingerprint."""
    folder = host.path(f"{boot_sets(host)}/{fingerprint}")
    try:
        return BootSet(**_manifest(folder)["boot_set"])
    except OSError as error:
        return Unknown(f"the boot set {shown(fingerprint)} is not kept: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return Unknown(f"the manifest of {shown(fingerprint)} cannot be read: {error}")


def kept(host: Host) -> tuple[Fingerprint, ...]:
    """Name the boot sets that are kept."""
    manifests = host.path(boot_sets(host)).glob(f"*/{_MANIFEST}")
    names = (manifest.parent.name for manifest in manifests)
    return tuple(sorted(Fingerprint(name) for name in names if not name.startswith(".")))


def drop(host: Host, fingerprint: Fingerprint, cache: Cache | None = None) -> None:
    """Forget a boot set, unless the menu's known-good entry boots it. Raises `VaultError`."""
    known_good = host.path(KNOWN_GOOD_FILE)
    try:
        if known_good.exists() and fingerprint in known_good.read_text(encoding="utf-8"):
            raise VaultError(f"{shown(fingerprint)} is what the known-good entry boots")
        folder = host.path(f"{boot_sets(host)}/{fingerprint}")
        tree = host.path(f"{KEPT_FIRMWARE}/{fingerprint}")
        sweep_modules(host)
        forget_restored(host, tree)
        # The folder below /boot first: what stands there is complete.
        for draft in [_set_aside(place) for place in (folder, tree) if place.exists()]:
            remove_tree(draft, {} if cache is None else cache)
        _sweep(host)
    except HostError as error:
        raise VaultError(str(error)) from error
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _build(host: Host, boot_set: BootSet, sources: Sources, cache: Cache) -> None:
    _sweep(host)
    boot, tree = _drafts(host, boot_set.fingerprint)
    boot.mkdir(parents=True, mode=0o700)
    (tree / "firmware").mkdir(parents=True)
    bring(_boot_files(host, sources, boot), cache)
    if sources.firmware:
        bring_tree(host.path(sources.firmware), tree / "firmware", cache)
    if sources.modules:
        kept_modules(host, boot_set)
        bring_tree(host.path(sources.modules), tree / "modules" / boot_set.release, cache)
    parts = _Kept(
        second=_second_initrd(host, boot, sources),
        modules=boot_set.release if sources.modules else "",
    )
    _check(boot, tree, boot_set, parts, cache)
    _write_manifest(host, boot, boot_set, parts)
    sync_file_system(tree)
    sync_file_system(boot)
    for draft in (tree, boot):
        _put(draft, draft.with_name(boot_set.fingerprint))


def _boot_files(host: Host, sources: Sources, boot: Path) -> list[tuple[Path, Path]]:
    pairs = ((sources.kernel, boot / KERNEL), (sources.initrd, boot / INITRD))
    return [(host.path(source), target) for source, target in pairs if source]


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


def _check(boot: Path, tree: Path, boot_set: BootSet, parts: _Kept, cache: Cache) -> None:
    wanted = {KERNEL: boot_set.kernel, INITRD: boot_set.initrd, _SECOND: parts.second}
    for name, identity in wanted.items():
        if identity and file_sha256(boot / name) != identity:
            raise VaultError(
                f"{name} is not what the boot set {label(boot_set)} holds: it changed"
            )
    # No second initrd stands for a boot set without a firmware tree.
    firmware = read_tree(tree / "firmware", cache=cache) if parts.second else None
    if firmware and tree_identity(firmware) != boot_set.firmware:
        raise VaultError(f"the firmware tree is not what {label(boot_set)} holds: it changed")
    modules = tree / "modules" / parts.modules
    if not parts.modules:
        return
    if tree_identity(read_tree(modules, cache=cache, wanted=is_module)) != boot_set.modules:
        raise VaultError(f"the module tree is not what {label(boot_set)} holds: it changed")


def _write_manifest(host: Host, boot: Path, boot_set: BootSet, parts: _Kept) -> None:
    manifest = {
        "format": FORMAT,
        "boot_set": asdict(boot_set),
        "second_initrd": parts.second,
        "modules": parts.modules,
        "kept_at": host.now().isoformat(timespec="seconds"),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    write_durably(boot / _MANIFEST, text.encode(), mode=0o644)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"not a manifest of format {FORMAT}")
    return manifest


def _kept_parts(folder: Path) -> _Kept:
    manifest = _manifest(folder)
    return _Kept(second=manifest["second_initrd"], modules=manifest.get("modules", ""))


def _put(draft: Path, final: Path) -> None:
    """Rename a finished draft into place; what is damaged there goes first."""
    if final.exists():
        remove_folder(final)
    draft.rename(final)
    sync_folder(final.parent)


def _set_aside(final: Path) -> Path:
    """Give what is finished a draft's name: it is swept if its removal is interrupted."""
    draft = final.rename(draft_of(final))
    sync_folder(final.parent)
    return draft


def _drafts(host: Host, fingerprint: Fingerprint) -> tuple[Path, Path]:
    places = (host.path(f"{root}/{fingerprint}") for root in (boot_sets(host), KEPT_FIRMWARE))
    boot, tree = (draft_of(place) for place in places)
    return boot, tree


def _sweep(host: Host) -> None:
    """Remove what an interrupted keep or drop left."""
    for root in (boot_sets(host), KEPT_FIRMWARE):
        for draft in host.path(root).glob(".*.draft"):
            if draft.is_dir():
                shutil.rmtree(draft)
