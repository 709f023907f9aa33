"""Tells apt that the known-good's kernel is in use: autoremove is to leave its packages alone.

unattended-upgrades removes only what apt calls removable. Nothing here keeps an operator from
removing a kernel by name: that is what the vault is for.
"""

import re
from typing import Final

from trialboot.errors import HostError
from trialboot.host import Host, sync_folder, write_durably

FOLDER: Final = "/etc/apt/apt.conf.d"
FILE: Final = f"{FOLDER}/02trialboot-known-good"
"""Read by apt at each start; a draft with a dot before its name is not (apt.conf(5))."""

# What a kernel release is made of in the name of a Debian package, and nothing that apt.conf(5) or
# regex(7) would take for its own once it stands in brackets. It comes from a kernel image.
_RELEASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,99}", re.ASCII)


def protect(host: Host, release: str) -> None:
    """Protect the packages of this kernel release, and of no other. A host without apt needs none.

    Raises `HostError`, and what was there before stays.
    """
    if not host.path(FOLDER).is_dir():
        return
    if not _RELEASE.fullmatch(release):
        raise HostError(f"«{release}» is no kernel release that apt's configuration could name")
    content = parts_file(release)
    path = host.path(FILE)
    try:
        if not path.is_file() or path.read_bytes() != content:
            write_durably(path, content, mode=0o644)
    except OSError as error:
        raise HostError(f"{FILE}: {error.strerror}") from error


def release(host: Host) -> None:
    """Protect nothing any more. Raises `HostError`."""
    path = host.path(FILE)
    try:
        if path.exists():
            path.unlink()
            sync_folder(path.parent)
    except OSError as error:
        raise HostError(f"{FILE}: {error.strerror}") from error


def parts_file(kernel_release: str) -> bytes:
    """Write apt's configuration for a release; dots and plus signs are meant as such."""
    literal = re.sub(r"([.+])", r"[\1]", kernel_release)
    return (
        "// Written by trialboot: these packages are those of the known-good boot set.\n"
        f'APT::NeverAutoRemove {{ "^linux-.*-{literal}$"; }};\n'
    ).encode()
