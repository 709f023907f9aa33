"""Which files are of this boot: logs are kept over reboots, and the kubelet counts on."""

from dataclasses import dataclass
from typing import Final

from trialboot.host import Host
from trialboot.processes import read_uptime

_SLACK: Final = 30.0
"""Seconds that may pass between the look at the clock and the look at a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisBoot:
    """From when to when this boot has lasted, by the wall clock, in Unix seconds."""

    began: float
    now: float

    def holds(self, moment: float) -> bool:
        """Tell a moment of this boot.

        One that is yet to come was written before the reboot, by a clock that was ahead of ours.
        """
        return self.began <= moment <= self.now + _SLACK


def read_this_boot(host: Host) -> ThisBoot:
    """Read both clocks. Raises `HostError`."""
    now = host.now().timestamp()
    return ThisBoot(began=now - read_uptime(host), now=now)
