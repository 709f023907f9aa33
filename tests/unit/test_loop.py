"""The daemon's loop: what is due, what wakes it, and what it sleeps for."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trialboot.host import Host
from trialboot.loop import Loop


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(tmp_path: Path, clock: Clock) -> Iterator[Loop]:
    made = Loop(Host(root=tmp_path, monotonic=clock))
    yield made
    made.close()


def test_a_timer_is_due_once_its_time_has_come(loop: Loop, clock: Clock) -> None:
    loop.set_timer("a", 5)
    loop.set_timer("b", 10)
    assert loop.take_due() == []
    clock.now += 7
    assert loop.take_due() == ["a"]
    assert (loop.is_set("a"), loop.is_set("b")) == (False, True)
    clock.now += 7
    assert loop.take_due() == ["b"]
    assert loop.take_due() == []


def test_a_timer_that_is_set_again_is_due_later_and_a_cancelled_one_never(
    loop: Loop, clock: Clock
) -> None:
    loop.set_timer("a", 5)
    loop.set_timer("b", 5)
    loop.set_timer("a", 10)
    loop.cancel("b")
    loop.cancel("never set")
    clock.now += 7
    assert loop.take_due() == []
    clock.now += 7
    assert loop.take_due() == ["a"]


def test_it_sleeps_until_the_next_timer_and_no_longer(loop: Loop) -> None:
    loop.set_timer("a", 0.05)
    loop.set_timer("b", 60)
    started = time.monotonic()
    loop.sleep()
    loop.wait(0.0)
    assert 0.04 < time.monotonic() - started < 5


def test_what_is_due_does_not_shorten_a_wait_for_a_worker(loop: Loop) -> None:
    loop.set_timer("overdue", 0)
    started = time.monotonic()
    loop.wait(0.05)
    assert time.monotonic() - started > 0.04


def test_a_readable_descriptor_wakes_it_and_its_call_is_made(loop: Loop) -> None:
    reading, writing = os.pipe()
    heard: list[bytes] = []
    loop.watch(reading, lambda: heard.append(os.read(reading, 10)))
    os.write(writing, b"x")
    loop.wait(60)
    assert heard == [b"x"]
    loop.wait(0.0)
    assert heard == [b"x"]
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_what_is_drained_does_not_wake_it_twice(loop: Loop) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    heard: list[bool] = []
    loop.drain(reading, lambda: heard.append(True))
    os.write(writing, b"many events")
    loop.wait(60)
    loop.wait(0.0)
    assert heard == [True]
    os.write(writing, b"our own doing")
    loop.forget(reading)
    loop.wait(0.0)
    assert heard == [True]
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_a_signal_wakes_it(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    heard: list[bool] = []
    try:
        loop.watch_signals({signal.SIGUSR1: lambda: heard.append(True)})
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.wait(60)
        assert heard == [True]
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
