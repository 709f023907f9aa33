"""When the host is looked at: after package runs and changed files, once they have come to rest.

Half-way through a package run boot files are neither the old nor the new. What a snapshot that
was disturbed by one has seen decides nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trialboot.core.outlook import Outlook
from trialboot.core.transaction import Journal, Transaction
from trialboot.errors import HostError, TrialbootError
from trialboot.host import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Host,
    watch_folders,
)
from trialboot.loop import Loop
from trialboot.packageruns import PackageRuns
from trialboot.readers import kernel
from trialboot.resident.jobs import Jobs
from trialboot.resident.telling import Telling
from trialboot.writers import store

SNAPSHOT: Final = "trialboot-snapshot.service"
QUIET_AFTER_PACKAGES: Final = 5.0
"""Seconds after its end in which a package run may go on: some make many cycles."""
LOOK_FOR_THE_DEAD: Final = 30.0
"""Seconds between two looks whether a package run that told no end is still alive."""
STIRRED_AT_MOST: Final = 120.0
"""Seconds for which files that change again and again put a snapshot off."""
_RENAMED: Final = IN_MOVED_TO
_WRITTEN: Final = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
WATCHED: Final = {
    # dpkg and rpm, for tools that run none of our hooks; dpkg renames its status file.
    "/var/lib/dpkg": _RENAMED,
    "/var/lib/rpm": IN_CLOSE_WRITE,
    "/usr/lib/sysimage/rpm": IN_CLOSE_WRITE,
    # What boot loaders read, whoever writes it.
    "/boot": _WRITTEN,
    "/boot/grub": _WRITTEN,
    "/boot/grub2": _WRITTEN,
    "/boot/loader": _WRITTEN,
    "/boot/loader/entries": _WRITTEN,
    "/boot/EFI/Linux": _WRITTEN,
    "/boot/efi/loader": _WRITTEN,
    "/boot/efi/loader/entries": _WRITTEN,
    "/boot/efi/EFI/Linux": _WRITTEN,
    "/efi/loader": _WRITTEN,
    "/efi/loader/entries": _WRITTEN,
    "/efi/EFI/Linux": _WRITTEN,
    "/sys/firmware/efi/efivars": _WRITTEN,
}
"""Folders whose changes ask for a snapshot, and which changes (inotify(7))."""
AT_MOST: Final = 330.0
"""Seconds that a snapshot may take: the unit's own limit, and some. Its end may be lost."""
TRY_AGAIN: Final = 300.0
"""Seconds after which what could not be read or started is tried again."""


