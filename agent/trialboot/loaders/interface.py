"""What trialboot asks of a boot loader. Each verb may be said twice; each write is read back."""

from typing import Protocol

from trialboot.core.bootset import KeptBoot
from trialboot.core.facts import EntryId
from trialboot.core.menu import Menu
from trialboot.core.protection import Protection


class Loader(Protocol):
    """A boot loader that keeps a default and a one-shot. Every verb may raise `LoaderError`."""

    def state(self) -> Menu:
        """Give the menu, its default and its one-shot as they are on disk now."""
        ...

    def make_default(self, entry: EntryId) -> None:
        """Boot this entry from now on."""
        ...

    def boot_once(self, entry: EntryId) -> None:
        """Boot this entry the next time, and the default after that."""
        ...

    def forget_once(self) -> None:
        """Take a one-shot back."""
        ...

    def install(self, kept: KeptBoot) -> EntryId:
        """Make a kept boot set the known-good entry."""
        ...

    def remove(self) -> None:
        """Give the host its own menu and default back."""
        ...

    def against(self, entry: EntryId) -> tuple[str, ...]:
        """Say why this entry cannot be booted once on this host; empty where it can."""
        ...

    def protection(self) -> Protection:
        """Tell what this host can survive with this loader."""
        ...
