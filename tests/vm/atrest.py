"""Changes the disks of a machine that is off, as a fault would find them at the next start.

The host's own kernel is booted without its boot loader, and a script instead of init: so whatever
the disks are made of is assembled as the host does it, no program of the host runs, and the loader
neither sees nor forgets anything.
"""

from __future__ import annotations

from pathlib import Path

from tests.vm import command, qemu
from tests.vm.errors import InfrastructureError
from tests.vm.hosts import Direct
from tests.vm.machine import Extra, Machine, plain

_SECONDS = 240.0
# Read from a disk by sh itself, so that nothing has to be put into the initrd.
_SCRIPT = """\
exec > /dev/console 2>&1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mount -o remount,rw /
mount -a -t ext2,ext4,vfat
(set -eux
{script}
)
[ $? != 0 ] || echo "CHANGED AT REST"
sync
umount -a -t ext2,vfat
umount /boot 2> /dev/null
mount -o remount,ro /
echo o > /proc/sysrq-trigger
sleep 60
"""


def change(machine: Machine, direct: Direct, script: str) -> None:
    """Run a shell script on the disks of a machine that is off. It stops at the first failure."""
    if machine.running():
        raise InfrastructureError("the disks are changed at rest: power_off() or kill() first")
    folder = machine.folder / "at-rest"
    folder.mkdir(exist_ok=True)
    text = _SCRIPT.format(script=script).encode()
    source = folder / "script"
    # Whole sectors, so that nothing is cut off.
    source.write_bytes(text + b"\n" * (-len(text) % 512))
    console = folder / "console"
    console.unlink(missing_ok=True)
    line = f"{direct.command_line} rw panic=-1 init=/bin/sh -- /dev/disk/by-id/virtio-script"
    words = [
        *qemu.machine(machine.image.accelerator()),
        *(word for disk in machine.disks for word in qemu.disk(disk, "qcow2", "writeback")),
        *Extra("script", source, read_only=True).words(),
        *qemu.serial(console),
        *qemu.direct(direct.kernel, direct.initrd, line),
        "-no-reboot",
    ]
    _run(words, folder)
    said = plain(console.read_text(errors="replace"))
    if "\nCHANGED AT REST" not in said:
        raise InfrastructureError(f"the disks were not changed:\n{said[-3000:]}")


def _run(words: list[str], folder: Path) -> None:
    process = command.start(words, folder / "qemu.log")
    if not command.ended(process, _SECONDS):
        process.kill()
        process.wait()
