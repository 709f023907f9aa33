"""Running processes by name, and for how long each has run: psutil spoken."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from trialboot.errors import HostError
from trialboot.host import Host

_COMM: Final = 15
"""Bytes of a name that the kernel keeps (TASK_COMM_LEN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One process that runs."""

    pid: int
    name: str
    """/proc/PID/comm: 15 characters at most."""
    age: float
    """Seconds for which it has run, by a clock that nobody sets."""


def running(host: Host, names: Collection[str]) -> tuple[Running, ...]:
    """Find the processes of these names; zombies do not run. Raises `HostError`.

    Only those that have a name asked for become psutil's: it takes four reads to make each.
    """
    if not names:
        return ()
    import psutil  # noqa: PLC0415  3 MiB: only where a process is asked for

    proc = str(host.path("/proc"))
    psutil.PROCFS_PATH = proc
    wanted = {short(name) for name in names}
    try:
        named = ((pid, _name(f"{proc}/{pid}/comm")) for pid in psutil.pids())
        found = [(pid, name) for pid, name in named if name in wanted]
        booted = psutil.boot_time()
    except (psutil.Error, OSError) as error:
        raise HostError(f"/proc: {error}") from error
    except (IndexError, RuntimeError) as error:  # no process at all, no start of the kernel
        raise HostError("/proc shows no processes") from error
    now = booted + read_uptime(host)  # psutil adds the same start, so that a set clock cancels out
    ages = ((pid, name, _age(pid, now)) for pid, name in found)
    return tuple(Running(pid=p, name=n, age=age) for p, n, age in ages if age is not None)


def short(name: str) -> str:
    """Cut a name as the kernel does."""
    return name[:_COMM]


def read_uptime(host: Host) -> float:
    """Give the seconds since the kernel started. Raises `HostError`."""
    text = host.read_text("/proc/uptime")
    try:
        return float(text.split()[0])
    except (IndexError, ValueError) as error:
        raise HostError(f"/proc/uptime: {text[:40]!r} is no time") from error


def _name(path: str) -> str:
    """Read a process's name; empty once it has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _age(pid: int, now: float) -> float | None:
    """Tell how long a process has run; None for one that has ended, reaped or not."""
    import psutil  # noqa: PLC0415  see above

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return max(0.0, now - process.create_time())
    except (psutil.Error, OSError):
        return None
