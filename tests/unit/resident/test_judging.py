"""When the network is verified again: never twice at a time, and not too often for one service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trialboot.host import Host
from trialboot.loop import Loop
from trialboot.resident.judging import (
    APART,
    AT_MOST,
    HELD,
    QUIET_AFTER_NETWORK,
    REFUSED,
    STIRRED_AT_MOST,
    Judging,
)

NETWORKD = "systemd-networkd.service"
PAUSE = 600.0


class Desk:
    """A judging with its loop, a clock that is moved by hand, and the starts it has asked for."""

    def __init__(self, root: Path) -> None:
        self.now = 1000.0
        self.starts: list[float] = []
        self.held = False
        self.refused = False
        host = Host(root=root, monotonic=lambda: self.now)
        self.loop = Loop(host)
        self.early = 0.0
        self.judging = Judging(
            host,
            self.loop,
            start=self._start,
            held=lambda: self.held,
            early=lambda: self.early,
        )

    def _start(self) -> bool:
        self.starts.append(self.now)
        return not self.refused

    def later(self, seconds: float) -> None:
        """Let time pass, second by second, and act on the timers as the daemon does."""
        end = self.now + seconds
        calls = {"verify": self.judging.begin, "network": self.judging.begin_at_rest}
        while self.now < end:
            self.now += 1.0
            for name in self.loop.take_due():
                calls[name]()

    def judge(self) -> None:
        """Have a verification begin and end, and forget it."""
        self.judging.begin()
        self.judging.end(PAUSE)
        self.starts.clear()

    def hear(self, *units: str, own: tuple[str, ...] = ()) -> str:
        return self.judging.hear(units, own)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.loop.close()


def test_the_first_one_begins_once(desk: Desk) -> None:
    desk.judging.begin_first()
    desk.judging.end(PAUSE)
    desk.judging.begin_first()
    assert len(desk.starts) == 1


def test_the_first_one_lets_the_start_of_the_system_end(desk: Desk) -> None:
    desk.early = 40.0
    desk.judging.begin_first()
    desk.later(5)
    desk.judging.begin_first()  # after a second look
    desk.later(5)
    assert desk.starts == []
    desk.judging.hear_of_the_start()
    desk.later(1)
    assert desk.starts == [1011.0]
    desk.judging.end(PAUSE)
    desk.judging.hear_of_the_start()
    desk.later(PAUSE - 1)
    assert len(desk.starts) == 1


def test_a_start_of_the_system_that_does_not_end_is_not_waited_for(desk: Desk) -> None:
    desk.early = 40.0
    desk.judging.begin_first()
    desk.early = 0.0
    desk.later(39)
    assert desk.starts == []
    desk.later(1)
    assert desk.starts == [1040.0]


def test_the_network_is_not_verified_apart_while_the_first_one_is_to_come(desk: Desk) -> None:
    desk.early = 40.0
    desk.judging.begin_first()
    desk.hear(NETWORKD)
    desk.later(39)
    assert desk.starts == []
    desk.later(PAUSE - 1)
    assert desk.starts == [1040.0]


def test_who_asks_does_not_wait_for_the_start_of_the_system(desk: Desk) -> None:
    desk.early = 40.0
    desk.judging.begin_first()
    desk.judging.ask()
    desk.later(1)
    desk.judging.begin_first()
    assert desk.starts == [1001.0]


def test_it_is_repeated_after_the_pause(desk: Desk) -> None:
    desk.judge()
    desk.later(PAUSE - 1)
    assert desk.starts == []
    desk.later(1)
    assert len(desk.starts) == 1


def test_what_is_asked_for_meanwhile_follows_once(desk: Desk) -> None:
    desk.judging.begin()
    for _ in range(3):
        desk.judging.ask()
        desk.later(1)
    assert len(desk.starts) == 1
    desk.judging.end(PAUSE)
    desk.later(1)
    assert len(desk.starts) == 2
    desk.judging.end(PAUSE)
    desk.later(PAUSE - 1)
    assert len(desk.starts) == 2


def test_one_whose_end_was_lost_is_begun_again(desk: Desk) -> None:
    desk.judging.begin()
    desk.later(AT_MOST)
    assert len(desk.starts) == 2


def test_what_systemd_refuses_is_tried_again(desk: Desk) -> None:
    desk.refused = True
    desk.judging.begin()
    desk.later(REFUSED)
    assert len(desk.starts) == 2


def test_what_is_held_back_begins_as_soon_as_nothing_holds_it(desk: Desk) -> None:
    desk.held = True
    desk.judging.ask()
    desk.later(10 * HELD)
    assert desk.starts == []
    desk.held = False
    desk.later(HELD)
    assert len(desk.starts) == 1


def test_a_burst_is_named_once_and_verified_once_it_rests(desk: Desk) -> None:
    desk.judge()
    desk.later(APART)
    assert desk.hear("cron.service") == ""
    assert desk.hear("cron.service", NETWORKD) == NETWORKD
    desk.later(QUIET_AFTER_NETWORK - 1)
    assert desk.hear("systemd-udevd.service") == ""
    desk.later(QUIET_AFTER_NETWORK - 1)
    assert desk.starts == []
    desk.later(1)
    assert len(desk.starts) == 1
    desk.judging.end(PAUSE)
    desk.later(PAUSE - 1)
    assert len(desk.starts) == 1


def test_the_operators_own_services_are_heard_of(desk: Desk) -> None:
    assert desk.hear("frr.service") == ""
    assert desk.hear("frr.service", own=("frr.service",)) == "frr.service"
    desk.later(QUIET_AFTER_NETWORK)
    assert len(desk.starts) == 1


def test_a_verification_that_begins_answers_the_burst_before_it(desk: Desk) -> None:
    desk.hear(NETWORKD)
    desk.judging.begin()
    desk.judging.end(PAUSE)
    desk.later(PAUSE - 1)
    assert len(desk.starts) == 1


def test_restarts_without_rest_are_not_waited_for_for_ever(desk: Desk) -> None:
    for _ in range(int(STIRRED_AT_MOST) + 1):
        desk.hear(NETWORKD)
        desk.later(1)
    desk.later(QUIET_AFTER_NETWORK)
    assert len(desk.starts) == 1


@pytest.mark.parametrize("every", [1, 5, 11, 45])
def test_a_service_that_crashes_for_an_hour_has_it_verified_once_a_minute_at_most(
    desk: Desk, every: int
) -> None:
    took = 30
    for second in range(3600):
        if second % every == 0:
            desk.hear(NETWORKD)
        desk.later(1)
        if desk.starts and desk.now - desk.starts[-1] == took:
            desk.judging.end(PAUSE)
    gaps = [after - before for before, after in zip(desk.starts, desk.starts[1:], strict=False)]
    assert all(gap >= took + APART for gap in gaps)
    assert all(gap <= took + APART + STIRRED_AT_MOST + QUIET_AFTER_NETWORK for gap in gaps)
    assert len(gaps) > 10
