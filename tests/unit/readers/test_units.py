"""Services as systemd tells of them, and what their logs say the kernel refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from trialboot.core.facts import Unit, UnitState, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.units import parse_unit, read_refusals, read_units

SIGNS = re.compile("refused")


@dataclass
class Systemd:
    """Answers LoadUnit, ActiveState and the service's properties."""

    states: Mapping[str, str]
    restarts: Mapping[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def __call__(self, _name: str, path: str, _interface: str, member: str, *words: Any) -> Any:
        self.calls.append(member)
        unit = path.removeprefix("/unit/")
        match member:
            case "LoadUnit":
                return f"/unit/{words[0]}"
            case "Get":
                assert words == ("org.freedesktop.systemd1.Unit", "ActiveState")
                return self.states.get(unit, "inactive")
            case "GetAll":
                assert words == ("org.freedesktop.systemd1.Service",)
                return {"NRestarts": self.restarts.get(unit, 0), "MainPID": 1}
            case _:
                raise AssertionError(member)


def unit(name: str, state: UnitState, restarts: int = 0) -> Unit:
    return Unit(name=name, state=state, restarts=restarts)


def test_services_are_asked_for_one_by_one_in_the_operators_order() -> None:
    systemd = Systemd({"b.service": "active", "a.service": "failed"}, {"a.service": 7})
    assert read_units(Host(call=systemd), ("b.service", "a.service", "c.service")) == (
        unit("b.service", UnitState.ACTIVE),
        unit("a.service", UnitState.FAILED, 7),
        unit("c.service", UnitState.INACTIVE),
    )


def test_what_is_no_service_is_not_asked_for_restarts() -> None:
    systemd = Systemd({"a.mount": "active"})
    assert read_units(Host(call=systemd), ("a.mount",)) == (unit("a.mount", UnitState.ACTIVE),)
    assert "GetAll" not in systemd.calls


def test_without_names_nobody_is_asked() -> None:
    systemd = Systemd({})
    assert read_units(Host(call=systemd), ()) == ()
    assert systemd.calls == []


def test_a_bus_that_refuses_makes_all_units_unknown() -> None:
    def away(*_: Any) -> Any:
        raise HostError("org.freedesktop.systemd1 LoadUnit: connection refused")

    assert read_units(Host(call=away), ("a.service",)) == Unknown(
        "org.freedesktop.systemd1 LoadUnit: connection refused"
    )


@pytest.mark.parametrize("state", UnitState)
def test_every_state_is_understood(state: UnitState) -> None:
    assert parse_unit("a", str(state), {}).state is state


def test_a_state_of_a_newer_systemd_is_not_taken_for_active() -> None:
    assert parse_unit("a", "dreaming", {}) == unit("a", UnitState.MAINTENANCE)


@dataclass
class Journal:
    logs: Mapping[str, str]
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], **_: Any) -> str:
        self.asked.append(list(argv))
        name = next(word for word in argv if word.startswith("--unit="))[7:]
        if name not in self.logs:
            raise HostError("no journal")
        return self.logs[name]


def refusals(names: Sequence[str], **logs: str) -> tuple[str, ...]:
    return read_refusals(Host(run=Journal(logs)), names, SIGNS)


def test_only_lines_with_a_sign_count_newest_first() -> None:
    assert refusals(["a"], a="refused 1\nall well\n  refused 2  \n") == ("refused 2", "refused 1")


def test_repeated_lines_count_once_and_three_are_enough() -> None:
    log = "".join(f"refused {number}\nrefused 9\n" for number in range(5))
    assert refusals(["a"], a=log) == ("refused 9", "refused 4", "refused 3")


def test_a_journal_that_cannot_be_read_is_no_evidence_and_hides_no_other() -> None:
    assert refusals(["gone", "a"], a="refused\n") == ("refused",)
    assert refusals(["gone"]) == ()


def test_only_this_boot_is_asked_for() -> None:
    journal = Journal({"a": ""})
    read_refusals(Host(run=journal), ["a"], SIGNS)
    assert journal.asked[0][:3] == ["journalctl", "--boot", "--unit=a"]
