"""Looks at a host for `doctor` and `arm`, in this process, and remembers nothing."""

import os
from collections.abc import Callable
from typing import TypeVar

from trialboot import lookahead, snapshot
from trialboot.bootfiles import host_path, read_menu
from trialboot.core.examined import Examined, Kept, Room, Watchdogs
from trialboot.core.facts import Unknown
from trialboot.core.menu import GRUB, Menu, MenuEntry, wanted_entry
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Protection
from trialboot.core.trial import Decision, Trial
from trialboot.errors import HostError, TrialbootError
from trialboot.host import Host
from trialboot.loaders import ground
from trialboot.loaders.choice import loader_of
from trialboot.loaders.interface import Loader
from trialboot.readers import safeguards
from trialboot.writers import aptprotection, contentcache, store

_T = TypeVar("_T")


def examine(host: Host) -> Examined:
    """Read all that decides how much of a failed trial this host undoes."""
    menu = read_menu(host)
    loader = loader_of(host, menu)
    trial = _trial(host)
    wanted = _wanted(menu)
    controlled = not isinstance(loader, Unknown)
    return Examined(
        as_root=os.geteuid() == 0,
        menu=menu,
        uncontrolled=loader.why if isinstance(loader, Unknown) else "",
        protection=_protection(loader),
        kept=trial if isinstance(trial, Unknown) else _kept(host, trial),
        running=_guarded(lambda: host.read_text("/proc/cmdline").strip()),
        following=wanted if isinstance(wanted, Unknown) else wanted.arguments,
        watchdogs=_watchdogs(host, wanted),
        grub=safeguards.read_grub_files(host) if controlled and _is_grub(menu) else None,
        lockups=safeguards.read_lockups(host),
        boot=_room_in_boot(host, wanted),
        root=safeguards.read_room(host, store.STATE),
        rescue=safeguards.read_rescue(host),
        gate=safeguards.read_gate(host),
        autoremove=safeguards.read_kept_by_apt(host, aptprotection.FOLDER, aptprotection.FILE),
        secure_boot=safeguards.read_secure_boot(host),
        kexec=safeguards.read_kexec(host),
        rpm=safeguards.read_rpm(host),
        daemon=_daemon(host),
        state_age=_state_age(host),
    )


def _is_grub(menu: Menu | Unknown) -> bool:
    return isinstance(menu, Menu) and menu.loader == GRUB


def _guarded(read: Callable[[], _T]) -> _T | Unknown:
    try:
        return read()
    except (TrialbootError, OSError) as error:
        return Unknown(str(error))


def _trial(host: Host) -> Trial | Unknown:
    """Recall the trial; a record that cannot be read is not set aside by who only looks."""
    try:
        found = store.read_decision(host)
    except OSError as error:
        return Unknown(str(error))
    if isinstance(found, Decision):
        return found.trial
    return found or Trial()


def _protection(loader: Loader | Unknown) -> Protection | Unknown:
    return loader if isinstance(loader, Unknown) else _guarded(loader.protection)


def _wanted(menu: Menu | Unknown) -> MenuEntry | Unknown:
    if isinstance(menu, Unknown):
        return Unknown("the boot menu is not understood")
    found = wanted_entry(menu)
    return found if isinstance(found, Unknown) else found.entry


def _kept(host: Host, trial: Trial) -> Kept | None:
    good = trial.known_good
    if good is None:
        return None
    return Kept(
        fingerprint=good.fingerprint,
        release=good.release,
        pinned=trial.pinned,
        damage=_damage(host, trial) if trial.pinned else (),
    )


def _damage(host: Host, trial: Trial) -> tuple[str, ...] | Unknown:
    """Hash what is kept, as a snapshot does."""
    found = _guarded(lambda: _outlook(host, trial))
    return found if isinstance(found, Unknown) else found.damage


def _outlook(host: Host, trial: Trial) -> Outlook:
    cache = contentcache.load(host)
    return lookahead.look_ahead(host, trial, snapshot.take(host, cache), cache, remember=False)


def _watchdogs(host: Host, wanted: MenuEntry | Unknown) -> Watchdogs:
    return Watchdogs(
        identities=ground.watchdogs(host),
        runtime=ground.watchdog_seconds(host),
        reboot=ground.watchdog_seconds(host, "RebootWatchdogUSec"),
        early=_early(host, wanted),
        asked_early=host.exists(ground.WATCHDOG_IN_INITRD),
    )


def _early(host: Host, wanted: MenuEntry | Unknown) -> bool | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    place = host_path(host, wanted.initrds[-1]) if wanted.initrds else ""
    return place if isinstance(place, Unknown) else ground.early_watchdog(host, place)


def _room_in_boot(host: Host, wanted: MenuEntry | Unknown) -> Room | Unknown:
    """Hold the room in /boot against what the next boot loads: another set will be as large."""
    if isinstance(wanted, Unknown):
        return wanted
    needed = 0
    for file in (wanted.kernel, *wanted.initrds):
        place = host_path(host, file)
        if isinstance(place, Unknown):
            return place
        needed += host.path(place).stat().st_size
    return safeguards.read_room(host, "/boot", needed)


def _daemon(host: Host) -> str:
    try:
        host.call("org.trialboot1", "/org/trialboot1", "org.trialboot1.Manager", "Status")
    except HostError as error:
        return f"trialbootd does not answer ({error})"
    return ""


def _state_age(host: Host) -> float | Unknown:
    try:
        written = host.path(store.STATE_FILE).stat().st_mtime
    except OSError as error:
        return Unknown(f"{store.STATE_FILE}: {error.strerror}")
    return max(0.0, host.now().timestamp() - written)
