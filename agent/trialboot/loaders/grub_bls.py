"""GRUB that takes its entries from `loader/entries` (Fedora, RHEL): written through its own files.

From documentation and source: grub-core/commands/blscfg.c of https://github.com/rhboot/grub2, and
grubby and kernel-install's 20-grub.install, which write the same environment block. Untried on a
real host of that kind; `protection` says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trialboot.bootfiles import (
    BOOT_SETS,
    ENTRIES,
    OTHER_GRUB_ENVIRONMENT,
    host_path,
    read_environment,
)
from trialboot.core.bootset import KeptBoot
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import format_environment, parse_environment
from trialboot.core.grubwords import as_script
from trialboot.core.menu import (
    GRUB_BLS,
    KNOWN_GOOD,
    SAVED,
    Menu,
)
from trialboot.core.protection import (
    ENVIRONMENT_BLOCK,
    Protection,
    against_environment_block,
    protection,
)
from trialboot.core.savedentry import with_default, without_ours
from trialboot.errors import LoaderError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.loaders.entries import check_bootable, check_reached, listed, menu_of, put_back
from trialboot.loaders.ground import device_kind, ground_of, mount_of, settle
from trialboot.loaders.note import leave_note, remove_note

_ENTRY: Final = f"/boot/{ENTRIES}/{KNOWN_GOOD}.conf"
_LINKS: Final = 8
"""Links in a row that are followed: there is one, to the ESP."""
_UNTRIED: Final = (
    "GRUB with boot entries is written from its documentation and was not tried on a real host: "
    "try a rollback by hand first"
)
_ORDER: Final = (
    "the known-good need not be the first entry here: where GRUB loses its environment block, it "
    "boots whatever is first"
)


@dataclass(frozen=True, slots=True)
class GrubBls:
    """The GRUB of a host with boot entries. Writes are whole, durable, and read back."""

    host: Host

    def state(self) -> Menu:
        """Give the menu as it is on disk now."""
        return menu_of(self.host, GRUB_BLS)

    def make_default(self, entry: EntryId) -> None:
        """Boot this entry from now on; what the host had saved is remembered beside it."""
        menu = self.state()
        if menu.default_spec != SAVED:
            raise LoaderError(
                f"GRUB_DEFAULT is «{menu.default_spec}», not saved: set it in /etc/default/grub "
                "and run grub2-mkconfig"
            )
        check_bootable(self.host, listed(menu, entry))
        self._write(with_default(self._environment(), entry))
        check_reached(replace(self.state(), once=""), entry)

    def boot_once(self, entry: EntryId) -> None:
        """Boot this entry the next time only."""
        for why in self.against(entry):
            raise LoaderError(why)
        check_bootable(self.host, listed(self.state(), entry))
        self._write({**self._environment(), "next_entry": entry})
        check_reached(self.state(), entry)

    def forget_once(self) -> None:
        """Take a one-shot back."""
        values = self._environment()
        if values.pop("next_entry", ""):
            self._write(values)

    def install(self, kept: KeptBoot) -> EntryId:
        """Make a kept boot set the known-good entry."""
        content = self._entry(kept)
        path = self.host.path(_ENTRY)
        before = path.read_bytes() if path.exists() else None
        try:
            if before != content:
                write_durably(path, content, mode=0o644)
            self._settle(path.parent, self.host.path(BOOT_SETS))
            leave_note(self.host, kept.boot_set)
        except OSError as error:
            raise LoaderError(f"{_ENTRY}: {error.strerror}") from error
        try:
            self._check_installed(kept)
        except LoaderError as error:
            put_back(path, before)
            raise LoaderError(f"the known-good entry is as it was: {error}") from error
        return KNOWN_GOOD

    def remove(self) -> None:
        """Give the host its own menu and default back; what it had saved is saved again."""
        self.state()
        values = self._environment()
        restored = without_ours(values)
        if restored != values:
            self._write(restored)
        path = self.host.path(_ENTRY)
        try:
            if path.exists():
                path.unlink()
                sync_folder(path.parent)
                self._settle(path.parent)
            remove_note(self.host)
        except OSError as error:
            raise LoaderError(f"{_ENTRY}: {error.strerror}") from error

    def against(self, entry: EntryId) -> tuple[str, ...]:
        """Say why this entry cannot be booted once here; empty where it can.

        No script of ours guards this grub.cfg: where GRUB cannot clear the one-shot, a candidate
        that dies would boot for ever.
        """
        del entry
        return self._against_one_shot()

    def protection(self) -> Protection:
        """Tell what this host can survive with this GRUB."""
        ground = ground_of(
            self.host, carrier=ENVIRONMENT_BLOCK, against_once=self._against_one_shot()
        )
        return protection(ground, (_UNTRIED, _ORDER))

    # --- what it stands on

    def _against_one_shot(self) -> tuple[str, ...]:
        place = self._block()
        where = place if isinstance(place, Unknown) else mount_of(self.host, place)
        if isinstance(where, Unknown):
            return against_environment_block(where, where)
        return against_environment_block(where.file_system, device_kind(self.host, where.device))

    # --- the environment block

    def _block(self) -> str | Unknown:
        """Find the file that holds the block: with UEFI /boot/grub2 has a link to the ESP."""
        place = Path(OTHER_GRUB_ENVIRONMENT)
        for _ in range(_LINKS):
            here = self.host.path(str(place))
            if not here.is_symlink():
                return str(place)
            place = Path(_joined(place.parent, here.readlink()))
        return Unknown(f"{OTHER_GRUB_ENVIRONMENT} is a link that leads nowhere")

    def _place(self) -> str:
        place = self._block()
        if isinstance(place, Unknown):
            raise LoaderError(place.why)
        if not self.host.path(place).parent.is_dir():
            raise LoaderError(f"{place}: its folder is not there")
        return place

    def _environment(self) -> dict[str, str]:
        found = read_environment(self.host, self._place())
        if isinstance(found, Unknown):
            raise LoaderError(found.why)
        return found

    def _write(self, values: Mapping[str, str]) -> None:
        place = self._place()
        path = self.host.path(place)
        try:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            write_durably(path, format_environment(values), mode=mode)
            self._settle(path.parent)
            back = parse_environment(path.read_bytes())
        except OSError as error:
            raise LoaderError(f"{place}: {error.strerror}") from error
        if back != dict(values):
            raise LoaderError(f"{place} does not hold what was written")

    def _settle(self, *folders: Path) -> None:
        for folder in folders:
            settle(folder)

    # --- our entry

    def _entry(self, kept: KeptBoot) -> bytes:
        for file in (kept.kernel, *kept.initrds):
            if not self.host.exists(file):
                raise LoaderError(f"{file} is not there: the boot set is not kept")
        options = as_script(kept.command_line)
        if isinstance(options, Unknown):
            raise LoaderError(options.why)
        if "$" in kept.command_line or "\n" in kept.command_line:
            raise LoaderError(f"versions of GRUB differ over «$» in: {kept.command_line}")
        boot = self._as_grub_sees_boot()
        kernel, *initrds = (
            f"{boot}{file.removeprefix('/boot')}" for file in (kept.kernel, *kept.initrds)
        )
        lines = (
            f"title trialboot: known-good {kept.boot_set.release} (kept)",
            f"version {kept.boot_set.release}",
            f"linux {kernel}",
            *(f"initrd {initrd}" for initrd in initrds),
            f"options {options}",
            "grub_users $grub_users",
            "grub_arg --unrestricted",
        )
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")

    def _as_grub_sees_boot(self) -> str:
        """Take from another entry what GRUB calls /boot: nothing, /boot, or a subvolume's path."""
        for entry in self.state().entries:
            place = host_path(self.host, entry.kernel) if entry.kernel else ""
            below = str(place).removeprefix("/boot") if str(place).startswith("/boot/") else ""
            if entry.entry != KNOWN_GOOD and below and entry.kernel.endswith(below):
                return entry.kernel.removesuffix(below)
        raise LoaderError("no entry of the menu tells what GRUB calls /boot")

    # --- checks

    def _check_installed(self, kept: KeptBoot) -> None:
        menu, fingerprint = self.state(), kept.boot_set.fingerprint
        if menu.known_good != fingerprint:
            told = menu.known_good or "no known-good entry"
            raise LoaderError(f"the menu has {told}, not {fingerprint}")
        entry, wanted = listed(menu, KNOWN_GOOD), kept.command_line
        if entry.arguments.split() != wanted.split():
            raise LoaderError(f"GRUB would hand over «{entry.arguments}», not «{wanted}»")
        check_bootable(self.host, entry)


def _joined(folder: Path, target: Path) -> str:
    """Say where a link of the host leads: «..» is taken back by its text, as all folders are."""
    parts: list[str] = []
    for part in (target if target.is_absolute() else folder / target).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)
