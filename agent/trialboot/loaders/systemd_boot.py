"""systemd-boot: its EFI variables, and our entry on the partition that it reads.

The default is LoaderEntryDefault, the one-shot LoaderEntryOneShot, which the loader deletes before
it starts anything (https://systemd.io/BOOT_LOADER_INTERFACE/). The default names the known-good by
its id and never by a pattern: systemd-boot follows a pattern to an entry whose tries are used up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trialboot import efivariables
from trialboot.bootfiles import (
    BEFORE_FILE,
    ENTRIES,
    boot_partition,
    boot_sets,
    read_before,
    read_loader_features,
    read_loader_info,
    read_menu,
    read_variable,
    secure_boot,
)
from trialboot.core.bls import is_bad
from trialboot.core.bootset import Fingerprint, KeptBoot
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import (
    KNOWN_GOOD,
    SYSTEMD_BOOT,
    Menu,
    MenuEntry,
)
from trialboot.core.protection import Protection, protection
from trialboot.core.systemdboot import (
    ENTRY_DEFAULT,
    ENTRY_ONE_SHOT,
    LOADER_VENDOR,
    OURS,
    Before,
    format_before,
    format_text,
    known_good_file,
)
from trialboot.efivariables import VARIABLES
from trialboot.errors import HostError, LoaderError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.loaders.entries import check_bootable, check_reached, listed, menu_of, put_back
from trialboot.loaders.ground import ground_of, mount_of
from trialboot.loaders.note import leave_note, remove_note

_DEFAULT: Final = "LoaderEntryDefault"
_ONE_SHOT: Final = "LoaderEntryOneShot"
_LAST: Final = "LoaderEntryLastBooted"
_FAT: Final = "vfat"
_FEATURES: Final = {ENTRY_DEFAULT: _DEFAULT, ENTRY_ONE_SHOT: _ONE_SHOT}
_NOTE: Final = (
    "systemd-boot does not tell who picked the known-good in the menu from a candidate that "
    "panicked: either way the candidate did not prove itself"
)


@dataclass(frozen=True, slots=True)
class SystemdBoot:
    """The systemd-boot of a host. Each variable is one write; each write is read back."""

    host: Host

    def state(self) -> Menu:
        """Give the menu as it is on disk and in the firmware now."""
        return menu_of(self.host, SYSTEMD_BOOT)

    def make_default(self, entry: EntryId) -> None:
        """Boot this entry from now on; what the host had set is remembered first."""
        found = listed(self.state(), entry)
        check_bootable(self.host, found)
        if entry == KNOWN_GOOD:
            self._remember()
        self._set(_DEFAULT, found.name)
        check_reached(replace(self.state(), once=""), entry)

    def boot_once(self, entry: EntryId) -> None:
        """Boot this entry the next time only, by the name that its file has now."""
        for why in self.against(entry):
            raise LoaderError(why)
        found = listed(self.state(), entry)
        check_bootable(self.host, found)
        self._set(_ONE_SHOT, found.name)
        check_reached(self.state(), entry)

    def forget_once(self) -> None:
        """Take a one-shot back."""
        self.state()
        self._unset(_ONE_SHOT)

    def install(self, kept: KeptBoot) -> EntryId:
        """Make a kept boot set the known-good entry."""
        self._check_partition()
        content = self._entry(kept)
        path = self._entry_path()
        before = path.read_bytes() if path.exists() else None
        try:
            if before != content:
                write_durably(path, content, mode=0o644)
            leave_note(self.host, kept.boot_set)
        except OSError as error:
            raise LoaderError(f"{path}: {error.strerror}") from error
        try:
            self._check_installed(kept.boot_set.fingerprint)
        except LoaderError as error:
            put_back(path, before)
            raise LoaderError(f"the known-good entry is as it was: {error}") from error
        return KNOWN_GOOD

    def remove(self) -> None:
        """Give the host its own menu and default back: the variables first, then our entry."""
        self.state()
        before = read_before(self.host)
        if isinstance(before, Unknown):
            raise LoaderError(before.why)
        if self._value(_DEFAULT).lower() == OURS:
            self._restore(before)
        try:
            for path in (self._entry_path(), self._before_path()):
                if path.exists():
                    path.unlink()
                    sync_folder(path.parent)
            remove_note(self.host)
        except OSError as error:
            raise LoaderError(f"{error.filename}: {error.strerror}") from error

    def against(self, entry: EntryId) -> tuple[str, ...]:
        """Say why this entry cannot be booted once here; empty where it can."""
        menu = read_menu(self.host)
        if isinstance(menu, Unknown):
            return (menu.why,)
        found = [known for known in menu.entries if known.entry == entry]
        entries = _against_entry(found[0], verified=secure_boot(self.host)) if found else ()
        return (*self._against_one_shot(), *entries)

    def protection(self) -> Protection:
        """Tell what this host can survive with this loader."""
        once = tuple(self._against_one_shot())
        ground = ground_of(self.host, carrier=_ONE_SHOT, against_once=once)
        return protection(ground, (_NOTE,))

    # --- what it stands on

    def _against_one_shot(self) -> Iterator[str]:
        """Say why a one-shot cannot be relied on."""
        info = read_loader_info(self.host)
        if isinstance(info, Unknown):
            yield f"the EFI variables cannot be read: {info.why}"
        elif not info:
            yield "the loader did not say that it is systemd-boot: this boot was not by UEFI"
        yield from self._against_variables()
        features = read_loader_features(self.host)
        if isinstance(features, Unknown):
            yield f"what this systemd-boot can do is not known: {features.why}"
        else:
            lacking = [name for bit, name in _FEATURES.items() if not features & bit]
            yield from (f"this systemd-boot does not heed {name}" for name in lacking)
        yield from self._against_partition()

    def _against_variables(self) -> Iterator[str]:
        """Look at the file system's own options: the worker that asks has a read-only /sys."""
        try:
            lines = self.host.read_text("/proc/self/mountinfo").splitlines()
        except HostError as error:
            yield f"whether {VARIABLES} may be written is not known: {error}"
            return
        ends = [line.partition(" - ")[2].split() for line in lines if f" {VARIABLES} " in line]
        if not ends:
            yield f"{VARIABLES} is not mounted"
        elif "ro" in ends[-1][-1].split(","):
            yield f"{VARIABLES} is mounted read-only"

    def _against_partition(self) -> Iterator[str]:
        folder = boot_partition(self.host)
        mount = mount_of(self.host, folder)
        if isinstance(mount, Unknown):
            yield f"the file system of {folder} is not known: {mount.why}"
        elif mount.place != folder or mount.file_system != _FAT:
            yield f"{folder} is no mounted partition that systemd-boot reads"

    def _check_partition(self) -> None:
        for why in self._against_partition():
            raise LoaderError(why)

    # --- variables

    def _value(self, name: str) -> str:
        """Give what a variable says; empty where it is not set."""
        value = read_variable(self.host, name)
        if isinstance(value, Unknown):
            raise LoaderError(value.why)
        return value

    def _set(self, name: str, value: str) -> None:
        try:
            efivariables.write(self.host, name, format_text(value), LOADER_VENDOR)
        except UnicodeEncodeError as error:
            raise LoaderError(f"{name} cannot say «{value!r}»: it is no text") from error
        except OSError as error:
            raise LoaderError(f"{name}: the firmware refused: {error.strerror}") from error

    def _unset(self, name: str) -> None:
        try:
            efivariables.remove(self.host, name, LOADER_VENDOR)
        except OSError as error:
            raise LoaderError(f"{name}: the firmware refused: {error.strerror}") from error

    def _remember(self) -> None:
        """Keep on disk what the host had set, before ours takes its place."""
        default = self._value(_DEFAULT)
        if default.lower() == OURS:
            return
        path = self._before_path()
        before = format_before(Before(default=default, last=self._value(_LAST)))
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_durably(path, before.encode(), mode=0o644)
        except OSError as error:
            raise LoaderError(f"{path}: {error.strerror}") from error

    def _restore(self, before: Before) -> None:
        if before.last and not self._value(_LAST):
            self._set(_LAST, before.last)
        if before.default:
            self._set(_DEFAULT, before.default)
        else:
            self._unset(_DEFAULT)

    # --- files

    def _entry_path(self) -> Path:
        return self.host.path(f"{boot_partition(self.host)}/{ENTRIES}/{OURS}")

    def _before_path(self) -> Path:
        return self.host.path(f"{boot_sets(self.host)}/{BEFORE_FILE}")

    def _entry(self, kept: KeptBoot) -> bytes:
        for file in (kept.kernel, *kept.initrds):
            if not self.host.exists(file):
                raise LoaderError(f"{file} is not there: the boot set is not kept")
        # The loader names files from the beginning of the partition.
        kernel, *initrds = (
            file.removeprefix(boot_partition(self.host)) for file in (kept.kernel, *kept.initrds)
        )
        try:
            text = known_good_file(kept.boot_set.release, kernel, initrds, kept.command_line)
            return text.encode("utf-8", "surrogateescape")
        except ValueError as error:
            raise LoaderError(str(error)) from error

    # --- checks

    def _check_installed(self, fingerprint: Fingerprint) -> None:
        menu = self.state()
        if menu.known_good != fingerprint:
            told = menu.known_good or "no known-good entry"
            raise LoaderError(f"the menu has {told}, not {fingerprint}")
        check_bootable(self.host, listed(menu, KNOWN_GOOD))


def _against_entry(entry: MenuEntry, *, verified: bool) -> Iterator[str]:
    if is_bad(entry.name):
        yield f"«{entry.name}» has no tries left: systemd-boot holds it for bad"
    if entry.image is not None and verified:
        yield (
            "under Secure Boot a unified image is verified as a whole: its kernel and initrd "
            "cannot be kept apart from it"
        )
