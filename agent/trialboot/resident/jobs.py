"""The workers as jobs of systemd: started over the bus, heard of when they end."""

from typing import Final

from trialboot import journal
from trialboot.bus import Bus
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.loop import Loop
from trialboot.resident.telling import Telling

CANCELED: Final = "canceled"
"""How a job ends that another one took the place of: somebody stops the unit, or the system."""
_WORKER: Final = "trialboot-"
"""What the names of the workers' units begin with."""


class Jobs:
    """Which units were started, and how those jobs ended; of units of others, how any job did."""

    def __init__(self, host: Host, bus: Bus, loop: Loop, telling: Telling) -> None:
        self._host = host
        self._bus = bus
        self._loop = loop
        self._telling = telling
        self._started: dict[str, str] = {}
        self._ended: dict[str, str] = {}

    def listen(self) -> None:
        """Hear of the ends of jobs from now on."""
        self._bus.watch_jobs(self._note)

    def _note(self, job: str, unit: str, result: str) -> None:
        # Whoever stops a worker has a job as well, which ends «done» just after the worker's own
        # has ended «canceled»: it did no work.
        if not unit.startswith(_WORKER) or job == self._started.get(unit):
            self._ended[unit] = result

    def start(self, unit: str) -> bool:
        """Queue a unit's start; tell whether systemd took it, and everybody where it did not."""
        try:
            self._started[unit] = self._bus.start_unit(unit)
        except HostError as error:
            self._telling.note(unit, str(error))
            return False
        self._telling.clear(unit)
        return True

    def run(self, unit: str, limit: float) -> str:
        """Start a unit and wait for its end, at most `limit` seconds; give the job's result.

        One that runs already, since an earlier daemon, is let end first: to systemd a start of it
        would be that same job, and what it does is not what is asked for now. The supervisor hears
        signs of life meanwhile. Raises `HostError` where systemd refuses.
        """
        until = self._host.monotonic() + limit
        self._ended.pop(unit, None)
        if job := self._bus.job_of(unit):
            self._started[unit] = job
            self._await(unit, until)
        self._started[unit] = self._bus.start_unit(unit)
        return self._await(unit, until) or f"no end after {limit:.0f} s"

    def _await(self, unit: str, until: float) -> str:
        """Give the result of a job, once it has ended; empty where it does not in time."""
        while unit not in self._ended:
            self._bus.pump()
            if self._host.monotonic() > until:
                return ""
            if unit not in self._ended:
                self._loop.wait(1.0)
            journal.tell_supervisor("WATCHDOG=1")
        return self._ended.pop(unit)

    def is_running(self, unit: str) -> bool:
        """Tell whether a unit has a job, whoever started it. If systemd does not say, it has."""
        try:
            return bool(self._bus.job_of(unit))
        except HostError as error:
            journal.noted(f"not known whether {unit} runs: {error}")
            return True

    def end_with_the_system(self) -> bool:
        """Tell whether jobs end because the system goes down or to rescue mode.

        Where systemd does not say so they count as any other: a verdict is never lost for that.
        """
        try:
            return self._bus.is_leaving()
        except HostError as error:
            journal.noted(f"not known whether the system goes down: {error}")
            return False

    def is_starting(self) -> bool:
        """Tell whether the start of the system goes on. If systemd does not say, it has ended."""
        try:
            return not self._bus.has_started()
        except HostError as error:
            journal.noted(f"not known whether the system has started: {error}")
            return False

    def any_ended(self) -> bool:
        """Tell whether there is an end to act on."""
        return bool(self._ended)

    def take_ended(self) -> dict[str, str]:
        """Give the units that have ended, with the results of their jobs, each once."""
        ended, self._ended = self._ended, {}
        return ended
