"""The package database: what dpkg says is installed. Hooks only say when it may have changed."""

import re

from trialboot.core.facts import Package, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

STATUS = "/var/lib/dpkg/status"
_FIELD = re.compile(r"^(Package|Status|Architecture|Version): (.*)$", re.MULTILINE)


def read_packages(host: Host) -> tuple[Package, ...] | Unknown:
    """Read dpkg's status file (packages.md: 15 ms for 1,900 packages, no process spawned)."""
    try:
        return parse_status(host.read_text(STATUS))
    except HostError as error:
        return Unknown(str(error))


def parse_status(text: str) -> tuple[Package, ...]:
    """Give every package whose state is `installed`, sorted."""
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        if fields.get("Status", "").endswith(" installed"):
            found.append(
                Package(
                    name=fields["Package"],
                    architecture=fields.get("Architecture", ""),
                    version=fields.get("Version", ""),
                )
            )
    return tuple(sorted(found))


def interrupted(host: Host) -> bool:
    """Tell whether dpkg was killed in the middle: its update journal has entries left."""
    folder = host.path("/var/lib/dpkg/updates")
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())
