"""CPU time of naming a firmware tree of 4,000 files by content: read anew, and known already."""

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.bench.cost import cpu_ms, least
from trialboot.content import read_tree

_FILES: Final = 4000
_BYTES: Final = 16384
_ROUNDS: Final = 5


def figures() -> list[dict[str, Any]]:
    """Give both beside find and sha256sum, which know nothing from before."""
    with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
        root = Path(name)
        _grow(root)
        known: dict[str, str] = {}
        anew = least(_ROUNDS, lambda: _read(root, {}))
        _read(root, known)
        again = least(_ROUNDS, lambda: _read(root, known))
        find = ["find", name, "-type", "f", "-exec", "sha256sum", "{}", "+"]
        peer = round(least(_ROUNDS, lambda: cpu_ms(find)), 1)
    rows = (("read anew", anew, 500), ("known already", again, 100))
    return [
        {
            "name": f"firmware tree of {_FILES} files, {word}",
            "figure": round(figure, 1),
            "unit": "CPU ms",
            "budget": budget,
            "peer": "find -exec sha256sum",
            "peer_figure": peer,
        }
        for word, figure, budget in rows
    ]


def _grow(root: Path) -> None:
    dice = random.Random(0)  # noqa: S311  only sizes and bytes of test files
    for number in range(_FILES):
        folder = root / f"vendor-{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.bin").write_bytes(dice.randbytes(_BYTES))


def _read(root: Path, known: dict[str, str]) -> float:
    before = time.process_time()
    tree = read_tree(root, cache=known)
    spent = time.process_time() - before
    assert len(tree.files) == _FILES
    return 1000 * spent


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
