"""What this host can survive during a trial, and why it is not more."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trialboot.core.bootset import word_of
from trialboot.core.facts import Unknown
from trialboot.core.language import Word

_NUMBER: Final = re.compile(r"-?[0-9]+")
_WRITABLE: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "vfat"})


class Level(Word):
    """What brings a host back by itself. Written to disk by these names: never rename one."""

    FULL = "full"
    """The one-shot is cleared by the loader; a panic and a hang both end in a reset."""
    PANIC_ONLY = "panic-only"
    """A panic ends in a reset; a hang waits for somebody."""
    USERSPACE_ONLY = "userspace-only"
    """A reset goes back, but neither a panic nor a hang causes one."""
    NONE = "none"
    """The one-shot cannot be relied on: a trial would be refused by the menu."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How much of a failed trial this host undoes by itself."""

    level: Level
    reasons: tuple[str, ...] = ()
    """Why it is not more; an operator can act on each."""
    notes: tuple[str, ...] = ()
    """What does not lower the level and should be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the protection of a GRUB host stands on."""

    file_system: str | Unknown
    """Of the folder that holds the environment block."""
    device: str | Unknown
    """`partition`, or what GRUB does not write through: `md`, `lvm`, `crypt`, ..."""
    running: str | Unknown
    """Command line of the kernel that runs."""
    candidate: str | Unknown
    """Command line of the entry that the host asks for."""
    watchdogs: tuple[str, ...] | Unknown
    """Identities of the watchdog devices."""
    watchdog_seconds: float | Unknown
    """systemd's RuntimeWatchdogSec; 0 is off."""


def protection(ground: Ground, notes: tuple[str, ...] = ()) -> Protection:
    """Judge the ground; what is not known does not protect."""
    once = tuple(_against_one_shot(ground))
    panic = (*_against_panic("running", ground.running),)
    panic += (*_against_panic("candidate", ground.candidate),)
    hang = tuple(_against_hang(ground))
    if once:
        level = Level.NONE
    elif panic:
        level = Level.USERSPACE_ONLY
    else:
        level = Level.PANIC_ONLY if hang else Level.FULL
    return Protection(level=level, reasons=(*once, *panic, *hang), notes=notes)


def _against_one_shot(ground: Ground) -> Iterator[str]:
    if isinstance(ground.file_system, Unknown):
        yield f"the file system of /boot/grub is not known: {ground.file_system.why}"
    elif ground.file_system not in _WRITABLE:
        yield f"GRUB cannot write its environment block on {ground.file_system}"
    if isinstance(ground.device, Unknown):
        yield f"the device of /boot/grub is not known: {ground.device.why}"
    elif ground.device != "partition":
        yield f"GRUB cannot write its environment block through {ground.device}"


def _against_panic(which: str, command_line: str | Unknown) -> Iterator[str]:
    if isinstance(command_line, Unknown):
        yield f"the {which} command line is not known: {command_line.why}"
        return
    seconds = word_of(command_line, "panic")
    if isinstance(seconds, Unknown):
        yield f"panic= is not on the {which} command line: a panic waits for somebody"
    elif not _NUMBER.fullmatch(seconds) or int(seconds) == 0:
        yield f"panic={seconds} on the {which} command line: a panic waits for somebody"


def _against_hang(ground: Ground) -> Iterator[str]:
    if isinstance(ground.watchdogs, Unknown):
        yield f"the watchdogs are not known: {ground.watchdogs.why}"
    elif all("software" in identity.lower() for identity in ground.watchdogs):
        yield "there is no hardware watchdog: a hang waits for somebody"
    if isinstance(ground.watchdog_seconds, Unknown):
        yield f"RuntimeWatchdogSec of systemd is not known: {ground.watchdog_seconds.why}"
    elif ground.watchdog_seconds == 0:
        yield "RuntimeWatchdogSec of systemd is off: no watchdog is armed"
