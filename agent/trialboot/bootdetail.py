"""One boot set in detail: what a menu entry would load now, or what was kept of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trialboot.content import Cache, file_sha256, is_module, part_sha256, read_tree
from trialboot.core.bootset import BootSet, initrd_identity, plain_command_line, tree_identity
from trialboot.core.change import BootDetail
from trialboot.core.facts import Kernel, ModuleTree, Tree, Unknown
from trialboot.core.menu import Menu, MenuEntry
from trialboot.core.outlook import Snapshot
from trialboot.core.uki import Section
from trialboot.covered import modules_folder
from trialboot.host import Host
from trialboot.readers import bootmenu, initrd, kernel, kernelconfig, modules
from trialboot.snapshot import guarded
from trialboot.writers.vault import layout, parts


@dataclass(frozen=True, slots=True)
class BootSide:
    """What the questions about boot sets share: the snapshot, the menu, what is hashed."""

    host: Host
    kernel: Kernel
    snapshot: Snapshot
    menu: Menu | Unknown
    cache: Cache
    wanted_modules: tuple[str, ...]
    """Names of the modules in use: their files are compared."""
    aliases: tuple[str, ...] | Unknown
    """Modaliases of this host's devices, and the names of the modules in use."""


def read_detail(side: BootSide, entry: MenuEntry) -> BootDetail | Unknown:
    """Hash what a menu entry would load now."""
    places = [bootmenu.host_path(side.host, path) for path in (entry.kernel, *entry.initrds)]
    for place in places:
        if isinstance(place, Unknown):
            return place
    files = [place for place in places if isinstance(place, str)]
    parts = _parts_of(entry, files)
    hashed = [guarded(lambda part=part: hash_of(side, *part)) for part in parts]  # type: ignore[misc]  # bound at once
    for part in hashed:
        if isinstance(part, Unknown):
            return part
    kernel_part = entry.image.linux if entry.image else None
    banner = _banner_of(side.host.path(files[0]), kernel_part.offset if kernel_part else 0)
    if isinstance(banner, Unknown):
        return banner
    identities = [part for part in hashed if isinstance(part, str)]
    return _whole(side, entry, banner, files, identities)


def read_kept(side: BootSide, kept: BootSet) -> BootDetail | Unknown:
    """Read what is kept of a boot set."""
    folder = side.host.path(layout.firmware_of(kept.fingerprint))
    firmware = guarded(lambda: read_tree(folder, cache=side.cache))
    if isinstance(firmware, Unknown):
        return firmware
    tree = _kept_modules(side, kept)
    if isinstance(tree, Unknown):
        return tree
    initrds = parts.initrds_of(side.host, kept)
    return BootDetail(
        boot_set=kept,
        firmware=firmware,
        modules=tree,
        options=kernelconfig.read_options(side.host, kept.release),
        microcode=initrds if isinstance(initrds, Unknown) else _microcode(side, initrds),
    )


def module_files(side: BootSide, release: str) -> Tree:
    """Hash the modules of a release. Raises `OSError`."""
    folder = side.host.path(modules_folder(side.host, release))
    return read_tree(folder, cache=side.cache, wanted=is_module)


def hash_of(side: BootSide, path: str, section: Section | None = None) -> str:
    """Give the SHA-256 of a file or of a section in it, from the cache where it has not changed.

    Raises `OSError`.
    """
    place = side.host.path(path)
    status = place.stat()
    key = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"
    if section is not None:
        key += f":{section.offset}+{section.size}"
    if key not in side.cache:
        side.cache[key] = (
            file_sha256(place)
            if section is None
            else part_sha256(place, section.offset, section.size)
        )
    return side.cache[key]


def _parts_of(entry: MenuEntry, files: list[str]) -> list[tuple[str, Section | None]]:
    """Name what the kernel and its initrds are: files, or sections of a unified image.

    A section is the same as a file of its content: it can be kept as one, and booted from there.
    """
    if entry.image is None:
        return [(file, None) for file in files]
    sections = [s for s in (entry.image.linux, entry.image.initrd) if s is not None]
    return [(files[0], section) for section in sections]


def _whole(
    side: BootSide, entry: MenuEntry, banner: str, files: list[str], identities: list[str]
) -> BootDetail | Unknown:
    release = banner.split(" ", 1)[0]
    firmware = side.snapshot.firmware
    content = guarded(lambda: module_files(side, release))
    tree = _module_tree(side, release, modules_folder(side.host, release))
    if isinstance(firmware, Unknown):
        return firmware
    if isinstance(content, Unknown):
        return content
    if isinstance(tree, Unknown):
        return tree
    return BootDetail(
        boot_set=BootSet(
            release=release,
            kernel=identities[0],
            initrd=initrd_identity(identities[1:]),
            modules=tree_identity(content),
            firmware=tree_identity(firmware),
            command_line=plain_command_line(entry.arguments),
        ),
        firmware=firmware,
        modules=tree,
        options=kernelconfig.read_options(side.host, release),
        microcode=_microcode_of(side, entry, files),
        build=kernel.parse_build(banner),
    )


def _banner_of(image: Path, offset: int = 0) -> str | Unknown:
    try:
        with image.open("rb") as file:
            file.seek(offset)
            return kernel.parse_image_banner(file.read(kernel.IMAGE_HEAD))
    except OSError as error:
        return Unknown(f"{image}: {error.strerror}")


def _kept_modules(side: BootSide, kept: BootSet) -> ModuleTree | Unknown:
    """Read the kept tree; a boot set that was kept without one has that of its release."""
    folder = layout.modules_of(kept)
    place = folder if side.host.exists(folder) else f"/lib/modules/{kept.release}"
    return _module_tree(side, kept.release, place)


def _module_tree(side: BootSide, release: str, folder: str) -> ModuleTree | Unknown:
    return modules.read_module_tree(
        side.host, release, side.wanted_modules, side.aliases, folder=folder, cache=side.cache
    )


def _microcode_of(
    side: BootSide, entry: MenuEntry, files: list[str]
) -> tuple[tuple[str, str], ...] | Unknown:
    if entry.image is not None:
        return Unknown("that of a unified kernel image is not read yet")
    return _microcode(side, files[1:])


def _microcode(side: BootSide, paths: Sequence[str]) -> tuple[tuple[str, str], ...] | Unknown:
    """Read the microcode of all initrds: of two files with one name the kernel takes the first."""
    found: dict[str, str] = {}
    for path in paths:
        read = initrd.read_microcode(side.host, path)
        if isinstance(read, Unknown):
            return read
        found = {**dict(read), **found}
    return tuple(sorted(found.items()))
