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


def reboot_without_logind(host: Host) -> None:
    """Have systemd itself end what runs, unmount and reboot. Raises `HostError`.

    For a boot that has not come up: neither logind nor the bus may be there, and a job that hangs
    would hold up a shutdown in order.
    """
    host.run(["systemctl", "--force", "reboot"])
