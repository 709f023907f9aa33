"""The daemon's loop: named timers, descriptors to wait for, and signals; it decides nothing."""

import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from trialboot.host import Host


class Loop:
    """Waits for whatever comes first; one thread, and no wake-up without a reason."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._timers: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        self._sockets: tuple[socket.socket, ...] = ()

    def watch(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call` whenever a descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def drain(self, descriptor: int, call: Callable[[], object]) -> None:
        """Do so for a non-blocking one of which only matters that there is something (inotify)."""

        def emptied() -> None:
            self.forget(descriptor)
            call()

        self.watch(descriptor, emptied)

    @staticmethod
    def forget(descriptor: int) -> None:
        """Let what has gathered on a drained descriptor call nobody."""
        with suppress(BlockingIOError):
            while os.read(descriptor, 65536):
                pass

    def watch_signals(self, calls: Mapping[signal.Signals, Callable[[], object]]) -> None:
        """Wake up for signals; the calls run between bytecodes and may only set something."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        self._sockets = (reading, writing)
        signal.set_wakeup_fd(writing.fileno())
        for number, call in calls.items():
            signal.signal(number, lambda *_, call=call: call())
        self.watch(reading.fileno(), lambda: reading.recv(64))

    def close(self) -> None:
        """Wait for nothing any more."""
        self._selector.close()
        for end in self._sockets:
            end.close()

    def set_timer(self, name: str, seconds: float) -> None:
        """Have `name` due after so many seconds, instead of when it was due before."""
        self._timers[name] = self._host.monotonic() + seconds

    def cancel(self, name: str) -> None:
        """Have a timer not due any more."""
        self._timers.pop(name, None)

    def is_set(self, name: str) -> bool:
        """Tell whether a timer waits."""
        return name in self._timers

    def take_due(self) -> list[str]:
        """Give the timers that are due, each once."""
        now = self._host.monotonic()
        due = [name for name, at in self._timers.items() if at <= now]
        for name in due:
            del self._timers[name]
        return due

    def sleep(self) -> None:
        """Wait for a descriptor or the next timer; then make the calls."""
        now = self._host.monotonic()
        waits = [at - now for at in self._timers.values()]
        self.wait(min(waits) if waits else None)

    def wait(self, seconds: float | None) -> None:
        """Wait for a descriptor at most so long, whatever timers are due; then make the calls."""
        for key, _ in self._selector.select(seconds if seconds is None else max(0.0, seconds)):
            key.data()
