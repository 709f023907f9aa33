"""Doctor's rows on the host: what turns a panic and a hang into a reset, and who acts after it."""

from typing import Final

from trialboot.core.examined import ALMOST_FULL, Examined, Kept, Row, State
from trialboot.core.facts import Unknown
from trialboot.core.protection import (
    against_early,
    against_panic,
    against_runtime,
    against_watchdog,
)

_SET_PANIC: Final = "trialboot doctor --set panic (a changed command line: it will be a trial)"
_SET_WATCHDOG: Final = "trialboot doctor --set watchdog"
_SET_EARLY: Final = "trialboot doctor --set watchdog-in-initrd (a changed initrd: a trial)"
_OLD: Final = 3600.0
"""Seconds: the daemon writes the state anew after each verdict, every ten minutes by default."""
_MEBIBYTE: Final = 1 << 20


def _row(subject: str, against: tuple[str, ...], fine: str, remedy: str, known: object) -> Row:
    """Make a row of what `core.protection` has against something."""
    if not against:
        return Row(subject=subject, state=State.FINE, found=fine)
    state = State.UNKNOWN if isinstance(known, Unknown) else State.LOWERS
    return Row(subject=subject, state=state, found=against[0], remedy=remedy)


def panic_running(seen: Examined) -> Row:
    """Tell whether a panic of this boot ends in a reset."""
    against = against_panic("running", seen.running)
    return _row("panic= of this boot", against, "panic= is set", _SET_PANIC, seen.running)


def panic_next(seen: Examined) -> Row:
    """Tell whether a panic of the next kernel does, in the initrd too."""
    against = against_panic("next", seen.following)
    return _row("panic= of the next boot", against, "panic= is set", _SET_PANIC, seen.following)


def hardware_watchdog(seen: Examined) -> Row:
    """Tell whether there is hardware that ends a hang."""
    identities = seen.watchdogs.identities
    told = "" if isinstance(identities, Unknown) else ", ".join(identities)
    remedy = (
        "switch the board's watchdog on in the firmware's set-up, and load its module (iTCO_wdt, "
        "ipmi_watchdog, i6300esb ...); softdog does not count"
    )
    return _row("hardware watchdog", against_watchdog(identities), told, remedy, identities)


def runtime_watchdog(seen: Examined) -> Row:
    """Tell whether systemd arms it; without, an initrd does not arm it either."""
    dogs = seen.watchdogs
    fine = "" if isinstance(dogs.runtime, Unknown) else f"{dogs.runtime:.0f} s"
    against = against_runtime(dogs.runtime)
    return _row("RuntimeWatchdogSec", against, fine, _remedy(seen, _SET_WATCHDOG), dogs.runtime)


def _remedy(seen: Examined, command: str) -> str:
    """Give a command that arms a watchdog, where there is one."""
    return "" if against_watchdog(seen.watchdogs.identities) else command


def early_watchdog(seen: Examined) -> Row:
    """Tell whether a hang before systemd is covered."""
    early = seen.watchdogs.early
    remedy = (
        "update-initramfs -u -k all, or dracut -f --regenerate-all (a changed initrd: a trial)"
        if seen.watchdogs.asked_early
        else _remedy(seen, _SET_EARLY)
    )
    return _row("watchdog in the initrd", against_early(early), "armed there", remedy, early)


def reboot_watchdog(seen: Examined) -> Row:
    """Tell whether a reboot that hangs is ended, too."""
    seconds = seen.watchdogs.reboot
    if isinstance(seconds, Unknown):
        return Row(subject="RebootWatchdogSec", state=State.UNKNOWN, found=seconds.why)
    if seconds:
        return Row(subject="RebootWatchdogSec", state=State.FINE, found=f"{seconds:.0f} s")
    return Row(
        subject="RebootWatchdogSec",
        state=State.NOTE,
        found="off: a roll-back whose shutdown hangs waits for somebody",
        remedy=_remedy(seen, _SET_WATCHDOG),
    )


