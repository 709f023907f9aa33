"""How soon a worse verdict becomes logind's Reboot: by the daemon and by the pin worker.

The daemon runs on a private bus. Its clock starts when the verify worker's file with the verdict
is there, and stops when the script that plays logind is called; the pin worker that secures the
way back takes no time there. Its own time is that of the real worker as a process, on a host in
a folder with the files of a distribution, in the page cache: it hashes all of them. Both
together are the figure.
There is no node: its last word may take up to 20 s more where the API server is away.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.bench_vault import make_host_to_pin, pin_all
from tests.bench.cost import least
from tests.bus.conftest import (
    GOOD,
    NEW,
    Machine,
    judgement,
    new_machine,
    outlook,
    private_bus,
    short_folder,
    wait_for,
)
from trialboot.core.actions import Secure
from trialboot.core.trial import Decision, Phase, Trial
from trialboot.core.verdict import Outcome
from trialboot.writers import store

_ROUNDS: Final = 3
_WORKER: Final = """\
import pathlib, sys
from trialboot.host import Host
from trialboot.workers import pin
pin.work(Host(root=pathlib.Path(sys.argv[1])))
"""
_BY_HAND: Final = 'find "$1/lib" "$1/boot" -type f -exec sha256sum {} +'
_ARMED: Final = Trial(known_good=GOOD.boot_set, pinned=True, phase=Phase.ARMED, candidate=NEW)


def figures() -> list[dict[str, Any]]:
    """Give the least of a few rollbacks, beside hashing the same files by hand."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2]) as folder:
        root = Path(folder)
        host, wanted = make_host_to_pin(root)
        pin_all(host, wanted)
        todo = (Secure(wanted.boot_set),)
        trial = Trial(known_good=wanted.boot_set, pinned=True, phase=Phase.CONDEMNED)
        store.save_decision(host, Decision(trial=trial, todo=todo))
        secured = least(_ROUNDS, lambda: _seconds([sys.executable, "-c", _WORKER, str(root)]))
        summed = least(_ROUNDS, lambda: _seconds(["/bin/sh", "-c", _BY_HAND, "sh", str(root)]))
    told = least(_ROUNDS, _rolled_back)
    return [_row("rollback.seconds_to_reboot", secured + told, 5, "sha256sum", summed)]


def _row(name: str, figure: float, budget: float, peer: str, cost: float) -> dict[str, Any]:
    return {
        "name": name,
        "figure": round(figure, 2),
        "budget": budget,
        "unit": "s",
        "peer": f"{peer}, ratio {figure / cost:.2f}",
        "peer_figure": round(cost, 2),
    }


def _seconds(argv: Sequence[str]) -> float:
    before = time.monotonic()
    subprocess.run(argv, check=True, capture_output=True)
    return time.monotonic() - before


def _rolled_back() -> float:
    with short_folder() as folder, private_bus(folder) as bus, new_machine(folder, bus) as machine:
        machine.remembers(Decision(trial=_ARMED))
        machine.script(snapshot=[outlook(NEW, NEW)], verify=[judgement(Outcome.WORSE)])
        machine.start()
        (called,) = wait_for("the reboot", machine.reboots)
        return float(called["at"]) - _verdict_at(machine)


def _verdict_at(machine: Machine) -> float:
    place: Path = machine.root / store.JUDGEMENT.lstrip("/")
    json.loads(place.read_text())
    return time.monotonic() - (time.time() - place.stat().st_mtime)
