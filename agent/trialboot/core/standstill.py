"""Leaving a trial that has come to a standstill, although no verdict will come.

In emergency and rescue mode, and where the start of the system never ends, trialbootd does not
run: nobody judges the candidate, and the host would wait for a human for ever. Leaving it is
nothing but a reboot: the loader's default is the known-good, and nothing is written. The machine
concludes the rest on the known-good, by the record that still says that a trial was on.

Each doubt is a reason to stay. At most one such reboot follows for a candidate: it ends on the
known-good, and what runs the known-good is never left, nor is any other entry: a human picked it.
"""

from dataclasses import dataclass
from typing import Final

from trialboot.core.bootset import BootSet, plain_command_line, without_word, word_of
from trialboot.core.facts import Kernel, Unknown
from trialboot.core.menu import BOOT_WORD, KEXEC_WORD, SYSTEMD_BOOT, Menu, entries_of, next_entry
from trialboot.core.trial import Phase, Trial

_BY_HAND: Final = frozenset(
    {"emergency", "rescue", "single", "-b", "-s", "s", "S", "1", "rd.break", "rd.emergency"}
)
"""Words by which a human asks for a shell (systemd(1), kernel-command-line(7))."""
_UNIT: Final = "systemd.unit="


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """What is to be known before a boot is left without a verdict."""

    armed: bool | Unknown
    """The operator's mode."""
    trial: Trial | Unknown | None
    """The record; None where there is none."""
    kernel: Kernel | Unknown
    menu: Menu | Unknown
    boot_next: str | Unknown
    """What the firmware starts once, before the loader's default; empty for nothing."""
    judged_here: bool
    """trialbootd runs: it judges this boot itself."""
    came_up: bool | Unknown
    """The start of the system had ended before: somebody left the running system."""
    by_kexec: bool | Unknown
    """This boot was started by kexec, and not by us as a trial."""
    password_asked: bool
    """Somebody is asked for a password: the boot waits for a human by design."""


def why_stay(now: Standstill) -> str:
    """Give the first reason to stay; empty where the trial is to be left by a reboot."""
    if isinstance(now.armed, Unknown):
        return now.armed.why
    if not now.armed:
        return "trialboot is not armed"
    if isinstance(now.trial, Unknown):
        return f"the record cannot be read: {now.trial.why}"
    if now.trial is None:
        return "there is no record: is /var a file system that is not mounted?"
    why = _why_no_trial(now.trial) or _why_by_hand(now, now.trial)
    return why or why_not_led_back(now.menu, now.boot_next, now.trial.known_good)


def _why_no_trial(trial: Trial) -> str:
    if trial.report_only:
        return trial.report_only
    on = trial.phase in {Phase.ARMED, Phase.TRIAL} and trial.candidate and trial.pinned
    return "" if on else "no trial is on"


def _why_by_hand(now: Standstill, trial: Trial) -> str:
    if isinstance(now.kernel, Unknown):
        return now.kernel.why
    if isinstance(word_of(now.kernel.command_line, BOOT_WORD), str):
        return "the known-good runs"
    if isinstance(now.by_kexec, Unknown):
        return now.by_kexec.why
    if now.by_kexec:
        return "this boot was started by kexec: it is no trial"
    if asked := _asked_for(now.kernel.command_line, trial.known_good):
        return f"«{asked}» on the command line asks for it"
    return _why_waited_for(now) or _why_another(now.menu, now.kernel, trial)


def _asked_for(command_line: str, good: BootSet | None) -> str:
    """Give the word that a human typed for this boot: the known-good has it not."""
    usual = good.command_line.split() if good else []
    typed = [word for word in command_line.split() if word not in usual]
    return next((word for word in typed if word in _BY_HAND or word.startswith(_UNIT)), "")


def _why_another(menu: Menu | Unknown, kernel: Kernel, trial: Trial) -> str:
    """Say what runs instead of the candidate: somebody picked it, and picks it again.

    The candidate fits its entry, whatever has become of its files since it was armed; where the
    menu was made anew while it runs, it still has the release and command line that were armed.
    """
    if isinstance(menu, Unknown):
        return ""  # who cannot read the menu stays in any case: see `why_not_led_back`
    armed = [choice for choice in (trial.candidate, trial.replaced) if choice]
    runs = (kernel.release, plain_command_line(kernel.command_line))
    alike = runs in [(c.boot_set.release, c.boot_set.command_line) for c in armed]
    entries = entries_of(menu, without_word(kernel.command_line, KEXEC_WORD))
    if isinstance(entries, Unknown):
        return "" if alike else f"what runs is not known to be the candidate: {entries.why}"
    # GRUB's menu may have given the candidate's entry to a newer kernel; systemd-boot says which.
    if any(c.entry in entries for c in armed) or (alike and menu.loader != SYSTEMD_BOOT):
        return ""
    return f"«{entries[0]}» runs, which is not on trial"


def _why_waited_for(now: Standstill) -> str:
    if now.judged_here:
        return "trialbootd runs: it judges this boot"
    if isinstance(now.came_up, Unknown):
        return now.came_up.why
    if now.came_up:
        return "this boot had come up: somebody asked for this mode"
    return "a password is asked for: the boot waits for a human" if now.password_asked else ""


def why_not_led_back(menu: Menu | Unknown, boot_next: str | Unknown, good: BootSet | None) -> str:
    """Say why a reset is not known to lead to the known-good: it might be a loop."""
    if isinstance(menu, Unknown):
        return f"the boot loader cannot be read: {menu.why}"
    if isinstance(boot_next, Unknown):
        return boot_next.why
    if menu.once or boot_next:
        return f"«{boot_next or menu.once}» is to be booted once more"
    default = next_entry(menu)
    if isinstance(default, Unknown):
        return default.why
    if good and word_of(default.entry.arguments, BOOT_WORD) == good.fingerprint:
        return ""
    return f"the boot loader's default, «{default.entry.entry}», is not the known-good"
