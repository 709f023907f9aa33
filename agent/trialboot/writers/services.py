"""Other services of ours, started through systemd and waited for: a worker's way to a worker."""

from typing import Any, Final

from trialboot.errors import HostError
from trialboot.host import Host

_SYSTEMD: Final = "org.freedesktop.systemd1"
_MANAGER: Final = (_SYSTEMD, "/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager")
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_BOOTED: Final = "/run/systemd/system"
_PAUSE: Final = 0.2  # seconds between two looks at a unit


def is_systemd_here(host: Host) -> bool:
    """Tell whether systemd runs this machine, as sd_booted(3) does."""
    return host.exists(_BOOTED)


def run_unit(host: Host, unit: str, limit: float) -> str:
    """Start a oneshot service, wait for its end, and give its `Result`, such as `success`.

    One that runs already is waited for. Raises `HostError` where systemd refuses, and where there
    is no end within `limit` seconds: the service is then told to stop.
    """
    host.call(*_MANAGER, "StartUnit", unit, "replace")
    until = host.monotonic() + limit
    # Of a service that is over, systemd forgets and remakes the object: the path stays the same.
    path = host.call(*_MANAGER, "LoadUnit", unit)
    while _is_starting(host, path):
        if host.monotonic() > until:
            host.call(*_MANAGER, "StopUnit", unit, "replace")
            raise HostError(f"{unit} did not end within {limit:.0f} s")
        host.sleep(_PAUSE)
    return str(_get(host, path, "Service", "Result"))


def _is_starting(host: Host, path: Any) -> bool:
    """Tell whether a job waits or runs: of a oneshot service it lasts as long as the process."""
    number, _ = _get(host, path, "Unit", "Job")
    return bool(number)


def _get(host: Host, path: Any, interface: str, name: str) -> Any:
    return host.call(_SYSTEMD, path, _PROPERTIES, "Get", f"{_SYSTEMD}.{interface}", name)
