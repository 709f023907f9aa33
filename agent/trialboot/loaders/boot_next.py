"""UEFI's BootNext, which starts a second copy of the host's own GRUB, for one boot.

GRUB tells its copies apart by `$cmdpath`, the folder that it was loaded from: only the copy in
EFI/trialboot finds `trial.env` beside itself. The firmware deletes BootNext before it starts the
entry, whatever /boot is on; and the copy clears `trial.env` before it follows it. So not even
firmware that forgets to delete BootNext boots a candidate twice.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot import efivariables
from trialboot.bootonce import (
    ONCE,
    SOURCE,
    block_of,
    folder_of,
    next_is_ours,
    same_files,
)
from trialboot.core.efi import (
    TRIAL_ENTRY,
    TRIAL_FOLDER,
    LoadOption,
    Partition,
    boot_number,
    format_number,
    format_option,
    format_order,
    free_number,
    is_ours,
    parse_number,
    parse_order,
)
from trialboot.core.espimages import Image, image_of, partition_of
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import BOOT_NEXT, Carrier
from trialboot.errors import LoaderError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.loaders.ground import Mount, block_size, mount_of, udev_words
from trialboot.loaders.own_block import against_partition, pending_in, remove_files, write_block

_SPARE: Final = 1 << 20
"""Bytes of the ESP that stay free for its owner's updates."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """What is to be copied, and what the entry is to be."""

    image: Image
    partition: Partition

    def option(self) -> LoadOption:
        name = self.image.files[0]
        file = f"/{TRIAL_FOLDER}/{name}"
        return LoadOption(description=TRIAL_ENTRY, partition=self.partition, file=file)


