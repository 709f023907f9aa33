"""Another network namespace entered for a moment: what is opened inside stays there."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from trialboot.host import Host

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OWN: Final = "/proc/thread-self/ns/net"  # setns(2) moves one thread alone


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace, and a process that lives in it."""

    pid: int
    inode: int
    """What it is told from others by; a number of a process may pass to another process."""


def own_inode(host: Host) -> int:
    """Tell this thread's own namespace. Raises `OSError`."""
    return host.path(_OWN).stat().st_ino


def namespace_of(host: Host, pid: int) -> Namespace:
    """Tell a process's namespace. Raises `OSError`, above all where it ended meanwhile."""
    return Namespace(pid, host.path(f"/proc/{pid}/ns/net").stat().st_ino)


@contextmanager
def inside(host: Host, namespace: Namespace) -> Iterator[None]:
    """Be in that namespace. Raises `OSError` where it is gone or may not be entered."""
    with _opened(host, _OWN) as own, _opened(host, f"/proc/{namespace.pid}/ns/net") as other:
        if os.fstat(other).st_ino != namespace.inode:
            raise ProcessLookupError(f"process {namespace.pid} is not in it any more")
        _enter(other)
        try:
            yield
        finally:
            _enter(own)


@contextmanager
def _opened(host: Host, path: str) -> Iterator[int]:
    descriptor = os.open(host.path(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), "setns(2)")
