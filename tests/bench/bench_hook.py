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
_DPKG: Final = Path(__file__).parents[2] / "packaging/dpkg"
_SHELL: Final = shutil.which("dash") or "/bin/sh"
_SETTING: Final = 'APT::Some::Group::of::settings::Number{0} "a value of usual length";\n'
# As long as the one of Debian 12: 117 lines, 7 KiB.
_CONFIGURATION: Final = "VERSION 3\n" + "".join(_SETTING.format(n) for n in range(117)) + "\n"
_LINE: Final = "libfoo{0} 1.0 amd64 same < 1.1 amd64 same /var/cache/apt/archives/libfoo{0}.deb\n"
_PLAN: Final = _CONFIGURATION + "".join(_LINE.format(n) for n in range(100))
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin"}


def figures() -> list[dict[str, Any]]:
    """Give each call of a hook beside the least that a hook in Python could cost."""
    peer = ["/usr/bin/python3", "-c", "pass"]
    installed = Path(peer[0]).exists()
    other = (
        least(_ROUNDS, lambda: cpu_ms(peer, given=_PLAN, env=_ENVIRONMENT)) if installed else None
    )
    return [
        {
            "name": name,
            "figure": round(own, 1),
            "unit": "CPU ms",
            "budget": 5,
            "peer": "python3 -c pass",
            "peer_figure": None if other is None else round(other, 1),
        }
        for name, own in _calls().items()
    ]


def _calls() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
        folder = Path(name)
        (folder / "spool").mkdir()
        hook, notice = (_copy(folder, each) for each in ("package-hook", "package-notice"))
        return {
            "hook.cpu_ms": least(
                _ROUNDS, lambda: _leave_a_note([_SHELL, str(hook), "begin"], folder)
            ),
            "package hook: the end of a run": least(
                _ROUNDS, lambda: _leave_a_note([_SHELL, str(hook), "end"], folder)
            ),
            "package notice: nothing to say": least(
                _ROUNDS, lambda: cpu_ms([_SHELL, str(notice)], env=_ENVIRONMENT)
            ),
        }


def _leave_a_note(argv: list[str], folder: Path) -> float:
    spent = cpu_ms(argv, given=_PLAN, env=_ENVIRONMENT)
    (note,) = (folder / "spool").glob("*.ev")
    note.unlink()
    return spent


def _copy(folder: Path, script: str) -> Path:
    """Copy a hook with its fixed folders below this one: nothing else can move them."""
    text = (_DPKG / script).read_text(encoding="utf-8")
    for name in (
        *("spool", "kept_firmware_mounted", "kept_modules_mounted"),
        *("plan_touches_boot", "notice"),
    ):
        text = re.sub(rf"(?m)^{name}=.*$", f"{name}={folder / name}", text)
    hook = folder / script
    hook.write_text(text, encoding="utf-8")
    return hook


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
