"""Draw the phases of a trial from the table of legal moves, into docs/architecture.md.

Run `python3 tests/unit/diagram.py --write` after a change of the table.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- phases:begin -->", "<!-- phases:end -->"


def diagram() -> str:
    """Give the mermaid text of the table."""
    from trialboot.core.machine import legal_moves  # noqa: PLC0415  the script sets the path
    from trialboot.core.trial import Phase  # noqa: PLC0415  as above

    moves = [f"    {before} --> {after}: {word}" for before, after, word in legal_moves()]
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.STEADY}", *moves, "```"]
    return "\n".join(lines)


def drawn(page: str) -> str:
    """Give what stands between the markers of the page."""
    _, _, rest = page.partition(BEGIN)
    block, end, _ = rest.partition(END)
    if not end:
        raise ValueError(f"{PAGE} lacks {BEGIN} or {END}")
    return block.strip()


def main() -> None:
    """Print the diagram, or write it into the page."""
    sys.path.insert(0, str(ROOT / "agent"))
    if sys.argv[1:] != ["--write"]:
        print(diagram())
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(drawn(page), diagram()), encoding="utf-8")


if __name__ == "__main__":
    main()
