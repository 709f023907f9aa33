"""All readers asked at one moment. A reader that fails makes its part Unknown, never empty."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from trialboot.content import file_sha256, read_tree
from trialboot.core.bootset import BootSet, Fingerprint, plain_command_line, tree_identity, word_of
from trialboot.core.change import BootDetail, Change, changes, sentence
from trialboot.core.facts import EntryId, Kernel, Module, Network, Tree, Unknown
from trialboot.core.menu import (
    BOOT_WORD,
    KNOWN_GOOD,
    Menu,
    MenuEntry,
    entry_of,
    next_entry,
    wanted_entry,
)
from trialboot.core.outlook import Outlook, Ran, Snapshot
from trialboot.core.trial import Choice, Trial
from trialboot.errors import HostError, StoreError
from trialboot.host import Host, write_durably
from trialboot.loaders.grub import Grub
from trialboot.readers import bootmenu, ebpf, kernel, modules, network, packages
from trialboot.writers import store, vault

PACKAGED_FIRMWARE: Final = "/run/trialboot/packaged-firmware"
KEPT_FIRMWARE_MOUNTED: Final = "/run/trialboot/kept-firmware-mounted"
_FIRMWARE: Final = "/lib/firmware"
_RAN: Final = f"{store.STATE}/ran.json"
_CACHE: Final = f"{store.STATE}/content-cache.json"
_T = TypeVar("_T")


def take(host: Host) -> Snapshot:
    """Read everything that one moment of a host has, but the network: that takes rights."""
    now = moment(host)
    runs = kernel.read_kernel(host)
    return Snapshot(
        taken_at=now,
        kernel=runs,
        modules=_loaded(host, runs),
        firmware=_guarded(
            lambda: read_tree(host.path(firmware_folder(host)), cache=_read_cache(host))
        ),
        packages=packages.read_packages(host),
    )


def take_network(host: Host) -> Network:
    """Sample the network alone: what a verdict is found from."""
    return network.read_network(host, ebpf.read_attachments(host))


def moment(host: Host) -> str:
    """Give the time as all records have it: RFC 3339, UTC, whole seconds."""
    return host.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def firmware_folder(host: Host) -> str:
    """Name the folder with the packages' own firmware.

    On a known-good boot the kept tree lies over /lib/firmware, until a package manager begins; the
    packages' tree is then where the known-good's initrd bound it before (packaging/initramfs).
    """
    return PACKAGED_FIRMWARE if host.exists(KEPT_FIRMWARE_MOUNTED) else _FIRMWARE


def _loaded(host: Host, runs: Kernel | Unknown) -> tuple[Module, ...] | Unknown:
    if isinstance(runs, Unknown):
        return runs
    return modules.read_loaded_modules(host, runs.release)


def _guarded(read: Callable[[], _T]) -> _T | Unknown:
    try:
        return read()
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")
    except HostError as error:
        return Unknown(str(error))


# --- the boot side ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _BootSide:
    """What the questions about boot sets share: the menu and what was hashed already."""

    host: Host
    kernel: Kernel
    menu: Menu | Unknown
    cache: dict[str, str]


def look_ahead(
    host: Host,
    trial: Trial,
    loaded: tuple[Module, ...] | Unknown,
    *,
    remember: bool = True,
) -> Outlook:
    """Tell what runs, what would boot next, and what that changes. Raises `HostError`.

    `loaded` are the modules in use now. Unless told otherwise it remembers what this boot loaded
    and what was hashed.
    """
    runs = kernel.read_kernel(host)
    if isinstance(runs, Unknown):
        raise HostError(f"the running kernel cannot be read: {runs.why}")
    side = _BootSide(host, runs, bootmenu.read_menu(host), _read_cache(host))
    ran = _ran(side)
    if remember and isinstance(ran, Ran):
        store.save(host, _RAN, ran)
    outlook = _look(side, trial, ran, loaded)
    if remember:
        _write_cache(host, side.cache)
    return outlook


def _look(
    side: _BootSide, trial: Trial, ran: Ran | Unknown, loaded: tuple[Module, ...] | Unknown
) -> Outlook:
    wanted = _wanted(side)
    rows = _changes(_base(side, trial, ran), wanted, loaded)
    said = _said(rows, loaded)
    return Outlook(
        taken_at=moment(side.host),
        boot=side.kernel.boot,
        running=ran if isinstance(ran, Unknown) else _choice_of(ran),
        wanted=_with_summary(wanted, said),
        next_entry=_next(side.menu),
        once_pending=isinstance(side.menu, Menu) and bool(side.menu.once),
        changes=rows,
        sentence=said,
        protection=_guarded(Grub(side.host).protection),
    )


def _choice_of(ran: Ran) -> Choice:
    return Choice(entry=ran.entry, boot_set=ran.detail.boot_set)


def _next(menu: Menu | Unknown) -> EntryId | Unknown:
    if isinstance(menu, Unknown):
        return menu
    resolved = next_entry(menu)
    return resolved if isinstance(resolved, Unknown) else resolved.entry.entry


@dataclass(frozen=True, slots=True)
class _Wanted:
    entry: EntryId
    detail: BootDetail


def _wanted(side: _BootSide) -> _Wanted | Unknown:
    if isinstance(side.menu, Unknown):
        return side.menu
    resolved = wanted_entry(side.menu)
    if isinstance(resolved, Unknown):
        return resolved
    detail = _detail_of(side, resolved.entry)
    return detail if isinstance(detail, Unknown) else _Wanted(resolved.entry.entry, detail)


def _with_summary(wanted: _Wanted | Unknown, said: str) -> Choice | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    return Choice(entry=wanted.entry, boot_set=wanted.detail.boot_set, summary=said)


def _changes(
    base: BootDetail | Unknown,
    wanted: _Wanted | Unknown,
    loaded: tuple[Module, ...] | Unknown,
) -> tuple[Change, ...] | Unknown:
    if isinstance(base, Unknown):
        return base
    if isinstance(wanted, Unknown):
        return wanted
    return changes(base, wanted.detail, loaded)


def _said(rows: tuple[Change, ...] | Unknown, loaded: tuple[Module, ...] | Unknown) -> str:
    if isinstance(rows, Unknown):
        return f"What the next boot changes is not known: {rows.why}."
    return sentence(rows, loaded)


def _base(side: _BootSide, trial: Trial, ran: Ran | Unknown) -> BootDetail | Unknown:
    """Give what the next boot is compared with: the known-good, else what runs."""
    if trial.known_good is None or not trial.pinned:
        return ran if isinstance(ran, Unknown) else ran.detail
    return _kept_detail(side, trial.known_good)


def _kept_detail(side: _BootSide, kept: BootSet) -> BootDetail | Unknown:
    folder = side.host.path(vault.firmware_of(kept.fingerprint))
    firmware = _guarded(lambda: read_tree(folder, cache=side.cache))
    return _detail(side, kept, firmware)


def _detail(side: _BootSide, boot_set: BootSet, firmware: Tree | Unknown) -> BootDetail | Unknown:
    if isinstance(firmware, Unknown):
        return firmware
    known = modules.read_known_modules(side.host, boot_set.release)
    if isinstance(known, Unknown):
        return known
    return BootDetail(boot_set=boot_set, firmware=firmware, modules=known)


def _ran(side: _BootSide) -> Ran | Unknown:
    """Tell what this boot loaded: remembered from its first snapshot, or read now."""
    stored = store.load(side.host, _RAN, Ran)
    if isinstance(stored, Ran) and stored.boot == side.kernel.boot:
        return stored
    return _read_ran(side)


def _read_ran(side: _BootSide) -> Ran | Unknown:
    fingerprint = word_of(side.kernel.command_line, BOOT_WORD)
    if isinstance(fingerprint, str):
        return _ran_kept(side, Fingerprint(fingerprint))
    if isinstance(side.menu, Unknown):
        return side.menu
    entry = entry_of(side.menu, side.kernel.command_line)
    if isinstance(entry, Unknown):
        return entry
    menu_entry = next(e for e in side.menu.entries if e.entry == entry)
    detail = _detail_of(side, menu_entry)
    if isinstance(detail, Unknown):
        return detail
    late = _changed_since_boot(side, menu_entry, detail)
    return Unknown(late) if late else Ran(boot=side.kernel.boot, entry=entry, detail=detail)


def _ran_kept(side: _BootSide, fingerprint: Fingerprint) -> Ran | Unknown:
    kept = vault.load(side.host, fingerprint)
    if isinstance(kept, Unknown):
        return kept
    detail = _kept_detail(side, kept)
    if isinstance(detail, Unknown):
        return detail
    return Ran(boot=side.kernel.boot, entry=KNOWN_GOOD, detail=detail)


def _changed_since_boot(side: _BootSide, entry: MenuEntry, detail: BootDetail) -> str:
    """Name the file that is no longer what this boot loaded, by ctime; empty if all still are."""
    if detail.boot_set.release != side.kernel.release:
        return f"{entry.kernel} is {detail.boot_set.release}, but {side.kernel.release} runs"
    for path in (entry.kernel, *entry.initrds):
        place = bootmenu.host_path(side.host, path)
        if isinstance(place, Unknown):
            return place.why
        if side.host.path(place).stat().st_ctime > side.kernel.boot_time:
            return f"{place} has changed since this boot; the next boot will tell"
    modules_now = _guarded(lambda: _module_tree(side, side.kernel.release))
    for name, tree in (("firmware", detail.firmware), ("module", modules_now)):
        if isinstance(tree, Unknown):
            return tree.why
        if tree.newest_change > side.kernel.boot_time:
            return f"the {name} tree has changed since this boot; the next boot will tell"
    return ""


def _detail_of(side: _BootSide, entry: MenuEntry) -> BootDetail | Unknown:
    """Hash what a menu entry would load now."""
    if len(entry.initrds) > 1:
        return Unknown(f"{entry.entry}: an entry with several initrds is not understood yet")
    hashed = [_hashed(side, path) for path in (entry.kernel, *entry.initrds)]
    for part in hashed:
        if isinstance(part, Unknown):
            return part
    image = bootmenu.host_path(side.host, entry.kernel)
    release = image if isinstance(image, Unknown) else _release_of(side.host.path(image))
    if isinstance(release, Unknown):
        return release
    return _whole(side, entry, release, [part for part in hashed if isinstance(part, str)])


def _whole(
    side: _BootSide, entry: MenuEntry, release: str, hashed: list[str]
) -> BootDetail | Unknown:
    folder = side.host.path(firmware_folder(side.host))
    firmware = _guarded(lambda: read_tree(folder, cache=side.cache))
    tree = _guarded(lambda: _module_tree(side, release))
    if isinstance(firmware, Unknown):
        return firmware
    if isinstance(tree, Unknown):
        return tree
    boot_set = BootSet(
        release=release,
        kernel=hashed[0],
        initrd=hashed[1] if len(hashed) > 1 else "",
        modules=tree_identity(tree),
        firmware=tree_identity(firmware),
        command_line=plain_command_line(entry.arguments),
    )
    return _detail(side, boot_set, firmware)


def _module_tree(side: _BootSide, release: str) -> Tree:
    folder = side.host.path(f"/lib/modules/{release}")
    return read_tree(folder, cache=side.cache, wanted=modules.is_module)


def _hashed(side: _BootSide, path: str) -> str | Unknown:
    place = bootmenu.host_path(side.host, path)
    if isinstance(place, Unknown):
        return place
    target = side.host.path(place)
    return _guarded(lambda: _cached_sha256(target, side.cache))


def _cached_sha256(path: Path, cache: dict[str, str]) -> str:
    status = path.stat()
    key = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"
    if key not in cache:
        cache[key] = file_sha256(path)
    return cache[key]


def _release_of(image: Path) -> str | Unknown:
    try:
        with image.open("rb") as file:
            return kernel.parse_image_release(file.read(kernel.IMAGE_HEAD))
    except OSError as error:
        return Unknown(f"{image}: {error.strerror}")


def _read_cache(host: Host) -> dict[str, str]:
    try:
        found = json.loads(host.path(_CACHE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only speed is lost
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _write_cache(host: Host, cache: dict[str, str]) -> None:
    target = host.path(_CACHE)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, json.dumps(cache).encode())
    except OSError as error:
        raise StoreError(f"{_CACHE}: {error.strerror}") from error
