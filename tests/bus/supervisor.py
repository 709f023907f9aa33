"""Plays systemd's manager and logind on a private bus, by a script, and writes down every call.

`python supervisor.py ADDRESS ROOT`. ROOT/script.json says, unit by unit, what each start does:
`[{"files": {"/path": "text"}, "deliver": false, "delay": 0.0, "result": "done"}, ...]`; the last
one repeats. ROOT/calls.jsonl gets a line a call, with the decision that was on disk at that time.
"""

import ctypes
import json
import select
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop

SYSTEMD: Final = "org.freedesktop.systemd1"
LOGIND: Final = "org.freedesktop.login1"
_PR_SET_PDEATHSIG: Final = 1
_TURN: Final = 0.02


@dataclass
class Script:
    """What the starts of units do."""

    root: Path
    starts: Counter[str] = field(default_factory=Counter)

    def step(self, unit: str) -> dict[str, Any]:
        steps = json.loads((self.root / "script.json").read_text()).get(unit) or [{}]
        found: dict[str, Any] = steps[min(self.starts[unit], len(steps) - 1)]
        self.starts[unit] += 1
        return found

    def perform(self, step: dict[str, Any]) -> str:
        for path, text in step.get("files", {}).items():
            place = self.root / path.lstrip("/")
            if text is None:
                place.unlink(missing_ok=True)
            else:
                self._put(place, text)
        if step.get("deliver"):
            self._deliver()
        return str(step.get("result", "done"))

    def _deliver(self) -> None:
        state = self.root / "var/lib/trialboot"
        wish = json.loads((state / "wish.json").read_text())["value"]
        value = {
            "is": "Delivered",
            "wish": wish,
            "cordoned": wish["cordoned"],
            "foreign": False,
            "notices": [notice["key"] for notice in wish["notices"]],
        }
        self._put(state / "delivered.json", json.dumps({"format": 1, "value": value}))

    def _put(self, place: Path, text: str) -> None:
        draft = place.with_name(f".{place.name}.script")
        draft.write_text(text, encoding="utf-8")
        draft.replace(place)

    def log(self, call: str, **more: Any) -> None:
        decision = self.root / "var/lib/trialboot/decision.json"
        found = json.loads(decision.read_text())["value"] if decision.exists() else None
        with (self.root / "calls.jsonl").open("a") as file:
            line = {"call": call, "at": time.monotonic(), **more, "decision": found}
            file.write(json.dumps(line) + "\n")


