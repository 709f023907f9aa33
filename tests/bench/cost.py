"""CPU time of a child process, the measure of every figure here."""

import resource
import subprocess
from collections.abc import Callable, Mapping, Sequence


def least(rounds: int, measure: Callable[[], float]) -> float:
    """Give the least of several rounds: what the work itself costs."""
    return min(measure() for _ in range(rounds))


def cpu_ms(
    argv: Sequence[str], *, given: str | None = None, env: Mapping[str, str] | None = None
) -> float:
    """Run a command to its end; give its user and system time in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, input=given, env=env, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * spent
