"""What a host can survive, from what its folders say."""

import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.loaders.host_folder import make_node
from trialboot.core.facts import Unknown
from trialboot.core.protection import Level
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.loaders.ground import WATCHDOG_IN_INITRD, settle, watchdog_seconds
from trialboot.loaders.grub import Grub

FUTURE: Final = time.time() + 86400
MOUNTS = "22 1 8:2 / / rw - {} /dev/sda2 rw\n23 22 0:5 / /proc rw - proc proc rw\n"


def node_host(root: Path, *, file_system: str = "ext4", usec: int = 30_000_000) -> Host:
    node = make_node(root)

    def call(*_: Any) -> int:
        if usec < 0:
            raise HostError("no bus")
        return usec

    node.write("/proc/self/mountinfo", MOUNTS.format(file_system))
    node.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz ro panic=10\n")
    node.write("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n")
    node.write(WATCHDOG_IN_INITRD, "SECONDS=120\n")
    for initrd in (root / "boot").glob("initrd*"):
        os.utime(initrd, (FUTURE, FUTURE))
    return Host(root=root, call=call)


def test_a_plain_partition_with_panic_and_watchdog_is_full(tmp_path: Path) -> None:
    found = Grub(node_host(tmp_path)).protection()
    assert (found.level, found.reasons) == (Level.FULL, ())


def test_a_hang_before_systemd_is_covered_by_an_initrd_made_for_it(
    tmp_path: Path,
) -> None:
    host = node_host(tmp_path)
    for initrd in (tmp_path / "boot").glob("initrd*"):
        os.utime(initrd, (1, 1))
    found = Grub(host).protection()
    assert found.level is Level.PANIC_ONLY
    assert found.reasons == ("no watchdog is armed in the initrd: a hang before systemd waits",)
    (tmp_path / WATCHDOG_IN_INITRD.lstrip("/")).unlink()
    assert Grub(host).protection().level is Level.PANIC_ONLY


@pytest.mark.parametrize("usec", [0, -1, (1 << 64) - 1])
def test_a_watchdog_that_is_not_armed_does_not_protect(tmp_path: Path, usec: int) -> None:
    found = Grub(node_host(tmp_path, usec=usec)).protection()
    assert found.level is Level.PANIC_ONLY
    assert "RuntimeWatchdogSec" in found.reasons[0]


@pytest.mark.parametrize("identity", ["Software Watchdog\n", ""])
def test_a_watchdog_of_software_is_none(tmp_path: Path, identity: str) -> None:
    host = node_host(tmp_path)
    file = tmp_path / "sys/class/watchdog/watchdog0/identity"
    if identity:
        file.write_text(identity, encoding="utf-8")
    else:
        file.unlink()
    assert Grub(host).protection().level is Level.PANIC_ONLY


@pytest.mark.parametrize("line", ["ro quiet", "ro panic=0", "ro panic=x"])
def test_without_panic_only_userspace_goes_back(tmp_path: Path, line: str) -> None:
    host = node_host(tmp_path)
    (tmp_path / "proc/cmdline").write_text(line, encoding="utf-8")
    found = Grub(host).protection()
    assert found.level is Level.USERSPACE_ONLY
    assert "running" in found.reasons[0]


@pytest.mark.parametrize("file_system", ["btrfs", "zfs", "f2fs"])
def test_a_file_system_that_grub_cannot_write_protects_nothing(
    tmp_path: Path, file_system: str
) -> None:
    found = Grub(node_host(tmp_path, file_system=file_system)).protection()
    assert found.level is Level.NONE
    assert file_system in found.reasons[0]


@pytest.mark.parametrize(
    ("file", "content", "kind"),
    [
        ("sda2/dm/uuid", "LVM-abc\n", "lvm"),
        ("sda2/dm/uuid", "CRYPT-LUKS2-abc\n", "crypt"),
        ("sda2/dm/name", "x\n", "device mapper"),
        ("sda2/md/level", "raid1\n", "md"),
        ("md/level", "raid1\n", "md"),
    ],
)
def test_what_grub_cannot_write_through_is_named(
    tmp_path: Path, file: str, content: str, kind: str
) -> None:
    host = node_host(tmp_path)
    place = tmp_path / "sys/devices/sda" / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content, encoding="utf-8")
    found = Grub(host).protection()
    assert found.level is Level.NONE
    assert f"through {kind}" in found.reasons[0]


def test_what_is_not_known_does_not_protect(tmp_path: Path) -> None:
    host = node_host(tmp_path)
    (tmp_path / "sys/dev/block/8:2").unlink()
    (tmp_path / "proc/cmdline").unlink()
    (tmp_path / "boot/grub/grub.cfg").unlink()
    (tmp_path / "sys/class/watchdog/watchdog0/identity").unlink()
    (tmp_path / "sys/class/watchdog/watchdog0/identity").mkdir()
    found = Grub(host).protection()
    assert found.level is Level.NONE
    assert len(found.reasons) == 6
    (tmp_path / "proc/self/mountinfo").write_text("29 1 0:25 / /\n\nx - y", encoding="utf-8")
    assert "no mount" in Grub(host).protection().reasons[0]
    (tmp_path / "proc/self/mountinfo").unlink()
    assert "mountinfo" in Grub(host).protection().reasons[0]


def test_a_watchdog_whose_name_is_no_utf_8_is_one(tmp_path: Path) -> None:
    host = node_host(tmp_path)
    identity = tmp_path / "sys/class/watchdog/watchdog0/identity"
    identity.unlink()
    identity.write_bytes(b"caf\xe9\n")
    assert Grub(host).protection().level is Level.FULL


def test_the_log_of_xfs_is_a_note(tmp_path: Path) -> None:
    found = Grub(node_host(tmp_path, file_system="xfs")).protection()
    assert found.level is Level.FULL
    assert "xfs" in found.notes[0]
    assert Grub(node_host(tmp_path / "b", file_system="vfat")).protection().notes == ()


def test_a_journal_that_cannot_be_written_through_is_a_note() -> None:
    assert "is not written through" in settle(Path("/proc"))


def test_the_watchdog_time_is_in_seconds(tmp_path: Path) -> None:
    seconds = watchdog_seconds(node_host(tmp_path, usec=90_000_000))
    assert not isinstance(seconds, Unknown)
    assert seconds == pytest.approx(90)
