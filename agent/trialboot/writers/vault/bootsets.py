"""Boot sets as they are kept: verified when they come, verified when they are asked for."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot.bootfiles import KEPT_FIRMWARE, KNOWN_GOOD_FILE, boot_sets, read_menu
from trialboot.content import Cache, file_sha256, paths_of, remove_tree
from trialboot.core.bootset import BootSet, Fingerprint, shown
from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu
from trialboot.core.newc import archive
from trialboot.errors import HostError, VaultError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.writers.vault import manifest
from trialboot.writers.vault.layout import (
    KERNEL,
    bring,
    bring_tree,
    draft_of,
    initrd_names,
    kept_modules,
    remove_folder,
    sync_file_system,
    writes_over_initrds,
)
from trialboot.writers.vault.manifest import Manifest
from trialboot.writers.vault.moduletrees import carry_mark, forget_restored, sweep_modules
from trialboot.writers.vault.ownfiles import own_initrds
from trialboot.writers.vault.parts import SECOND, boot_folder, check, read_manifest, tree_folder

INITRAMFS: Final = "/usr/lib/trialboot/initramfs"
"""The files of the second initrd, as they lie in it (packaging/initramfs)."""
_DAMAGED: Final = ".damaged.draft"
"""What the name of damaged trees ends with while their successors take their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the parts of a boot set lie now, as paths of the host; empty for a part it lacks."""

    kernel: str
    initrds: tuple[str, ...] = ()
    """In the order of loading."""
    firmware: str = ""
    modules: str = ""
    """The folder of its kernel release in /lib/modules, with all that is in it."""


def keep(host: Host, boot_set: BootSet, sources: Sources, cache: Cache | None = None) -> None:
    """Keep a boot set. Raises `VaultError`, and nothing incomplete stays under its name.

    Keeping it again verifies it; a damaged one is kept anew. What the cache knows of a file is
    not read again, and is known of its new link afterwards.
    """
    fingerprint = boot_set.fingerprint
    if fingerprint in kept(host):
        with suppress(VaultError):
            verify(host, fingerprint)
            own_initrds(host, fingerprint)
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
    found = read_manifest(host, fingerprint)
    if isinstance(found, Unknown):
        raise VaultError(found.why)
    if found.boot_set.fingerprint != fingerprint:
        raise VaultError(f"the manifest of {shown(fingerprint)} is of another boot set")
    try:
        check(boot_folder(host, fingerprint), tree_folder(host, fingerprint), found, {})
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def load(host: Host, fingerprint: Fingerprint) -> BootSet | Unknown:
    """Read what was kept under a fingerprint."""
    found = read_manifest(host, fingerprint)
    return found if isinstance(found, Unknown) else found.boot_set


def kept(host: Host) -> tuple[Fingerprint, ...]:
    """Name the boot sets that are kept."""
    manifests = host.path(boot_sets(host)).glob(f"*/{manifest.NAME}")
    names = (found.parent.name for found in manifests)
    return tuple(sorted(Fingerprint(name) for name in names if not name.startswith(".")))


def drop(host: Host, fingerprint: Fingerprint, cache: Cache | None = None) -> None:
    """Forget a boot set, unless the menu's known-good entry boots it. Raises `VaultError`."""
    try:
        if _is_booted_by_entry(host, fingerprint):
            raise VaultError(f"{shown(fingerprint)} is what the known-good entry boots")
        folder, tree = boot_folder(host, fingerprint), tree_folder(host, fingerprint)
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


def _is_booted_by_entry(host: Host, fingerprint: Fingerprint) -> bool:
    """Tell whether the menu's known-good entry boots it: by our own file, and by the menu itself.

    Between the two a power cut may have come.
    """
    known_good = host.path(KNOWN_GOOD_FILE)
    if known_good.exists() and fingerprint in known_good.read_text(encoding="utf-8"):
        return True
    menu = read_menu(host)
    return isinstance(menu, Menu) and menu.known_good == fingerprint


