"""The boot side of a snapshot: what runs, what would boot next, and what that changes."""

from dataclasses import dataclass

from trialboot.bootdetail import BootSide, hash_of, read_detail, read_kept
from trialboot.config import read_config
from trialboot.content import Cache, is_module, read_tree
from trialboot.core.bootset import BootSet, tree_identity, word_of
from trialboot.core.change import Ahead, BootDetail, Change, InUse
from trialboot.core.compare import changes, objections
from trialboot.core.doctor import against_least
from trialboot.core.facts import EntryId, Kernel, Unknown
from trialboot.core.menu import (
    FIRMWARE_WORD,
    INSTEAD_WORD,
    KNOWN_GOOD,
    Menu,
    MenuEntry,
    against_default,
    next_entry,
    wanted_entry,
)
from trialboot.core.outlook import Outlook, Ran, Snapshot
from trialboot.core.protection import Protection
from trialboot.core.sentence import NOTHING_SEEN, sentence
from trialboot.core.trial import FALLBACK, PICKED, Choice, Crowded, Trial
from trialboot.covered import left_uncovered, second_initrd_ran
from trialboot.errors import ConfigError, HostError, VaultError
from trialboot.host import Host
from trialboot.loaders.choice import is_controlled, loader_of
from trialboot.loaders.interface import Loader
from trialboot.readers import bootmenu, initrd, modules
from trialboot.snapshot import guarded
from trialboot.whatran import what_ran
from trialboot.writers.vault import layout, moduletrees, ownfiles, parts, room


def look_ahead(
    host: Host, trial: Trial, taken: Snapshot, cache: Cache, *, remember: bool = True
) -> Outlook:
    """Tell what runs, what would boot next, and what that changes. Raises `HostError`.

    Unless told otherwise it remembers what this boot loaded.
    """
    if isinstance(taken.kernel, Unknown):
        raise HostError(f"the running kernel cannot be read: {taken.kernel.why}")
    side = _side(host, taken.kernel, taken, cache)
    return _look(side, trial, what_ran(side, trial, remember=remember))


def _side(host: Host, runs: Kernel, taken: Snapshot, cache: Cache) -> BootSide:
    loaded = () if isinstance(taken.modules, Unknown) else taken.modules
    names = tuple(module.name for module in loaded)
    devices = modules.read_modaliases(host)
    return BootSide(
        host=host,
        kernel=runs,
        snapshot=taken,
        menu=bootmenu.read_menu(host),
        cache=cache,
        wanted_modules=names,
        aliases=devices if isinstance(devices, Unknown) else (*devices, *names),
    )


def _look(side: BootSide, trial: Trial, ran: Ran | Unknown) -> Outlook:
    loader = loader_of(side.host, side.menu)
    able = loader if isinstance(loader, Unknown) else guarded(loader.protection)
    wanted = _wanted(side)
    base = _base(side, trial, ran)
    rows = _changes(side, trial, base, wanted, ran)
    unseen = _not_seen(side, base, wanted)
    said = _said(rows, unseen)
    hinders = _obstacles(side.host, loader, able, wanted, rows)
    return Outlook(
        taken_at=side.snapshot.taken_at,
        boot=side.kernel.boot,
        running=ran if isinstance(ran, Unknown) else _choice_of(ran),
        wanted=_as_choice(wanted, rows, said, hinders),
        next_entry=_next(side.menu),
        once_pending=isinstance(side.menu, Menu) and bool(side.menu.once or side.menu.once_doubt),
        changes=rows,
        sentence=said,
        protection=able,
        controlled=not isinstance(side.menu, Menu) or is_controlled(side.menu),
        evidence=side.snapshot.evidence,
        once=_once_choice(side, wanted),
        instead=_instead(side.kernel.command_line),
        damage=_damage(side, trial, base),
        crowded=_crowded(side, trial),
        not_seen=unseen,
    )


def _instead(command_line: str) -> str:
    told = word_of(command_line, INSTEAD_WORD)
    return told if told in {PICKED, FALLBACK} else ""


