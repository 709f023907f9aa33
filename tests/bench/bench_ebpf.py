"""What a sample of the network costs its worker, in a network namespace of its own. Needs root.

Measured is a fresh interpreter that imports what the verify worker samples with and takes one
sample: its whole CPU time, and the most memory that it held.
"""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.cost import cpu_ms, least
from tests.host import bpf_loader
from tests.host.bpf_loader import Attach, ProgType, TcParent
from tests.host.conftest import own_sysfs, run_inside, sh

_ROUNDS: Final = 5
_AGENT: Final = Path(__file__).parents[2] / "agent"
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(_AGENT)}
_IMPORT: Final = (
    "from trialboot.host import Host\nfrom trialboot.observation import take_network\n"
)
# VmHWM: ru_maxrss is handed down by whoever started the process.
_SAMPLE: Final = f"""{_IMPORT}
network = take_network(Host())
held = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(network.attachments), len(network.routes), held.split()[1])
"""
_OBJECTS: Final = """
from trialboot.host import Host
from trialboot.readers.ebpf_objects import read_objects
print(read_objects(Host()).programs)
"""
_TOOLS: Final = ("bpftool -j prog", "bpftool -j net", "ip -j route show table all")
_ASK_TOOLS: Final = f"""
import json, subprocess
for tool in {_TOOLS!r}:
    json.loads(subprocess.run(tool.split(), check=True, capture_output=True).stdout)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to read."""

    programs: int = 10
    routes: int = 10

    @property
    def attached(self) -> int:
        """How many of the programs are attached: 500 at most, in and out of 250 pods."""
        return min(self.programs, 500)


FULL: Final = Size(programs=5000, routes=10_000)
_GROWTH: Final = (
    Size(programs=10), Size(programs=1000), Size(programs=5000),
    Size(routes=10), Size(routes=1000), Size(routes=10_000),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """The least of several rounds: ms of CPU, MiB of memory."""

    sample: float
    memory: float
    imports: float
    objects: float
    tools: float | None
    """None where there is no bpftool."""

    @property
    def ratio(self) -> float | None:
        """Ours over the tools'."""
        return round(self.sample / self.tools, 2) if self.tools else None


def figures() -> list[dict[str, Any]]:
    """Give what a full node costs, against the tools, and how the cost grows."""
    if os.geteuid() != 0:
        return []
    full: Cost = run_inside(lambda: _measure(FULL))
    told = f"{' + '.join(_TOOLS)}, decoded in Python"
    rows = [
        {**_row("collect.cpu_ms", full.sample, 250), "peer": told, "peer_figure": full.tools},
        {**_row("collect.rss_mib", full.memory, 30), "unit": "MiB"},
        {**_row("collect.ratio_to_tools", full.ratio, 1), "unit": "ratio"},
        _row("collect.cpu_ms of it: interpreter and imports", full.imports),
        _row("collect.objects, once a verification: 5000 programs", full.objects),
    ]
    return rows + [_grown(size) for size in _GROWTH]


def _grown(size: Size) -> dict[str, Any]:
    cost: Cost = run_inside(lambda: _measure(size))
    return _row(f"collect.cpu_ms, {size.programs} programs, {size.routes} routes", cost.sample)


def _row(name: str, figure: float | None, budget: float | None = None) -> dict[str, Any]:
    row = {"name": name, "figure": figure, "unit": "CPU ms", "budget": budget}
    return {**row, "peer": None, "peer_figure": None}


def _measure(size: Size) -> Cost:
    held = _furnish(size)
    print(f"bench: sampling {size}", file=sys.stderr)
    memory = min(_sample(size) for _ in range(_ROUNDS))
    cost = Cost(
        sample=_least(_SAMPLE),
        memory=memory,
        imports=_least(_IMPORT),
        objects=_least(_OBJECTS),
        tools=_least(_ASK_TOOLS) if shutil.which("bpftool") else None,
    )
    for descriptor in held:
        os.close(descriptor)
    return cost


def _least(script: str) -> float:
    argv = [sys.executable, "-c", script]
    return round(least(_ROUNDS, lambda: cpu_ms(argv, env=_ENVIRONMENT)), 1)


def _sample(size: Size) -> float:
    """Take a sample, see that all is in it, and give the memory that it took in MiB."""
    argv = [sys.executable, "-c", _SAMPLE]
    done = subprocess.run(argv, env=_ENVIRONMENT, check=True, capture_output=True, text=True)
    attachments, routes, kibibytes = map(int, done.stdout.split())
    assert attachments >= size.attached
    assert routes >= size.routes
    return round(kibibytes / 1024, 1)


def _furnish(size: Size) -> list[int]:
    """Make pods with programs, half by tcx and half by tc, then more programs, then routes."""
    own_sysfs()
    limit = size.programs + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    pods = [f"lxc{number:08x}" for number in range(size.attached // 2)]
    commands = [f"link add {pod} type veth peer name peer{n}" for n, pod in enumerate(pods)]
    commands += ["link add eth0 type veth peer name eth1", "link set eth0 up"]
    commands += ["link set eth1 up", "addr add 10.0.0.1/24 dev eth0"]
    commands += [
        f"route add 10.{1 + n // 256}.{n % 256}.0/24 via 10.0.0.2" for n in range(size.routes)
    ]
    sh("ip -batch - <<'END'\n" + "\n".join(commands) + "\nEND\n")
    held = [descriptor for n, pod in enumerate(pods) for descriptor in _dress(pod, tc=n % 2 == 0)]
    kind = ProgType.SCHED_CLS
    tails = range(size.programs - 2 * len(pods))
    return held + [bpf_loader.prog_load(kind, bpf_loader.TINY[kind], "tail_call") for _ in tails]


def _dress(pod: str, *, tc: bool) -> list[int]:
    """Attach a program in and a program out; closing what is given detaches those of tcx."""
    index, kind = socket.if_nametoindex(pod), ProgType.SCHED_CLS
    into = bpf_loader.prog_load(kind, bpf_loader.TINY[kind], "cil_from_contai")
    out = bpf_loader.prog_load(kind, bpf_loader.TINY[kind], "cil_to_containe")
    if tc:
        bpf_loader.tc_clsact(index)
        bpf_loader.tc_attach(index, TcParent.INGRESS, into, f"cil_from_container-{pod}")
        bpf_loader.tc_attach(index, TcParent.EGRESS, out, f"cil_to_container-{pod}")
        return [into, out]
    links = (
        bpf_loader.link_create(into, index, Attach.TCX_INGRESS),
        bpf_loader.link_create(out, index, Attach.TCX_EGRESS),
    )
    return [into, out, *links]


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