def lockups(seen: Examined) -> Row | None:
    """Tell which lockups become a panic; a choice of the operator's, hence a note."""
    off = [name for name, value in seen.lockups if not value]
    if not seen.lockups:
        return None
    if not off:
        return Row(subject="lockups", state=State.FINE, found="each ends in a panic")
    return Row(
        subject="lockups",
        state=State.NOTE,
        found=f"{', '.join(off)} off: a CPU or task that hangs is only logged",
        remedy=f"if you want that: echo kernel.{off[0]}=1 >/etc/sysctl.d/90-{off[0]}.conf; "
        "sysctl --system",
    )


def rescue(seen: Examined) -> Row:
    """Tell whether emergency and rescue mode still go back."""
    if isinstance(seen.rescue, Unknown):
        return Row(subject="emergency and rescue", state=State.UNKNOWN, found=seen.rescue.why)
    if seen.rescue:
        return Row(
            subject="emergency and rescue",
            state=State.LOWERS,
            found=f"{', '.join(seen.rescue)} not enabled: a trial that ends there waits",
            remedy="systemctl enable trialboot-standstill.service trialboot-late-start.timer",
        )
    return Row(subject="emergency and rescue", state=State.FINE, found="a trial goes back there")


def room_in_root(seen: Examined) -> Row:
    """Tell whether what is decided can be written down."""
    if isinstance(seen.root, Unknown):
        return Row(subject="room in /", state=State.UNKNOWN, found=seen.root.why)
    found = f"{seen.root.free // _MEBIBYTE} MiB free in /var/lib/trialboot"
    if seen.root.free < ALMOST_FULL:
        remedy = "make room: nothing is decided that cannot be written down first"
        return Row(subject="room in /", state=State.LOWERS, found=found, remedy=remedy)
    return Row(subject="room in /", state=State.FINE, found=found)


def boot_complete(seen: Examined) -> Row:
    """Tell whether a loader that counts tries hears the verdict."""
    if seen.gate:
        return Row(subject="boot-complete.target", state=State.FINE, found="waits for the verdict")
    return Row(
        subject="boot-complete.target",
        state=State.NOTE,
        found="does not wait for the verdict: what blesses boots by it blesses too early",
        remedy="systemctl enable trialboot-boot-check.service",
    )


def autoremove(seen: Examined) -> Row | None:
    """Tell whether apt leaves the known-good's packages alone."""
    kept = seen.kept
    if seen.autoremove is None or not isinstance(kept, Kept) or not kept.pinned:
        return None
    if isinstance(seen.autoremove, Unknown):
        return Row(subject="autoremove", state=State.UNKNOWN, found=seen.autoremove.why)
    if seen.autoremove == kept.release:
        text = f"apt keeps the packages of {kept.release}"
        return Row(subject="autoremove", state=State.FINE, found=text)
    return Row(
        subject="autoremove",
        state=State.LOWERS,
        found=f"apt may remove the packages of {kept.release}; the vault has its files",
        remedy="systemctl restart trialbootd",
    )


def daemon(seen: Examined) -> Row:
    """Tell whether anybody would judge a trial."""
    if not seen.daemon:
        return Row(subject="daemon", state=State.FINE, found="trialbootd answers")
    return Row(
        subject="daemon",
        state=State.LOWERS,
        found=f"{seen.daemon}: no trial would be judged",
        remedy="systemctl enable --now trialbootd.service",
    )


def state_file(seen: Examined) -> Row:
    """Tell whether what others read is fresh."""
    age = seen.state_age
    if isinstance(age, Unknown):
        return Row(
            subject="state file",
            state=State.UNKNOWN,
            found=age.why,
            remedy="systemctl status trialbootd",
        )
    found = f"{age / 60:.0f} min old"
    if age > _OLD:
        remedy = "systemctl status trialbootd"
        return Row(subject="state file", state=State.NOTE, found=found, remedy=remedy)
    return Row(subject="state file", state=State.FINE, found=found)
