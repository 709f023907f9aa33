"""Processes by name: agents that a container runtime started, so that systemd knows none."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trialboot.core.facts import Process, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.processes import running, short


def read_processes(host: Host, names: Sequence[str]) -> tuple[Process, ...] | Unknown:
    """Count the running processes of each name; zombies are not running."""
    try:
        return count_processes(names, (process.name for process in running(host, names)))
    except HostError as error:
        return Unknown(str(error))


def count_processes(names: Sequence[str], seen: Iterable[str]) -> tuple[Process, ...]:
    """Count each name among those of the processes that run, which the kernel cuts."""
    alive = Counter(seen)
    return tuple(Process(name=name, count=alive[short(name)]) for name in names)
