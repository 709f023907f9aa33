"""What this host can survive during a trial, and why it is not more."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trialboot.core.bootset import word_of
from trialboot.core.facts import Unknown
from trialboot.core.language import Word

_NUMBER: Final = re.compile(r"-?[0-9]+")
ENVIRONMENT_BLOCK: Final = "GRUB's environment block"
_WRITABLE: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "vfat"})


class Level(Word):
    """What brings a host back by itself. Written to disk by these names: never rename one."""

    FULL = "full"
    """The one-shot is cleared by the loader; a panic and a hang both end in a reset."""
    PANIC_ONLY = "panic-only"
    """A panic ends in a reset; a hang waits for somebody, at least before systemd runs."""
    USERSPACE_ONLY = "userspace-only"
    """A reset goes back, but neither a panic nor a hang causes one."""
    NONE = "none"
    """The one-shot cannot be relied on: a trial would be refused by the menu."""


NOT_LOOKED_AT: Final = Unknown("nobody looked")
_BEST_FIRST: Final = tuple(Level)


def is_below(level: Level, least: Level) -> bool:
    """Tell whether a host survives less than the least that is asked for."""
    return _BEST_FIRST.index(level) > _BEST_FIRST.index(least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How much of a failed trial this host undoes by itself."""

    level: Level
    reasons: tuple[str, ...] = ()
    """Why it is not more; an operator can act on each."""
    notes: tuple[str, ...] = ()
    """What does not lower the level and should be known."""
    against_once: tuple[str, ...] = ()
    """Why no one-shot can be relied on; empty where one can."""
    carrier: str = ""
    """What holds the one-shot and is cleared before the kernel starts; empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the protection of a host stands on."""

    carrier: str
    """What holds a one-shot and is cleared before a kernel starts, in an operator's words."""
    against_once: tuple[str, ...]
    """Why nothing does; empty where something does."""
    running: str | Unknown
    """Command line of the kernel that runs."""
    candidate: str | Unknown
    """Command line of the entry that the host asks for."""
    watchdogs: tuple[str, ...] | Unknown
    """Identities of the watchdog devices."""
    watchdog_seconds: float | Unknown
    """systemd's RuntimeWatchdogSec; 0 is off."""
    early_watchdog: bool | Unknown
    """The initrd of the next boot arms the watchdog: a hang before systemd is a reset, too."""


def protection(ground: Ground, notes: tuple[str, ...] = ()) -> Protection:
    """Judge the ground; what is not known does not protect."""
    once = ground.against_once
    panic = (
        *against_panic("running", ground.running),
        *against_panic("next", ground.candidate),
    )
    hang = (
        *against_watchdog(ground.watchdogs),
        *against_runtime(ground.watchdog_seconds),
        *against_early(ground.early_watchdog),
    )
    if once:
        level = Level.NONE
    elif panic:
        level = Level.USERSPACE_ONLY
    else:
        level = Level.PANIC_ONLY if hang else Level.FULL
    return Protection(
        level=level,
        reasons=(*once, *panic, *hang),
        notes=notes,
        against_once=once,
        carrier="" if once else ground.carrier,
    )


def against_environment_block(
    file_system: str | Unknown, device: str | Unknown
) -> tuple[str, ...]:
    """Say why GRUB cannot clear a one-shot in its own environment block; empty where it can."""
    return tuple(_against_writing(file_system, device))


def _against_writing(file_system: str | Unknown, device: str | Unknown) -> Iterator[str]:
    if isinstance(file_system, Unknown):
        yield f"the file system of /boot/grub is not known: {file_system.why}"
    elif file_system not in _WRITABLE:
        yield f"GRUB cannot write its environment block on {file_system}"
    if isinstance(device, Unknown):
        yield f"the device of /boot/grub is not known: {device.why}"
    elif device != "partition":
        yield f"GRUB cannot write its environment block through {device}"


def against_panic(which: str, command_line: str | Unknown) -> tuple[str, ...]:
    """Say why a panic of a kernel does not end in a reset; `which` is `running` or `next`."""
    if isinstance(command_line, Unknown):
        return (f"the {which} command line is not known: {command_line.why}",)
    seconds = word_of(command_line, "panic")
    if isinstance(seconds, Unknown):
        return (f"panic= is not on the {which} command line: a panic waits for somebody",)
    if not _NUMBER.fullmatch(seconds) or int(seconds) == 0:
        return (f"panic={seconds} on the {which} command line: a panic waits for somebody",)
    return ()


def against_watchdog(identities: tuple[str, ...] | Unknown) -> tuple[str, ...]:
    """Say why no hardware ends a hang, by the identities of the watchdog devices."""
    if isinstance(identities, Unknown):
        return (f"the watchdogs are not known: {identities.why}",)
    if all("software" in identity.lower() for identity in identities):
        return ("there is no hardware watchdog: a hang waits for somebody",)
    return ()


def against_runtime(seconds: float | Unknown) -> tuple[str, ...]:
    """Say why systemd lets no watchdog end a hang, by its RuntimeWatchdogSec."""
    if isinstance(seconds, Unknown):
        return (f"RuntimeWatchdogSec of systemd is not known: {seconds.why}",)
    return () if seconds else ("RuntimeWatchdogSec of systemd is off: no watchdog is armed",)


def against_early(armed: bool | Unknown) -> tuple[str, ...]:  # noqa: FBT001  a fact, no switch
    """Say why a hang before systemd runs does not end in a reset."""
    if isinstance(armed, Unknown):
        return (f"whether the initrd arms a watchdog is not known: {armed.why}",)
    return () if armed else ("no watchdog is armed in the initrd: a hang before systemd waits",)
