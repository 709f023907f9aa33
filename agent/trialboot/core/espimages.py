"""Which program on the ESP is the host's own GRUB, and which partition the ESP is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trialboot.core.efi import TRIAL_FOLDER, LoadOption, Partition, is_ours
from trialboot.core.facts import Unknown

_REMOVABLE: Final = "EFI/BOOT/BOOTX64.EFI"
"""What firmware starts from a disk where its entry names no file (UEFI 2.10, 3.5.1.1)."""
_LOADERS: Final = frozenset({"shimx64.efi", "grubx64.efi", "bootx64.efi"})
_BESIDE: Final = ("grubx64.efi", "mmx64.efi")
"""What shim starts from its own folder: GRUB, and the manager of owners' keys."""
_MBR_ID: Final = re.compile(r"([0-9a-f]{8})-[0-9a-f]{2}")
_GUID: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4}-[0-9a-f]{12})")
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECTOR: Final = 512
"""Bytes in which udev counts, whatever the blocks of the disk are."""


@dataclass(frozen=True, slots=True)
class Image:
    """A loader as it is installed: its folder on the ESP, and its files, the first to start."""

    folder: str
    files: tuple[str, ...]


def image_of(
    started: LoadOption | Unknown,
    order: Sequence[LoadOption | Unknown],
    partition: Partition,
    files: Sequence[str],
) -> Image | Unknown:
    """Find the GRUB that started this boot, among the programs of the ESP.

    `started` is the entry of this boot, `order` what the firmware tries by itself. An entry that
    names no file is an automatic one: the firmware took the removable path.
    """
    if isinstance(started, LoadOption) and not started.file:
        return _named(_REMOVABLE, files)
    for option in (started, *order):
        if isinstance(option, LoadOption) and option.file and not is_ours(option):
            there = option.partition
            if there and there.signature == partition.signature:
                return _named(option.file.lstrip("/"), files)
    return _named(_REMOVABLE, files)


def partition_of(words: Mapping[str, str], block: int) -> Partition | Unknown:
    """Make the device path's partition from udev's words (ID_PART_ENTRY_*).

    `block` is the size of the disk's blocks in bytes.
    """
    names = ("NUMBER", "OFFSET", "SIZE")
    numbers = [words.get(f"ID_PART_ENTRY_{name}", "") for name in names]
    if not all(map(_NUMBER.fullmatch, numbers)):
        return Unknown("udev does not tell which partition the ESP is")
    scheme, told = (words.get(f"ID_PART_ENTRY_{name}", "") for name in ("SCHEME", "UUID"))
    signature = _signature(scheme, told.lower())
    if not signature:
        return Unknown(f"udev tells no id of the ESP that is one: «{told}» in «{scheme}»")
    number, start, size = map(int, numbers)
    return Partition(
        number=number,
        start=start * _SECTOR // block,
        size=size * _SECTOR // block,
        signature=signature,
        is_gpt=scheme == "gpt",
    )


def _named(file: str, files: Sequence[str]) -> Image | Unknown:
    """Give the file and what belongs to it, in the letters that the ESP has them in."""
    known = {name.lower(): name for name in files}
    start = known.get(file.lower(), "")
    folder, _, name = start.rpartition("/")
    if not start:
        return Unknown(f"the ESP has no {file}, which the firmware starts")
    if name.lower() not in _LOADERS or folder.lower() == TRIAL_FOLDER.lower():
        return Unknown(f"what the firmware starts is not known to be GRUB: {start}")
    if name.lower() == _BESIDE[0]:
        return Image(folder, (name,))
    beside = [known.get(f"{folder}/{other}".lower(), "") for other in _BESIDE]
    return Image(folder, (name, *(other.rpartition("/")[2] for other in beside if other)))


def _signature(scheme: str, text: str) -> bytes:
    """Write a partition's id as the device path has it; empty where it is none."""
    if scheme == "dos" and (mbr := _MBR_ID.fullmatch(text)):
        return bytes.fromhex(mbr[1])[::-1].ljust(16, b"\0")
    if scheme == "gpt" and (guid := _GUID.fullmatch(text)):
        mixed = b"".join(bytes.fromhex(part)[::-1] for part in guid.groups()[:3])
        return mixed + bytes.fromhex(guid[4].replace("-", ""))
    return b""
