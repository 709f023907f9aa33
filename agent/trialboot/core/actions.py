"""What may be done to a host, as data. Each may be done twice; none has an opinion."""

from dataclasses import dataclass
from typing import TypeAlias

from trialboot.core.bootset import BootSet
from trialboot.core.facts import BootId, EntryId
from trialboot.core.node import Wish


@dataclass(frozen=True, slots=True)
class Keep:
    """Put a boot set into the vault, whole, verified by hash."""

    boot_set: BootSet
    entry: EntryId
    """The menu entry whose files are that boot set now."""


@dataclass(frozen=True, slots=True)
class PinKnownGood:
    """Make the kept boot set the known-good menu entry and the loader's persistent default."""

    boot_set: BootSet


@dataclass(frozen=True, slots=True)
class BootOnce:
    """Boot this entry at the next start, and only then."""

    entry: EntryId


@dataclass(frozen=True, slots=True)
class ForgetOnce:
    """Take a one-shot back."""

    spent: bool = False
    """Only what is left of one that has booted; one that still waits is somebody else's.

    Firmware may keep BootNext, or put our entry into BootOrder.
    """


@dataclass(frozen=True, slots=True)
class Unpin:
    """Give the boot loader back to the host's own configuration."""


@dataclass(frozen=True, slots=True)
class Mend:
    """Put back what the known-good has lost on disk: module files, menu entry, default."""

    boot_set: BootSet


@dataclass(frozen=True, slots=True)
class Secure:
    """See that a restart ends on this kept boot set and on nothing else.

    It is checked by hash, its entry and the default are put right where they are not, the one-shot
    is taken back, and what is on disk then is read as the boot loader reads it.
    """

    boot_set: BootSet


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Have a kept boot set that nothing needs leave the vault, for the room that it takes."""

    boot_set: BootSet


@dataclass(frozen=True, slots=True)
class Tell:
    """Wish this of the Node object; delivered when the API server can be reached."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Reboot:
    """Restart the machine, unless it has left that boot already."""

    why: str
    leaving: BootId


Action: TypeAlias = (
    Keep | PinKnownGood | BootOnce | ForgetOnce | Unpin | Mend | Secure | GiveUp | Tell | Reboot
)

PIN_ACTIONS = (Keep, PinKnownGood, BootOnce, ForgetOnce, Unpin, Mend, Secure, GiveUp)
"""Those that touch the boot loader or the vault: performed by the pin worker alone."""
