"""trialboot-kexec.service, when the machine goes down: stages what kexec is to start once.

When the kernel has the candidate in memory a mark is left in /run: by that
/usr/lib/systemd/system-shutdown/trialboot-kexec starts it, instead of the reboot, when all file
systems are unmounted. The last that is done is to take it from the block. A power cut before that
leaves what is booted once waiting; one behind it counts as a candidate that never came up.
"""

import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from trialboot import efivariables, kexecload
from trialboot.bootfiles import host_path, read_menu
from trialboot.bootonce import KEXEC_CARRIER, read_once
from trialboot.config import is_armed
from trialboot.core.facts import Unknown
from trialboot.core.menu import KEXEC_WORD, MenuEntry
from trialboot.core.staging import Shutdown, candidate_to_start
from trialboot.core.trial import Decision
from trialboot.errors import HostError, LoaderError
from trialboot.host import Host
from trialboot.loaders.kexec import Kexec
from trialboot.readers import efi, kernel
from trialboot.workers import oneshot
from trialboot.writers import store

MARK: Final = f"{store.RUN}/kexec"
"""There once what is staged is ours; in memory, so gone after any reboot."""
_FIRMWARE_SETUP: Final = 0x1
"""EFI_OS_INDICATIONS_BOOT_TO_FW_UI (UEFI specification 2.10, 8.5.4)."""
_JOBS: Final = ("systemctl", "list-jobs", "--no-legend", "reboot.target")


def work(
    host: Host,
    stage: Callable[[Path, Sequence[Path], str], None] = kexecload.stage,
    unstage: Callable[[], None] = kexecload.unstage,
) -> None:
    """Stage the candidate that is to be booted once; say why the reboot is an ordinary one."""
    if read_once(host, KEXEC_CARRIER) == "":
        return
    entry = candidate_to_start(_shutdown(host))
    try:
        token = entry if isinstance(entry, Unknown) else _staged(host, entry, stage)
        if isinstance(token, Unknown):
            _say(f"an ordinary reboot: {token.why}")
            return
        _take(host, token, unstage)
    except OSError as error:
        raise HostError(f"an ordinary reboot: kexec takes no candidate: {error}") from error
    _say("the candidate is staged: this reboot starts it by kexec")


def _shutdown(host: Host) -> Shutdown:
    runs = kernel.read_kernel(host)
    found = store.read_decision(host)
    return Shutdown(
        rebooting=_is_rebooting(host),
        armed=is_armed(host),
        against=Kexec(host).against(),
        taken=isinstance(runs, Unknown) or runs.kexec_staged,
        trial=found.trial if isinstance(found, Decision) else found,
        menu=read_menu(host),
        boot_next=_started_by_firmware(host),
    )


def _started_by_firmware(host: Host) -> str | Unknown:
    """Say what the firmware would start instead of the boot loader after a reset."""
    try:
        asked = efivariables.read(host, "OsIndications") or b""
    except OSError as error:
        return Unknown(f"OsIndications: {error.strerror}")
    setup = int.from_bytes(asked[:8], "little") & _FIRMWARE_SETUP
    return "the firmware's setup" if setup else efi.read_boot_next(host)


def _is_rebooting(host: Host) -> bool | Unknown:
    try:
        jobs = host.run(list(_JOBS), timeout=10)
    except HostError as error:
        return Unknown(str(error))
    return any(job.split()[1:3] == ["reboot.target", "start"] for job in jobs.splitlines())


def _staged(
    host: Host, entry: MenuEntry, stage: Callable[[Path, Sequence[Path], str], None]
) -> str | Unknown:
    """Have the kernel keep the candidate; give the token that it will be known by."""
    files = []
    for path in (entry.kernel, *entry.initrds):
        place = host_path(host, path)
        if isinstance(place, Unknown):
            return place
        files.append(host.path(place))
    token = secrets.token_hex(8)
    line = f"BOOT_IMAGE={entry.kernel} {entry.arguments} {KEXEC_WORD}={token}"
    stage(files[0], files[1:], line)
    return token


def _take(host: Host, token: str, unstage: Callable[[], None]) -> None:
    """Leave the mark, then take the candidate from the block: what fails leaves it waiting."""
    mark = host.path(MARK)
    try:
        mark.write_bytes(b"")
        Kexec(host).take(token)
    except (LoaderError, OSError):
        mark.unlink(missing_ok=True)
        unstage()
        raise


def _say(words: str) -> None:
    sys.stdout.write(f"trialboot: {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(oneshot.run("stage-kexec", work))
