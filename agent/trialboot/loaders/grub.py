"""GRUB 2 as Debian and Ubuntu set it up: its default, its one-shot, and our entry in its menu."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.bootfiles import (
    GRUB_CFG,
    GRUB_FOLDER,
    KNOWN_GOOD_FILE,
    read_menu,
)
from trialboot.core.bootset import Fingerprint, KeptBoot
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import parse_menu
from trialboot.core.grubwords import as_script
from trialboot.core.menu import (
    GRUB,
    KNOWN_GOOD,
    SAVED,
    Menu,
    without_once,
)
from trialboot.core.obstacles import obstacles
from trialboot.core.protection import Ground, Protection, protection
from trialboot.core.savedentry import with_default, without_ours
from trialboot.errors import HostError, LoaderError
from trialboot.host import Host, sync_folder, write_durably
from trialboot.loaders.entries import check_bootable, check_reached, listed, menu_of, put_back
from trialboot.loaders.environment_block import EnvironmentBlock
from trialboot.loaders.ground import ground_of, mount_of, settle
from trialboot.loaders.grub_cfg import Draft, against_making, making
from trialboot.loaders.oneshot import OneShot
from trialboot.loaders.oneshots import carrier_for, carrier_in, other_carriers

_MKCONFIG_SECONDS: Final = 300.0
_XFS: Final = "GRUB does not replay the log of xfs: a change may be seen some time later"


@dataclass(frozen=True, slots=True)
class Grub:
    """The GRUB of a host. Writes are whole, durable, and read back."""

    host: Host

    def state(self) -> Menu:
        """Give the menu as it is on disk now."""
        return menu_of(self.host, GRUB)

    def make_default(self, entry: EntryId) -> None:
        """Boot this entry from now on; what the host had saved is remembered beside it."""
        self.point(default=entry)

    def boot_once(self, entry: EntryId) -> None:
        """Boot this entry the next time only."""
        self.point(once=entry)

    def against(self, entry: EntryId) -> tuple[str, ...]:
        """Say why this entry cannot be booted once on this host; empty where it can."""
        once = self._against_once(carrier_for(self.host))
        try:
            menu = self.state()
            check_bootable(self.host, listed(menu, entry))
        except LoaderError as error:
            return (*once, str(error))
        return (*once, *obstacles(menu, entry))

    def forget_once(self) -> None:
        """Take a one-shot back, whatever carries it; raises where one may be out of reach."""
        self.block.forget()
        for carrier in other_carriers(self.host):
            carrier.forget()
        menu = read_menu(self.host)
        if isinstance(menu, Menu) and menu.once_doubt:
            raise LoaderError(menu.once_doubt)

    def point(self, *, default: EntryId | None = None, once: EntryId | None = None) -> None:
        """Set the default, then the one-shot; in one write where GRUB's own block carries both."""
        menu = self.state()
        values = self.block.values()
        if default is not None:
            check_bootable(self.host, listed(menu, default))
            values = with_default(values, default)
        if once is not None:
            check_bootable(self.host, listed(menu, once))
            menu = self._follow_carrier(menu)
        carrier = carrier_in(self.host, menu)
        if once is not None:
            for why in self.against(once):
                raise LoaderError(why)
        if once is not None and isinstance(carrier, EnvironmentBlock):
            values["next_entry"] = once
        self.block.write(values)
        if once is not None:
            self._set_once(carrier, once)
        self._check_reached(default, once)

    def _set_once(self, carrier: OneShot, once: EntryId) -> None:
        """Set what GRUB's own block does not carry; another carrier, of before, has it no more."""
        for other in other_carriers(self.host):
            if other != carrier:
                other.forget()
        if not isinstance(carrier, EnvironmentBlock):
            carrier.set(once)

    @property
    def block(self) -> EnvironmentBlock:
        """GRUB's own environment block, which holds the default."""
        return EnvironmentBlock(self.host)

    def install(self, kept: KeptBoot) -> EntryId:
        """Make a kept boot set the known-good entry, the first of the menu."""
        fingerprint = kept.boot_set.fingerprint
        carrier = carrier_for(self.host)
        words = {} if isinstance(carrier, Unknown) else carrier.words()
        script = _known_good_script(self.host, kept)
        self._make_entry(fingerprint, _with_carrier(script, words))
        return KNOWN_GOOD

    def remove(self) -> None:
        """Give the host its own menu and default back; what it had saved is saved again."""
        for carrier in other_carriers(self.host):
            carrier.remove()
        values = self.block.values()
        restored = without_ours(values)
        if restored != values:
            self.block.write(restored)
        path = self.host.path(KNOWN_GOOD_FILE)
        if path.exists():
            path.unlink()
            sync_folder(path.parent)
        if self.state().known_good:
            self._regenerate(Fingerprint(""))

    def refresh(self) -> None:
        """Have the menu made anew from what the host is set to, checked and renamed into place."""
        self._regenerate(Fingerprint(self.state().known_good))

    def protection(self) -> Protection:
        """Tell what this host can survive with this GRUB."""
        carrier = carrier_for(self.host)
        ground = ground_of(
            self.host,
            carrier="" if isinstance(carrier, Unknown) else carrier.told,
            against_once=self._against_once(carrier),
        )
        return protection(ground, self._notes(ground))

    def _against_once(self, carrier: OneShot | Unknown) -> tuple[str, ...]:
        by_hand = against_making(self.host)
        if not isinstance(carrier, Unknown):
            return by_hand
        return (*by_hand, *self.block.against(), carrier.why)

    def _notes(self, ground: Ground) -> tuple[str, ...]:
        where = mount_of(self.host, GRUB_FOLDER)
        file_system = "" if isinstance(where, Unknown) else where.file_system
        notes = []
        if ground.carrier not in {"", self.block.told}:
            notes.append(f"a candidate is booted once through {ground.carrier}")
        if file_system == "xfs":
            notes.append(_XFS)
        if file_system in {"ext3", "ext4"}:
            notes.append(settle(self.host.path(GRUB_FOLDER), rehearse=True))
        return tuple(note for note in notes if note)

    def _check_reached(self, default: EntryId | None, once: EntryId | None) -> None:
        menu = self.state()
        if once is not None:
            check_reached(menu, once)
        if default is not None:
            check_reached(without_once(menu), default)

    def _make_entry(self, fingerprint: Fingerprint, script: bytes) -> None:
        """Have our entry made of what 09_trialboot reads; if that fails, all is as it was."""
        path = self.host.path(KNOWN_GOOD_FILE)
        before = path.read_bytes() if path.exists() else None
        if before == script and self._installed(fingerprint):
            return
        try:
            write_durably(path, script, mode=0o644)
            self._regenerate(fingerprint)
        except (LoaderError, OSError) as error:
            put_back(path, before)
            raise LoaderError(f"the known-good entry is as it was: {error}") from error

    def _follow_carrier(self, menu: Menu) -> Menu:
        """Have the menu take a one-shot from what carries it now: a partition may be new."""
        carrier = carrier_for(self.host)
        path = self.host.path(KNOWN_GOOD_FILE)
        if isinstance(carrier, Unknown) or not menu.known_good or not path.exists():
            return menu
        script = _with_carrier(path.read_bytes(), carrier.words())
        self._make_entry(Fingerprint(menu.known_good), script)
        return self.state()

    def _installed(self, fingerprint: Fingerprint) -> bool:
        menu = read_menu(self.host)
        try:
            self._check_ours(menu, fingerprint)
        except LoaderError:
            return False
        return True

    def _regenerate(self, fingerprint: Fingerprint) -> None:
        """Have grub.cfg made anew beside the old one, check it, and rename it into place.

        grub-mkconfig writes its output in place (`cat >`): a power cut in it would leave half.
        Where somebody else's update-grub wrote meanwhile, that is newer: the draft is made again.
        """
        for why in against_making(self.host):
            raise LoaderError(why)
        try:
            with making(self.host) as draft:
                while not self._is_published(draft, fingerprint):
                    pass
        except (HostError, OSError) as error:
            raise LoaderError(f"{GRUB_CFG} was not changed: {error}") from error

    def _is_published(self, draft: Draft, fingerprint: Fingerprint) -> bool:
        self.host.run(["grub-mkconfig", "-o", draft.shown], timeout=_MKCONFIG_SECONDS)
        self.host.run(["grub-script-check", draft.shown])
        self._check_ours(parse_menu(draft.text(), self.block.values()), fingerprint)
        return draft.publish()

    def _check_ours(self, menu: Menu | Unknown, fingerprint: Fingerprint) -> None:
        """Make sure that a menu holds our entry for a boot set, or none if that is empty."""
        if isinstance(menu, Unknown):
            raise LoaderError(f"grub-mkconfig: {menu.why}")
        if menu.known_good != fingerprint:
            told = menu.known_good or "no known-good entry"
            raise LoaderError(f"grub-mkconfig wrote {told}, not {fingerprint or 'none'}")
        if not fingerprint:
            return
        ours = listed(menu, KNOWN_GOOD)
        check_bootable(self.host, ours)
        if ours.place != (0,):
            raise LoaderError(
                "the known-good is not the first entry: what sorts before 09_trialboot?"
            )
        if menu.default_spec != SAVED:
            raise LoaderError(
                f"GRUB_DEFAULT is «{menu.default_spec}», not saved: a file in /etc/default/grub.d "
                "that is read after trialboot.cfg sets it"
            )


