"""The judgement of `doctor` and `arm`: a host's protection level, and a row a subject.

Levels are those of `core.protection`: the rows take the same words from the same functions, so
that a reason of the level is always a row with what to do about it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.core import doctorboot, doctorhost
from trialboot.core.examined import Examined, Row, State
from trialboot.core.facts import Unknown
from trialboot.core.protection import Level, Protection, is_below

ROWS: Final[Mapping[str, Callable[[Examined], Row | None]]] = {
    "boot loader": doctorboot.boot_loader,
    "one-shot": doctorboot.one_shot,
    "known-good": doctorboot.known_good,
    "known-good entry": doctorboot.menu_entry,
    "default": doctorboot.default,
    "entries": doctorboot.entries,
    "menu": doctorboot.menu_waits,
    "room in /boot": doctorboot.room_in_boot,
    "panic= of this boot": doctorhost.panic_running,
    "panic= of the next boot": doctorhost.panic_next,
    "hardware watchdog": doctorhost.hardware_watchdog,
    "RuntimeWatchdogSec": doctorhost.runtime_watchdog,
    "watchdog in the initrd": doctorhost.early_watchdog,
    "RebootWatchdogSec": doctorhost.reboot_watchdog,
    "lockups": doctorhost.lockups,
    "emergency and rescue": doctorhost.rescue,
    "room in /": doctorhost.room_in_root,
    "boot-complete.target": doctorhost.boot_complete,
    "autoremove": doctorhost.autoremove,
    "daemon": doctorhost.daemon,
    "state file": doctorhost.state_file,
    "kexec": doctorboot.kexec,
    "Secure Boot": doctorboot.secure_boot,
    "rpm host": doctorboot.rpm_host,
}
"""Each row by its subject, which the tick list in operations.md has, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What `doctor` says."""

    level: Level | Unknown
    reasons: tuple[str, ...]
    """Why it is not more."""
    notes: tuple[str, ...]
    """What does not lower it and should be known."""
    rows: tuple[Row, ...]
    """The worst first."""
    as_root: bool = True

    @property
    def blocking(self) -> tuple[Row, ...]:
        """Give the rows that keep this host from being armed."""
        return tuple(row for row in self.rows if row.state is State.BLOCKS)


def diagnose(seen: Examined) -> Diagnosis:
    """Judge a host."""
    rows = [row for make in ROWS.values() if (row := make(seen)) is not None]
    found, order = seen.protection, list(State)
    return Diagnosis(
        level=found.level if isinstance(found, Protection) else found,
        reasons=found.reasons if isinstance(found, Protection) else (found.why,),
        notes=found.notes if isinstance(found, Protection) else (),
        rows=tuple(sorted(rows, key=lambda row: order.index(row.state))),
        as_root=seen.as_root,
    )


def against_arming(found: Diagnosis) -> tuple[str, ...]:
    """Say why a host is not armed whatever its operator accepts; empty where it may be."""
    if isinstance(found.level, Unknown):
        return (f"what this host can survive is not known: {found.level.why}",)
    return tuple(f"{row.subject}: {row.found}" for row in found.blocking)


def against_least(protection: Protection | Unknown, least: Level) -> tuple[str, ...]:
    """Say why a host does not reach the least protection that its operator asks for."""
    if isinstance(protection, Unknown):
        return (f"what this host can survive is not known: {protection.why}",)
    if protection.level is Level.NONE:
        told = protection.against_once or protection.reasons
        return told or ("no one-shot can be relied on",)
    if not is_below(protection.level, least):
        return ()
    why = "; ".join(protection.reasons)
    return (f"protection {protection.level} is below boot.least_protection «{least}»: {why}",)
