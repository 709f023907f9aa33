"""Module packages that this host builds itself: DKMS, and for which kernels it has built them."""

import os
from collections.abc import Iterator
from typing import Final

from trialboot.core.facts import Dkms, Unknown
from trialboot.host import Host

_FOLDER: Final = "/var/lib/dkms"


def read_dkms(host: Host) -> tuple[Dkms, ...] | Unknown:
    """Read what DKMS has built, sorted; nothing where there is no DKMS.

    Built are `NAME/VERSION/RELEASE/ARCHITECTURE/module/` (dkms(8)); a source that was only added,
    or whose build failed, has no such folder.
    """
    if not host.exists(_FOLDER):
        return ()
    try:
        return tuple(sorted(set(_built(os.fspath(host.path(_FOLDER))))))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def _built(root: str) -> Iterator[Dkms]:
    for name in _folders(root):
        for version in _folders(f"{root}/{name}"):
            for release in _folders(f"{root}/{name}/{version}"):
                architectures = f"{root}/{name}/{version}/{release}"
                if any(
                    "module" in _folders(f"{architectures}/{a}") for a in _folders(architectures)
                ):
                    yield Dkms(name=name, version=version, release=release)


def _folders(path: str) -> list[str]:
    """Name the folders in one, never what a link names: `source`, `kernel-RELEASE-ARCH`."""
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
