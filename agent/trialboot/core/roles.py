"""The stable names of eBPF programs: the same role has one name over versions and mechanisms.

The kernel keeps 15 characters of a program's name; old Ciliums tell theirs in the filter's name.
Sources: cilium/cilium pkg/datapath/loader, projectcalico/calico felix/bpf.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from trialboot.core.cni import PROGRAMS, owner_of

KERNEL_KEEPS: Final = 15
"""Characters of a program's name (BPF_OBJ_NAME_LEN without the final zero)."""
_SECTION: Final = re.compile(r"\[(from|to)-(\w+)\]")
"""Cilium before 1.13 calls a filter `bpf_lxc.o:[from-container]`."""
_OLD_PREFIX: Final = "cil_"
"""Cilium before 1.12 had no prefix: `sock4_connect`."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Role:
    """One eBPF program at its place: `dev:eth0|skb|ingress|cil_from_netdev`."""

    place: str
    hook: str
    direction: str
    program: str

    def __str__(self) -> str:
        """Write it as people and files have it."""
        return f"{self.place}|{self.hook}|{self.direction}|{self.program}"


@lru_cache(maxsize=1024)
def role_name(program: str) -> str:
    """Give a program's one name from what the kernel or the filter shows of it.

    Ambiguous ones stay as they are: `calico_connect_` is v4, v46 or v6, and the attach type tells.
    """
    section = _SECTION.search(program)
    if section:
        return f"cil_{section[1]}_{section[2]}"
    for name in (program, f"{_OLD_PREFIX}{program}"):
        known = _known(name)
        if known:
            return known
    return program


def _known(name: str) -> str | None:
    whole = [known for known in PROGRAMS if name == known or name.startswith(f"{known}-")]
    if whole:
        return max(whole, key=len)
    if len(name) < KERNEL_KEEPS:
        return None
    cut = {known for known in PROGRAMS if known[:KERNEL_KEEPS] == name[:KERNEL_KEEPS]}
    return cut.pop() if len(cut) == 1 else None


def judged_owners(programs: Iterable[str], cni: str = "") -> frozenset[str]:
    """Name whose programs make the pod network, of all that were attached while it was healthy.

    Where the CNI is known, by its configuration (`cni`, its profile's name) or by its own
    programs, what others attach is theirs to lose: observability agents come and go. Else
    everything counts but what systemd attaches.
    """
    owners = {owner_of(program) for program in programs} - {"systemd", "tools"}
    known = frozenset(owners - {"other"}) | ({cni} - {""})
    return known or frozenset(owners)