class Systemd(dbus.service.Object):  # type: ignore[misc]  # dbus-python has no types
    """The manager: jobs end after their step's delay, with its result."""

    def __init__(self, connection: Any, script: Script) -> None:
        super().__init__(connection, "/org/freedesktop/systemd1")
        self._script = script
        self._jobs: list[tuple[float, int, str, dict[str, Any]]] = []
        self._number = 0
        self._subscribed = False
        self._starting = False

    @dbus.service.method(f"{SYSTEMD}.Manager")  # type: ignore[untyped-decorator]
    def Subscribe(self) -> None:  # noqa: N802  D-Bus members are written so
        self._subscribed = True

    @dbus.service.method(f"{SYSTEMD}.Manager", "ss", "o")  # type: ignore[untyped-decorator]
    def StartUnit(self, unit: str, mode: str) -> str:  # noqa: N802
        assert mode == "replace"
        # A start of what is starting is that same job (`job_install`, systemd's src/core/job.c).
        if merged := self._job_of(str(unit)):
            self._script.log("Merged", started=str(unit))
            return merged
        self._script.log("StartUnit", unit=str(unit))
        step = self._script.step(str(unit))
        if step.get("refuse"):
            raise dbus.exceptions.DBusException(step["refuse"], name=f"{SYSTEMD}.NoSuchUnit")
        self._number += 1
        due = time.monotonic() + step.get("delay", 0.0)
        self._jobs.append((due, self._number, str(unit), step))
        return _path(self._number)

    @dbus.service.method(f"{SYSTEMD}.Manager", "as", "a(ssssssouso)")  # type: ignore[untyped-decorator]
    def ListUnitsByNames(self, names: list[str]) -> list[tuple[Any, ...]]:  # noqa: N802
        states = json.loads((self._script.root / "units.json").read_text())
        jobs = dict.fromkeys(states.get("starting", ()), "/1")
        found = {name: jobs.get(name) or self._job_of(str(name)) for name in names}
        return [
            (name, "", "loaded", *states.get(name, ["inactive", "dead"]), "", "/", *_job(job))
            for name, job in found.items()
        ]

    def _job_of(self, unit: str) -> str:
        return next((_path(number) for _, number, known, _ in self._jobs if known == unit), "")

    @dbus.service.method(dbus.PROPERTIES_IFACE, "ss", "v")  # type: ignore[untyped-decorator]
    def Get(self, interface: str, name: str) -> Any:  # noqa: N802
        assert (interface, name) == (f"{SYSTEMD}.Manager", "FinishTimestampMonotonic")
        return dbus.UInt64(0 if self._is_starting() else 9_000_000)

    def _is_starting(self) -> bool:
        return (self._script.root / "starting").exists()

    @dbus.service.signal(f"{SYSTEMD}.Manager", "tttttt")  # type: ignore[untyped-decorator]
    def StartupFinished(  # noqa: N802, PLR0917  as systemd has it
        self, firmware: int, loader: int, kernel: int, initrd: int, userspace: int, total: int
    ) -> None:
        """Tell that no job of the start is left."""

    def tell_of_the_start(self) -> None:
        """Tell once, when the file ROOT/starting has gone."""
        was, self._starting = self._starting, self._is_starting()
        if was and not self._starting and self._subscribed:
            self.StartupFinished(0, 0, 0, 3_000_000, 6_000_000, 9_000_000)

    @dbus.service.signal(f"{SYSTEMD}.Manager", "uoss")  # type: ignore[untyped-decorator]
    def JobRemoved(self, number: int, job: str, unit: str, result: str) -> None:  # noqa: N802
        """Tell that a job has ended."""

    def end_jobs(self) -> None:
        now = time.monotonic()
        due = [job for job in self._jobs if job[0] <= now]
        self._jobs = [job for job in self._jobs if job[0] > now]
        for _, number, unit, step in due:
            self._remove(number, unit, self._script.perform(step))
            if step.get("result") == "canceled":  # by the job that stops it, which ends in turn
                self._number += 1
                self._remove(self._number, unit, "done")

    def _remove(self, number: int, unit: str, result: str) -> None:
        if self._subscribed:
            self.JobRemoved(number, _path(number), unit, result)


def _job(path: str) -> tuple[int, str, str]:
    return (1, "start", path) if path else (0, "", "/")


def _path(number: int) -> str:
    return f"/org/freedesktop/systemd1/job/{number}"


class Logind(dbus.service.Object):  # type: ignore[misc]
    """Writes down that a reboot was asked for."""

    def __init__(self, connection: Any, script: Script) -> None:
        super().__init__(connection, "/org/freedesktop/login1")
        self._script = script
        self._going_down = False

    @dbus.service.method(dbus.PROPERTIES_IFACE, "ss", "v")  # type: ignore[untyped-decorator]
    def Get(self, interface: str, name: str) -> bool:  # noqa: N802
        assert (interface, name) == (f"{LOGIND}.Manager", "PreparingForShutdown")
        states = json.loads((self._script.root / "units.json").read_text())
        self._going_down = self._going_down and "called off" not in states
        return self._going_down or "logind" in states.get("starting", ())

    @dbus.service.method(f"{LOGIND}.Manager", "b")  # type: ignore[untyped-decorator]
    def Reboot(self, interactive: bool) -> None:  # noqa: N802, FBT001  as logind has it
        self._script.log("Reboot", interactive=bool(interactive))
        refused = self._script.step("Reboot").get("refuse")
        if refused:
            raise dbus.exceptions.DBusException(refused, name=f"{LOGIND}.OperationInProgress")
        self._going_down = True


def main(address: str, root: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    glib = ctypes.CDLL("libglib-2.0.so.0")
    glib.g_main_context_iteration.argtypes = (ctypes.c_void_p, ctypes.c_int)
    DBusGMainLoop(set_as_default=True)
    connection = dbus.bus.BusConnection(address)
    script = Script(root)
    systemd, _logind = Systemd(connection, script), Logind(connection, script)
    for name in (SYSTEMD, LOGIND):
        connection.request_name(name)
    (root / "calls.jsonl").touch()
    while True:
        while glib.g_main_context_iteration(None, 0):
            pass
        systemd.end_jobs()
        systemd.tell_of_the_start()
        connection.flush()
        select.select([connection.get_unix_fd()], [], [], _TURN)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
