"""What a hook of a package manager leaves, and who leads the run that it tells of."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The process of which all cycles of a transaction are descendants."""

    pid: int
    """0 where it could not be told."""
    name: str
    """Its comm: 15 characters at most."""


NOBODY: Final = Leader(pid=0, name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one hook left: `begin` or `end` (with `dpkg-` before it for bare dpkg)."""

    event: str
    boot: str
    packages: tuple[str, ...] = ()
    """The planned steps, a line each, that begins with the package's name."""
    whole: bool
    """Its last line is there; without it the writer was killed, or the disk was full."""
    at: float = 0.0
    """Seconds since the kernel started (first word of /proc/uptime)."""
    time: str = ""
    """When it was written: RFC 3339, UTC."""
    pid: int = 0
    """The hook's own."""
    chain: tuple[Leader, ...] = ()
    """The hook's ancestors, its parent first."""
    action: str = ""
    """DPKG_HOOK_ACTION; or `trigger`, or `kernel:HOOK:RELEASE`."""
    user: str = ""
    """SUDO_USER."""
    command: str = ""
    """The command line, where the hook knows it."""


_MANAGERS: Final[Mapping[str, str]] = {
    "apt": "apt",
    "apt-get": "apt",
    "aptd": "aptdaemon",
    "aptitude": "aptitude",
    "aptitude-curses": "aptitude",
    "dnf": "dnf",
    "dnf-3": "dnf",
    "dnf-automatic": "dnf-automatic",
    "dnf5": "dnf5",
    "dnf5daemon-serv": "dnf5daemon",
    "dpkg": "dpkg",
    "microdnf": "microdnf",
    "nala": "nala",
    "packagekitd": "PackageKit",
    "rpm": "rpm",
    "synaptic": "synaptic",
    "unattended-upgr": "unattended-upgrades",
    "yum": "yum",
    "zypper": "zypper",
}
_SHELLS: Final = frozenset({"sh", "dash", "bash", "busybox"})


def leader_of(note: Note) -> Leader:
    """Find who leads the run that a note tells of.

    It is the topmost ancestor with the name of a package manager. Where none has one (a program
    with a package library in it) it is the first that is no shell: shells come and go with each
    hook, and so do forks, hence the topmost of its own name.
    """
    known = [leader for leader in note.chain if leader.name in _MANAGERS]
    if known:
        return known[-1]
    others = list(dropwhile(lambda leader: leader.name in _SHELLS, note.chain))
    kin = takewhile(lambda leader: leader.name == others[0].name, others)
    return [NOBODY, *kin][-1]


def manager_of(note: Note) -> str:
    """Name the package manager of a note's run, as people know it."""
    leader = leader_of(note)
    by_event = "dpkg" if note.event.startswith("dpkg-") else "apt"
    return _MANAGERS.get(leader.name, leader.name or by_event)
