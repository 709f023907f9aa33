"""One worker sent by another: its record, or why there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from trialboot.core.facts import Unknown
from trialboot.errors import TrialbootError
from trialboot.host import Host
from trialboot.writers import services, store

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand(Generic[_T]):
    """A worker that has a service with a sandbox of its own, and what it brings back."""

    worker: str
    """Its name: that of its service without `trialboot-`, and of its file of trouble."""
    record: str
    kind: type[_T]
    work: Callable[[Host], None]
    """What the service does; leaves the record. Raises `TrialbootError`."""
    limit: float
    """Seconds that it may take; its service's own limit is a little shorter."""


def run_errand(host: Host, errand: Errand[_T]) -> _T | Unknown:
    """Have the work done by its service, and read the record that it left.

    Without systemd (`trialboot run` in a container) the work is done in this very process.
    """
    host.path(errand.record).unlink(missing_ok=True)
    unit = f"trialboot-{errand.worker}.service"
    ended = "success"
    try:
        if services.is_systemd_here(host):
            ended = services.run_unit(host, unit, errand.limit)
        else:
            errand.work(host)
    except TrialbootError as error:
        return Unknown(str(error))
    found = store.load(host, errand.record, errand.kind)
    return Unknown(f"{unit}: {_why(host, errand.worker, ended)}") if found is None else found


def _why(host: Host, worker: str, ended: str) -> str:
    told = store.load(host, store.trouble_of(worker), store.Trouble)
    return told.why if isinstance(told, store.Trouble) else f"no result, it ended with «{ended}»"
