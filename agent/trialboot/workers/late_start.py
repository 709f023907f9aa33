"""trialboot-late-start.service: a verdict or a way back, however long the boot of a trial takes.

trialbootd is ordered after the network and the kubelet, so that it is stopped before them. A job
of theirs that never ends (wait-online without a limit; k3s, whose unit has none) would keep it
from starting, on the very candidate that cannot do without it. The timer looks twice.
"""

import sys
from typing import Final

from trialboot.host import Host
from trialboot.readers import kernel, startup
from trialboot.workers import oneshot
from trialboot.workers.standstill import UNIT

LONGEST_START: Final = 1800.0
"""Seconds after which a boot that still has not come up, and has no daemon, stands still.

A file system check of a large disk takes some time, too.
"""
_DAEMON: Final = "trialbootd.service"


def work(host: Host) -> None:
    """Start the daemon past what it waits for; leave the trial where that cannot be done."""
    if startup.is_active(host, _DAEMON) is True:
        return
    if _could_start(host):
        sys.stdout.write(f"{_DAEMON} is started now: what it waits for has not come up yet\n")
        host.run(["systemctl", "start", "--no-block", "--job-mode=ignore-dependencies", _DAEMON])
    elif kernel.read_uptime(host) >= LONGEST_START and startup.has_come_up(host) is False:
        host.run(["systemctl", "start", "--no-block", UNIT])


def _could_start(host: Host) -> bool:
    """Tell whether the daemon only waits for others; its record is on one of the file systems.

    One that the operator stopped, or that has died, has no job and is left alone.
    """
    mounted = startup.is_active(host, "sysinit.target") is True
    return mounted and startup.is_waiting(host, _DAEMON) is True


if __name__ == "__main__":
    sys.exit(oneshot.run("late-start", work))
