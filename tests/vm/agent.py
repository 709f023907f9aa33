"""Speaks with the guest agent over its socket: what a guest does for a test passes here.

The guest may reboot between any two bytes. So every conversation starts by agreeing on a number
(``guest-sync-delimited``), which throws away answers that were meant for an earlier one.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.errors import AgentGone, CommandFailed

_DELIMITER = b"\xff"
# Under TCG a busy guest takes seconds for an answer; one that takes longer is not there.
_ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Completed:
    """A command that ran in the guest."""

    stdout: str
    stderr: str
    code: int


class Conversation:
    """One connection to the agent. Bytes in, answers out."""

    def __init__(self, path: Path, patience: float) -> None:
        self._patience = patience
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise AgentGone(f"no machine behind {path}: {error}") from error

    def close(self) -> None:
        """Leave the line free for the next."""
        self._socket.close()

    def synchronise(self) -> None:
        """Make sure that the next answer is to our next question."""
        number = random.getrandbits(32)
        self._send("guest-sync-delimited", {"id": number}, prefix=_DELIMITER)
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            self._line(_DELIMITER)
            if _answer(self._line(b"\n")) == number:
                return
        raise AgentGone("the agent answers other questions than ours")

    def ask(self, command: str, **arguments: object) -> Any:
        """Ask one question and return the answer; an error of the agent is a failed test."""
        self._send(command, arguments)
        reply = json.loads(self._line(b"\n"))
        if "error" in reply:
            raise CommandFailed(f"{command}: {reply['error'].get('desc')}")
        return reply["return"]

    def tell(self, command: str, **arguments: object) -> None:
        """Say something that gets no answer."""
        self._send(command, arguments)

    def _send(self, command: str, arguments: dict[str, Any], prefix: bytes = b"") -> None:
        question = json.dumps({"execute": command, "arguments": arguments}).encode()
        try:
            self._socket.sendall(prefix + question + b"\n")
        except OSError as error:
            raise AgentGone(f"{command}: {error}") from error

    def _line(self, end: bytes) -> bytes:
        until = time.monotonic() + self._patience
        while end not in self._received:
            if time.monotonic() > until:
                raise AgentGone("the agent stopped in the middle of an answer")
            self._receive()
        line, _, self._received = self._received.partition(end)
        return line

    def _receive(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except OSError as error:
            raise AgentGone(f"no answer within {self._patience:.0f} s") from error
        if not received:
            raise AgentGone("the machine closed the agent's line")
        self._received += received


def _answer(line: bytes) -> object:
    """What a line returns; None for the torn rest of an earlier conversation."""
    try:
        return json.loads(line).get("return")
    except (ValueError, AttributeError):
        return None


class Agent:
    """The guest agent behind a socket: runs commands and shuts down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def present(self, patience: float = 2.0) -> bool:
        """Say whether the agent answers right now."""
        try:
            with self._conversation(patience):
                return True
        except AgentGone:
            return False

    def shut_down(self) -> None:
        """Ask the guest to power itself off."""
        with self._conversation() as talk:
            talk.tell("guest-shutdown", mode="powerdown")

    def run(self, command: str, given: bytes, timeout: float) -> Completed:
        """Run a shell command in the guest to its end."""
        with self._conversation() as talk:
            job = talk.ask(
                "guest-exec",
                **{
                    "path": "/bin/sh",
                    "arg": ["-c", command],
                    "input-data": base64.b64encode(given).decode(),
                    "capture-output": True,
                },
            )["pid"]
            return _completed(_status(talk, job, command, timeout))

    @contextmanager
    def _conversation(self, patience: float = _ANSWER_SECONDS) -> Iterator[Conversation]:
        talk = Conversation(self._path, patience)
        try:
            talk.synchronise()
            yield talk
        finally:
            talk.close()


def _status(talk: Conversation, job: int, command: str, timeout: float) -> dict[str, Any]:
    until = time.monotonic() + timeout
    pause = 0.02
    while time.monotonic() < until:
        try:
            status: dict[str, Any] = talk.ask("guest-exec-status", pid=job)
        except CommandFailed as error:
            # Only an agent that was started anew does not know its own child.
            raise AgentGone(f"the guest restarted during: {command}") from error
        if status["exited"]:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    raise CommandFailed(f"still running after {timeout:.0f} s: {command}")


def _completed(status: dict[str, Any]) -> Completed:
    def text(key: str) -> str:
        return base64.b64decode(status.get(key, "")).decode(errors="replace")

    # A shell says 128 + N of a child that died by signal N; say it of the shell, too.
    code = status.get("exitcode", 128 + status.get("signal", 0))
    return Completed(text("out-data"), text("err-data"), code)
