"""What is left of a boot set whose kept files are damaged: part by part, by hash."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from trialboot.bootfiles import boot_sets
from trialboot.content import Cache, cached_sha256, is_module, read_tree
from trialboot.core.bootset import BootSet, initrd_identity, tree_identity
from trialboot.core.facts import Tree, Unknown
from trialboot.host import Host
from trialboot.writers.vault.bootsets import Sources
from trialboot.writers.vault.layout import KERNEL, firmware_of, initrd_names, modules_of
from trialboot.writers.vault.parts import boot_folder, read_manifest

_FIRMWARE, _MODULES = "firmware files", "module tree"
_NO_FIRMWARE: Final = tree_identity(Tree(files=(), newest_change=0))


def kept_sources(host: Host, boot_set: BootSet) -> Sources:
    """Say where the vault has the parts of a boot set, whole or not: the manifest is not asked."""
    folder = f"{boot_sets(host)}/{boot_set.fingerprint}"
    count = len(list(boot_folder(host, boot_set.fingerprint).glob("initrd*.img")))
    return Sources(
        kernel=f"{folder}/{KERNEL}",
        initrds=tuple(f"{folder}/{name}" for name in initrd_names(count)),
        firmware=firmware_of(boot_set.fingerprint),
        modules=modules_of(boot_set),
    )


def remaining(
    host: Host, boot_set: BootSet, places: Sequence[Sources], read: Cache
) -> Sources | Unknown:
    """Take each part from the first place that still has it; Unknown names what none has.

    `read` knows the files that were read for this very question: damage need not change a file's
    time stamps, so that no older cache is to be believed.
    """
    kernel = _first(p.kernel for p in places if _is_file(host, p.kernel, boot_set.kernel, read))
    initrds = _first(p.initrds for p in places if _are_initrds(host, p.initrds, boot_set, read))
    firmware = _first(p.firmware for p in places if _is_firmware(host, p.firmware, boot_set, read))
    modules = _first(p.modules for p in places if _are_modules(host, p.modules, boot_set, read))
    found = {"kernel": kernel, "initrd": initrds, _FIRMWARE: firmware, _MODULES: modules}
    without = _never_kept(host, boot_set)
    lost = [name for name, part in found.items() if part is None and name not in without]
    if lost:
        return Unknown(", ".join(lost))
    return Sources(
        kernel=kernel or "",
        initrds=initrds or (),
        firmware=firmware or "",
        modules=modules or "",
    )


_Part = TypeVar("_Part", str, tuple[str, ...])


def _first(found: Iterator[_Part]) -> _Part | None:
    return next(found, None)


def _never_kept(host: Host, boot_set: BootSet) -> tuple[str, ...]:
    """Name the trees that the boot set was kept without, as older versions did."""
    kept = read_manifest(host, boot_set.fingerprint)
    if isinstance(kept, Unknown):
        return ()
    was = {_FIRMWARE: kept.firmware, _MODULES: bool(kept.modules)}
    return tuple(name for name, there in was.items() if not there)


def _is_file(host: Host, path: str, identity: str, read: Cache) -> bool:
    place = host.path(path)
    try:
        return place.is_file() and cached_sha256(place, read) == identity
    except OSError:  # what a disk does not give is lost
        return False


def _are_initrds(host: Host, paths: tuple[str, ...], boot_set: BootSet, read: Cache) -> bool:
    try:
        identities = [cached_sha256(host.path(path), read) for path in paths]
    except OSError:
        return False
    return initrd_identity(identities) == boot_set.initrd


def _is_firmware(host: Host, folder: str, boot_set: BootSet, read: Cache) -> bool:
    if folder and not host.exists(folder):
        return boot_set.firmware == _NO_FIRMWARE  # a host may have none, and this is what is kept
    return _is_tree(host, folder, boot_set.firmware, read)


def _are_modules(host: Host, folder: str, boot_set: BootSet, read: Cache) -> bool:
    return _is_tree(host, folder, boot_set.modules, read, is_module)


def _is_tree(
    host: Host,
    folder: str,
    identity: str,
    read: Cache,
    wanted: Callable[[str], bool] | None = None,
) -> bool:
    try:
        return bool(folder) and identity == tree_identity(
            read_tree(host.path(folder), cache=read, wanted=wanted)
        )
    except OSError:
        return False
