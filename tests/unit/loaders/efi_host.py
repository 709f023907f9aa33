"""A folder that looks like a UEFI host whose /boot GRUB cannot write: btrfs, an ESP, variables."""

import struct
from dataclasses import dataclass
from pathlib import Path

from tests.unit.loaders.host_folder import Node, make_node
from trialboot.core.efi import (
    LoadOption,
    Partition,
    boot_number,
    format_number,
    format_option,
    format_order,
    parse_number,
    parse_option,
    parse_order,
)

GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
ESP = Partition(number=1, start=2048, size=262144, signature=bytes(range(16)), is_gpt=True)
DEBIAN = LoadOption(description="debian", partition=ESP, file="/EFI/debian/shimx64.efi")
OTHER = LoadOption(description="Windows Boot Manager", partition=ESP, file="/EFI/ms/x.efi")
MOUNTS = """\
22 1 0:25 /@rootfs / rw - btrfs /dev/sda2 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:1 / /boot/efi rw - vfat /dev/sda1 rw,fmask=0077
"""
UDEV = """\
S:disk/by-uuid/7B07-0071
E:ID_FS_UUID=7B07-0071
E:ID_PART_ENTRY_SCHEME=gpt
E:ID_PART_ENTRY_UUID=03020100-0504-0706-0809-0a0b0c0d0e0f
E:ID_PART_ENTRY_NUMBER=1
E:ID_PART_ENTRY_OFFSET=2048
E:ID_PART_ENTRY_SIZE=262144
"""


@dataclass(frozen=True)
class Firmware:
    """The variables of a folder, as efivarfs shows them."""

    root: Path

    def file(self, name: str) -> Path:
        return self.root / f"sys/firmware/efi/efivars/{name}-{GUID}"

    def put(self, name: str, value: bytes) -> None:
        self.file(name).parent.mkdir(parents=True, exist_ok=True)
        self.file(name).write_bytes(struct.pack("<I", 7) + value)

    def get(self, name: str) -> bytes | None:
        return self.file(name).read_bytes()[4:] if self.file(name).exists() else None

    def entries(self) -> dict[str, object]:
        names = [path.name.removesuffix(f"-{GUID}") for path in self.file("x").parent.iterdir()]
        return {n: parse_option(self.get(n) or b"") for n in names if boot_number(n) is not None}

    def order(self) -> object:
        return parse_order(self.get("BootOrder") or b"")

    def next_entry(self) -> object:
        """Follow BootNext as the firmware does."""
        value = self.get("BootNext")
        if value is None:
            return None
        number = parse_number(value)
        return {boot_number(n): o for n, o in self.entries().items()}[number]  # type: ignore[index]  # a number or a failed test

    def start(self) -> None:
        """Start as the firmware does: BootNext is gone before anything runs."""
        self.file("BootNext").unlink(missing_ok=True)


def uefi_node(root: Path) -> tuple[Node, Firmware]:
    """Make a host that was started by shim from EFI/debian, with Windows second in its order."""
    node = make_node(root)
    node.write("/proc/self/mountinfo", MOUNTS)
    node.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz ro panic=10\n")
    node.write("/run/udev/data/b8:1", UDEV)
    node.write("/sys/devices/sda/sda1/partition", "1\n")
    (root / "sys/dev/block/8:1").symlink_to(root / "sys/devices/sda/sda1")
    for name in ("shimx64", "grubx64", "mmx64", "fbx64"):
        node.write(f"/boot/efi/EFI/debian/{name}.efi", f"{name} 1")
    firmware = Firmware(root)
    firmware.put("Boot0000", format_option(DEBIAN))
    firmware.put("Boot0001", format_option(OTHER))
    firmware.put("Boot000a", b"odd")
    firmware.put("BootOrder", format_order([0, 1, 2, 1]))
    firmware.put("BootCurrent", format_number(0))
    return node, firmware
