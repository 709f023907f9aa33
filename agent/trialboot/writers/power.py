"""Reboot through logind, so that inhibitors, shutdown order and other daemons have their say."""

from trialboot.host import Host

_LOGIND = "org.freedesktop.login1"


def reboot(host: Host) -> None:
    """Ask logind for a reboot. Raises `HostError` with its words."""
    host.call(
        _LOGIND,
        "/org/freedesktop/login1",
        f"{_LOGIND}.Manager",
        "Reboot",
        False,  # not interactive
    )
