"""systemd services by name, and what their logs of this boot say the kernel refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from trialboot.core.facts import Unit, UnitState, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

_SYSTEMD = "org.freedesktop.systemd1"
_MOST_LINES = 3


def read_units(host: Host, names: Sequence[str]) -> tuple[Unit, ...] | Unknown:
    """Ask systemd for each service by name; one that is not there is `inactive`."""
    try:
        return tuple(_read_unit(host, name) for name in names)
    except HostError as error:
        return Unknown(str(error))


def _read_unit(host: Host, name: str) -> Unit:
    path = host.call(
        _SYSTEMD, "/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager", "LoadUnit", name
    )
    properties = "org.freedesktop.DBus.Properties"
    state = host.call(_SYSTEMD, path, properties, "Get", f"{_SYSTEMD}.Unit", "ActiveState")
    service: Mapping[str, Any] = {}
    if name.endswith(".service"):
        service = host.call(_SYSTEMD, path, properties, "GetAll", f"{_SYSTEMD}.Service")
    return parse_unit(name, str(state), service)


def parse_unit(name: str, state: str, service: Mapping[str, Any]) -> Unit:
    """Turn what systemd said into a Unit; a state of a newer systemd counts as `maintenance`."""
    known = {str(word): word for word in UnitState}
    return Unit(
        name=name,
        state=known.get(state, UnitState.MAINTENANCE),
        restarts=int(service.get("NRestarts", 0)),
    )


def read_refusals(host: Host, names: Sequence[str], signs: Any) -> tuple[str, ...]:
    """Give the newest log lines of these services, in this boot, that match `signs`.

    They are evidence beside a failing check, never state: a journal that cannot be read is no
    evidence.
    """
    lines: list[str] = []
    for name in names:
        try:
            log = host.run(
                [
                    "journalctl",
                    "--boot",
                    f"--unit={name}",
                    "--output=cat",
                    "--lines=200",
                    "--no-pager",
                    "--quiet",
                ]
            )
        except HostError:
            continue
        lines += [line.strip() for line in log.splitlines() if signs.search(line)]
    return tuple(dict.fromkeys(reversed(lines)))[:_MOST_LINES]
