"""The hosts of the matrix: each boots to its agent by its own boot loader, from its own disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import atrest, hosts
from tests.vm.hosts import HOSTS, Host
from tests.vm.image import USUAL, Image
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.long]

# What /boot lies on: what findmnt says, and what lsblk says of it and what is below it.
_BOOT = {
    "mdraid": ("ext4", "raid1"),
    "mdraid-plain": ("ext4", "raid1"),
    "lvm": ("ext4", "lvm"),
    "btrfs": ("btrfs", "part"),
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=lambda host: host.name)
def test_a_host_boots_by_its_own_loader(image: Image, tmp_path: Path, host: Host) -> None:
    machine = Machine(image, tmp_path, backing=hosts.disks(host, image), hardware=host.hardware())
    with machine:
        machine.start()
        machine.wait_agent()
        assert machine.exec("uname -r").stdout.strip() == image.kernels[USUAL]
        assert machine.exists("/sys/firmware/efi") is (host.firmware == "uefi")
        kind = machine.exec("findmnt -n -o FSTYPE -T /boot").stdout.strip()
        device = machine.exec("findmnt -n -o SOURCE -T /boot").stdout.partition("[")[0].strip()
        below = machine.exec(f"lsblk -n -o TYPE {device}").stdout.strip()
        assert (kind, below) == _BOOT.get(host.name, ("ext4", "part"))
        if host.loader == "grub":
            assert machine.read("/proc/cmdline").startswith("BOOT_IMAGE=")
        else:
            assert "systemd-boot" in machine.exec("bootctl status --no-pager").stdout
            assert not machine.exists("/boot/grub")
        assert machine.exec("systemctl --failed --no-legend").stdout == ""
        machine.power_off()


@pytest.mark.parametrize("host", HOSTS.values(), ids=lambda host: host.name)
def test_a_disk_at_rest_can_be_changed(image: Image, tmp_path: Path, host: Host) -> None:
    machine = Machine(image, tmp_path, backing=hosts.disks(host, image), hardware=host.hardware())
    with machine:
        atrest.change(machine, hosts.direct(host, image), "echo changed > /boot/changed")
        machine.start()
        machine.wait_agent()
        assert machine.read("/boot/changed") == "changed\n"
        assert not machine.serial().count("changed")
