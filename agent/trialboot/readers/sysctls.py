"""Kernel settings that the pod network lives on, as the kernel has them now."""

import os
from collections.abc import Iterator, Sequence
from typing import Final

from trialboot.core.facts import Sysctl, Unknown
from trialboot.host import Host

_FOLDER: Final = "/proc/sys"
_ONCE: Final = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/disable_ipv6",
    "net/ipv6/conf/default/forwarding",
    "net/bridge/bridge-nf-call-arptables",  # these three come with br_netfilter
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/core/bpf_jit_enable",
)
_EACH_LINK: Final = ("forwarding", "rp_filter")
_ALL_LINKS: Final = ("all", "default")
_LONGEST: Final = 4096


def read_sysctls(host: Host, links: Sequence[str]) -> tuple[Sysctl, ...] | Unknown:
    """Read the settings of the host and of each of these links, sorted by name.

    A setting that this kernel does not have, or whose link went away meanwhile, is left out.
    """
    root = os.fspath(host.path(_FOLDER))
    if not os.access(f"{root}/net", os.X_OK):
        return Unknown(f"{_FOLDER}/net cannot be read")
    found, path = [], ""
    try:
        for path in _paths(links):
            value = _value(f"{root}/{path}")
            if value is not None:
                found.append(Sysctl(name=dotted(path), value=value))
    except OSError as error:
        return Unknown(f"{_FOLDER}/{path}: {error.strerror}")
    return tuple(sorted(found))


def dotted(path: str) -> str:
    """Name a setting as sysctl(8) does: a dot within a name, as in `eth0.100`, becomes `/`."""
    return path.translate(str.maketrans("./", "/."))


def _paths(links: Sequence[str]) -> Iterator[str]:
    yield from _ONCE
    for link in dict.fromkeys((*_ALL_LINKS, *links)):
        if link not in {"", ".", ".."} and not {"/", "\0"} & set(link):  # no path out of there
            yield from (f"net/ipv4/conf/{link}/{setting}" for setting in _EACH_LINK)


def _value(path: str) -> str | None:
    """Read one setting; None where there is none, or none any more. Raises `OSError`."""
    try:
        raw = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return " ".join(raw.decode(errors="replace").split())


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
