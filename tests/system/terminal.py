"""Runs a program at a terminal, waits for what it says, and kills one of its processes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.vm.errors import CommandFailed

_MOST_AT_ONCE = 65536


class Terminal:
    """A running program whose terminal we hold. Leaving the block kills it."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.said = ""
        try:
            self.process = subprocess.Popen(
                words,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def __enter__(self) -> Terminal:  # noqa: PYI034  Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait until the program has said a text."""
        end = time.monotonic() + timeout
        while text not in self.said:
            if not self._listen(end):
                raise CommandFailed(f"never said «{text}» but:\n{self.said}")

    def wait(self, timeout: float = 60) -> int:
        """Wait for the program's end and give its exit code."""
        end = time.monotonic() + timeout
        while self._listen(end):
            pass
        try:
            return self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired as slow:
            raise CommandFailed(f"still runs after {timeout:.0f} s:\n{self.said}") from slow

    def type(self, keys: str) -> None:
        """Type at the terminal; \\x03 is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def kill(self, name: str) -> None:
        """Kill the program's topmost process of a name, as kill -9 does."""
        for pid in _below(self.process.pid):
            if _name(pid) == name:
                os.kill(pid, signal.SIGKILL)
                return
        raise CommandFailed(f"no process {name} is running; said:\n{self.said}")

    def _listen(self, end: float) -> bool:
        """Take in what is said next; False after the end, of the time or of the program."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return False
        try:
            said = os.read(self._ours, _MOST_AT_ONCE)
        except OSError:
            # The last program closed its side.
            return False
        self.said += said.decode(errors="replace").replace("\r\n", "\n")
        return bool(said)


def _below(pid: int) -> Iterator[int]:
    """Give all processes below one, a parent before its children."""
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
