"""CPU time of reading what 150 loaded modules are, plain and packed, and which drivers answer."""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.bench.cost import cpu_ms, least
from tests.fakes.module_files import PACK, SIGNATURE, depmod, install, module, program
from trialboot.core.facts import ModuleTree
from trialboot.host import Host
from trialboot.readers.modules import read_module_tree

_LOADED: Final = 150
_ALIASES: Final = 300
_CODE: Final = 64 << 10  # bytes: the kernel's own modules have 60 KiB on average
_ROUNDS: Final = 5
_RELEASES: Final = {".ko": "6.1.0-plain", ".ko.xz": "6.12.0-xz"}
_BUDGET: Final = {".ko": 50, ".ko.xz": 250}


def figures() -> list[dict[str, Any]]:
    """Give one tree of each kind, beside one modinfo over the same files."""
    with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
        return [row for ending in _RELEASES for row in _figures_of(Path(name), ending)]


def _figures_of(root: Path, ending: str) -> list[dict[str, Any]]:
    release = _RELEASES[ending]
    paths = [str(path) for path in _grow(root, release, ending)]
    known: dict[str, str] = {}
    _read(root, release, known)
    peer = _least_of(program("modinfo"), paths)
    rows: tuple[tuple[str, Callable[[], float], int], ...] = (
        ("read anew", lambda: _read(root, release, {}), _BUDGET[ending]),
        ("known already", lambda: _read(root, release, known), 25),
    )
    return [
        {
            "name": f"{_LOADED} loaded {ending} modules and {_ALIASES} devices, {word}",
            "figure": round(least(_ROUNDS, measure), 1),
            "unit": "CPU ms",
            "budget": budget,
            "peer": "modinfo",
            "peer_figure": peer,
        }
        for word, measure, budget in rows
    ]


def _least_of(peer: str, paths: list[str]) -> float | None:
    return round(least(_ROUNDS, lambda: cpu_ms([peer, *paths])), 1) if peer else None


def _grow(root: Path, release: str, ending: str) -> list[Path]:
    """Write a tree whose code packs about as well as machine code does: to a fifth."""
    dice = random.Random(0)  # noqa: S311  only bytes of test files
    words = [dice.randbytes(8) for _ in range(400)]
    files = {}
    for number in range(_LOADED):
        code = b"".join(dice.choices(words, k=_CODE // 8))
        alias = f"alias=pci:v{number:08X}d*sv*sd*bc*sc*i*"
        said = ("license=GPL", alias, f"firmware=vendor/{number}.bin")
        raw = module(*said, build_id=dice.randbytes(20), signature=SIGNATURE, code=code)
        files[f"kernel/drivers/m{number}{ending}"] = PACK[ending](raw)
    tree = install(root, release, files, "kernel/fs/ext4/ext4.ko\n")
    depmod(root, release)
    return [tree / path for path in files]


def _read(root: Path, release: str, known: dict[str, str]) -> float:
    names = [f"m{number}" for number in range(_LOADED)]
    aliases = [f"pci:v{number:08X}d1sv1sd1bc1sc1i1" for number in range(_ALIASES)]
    before = time.process_time()
    tree = read_module_tree(Host(root=root), release, names, aliases, cache=known)
    spent = time.process_time() - before
    assert isinstance(tree, ModuleTree)
    assert len(tree.used) == _LOADED
    return 1000 * spent


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
