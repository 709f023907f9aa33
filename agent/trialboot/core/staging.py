"""Whether a shutdown lets kexec start the candidate: each doubt leads to an ordinary reboot.

That one ends on the known-good, the loader's default, and what is booted once waits for the next.
"""

from dataclasses import dataclass

from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import KEXEC, Menu, MenuEntry, next_entry, without_once
from trialboot.core.standstill import why_not_led_back
from trialboot.core.trial import Phase, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """What is to be known when the machine goes down with something to be started by kexec."""

    rebooting: bool | Unknown
    """It is to come up again: not switched off, and no kexec of somebody else."""
    armed: bool | Unknown
    """The operator's mode."""
    against: tuple[str, ...]
    """Why kexec starts nothing on this host."""
    taken: bool
    """A kernel is staged already: somebody else's."""
    trial: Trial | Unknown | None
    """The record; None where there is none."""
    menu: Menu | Unknown
    """GRUB's, where what is booted once is what kexec is to start."""
    boot_next: str | Unknown
    """What the firmware would start once after a reset; empty for nothing."""


def candidate_to_start(now: Shutdown) -> MenuEntry | Unknown:
    """Give the entry that kexec is to start; Unknown says why the reboot is an ordinary one."""
    why = _against_host(now)
    if why:
        return Unknown(why)
    if not isinstance(now.trial, Trial):
        return now.trial or Unknown("there is no record")
    if isinstance(now.menu, Unknown):
        return now.menu
    if now.menu.carrier is None or now.menu.carrier.kind != KEXEC:
        return Unknown("one-shots are not taken from kexec here")
    trial = now.trial
    if trial.phase is not Phase.ARMED or trial.candidate is None or not trial.pinned:
        return Unknown("no candidate is armed")
    why = why_not_led_back(without_once(now.menu), now.boot_next, trial.known_good)
    return Unknown(why) if why else _armed_entry(now.menu, trial.candidate.entry)


def _against_host(now: Shutdown) -> str:
    for known in (now.rebooting, now.armed):
        if isinstance(known, Unknown):
            return known.why
    if not now.rebooting:
        return "the machine does not reboot"
    if not now.armed:
        return "trialboot is not armed"
    if now.taken:
        return "somebody else has a kernel staged"
    return "; ".join(now.against)


def _armed_entry(menu: Menu, armed: EntryId) -> MenuEntry | Unknown:
    found = next_entry(menu)
    if isinstance(found, Unknown):
        return found
    if found.entry.entry != armed:
        return Unknown(f"«{found.entry.entry}» is to be booted once, and «{armed}» is armed")
    return found.entry
