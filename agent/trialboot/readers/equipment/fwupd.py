"""Firmware updates that wait for the next start, as fwupd knows them: asked only if it runs."""

from collections.abc import Iterator
from typing import Final

from trialboot.core.facts import Device
from trialboot.errors import HostError
from trialboot.host import Host

_BUS_SOCKET: Final = "/run/dbus/system_bus_socket"
_BUS: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_FWUPD: Final = ("org.freedesktop.fwupd", "/", "org.freedesktop.fwupd")

_WAITING: Final = frozenset({1, 4})
"""FwupdUpdateState: PENDING, NEEDS_REBOOT (https://fwupd.github.io/libfwupd/)."""


def read_pending(host: Host) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Ask fwupd which updates wait; give them, and what went wrong as a sentence.

    It is never started for this: without an owner of its name nothing is asked.
    """
    if not host.exists(_BUS_SOCKET):
        return (), ()
    try:
        if not host.call(*_BUS, "NameHasOwner", _FWUPD[0]):
            return (), ()
        return parse_pending(host.call(*_FWUPD, "GetDevices")), ()
    except HostError as error:
        return (), (f"fwupd: {error}",)


def parse_pending(rows: object) -> tuple[Device, ...]:
    """Give the devices of GetDevices (`aa{sv}`) whose update becomes active at the next start."""
    return tuple(sorted(_waiting(rows))) if isinstance(rows, list | tuple) else ()


def _waiting(rows: list[object] | tuple[object, ...]) -> Iterator[Device]:
    for row in rows:
        if not isinstance(row, dict):
            continue
        state = row.get("UpdateState")
        if isinstance(state, int) and state in _WAITING:
            yield Device(
                kind="fwupd",
                name=_word(row, "Name") or _word(row, "DeviceId"),
                running=_word(row, "Version"),
                stored=_word(row, "UpdateVersion") or "an update",
            )


def _word(row: dict[object, object], key: str) -> str:
    value = row.get(key, "")
    text = str(value) if isinstance(value, str) else ""  # not dbus.String: it goes into a record
    return "".join(letter for letter in text if letter.isprintable())
