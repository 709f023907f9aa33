"""What all tests with real package managers and a real systemd share."""

from __future__ import annotations

import ctypes
import os

import pytest

from tests.system import roots
from tests.vm import command

_CLONE_NEWNS = 0x00020000


@pytest.fixture(scope="session", autouse=True)
def private_mounts() -> None:
    """Give this run mounts of its own: they go with it, however it ends."""
    roots.require()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        pytest.skip(f"no mounts of our own here: {os.strerror(ctypes.get_errno())}")
    command.output("mount", "--make-rprivate", "/")