def _known_good_script(host: Host, kept: KeptBoot) -> bytes:
    """Write what 09_trialboot reads: shell words, each in quotes."""
    for file in (kept.kernel, *kept.initrds):
        if not host.exists(file):
            raise LoaderError(f"{file} is not there: the boot set is not kept")
    command_line = as_script(kept.command_line)
    if isinstance(command_line, Unknown):
        raise LoaderError(command_line.why)
    values = {
        "RELEASE": kept.boot_set.release,
        "FINGERPRINT": kept.boot_set.fingerprint,
        "KERNEL": kept.kernel,
        "INITRDS": " ".join(kept.initrds),
        "COMMAND_LINE": command_line,
    }
    told = (
        "# Written by trialboot for /etc/grub.d/09_trialboot. COMMAND_LINE is quoted for GRUB.\n"
    )
    return told.encode() + _shell_lines(values)


def _with_carrier(script: bytes, words: Mapping[str, str]) -> bytes:
    """Tell 09_trialboot what carries a one-shot, instead of what did."""
    kept = (line for line in script.splitlines(keepends=True) if not line.startswith(b"CARRIER"))
    return b"".join(kept) + _shell_lines(words)


def _shell_lines(values: Mapping[str, str]) -> bytes:
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return "".join(lines).encode("utf-8", "surrogateescape")
