"""The matrix faults x hosts: whatever the candidate does, the host comes back whole, and once.

``pytest -m vm tests/vm/test_matrix.py -k lvm-panic-early`` runs one cell. The table of what was
seen is in build/matrix.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.faults import FAULTS
from tests.vm.hosts import BASE, HOSTS
from tests.vm.image import Image
from tests.vm.matrix import Cell
from tests.vm.node import Node, Say
from tests.vm.stories import armed_disk

pytestmark = pytest.mark.vm

SMOKE = {(BASE.name, "vmlinuz-missing"), (BASE.name, "grubenv-garbage")}
"""The cells of `make test`; the others are for `make test-long`."""
EVERYWHERE = ("panic-early", "vmlinuz-missing")
"""The faults of the hosts other than the base host, which has all."""


def _cells() -> list[object]:
    wanted = [(BASE, fault) for fault in FAULTS.values()]
    wanted += [
        (host, FAULTS[name])
        for host in HOSTS.values()
        for name in EVERYWHERE
        if host is not BASE and host.level != "none"
    ]
    return [
        pytest.param(
            Cell(host, fault),
            id=f"{host.name}-{fault.name}",
            marks=() if (host.name, fault.name) in SMOKE else pytest.mark.long,
        )
        for host, fault in wanted
    ]


@pytest.mark.parametrize("cell", _cells())
def test_a_fault_ends_on_the_known_good(
    image: Image, package: Path, tmp_path: Path, say: Say, cell: Cell
) -> None:
    disk = armed_disk(image, package, say, cell.host)
    hardware = cell.host.hardware(watchdog=cell.fault.watchdog, serial_number=cell.fault.switch)
    with Node(image, tmp_path / "node", disk, hardware) as node:
        cell.play(node, image, say)
