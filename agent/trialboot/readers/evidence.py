"""What others say about a reboot: evidence for people, never an answer.

`/run/reboot-required` is written by hooks of update-notifier and unattended-upgrades. It is
neither necessary (linux-firmware does not write it) nor does it say which kernel will boot; dnf
has nothing like it.
"""

from typing import Final

from trialboot.host import Host

_FLAGS: Final = ("/run/reboot-required", "/var/run/reboot-required")
_LARGEST: Final = 64 << 10


def read_evidence(host: Host) -> tuple[str, ...]:
    """Give one sentence for each flag that asks for a reboot, with the packages that set it."""
    seen: set[tuple[int, int]] = set()
    told: list[str] = []
    for flag in _FLAGS:
        try:
            status = host.path(flag).stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            told.append(f"{flag} cannot be looked at: {error.strerror}")
            continue
        same = (status.st_dev, status.st_ino)
        if same not in seen:  # /var/run is /run nearly everywhere
            told.append(f"{flag} is there{_packages(host, flag)}")
        seen.add(same)
    return tuple(told)


def parse_packages(text: str) -> tuple[str, ...]:
    """Name the packages of `reboot-required.pkgs`, each once, in their order."""
    lines = ("".join(letter for letter in line if letter.isprintable()) for line in text.split())
    return tuple(dict.fromkeys(line for line in lines if line))


def _packages(host: Host, flag: str) -> str:
    try:
        with host.path(f"{flag}.pkgs").open("rb") as file:
            names = parse_packages(file.read(_LARGEST).decode(errors="replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"; which packages ask for it cannot be read: {error.strerror}"
    return f": {', '.join(names)}" if names else ""
