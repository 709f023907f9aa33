"""Pods by their logs, and how often a container was started in this boot.

The kubelet names logs `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`, N being how often the
container was restarted since the pod was made, reboots included, and keeps those of the newest
two. It also makes one file for each start, for the last words of the container, and those it
leaves until the pod is deleted (kubernetes/kubernetes#121180): they can be counted.
"""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from trialboot.host import Host
from trialboot.readers.cni.boot import ThisBoot

_LOGS: Final = "/var/log/pods"
_LAST_WORDS: Final = (
    "/var/lib/kubelet/pods/{}/containers/{}",
    "/var/lib/k0s/kubelet/pods/{}/containers/{}",
    "/var/snap/microk8s/common/var/lib/kubelet/pods/{}/containers/{}",
)
_FOLDER: Final = re.compile(r"([-a-z0-9]+)_[-.a-z0-9]+_([-0-9a-f]{32,36})")
_LOG: Final = re.compile(r"(\d{1,9})\.log")
_MOST_PODS: Final = 4096
_MOST_LOGS: Final = 1000
_MOST_STARTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod that has logs on this host."""

    namespace: str
    uid: str
    folder: str
    """Where its logs lie, below our root."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Log:
    """What one run of a container wrote."""

    attempt: int
    this_boot: bool
    path: str


def read_pods(host: Host) -> dict[str, Pod]:
    """List the pods that have logs, by their UID; none where the folder cannot be read."""
    root = os.fspath(host.path(_LOGS))
    pods = {}
    for name in _folders(root, _MOST_PODS):
        parts = _FOLDER.fullmatch(name)
        if parts:
            pods[parts[2]] = Pod(namespace=parts[1], uid=parts[2], folder=f"{root}/{name}")
    return pods


def read_containers(pod: Pod) -> list[str]:
    """Name the containers of a pod that have logs."""
    return list(_folders(pod.folder, _MOST_LOGS))


def read_logs(pod: Pod, container: str, boot: ThisBoot) -> tuple[Log, ...]:
    """List the logs of a container by attempt. A log is of the boot that last wrote to it.

    No container outlives a reboot, so a log was begun in the boot that it was last written in;
    rotation leaves the newest part under the plain name. Docker's are links, as old as the start.
    """
    folder = f"{pod.folder}/{container}"
    found = []
    for name, changed in _changes(folder, _MOST_LOGS):
        number = _LOG.fullmatch(name)
        if number:
            path = f"{folder}/{name}"
            found.append(Log(attempt=int(number[1]), this_boot=boot.holds(changed), path=path))
    return tuple(sorted(found))


def read_starts(host: Host, pod: Pod, container: str, boot: ThisBoot) -> int | None:
    """Count the starts of a container in this boot; None where the kubelet's files tell none."""
    for pattern in _LAST_WORDS:
        folder = os.fspath(host.path(pattern.format(pod.uid, container)))
        changes = [changed for _, changed in _changes(folder, _MOST_STARTS)]
        if changes:
            whole = len(changes) < _MOST_STARTS
            return sum(map(boot.holds, changes)) if whole else None
    return None


def restarts_of(logs: Collection[Log], starts: int | None) -> int | None:
    """Tell how often a container was restarted in this boot; None where nothing shows it.

    Exact where the last log of the boot before is still there. Else its logs tell the least, and
    the kubelet makes a file also for a start that the runtime refused.
    """
    now = [log.attempt for log in logs if log.this_boot]
    if not now:
        return max(starts - 1, 0) if starts else None
    least = max(now) - min(now)
    known = any(log.attempt == min(now) - 1 and not log.this_boot for log in logs)
    if known or min(now) == 0 or starts is None:
        return least
    return max(least, min(starts - 1, max(now)))


def _folders(folder: str, most: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from [e.name for e in islice(entries, most) if e.is_dir(follow_symlinks=False)]
    except OSError:
        return


def _changes(folder: str, most: int) -> list[tuple[str, float]]:
    """Give name and time of change of what lies in a folder, links not followed."""
    try:
        with os.scandir(folder) as entries:
            changes = [(entry.name, _change(entry)) for entry in islice(entries, most)]
    except OSError:
        return []
    return [(name, changed) for name, changed in changes if changed is not None]


def _change(entry: os.DirEntry[str]) -> float | None:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return None  # removed meanwhile
