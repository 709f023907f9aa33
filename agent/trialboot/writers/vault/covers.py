"""Takes the kept trees off the packages' own, so that files of those can be linked."""

import re
from typing import Final

from trialboot.errors import HostError
from trialboot.host import Host

_MOUNTS: Final = "/proc/self/mountinfo"
_COVER: Final = re.compile(
    r"\d+ \d+ \S+ \S*/trialboot/kept/\S* (\S*/lib/(?:firmware|modules(?:/\S+)?)) ", re.ASCII
)
"""Root and place of a bind that the second initrd made (proc_pid_mountinfo(5))."""


def uncover(host: Host) -> bool:
    """Uncover the packages' firmware and modules; False where that fails.

    link(2) refuses to cross mounts, be they of one file system. The pin worker's mounts are its
    own (trialboot-pin.service): the rest of the host keeps what was bound.
    """
    try:
        for line in reversed(host.read_text(_MOUNTS).splitlines()):
            found = _COVER.match(line)
            if found:
                host.run(["umount", "--lazy", found[1]])
    except HostError:
        return False
    return True