class Looking:
    """Asks for snapshots, by the timers `snapshot`, `tell`, `spool` and `packages` of the loop."""

    def __init__(
        self,
        host: Host,
        loop: Loop,
        *,
        jobs: Jobs,
        telling: Telling,
    ) -> None:
        self._host = host
        self._loop = loop
        self._jobs = jobs
        self._telling = telling
        self._runs = PackageRuns(host, kernel.read_boot_id(host))
        self._files = -1
        self._ignoring = False
        self._stirred = 0.0
        self._until = 0.0
        self._again = False
        self._only_to_tell = False
        self._news = False
        self.disturbed = False
        """A package run was at work while the last snapshot was taken."""
        self.stale = False
        """Something has changed since a snapshot that decided."""

    @property
    def manager(self) -> str:
        """Name the package manager that is at work; empty for none."""
        return self._runs.manager

    @property
    def unrest(self) -> bool:
        """Tell whether a package run is at work, or what has changed is not looked at yet."""
        return bool(self.manager) or self._news

    @property
    def transactions(self) -> Journal:
        """Give the journal of package transactions."""
        return self._runs.journal

    # --- snapshots

    def look(self) -> None:
        """Have a snapshot taken; one that is under way may have missed what asks for this one."""
        if self._is_under_way():
            self._again = True
            return
        self.disturbed, self._news = bool(self.manager), False
        if self._jobs.start(SNAPSHOT):
            self._until = self._host.monotonic() + AT_MOST
        else:
            self.look_later()

    def look_to_tell(self) -> None:
        """Have a snapshot taken that decides nothing; not beside another one."""
        if self._is_under_way():
            self._again = True
            return
        self.look()
        self._only_to_tell = self._is_under_way()

    def _is_under_way(self) -> bool:
        return self._host.monotonic() < self._until

    def look_soon(self) -> None:
        """Have a snapshot taken in the next turn of the loop."""
        self._loop.set_timer("snapshot", 0)

    def look_later(self) -> None:
        """Have one taken once whatever failed may have passed."""
        self._loop.set_timer("snapshot", TRY_AGAIN)

    def end(self) -> bool:
        """Hear that a snapshot has ended; tell whether it was taken only to tell."""
        only_to_tell, self._only_to_tell = self._only_to_tell, False
        self._until = 0.0
        if self._again:
            self._again = False
            self.look_soon()
        return only_to_tell

    def accept(self) -> None:
        """Hear that by this snapshot is decided: what it has seen is not stale."""
        self.stale = self._news

    # --- files

    def watch(self) -> None:
        """Hear of notes of hooks, and of changed files, from now on."""
        try:
            spool = watch_folders({self._host.path(store.SPOOL): IN_MOVED_TO})
            self._loop.drain(spool, self.take_notes)
        except HostError as error:
            why = f"{error}; package runs are only seen at the next start"
            self._telling.note("spool", why)
        there = {
            self._host.path(path): mask
            for path, mask in WATCHED.items()
            if self._host.exists(path)
        }
        try:
            if there:
                self._files = watch_folders(there)
                self._loop.drain(self._files, self._stir)
        except HostError as error:
            why = f"{error}; changes without a package run are seen later"
            self._telling.note("files", why)
        self._loop.set_timer("spool", 0)

    @contextmanager
    def ignoring_files(self) -> Iterator[None]:
        """Let what changes meanwhile be no news: we write to /boot ourselves."""
        self._ignoring = True
        try:
            yield
        finally:
            self._ignoring = False
            if self._files >= 0:
                self._loop.forget(self._files)

    def _stir(self) -> None:
        """Files of packages or boot loaders changed: look once they have come to rest."""
        if self._ignoring or self.manager:
            return  # the end of a run is told, or its death is seen
        self._news = self.stale = True
        now = self._host.monotonic()
        if not self._loop.is_set("snapshot"):
            self._stirred = now
        if now - self._stirred < STIRRED_AT_MOST:
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)

    # --- package runs

    def take_notes(self) -> None:
        """Hear the hooks: half-way through a run, boot files are neither the old nor the new."""
        try:
            heard = self._runs.take_notes()
        except TrialbootError as error:
            self._telling.note("transactions", str(error))
            self._loop.set_timer("spool", TRY_AGAIN)
            return
        if self._runs.trouble:
            self._telling.note("transactions", self._runs.trouble)
        self._telling.count("transactions", heard.ends)
        if heard.any:
            self.disturbed = self._news = self.stale = True
        if self.manager:
            self._loop.cancel("snapshot")
            self._loop.set_timer("packages", LOOK_FOR_THE_DEAD)
        elif heard.any:
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)
        if heard.touches_boot:
            # Whoever waits at the terminal is told at once; what follows waits for quiet.
            self._loop.set_timer("tell", 0)
        if heard.any:
            self._telling.write()

    def look_for_the_dead(self) -> None:
        """See whether a package run that told no end is over all the same."""
        try:
            over = self._runs.look_for_the_dead()
        except TrialbootError as error:
            self._telling.note("transactions", str(error))
            over = False
        if over:
            self._news = self.stale = True
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)
            self._telling.write()
        elif self.manager:
            self._loop.set_timer("packages", LOOK_FOR_THE_DEAD)

    def settle(self, outlook: Outlook, now: str) -> Transaction | None:
        """Write down what the package databases say; give the transaction that ended by it."""
        try:
            return self._runs.settle(outlook, now)
        except TrialbootError as error:
            self._telling.note("transactions", str(error))
            return None
