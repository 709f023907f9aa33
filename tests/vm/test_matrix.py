"""The matrix faults x hosts: whatever the candidate does, the host comes back whole, and once.

``pytest -m vm tests/vm/test_matrix.py -k lvm-panic-early`` runs one cell. The table of what was
seen is in build/matrix.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.faults import FAULTS
from tests.vm.hosts import BASE, HOSTS, Host
from tests.vm.image import Image
from tests.vm.matrix import Cell
from tests.vm.node import Say

pytestmark = pytest.mark.vm

SMOKE = {(BASE.name, "vmlinuz-missing"), (BASE.name, "grubenv-garbage")}
"""The cells of `make test`; the others are for `make test-long`."""
EVERYWHERE = ("nothing", "panic-early", "vmlinuz-missing")
"""The faults of the hosts other than the base host, which has all but what it is not made for."""
UNPROTECTED = "unprotected"
MORE = {"separate-boot": ("boot-full-at-arming",)}


def _faults_of(host: Host) -> tuple[str, ...]:
    if host is BASE:
        return tuple(name for name in FAULTS if name != UNPROTECTED)
    if host.level == "none":
        return (UNPROTECTED,)
    return (*EVERYWHERE, *MORE.get(host.name, ()))


CELLS = [Cell(host, FAULTS[name]) for host in HOSTS.values() for name in _faults_of(host)]


def _parameters() -> list[object]:
    return [
        pytest.param(
            cell,
            id=f"{cell.host.name}-{cell.fault.name}",
            marks=() if (cell.host.name, cell.fault.name) in SMOKE else pytest.mark.long,
        )
        for cell in CELLS
    ]


@pytest.mark.parametrize("cell", _parameters())
def test_a_fault_ends_on_the_known_good(
    image: Image, package: Path, tmp_path: Path, say: Say, cell: Cell
) -> None:
    cell.play(image, package, tmp_path / "node", say)
