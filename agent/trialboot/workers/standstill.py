"""trialboot-standstill.service: leaves a trial that ended in emergency or rescue mode.

Started by both targets, and by trialboot-late-start.service where the start of the system never
ends. Without it such a candidate waits for a human for ever: trialbootd, which judges, is part of
multi-user.target. Nothing is written: after the reboot the record still says that a trial was on
and the known-good runs, and trialbootd condemns the candidate by that («never came up», «went
down»). As the reboot ends on the known-good, which is never left, a candidate causes one at most.
"""

import sys
from typing import Final

from trialboot.bootfiles import read_menu
from trialboot.bootonce import is_kexec_trial
from trialboot.config import is_armed
from trialboot.core.facts import Kernel, Unknown
from trialboot.core.menu import Menu
from trialboot.core.standstill import Standstill, why_stay
from trialboot.core.trial import Decision, Trial
from trialboot.errors import LoaderError, VaultError
from trialboot.host import Host
from trialboot.loaders.choice import loader_of
from trialboot.readers import efi, kernel, startup
from trialboot.workers import oneshot
from trialboot.writers import power, store
from trialboot.writers.vault import bootsets

GRACE: Final = 60.0
"""Seconds in which somebody at the console may stop it."""
UNIT: Final = "trialboot-standstill.service"
_DAEMON: Final = "trialbootd.service"


def work(host: Host) -> None:
    """Say what will be done, wait, and reboot; say why not where there is a reason to stay."""
    why = _why_stay(host)
    if why:
        _say(f"this boot stands still, and trialboot does nothing: {why}")
        return
    _say(
        f"this boot is a trial, and it stands still: in {GRACE:.0f} s the machine reboots "
        f"into the known-good. To stay here: systemctl stop {UNIT}"
    )
    host.sleep(GRACE)
    why = _why_stay(host)  # somebody may have set it right meanwhile
    if why:
        _say(f"no reboot: {why}")
        return
    _say("rebooting into the known-good")
    power.reboot_without_logind(host)


def _why_stay(host: Host) -> str:
    found = store.read_decision(host)
    trial = found.trial if isinstance(found, Decision) else found
    runs = kernel.read_kernel(host)
    now = Standstill(
        armed=is_armed(host),
        trial=trial,
        kernel=runs,
        by_kexec=_by_kexec(host, runs),
        menu=_menu(host),
        boot_next=efi.read_boot_next(host),
        judged_here=startup.is_active(host, _DAEMON) is True,
        came_up=startup.has_come_up(host),
        password_asked=startup.is_password_asked(host),
    )
    return why_stay(now) or _why_not_whole(host, trial)


def _by_kexec(host: Host, runs: Kernel | Unknown) -> bool | Unknown:
    """Tell whether somebody else's kexec started what runs."""
    ours = runs if isinstance(runs, Unknown) else is_kexec_trial(host, runs)
    if isinstance(runs, Unknown) or isinstance(ours, Unknown):
        return ours
    return runs.by_kexec and not ours


def _menu(host: Host) -> Menu | Unknown:
    """Read the loader's state as its own backend does, a one-shot that it keeps elsewhere too."""
    loader = loader_of(host, read_menu(host))
    try:
        return loader if isinstance(loader, Unknown) else loader.state()
    except LoaderError as error:
        return Unknown(str(error))


def _why_not_whole(host: Host, trial: Trial | Unknown | None) -> str:
    """Say what is wrong with the kept files: they are checked by hash before each way back."""
    if not isinstance(trial, Trial) or trial.known_good is None:
        return "there is no known-good"
    try:
        bootsets.verify(host, trial.known_good.fingerprint)
    except VaultError as error:
        return f"the known-good is not whole: {error}"
    return ""


def _say(words: str) -> None:
    # The unit's output goes to the journal and to the console.
    sys.stdout.write(f"trialboot: {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(oneshot.run("standstill", work))
