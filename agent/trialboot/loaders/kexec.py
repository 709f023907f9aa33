"""A one-shot that Linux carries: the reboot itself starts the candidate, by kexec.

For hosts on which neither GRUB nor the firmware can forget what is booted once: the loader's
default stays the known-good, so whatever resets a candidate leads back. Devices are not reset in
between, which some drivers take ill: it is for the operator to allow (`boot.by_kexec`).

Here is what waits for the reboot; `workers/stage_kexec.py` takes it when the machine goes down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.bootonce import KEXEC_CARRIER, KNOWN_BY, ONCE, block_of, folder_of
from trialboot.config import read_config
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import KEXEC, Carrier
from trialboot.errors import ConfigError, HostError, LoaderError
from trialboot.host import Host
from trialboot.loaders.ground import mount_of
from trialboot.loaders.own_block import pending_in, remove_files, write_block

_STAGED: Final = "/sys/kernel/kexec_loaded"
_DISABLED: Final = "/proc/sys/kernel/kexec_load_disabled"
_STARTED_BY: Final = "/proc/sys/kernel/bootloader_type"


@dataclass(frozen=True, slots=True)
class Kexec:
    """The block that a shutdown takes the candidate from."""

    host: Host

    @property
    def carrier(self) -> Carrier:
        """Name it as the menu does."""
        return KEXEC_CARRIER

    @property
    def told(self) -> str:
        """What it is, in an operator's words."""
        return "kexec at the next reboot in order, which resets no device"

    def _is_allowed(self) -> bool | Unknown:
        """Tell whether the operator has allowed it."""
        try:
            return read_config(self.host).boot.by_kexec
        except ConfigError as error:
            return Unknown(f"whether kexec is allowed is not known: {error}")

    def against(self) -> tuple[str, ...]:
        """Say why a reboot of this host would start no candidate by kexec."""
        allowed = self._is_allowed()
        if isinstance(allowed, Unknown):
            return (allowed.why,)
        if not allowed:
            return ("boot.by_kexec is not set",)
        why = self._against_kernel() or self._against_place()
        return (why,) if why else ()

    def set(self, entry: EntryId) -> None:
        """Boot this entry at the next reboot only."""
        if reasons := self.against():
            raise LoaderError(f"kexec starts nothing here: {'; '.join(reasons)}")
        # What an earlier trial was known by goes with it.
        write_block(self.host, self.carrier, {ONCE: entry})
        if self.pending() != entry:
            raise LoaderError(f"{block_of(self.carrier)} does not hold what was written")

    def take(self, token: str) -> None:
        """Take the one-shot, for a reboot that starts it; `token` is what it will be known by."""
        write_block(self.host, self.carrier, {ONCE: "", KNOWN_BY: token})
        if self.pending():
            raise LoaderError(f"{block_of(self.carrier)} still has what was taken")

    def forget(self) -> None:
        """Take a one-shot back."""
        if self.pending():
            write_block(self.host, self.carrier, {ONCE: ""})

    def pending(self) -> str:
        """Give the entry that is booted once; empty for none."""
        return pending_in(self.host, self.carrier)

    def remove(self) -> None:
        """Remove the block and its folder."""
        remove_files(self.host, folder_of(self.carrier), [block_of(self.carrier)])

    def words(self) -> Mapping[str, str]:
        """Tell the menu alone: GRUB has no part in it."""
        return {"CARRIER": f"{KEXEC}:{self.carrier.folder}"}

    def _against_kernel(self) -> str:
        """Say what the running kernel lacks (Documentation/admin-guide/sysctl/kernel.rst)."""
        if not self.host.exists(_STARTED_BY):
            return "who started a kernel is told on x86 alone"
        if not self.host.exists(_STAGED):
            return "the running kernel has no kexec"
        try:
            disabled = self.host.read_text(_DISABLED).strip() != "0"
        except HostError as error:
            return str(error)
        return "kernel.kexec_load_disabled is set" if disabled else ""

    def _against_place(self) -> str:
        mount = mount_of(self.host, self.carrier.folder)
        if isinstance(mount, Unknown):
            return mount.why
        return f"{mount.place} is mounted read-only" if mount.is_read_only else ""
