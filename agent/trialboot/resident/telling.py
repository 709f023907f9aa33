"""What the daemon tells: its troubles, its counters, and the state file of all that is known."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from trialboot import journal, report, statefile
from trialboot.core.facts import Unknown
from trialboot.errors import StoreError
from trialboot.host import Host
from trialboot.loop import Loop
from trialboot.writers import store

RENDER_AFTER: Final = 10.0
"""Seconds: one metrics page for a burst of changes."""


class Telling:
    """Writes the state anew whenever something is told, and has the metrics page follow."""

    def __init__(self, host: Host, loop: Loop, view: Callable[[], report.View]) -> None:
        self._host = host
        self._loop = loop
        self._view = view
        self._trouble: dict[str, str] = {}
        self.counters = _load_counters(host)

    @property
    def trouble(self) -> tuple[str, ...]:
        """Say what is wrong now, a line each, with its source."""
        return tuple(f"{source}: {text}" for source, text in self._trouble.items())

    def note(self, source: str, text: str) -> None:
        """Tell that something is wrong with a source, until it is cleared; log it once."""
        if self._trouble.get(source) != text:
            journal.trouble(f"{source}: {text}")
        self._trouble[source] = text
        self.write()

    def clear(self, *sources: str) -> None:
        """Let nothing be wrong with these any more; the next `write` tells it."""
        for source in sources:
            self._trouble.pop(source, None)

    def note_worker(self, worker: str, result: str, found: object) -> str:
        """Tell why a worker did not do its work; give the reason.

        `result` is its job's; `found` what it should have left, or `Unknown`.
        """
        told = store.load(self._host, store.trouble_of(worker), store.Trouble)
        why = f"the worker ended: {result}"
        if isinstance(told, store.Trouble) and result != "done":
            why = told.why
        if isinstance(found, Unknown):
            why = found.why
        self.note(worker, why)
        return why

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the metrics; an empty name is none."""
        if name and by:
            self.counters[name] = self.counters.get(name, 0) + by
            # A full disk costs a number, and nothing of what is counted.
            with suppress(StoreError):
                store.save(self._host, store.COUNTERS, tuple(self.counters.items()))

    def status(self) -> str:
        """Give the state as JSON."""
        return json.dumps(report.state_of(self._view()), ensure_ascii=False)

    def write(self) -> None:
        """Write the state file."""
        try:
            statefile.write_state(self._host, report.state_of(self._view()))
        except OSError as error:  # a full /run must not end who judges
            journal.noted(f"{store.STATE_FILE} is not renewed: {error.strerror}")
        self._loop.set_timer("render", RENDER_AFTER)

    def write_notice(self) -> None:
        """Tell whoever waits at the terminal of a package run what the next boot changes."""
        with suppress(OSError):
            statefile.write_notice(self._host, report.state_of(self._view()))


def _load_counters(host: Host) -> dict[str, int]:
    found = store.load(host, store.COUNTERS, tuple[tuple[str, int], ...])
    return dict(found) if isinstance(found, tuple) else {}
