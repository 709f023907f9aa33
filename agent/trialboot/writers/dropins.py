"""The settings of a host that `doctor` writes on request, a file each, and takes back.

Each file begins with our mark: a file of that name without it is somebody else's and stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.core.language import Word
from trialboot.errors import HostError
from trialboot.host import Host, sync_folder, write_durably

MARK: Final = "# Written by trialboot"


class Setting(Word):
    """What may be set."""

    PANIC = "panic"
    WATCHDOG = "watchdog"
    WATCHDOG_IN_INITRD = "watchdog-in-initrd"


@dataclass(frozen=True, slots=True)
class DropIn:
    """A file that is a setting by being there."""

    path: str
    lines: str


DROP_INS: Final[Mapping[Setting, DropIn]] = {
    Setting.PANIC: DropIn(
        "/etc/default/grub.d/trialboot-panic.cfg",
        'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=10"\n',
    ),
    Setting.WATCHDOG: DropIn(
        "/etc/systemd/system.conf.d/50-trialboot-watchdog.conf",
        "[Manager]\nRuntimeWatchdogSec=60\nRebootWatchdogSec=10min\n",
    ),
    Setting.WATCHDOG_IN_INITRD: DropIn(
        "/etc/trialboot/watchdog-in-initrd",
        "# An initrd that is built from now on arms the watchdog; systemd has to take it over.\n"
        "SECONDS=120\n",
    ),
}
"""The last is read by the hooks that build initrds."""


def put(host: Host, setting: Setting) -> bool:
    """Write the file of a setting; tell whether that changed anything. Raises `HostError`."""
    drop_in = DROP_INS[setting]
    told = f"{MARK} (doctor --set {setting}); «trialboot doctor --unset {setting}» removes it.\n"
    content = f"{told}{drop_in.lines}".encode()
    path = host.path(drop_in.path)
    try:
        if path.exists() and path.read_bytes() == content:
            return False
        _check_ours(host, drop_in.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content, mode=0o644)
    except OSError as error:
        raise HostError(f"{drop_in.path}: {error.strerror}; are you root?") from error
    return True


def remove(host: Host, setting: Setting) -> bool:
    """Take the file of a setting away; tell whether it was there. Raises `HostError`."""
    shown = DROP_INS[setting].path
    path = host.path(shown)
    try:
        if not path.exists():
            return False
        _check_ours(host, shown)
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise HostError(f"{shown}: {error.strerror}; are you root?") from error
    return True


def is_set(host: Host, setting: Setting) -> bool:
    """Tell whether the file of a setting is there."""
    return host.exists(DROP_INS[setting].path)


def _check_ours(host: Host, path: str) -> None:
    if host.exists(path) and not host.read_text(path).startswith(MARK):
        raise HostError(f"{path} was not written by trialboot: it is left alone")