def _build(host: Host, boot_set: BootSet, sources: Sources, cache: Cache) -> None:
    _sweep(host)
    boot, tree = _drafts(host, boot_set.fingerprint)
    boot.mkdir(parents=True, mode=0o700)
    (tree / "firmware").mkdir(parents=True)
    carry_mark(tree_folder(host, boot_set.fingerprint), tree)
    _bring_boot_files(host, sources, boot, cache)
    # A host without any firmware may lack the folder: what is kept is that there is none.
    if sources.firmware and host.exists(sources.firmware):
        bring_tree(host, host.path(sources.firmware), tree / "firmware", cache)
    if sources.modules:
        kept_modules(host, boot_set)
        bring_tree(host, host.path(sources.modules), tree / "modules" / boot_set.release, cache)
    kept_set = Manifest(
        boot_set=boot_set,
        initrds=tuple(file_sha256(boot / name) for name in initrd_names(len(sources.initrds))),
        second=_second_initrd(host, boot, sources),
        firmware=bool(sources.firmware),
        modules=boot_set.release if sources.modules else "",
    )
    check(boot, tree, kept_set, cache)
    manifest.write(boot, kept_set, host.now())
    sync_file_system(tree)
    sync_file_system(boot)
    _put_trees(tree, tree_folder(host, boot_set.fingerprint))
    _put_boot_files(boot, boot_folder(host, boot_set.fingerprint))


def _bring_boot_files(host: Host, sources: Sources, boot: Path, cache: Cache) -> None:
    names = (KERNEL, *initrd_names(len(sources.initrds)))
    files = zip((sources.kernel, *sources.initrds), names, strict=True)
    pairs = [(host.path(source), boot / name) for source, name in files]
    linked = 1 if writes_over_initrds(host) else len(pairs)
    bring(host, boot_sets(host), pairs[:linked], cache, copied=pairs[linked:])


def _second_initrd(host: Host, boot: Path, sources: Sources) -> str:
    """Pack what binds the kept trees at boot; give its hash, or empty where none is kept."""
    if not (sources.firmware or sources.modules):
        return ""
    folder = host.path(INITRAMFS)
    names = paths_of(folder)
    files = {
        name: ((folder / name).stat().st_mode & 0o777, (folder / name).read_bytes())
        for name in names
    }
    write_durably(boot / SECOND, archive(files))
    return file_sha256(boot / SECOND)


def _put_trees(draft: Path, final: Path) -> None:
    """Rename finished trees into place; what is damaged there goes afterwards."""
    damaged = final.with_name(f".{final.name}{_DAMAGED}")
    if final.exists():
        # It may hold what nothing else does: see `_put_back`.
        final.rename(damaged)
    draft.rename(final)
    sync_folder(final.parent)
    remove_folder(damaged)


def _put_boot_files(draft: Path, final: Path) -> None:
    """Put what the loader reads into place: file by file where the menu may name it already.

    At no instant a file is missing. A power cut leaves some new and some old: each whole, or known
    by its hash to be damaged.
    """
    if not final.exists():
        draft.rename(final)
        sync_folder(final.parent)
        return
    names = sorted(paths_of(draft), key=lambda name: name == manifest.NAME)
    for name in names:
        (draft / name).replace(final / name)
    sync_folder(final)
    for name in set(paths_of(final)).difference(names):
        (final / name).unlink()
    # A rename onto another link of the same file leaves both.
    remove_folder(draft)


def _set_aside(final: Path) -> Path:
    """Give what is finished a draft's name: it is swept if its removal is interrupted."""
    draft = final.rename(draft_of(final))
    sync_folder(final.parent)
    return draft


def _drafts(host: Host, fingerprint: Fingerprint) -> tuple[Path, Path]:
    places = (host.path(f"{root}/{fingerprint}") for root in (boot_sets(host), KEPT_FIRMWARE))
    boot, tree = (draft_of(place) for place in places)
    return boot, tree


def settle(host: Host) -> None:
    """End what a power cut interrupted: keeping anew what was damaged, above all.

    Raises `VaultError`.
    """
    try:
        _sweep(host)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _put_back(host: Host) -> None:
    """Give damaged trees their name back: what is whole of them may be nowhere else."""
    for damaged in host.path(KEPT_FIRMWARE).glob(f".*{_DAMAGED}"):
        final = damaged.with_name(damaged.name[1 : -len(_DAMAGED)])
        if not final.exists():
            damaged.rename(final)
            sync_folder(final.parent)


def _sweep(host: Host) -> None:
    """Remove what an interrupted keep or drop left."""
    _put_back(host)
    for root in (boot_sets(host), KEPT_FIRMWARE):
        for draft in host.path(root).glob(".*.draft"):
            if draft.is_dir():
                shutil.rmtree(draft)
