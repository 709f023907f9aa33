"""A network namespace of its own for each test, so that the host stays untouched."""

import ctypes
import os
import pickle
import subprocess
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

Inside: TypeAlias = Callable[[Callable[[], Any]], Any]

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000


@pytest.fixture
def inside() -> Inside:
    """Run a function in a child with network and mounts of its own, and give what it returns.

    What it returns must be picklable. Whatever it leaves attached goes with the child.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return run_inside


def run_inside(function: Callable[[], Any]) -> Any:
    """Fork, leave the host's namespaces, call; give the answer or raise what went wrong."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _answer(function, send)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(child, 0)
    kind, value = ("broken", "the child died without a word")
    if raw:
        kind, value = pickle.loads(raw)  # noqa: S301  our own child wrote it
    if kind == "skipped":
        pytest.skip(value)
    if kind == "broken":
        raise AssertionError(value)
    return value


def sh(commands: str) -> None:
    """Run shell commands, line by line until one fails."""
    done = subprocess.run(
        ["/bin/sh", "-e"],
        input=commands,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def own_sysfs() -> None:
    """Have a /sys that shows this network namespace, and an empty bpffs in it."""
    sh(
        """
        mount --rbind /sys/fs/cgroup /mnt
        mount -t sysfs sysfs /sys
        mount --rbind /mnt /sys/fs/cgroup
        mount -t bpf bpf /sys/fs/bpf
        """
    )


def _answer(function: Callable[[], Any], send: int) -> None:
    try:
        _unshare()
        answer = ("done", function())
    except pytest.skip.Exception as skipped:
        answer = ("skipped", str(skipped))
    except BaseException:  # noqa: BLE001  the child must not go on as a second pytest
        answer = ("broken", traceback.format_exc())
    try:
        with os.fdopen(send, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS):
        pytest.skip(f"no namespaces here: {os.strerror(ctypes.get_errno())}")
    sh("mount --make-rprivate /\nip link set lo up")
