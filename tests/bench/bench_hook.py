"""CPU time that the package manager's hook adds to a run of apt with 100 packages."""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.bench.cost import cpu_ms, least

_ROUNDS: Final = 20
_HOOK: Final = Path(__file__).parents[2] / "packaging/dpkg/package-hook"
_SHELL: Final = shutil.which("dash") or "/bin/sh"
_CONFIGURATION: Final = 'VERSION 3\nDir="/"\n\n'
_LINE: Final = "libfoo{0} 1.0 amd64 same < 1.1 amd64 same /var/cache/apt/archives/libfoo{0}.deb\n"
_PLAN: Final = _CONFIGURATION + "".join(_LINE.format(n) for n in range(100))
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin"}


def figures() -> list[dict[str, Any]]:
    """Give the hook beside the least that a hook in Python could cost."""
    with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
        hook = _copy(Path(name))
        own = least(_ROUNDS, lambda: _leave_a_note([_SHELL, str(hook), "begin"], Path(name)))
    peer = ["/usr/bin/python3", "-c", "pass"]
    installed = Path(peer[0]).exists()
    other = (
        least(_ROUNDS, lambda: cpu_ms(peer, given=_PLAN, env=_ENVIRONMENT)) if installed else None
    )
    return [
        {
            "name": "package hook: a plan of 100 lines",
            "figure": round(own, 1),
            "unit": "CPU ms",
            "budget": 5,
            "peer": "python3 -c pass",
            "peer_figure": None if other is None else round(other, 1),
        }
    ]


def _leave_a_note(argv: list[str], folder: Path) -> float:
    spent = cpu_ms(argv, given=_PLAN, env=_ENVIRONMENT)
    (note,) = (folder / "spool").glob("*.ev")
    note.unlink()
    return spent


def _copy(folder: Path) -> Path:
    """Copy the hook with its fixed folders below this one: nothing else can move them."""
    (folder / "spool").mkdir()
    text = _HOOK.read_text(encoding="utf-8")
    for name, value in (("spool", folder / "spool"), ("kept_firmware_mounted", folder / "flag")):
        text, found = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert found == 1
    hook = folder / "package-hook"
    hook.write_text(text, encoding="utf-8")
    return hook


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
