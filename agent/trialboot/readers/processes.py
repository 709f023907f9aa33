"""Processes by name: agents that a container runtime started, so that systemd knows none."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trialboot.core.facts import Process, Unknown
from trialboot.host import Host


def read_processes(host: Host, names: Sequence[str]) -> tuple[Process, ...] | Unknown:
    """Count the running processes of each name; zombies are not running."""
    if not names:
        return ()
    import psutil  # noqa: PLC0415  3 MiB: only where the operator names a process

    psutil.PROCFS_PATH = str(host.path("/proc"))
    try:
        seen = [
            (p.info["name"], p.info["status"]) for p in psutil.process_iter(["name", "status"])
        ]
    except (psutil.Error, OSError) as error:
        return Unknown(f"/proc: {error}")
    return count_processes(names, seen)


def count_processes(
    names: Sequence[str], seen: Iterable[tuple[str | None, str | None]]
) -> tuple[Process, ...]:
    """Count names among (name, status) pairs."""
    alive = Counter(name for name, status in seen if status != "zombie")
    return tuple(Process(name=name, count=alive[name]) for name in names)
