"""An environment block of ours on a plain partition: for hosts whose /boot GRUB cannot write."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.bootonce import ONCE, SET_IN_THIS_BOOT, block_of, folder_of, read_block, read_once
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import format_environment
from trialboot.core.menu import OWN_BLOCK, Carrier
from trialboot.errors import LoaderError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.loaders.ground import Mount, device_kind, mount_of, settle, udev_words

_WRITABLE: Final = frozenset({"vfat", "ext2", "ext3", "ext4"})
"""Without xfs: GRUB does not replay its log, and would write where a file was before."""
_UUID: Final = re.compile(r"[0-9A-Fa-f-]{4,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnBlock:
    """The block `trialboot/trial.env` on the partition that is mounted at a folder."""

    host: Host
    folder: str

    @property
    def carrier(self) -> Carrier:
        """Name it as the menu does."""
        return Carrier(OWN_BLOCK, self.folder)

    @property
    def told(self) -> str:
        """What it is, in an operator's words."""
        return f"an environment block of trialboot's on {self.folder}"

    def against(self) -> tuple[str, ...]:
        """Say why GRUB cannot clear a one-shot there."""
        mount = mount_of(self.host, self.folder)
        if isinstance(mount, Unknown) or mount.place != self.folder:
            return (f"no partition is mounted on {self.folder}",)
        if reason := against_partition(self.host, mount):
            return (reason,)
        if mount.file_system not in _WRITABLE:
            return (f"GRUB cannot write on {self.folder}: {mount.file_system}",)
        uuid = self._uuid()
        return (uuid.why,) if isinstance(uuid, Unknown) else ()

    def set(self, entry: EntryId) -> None:
        """Boot this entry the next time only."""
        if reasons := self.against():
            raise LoaderError(f"{self.folder} carries no one-shot: {'; '.join(reasons)}")
        self._mark()
        self._write({ONCE: entry})
        if self.pending() != entry:
            raise LoaderError(f"{block_of(self.carrier)} does not hold what was written")

    def forget(self) -> None:
        """Take a one-shot back."""
        if self.pending():
            self._write({ONCE: ""})
        self.host.path(SET_IN_THIS_BOOT).unlink(missing_ok=True)

    def pending(self) -> str:
        """Give the entry that is booted once; empty for none."""
        return pending_in(self.host, self.carrier)

    def remove(self) -> None:
        """Remove the block and its folder, if that holds nothing else."""
        remove_files(self.host, folder_of(self.carrier), [block_of(self.carrier)])

    def words(self) -> Mapping[str, str]:
        """Name the file system for GRUB, and the folder for us."""
        uuid = self._uuid()
        if isinstance(uuid, Unknown):
            raise LoaderError(uuid.why)
        return {"CARRIER": f"{OWN_BLOCK}:{self.folder}", "CARRIER_UUID": uuid}

    def _uuid(self) -> str | Unknown:
        mount = mount_of(self.host, self.folder)
        words = mount if isinstance(mount, Unknown) else udev_words(self.host, mount.device)
        if isinstance(words, Unknown):
            return words
        uuid = words.get("ID_FS_UUID", "")
        if not _UUID.fullmatch(uuid):
            return Unknown(f"udev tells no UUID of the file system on {self.folder}")
        return uuid

    def _mark(self) -> None:
        """Remember that something waits in it, for as long as no GRUB has started since."""
        mark = self.host.path(SET_IN_THIS_BOOT)
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError as error:
            raise LoaderError(f"{SET_IN_THIS_BOOT}: {error.strerror}") from error

    def _write(self, values: Mapping[str, str]) -> None:
        write_block(self.host, self.carrier, values)


def against_partition(host: Host, mount: Mount) -> str:
    """Say why GRUB, or the firmware, or we cannot write a mounted file system; empty if not so."""
    kind = device_kind(host, mount.device)
    if isinstance(kind, Unknown):
        return f"the device of {mount.place} is not known: {kind.why}"
    if kind != "partition":
        return f"{mount.place} is no plain partition: {kind}"
    return f"{mount.place} is mounted read-only" if mount.is_read_only else ""


def pending_in(host: Host, carrier: Carrier) -> str:
    """Give the entry that a carrier's block has booted once; empty for none."""
    found = read_once(host, carrier)
    if isinstance(found, Unknown):
        raise LoaderError(found.why)
    return found


def write_block(host: Host, carrier: Carrier, values: Mapping[str, str]) -> None:
    """Write a block whole and durable; what lies there and is no block is refused."""
    shown = block_of(carrier)
    path = host.path(shown)
    try:
        there = read_block(host, carrier)
        if isinstance(there, Unknown):
            raise LoaderError(there.why)
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)
        # No mode: vfat has none, and refuses to be given one.
        write_durably(path, format_environment(values), mode=None)
        settle(path.parent)
    except OSError as error:
        raise LoaderError(f"{shown}: {error.strerror}") from error


def remove_files(host: Host, folder: str, files: list[str]) -> None:
    """Remove files of ours, and their folder if it holds nothing else then."""
    place = host.path(folder)
    try:
        for file in files:
            host.path(file).unlink(missing_ok=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
            sync_folder(place.parent)
        elif place.is_dir():
            sync_folder(place)
    except OSError as error:
        raise LoaderError(f"{folder}: {error.strerror}") from error
