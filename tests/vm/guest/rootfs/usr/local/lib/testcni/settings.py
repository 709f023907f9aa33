"""What the environment asks of this CNI (/etc/default/testcni); a real node needs none of it.

NIC          the device to use, instead of that of the default route
CGROUP       the cgroup to use, instead of the root of the cgroup v2 hierarchy
BPFFS        where the bpffs is
OBJECTS      a folder of compiled objects, to leave where Cilium leaves its own
FAIL=1       behave as if the kernel refused the probe
SCALAR=1     give bpf_set_retval a number, as CNIs do since kernels refuse the context
LEGACY=1     tc filters and PROG_ATTACH, even where links would do
START_DELAY  seconds until anything is done
PODS         how many pods there are
POD_DELAY    seconds before each pod comes; ready is said before the first then, not after the last
CHURN        seconds after which a pod goes and another comes, again and again
SEED         shuffles the order in which everything comes
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The environment, understood; times in seconds."""

    nic: str | None
    cgroup: Path | None
    pins: Path
    """The folder of this CNI in the bpffs."""
    objects: Path | None
    fail: bool
    scalar: bool
    legacy: bool
    start_delay: float
    pods: int
    pod_delay: float
    churn: float
    dice: random.Random | None = field(compare=False)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Understand the environment. Raises `ValueError` where a number is none."""
    cgroup = environment.get("CGROUP")
    objects = environment.get("OBJECTS")
    seed = environment.get("SEED")
    return Settings(
        nic=environment.get("NIC") or None,
        cgroup=Path(cgroup) if cgroup else None,
        pins=Path(environment.get("BPFFS") or "/sys/fs/bpf") / "testcni",
        objects=Path(objects) if objects else None,
        fail=environment.get("FAIL") == "1",
        scalar=environment.get("SCALAR") == "1",
        legacy=environment.get("LEGACY") == "1",
        start_delay=float(environment.get("START_DELAY") or 0),
        pods=int(environment.get("PODS") or 3),
        pod_delay=float(environment.get("POD_DELAY") or 0),
        churn=float(environment.get("CHURN") or 0),
        dice=random.Random(seed) if seed else None,  # noqa: S311  an order, not a secret
    )
