"""GRUB's own environment block: it holds the default, and the one-shot where GRUB can clear it."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.bootfiles import GRUB_ENVIRONMENT, GRUB_FOLDER, read_environment
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import BLOCK_SIZE, format_environment, parse_environment
from trialboot.core.protection import ENVIRONMENT_BLOCK, against_environment_block
from trialboot.errors import LoaderError
from trialboot.host import Host, write_durably
from trialboot.loaders.ground import device_kind, mount_of, settle

_ONCE: Final = "next_entry"


@dataclass(frozen=True, slots=True)
class EnvironmentBlock:
    """The environment block in /boot/grub. Writes are whole, durable, and read back."""

    host: Host

    @property
    def told(self) -> str:
        """What it is, in an operator's words."""
        return ENVIRONMENT_BLOCK

    def against(self) -> tuple[str, ...]:
        """Say why GRUB cannot clear a one-shot in it."""
        where = mount_of(self.host, GRUB_FOLDER)
        if isinstance(where, Unknown):
            return against_environment_block(where, where)
        return against_environment_block(where.file_system, device_kind(self.host, where.device))

    def against_default(self) -> str:
        """Say why not even the default can be set in it; empty where it can."""
        where = mount_of(self.host, GRUB_FOLDER)
        if isinstance(where, Unknown) or not where.is_read_only:
            return ""
        return f"{where.place} is mounted read-only: nothing can be told to GRUB"

    def set(self, entry: EntryId) -> None:
        """Boot this entry the next time only."""
        self.write({**self.values(), _ONCE: entry})

    def forget(self) -> None:
        """Take a one-shot back."""
        values = self.values()
        if values.pop(_ONCE, ""):
            self.write(values)

    def pending(self) -> str:
        """Give the entry that is booted once; empty for none."""
        return self.values().get(_ONCE, "")

    def remove(self) -> None:
        """Leave the block: it is the host's own, and `Grub.remove` restores what it held."""

    def words(self) -> Mapping[str, str]:
        """Give nothing: 00_header takes this one-shot by itself."""
        return {}

    def values(self) -> dict[str, str]:
        """Give what the block holds. What is no block to us may not be written, and is refused."""
        path = self.host.path(GRUB_ENVIRONMENT)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise LoaderError(f"{GRUB_ENVIRONMENT}: {error.strerror}") from error
        if stat.S_ISLNK(status.st_mode):
            raise LoaderError(f"{GRUB_ENVIRONMENT} is a link: not a layout that we know")
        if not stat.S_ISREG(status.st_mode) or status.st_size > BLOCK_SIZE:
            raise LoaderError(f"{GRUB_ENVIRONMENT} is no file of {BLOCK_SIZE} bytes")
        found = read_environment(self.host)
        if isinstance(found, Unknown):
            raise LoaderError(found.why)
        return found

    def write(self, values: Mapping[str, str]) -> None:
        """Have the block hold these values and nothing else."""
        path = self.host.path(GRUB_ENVIRONMENT)
        try:
            if path.exists() and path.read_bytes() == format_environment(values):
                settle(path.parent)
                return
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            write_durably(path, format_environment(values), mode=mode)
            settle(path.parent)
            back = parse_environment(path.read_bytes())
        except OSError as error:
            raise LoaderError(f"{GRUB_ENVIRONMENT}: {error.strerror}") from error
        if back != dict(values):
            raise LoaderError(f"{GRUB_ENVIRONMENT} does not hold what was written")
