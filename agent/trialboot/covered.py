"""Where the packages' own firmware and modules lie, while kept trees lie over them.

On a known-good boot the second initrd (packaging/initramfs) binds the kept trees over those of the
root, and the packages' trees to `/run/trialboot` before, until a package manager begins.
"""

from typing import Final

from trialboot.host import Host

FIRMWARE: Final = "/lib/firmware"
MODULES: Final = "/lib/modules"
_STATE: Final = "/run/trialboot"


def firmware_folder(host: Host) -> str:
    """Name the folder with the packages' own firmware."""
    return _packaged(host, "firmware", FIRMWARE)


def modules_folder(host: Host, release: str) -> str:
    """Name the folder with the modules that packages, DKMS and the operator put there."""
    return f"{_packaged(host, 'modules', MODULES)}/{release}"


def second_initrd_ran(host: Host) -> bool:
    """Tell whether this boot's initrd ran our part: not every maker of initrds has hooks."""
    return host.exists(f"{_STATE}/second-initrd-ran")


def left_uncovered(host: Host) -> tuple[str, ...]:
    """Name the kept trees that the second initrd could not bind over the packages' own."""
    kinds = ("firmware", "modules")
    return tuple(kind for kind in kinds if host.exists(f"{_STATE}/kept-{kind}-left"))


def _packaged(host: Host, kind: str, usual: str) -> str:
    covered = host.exists(f"{_STATE}/kept-{kind}-mounted")
    return f"{_STATE}/packaged-{kind}" if covered else usual
