"""A cluster node under test: a machine with trialboot installed, and its API server."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from tests.fakes.apiserver import ApiServer, Request
from tests.fakes.pki import PKI
from tests.vm import hosts
from tests.vm.errors import AgentGone, CommandFailed, InfrastructureError
from tests.vm.hosts import BASE, Host
from tests.vm.image import Image, cache
from tests.vm.machine import Hardware, Machine

REPOSITORY = Path(__file__).resolve().parents[2]
NODE = "node-a"
STATE = "/run/trialboot/state.json"
RECORD = "/var/lib/trialboot/decision.json"
RECEIPT = "trialboot.io/cordoned"
KNOWN_GOOD = "trialboot-known-good"

# Short times: the guest is emulated, but a healthy one needs no more than this to settle.
CONFIG = """\
mode = "armed"

[verify]
minimum_settle_seconds = 20
settle_seconds = 8
deadline_seconds = 240
interval_seconds = 4
repeat_seconds = 600
units = ["testcni.service"]
"""

Say = Callable[[str], None]


class Node:
    """One node and its cluster."""

    def __init__(
        self,
        image: Image,
        folder: Path,
        backing: Path | None = None,
        hardware: Hardware = Hardware(),  # noqa: B008  frozen
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The guest's way to the API server is part of QEMU's command line: it listens first.
        self.api = ApiServer(PKI(image.pki), log_file=folder / "api.log")
        self.api.__enter__()
        self.api.add_node(NODE)
        self.machine = Machine(
            image, folder, backing=backing, api_port=self.api.port, hardware=hardware
        )
        self.folder = folder

    def __enter__(self) -> Node:  # noqa: PYI034  Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.machine.__exit__(None, None, None)
        self.api.__exit__(None, None, None)

    # --- what the guest says

    def start(self, kernel: str | None = None) -> str:
        """Switch on and wait for the agent; give the boot id."""
        self.machine.start(kernel)
        self.machine.wait_agent()
        return self.machine.boot_id()

    def release(self) -> str:
        return self.machine.exec("uname -r").stdout.strip()

    def command_line(self) -> str:
        return self.machine.read("/proc/cmdline").strip()

    def state(self) -> dict[str, Any]:
        """The state file that people and tools read."""
        state: dict[str, Any] = json.loads(self.machine.read(STATE))
        return state

    def record(self) -> dict[str, Any]:
        """The decision on disk."""
        record: dict[str, Any] = json.loads(self.machine.read(RECORD))["value"]
        return record

    def trialboot(self, words: str, *, check: bool = True) -> str:
        return self.machine.exec(f"trialboot {words}", check=check).stdout.strip()

    def grubenv(self) -> dict[str, str]:
        """The environment block, as GRUB's own tool reads it."""
        lines = self.machine.exec("grub-editenv /boot/grub/grubenv list").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def known_good_entry(self) -> dict[str, str]:
        """What GRUB's known-good entry is made from."""
        text = self.machine.read("/boot/trialboot/known-good.sh")
        words = [word for word in shlex.split(text, comments=True) if "=" in word]
        return dict(word.split("=", 1) for word in words)

    def default_release(self) -> str:
        """The release that GRUB's persistent default boots, from the loader's own files."""
        assert self.grubenv()["saved_entry"] == KNOWN_GOOD
        return self.known_good_entry()["RELEASE"]

    def once_kernel(self) -> str:
        """The kernel that GRUB's one-shot starts, by the loader's own files; empty without one."""
        entry = self.grubenv().get("next_entry", "")
        if not entry:
            return ""
        menu = self.machine.read("/boot/grub/grub.cfg")
        body = menu[menu.index(f"'{entry.rpartition('>')[2]}'") :]
        return re.search(r"^\s*linux\s+(\S+)", body, re.MULTILINE)[1]  # type: ignore[index]  # a match or a failed test

    def wait_state(
        self, what: str, good: Callable[[dict[str, Any]], bool], timeout: float = 240.0
    ) -> dict[str, Any]:
        """Wait until the state file of this boot is as wanted."""
        until = time.monotonic() + timeout
        state: dict[str, Any] = {}
        while time.monotonic() < until:
            try:
                state = self.state()
                if good(state):
                    return state
            except (AgentGone, CommandFailed, ValueError):
                pass  # not written yet, or the guest is on its way down
            if not self.machine.running():
                raise InfrastructureError(f"QEMU ended while waiting for: {what}")
            time.sleep(1)
        raise AssertionError(f"after {timeout:.0f} s not: {what}\n{self._evidence(state)}")

    def wait_phase(self, phase: str, timeout: float = 240.0) -> dict[str, Any]:
        return self.wait_state(
            f"phase {phase}", lambda state: bool(state["phase"] == phase), timeout
        )

    def wait_serial(self, text: str, timeout: float) -> None:
        """Wait until the serial console has said something."""
        until = time.monotonic() + timeout
        while text not in self.machine.serial():
            assert time.monotonic() < until, f"the console never said «{text}»"
            time.sleep(0.5)

    def wait_release(self, release: str, old_boot: str, timeout: float = 300.0) -> str:
        """Wait for another boot and check which kernel it runs; give its boot id."""
        boot = self.machine.wait_reboot(old_boot, timeout)
        self.assert_runs(release)
        return boot

    def assert_runs(self, release: str) -> None:
        """Check which kernel runs."""
        if self.release() != release:
            self.fail(f"{self.release()} runs, not {release}")

    def fail(self, why: str) -> NoReturn:
        """Fail the test, but for a kernel that the emulator itself broke: nobody's verdict.

        TCG with several threads may run code that another processor is patching: the kernel then
        dies of its own breakpoint, before any program runs. No story of ours does that.
        """
        said = self.machine.serial()
        if "Oops: int3" in said:
            raise InfrastructureError(f"the emulator broke the kernel: {said[-3000:]}")
        raise AssertionError(f"{why}\n{said[-3000:]}")

    def _evidence(self, state: dict[str, Any]) -> str:
        try:
            log = self.machine.exec(
                "systemctl --failed --no-legend; journalctl -b --no-pager -n 60 "
                "-u 'trialboot*' -u testcni",
                check=False,
            ).stdout
        except (AgentGone, CommandFailed) as error:
            log = f"the guest does not answer: {error}"
        return f"{json.dumps(state, indent=1)[:3000]}\n{log[-6000:]}"

    # --- what the cluster says

    def object(self) -> dict[str, Any]:
        """The Node as the API server has it."""
        node: dict[str, Any] = self.api.nodes[NODE]
        return node

    def is_cordoned(self) -> bool:
        return self.object()["spec"].get("unschedulable") is True

    def has_receipt(self) -> bool:
        return RECEIPT in (self.object()["metadata"].get("annotations") or {})

    def receipt(self) -> dict[str, Any]:
        """Our own mark on the Node."""
        receipt: dict[str, Any] = json.loads(self.object()["metadata"]["annotations"][RECEIPT])
        return receipt

    def condition(self) -> dict[str, Any] | None:
        found = [c for c in self.object()["status"]["conditions"] if c["type"] == "BootProven"]
        return found[0] if found else None

    def events(self, reason: str) -> list[dict[str, Any]]:
        return [e for e in self.api.events if e["reason"] == reason]

    def writes(self) -> list[Request]:
        return [r for r in self.api.log if r.method in {"PATCH", "POST"} and r.status < 300]

    def wait_cluster(self, what: str, good: Callable[[], bool], timeout: float = 90.0) -> None:
        """Wait until the API server holds what is wanted."""
        until = time.monotonic() + timeout
        while not good():
            if time.monotonic() > until:
                seen = "\n".join(f"{r.method} {r.path} {r.status}" for r in self.api.log[-30:])
                raise AssertionError(f"the API server never saw: {what}\n{seen}\n{self.object()}")
            time.sleep(0.5)

    # --- doing

    def install(self, words: str) -> str:
        """apt-get install, as an administrator types it."""
        line = f"DEBIAN_FRONTEND=noninteractive apt-get install -y {words}"
        return self.machine.exec(line, timeout=900).stdout

    def reboot(self) -> str:
        """Ask for a reboot and do not wait for it; give the boot id that is left."""
        before = self.machine.boot_id()
        with suppress(AgentGone, CommandFailed):  # the answer may never come
            self.machine.exec("systemctl --no-block reboot", check=False)
        return before


