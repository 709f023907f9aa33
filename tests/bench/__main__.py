"""Measures everything once: a table for people, `build/bench.json` for tools. Fails nothing.

CPU time and minima of several runs, so that who else is busy hardly counts. A peer that is not
installed has no figure.
"""

import importlib
import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_RESULT = Path(__file__).parents[2] / "build" / "bench.json"


def collect() -> list[dict[str, Any]]:
    """Ask each bench_*.py for its figures, in order of name."""
    rows: list[dict[str, Any]] = []
    for path in sorted(_HERE.glob("bench_*.py")):
        rows += importlib.import_module(f"tests.bench.{path.stem}").figures()
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Write the figures one a line, with the budget and the peer beside them."""
    cells = [("what", "figure", "budget", "unit", "peer")]
    cells += [
        (row["name"], str(row["figure"]), _budget(row), row["unit"], _peer(row)) for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    return [
        f"{name:{widths[0]}}  {figure:>{widths[1]}}  {budget:>{widths[2]}}  "
        f"{unit:{widths[3]}}  {peer}"
        for name, figure, budget, unit, peer in cells
    ]


def _budget(row: dict[str, Any]) -> str:
    return "-" if row["budget"] is None else str(row["budget"])


def _peer(row: dict[str, Any]) -> str:
    if not row["peer"]:
        return "-"
    if row["peer_figure"] is None:
        return "not installed"
    return f"{row['peer_figure']}  {row['peer']}"


def main() -> None:
    """Measure, keep, print."""
    rows = collect()
    _RESULT.parent.mkdir(exist_ok=True)
    _RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))
    print(f"\nkept in {_RESULT}")


if __name__ == "__main__":
    main()
