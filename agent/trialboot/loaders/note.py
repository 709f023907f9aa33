"""The small file that says which boot set the known-good entry boots, whatever the loader is.

The package managers' hook reads it, to put the known-good's modules back before anybody reboots.
"""

import shlex
from typing import Final

from trialboot.bootfiles import KNOWN_GOOD_FILE
from trialboot.core.bootset import BootSet
from trialboot.host import Host, sync_folder, write_durably

_TOLD: Final = "# Written by trialboot for the package managers' hook. No KERNEL: not for GRUB.\n"


def leave_note(host: Host, boot_set: BootSet) -> None:
    """Write the file. Raises `OSError`."""
    values = {"RELEASE": boot_set.release, "FINGERPRINT": boot_set.fingerprint}
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    path, content = host.path(KNOWN_GOOD_FILE), (_TOLD + lines).encode()
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, content, mode=0o644)


def remove_note(host: Host) -> None:
    """Remove the file, if it is there. Raises `OSError`."""
    path = host.path(KNOWN_GOOD_FILE)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
