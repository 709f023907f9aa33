"""When the network of this boot is verified again: after a pause, and after what may break it.

Package runs and restarts of network services do: networkd drops the rules and routes of others
when it starts (kubernetes/kops#17433, k0sproject/k0s#5623). Whatever asks, one verification is
under way at the most, and what is asked for meanwhile follows it.
"""

from collections.abc import Callable, Collection
from typing import Final

from trialboot.host import Host
from trialboot.loop import Loop

NETWORK_UNITS: Final = frozenset(
    {
        "NetworkManager.service",
        "networking.service",
        "systemd-networkd.service",
        "systemd-sysctl.service",
        "systemd-udevd.service",
    }
)
"""Services that set links, addresses, routes, rules and sysctls when they start."""
QUIET_AFTER_NETWORK: Final = 10.0
"""Seconds without another job of such a service after which the network is verified."""
STIRRED_AT_MOST: Final = 120.0
"""Seconds for which jobs that come again and again put a verification off."""
APART: Final = 60.0
"""Seconds between a verification and the next that a service asks for: one may crash for hours."""
HELD: Final = 30.0
"""Seconds between two looks whether a verification that must wait may begin."""
AT_MOST: Final = 1830.0
"""Seconds that a verification may take: the unit's own limit, and some. Its end may be lost."""
REFUSED: Final = 300.0
"""Seconds between two tries where systemd refuses to start it."""


class Judging:
    """Asks for verifications, by the timers `verify` and `network` of the loop."""

    def __init__(
        self,
        host: Host,
        loop: Loop,
        *,
        start: Callable[[], bool],
        held: Callable[[], bool],
        early: Callable[[], float],
    ) -> None:
        """Take who starts one, who tells it to wait, and who tells how early the first would be.

        `start` tells whether that went well; `early` gives the seconds for which the start of
        the system may still go on without it.
        """
        self._host = host
        self._loop = loop
        self._start = start
        self._held = held
        self._early = early
        self._begun = False
        self._until = 0.0
        self._again = False
        self._ended = -APART
        self._stirred = 0.0

    def begin_first(self) -> None:
        """Have the first verification since the daemon was started begin, once.

        It lets the start of the system end: to systemd its job would be a part of that.
        """
        if self._begun or self._is_first_to_come():
            return
        early = self._early()
        if early > 0:
            self._loop.set_timer("verify", early)
        else:
            self.begin()

    def hear_of_the_start(self) -> None:
        """Hear that the start of the system has ended: the first need not wait any longer."""
        if self._is_first_to_come():
            self.ask()

    def _is_first_to_come(self) -> bool:
        return not self._begun and self._loop.is_set("verify")

    def ask(self) -> None:
        """Have one begin as soon as it may."""
        self._loop.set_timer("verify", 0)

    def ask_again(self) -> None:
        """Have another one follow where the first has begun: it may not know what it was for."""
        if self._begun:
            self.ask()

    def begin(self) -> None:
        """Begin one, unless one is under way, or it has to wait."""
        self._begun = True
        if self._is_under_way():
            self._again = True
        elif self._held():
            self._loop.set_timer("verify", HELD)
        else:
            self._loop.cancel("network")
            started = self._start()
            self._until = self._host.monotonic() + AT_MOST if started else 0.0
            self._loop.set_timer("verify", AT_MOST if started else REFUSED)

    def _is_under_way(self) -> bool:
        return self._host.monotonic() < self._until

    def end(self, pause: float) -> None:
        """Hear that it has ended; the next comes after `pause` seconds if nobody has asked."""
        again, self._again = self._again, False
        self._until, self._ended = 0.0, self._host.monotonic()
        self._loop.set_timer("verify", 0 if again else pause)

    def hear(self, ended: Collection[str], units: Collection[str]) -> str:
        """Hear whose jobs have ended; name a service that had none in this burst before.

        `units` are the operator's own services, beside those that are known.
        """
        stirring = sorted(unit for unit in ended if unit in NETWORK_UNITS or unit in units)
        if not stirring:
            return ""
        fresh = not self._loop.is_set("network")
        now = self._host.monotonic()
        if fresh:
            self._stirred = now
        if now - self._stirred < STIRRED_AT_MOST:
            self._loop.set_timer("network", QUIET_AFTER_NETWORK)
        return stirring[0] if fresh else ""

    def begin_at_rest(self) -> None:
        """Begin one for a network that has come to rest, not close behind the last."""
        if self._is_first_to_come():
            return
        apart = self._ended + APART - self._host.monotonic()
        if self._is_under_way():
            self._loop.set_timer("network", QUIET_AFTER_NETWORK)
        elif apart > 0:
            self._loop.set_timer("network", apart)
        else:
            self.begin()
