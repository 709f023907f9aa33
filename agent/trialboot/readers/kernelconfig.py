"""The configuration that a kernel was built with, as far as a CNI needs it."""

from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.kernelconfig import parse_options
from trialboot.host import Host

_LARGEST: Final = 4 << 20
"""Bytes; a distribution's configuration has about 300 KB."""


def read_options(host: Host, release: str) -> tuple[tuple[str, str], ...] | Unknown:
    """Read the options of `core.kernelconfig.CNI_OPTIONS` of one kernel, as (name, value), sorted.

    An option that the configuration does not name is left out. The file is the kernel package's:
    Debian, Ubuntu and Fedora put it into /boot, Fedora and dracut's layout below the modules too.
    """
    if not release or "/" in release or "\0" in release:
        return Unknown(f"{release!r} is no release of a kernel")
    places = (
        f"/boot/config-{release}",
        f"/usr/lib/modules/{release}/config",
        f"/lib/modules/{release}/config",
    )
    try:
        place = next((place for place in places if host.path(place).is_file()), None)
        if place is None:
            return Unknown(f"{places[0]}: no configuration of this kernel is there")
        with host.path(place).open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        return Unknown(f"configuration of kernel {release}: {error.strerror}")
    if len(raw) > _LARGEST:
        return Unknown(f"{place} is too large for a kernel's configuration")
    return tuple(sorted(parse_options(raw.decode(errors="replace")).items()))
