"""A private bus with a systemd and a logind by script, and the real daemon as a child."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from tests.unit.core.samples import boot_set
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.protection import Level, Protection
from trialboot.core.record import plain
from trialboot.core.trial import Choice, Decision
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers import store

HERE: Final = Path(__file__).parent
BOOT: Final = BootId("boot-now")
AT: Final = "2026-01-01T00:00:00Z"
SNAPSHOT, VERIFY, PIN, NODE, RENDER, KEEP_OBJECTS = (
    f"trialboot-{name}.service"
    for name in ("snapshot", "verify", "pin", "node", "render", "keep-objects")
)
GOOD, NEW, OLDER = (
    Choice(entry=EntryId(f"entry-{name}"), boot_set=boot_set(name))
    for name in ("good", "new", "older")
)
ARMED: Final = 'mode = "armed"\nnode.enabled = false\n'
OBSERVE: Final = 'mode = "observe"\nnode.enabled = false\n'
_PATIENCE: Final = 15.0
_T = TypeVar("_T")

_BUS: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen>
<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/>
<allow send_type="method_call"/><allow send_type="signal"/>
<allow receive_type="method_call"/><allow receive_type="signal"/>
<allow receive_type="error"/><allow receive_type="method_return"/></policy></busconfig>
"""


def wait_for(what: str, look: Callable[[], _T | None]) -> _T:
    """Look until there is something to see."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(OSError, ValueError):  # files come and go meanwhile
            found = look()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError(f"waited {_PATIENCE:.0f} s for {what}")


def record(value: object) -> str:
    """Give a record as the workers leave it."""
    return json.dumps({"format": store.FORMAT, "value": plain(value)})


def outlook(
    running: Choice | Unknown = GOOD,
    wanted: Choice | Unknown = GOOD,
    *,
    once: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Script a snapshot worker that sees this."""
    seen = Outlook(
        taken_at=AT,
        boot=BOOT,
        running=running,
        wanted=wanted,
        next_entry=EntryId("entry-good"),
        once_pending=once,
        protection=Protection(level=Level.FULL),
        **{"changes": (), "sentence": "The next boot changes nothing.", **more},
    )
    return {"files": {store.OUTLOOK: record(seen)}}


def judgement(outcome: Outcome, *reasons: str) -> dict[str, Any]:
    """Script a verify worker that judges so."""
    verdict = Verdict(outcome=outcome, reasons=reasons or (f"because {outcome}",))
    return {
        "files": {store.JUDGEMENT: record(Judgement(boot=BOOT, at=AT, verdict=verdict))},
    }


def failing(worker: str, why: str, kind: str = "LoaderError") -> dict[str, Any]:
    """Script a worker that leaves why it failed."""
    trouble = store.Trouble(kind=kind, why=why)
    return {"files": {store.trouble_of(worker): record(trouble)}, "result": "failed"}


