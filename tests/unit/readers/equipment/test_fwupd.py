"""fwupd is asked only where it runs already, and only what waits is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Device
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.equipment.fwupd import parse_pending, read_pending

ROWS = [
    {"Name": "System Firmware", "Version": "1.2", "UpdateState": 4, "UpdateVersion": "1.3"},
    {"Name": "Dock", "Version": "7", "UpdateState": 1},
    {"Name": "SSD", "Version": "3", "UpdateState": 2},
    {"Name": "Camera", "Version": "9"},
]
WAITING = (
    Device(kind="fwupd", name="Dock", running="7", stored="an update"),
    Device(kind="fwupd", name="System Firmware", running="1.2", stored="1.3"),
)


class Bus:
    """A system bus on which fwupd has its name, or has not."""

    def __init__(self, *, owned: bool, rows: Any = ()) -> None:
        self.owned = owned
        self.rows = rows
        self.asked: list[str] = []

    def call(self, name: str, _path: str, _interface: str, member: str, *words: str) -> Any:
        self.asked.append(f"{name} {member} {' '.join(words)}".strip())
        if member == "NameHasOwner":
            return self.owned
        if isinstance(self.rows, HostError):
            raise self.rows
        return self.rows


def host(root: Path, bus: Bus) -> Host:
    (root / "run/dbus").mkdir(parents=True)
    (root / "run/dbus/system_bus_socket").touch()
    return Host(root=root, call=bus.call)


def test_what_waits_for_the_next_start_is_told(tmp_path: Path) -> None:
    bus = Bus(owned=True, rows=ROWS)
    assert read_pending(host(tmp_path, bus)) == (WAITING, ())
    assert bus.asked == [
        "org.freedesktop.DBus NameHasOwner org.freedesktop.fwupd",
        "org.freedesktop.fwupd GetDevices",
    ]


def test_fwupd_is_never_started_for_this(tmp_path: Path) -> None:
    bus = Bus(owned=False, rows=ROWS)
    assert read_pending(host(tmp_path, bus)) == ((), ())
    assert bus.asked == ["org.freedesktop.DBus NameHasOwner org.freedesktop.fwupd"]


def test_a_host_without_a_bus_is_not_asked(tmp_path: Path) -> None:
    bus = Bus(owned=True, rows=ROWS)
    assert read_pending(Host(root=tmp_path, call=bus.call)) == ((), ())
    assert bus.asked == []


def test_an_answer_that_does_not_come_is_a_sentence(tmp_path: Path) -> None:
    bus = Bus(owned=True, rows=HostError("org.freedesktop.fwupd GetDevices: no reply"))
    assert read_pending(host(tmp_path, bus)) == (
        (),
        ("fwupd: org.freedesktop.fwupd GetDevices: no reply",),
    )


@pytest.mark.parametrize(
    ("row", "device"),
    [
        (
            {"DeviceId": "abc", "UpdateState": 1},
            Device(kind="fwupd", name="abc", running="", stored="an update"),
        ),
        (
            {"Name": ["x"], "Version": 7, "UpdateState": 1, "UpdateVersion": "\x1b1"},
            Device(kind="fwupd", name="", running="", stored="1"),
        ),
    ],
)
def test_a_row_with_less_than_it_should_have_is_told_as_far_as_it_goes(
    row: dict[str, Any], device: Device
) -> None:
    assert parse_pending([row]) == (device,)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Name", "Version", "UpdateState", "UpdateVersion"]), inner
        )
    ),
    max_leaves=10,
)


@given(_ANY)
def test_any_answer_is_devices_that_may_be_printed(answer: Any) -> None:
    for row in parse_pending(answer):
        assert (row.name + row.running + row.stored).isprintable()
