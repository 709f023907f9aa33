"""What a change is: its area, its danger, before and after; and what of a boot set is compared."""

from dataclasses import dataclass
from typing import Final

from trialboot.core.bootset import BootSet
from trialboot.core.facts import (
    Dkms,
    Interface,
    Module,
    ModuleTree,
    Setting,
    Tree,
    Unknown,
)
from trialboot.core.language import Word

NOT_READ: Final = Unknown("it was not read")


class Area(Word):
    """The part of a boot that a change is in; within one risk, also the order on the screen."""

    LOADER = "loader"
    KERNEL = "kernel"
    MODULES = "modules"
    DRIVERS = "drivers"
    FIRMWARE = "firmware"
    INITRD = "initrd"
    MICROCODE = "microcode"
    COMMAND_LINE = "command_line"
    OPTIONS = "options"
    """Kernel config options that CNIs need."""
    DKMS = "dkms"
    DEVICES = "devices"
    """Firmware that waits inside a device."""
    SETTINGS = "settings"


class Risk(Word):
    """How dangerous a change is to this host's network; also its order on the screen."""

    DANGER = "danger"
    """What this host uses now will not be there, or something else will boot."""
    CAUTION = "caution"
    """What this host uses now will be another one."""
    NOTICE = "notice"
    """Nothing that this host is known to use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: where, what, before and after, and how dangerous."""

    area: Area
    subject: str
    before: str
    after: str
    risk: Risk = Risk.CAUTION
    why: str = ""
    """What makes it dangerous, or what it means here; empty where the row says it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootDetail:
    """A boot set with what a person wants to know of it beyond its identities."""

    boot_set: BootSet
    firmware: Tree
    modules: ModuleTree
    options: tuple[tuple[str, str], ...] | Unknown = NOT_READ
    """Config symbols without `CONFIG_` -> `y`, `m`, `n` or a value; only those CNIs need."""
    microcode: tuple[tuple[str, str], ...] | Unknown = NOT_READ
    """Microcode files in the initrd's early archives -> SHA-256."""
    build: str = ""
    """What follows the release in the kernel's banner: `#1 SMP ... Debian 6.1.1-1 (date)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """What this host uses now: it tells which difference it would feel."""

    modules: tuple[Module, ...] | Unknown
    interfaces: tuple[Interface, ...] | Unknown = NOT_READ
    dkms: tuple[Dkms, ...] | Unknown = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What the next start will do beside loading a boot set."""

    settings_then: tuple[Setting, ...] | Unknown = ()
    """As they were when this boot was first looked at."""
    settings_now: tuple[Setting, ...] | Unknown = ()
    kexec_staged: bool = False
    boot_next: str | Unknown = ""
    """What UEFI starts once instead of this loader; empty for nothing."""
    stale: tuple[str, ...] | Unknown = ()
    """What is younger than the initrd that is made from it: packages, files."""
    once: str = ""
    """The entry that boots once before what is compared here; empty for none."""
    fell_back: str = ""
    """Why the default leads to the first entry: it names nothing. Empty where it does."""
    waiting: tuple[tuple[str, str, str], ...] = ()
    """Device, the firmware it runs, the firmware that becomes active at its next start."""


_RISKS = list(Risk)
_AREAS = list(Area)


def ordered(rows: tuple[Change, ...]) -> tuple[Change, ...]:
    """Put the most dangerous first; within one risk by area, and as found within that."""
    return tuple(sorted(rows, key=lambda row: (_RISKS.index(row.risk), _AREAS.index(row.area))))
