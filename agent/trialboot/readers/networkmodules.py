"""Which loaded modules networks are made with: by name alone, for each sample of a verdict.

`readers.modules` reads what a module's file says, too, and is dear for that.
"""

from trialboot.core.carriers import is_of_networks
from trialboot.core.facts import Unknown
from trialboot.errors import HostError
from trialboot.host import Host

_LOADED = "/proc/modules"


def read_network_modules(host: Host) -> tuple[str, ...] | Unknown:
    """Name them, sorted; none on a kernel that has no modules."""
    if not host.exists(_LOADED):  # a kernel without CONFIG_MODULES
        return ()
    try:
        lines = host.read_text(_LOADED).splitlines()
    except HostError as error:
        return Unknown(str(error))
    names = (line.partition(" ")[0] for line in lines)
    return tuple(sorted(name for name in names if is_of_networks(name)))
