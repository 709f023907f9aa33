"""What systemd says of itself and its units, without the bus: there is none in emergency mode.

systemctl asks the first process through a socket of its own in /run.
"""

from typing import Final

from trialboot.core.facts import Unknown
from trialboot.errors import HostError
from trialboot.host import Host

_SHOW: Final = ("systemctl", "show", "--value")
_QUESTIONS: Final = "/run/systemd/ask-password"
"""One file `ask.*` for each password that is waited for (systemd's «Password Agents»)."""


def is_active(host: Host, unit: str) -> bool | Unknown:
    """Tell whether a unit is active; one that is still starting is not."""
    found = _show(host, "ActiveState", unit)
    return found if isinstance(found, Unknown) else found == "active"


def is_waiting(host: Host, unit: str) -> bool | Unknown:
    """Tell whether a job of a unit waits for others, or runs."""
    found = _show(host, "Job", unit)
    return found if isinstance(found, Unknown) else found not in {"", "0"}


def has_come_up(host: Host) -> bool | Unknown:
    """Tell whether the start of the system had ended before now.

    Either systemd had no job left once, or the target of the boot was reached: a job that gates
    boot-complete.target may wait for a verdict for long after that.
    """
    done = _show(host, "FinishTimestampMonotonic")
    reached = _show(host, "ActiveEnterTimestampMonotonic", "default.target")
    for found in (done, reached):
        if isinstance(found, Unknown):
            return found
    return not {done, reached} <= {"", "0"}


def is_password_asked(host: Host) -> bool:
    """Tell whether the boot waits for somebody to type a password."""
    return any(host.path(_QUESTIONS).glob("ask.*"))


def _show(host: Host, name: str, *unit: str) -> str | Unknown:
    try:
        return host.run([*_SHOW, f"--property={name}", *unit]).strip()
    except HostError as error:
        return Unknown(str(error))
