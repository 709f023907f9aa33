"""The one door to the machine: root folder, commands, system bus, clock.

Everything that reads or changes a host goes through a `Host`, so that tests hand in another door
instead of patching modules.
"""

import ctypes
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from trialboot.errors import HostError

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run_command(argv: Sequence[str], *, timeout: float = 120.0) -> str:
    """Run a command to its end and give its standard output.

    `timeout` is in seconds. Raises `HostError` with the command as one could paste it, and the
    last line it wrote to standard error.
    """
    import subprocess  # noqa: PLC0415  0.3 MiB that the daemon, which runs nothing, does without

    environment = {"PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
    try:
        done = subprocess.run(
            list(argv),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
        told = f": {last[0]}" if last else ""
        raise HostError(f"«{' '.join(argv)}» ended with {error.returncode}{told}") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"«{' '.join(argv)}» took more than {timeout:.0f} s") from error
    except OSError as error:
        raise HostError(f"«{' '.join(argv)}» cannot be started: {error.strerror}") from error
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended that somebody else wrote."""

    code: int | None
    """Its exit code; negative is the signal that ended it; None: its time was over."""
    output: bytes
    """The last bytes that it wrote, to either stream."""
    seconds: float


_PULSE: Final = 0.05  # seconds between two looks at whether it has ended
_PIPE: Final = 1 << 16
_AFTERWARDS: Final = 16  # pipes full that are read after its end: somebody may still be writing
_DYING: Final = 2.0  # seconds: who does not even end when killed hangs in the kernel


def run_check(
    argv: Sequence[str], *, seconds: float, most_bytes: int, environment: Mapping[str, str]
) -> Ran:
    """Run a program to its end, at most `seconds`, whatever it does; `environment` is added.

    What is waited for is the program and not its output, which it may close early, or leave open
    to a child that outlives it. What is left of its process group is killed. Raises `HostError` if
    it cannot be started.
    """
    began = time.monotonic()
    process = _start(argv, environment)
    with process.stdout:
        output = _Output(process.stdout.fileno(), most_bytes)
        ended = False
        while not ended and time.monotonic() < began + seconds:
            output.wait(_PULSE)
            ended = _has_ended(process.pid)
        _kill_group(process)
        for _ in range(_AFTERWARDS):
            if not output.wait(0):
                break
    code = process.returncode if ended else None
    return Ran(code=code, output=output.last, seconds=time.monotonic() - began)


def _start(argv: Sequence[str], environment: Mapping[str, str]) -> Any:
    import subprocess  # noqa: PLC0415  see run_command

    try:
        return subprocess.Popen(
            list(argv),
            env={"PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise HostError(f"cannot be started: {error.strerror}") from error


def _has_ended(pid: int) -> bool:
    """Look without reaping: until it is reaped, nobody else can have its number."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: Any) -> None:
    import subprocess  # noqa: PLC0415  see run_command

    os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_DYING)


class _Output:
    """The last bytes of a pipe, which is waited for no longer than asked."""

    def __init__(self, pipe: int, most_bytes: int) -> None:
        self._pipe = pipe
        self._most = most_bytes
        self._open = True
        self.last = b""

    def wait(self, seconds: float) -> bool:
        """Read once, within so many seconds; tell whether anything came."""
        if not self._open:
            time.sleep(seconds)
            return False
        if not select.select([self._pipe], [], [], seconds)[0]:
            return False
        some = os.read(self._pipe, _PIPE)
        self._open = bool(some)
        self.last = (self.last + some)[-self._most :]
        return self._open


def call_bus(
    name: str,
    path: str,
    interface: str,
    member: str,
    *arguments: Any,
    timeout: float = 25.0,
) -> Any:
    """Call a method on the system bus. Raises `HostError` with the bus's own words."""
    import dbus  # noqa: PLC0415  costs 4 MiB and 25 ms: only who calls the bus pays

    try:
        bus = dbus.SystemBus()
        target = bus.get_object(name, path, introspect=False)
        return target.get_dbus_method(member, interface)(*arguments, timeout=timeout)
    except dbus.exceptions.DBusException as error:
        raise HostError(f"{name} {member}: {error.get_dbus_message()}") from error


def utc_now() -> datetime:
    """Give the wall clock, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Host:
    """The machine we run on, or a folder that looks like one."""

    root: Path = Path("/")
    run: Callable[..., str] = run_command
    run_check: Callable[..., Ran] = run_check
    call: Callable[..., Any] = call_bus
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def path(self, absolute: str) -> Path:
        """Give the place of an absolute path of the host below our root."""
        return self.root / absolute.lstrip("/")

    def moment(self) -> str:
        """Give the time as all records have it: RFC 3339, UTC, whole seconds."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def read_text(self, absolute: str) -> str:
        """Read a text file. Raises `HostError` that names the file and why."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise HostError(f"{absolute}: {error.strerror}") from error

    def exists(self, absolute: str) -> bool:
        """Tell whether something is there (a dangling link is not). Raises `OSError`.

        A name that is too long for any file is not there: records may hold one.
        """
        try:
            return self.path(absolute).exists()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise


def write_durably(path: Path, content: bytes, *, mode: int | None = 0o600) -> None:
    """Replace a file so that a reader, and a power cut, see the old or the new whole, never less.

    Draft in the same folder, fsync the file, rename over, fsync the folder: what a disk that obeys
    flushes can promise (borg's SaveFile says the same). Raises `OSError`, nothing lost: a full
    disk leaves the old file. Without a mode the file system decides: vfat has none to set.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200


def watch_folders(folders: Mapping[Path, int]) -> int:
    """Give a descriptor that is readable once something happened in one of the folders.

    The masks are those of inotify(7). A folder that is not there is left out; raises `HostError`
    where none can be watched.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    watched = descriptor >= 0 and [
        libc.inotify_add_watch(descriptor, os.fsencode(folder), mask) >= 0
        for folder, mask in folders.items()
    ]
    if not watched or not any(watched):
        told = ", ".join(str(folder) for folder in folders)
        raise HostError(f"{told} cannot be watched: {os.strerror(ctypes.get_errno())}")
    return int(descriptor)