def _choice_of(ran: Ran) -> Choice:
    return Choice(entry=ran.entry, boot_set=ran.detail.boot_set)


def _next(menu: Menu | Unknown) -> EntryId | Unknown:
    if isinstance(menu, Unknown):
        return menu
    resolved = next_entry(menu)
    return resolved if isinstance(resolved, Unknown) else resolved.entry.entry


@dataclass(frozen=True, slots=True)
class _Wanted:
    entry: MenuEntry
    detail: BootDetail
    fell_back: str
    """Why it is the menu's first entry although another one is named; empty where it is not."""


def _wanted(side: BootSide) -> _Wanted | Unknown:
    if isinstance(side.menu, Unknown):
        return side.menu
    resolved = wanted_entry(side.menu)
    if isinstance(resolved, Unknown):
        return resolved
    detail = read_detail(side, resolved.entry)
    if isinstance(detail, Unknown):
        return detail
    lost = resolved.fell_back and resolved.spec
    return _Wanted(resolved.entry, detail, fell_back=resolved.why if lost else "")


def _once_choice(side: BootSide, wanted: _Wanted | Unknown) -> Choice | Unknown | None:
    if isinstance(side.menu, Unknown):
        return side.menu
    if not side.menu.once and not side.menu.once_doubt:
        return None
    resolved = next_entry(side.menu)
    if isinstance(resolved, Unknown):
        return resolved
    entry = resolved.entry
    if isinstance(wanted, _Wanted) and wanted.entry == entry:
        return Choice(entry=entry.entry, boot_set=wanted.detail.boot_set)
    detail = read_detail(side, entry)
    if isinstance(detail, Unknown):
        return detail
    return Choice(entry=entry.entry, boot_set=detail.boot_set)


def _as_choice(
    wanted: _Wanted | Unknown,
    rows: tuple[Change, ...] | Unknown,
    said: str,
    obstacles: tuple[str, ...],
) -> Choice | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    return Choice(
        entry=wanted.entry.entry,
        boot_set=wanted.detail.boot_set,
        summary=said,
        objections=() if isinstance(rows, Unknown) else objections(rows),
        obstacles=obstacles,
    )


def _obstacles(
    host: Host,
    loader: Loader | Unknown,
    able: Protection | Unknown,
    wanted: _Wanted | Unknown,
    rows: tuple[Change, ...] | Unknown,
) -> tuple[str, ...]:
    """Say why this host cannot try what it would boot next, whatever its operator allows."""
    if isinstance(wanted, Unknown) or isinstance(loader, Unknown) or rows == ():
        return ()  # a loader that is only read leaves the host in observe mode
    try:
        least = read_config(host).boot.least_protection.level
    except ConfigError as error:
        return (f"the least protection is not known: {error}",)
    told = guarded(lambda: loader.against(wanted.entry.entry))
    against = (told.why,) if isinstance(told, Unknown) else told
    # A loader that lacks a one-shot says so of the host and of each entry.
    return tuple(dict.fromkeys((*against_least(able, least), *against)))


# --- what changes -----------------------------------------------------------------------------


def _changes(
    side: BootSide,
    trial: Trial,
    base: BootDetail | Unknown,
    wanted: _Wanted | Unknown,
    ran: Ran | Unknown,
) -> tuple[Change, ...] | Unknown:
    if isinstance(base, Unknown):
        return base
    if isinstance(wanted, Unknown):
        return wanted
    taken = side.snapshot
    use = InUse(modules=taken.modules, interfaces=taken.equipment.interfaces, dkms=taken.dkms)
    return changes(base, wanted.detail, use, _ahead(side, trial, wanted, ran))


