"""What the workers tell the daemon: what runs, what would boot next, what was judged."""

from dataclasses import dataclass

from trialboot.core.change import BootDetail, Change
from trialboot.core.facts import (
    BootId,
    Dkms,
    EntryId,
    Equipment,
    Kernel,
    Module,
    Package,
    Setting,
    Tree,
    Unknown,
)
from trialboot.core.packagechange import PackageChange
from trialboot.core.protection import Protection
from trialboot.core.transaction import WHOLE, Condition
from trialboot.core.trial import NOT_LOOKED_AT, Choice, Crowded
from trialboot.core.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All facts read at one moment; each part that could not be read is Unknown by itself."""

    taken_at: str
    kernel: Kernel | Unknown
    modules: tuple[Module, ...] | Unknown
    firmware: Tree | Unknown
    packages: tuple[Package, ...] | Unknown
    condition: Condition
    equipment: Equipment
    dkms: tuple[Dkms, ...] | Unknown
    settings: tuple[Setting, ...] | Unknown
    boot_next: str | Unknown
    """What UEFI starts once instead of the loader that was started this time; or empty."""
    evidence: tuple[str, ...]
    """What others say about a reboot: never an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The boot side of one snapshot, small enough for the daemon to hold."""

    taken_at: str
    boot: BootId
    running: Choice | Unknown
    wanted: Choice | Unknown
    """What the host's own configuration would boot, left to itself."""
    next_entry: EntryId | Unknown
    """What the boot loader will really load at the next start."""
    once_pending: bool
    changes: tuple[Change, ...] | Unknown
    """From the known-good (or what runs, where there is none) to `wanted`."""
    sentence: str
    protection: Protection | Unknown
    evidence: tuple[str, ...] = ()
    """What others say about a reboot, such as /run/reboot-required."""
    controlled: bool = True
    """The boot loader is one that trialboot may write; else the host is only observed."""
    once: Choice | Unknown | None = NOT_LOOKED_AT
    """What the loader's one-shot leads to; None where it has none."""
    instead: str = ""
    """What the boot loader told of a one-shot that it did not boot (`trial.Booted.instead`)."""
    damage: tuple[str, ...] = ()
    """Why the pinned known-good could not boot whole; empty where it could, or none is pinned."""
    crowded: Crowded | None = None
    """The generation before the known-good is in the next package run's way."""
    packages: tuple[PackageChange, ...] | Unknown = ()
    """What the package database lost and gained since the list that the daemon accepted last."""
    condition: Condition = WHOLE
    """Whether the package databases are whole."""
    not_seen: tuple[str, ...] = ()
    """What could not be read and might have told of more changes: a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one boot loaded, read once at its start: files on disk may change under it later."""

    boot: BootId
    entry: EntryId
    detail: BootDetail
    settings: tuple[Setting, ...] | Unknown = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on a boot, as the verify worker leaves it."""

    boot: BootId
    at: str
    verdict: Verdict
