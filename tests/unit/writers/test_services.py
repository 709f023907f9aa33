"""A worker starts another service and waits for its end, as long as that takes and no longer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers.services import is_systemd_here, run_unit

UNIT = "trialboot-prove.service"


@dataclass
class Systemd:
    """A manager whose jobs last for a while."""

    lasts: float = 0.0
    result: str = "success"
    clock: float = 0.0
    until: float = 0.0
    called: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host(call=self._call, sleep=self._sleep, monotonic=lambda: self.clock)

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds

    def _call(self, name: str, path: str, interface: str, member: str, *words: Any) -> Any:
        assert name == "org.freedesktop.systemd1"
        if interface.endswith(".Manager"):
            self.called.append((member, *words))
        match member, words:
            case "StartUnit", (str(), "replace"):
                self.until = self.clock + self.lasts
                return "/job/7"
            case "LoadUnit", (unit,):
                return f"/unit/{unit}"
            case "Get", ("org.freedesktop.systemd1.Unit", "Job"):
                assert path == f"/unit/{UNIT}"
                return (7, "/job/7") if self.clock < self.until else (0, "/")
            case "Get", ("org.freedesktop.systemd1.Service", "Result"):
                return self.result
            case "StopUnit", _:
                return "/job/8"
            case _:
                raise AssertionError(member, words)


@pytest.mark.parametrize(("lasts", "result"), [(0, "success"), (9, "exit-code"), (30, "timeout")])
def test_a_service_is_waited_for_and_its_result_given(lasts: float, result: str) -> None:
    systemd = Systemd(lasts=lasts, result=result)
    assert run_unit(systemd.host, UNIT, 60) == result
    assert lasts <= systemd.clock <= lasts + 1
    assert systemd.called == [("StartUnit", UNIT, "replace"), ("LoadUnit", UNIT)]


def test_a_service_without_end_is_stopped() -> None:
    systemd = Systemd(lasts=1e9)
    with pytest.raises(HostError, match=r"^trialboot-prove\.service did not end within 60 s$"):
        run_unit(systemd.host, UNIT, 60)
    assert systemd.called[-1] == ("StopUnit", UNIT, "replace")
    assert 60 <= systemd.clock <= 61


def test_a_systemd_that_refuses_is_told() -> None:
    def refuse(*_: Any) -> Any:
        raise HostError("org.freedesktop.systemd1 StartUnit: Unit not found.")

    with pytest.raises(HostError, match=r"Unit not found\.$"):
        run_unit(Host(call=refuse), UNIT, 60)


def test_systemd_is_told_by_its_folder(tmp_path: Path) -> None:
    assert not is_systemd_here(Host(root=tmp_path))
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert is_systemd_here(Host(root=tmp_path))
