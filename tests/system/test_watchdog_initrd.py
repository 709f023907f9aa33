"""The watchdog in a real initrd: what initramfs-tools of Debian makes of our files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import roots
from tests.vm.node import REPOSITORY

pytestmark = pytest.mark.system

OURS = REPOSITORY / "packaging/watchdog"
PLACES = {
    "trialboot-watchdog": "usr/lib/trialboot/watchdog",
    "hooks/trialboot-watchdog": "usr/share/initramfs-tools/hooks",
    "scripts/init-top/trialboot-watchdog": "usr/share/initramfs-tools/scripts/init-top",
    "scripts/init-bottom/trialboot-watchdog": "usr/share/initramfs-tools/scripts/init-bottom",
}
PACKAGES = ("initramfs-tools", "kmod", "zstd", "linux-image-amd64")
# A watchdog in a /sys of ours: this machine may have none.
FAKE = """
set -e
mount -t tmpfs tmpfs /sys
mkdir -p /sys/module/i6300esb /sys/class/watchdog/watchdog0/device/driver /sys/block
ln -s /sys/module/i6300esb /sys/class/watchdog/watchdog0/device/driver/module
echo 'i6300ESB timer' >/sys/class/watchdog/watchdog0/identity
echo 0 >/sys/class/watchdog/watchdog0/nowayout
version=$(ls /lib/modules)
"""
BUILD = (
    "printf 'MODULES=list\\nCOMPRESS=zstd\\nCOMPRESSLEVEL=1\\n' "
    ">/etc/initramfs-tools/conf.d/quick; "
    "mkinitramfs -o /initrd $version; unmkinitramfs /initrd /unpacked"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A root with a maker of initrds, a kernel and our files, as the package lays them."""
    with roots.copy(roots.root("bookworm", PACKAGES), tmp_path / "copy") as root:
        for source, target in PLACES.items():
            (root / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(OURS / source, root / target)
        folder = root / "etc/systemd/system.conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "watchdog.conf").write_text("[Manager]\nRuntimeWatchdogSec=60\n")
        yield root


def build(place: Path) -> Path:
    """Build an initrd and give the folder with what is in it."""
    roots.chroot_run(place, ("sh", "-c", FAKE + BUILD), timeout=300)
    whole = place / "unpacked"
    return whole / "main" if (whole / "main").exists() else whole


def test_the_watchdog_is_in_the_initrd_only_where_it_is_asked_for(place: Path) -> None:
    before = build(place)
    assert not (before / "bin/trialboot-watchdog").exists()
    assert not (before / "etc/trialboot-watchdog").exists()
    shutil.rmtree(place / "unpacked")

    (place / "etc/trialboot").mkdir(parents=True, exist_ok=True)
    (place / "etc/trialboot/watchdog-in-initrd").write_text("SECONDS=90\n")
    initrd = build(place)
    settings = (initrd / "etc/trialboot-watchdog").read_text()
    assert settings == "MODULE='i6300esb' OPTION='heartbeat=90' LIMIT=600\n"
    assert list(initrd.rglob("i6300esb.ko*"))
    assert (initrd / "bin/trialboot-watchdog").exists()
    for when in ("init-top", "init-bottom"):
        order = (initrd / f"scripts/{when}/ORDER").read_text()
        assert f"/scripts/{when}/trialboot-watchdog" in order
