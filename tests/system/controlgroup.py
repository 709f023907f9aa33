"""A control group for each container: two in one group would end each other's processes."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_NUMBERS = itertools.count()
_PATIENCE = 5.0


class ControlGroup:
    """A new group below our own in each hierarchy that systemd uses: v2, or the one of its name.

    systemd-nspawn makes «payload» below the group that it is started in.
    """

    def __init__(self) -> None:
        name = f"trialboot-{os.getpid()}-{next(_NUMBERS)}"
        self.folders = [place / name for place in _ours()]
        for folder in self.folders:
            folder.mkdir()

    def words(self, argv: Sequence[str]) -> list[str]:
        """Give the words that run a command in the group."""
        joins = "".join(f'echo $$ >"{folder}/cgroup.procs"; ' for folder in self.folders)
        return ["sh", "-ec", f'{joins} exec "$@"', "sh", *argv]

    def remove(self) -> None:
        """Remove the group and those below it, once their last processes are gone."""
        end = time.monotonic() + _PATIENCE
        for folder in self.folders:
            for group in sorted(folder.rglob("*/"), reverse=True):
                _remove(group, end)
            _remove(folder, end)


def _remove(group: Path, end: float) -> None:
    while group.is_dir() and time.monotonic() < end:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)


def _ours() -> list[Path]:
    """Find where our own group is mounted, in the hierarchies that matter."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path.lstrip("/")
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2" and "" in groups:
            found.append(Path(place) / groups[""])
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            found.append(Path(place) / groups["name=systemd"])
    return found
