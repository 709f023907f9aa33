"""Module trees that packages took from a kept boot set: put back, and later taken away."""

import os
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final

from trialboot.bootfiles import KEPT_FIRMWARE
from trialboot.content import (
    Cache,
    is_module,
    link_file,
    paths_of,
    read_tree,
)
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.covered import MODULES
from trialboot.errors import HostError, VaultError
from trialboot.host import Host, sync_folder
from trialboot.writers.vault.layout import (
    bring_tree,
    copy_files,
    draft_of,
    kept_modules,
    label,
    remove_folder,
    sync_file_system,
)

_INDEX: Final = "modules.dep"
_OWN: Final = "kernel"
"""Where a module tree has the modules that came with the kernel itself (kbuild's modules.rst)."""
_BUILD_LINKS: Final = frozenset({"build", "source"})
_RESTORED: Final = "modules-restored"
_PACKAGE_LISTS: Final = "/var/lib/dpkg/info"
"""Which files a package has, a file a package; there is none on a host without dpkg."""
_HOOK_DRAFT: Final = ".package-hook"
"""What the name of a draft ends with that packaging/dpkg/package-hook makes in /lib/modules."""
_DEPMOD_SECONDS: Final = 120.0


def missing_modules(host: Host, boot_set: BootSet) -> tuple[str, ...]:
    """Name what is gone from the module tree that a kept boot set boots with, relative to it.

    Modules and what depmod made of them count, links to a build tree do not; of a tree that was
    not kept, modules.dep alone is known. As long as the kernel is installed only its own modules
    count: one that was built for it (DKMS) may have been removed on purpose. Raises `VaultError`.
    """
    kept, place = kept_modules(host, boot_set), host.path(f"{MODULES}/{boot_set.release}")
    try:
        wanted = paths_of(kept) if kept.is_dir() else (_INDEX,)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error
    lost = [name for name in wanted if not os.path.lexists(f"{place}/{name}")]
    installed = host.exists(f"/boot/vmlinuz-{boot_set.release}") and (place / _OWN).is_dir()
    return tuple(
        name
        for name in lost
        if name not in _BUILD_LINKS
        and (not installed or not is_module(name) or name.startswith(f"{_OWN}/"))
    )


def restore_modules(host: Host, boot_set: BootSet, cache: Cache | None = None) -> str:
    """Put back what is gone from the module tree that a kept boot set boots with.

    Never over a file that is there: a package may have brought it. Says what was put back, in a
    sentence; empty if nothing was missing. Raises `VaultError`.
    """
    known: Cache = {} if cache is None else cache
    sweep_modules(host)
    missing = missing_modules(host, boot_set)
    if not missing:
        return ""
    kept, place = kept_modules(host, boot_set), host.path(f"{MODULES}/{boot_set.release}")
    if not kept.is_dir():
        raise VaultError(
            f"{MODULES}/{boot_set.release} is not whole, and {label(boot_set)} was kept "
            "without its modules: install its kernel's package again"
        )
    try:
        _mark_restored(host, boot_set)
        if place.exists():
            return _fill_gaps(host, boot_set, missing, known)
        return _put_tree(host, boot_set, known)
    except HostError as error:
        raise VaultError(str(error)) from error
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _put_tree(host: Host, boot_set: BootSet, cache: Cache) -> str:
    kept, place = kept_modules(host, boot_set), host.path(f"{MODULES}/{boot_set.release}")
    draft = draft_of(place)
    remove_folder(draft)
    try:
        bring_tree(host, kept, draft, cache)
        tree = read_tree(draft, cache=cache, wanted=is_module)
        if tree_identity(tree) != boot_set.modules:
            raise VaultError(f"the kept module tree is not what {label(boot_set)} holds")
        sync_file_system(draft)
        draft.rename(place)
    finally:
        remove_folder(draft)  # on a full disk it would be what fills it
    sync_folder(place.parent)
    return f"{MODULES}/{boot_set.release} was gone and is put back: {len(tree.files)} modules"


def _fill_gaps(host: Host, boot_set: BootSet, missing: tuple[str, ...], cache: Cache) -> str:
    kept, place = kept_modules(host, boot_set), host.path(f"{MODULES}/{boot_set.release}")
    refused = [name for name in missing if not _put_file(kept, place, name, cache)]
    copy_files(host, KEPT_FIRMWARE, [(kept / name, place / name) for name in refused])
    if (place / _INDEX).read_bytes() != (kept / _INDEX).read_bytes():
        # Made anew without them.
        host.run(["depmod", boot_set.release], timeout=_DEPMOD_SECONDS)
    sync_file_system(place)
    told = f"{len(missing)} files were gone from {MODULES}/{boot_set.release} and are put back"
    if tree_identity(read_tree(place, cache=cache, wanted=is_module)) == boot_set.modules:
        return told
    return f"{told}; others there are not those of {label(boot_set)} and were left alone"


def _put_file(kept: Path, place: Path, name: str, cache: Cache) -> bool:
    """Put one file back; False where the file system refuses to link it."""
    source, target = kept / name, place / name
    for folder in reversed([above for above in target.parents if above.is_relative_to(place)]):
        if not folder.exists():
            folder.mkdir()
            folder.chmod((kept / folder.relative_to(place)).stat().st_mode & 0o777)
    with suppress(FileExistsError):  # somebody was quicker
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            return link_file(source, target, cache)
    return True


def _mark_restored(host: Host, boot_set: BootSet) -> None:
    """Remember that files in /lib/modules may be ours. packaging/dpkg/package-hook does so too."""
    (host.path(f"{KEPT_FIRMWARE}/{boot_set.fingerprint}") / _RESTORED).touch()


def carry_mark(before: Path, after: Path) -> None:
    """Remember it also of a boot set that is kept anew."""
    if (before / _RESTORED).exists():
        (after / _RESTORED).touch()


def forget_restored(host: Host, tree: Path) -> None:
    """Remove a module tree that we put back, once nothing of this host is left that needs it."""
    if not (tree / _RESTORED).exists():
        return
    for kept in (tree / "modules").iterdir():
        if not _is_needed(host, kept):
            remove_folder(host.path(f"{MODULES}/{kept.name}"))


def _is_needed(host: Host, kept: Path) -> bool:
    """Tell whether the kernel of a kept module tree runs, is installed, or is kept once more."""
    release = kept.name
    others = host.path(KEPT_FIRMWARE).glob(f"*/modules/{escape(release)}")
    lists = host.path(_PACKAGE_LISTS).glob(f"*-{escape(release)}*.list")
    owned = f"/lib/modules/{release}/"
    return (
        host.exists(f"/boot/vmlinuz-{release}")
        or host.read_text("/proc/sys/kernel/osrelease").strip() == release
        or any(other != kept for other in others)
        or any(owned in path.read_text(errors="replace") for path in lists)
    )


def sweep_modules(host: Host) -> None:
    """Remove drafts of module trees that a killed worker, or a killed package-hook, left.

    Only below the names of releases that are kept: the rest of /lib/modules is the host's.
    Raises `VaultError`.
    """
    try:
        for release in {kept.name for kept in host.path(KEPT_FIRMWARE).glob("*/modules/*")}:
            place = host.path(f"{MODULES}/{release}")
            for draft in (draft_of(place), place.with_name(f".{release}{_HOOK_DRAFT}")):
                remove_folder(draft)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error
