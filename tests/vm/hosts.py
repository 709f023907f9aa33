"""The hosts of the matrix: how each is laid out, and its disks, installed once and kept.

``python3 -m tests.vm.hosts`` names them; with names, it makes their disks now.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.vm import command, packages
from tests.vm import image as images
from tests.vm.errors import InfrastructureError
from tests.vm.image import Image, cache
from tests.vm.machine import Extra, Firmware, Hardware, Machine

LAYOUTS = Path(__file__).parent / "layouts"
_PLACE = "/root/layout"
_SIZE = "4G"
# Copying a system and making an initrd under TCG, on a machine that others use too.
_INSTALL_SECONDS = 1500.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """One way to lay a host out."""

    name: str
    told: str
    """For the table of results."""
    firmware: Firmware = "bios"
    disks: int = 0
    """How many of its own it has, filled as the layout of the same name says; 0: the image's."""
    loader: str = "grub"
    level: str = "panic-only"
    """The protection that `trialboot status` has to state, there being no watchdog."""

    def hardware(self, serial_number: str = "") -> Hardware:
        """What a machine of this host has."""
        return Hardware(firmware=self.firmware, serial_number=serial_number)


@dataclass(frozen=True)
class Direct:
    """What boots a host without its boot loader."""

    kernel: Path
    initrd: Path
    command_line: str


BASE = Host(name="grub-bios", told="GRUB, BIOS, ext4")
HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        host.name: host
        for host in (
            BASE,
            Host(name="grub-uefi", told="GRUB, UEFI, ext4", firmware="uefi"),
            Host(
                name="systemd-boot",
                told="systemd-boot 252, UEFI, ext4",
                firmware="uefi",
                disks=1,
                loader="systemd-boot",
            ),
            Host(name="mdraid", told="GRUB, BIOS, all on RAID1", disks=2, level="none"),
            Host(name="mdraid-plain", told="GRUB, BIOS, RAID1 and a plain partition", disks=2),
            Host(name="lvm", told="GRUB, UEFI, all in LVM", firmware="uefi", disks=1),
            Host(name="btrfs", told="GRUB, UEFI, all on btrfs", firmware="uefi", disks=1),
            Host(name="separate-boot", told="GRUB, BIOS, /boot of its own", disks=1),
            Host(name="encrypted", told="GRUB, BIOS, LUKS2 root, plain /boot", disks=1),
        )
    }
)


def disks(host: Host, image: Image) -> Path | None:
    """Give what this host's machines boot, installed now where it is not kept; None: the image."""
    if not host.disks:
        return None
    folder = cache() / f"host-{identity(host, image)}"
    with (cache() / f"host-{host.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _forget(host)
            draft = folder.with_name(f"draft-{folder.name}")
            _install(host, image, draft)
            draft.rename(folder)
    return folder


def identity(host: Host, image: Image) -> str:
    """Give a name that changes with the recipe of a host's disks."""
    return f"{host.name}-{_key(host, image)}" if host.disks else host.name


def direct(host: Host, image: Image) -> Direct:
    """Give the kernel that a host was installed with."""
    folder = disks(host, image)
    if folder is None:
        line = f"root=UUID={image.uuid} ro console=ttyS0 mitigations=off"
        return Direct(image.kernel(images.USUAL), image.initrd(images.USUAL), line)
    line = (folder / "command-line").read_text().strip()
    return Direct(folder / "vmlinuz", folder / "initrd.img", line)


def _key(host: Host, image: Image) -> str:
    recipe = hashlib.sha256(repr((host.name, host.firmware, host.disks, _SIZE)).encode())
    recipe.update(image.folder.name.encode())
    recipe.update(packages.disk().name.encode())
    for file in _recipe(host):
        recipe.update(file.read_bytes())
    return recipe.hexdigest()[:16]


def _recipe(host: Host) -> list[Path]:
    """The layout, and those that it builds upon."""
    own = LAYOUTS / f"{host.name}.sh"
    text = own.read_text()
    shared = [path for path in sorted(LAYOUTS.glob("*.sh")) if f"$HERE/{path.name}" in text]
    return [LAYOUTS / "install.sh", own, *shared]


def _forget(host: Host) -> None:
    """Keep no disks of an older recipe: each host has a GiB or more."""
    for folder in cache().glob(f"host-{host.name}-{'[0-9a-f]' * 16}"):
        shutil.rmtree(folder, ignore_errors=True)


def _install(host: Host, image: Image, to: Path) -> None:
    """Boot the image with blank disks, and have it install itself on them."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    new = [Extra(f"new{number}", to / f"{number}.qcow2", "qcow2") for number in range(host.disks)]
    for extra in new:
        command.output("qemu-img", "create", "-q", "-f", "qcow2", extra.path, _SIZE)
    kernel = Extra("kernel", to / "kernel.tar")
    command.output("truncate", "--size=128M", kernel.path)
    hardware = Hardware(
        firmware=host.firmware,
        extras=(*new, kernel, Extra("packages", packages.disk(), read_only=True)),
    )
    with Machine(image, to / "work", hardware=hardware) as machine:
        # Without a boot loader: the firmware might choose one of the blank disks.
        machine.start(kernel=images.USUAL)
        machine.wait_agent()
        _run_layout(host, machine)
        machine.power_off()
    for variables in (to / "work").glob("*.fd"):
        shutil.move(variables, to)
    with tarfile.open(kernel.path) as tar:
        tar.extractall(to)  # noqa: S202  our own guest's
    kernel.path.unlink()
    shutil.rmtree(to / "work")


def _run_layout(host: Host, machine: Machine) -> None:
    for file in _recipe(host):
        machine.write(f"{_PLACE}/{file.name}", file.read_bytes())
    machine.exec(f"cp {_PLACE}/{host.name}.sh {_PLACE}/layout.sh")
    log = cache() / f"host-{host.name}.log"
    said = machine.exec(
        f"sh -x {_PLACE}/install.sh 2>&1", timeout=_INSTALL_SECONDS, check=False
    ).stdout
    log.write_text(said)
    if ">> INSTALLED" not in said.splitlines():
        raise InfrastructureError(f"{host.name} was not installed; read {log}: {said[-2000:]}")


def main() -> None:
    """Name the hosts, or make the disks of some."""
    parser = argparse.ArgumentParser(prog="tests.vm.hosts", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[*HOSTS, []], help="hosts to install")
    asked = parser.parse_args().names
    for host in HOSTS.values():
        if host.name in asked:
            print(disks(host, images.build()) or images.build().disk, flush=True)
        elif not asked:
            print(f"{host.name:15} {host.told}")


if __name__ == "__main__":
    main()
