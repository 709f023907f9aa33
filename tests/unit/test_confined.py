"""A function in a process of its own: its answer comes back, and nothing else of it."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

from trialboot import confined
from trialboot.errors import HostError

ROOM = 2 << 30
NETWORK = Path("/proc/self/ns/net")


def test_the_answer_comes_back_also_a_long_and_an_empty_one() -> None:
    for answer in (b"", b"yes", bytes(300_000)):
        assert confined.call(lambda answer=answer: answer, seconds=20, memory=ROOM) == answer  # type: ignore[misc]


def test_it_is_another_process() -> None:
    there = confined.call(lambda: str(os.getpid()).encode(), seconds=20, memory=ROOM)
    assert int(there) != os.getpid()


def _raise() -> bytes:
    raise ValueError("so it was")


def _die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def _leave() -> bytes:
    os._exit(3)


def _sleep() -> bytes:
    time.sleep(60)
    return b""


def _grow() -> bytes:
    return bytes(4 << 30)


@pytest.mark.parametrize(
    ("function", "seconds", "why"),
    [
        (_raise, 20, "so it was"),
        (_die, 20, "it was ended by SIGKILL"),
        (_leave, 20, "it ended without a word"),
        (_sleep, 0.2, "it took more than 0 s"),
        (_grow, 20, "the memory it may have was not enough"),
    ],
)
def test_how_it_ended_is_told(function: confined.Function, seconds: float, why: str) -> None:
    with pytest.raises(HostError, match=why):
        confined.call(function, seconds=seconds, memory=ROOM)


def test_a_child_that_holds_out_against_its_alarm_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deaf() -> bytes:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        return _sleep()

    monkeypatch.setattr(confined, "_GRACE", 0.1)
    with pytest.raises(HostError, match="it took more than 0 s"):
        confined.call(deaf, seconds=0.1, memory=ROOM)


def test_namespaces_are_its_own() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    here = str(NETWORK.readlink())

    def look() -> bytes:
        return str(NETWORK.readlink()).encode()

    there = confined.call(look, seconds=20, memory=ROOM, namespaces=confined.NEW_NETWORK)
    assert there.decode() != here
    assert str(NETWORK.readlink()) == here


def test_no_child_is_left_behind() -> None:
    confined.call(lambda: b"", seconds=20, memory=ROOM)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.waitpid(-1, None, os.WNOHANG) == -1