def _ahead(side: BootSide, trial: Trial, wanted: _Wanted, ran: Ran | Unknown) -> Ahead:
    taken = side.snapshot
    # Without knowing this boot's beginning there is nothing to hold the settings against.
    settings = (
        (taken.settings, taken.settings)
        if isinstance(ran, Unknown)
        else (
            ran.settings,
            taken.settings,
        )
    )
    waiting = (device for device in taken.equipment.devices if device.stored)
    return Ahead(
        settings_then=settings[0],
        settings_now=settings[1],
        kexec_staged=side.kernel.kexec_staged,
        boot_next=taken.boot_next,
        stale=_stale(side, wanted),
        once=_once(side.menu, trial, wanted),
        fell_back=wanted.fell_back,
        waiting=tuple((f"{d.kind} {d.name}", d.running, d.stored) for d in waiting),
    )


def _once(menu: Menu | Unknown, trial: Trial, wanted: _Wanted) -> str:
    """Name what somebody else lets the loader boot once before `wanted`; empty for nothing."""
    if isinstance(menu, Unknown) or not menu.once:
        return ""
    resolved = next_entry(menu)
    if isinstance(resolved, Unknown):
        return menu.once
    ours = (KNOWN_GOOD, wanted.entry.entry, trial.candidate.entry if trial.candidate else "")
    return "" if resolved.entry.entry in ours else resolved.entry.title


def _stale(side: BootSide, wanted: _Wanted) -> tuple[str, ...] | Unknown:
    if not wanted.entry.initrds:
        return ()
    place = bootmenu.host_path(side.host, wanted.entry.initrds[-1])
    if isinstance(place, Unknown):
        return place
    return initrd.read_stale(side.host, place, wanted.detail.boot_set.release)


def _said(rows: tuple[Change, ...] | Unknown, unseen: tuple[str, ...]) -> str:
    if isinstance(rows, Unknown):
        return f"What the next boot changes is not known: {rows.why}."
    return NOTHING_SEEN if unseen and not rows else sentence(rows)


def _not_seen(
    side: BootSide, base: BootDetail | Unknown, wanted: _Wanted | Unknown
) -> tuple[str, ...]:
    """Name what might have told of more changes, so that a short list is not taken for all."""
    taken = side.snapshot
    parts: list[tuple[str, object]] = [
        ("modules in use", taken.modules),
        ("interfaces", taken.equipment.interfaces),
        ("UEFI BootNext", taken.boot_next),
        ("dkms", taken.dkms),
        ("settings", taken.settings),
    ]
    for when, detail in (("before", base), ("next", wanted)):
        found = detail.detail if isinstance(detail, _Wanted) else detail
        if isinstance(found, BootDetail):
            parts += [
                (f"drivers of devices, {when}", found.modules.drivers),
                (f"kernel options, {when}", found.options),
                (f"microcode, {when}", found.microcode),
            ]
    told = [f"{name}: {part.why}" for name, part in parts if isinstance(part, Unknown)]
    unread = () if isinstance(wanted, Unknown) else wanted.detail.modules.unread
    return (*_not_bound(side), *told, *taken.equipment.unread, *unread)


def _not_bound(side: BootSide) -> tuple[str, ...]:
    """Say so where the known-good runs with trees that are not known to be the kept ones."""
    asked = word_of(side.kernel.command_line, FIRMWARE_WORD)
    if isinstance(asked, Unknown):
        return ()
    if second_initrd_ran(side.host):
        why = "they could not be bound, and may be the packages' own (dmesg | grep trialboot)"
        return tuple(
            f"{kind} of the known-good that runs: {why}" for kind in left_uncovered(side.host)
        )
    why = "its initrd runs no hook of initramfs-tools or dracut, so they may be the packages' own"
    return (f"firmware and modules of the known-good that runs: {why}",)


# --- what it is compared with -----------------------------------------------------------------


def _base(side: BootSide, trial: Trial, ran: Ran | Unknown) -> BootDetail | Unknown:
    """Give what the next boot is compared with: the known-good, else what runs."""
    if trial.known_good is None or not trial.pinned:
        return ran if isinstance(ran, Unknown) else ran.detail
    return read_kept(side, trial.known_good)


# --- is the known-good whole ------------------------------------------------------------------