# --- the package, and the disk that all stories begin with ---------------------------------------


def build_package(into: Path) -> Path:
    """Build the .deb from this checkout."""
    done = subprocess.run(
        [str(REPOSITORY / "packaging" / "build-deb"), str(into)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InfrastructureError(f"the package does not build:\n{done.stderr[-3000:]}")
    return Path(done.stdout.strip().splitlines()[-1])


def steady_disk(image: Image, package: Path, say: Say, host: Host = BASE) -> Path:
    """Give a disk with trialboot installed by apt, armed, and 6.12 earned as known-good.

    Kept in the cache under a key of all that made it: image, package, configuration, this file.
    """
    name = f"steady-{hosts.identity(host, image)}"
    return kept_disk(image, package, name, lambda to: _make_steady(image, package, to, say, host))


def kept_disk(
    image: Image, package: Path, name: str, make: Callable[[Path], None], recipe: str = ""
) -> Path:
    """Give the disk of this name for this image and package, made now where it is not kept.

    What made it besides this file is in ``recipe``.
    """
    parts = (
        image.disk.parent.name.encode(),
        package.read_bytes(),
        CONFIG.encode(),
        Path(__file__).read_bytes(),
    )
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = cache() / f"disks-{key}"
    _forget_old_disks(folder)
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    with _alone(folder / f"{name}.lock"):
        if not disk.exists():
            draft = folder / f"{name}.draft"
            # A machine that an interrupted run left behind must not be taken up again.
            shutil.rmtree(draft.with_suffix(".work"), ignore_errors=True)
            make(draft)
            shutil.rmtree(draft.with_suffix(".work"), ignore_errors=True)
            draft.rename(disk)
    return disk


def _forget_old_disks(present: Path) -> None:
    """Keep the disks of the last two builds; each is some hundred MiB."""
    others = [f for f in cache().glob("disks-*") if f != present]
    for folder in sorted(others, key=lambda f: f.stat().st_mtime)[:-1]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_steady(image: Image, package: Path, to: Path, say: Say, host: Host) -> None:
    disks = hosts.disks(host, image)
    with Node(image, to.with_suffix(".work"), disks, host.hardware()) as node:
        say(f"booting the fresh Debian 12 machine: {host.told}")
        node.start()
        set_up(node, package, say)
        say("shutting it down: this disk is where each story begins")
        node.machine.power_off()
        node.machine.save(to)


def set_up(node: Node, package: Path, say: Say) -> None:
    """Install the package with apt, arm it, and wait until the running kernel is known-good."""
    say("installing the .deb with apt")
    node.machine.write("/root/trialboot.deb", package.read_bytes())
    node.install("/root/trialboot.deb")
    node.machine.write("/etc/trialboot/trialboot.toml", CONFIG)
    say("arming; the running kernel has to prove itself first")
    node.machine.exec("systemctl restart trialbootd.service")
    state = node.wait_state(
        "the running boot set is the pinned known-good",
        lambda s: bool(s["pinned"] and s["phase"] == "steady" and not s["cluster"]["waiting"]),
        timeout=400,
    )
    say(f"known-good: {state['known_good']['release']}")


def timeline(say: Callable[[str], None] | None = None) -> Say:
    """Give a function that prints a line with the seconds since now."""
    began = time.monotonic()
    out = say or (lambda line: print(line, file=sys.stderr, flush=True))
    return lambda text: out(f"[{time.monotonic() - began:4.0f} s] {text}")


def utc() -> str:
    return datetime.now(timezone.utc).strftime("%H:%M:%S")
