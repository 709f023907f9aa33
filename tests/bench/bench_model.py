"""How much of the model of a host was visited, and how many laws were broken on the way."""

from typing import Any, Final

from tests.unit.core.explorer import DEPTH, Explorer

_KINDS: Final = {
    "loops": "loop",
    "unbootable": "unbootable",
    "lost": "lost",
}
"""The figures of broken laws, by the word that each law of that kind begins with."""


def figures() -> list[dict[str, Any]]:
    """Explore as the unit test does; what has no kind is counted as lost."""
    explorer = Explorer()
    explorer.explore(DEPTH)
    counts = {figure: explorer.found(kind) for figure, kind in _KINDS.items()}
    counts["lost"] += len(explorer.broken) - sum(counts.values())
    rows = [_row("model.states", len(explorer.came), None)]
    return [*rows, *(_row(f"model.{name}", count, 0) for name, count in counts.items())]


def _row(name: str, figure: int, budget: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "figure": figure,
        "budget": budget,
        "unit": "worlds" if budget is None else "broken laws",
        "peer": "",
        "peer_figure": None,
    }
