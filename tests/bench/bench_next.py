"""CPU time of `trialboot next --now` on a large node, with plain and with packed modules.

In the figures: reading and comparing all facts of the folder, netlink of this machine's kernel,
and the text. Not in `next.cpu_ms` and `next_xz.cpu_ms`: the start of the interpreter with its
imports, and the system bus, for which the test answers (systemd is asked for its watchdog). The
rows of the whole command have both; without a system bus, the library's refusal.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Final

from tests.bench import next_host
from tests.bench.cost import cpu_ms, least
from tests.bench.next_host import NextHost
from tests.fakes.module_files import program
from tests.host.conftest import run_inside, sh
from tests.unit.workers.debian_host import NEW
from trialboot import bootfiles, cli
from trialboot.host import Host
from trialboot.workers import snapshot
from trialboot.writers import store

_ROUNDS: Final = 9
_COLD_ROUNDS: Final = 3
_BUDGETS: Final = {".ko": ("next", 150), ".ko.xz": ("next_xz", 300)}
_REMEMBERED: Final = (f"{store.STATE}/content-cache.json", f"{store.STATE}/ran.json")
_AGENT: Final = Path(__file__).parents[2] / "agent"
_COMMAND: Final = """
import sys
from pathlib import Path
from trialboot.cli import main
from trialboot.host import Host
sys.exit(main(["next", "--now"], Host(root=Path(sys.argv[1]))))
"""
# Whoever starts a process leaves an audit event, or, where a library in C did it, a waited child.
_COUNTING: Final = f"""
import resource, sys
started = []
starts = {{"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"}}
sys.addaudithook(lambda event, _: started.append(event) if event in starts else None)
try:
    {_COMMAND.strip().replace(chr(10), chr(10) + "    ")}
finally:
    faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    sys.stderr.write(str(len(started) or int(faults > 0)))
"""
_NEEDRESTART: Final = "needrestart -b -k"
# Installed, it would hook itself into every run of apt and dpkg on this machine.
_PACKAGES: Final = (
    *("needrestart", "libintl-perl", "libmodule-find-perl", "libsort-naturally-perl"),
    *("libterm-readkey-perl", "libproc-processtable-perl", "libmodule-scandeps-perl"),
)


def figures() -> list[dict[str, Any]]:
    """Give both hosts, beside one modinfo over the same files and needrestart on their /boot."""
    rows: list[dict[str, Any]] = []
    for ending in _BUDGETS:
        with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
            rows += _figures_of(next_host.make(Path(name), ending), ending)
    return rows


def _figures_of(made: NextHost, ending: str) -> list[dict[str, Any]]:
    name, budget = _BUDGETS[ending]
    host = Host(root=made.root, run=_refuse, call=next_host.bus)
    needrestart = _least_needrestart(made.root)
    modinfo = least(_ROUNDS, lambda: cpu_ms([program("modinfo"), *made.module_files]))
    warm = least(_ROUNDS, lambda: _spent(lambda: _next(host)))
    rows = [
        _row(f"{name}.cpu_ms", warm, budget, _NEEDRESTART, needrestart),
        _row(f"{name}.cpu_ms, against modinfo", warm, budget, "modinfo", modinfo),
        _row(f"{name}: the whole command", _whole(made.root), None, _NEEDRESTART, needrestart),
        _row(f"{name}: nothing is remembered", _cold(host), None, "modinfo", modinfo),
        _row(f"{name}: snapshot worker", _worker(host), None, _NEEDRESTART, needrestart),
    ]
    if ending == ".ko":
        count = {"name": "next.processes_spawned", "figure": _count(made.root), "budget": 0}
        rows.append({**count, "unit": "processes", "peer": "modinfo", "peer_figure": 1})
    return rows


def _row(
    name: str, figure: float, budget: int | None, peer: str, peer_figure: float | None
) -> dict[str, Any]:
    return {
        "name": name,
        "figure": round(figure, 1),
        "budget": budget,
        "unit": "CPU ms",
        "peer": peer,
        "peer_figure": None if peer_figure is None else round(peer_figure, 1),
    }


def _refuse(argv: list[str], **_: object) -> str:
    raise AssertionError(f"«{' '.join(argv)}» was started")


def _spent(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return 1000 * (time.process_time() - before)


def _next(host: Host) -> None:
    bootfiles.parsed_once.cache_clear()  # a process of its own has nothing of it
    told = io.StringIO()
    with redirect_stdout(told):
        assert cli.main(["next", "--now"], host) == 0
    assert NEW in told.getvalue().partition("\n")[0], told.getvalue()


def _worker(host: Host) -> float:
    """Measure what a package run causes: the same, remembered."""

    def work() -> None:
        bootfiles.parsed_once.cache_clear()
        snapshot.work(host)

    return least(_ROUNDS, lambda: _spent(work))


def _cold(host: Host) -> float:
    with _forgotten(host):
        return least(_COLD_ROUNDS, lambda: _spent(lambda: _next(host)))


@contextmanager
def _forgotten(host: Host) -> Iterator[None]:
    """Put away what is remembered: the command itself remembers nothing."""
    places = [host.path(path) for path in _REMEMBERED]
    for place in places:
        place.rename(place.with_suffix(".away"))
    yield
    for place in places:
        place.with_suffix(".away").rename(place)


def _whole(root: Path) -> float:
    argv = [sys.executable, "-c", _COMMAND, str(root)]
    environment = {**os.environ, "PYTHONPATH": str(_AGENT)}
    return least(_ROUNDS, lambda: cpu_ms(argv, env=environment))


def _count(root: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNTING, str(root)],
        env={**os.environ, "PYTHONPATH": str(_AGENT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr)


# --- needrestart ------------------------------------------------------------------------------


def _least_needrestart(root: Path) -> float | None:
    """Measure it with the folder's /boot in the place of this machine's. Needs root."""
    if os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory(prefix="trialboot-bench-") as name:
        argv, environment = _needrestart(Path(name))
        if not argv:
            return None
        spent: float | None = run_inside(lambda: _measure_needrestart(root, argv, environment))
        return spent


def _measure_needrestart(root: Path, argv: list[str], environment: dict[str, str]) -> float | None:
    sh(f"mount --bind {root}/boot /boot")
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if f"NEEDRESTART-KEXP: {NEW}" not in done.stdout:
        return None
    return least(_ROUNDS, lambda: cpu_ms(argv, env=environment))


def _needrestart(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Give the installed one, or that of this machine's apt, unpacked; empty without either."""
    installed = shutil.which("needrestart", path="/usr/sbin:/usr/bin")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    if installed:
        return [installed, "-b", "-k"], environment
    with suppress(OSError, subprocess.CalledProcessError):
        for package in _PACKAGES:
            with suppress(subprocess.CalledProcessError):  # a library that perl itself brings
                _quietly(["apt-get", "download", package], folder)
        for archive in sorted(folder.glob("*.deb")):
            _quietly(["dpkg-deb", "--extract", str(archive), str(folder)], folder)
        libraries = [*folder.glob("usr/share/perl5"), *folder.glob("usr/lib/*/perl5/*")]
        environment["PERL5LIB"] = ":".join(str(path) for path in libraries)
        script = folder / "usr/sbin/needrestart"
        settings = folder / "etc/needrestart/needrestart.conf"
        return ["perl", str(script), "-c", str(settings), "-b", "-k"], environment
    return [], environment


def _quietly(argv: list[str], folder: Path) -> None:
    subprocess.run(argv, cwd=folder, capture_output=True, check=True)


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=2)
