"""Where a command's words go: data to standard output, all else to standard error."""

import json
import sys
from collections.abc import Sequence
from typing import Any


def print_lines(lines: Sequence[str]) -> None:
    """Write an answer for people."""
    sys.stdout.write("\n".join(lines) + "\n")


def print_json(value: Any) -> None:
    """Write an answer for tools."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def tell(text: str) -> None:
    """Say what happens beside the answer."""
    sys.stderr.write(f"{text}\n")


def ask(question: str) -> bool:
    """Ask somebody at the terminal; no where nobody sits there."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
