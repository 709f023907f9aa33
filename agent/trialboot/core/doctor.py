"""The judgement of `doctor` and `arm`: a host's protection level, and a row a subject.

Levels are those of `core.protection`: the rows take the same words from the same functions, so
that a reason of the level is always a row with what to do about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trialboot.core import doctorboot, doctorhost
from trialboot.core.examined import Examined, Row, State
from trialboot.core.facts import Unknown
from trialboot.core.protection import Level, Protection, is_below

_ROWS: Final[tuple[Callable[[Examined], Row | None], ...]] = (
    doctorboot.boot_loader,
    doctorboot.one_shot,
    doctorboot.known_good,
    doctorboot.menu_entry,
    doctorboot.default,
    doctorboot.menu_waits,
    doctorboot.room_in_boot,
    doctorhost.panic_running,
    doctorhost.panic_next,
    doctorhost.hardware_watchdog,
    doctorhost.runtime_watchdog,
    doctorhost.early_watchdog,
    doctorhost.reboot_watchdog,
    doctorhost.lockups,
    doctorhost.rescue,
    doctorhost.room_in_root,
    doctorhost.boot_complete,
    doctorhost.autoremove,
    doctorhost.daemon,
    doctorhost.state_file,
    doctorboot.kexec,
    doctorboot.secure_boot,
    doctorboot.rpm_host,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What `doctor` says."""

    level: Level | Unknown
    reasons: tuple[str, ...]
    """Why it is not more."""
    rows: tuple[Row, ...]
    """The worst first."""
    as_root: bool = True

    @property
    def blocking(self) -> tuple[Row, ...]:
        """Give the rows that keep this host from being armed."""
        return tuple(row for row in self.rows if row.state is State.BLOCKS)


def diagnose(seen: Examined) -> Diagnosis:
    """Judge a host."""
    rows = [row for make in _ROWS if (row := make(seen)) is not None]
    found, order = seen.protection, list(State)
    return Diagnosis(
        level=found.level if isinstance(found, Protection) else found,
        reasons=found.reasons if isinstance(found, Protection) else (found.why,),
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
        return protection.against_once or ("no one-shot can be relied on",)
    if not is_below(protection.level, least):
        return ()
    why = "; ".join(protection.reasons)
    return (f"protection {protection.level} is below boot.least_protection «{least}»: {why}",)
