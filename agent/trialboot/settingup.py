"""`doctor --set` and `--unset`: what a host needs for more protection, on request, one file each.

A setting that does not come out as meant is taken back. What needs a restart, or a new initrd, is
proposed and not done.
"""

from collections.abc import Callable, Mapping
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.menu import wanted_entry
from trialboot.core.protection import against_panic, against_runtime, against_watchdog
from trialboot.errors import HostError, LoaderError, TrialbootError
from trialboot.host import Host
from trialboot.loaders import ground
from trialboot.loaders.choice import loader_of
from trialboot.loaders.grub import Grub
from trialboot.readers.bootmenu import read_menu
from trialboot.terminal import tell
from trialboot.writers import dropins
from trialboot.writers.dropins import DROP_INS, Setting

_REBUILD: Final = "«update-initramfs -u -k all», with dracut «dracut -f --regenerate-all»"


def set_up(host: Host, setting: Setting) -> int:
    """Write a setting. Raises `HostError` or `LoaderError`, and then nothing has changed."""
    _SET[setting](host)
    return 0


def take_back(host: Host, setting: Setting) -> int:
    """Remove a setting of ours. Raises `HostError` or `LoaderError`, and then it stays."""
    if not dropins.is_set(host, setting):
        tell(f"{DROP_INS[setting].path} is not there: nothing to remove")
        return 0
    _UNSET[setting](host)
    return 0


# --- panic= -------------------------------------------------------------------------------------


def _set_panic(host: Host) -> None:
    grub = _grub(host)
    if not _against_panic(host):
        tell("panic= is on the next command line already: nothing to do")
        return
    dropins.put(host, Setting.PANIC)
    try:
        grub.refresh()
        against = _against_panic(host)
        if against:
            raise LoaderError(f"{against[0]}; another file sets GRUB_CMDLINE_LINUX after ours")
    except TrialbootError:
        dropins.remove(host, Setting.PANIC)
        grub.refresh()
        raise
    _tell_written(Setting.PANIC)
    tell("a changed command line is a change: armed, the next boot is a trial")


def _unset_panic(host: Host) -> None:
    grub = _grub(host)
    dropins.remove(host, Setting.PANIC)
    try:
        grub.refresh()
    except TrialbootError:
        dropins.put(host, Setting.PANIC)
        raise
    tell("removed; a changed command line is a change: armed, the next boot is a trial")


def _grub(host: Host) -> Grub:
    loader = loader_of(host, read_menu(host))
    if isinstance(loader, Grub):
        return loader
    why = loader.why if isinstance(loader, Unknown) else "its boot loader is not GRUB"
    raise LoaderError(
        f"{why}: put panic=10 on the command line by hand, with systemd-boot in "
        "/etc/kernel/cmdline, with grubby by «grubby --update-kernel=ALL --args=panic=10»"
    )


def _against_panic(host: Host) -> tuple[str, ...]:
    menu = read_menu(host)
    wanted = menu if isinstance(menu, Unknown) else wanted_entry(menu)
    line = wanted if isinstance(wanted, Unknown) else wanted.entry.arguments
    return against_panic("next", line)


# --- watchdogs ----------------------------------------------------------------------------------


def _set_watchdog(host: Host) -> None:
    against = against_watchdog(ground.watchdogs(host))
    if against:
        raise HostError(f"{against[0]}: nothing to arm")
    dropins.put(host, Setting.WATCHDOG)
    _tell_written(Setting.WATCHDOG)
    tell("in force from the next boot on, or now with «systemctl daemon-reexec»")


def _unset_watchdog(host: Host) -> None:
    if dropins.is_set(host, Setting.WATCHDOG_IN_INITRD):
        raise HostError("first «trialboot doctor --unset watchdog-in-initrd»: systemd feeds it")
    dropins.remove(host, Setting.WATCHDOG)
    tell("removed; in force from the next boot on, or now with «systemctl daemon-reexec»")


def _set_early(host: Host) -> None:
    dogs = against_watchdog(ground.watchdogs(host))
    # An armed watchdog that nobody takes over resets a healthy machine.
    against = (*dogs, *against_runtime(ground.watchdog_seconds(host)))
    if against:
        raise HostError(f"{against[0]}: first «trialboot doctor --set watchdog», then reexec")
    dropins.put(host, Setting.WATCHDOG_IN_INITRD)
    _tell_written(Setting.WATCHDOG_IN_INITRD)
    tell(f"in force in initrds that are built from now on: {_REBUILD}")
    tell("a rebuilt initrd is a change: armed, the next boot is a trial")


def _unset_early(host: Host) -> None:
    dropins.remove(host, Setting.WATCHDOG_IN_INITRD)
    # An initrd that still arms it finds the switch gone, and disarms it before systemd starts.
    tell(f"removed; initrds that are built from now on do without: {_REBUILD}")


def _tell_written(setting: Setting) -> None:
    tell(f"written: {DROP_INS[setting].path}")


_SET: Final[Mapping[Setting, Callable[[Host], None]]] = {
    Setting.PANIC: _set_panic,
    Setting.WATCHDOG: _set_watchdog,
    Setting.WATCHDOG_IN_INITRD: _set_early,
}
_UNSET: Final[Mapping[Setting, Callable[[Host], None]]] = {
    Setting.PANIC: _unset_panic,
    Setting.WATCHDOG: _unset_watchdog,
    Setting.WATCHDOG_IN_INITRD: _unset_early,
}
