"""Machines with a real systemd, without a virtual machine: systemd-nspawn boots a Debian root."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.system.controlgroup import ControlGroup
from tests.system.roots import ENVIRONMENT
from tests.vm import command
from tests.vm.errors import CommandFailed, InfrastructureError
from trialboot.core.facts import BootId

# A container that asks nspawn for a reboot makes it end with this code.
_REBOOT = 133
_STARTED = ("running\n", "degraded\n")
_VERIFICATION = "trialboot-verify.service"
_BUS = "run/dbus/system_bus_socket"
# What is started is unshare; below it, each the only child of the one before:
_CHAIN = ("sh", "systemd-nspawn", "the container's first process")
_RUNTIME = Path("/run/systemd/nspawn")
# What nspawn keeps from containers and a host has: the call, and the rights that go with it.
BPF = ("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN")


def require() -> None:
    """Skip the test, saying why, where no container can be booted."""
    for program in ("systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: packaging/set-up installs it")


class Machine:
    """One container with systemd as its first process; give it a root of its own.

    It has a network namespace with nothing but a loopback, and the kernel of this machine; of that
    kernel's eBPF it sees all where it may call bpf(2).
    """

    def __init__(self, place: Path, folder: Path, *, may_bpf: bool = False) -> None:
        require()
        self.place = place
        self._powers = BPF if may_bpf else ()
        self.log = folder / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._group = ControlGroup()

    def __enter__(self) -> Machine:  # noqa: PYI034  Self came with Python 3.11
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._group.remove()

    def start(self, timeout: float = 180) -> None:
        """Boot, and wait until systemd has nothing left to start. A boot takes about 2 s.

        A verification may be under way still: it takes minutes, and where it began before the
        last other job had ended, systemd calls itself «starting» until it ends.
        """
        end = time.monotonic() + timeout
        self.begin(timeout)
        # Asked anew each time: «--wait» can miss the end of a start that it was told of too early.
        while self.try_run(("systemctl", "is-system-running"), timeout=10)[1] not in _STARTED:
            code, jobs = self.try_run(("systemctl", "list-jobs", "--no-legend"), timeout=10)
            if code == 0 and _units(jobs) == {_VERIFICATION}:
                return
            if time.monotonic() > end:
                raise CommandFailed(f"still starting after {timeout:.0f} s:\n{jobs}")
            time.sleep(0.1)

    def begin(self, timeout: float = 180) -> None:
        """Boot, and wait no longer than for the bus: jobs may be waiting still."""
        self._launch()
        self._leader = self._wait_for_bus(time.monotonic() + timeout)

    def start_in_vain(self, timeout: float = 180) -> None:
        """Boot what goes down before its bus is there; wait until it asks for a reboot."""
        self._launch()
        self._wait_for_reboot("its start", timeout)

    def _launch(self) -> None:
        _make_reboots_possible()
        nspawn = (
            *("systemd-nspawn", f"--directory={self.place}", "--boot", "--register=no"),
            # The console of a machine that reads nothing; its name shows in no list.
            *("--keep-unit", "--private-network", "--machine=node-a", "--console=pipe"),
            *self._powers,
        )
        # systemd 258 and newer want this of a host that still has the old control groups.
        unified = "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"
        # A process namespace around it: killing the container's manager would spare its processes.
        fence = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child=KILL")
        inside = ("sh", "-c", '"$@"; exit $?', "sh", "env", unified, *nspawn)
        words = self._group.words((*fence, *inside))
        self._nspawn = command.start(words, self.log)

    def stop(self) -> None:
        """Cut the power."""
        if self._nspawn:
            # All that runs in it ends with it: see the fence.
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn = None

    def reboot(self, how: Sequence[str] = ("systemctl", "reboot"), timeout: float = 90) -> None:
        """Reboot by a command inside, and wait for the next boot."""
        assert self._nspawn, "not started"
        self.run(how, fine=(0, 1, -9, 137))
        self._wait_for_reboot(" ".join(how), timeout)
        self.start()

    def _wait_for_reboot(self, after: str, timeout: float) -> None:
        assert self._nspawn, "not started"
        if not command.ended(self._nspawn, timeout):
            raise CommandFailed(f"still up {timeout:.0f} s after {after}: read {self.log}")
        if self._nspawn.returncode != _REBOOT:
            code = self._nspawn.returncode
            raise CommandFailed(f"ended with {code} instead of a reboot: read {self.log}")

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        fine: Sequence[int] = (0,),
    ) -> str:
        """Run a command inside and return what it said on both streams.

        Raises CommandFailed if it ends with another code than those that are fine, or takes more
        seconds than given.
        """
        code, said = self.try_run(argv, timeout=timeout, environment=environment, stdin=stdin)
        if code not in fine:
            raise CommandFailed(f"{' '.join(argv)} ended with {code}:\n{said}")
        return said

    def try_run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> tuple[int, str]:
        """Do as :meth:`run` does, but give the exit code whatever it is, and what was said."""
        # nsenter stops, and would stay so, if the machine reboots under it: only KILL ends that.
        words = ("timeout", "--signal=KILL", str(timeout), *self.words(argv, environment))
        done = subprocess.run(
            words,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout + 10,
            check=False,
        )
        return done.returncode, done.stdout

    def words(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> list[str]:
        """Give the words that run a command inside."""
        return [
            *("nsenter", "--target", str(self._leader), "--mount", "--uts", "--ipc", "--net"),
            *("--pid", "--cgroup", "--root", "--wd", "env", "--ignore-environment"),
            *_pairs({**ENVIRONMENT, **(environment or {})}),
            *argv,
        ]

    def wait_for(self, argv: Sequence[str], text: str, timeout: float = 30) -> str:
        """Repeat a command until it says a text, whatever its exit code."""
        end = time.monotonic() + timeout
        while True:
            # A systemd that executes itself anew can leave one who asked it just then waiting.
            _, said = self.try_run(argv, timeout=10)
            if text in said:
                return said
            if time.monotonic() > end:
                raise CommandFailed(f"{' '.join(argv)} never said «{text}», at last:\n{said}")
            time.sleep(0.2)

    def boot_id(self) -> BootId:
        """Give the boot that protected services of it are in.

        nspawn lays an id of its own over the kernel's; systemd 252 mounts a fresh /proc for them.
        """
        protected = ("systemd-run", "--quiet", "--wait", "--pipe", "-p", "ProtectKernelTunables=1")
        return BootId(self.run((*protected, "cat", "/proc/sys/kernel/random/boot_id")).strip())

    def inside(self) -> Path:
        """Where the files of the running machine are seen, those in /run too."""
        return Path(f"/proc/{self._leader}/root")

    def _wait_for_bus(self, end: float) -> int:
        assert self._nspawn, "not started"
        while self._nspawn.poll() is None and time.monotonic() < end:
            leader = self._nspawn.pid
            for _ in _CHAIN:
                leader = _only_child(leader)
            if leader and Path(f"/proc/{leader}/root/{_BUS}").exists():
                return leader
            time.sleep(0.05)
        code = self._nspawn.poll()
        self.stop()
        tail = self.log.read_text(errors="replace")[-2000:]
        raise InfrastructureError(f"the container did not come up ({code}):\n{tail}")


def _units(jobs: str) -> set[str]:
    """Name the units in what «systemctl list-jobs --no-legend» says."""
    return {line.split()[1] for line in jobs.splitlines()}


def _make_reboots_possible() -> None:
    """Give nspawn's folder a tmpfs where /run is on a disk: it refuses a second start there."""
    _RUNTIME.mkdir(parents=True, exist_ok=True)
    kind = command.output("stat", "--file-system", "--format=%T", _RUNTIME).strip()
    if kind != "tmpfs":
        command.output("mount", "-t", "tmpfs", "tmpfs", _RUNTIME)


def _only_child(pid: int) -> int:
    """Give the first child of a process, or 0: for 0, too, and for one that is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def _pairs(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]
