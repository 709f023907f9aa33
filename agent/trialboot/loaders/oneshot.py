"""What carries a one-shot: the choice of the next boot only, which the boot itself takes back."""

from collections.abc import Mapping
from typing import Protocol

from trialboot.core.facts import EntryId


class OneShot(Protocol):
    """A carrier of one-shots. Each verb may be said twice; all may raise `LoaderError`."""

    @property
    def told(self) -> str:
        """What it is, in an operator's words."""
        ...

    def against(self) -> tuple[str, ...]:
        """Say why it cannot be used on this host; empty where it can."""
        ...

    def set(self, entry: EntryId) -> None:
        """Boot this entry the next time only."""
        ...

    def forget(self) -> None:
        """Take a one-shot back, and leave none of it behind that could come to life again."""
        ...

    def pending(self) -> str:
        """Give the entry that is booted once; empty for none."""
        ...

    def remove(self) -> None:
        """Take back all that was put on the host to carry one-shots."""
        ...

    def words(self) -> Mapping[str, str]:
        """Give what /etc/grub.d/09_trialboot has to know of it."""
        ...