@dataclass(frozen=True, slots=True)
class BootNext:
    """BootNext, an entry of ours outside BootOrder, and GRUB's copy on the ESP at a folder."""

    host: Host
    folder: str

    @property
    def carrier(self) -> Carrier:
        """Name it as the menu does."""
        return Carrier(BOOT_NEXT, self.folder)

    @property
    def told(self) -> str:
        """What it is, in an operator's words."""
        return f"UEFI's BootNext and a second copy of GRUB on {self.folder}"

    def against(self) -> tuple[str, ...]:
        """Say why it cannot be used on this host."""
        try:
            copy = self._copy()
            if isinstance(copy, Unknown):
                return (copy.why,)
            return tuple(self._against_room(copy.image))
        except OSError as error:
            return (f"UEFI's BootNext: {error.strerror}",)

    def set(self, entry: EntryId) -> None:
        """Boot this entry the next time only. BootNext is written last, when all else is there."""
        try:
            copy = self._copy()
            reasons = self.against()
            if reasons or isinstance(copy, Unknown):
                raise LoaderError(f"BootNext carries no one-shot: {'; '.join(reasons)}")
            if other := self._other_next():
                raise LoaderError(
                    f"BootNext is taken: the firmware starts {other} next; «efibootmgr -N» takes "
                    "that back"
                )
            self._copy_files(copy.image)
            write_block(self.host, self.carrier, {ONCE: entry, SOURCE: copy.image.folder})
            number = self._entry(copy.option())
            self._leave_order()
            efivariables.write(self.host, "BootNext", format_number(number))
        except OSError as error:
            raise LoaderError(f"BootNext: {error.strerror}") from error
        if self.pending() != entry:
            raise LoaderError("BootNext does not hold what was written")

    def forget(self) -> None:
        """Take a one-shot back: BootNext if it is ours, and the file that names the entry."""
        try:
            if next_is_ours(self.host):
                efivariables.remove(self.host, "BootNext")
            self._leave_order()
            block = self.host.path(block_of(self.carrier))
            if block.exists():
                block.unlink()
                sync_folder(block.parent)
        except OSError as error:
            raise LoaderError(f"BootNext: {error.strerror}") from error

    def pending(self) -> str:
        """Give the entry that is booted once; empty for none."""
        return pending_in(self.host, self.carrier)

    def remove(self) -> None:
        """Remove the entry of ours and the copy of GRUB."""
        self.forget()
        try:
            for name in self._own_entries():
                efivariables.remove(self.host, name)
            copies = [f"{folder_of(self.carrier)}/{name}" for name in self._copied()]
        except OSError as error:
            raise LoaderError(f"BootNext: {error.strerror}") from error
        remove_files(self.host, folder_of(self.carrier), copies)

    def words(self) -> Mapping[str, str]:
        """Name the folder for us; GRUB finds its own."""
        return {"CARRIER": f"{BOOT_NEXT}:{self.folder}"}

    # --- what there is ---------------------------------------------------------------------------

    def _copy(self) -> _Copy | Unknown:
        """Find what to copy, and the partition to start it from. Raises `OSError`."""
        if not efivariables.options(self.host):
            return Unknown("this host was not started by UEFI, or its firmware shows no variables")
        mount = mount_of(self.host, self.folder)
        if isinstance(mount, Unknown) or mount.place != self.folder:
            return Unknown(f"no ESP is mounted on {self.folder}")
        partition = self._partition(mount)
        if isinstance(partition, Unknown):
            return partition
        image = self._image(partition)
        return image if isinstance(image, Unknown) else _Copy(image, partition)

    def _partition(self, mount: Mount) -> Partition | Unknown:
        if mount.file_system != "vfat":
            return Unknown(f"{self.folder} is no ESP: {mount.file_system}")
        if reason := against_partition(self.host, mount):
            return Unknown(reason)
        words = udev_words(self.host, mount.device)
        if isinstance(words, Unknown):
            return words
        return partition_of(words, block_size(self.host, mount.device))

    def _image(self, partition: Partition) -> Image | Unknown:
        options = {boot_number(n): o for n, o in efivariables.options(self.host).items()}
        current = efivariables.read(self.host, "BootCurrent")
        number = Unknown("none") if current is None else parse_number(current)
        numbers = parse_order(efivariables.read(self.host, "BootOrder") or b"")
        if isinstance(numbers, Unknown):
            return numbers
        none = Unknown("no such entry")
        started = none if isinstance(number, Unknown) else options.get(number, none)
        order = [options[known] for known in numbers if known in options]
        return image_of(started, order, partition, self._files())

    def _files(self) -> list[str]:
        """List the programs on the ESP, as paths below it."""
        root = self.host.path(self.folder)
        found = root.glob("[eE][fF][iI]/*/*.[eE][fF][iI]")
        return sorted(str(path.relative_to(root)) for path in found if path.is_file())

    def _copied(self) -> list[str]:
        """List what lies in our folder; only we write there."""
        place = self.host.path(folder_of(self.carrier))
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    def _own_entries(self) -> list[str]:
        return [n for n, option in efivariables.options(self.host).items() if is_ours(option)]

    def _other_next(self) -> str:
        """Say what BootNext starts where somebody else has set it; else empty.

        That passes, and no other carrier helps.
        """
        value = efivariables.read(self.host, "BootNext")
        if value is None or next_is_ours(self.host):
            return ""
        number = parse_number(value)
        if isinstance(number, Unknown):
            return f"something that is not understood ({number.why})"
        options = efivariables.options(self.host).items()
        found = next((option for name, option in options if boot_number(name) == number), None)
        name = f"Boot{number:04X}"
        return f"«{found.description}» ({name})" if isinstance(found, LoadOption) else name

    def _against_room(self, image: Image) -> Iterator[str]:
        wanted = sum(source.stat().st_size for source, _ in self._pairs(image))
        there = sum(t.stat().st_size for _, t in self._pairs(image) if t.is_file())
        room = os.statvfs(self.host.path(self.folder))
        if wanted - there + _SPARE > room.f_bavail * room.f_frsize:
            yield f"{self.folder} has no room for a copy of GRUB: {wanted >> 10} KiB"

    # --- what is written -------------------------------------------------------------------------

    def _pairs(self, image: Image) -> list[tuple[Path, Path]]:
        """Pair each file to be copied with its copy."""
        source = self.host.path(f"{self.folder}/{image.folder}")
        target = self.host.path(folder_of(self.carrier))
        return [(source / name, target / name) for name in image.files]

    def _copy_files(self, image: Image) -> None:
        folder = self.host.path(folder_of(self.carrier))
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
        for source, target in self._pairs(image):
            if not (target.is_file() and same_files(source, target)):
                write_durably(target, source.read_bytes(), mode=None)
        for name in self._copied():
            if name.lower().endswith(".efi") and name not in image.files:
                (folder / name).unlink()

    def _entry(self, option: LoadOption) -> int:
        """Have one entry of ours, and give its number."""
        own = next(iter(self._own_entries()), "")
        free = free_number(self._taken())
        if isinstance(free, Unknown):
            raise LoaderError(free.why)
        name = own or f"Boot{free:04X}"
        efivariables.write(self.host, name, format_option(option))
        number = boot_number(name)
        return free if number is None else number

    def _taken(self) -> Iterator[int]:
        for name in efivariables.options(self.host):
            number = boot_number(name)
            if number is not None:
                yield number
        order = parse_order(efivariables.read(self.host, "BootOrder") or b"")
        if isinstance(order, Unknown):
            raise LoaderError(order.why)
        yield from order

    def _leave_order(self) -> None:
        """Take our entry out of BootOrder: some firmware adds what it finds. The rest stays."""
        order = parse_order(efivariables.read(self.host, "BootOrder") or b"")
        if isinstance(order, Unknown):
            return
        ours = {boot_number(name) for name in self._own_entries()}
        kept = [number for number in order if number not in ours]
        if len(kept) != len(order):
            efivariables.write(self.host, "BootOrder", format_order(kept))
