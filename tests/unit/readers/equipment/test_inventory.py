"""All sources together, each failing by itself."""

import errno
import os
from pathlib import Path

from trialboot.core.facts import Device, Interface, Unknown
from trialboot.host import Host
from trialboot.readers.equipment.inventory import read_equipment


def refuse(_: object) -> bytes:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_sources_fail_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("microcode : 0x1\n")
    found = read_equipment(Host(root=tmp_path), ask=refuse, exchange=refuse)
    assert isinstance(found.interfaces, Unknown)
    assert found.devices == (Device(kind="microcode", name="CPU", running="0x1"),)
    assert found.unread == ("devlink: Operation not permitted",)


def test_interfaces_and_devices_come_together(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").touch()
    (tmp_path / "sys/class/net/lo").mkdir(parents=True)
    found = read_equipment(Host(root=tmp_path), ask=lambda _: b"", exchange=refuse)
    assert found.interfaces == (Interface(name="lo", driver=""),)
