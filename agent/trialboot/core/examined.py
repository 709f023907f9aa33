"""What `doctor` looks at: the facts that decide how much of a failed trial a host undoes."""

from dataclasses import dataclass
from typing import Final

from trialboot.core.bootset import Fingerprint
from trialboot.core.facts import Unknown
from trialboot.core.language import Word
from trialboot.core.menu import Menu
from trialboot.core.protection import Protection

ALMOST_FULL: Final = 64 << 20
"""Bytes: with less room than this a host is about to fail to write what it must remember."""


class State(Word):
    """What a row means; the worst first. Part of the JSON: never rename one."""

    BLOCKS = "blocks arming"
    LOWERS = "lowers the protection"
    UNKNOWN = "not known"
    NOTE = "to know"
    FINE = "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One subject: how it stands, what was found, and what to do about it."""

    subject: str
    state: State
    found: str
    remedy: str = ""
    """A command or an edit; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The known-good, as it is remembered and as it lies on disk."""

    fingerprint: Fingerprint
    release: str
    pinned: bool
    damage: tuple[str, ...] | Unknown = ()
    """What is no longer as it was kept, by hash; Unknown where that was not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrubFiles:
    """What of GRUB's own configuration may come between."""

    script: bool
    """/etc/grub.d/09_trialboot is there and will run."""
    before_ours: tuple[str, ...]
    """Scripts that put entries into the menu before ours."""
    other_default: tuple[str, ...]
    """Files that set GRUB_DEFAULT, or GRUB_SAVEDEFAULT to true, after trialboot.cfg."""
    waits: bool
    """The menu waits for somebody (a timeout of -1)."""
    password: bool
    """Entries ask for a password, all but those that are `--unrestricted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room on a file system, in bytes."""

    free: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdogs:
    """The hardware that ends a hang, and who arms it; times in seconds, 0 is off."""

    identities: tuple[str, ...] | Unknown
    runtime: float | Unknown
    reboot: float | Unknown
    early: bool | Unknown
    """Armed in the initrd of the next boot."""
    asked_early: bool = False
    """The operator's switch for it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A host, looked at once; each part that could not be read is Unknown by itself."""

    as_root: bool
    menu: Menu | Unknown
    uncontrolled: str
    """Why the boot loader is not written; empty where it is."""
    protection: Protection | Unknown
    kept: Kept | Unknown | None
    """None while no boot set has proven itself."""
    running: str | Unknown
    """Command line of the kernel that runs."""
    following: str | Unknown
    """Command line of what the host asks for next."""
    watchdogs: Watchdogs
    grub: GrubFiles | Unknown | None
    """None where the menu is another loader's."""
    lockups: tuple[tuple[str, int], ...]
    """kernel.* settings that make a panic of a lockup; those that this kernel has."""
    boot: Room | Unknown
    root: Room | Unknown
    rescue: tuple[str, ...] | Unknown
    """Links by which units act in emergency and rescue mode, and that are not there."""
    gate: bool
    """boot-complete.target waits for the verdict."""
    autoremove: str | Unknown | None
    """Kernel release that apt is told to keep, or empty; None on a host without apt."""
    secure_boot: bool | Unknown | None
    """None without UEFI."""
    kexec: tuple[str, ...]
    """Why a reboot may go past the boot loader."""
    rpm: bool
    """Kernels come by rpm, entries from grubby: untried on a real host."""
    daemon: str
    """Why the daemon does not answer; empty where it does."""
    state_age: float | Unknown
    """Seconds since the state file was written."""
