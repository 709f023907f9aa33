"""What an agent wrote of a refusal by the kernel: evidence beside a failing check."""

import errno
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from trialboot.core.cni import REFUSAL, SPLAT
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.cni.boot import ThisBoot
from trialboot.readers.cni.files import printable, read_tail
from trialboot.readers.cni.pods import Log

_MOST_LINES: Final = 3
_NEWEST: Final = 2
_TAIL: Final = 256 << 10
_DOCKER: Final = re.compile(r"(?:/(?!\.\.?/)[^/]+)+/containers/([0-9a-f]{64})/\1-json\.log")
_CRI: Final = re.compile(r"(\S+) std(?:out|err) \S+ (.*)")
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([-+]\d\d:\d\d))", re.ASCII
)


def read_log_refusals(host: Host, logs: Sequence[Log], boot: ThisBoot) -> tuple[str, ...]:
    """Give the newest lines that tell of a refusal, from the ends of a container's newest logs."""
    found: list[str] = []
    for log in [log for log in reversed(logs) if log.this_boot][:_NEWEST]:
        with suppress(OSError):
            found += parse_refusals(_tail(host, log.path).decode(errors="replace"), boot)
    return tuple(dict.fromkeys(found))[:_MOST_LINES]


def parse_refusals(text: str, boot: ThisBoot) -> list[str]:
    """Give the lines of this boot that match, the newest first, without the runtime's marks."""
    matching = (line for line in text.splitlines() if REFUSAL.search(line))
    parted = [_part(line) for line in matching]
    return [printable(words) for at, words in reversed(parted) if at is None or at >= boot.began]


def read_splats(host: Host) -> tuple[str, ...]:
    """Give the newest lines of the kernel's log of this boot that tell of a broken verifier.

    It starts a process, so ask where a check is in trouble. They are evidence, never state: a
    journal that cannot be read is no evidence. /dev/kmsg would take a capability and a device.
    """
    try:
        log = host.run(
            [
                "journalctl",
                "--dmesg",
                "--boot",
                "--priority=warning",
                "--output=cat",
                "--lines=2000",
                "--no-pager",
                "--quiet",
            ]
        )
    except HostError:
        return ()
    lines = (printable(line) for line in log.splitlines() if SPLAT.search(line))
    return tuple(dict.fromkeys(reversed(list(lines))))[:_MOST_LINES]


def _tail(host: Host, path: str) -> bytes:
    """Read the end of a log; the kubelet links docker's, and no other link is followed."""
    try:
        return read_tail(path, _TAIL)
    except OSError as error:
        target = str(Path(path).readlink()) if error.errno == errno.ELOOP else ""
        if not _DOCKER.fullmatch(target):
            raise
        return read_tail(str(host.path(target)), _TAIL)


def _part(line: str) -> tuple[float | None, str]:
    """Part a line into when it was written and what it says.

    `TIME stdout|stderr P|F TEXT` is the runtimes' own form (kubernetes/kubernetes,
    pkg/kubelet/kuberuntime/logs); docker writes an object a line.
    """
    marked = _CRI.fullmatch(line)
    if marked:
        return _moment(marked[1]), marked[2]
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        entry = json.loads(line)
        return _moment(str(entry["time"])), str(entry["log"])
    return None, line


def _moment(text: str) -> float | None:
    parts = _MOMENT.fullmatch(text)
    with suppress(ValueError, OverflowError):
        if parts:
            return datetime.fromisoformat(f"{parts[1]}{parts[2] or '+00:00'}").timestamp()
    return None
