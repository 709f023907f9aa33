"""What the resident daemon holds once it has imported all it needs, and what getting there costs.

Anonymous memory does not depend on neighbours that share pages, as RSS and PSS do.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_ROUNDS: Final = 7
_AGENT: Final = Path(__file__).parents[2] / "agent"
# -I -S: nothing but what the daemon itself asks for; the libraries' folders are added by hand.
_CHILD: Final = """
import sys
sys.path += {folders!r}
{imports}
import gc, resource
gc.collect()
usage = resource.getrusage(resource.RUSAGE_SELF)
rollup = dict(line.split(":", 1) for line in open("/proc/self/smaps_rollup") if ":  " in line)
print(rollup["Anonymous"].split()[0], usage.ru_utime + usage.ru_stime)
"""
_DAEMON: Final = "import trialboot.daemon, systemd.journal, systemd.daemon"
# What a daemon on GLib's own loop would import.
_PEER: Final = "import dbus, dbus.service, dbus.mainloop.glib, gi.repository.GLib"
_BARE: Final = "pass"


def figures() -> list[dict[str, Any]]:
    """Give memory and CPU time of the daemon's imports, beside a Python that imports nothing."""
    memory, cpu = _least(_DAEMON)
    bare_memory, bare_cpu = _least(_BARE)
    gi = _least_or_none(_PEER)
    return [
        _row("daemon: anonymous memory after imports", memory, "MiB", 7.5, bare_memory),
        _row("daemon: CPU time until imported", cpu, "CPU ms", 100, bare_cpu),
        {
            **_row("daemon: anonymous memory, against dbus and gi", memory, "MiB", 7.5, gi),
            "peer": "/usr/bin/python3 with dbus and gi",
        },
    ]


def _row(
    name: str, figure: float, unit: str, budget: float, peer_figure: float | None
) -> dict[str, Any]:
    return {
        "name": name,
        "figure": round(figure, 1),
        "unit": unit,
        "budget": budget,
        "peer": "python3 that imports nothing",
        "peer_figure": None if peer_figure is None else round(peer_figure, 1),
    }


def _least(imports: str, python: str = sys.executable) -> tuple[float, float]:
    """Give MiB and CPU ms, each the least of several runs."""
    folders = [str(_AGENT), *(path for path in sys.path if path.endswith("-packages"))]
    if python != sys.executable:
        folders = ["/usr/lib/python3/dist-packages"]
    program = _CHILD.format(folders=folders, imports=imports)
    runs = []
    for _ in range(_ROUNDS):
        argv = [python, "-I", "-S", "-c", program]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        runs.append((int(said[0]) / 1024, 1000 * float(said[1])))
    return min(memory for memory, _ in runs), min(cpu for _, cpu in runs)


def _least_or_none(imports: str) -> float | None:
    try:
        return _least(imports, "/usr/bin/python3")[0]
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
