"""Calls a function in a process of its own that may hang, grow or die: only its answer comes back.

The child has limits of time and memory and, where asked for, namespaces of its own; it dies with
whoever started it. Meant for what ends up in the kernel with foreign input.
"""

import ctypes
import os
import resource
import select
import signal
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

from trialboot.errors import HostError

Function: TypeAlias = Callable[[], bytes]

NEW_NETWORK: Final = 0x40000000
"""CLONE_NEWNET: a network namespace with nothing in it."""

_GRACE: Final = 5.0
"""Seconds that a child which the kernel does not let go may take longer than its limit."""
_MOST: Final = 1 << 20  # bytes of an answer
_PIECE: Final = 1 << 16
_PARENT_DEATH: Final = 1  # PR_SET_PDEATHSIG
_FAILED: Final = 1
_GOOD, _BAD = b"+", b"-"


def call(function: Function, *, seconds: float, memory: int, namespaces: int = 0) -> bytes:
    """Give what the function returns in a child. Raises `HostError` that says how it ended.

    `memory` is the child's address space in bytes (RLIMIT_AS).
    """
    receive, send = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _answer(function, send, parent, (seconds, memory, namespaces))
    os.close(send)
    try:
        answer = _answer_in_time(receive, child, seconds)
    finally:
        os.close(receive)
    _, status = os.waitpid(child, 0)
    if not answer:
        raise HostError(_ended(status, seconds))
    if answer[:1] != _GOOD:
        raise HostError(answer[1:].decode(errors="replace"))
    return answer[1:]


def _answer_in_time(receive: int, child: int, seconds: float) -> bytes:
    """Read the answer; a child that gives none is killed, and not waited for if that fails."""
    answer = _read(receive, seconds + _GRACE)
    if answer is None:
        os.kill(child, signal.SIGKILL)
        if _read(receive, _GRACE) is not None:  # it let go of the pipe: it is dead
            os.waitpid(child, 0)
        raise HostError(_late(seconds))
    return answer


def _answer(
    function: Function, send: int, parent: int, limits: tuple[float, int, int]
) -> NoReturn:
    """Be the child: nothing that happens here may go on in the parent's code."""
    try:
        _confine(parent, *limits)
        answer = _GOOD + function()
    except MemoryError:
        answer = _BAD + b"the memory it may have was not enough"
    except BaseException as error:  # noqa: BLE001  whatever it was, the child ends here
        told = str(error) or type(error).__name__
        answer = _BAD + told.encode(errors="replace")
    try:
        with os.fdopen(send, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _confine(parent: int, seconds: float, memory: int, namespaces: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(_FAILED)  # it died before it could take us along
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123  cheap
        file.write("1000")  # where memory lacks, this one goes first
    if namespaces and libc.unshare(namespaces):
        raise HostError(f"no namespaces here: {os.strerror(ctypes.get_errno())}")


def _read(receive: int, seconds: float) -> bytes | None:
    """Read to the end; None if nothing came in time: an answer is written all at once."""
    poll = select.poll()
    poll.register(receive, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return None
    answer = b""
    while len(answer) < _MOST:
        piece = os.read(receive, _PIECE)
        if not piece:
            break
        answer += piece
    return answer


def _ended(status: int, seconds: float) -> str:
    if not os.WIFSIGNALED(status):
        return "it ended without a word"
    number = os.WTERMSIG(status)
    if number == signal.SIGALRM:
        return _late(seconds)
    return f"it was ended by {signal.Signals(number).name}"


def _late(seconds: float) -> str:
    return f"it took more than {seconds:.0f} s"
