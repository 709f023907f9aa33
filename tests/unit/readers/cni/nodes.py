"""Folders that look like a cluster node: its processes, pods, logs and what runtimes leave."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trialboot.errors import HostError
from trialboot.host import Host

NOW = datetime(2024, 5, 1, 10, 0, tzinfo=timezone.utc)
UPTIME = 600.0
BEGAN = NOW.timestamp() - UPTIME
CILIUM = "6f1a2b3c-0000-4111-8222-0123456789ab"
CONTAINERD = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json"
K3S = "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json"
CRIO = "/run/containers/storage/overlay-containers/{}/userdata/config.json"


def identity(letter: str) -> str:
    """Give a container's id."""
    return letter * 64


def slice_of(uid: str, container: str, runtime: str = "cri-containerd") -> str:
    """Give /proc/PID/cgroup of a container, as a kubelet with the systemd driver makes it."""
    pod = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    return f"0::/kubepods.slice/kubepods-burstable.slice/{pod}/{runtime}-{container}.scope\n"


class Node:
    """One node, ten minutes after its start."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units: dict[str, int] = {}
        """NRestarts of services; others systemd does not know."""
        self.write("/proc/stat", f"cpu 1 2 3\nbtime {int(BEGAN)}\n")
        self.write("/proc/uptime", f"{UPTIME} 1.0\n")
        self.process(1, "systemd", "0::/init.scope\n", age=UPTIME)

    @property
    def host(self) -> Host:
        return Host(root=self.root, call=self._call, now=lambda: NOW)

    def write(self, path: str, content: str | bytes, at: float | None = None) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        if at is not None:
            os.utime(place, (at, at))
        return place

    def process(
        self, pid: int, comm: str, cgroup: str, *, age: float = 500.0, state: str = "S"
    ) -> None:
        started = int((UPTIME - age) * os.sysconf("SC_CLK_TCK"))
        numbers = ["0"] * 18
        self.write(f"/proc/{pid}/stat", f"{pid} ({comm}) {state} {' '.join(numbers)} {started}")
        with (self.root / f"proc/{pid}/stat").open("a") as file:
            file.write(" 0" * 30 + "\n")
        self.write(f"/proc/{pid}/comm", f"{comm}\n")
        self.write(f"/proc/{pid}/cgroup", cgroup)

    def log(
        self, pod: str, container: str, attempt: int, text: str = "", at: float = BEGAN + 60
    ) -> Path:
        """Write one log; `pod` is NAMESPACE_NAME_UID."""
        return self.write(f"/var/log/pods/{pod}/{container}/{attempt}.log", text, at)

    def start(
        self, uid: str, container: str, number: int, at: float, root: str = "/var/lib/kubelet"
    ) -> None:
        """Leave what a kubelet makes for each start of a container."""
        self.write(f"{root}/pods/{uid}/containers/{container}/{number:08x}", "", at)

    def bundle(self, pattern: str, container: str, annotations: dict[str, Any]) -> None:
        specification = {"ociVersion": "1.1.0", "annotations": annotations}
        self.write(pattern.format(container), json.dumps(specification))

    def _call(self, _name: str, path: str, _interface: str, member: str, *words: Any) -> Any:
        if member == "LoadUnit":
            return f"/unit/{words[0]}"
        unit = path.removeprefix("/unit/")
        if unit not in self.units:
            raise HostError(f"no unit {unit}")
        return self.units[unit]
