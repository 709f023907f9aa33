"""The journal of package transactions on disk: what the hooks told, and what the databases say.

Notes are removed once the journal has them, and the package list that a difference was taken from
is replaced once the journal has that: a power cut between the two tells the same once more, and
the law of the journal (core.transactions) counts it once.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import BootId, Package, Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.packagechange import touches_boot
from trialboot.core.packagenote import Note
from trialboot.core.transaction import Journal, Moment, Transaction, under_way
from trialboot.core.transactions import settle, suspects, take
from trialboot.host import Host
from trialboot.readers import kernel, spool
from trialboot.writers import store

JOURNAL: Final = f"{store.STATE}/transactions.json"
MOST_BYTES: Final = 8 << 20
"""A journal that is larger is not ours: the rows of one are bounded, and the daemon is small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the notes of one wake-up told."""

    any: bool
    ends: int
    """Ends of runs among them."""
    touches_boot: bool
    """A run has ended whose plan names a package that boots are made of."""


class PackageRuns:
    """The journal, and who is at work now."""

    def __init__(self, host: Host, boot: BootId) -> None:
        self._host = host
        self._boot = boot
        self.trouble = ""
        """Why an earlier journal could not be read; it was set aside."""
        self.journal: Journal = self._load()

    def _load(self) -> Journal:
        found = self._found()
        if isinstance(found, Unknown):
            aside = store.set_aside(self._host, JOURNAL)
            self.trouble = f"{found.why}; it was set aside as {aside}, a new journal begins"
            return ()
        return found or ()

    def _found(self) -> Journal | Unknown | None:
        with suppress(OSError):  # what is wrong with it says who reads it
            size = self._host.path(JOURNAL).stat().st_size
            if size > MOST_BYTES:
                return Unknown(f"{JOURNAL} has {size} bytes, more than a journal may have")
        return store.load(self._host, JOURNAL, tuple[Transaction, ...])

    @property
    def manager(self) -> str:
        """Name the package manager that is at work; empty for none."""
        open_one = under_way(self.journal)
        return open_one.manager if open_one else ""

    def take_notes(self) -> Heard:
        """Fold in what the hooks left. Raises `StoreError` with the notes still there."""
        spooled = spool.read_notes(self._host)
        self._keep(self._with(spooled.notes))
        spool.remove_notes(self._host, spooled.files)
        ends = [note for note in spooled.notes if note.event == "end"]
        return Heard(
            any=bool(spooled.notes),
            ends=len(ends),
            touches_boot=bool(ends) and bool(self.journal) and _touches(self.journal[-1]),
        )

    def look_for_the_dead(self) -> bool:
        """Tell whether the run that was open is over, though nobody told."""
        if under_way(self.journal) is None:
            return False
        self._keep(self._with(()))
        return under_way(self.journal) is None

    def _with(self, notes: tuple[Note, ...]) -> Journal:
        return take(
            self.journal,
            notes,
            boot=self._boot,
            uptime=kernel.read_uptime(self._host),
            alive=self._alive(notes),
            locked=spool.is_locked(self._host),
        )

    def settle(self, outlook: Outlook, time: str) -> Transaction | None:
        """Add what a snapshot found in the package databases; give what ended by it, if any."""
        before = {each.key: each.settled for each in self.journal}
        now = Moment(boot=self._boot, uptime=kernel.read_uptime(self._host), time=time)
        self._keep(
            settle(
                self.journal,
                outlook.condition,
                outlook.packages,
                now=now,
                alive=self._alive(()),
                locked=spool.is_locked(self._host),
            )
        )
        # What a list that was seen differs by is told first: a later look tells it.
        if isinstance(outlook.packages, tuple) or not self._has_packages():
            store.accept_packages(self._host)
        last = self.journal[-1] if self.journal else None
        return last if last and last.settled and not before.get(last.key) else None

    def _keep(self, journal: Journal) -> None:
        if journal != self.journal:
            store.save(self._host, JOURNAL, journal)
            self.journal = journal

    def _has_packages(self) -> bool:
        """Tell whether there is a package list that the next one can be held against."""
        return isinstance(store.load(self._host, store.PACKAGES, tuple[Package, ...]), tuple)

    def _alive(self, notes: tuple[Note, ...]) -> frozenset[int]:
        return spool.read_alive(self._host, suspects(self.journal, notes))


def _touches(transaction: Transaction) -> bool:
    changed = transaction.changes
    names = () if isinstance(changed, Unknown) else tuple(change.name for change in changed)
    return touches_boot((*transaction.planned, *names))
