"""How soon a worse verdict becomes logind's Reboot: the daemon on a private bus.

The clock starts when the verify worker's file with the verdict is there, and stops when the script
that plays logind is called. The pin worker that secures the way back is played too and takes no
time: its own work is `vault.verify_cpu_seconds`, and what the loader takes. There is no node: its
last word may take up to 20 s more where the API server is away.
"""

import json
import time
from pathlib import Path
from typing import Any, Final

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
from trialboot.core.trial import Decision, Phase, Trial
from trialboot.core.verdict import Outcome
from trialboot.writers import store

_ROUNDS: Final = 3
_ARMED: Final = Trial(known_good=GOOD.boot_set, pinned=True, phase=Phase.ARMED, candidate=NEW)


def figures() -> list[dict[str, Any]]:
    """Give the least of a few rollbacks."""
    return [
        {
            "name": "rollback.seconds_to_reboot",
            "figure": round(least(_ROUNDS, _rolled_back), 2),
            "budget": 5,
            "unit": "s",
            "peer": "",
            "peer_figure": None,
        }
    ]


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
