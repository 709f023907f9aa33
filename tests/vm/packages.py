"""Debian's packages that other hosts than the base image need: a disk with a flat repository.

They are no part of the image, so that a new one does not make every image anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vm import command, image
from tests.vm.command import Progress
from tests.vm.errors import InfrastructureError

_WANTED = (
    *("mdadm", "lvm2", "btrfs-progs", "cryptsetup-initramfs", "systemd-boot"),
    *("efibootmgr", "dosfstools", "fdisk", "gdisk", "e2fsprogs"),
)
_DISK_MIB = 128
# With what they need and a minimal Debian has not. Runs chrooted, as root: apt's own user may not
# write there.
_FETCH = f"""\
set -e
mkdir /packages /archives
apt-get -o APT::Sandbox::User=root -o Dir::Cache::archives=/archives/ \
    install -y --no-install-recommends --download-only {" ".join(_WANTED)}
mv /archives/*.deb /packages
cd /packages
apt-ftparchive packages . > Packages
"""


def download(folder: Path, *names: str) -> list[Path]:
    """Fetch packages of this machine's own suite by themselves; skips where there is no apt."""
    if shutil.which("apt-get") is None:
        pytest.skip(f"no apt-get here: {', '.join(names)} come from Debian's mirror")
    done = subprocess.run(
        ["apt-get", "download", *names],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InfrastructureError(f"{', '.join(names)} cannot be fetched: {done.stderr[-500:]}")
    return sorted(folder.glob("*.deb"))


def disk() -> Path:
    """Give the disk, made now where it is not cached: an ext4 file system without partitions."""
    recipe = f"{_FETCH} {_DISK_MIB} {image.build().folder.name}"
    path = image.cache() / f"packages-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.ext4"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
    return path


def _make(path: Path) -> None:
    progress = Progress(image.cache() / "packages.log")
    progress.say("fetching the packages of other hosts")
    draft = path.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    # Public there, they would change the key of every image.
    image._debootstrap(
        *(progress, Path("/dev/null"), ("apt-utils",)),
        f"chroot \"$1\" sh -c '{_FETCH}'",
        f'sync-out /packages "{draft}"',
    )
    file_system = path.with_suffix(".new")
    command.output("truncate", f"--size={_DISK_MIB}M", file_system)
    command.output("mke2fs", "-q", "-F", "-t", "ext4", "-d", draft, file_system)
    file_system.rename(path)
    shutil.rmtree(draft)
