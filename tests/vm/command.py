"""Spawns the programs of this machine that build and run guests: the only place that does."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TextIO

from tests.vm.errors import InfrastructureError

# What a recipe in the guest folder prints at the start of a line that is meant for people.
_SAID = ">> "


class Progress:
    """Tells a person at the terminal what a long step is doing, and keeps the whole log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        line = f"[{time.monotonic() - self._started:4.0f} s] {text}"
        print(line, flush=True)
        with self.log.open("a") as log:
            log.write(line + "\n")

    def run(self, *command: str | Path) -> None:
        """Run a command to its end; all it says goes to the log, its progress to the terminal."""
        require(str(command[0]))
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            self._relay(process.stdout, log)
        if process.returncode:
            raise InfrastructureError(
                f"{command[0]} failed ({process.returncode}); read the end of {self.log}",
            )

    def _relay(self, output: IO[str] | None, log: TextIO) -> None:
        for line in output or ():
            log.write(line)
            log.flush()
            if line.startswith(_SAID):
                self.say(line.removeprefix(_SAID).strip())


def require(program: str) -> None:
    """Refuse to go on without a program, naming it."""
    if shutil.which(program) is None:
        raise InfrastructureError(f"{program} is missing: install the package that has it")


def output(*command: str | Path, timeout: float = 60) -> str:
    """Run a short command and return what it printed."""
    require(str(command[0]))
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words,
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise InfrastructureError(f"{' '.join(words)}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"{words[0]} took more than {timeout:.0f} s") from error


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that stays, its own output kept in a file.

    It ends with the thread that started it, so that a killed test run leaves no machine behind.
    """
    require(command[0])
    leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*leash, *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )


def ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for a program's end; False when it is still running."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True