def _damage(side: BootSide, trial: Trial, base: BootDetail | Unknown) -> tuple[str, ...]:
    """Say what of the pinned known-good is no longer on disk as it was kept."""
    good = trial.known_good
    if good is None or not trial.pinned:
        return ()
    return tuple(
        why
        for why in (
            *_other_files(side, good),
            *_shared_initrds(side, good),
            _other_firmware(side, good, base),
            _other_modules(side, good),
            _lost_modules(side, good),
            _lost_entry(side, good),
            _lost_default(side, good),
        )
        if why
    )


def _crowded(side: BootSide, trial: Trial) -> Crowded | None:
    """Tell whether the generation before is in the way; what is not known is not told."""
    good, before = trial.known_good, trial.previous
    if good is None or before is None:
        return None
    folders = [parts.boot_folder(side.host, kept.fingerprint) for kept in (good, before)]
    why = guarded(lambda: room.against_packages(*folders))
    if isinstance(why, Unknown) or not why:
        return None
    return Crowded(at=side.snapshot.taken_at, fingerprint=before.fingerprint, why=why)


def _other_files(side: BootSide, good: BootSet) -> tuple[str, ...]:
    wanted = parts.boot_parts(side.host, good.fingerprint)
    if isinstance(wanted, Unknown):
        return (wanted.why,)
    return tuple(_other_file(side, path, identity) for path, identity in wanted)


def _other_file(side: BootSide, path: str, identity: str) -> str:
    if not side.host.exists(path):
        return f"{path} is gone"
    found = guarded(lambda: hash_of(side, path))
    # What cannot be read now is not known to be damaged.
    changed = isinstance(found, str) and found != identity
    return f"{path} is not what was kept" if changed else ""


def _shared_initrds(side: BootSide, good: BootSet) -> tuple[str, ...]:
    """Name what the next run of dracut would damage: it is mended before, while it is whole."""
    shared = guarded(lambda: ownfiles.shared_initrds(side.host, good.fingerprint))
    paths = () if isinstance(shared, Unknown) else shared
    return tuple(
        f"the kept {path.name} has another name, and dracut writes over it" for path in paths
    )


def _other_firmware(side: BootSide, good: BootSet, base: BootDetail | Unknown) -> str:
    folder = layout.firmware_of(good.fingerprint)
    if not side.host.exists(folder):
        return f"{folder} is gone"
    if isinstance(base, Unknown) or tree_identity(base.firmware) == good.firmware:
        return ""
    return "the kept firmware files are not what was kept"


def _other_modules(side: BootSide, good: BootSet) -> str:
    """Hash the kept modules: a tool that writes in place writes to the kept link as well."""
    folder = layout.modules_of(good)
    if not side.host.exists(folder):  # as before modules were kept
        return ""
    found = guarded(lambda: read_tree(side.host.path(folder), cache=side.cache, wanted=is_module))
    if isinstance(found, Unknown) or tree_identity(found) == good.modules:
        return ""
    return "the kept modules are not what was kept"


def _lost_modules(side: BootSide, good: BootSet) -> str:
    try:
        lost = moduletrees.missing_modules(side.host, good)
    except VaultError as error:
        return str(error)
    more = f" (and {len(lost) - 1} more files)" if len(lost) > 1 else ""
    return f"/lib/modules/{good.release} lacks {lost[0]}{more}" if lost else ""


def _lost_entry(side: BootSide, good: BootSet) -> str:
    if isinstance(side.menu, Unknown) or side.menu.known_good == good.fingerprint:
        return ""
    return "the boot menu has no entry for the known-good any more"


def _lost_default(side: BootSide, good: BootSet) -> str:
    """Tell of a default that somebody else has set: what was asked for is `wanted`, by a trial."""
    if isinstance(side.menu, Unknown) or side.menu.known_good != good.fingerprint:
        return ""  # not known, or told as the lost entry
    found = against_default(side.menu)
    return "" if isinstance(found, Unknown) else found