@dataclass
class Machine:
    """A host with its private bus, its script, and its daemon."""

    root: Path
    address: str
    notify: socket.socket
    bus_daemon: subprocess.Popen[bytes]
    daemons: list[subprocess.Popen[str]] = field(default_factory=list)
    said: dict[int, Path] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host(root=self.root)

    def write(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.test")
        draft.write_text(text, encoding="utf-8")
        draft.replace(place)

    def script(self, **units: list[dict[str, Any]]) -> None:
        """Say what the starts of units do from now on; `snapshot`, `verify`, `Reboot`, ..."""
        known = json.loads((self.root / "script.json").read_text())
        for unit, steps in units.items():
            known[unit if unit == "Reboot" else f"trialboot-{unit}.service"] = steps
        self.write("/script.json", json.dumps(known))

    def remembers(self, decision: Decision) -> None:
        store.save_decision(self.host, decision)

    def configure(self, text: str) -> None:
        self.write("/etc/trialboot/trialboot.toml", text)

    def start(self) -> subprocess.Popen[str]:
        said = self.root / f"said-{len(self.daemons)}"
        with said.open("w") as file:
            daemon = subprocess.Popen(
                [sys.executable, HERE / "resident.py", self.root],
                env=self._environment(),
                stderr=file,
                text=True,
            )
        self.daemons.append(daemon)
        self.said[daemon.pid] = said
        return daemon

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DBUS_SYSTEM_BUS_ADDRESS": self.address,
            "NOTIFY_SOCKET": str(self.root / "notify"),
        }

    def runs(self) -> subprocess.Popen[str]:
        """Start the daemon and wait until it has judged this boot and come to rest."""
        daemon = self.start()
        wait_for("the first verdict", lambda: self.state()["verdict"])
        self.rests()
        return daemon

    def rests(self) -> None:
        """Wait until nothing more is asked of systemd for a while."""

        def quiet() -> bool:
            self.heard()
            before = len(self.calls())
            time.sleep(0.4)
            return len(self.calls()) == before

        wait_for("rest", quiet)

    def ends(self, daemon: subprocess.Popen[str]) -> tuple[int, str]:
        code = daemon.wait(_PATIENCE)
        return code, self.said[daemon.pid].read_text()

    def ask(self, member: str) -> Any:
        """Call a method of the daemon."""
        return self._call("org.trialboot1", "/org/trialboot1", member)

    def restart(self, unit: str) -> None:
        """Have somebody else start a unit, as an upgrade of its package does."""
        systemd = "org.freedesktop.systemd1"
        self._call(systemd, "/org/freedesktop/systemd1", "StartUnit", unit, "replace")

    def _call(self, name: str, path: str, member: str, *arguments: str) -> Any:
        import dbus  # noqa: PLC0415  only here: what has no bus is skipped before

        connection = dbus.bus.BusConnection(self.address)
        try:
            target = connection.get_object(name, path, introspect=False)
            call = target.get_dbus_method(member, f"{name}.Manager")
            return call(*arguments, timeout=_PATIENCE)
        except dbus.exceptions.DBusException as error:
            raise HostError(f"{member}: {error.get_dbus_message()}") from error
        finally:
            connection.close()

    def later(self, seconds: float) -> None:
        """Let the daemon's clock run ahead, and wake it."""
        self.write("/ahead", str(float((self.root / "ahead").read_text()) + seconds))
        self.ask("Status")

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "run/trialboot/state.json").read_text())
        return found

    def decision(self) -> Decision:
        return store.load_decision(self.host)

    def calls(self) -> list[dict[str, Any]]:
        # A line that is still being written has no end yet.
        lines, _, _ = (self.root / "calls.jsonl").read_text().rpartition("\n")
        return [json.loads(line) for line in lines.splitlines()]

    def starts(self, unit: str) -> list[dict[str, Any]]:
        """Give the starts of a unit, each with the decision that was on disk then."""
        return [call for call in self.calls() if call.get("unit") == unit]

    def reboots(self) -> list[dict[str, Any]]:
        return [call for call in self.calls() if call["call"] == "Reboot"]

    def heard(self) -> list[str]:
        """Give what the supervisor was told so far. Nobody listens: the daemon waits after ten."""
        with suppress(BlockingIOError):
            while True:
                self.told.append(self.notify.recv(4096).decode())
        return self.told


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a short path that other users may enter: sockets need both."""
    made = Path(tempfile.mkdtemp(prefix="trialboot-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def bus_daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    for program in ("dbus-daemon", "setpriv"):
        if not shutil.which(program):
            pytest.skip(f"no {program} here")
    pytest.importorskip("dbus")
    with private_bus(folder) as daemon:
        yield daemon


@contextmanager
def private_bus(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a bus of its own, with its socket in the folder."""
    (folder / "bus.conf").write_text(_BUS.format(socket=folder / "bus"))
    argv = ["setpriv", "--pdeathsig", "KILL", "dbus-daemon", "--nofork", "--nopidfile"]
    with (folder / "bus.log").open("w") as log:
        daemon = subprocess.Popen([*argv, f"--config-file={folder / 'bus.conf'}"], stderr=log)
    wait_for("the bus", (folder / "bus").exists)
    yield daemon
    daemon.kill()
    daemon.wait()


@pytest.fixture
def machine(folder: Path, bus_daemon: subprocess.Popen[bytes]) -> Iterator[Machine]:
    with new_machine(folder, bus_daemon) as made:
        yield made


@contextmanager
def new_machine(folder: Path, bus_daemon: subprocess.Popen[bytes]) -> Iterator[Machine]:
    """Make a host on a private bus, with the script that plays its systemd and its logind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        notify.bind(str(folder / "notify"))
        made = Machine(folder, f"unix:path={folder / 'bus'}", notify, bus_daemon)
        made.write("/proc/sys/kernel/random/boot_id", f"{BOOT}\n")
        made.write("/proc/uptime", "500.00 900.00\n")
        made.write("/ahead", "0")
        made.write("/units.json", "{}")
        made.write("/script.json", "{}")
        for place in ("run/trialboot", "var/lib/trialboot/spool"):
            (folder / place).mkdir(parents=True)
        made.configure(ARMED)
        made.script(snapshot=[outlook()], verify=[judgement(Outcome.SOUND)])
        systemd = subprocess.Popen(
            [sys.executable, HERE / "supervisor.py", made.address, folder], env=made._environment()
        )
        wait_for("systemd", (folder / "calls.jsonl").exists)
        yield made
        for daemon in made.daemons:
            daemon.kill()
            daemon.wait()
        systemd.kill()
        systemd.wait()
