"""One cell of the matrix faults x hosts: an armed node, a fault, and what came of it.

Each cell leaves a file in build/matrix; ``python3 -m tests.vm.matrix`` makes the table of them.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.vm import atrest, hosts
from tests.vm.faults import WORDS, Fault
from tests.vm.hosts import HOSTS, Host
from tests.vm.image import Image
from tests.vm.node import REPOSITORY, Node, Say
from tests.vm.stories import BAD, GOOD

RESULTS = REPOSITORY / "build" / "matrix"
_START = re.compile(
    r"Linux version (\S+)(?:(?!Linux version ).)*?Command line: ([^\n]*)", re.DOTALL
)
_PATIENCE = 600.0


@dataclass(kw_only=True)
class Seen:
    """What a cell showed. A file of these words is all that is kept of it."""

    host: str
    fault: str
    starts: list[str] = field(default_factory=list)
    """Each start of a kernel, in order: its release, and whether the known-good entry did it."""
    back_seconds: float = 0.0
    """From power-on of the trial until the known-good answers for good."""
    end_seconds: float = 0.0
    """From there until the end phase."""
    phase: str = ""
    fine: bool = False
    why: str = "it was not finished"

    def keep(self) -> None:
        """Write it where the table is made from."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        name = f"{self.host}--{self.fault}.json"
        (RESULTS / name).write_text(json.dumps(asdict(self), indent=1) + "\n")


def kernel_starts(serial: str) -> list[str]:
    """Tell each start of a kernel from the serial console."""
    return [
        f"{release} {'known-good' if 'trialboot.boot=' in line else 'candidate'}"
        for release, line in _START.findall(serial)
    ]


@dataclass(frozen=True)
class Cell:
    """A host and what goes wrong with it."""

    host: Host
    fault: Fault

    def play(self, node: Node, image: Image, say: Say) -> None:
        """Bring the fault about on this host, armed and off, and see it to its end."""
        good, bad = image.kernels[GOOD], image.kernels[BAD]
        if self.fault.at_rest:
            script = WORDS.format(release=bad) + self.fault.at_rest
            atrest.change(node.machine, hosts.direct(self.host, image), script)
            say(f"at rest: {self.fault.told}")
        seen = Seen(host=self.host.name, fault=self.fault.name)
        began = time.monotonic()
        node.machine.start()
        try:
            if self.fault.act:
                self.fault.act(node, bad)
            _see_the_end(node, good, self.fault, seen, began)
            self._check(node, good, seen)
        except Exception as error:
            seen.why = str(error).splitlines()[0][:300] if str(error) else repr(error)
            raise
        finally:
            seen.starts = kernel_starts(node.machine.serial())
            seen.keep()
            say(f"seen: {seen}")

    def _check(self, node: Node, good: str, seen: Seen) -> None:
        """The common end: whole, on the known-good, nothing pending, and no loop."""
        seen.starts = kernel_starts(node.machine.serial())
        candidates = [start for start in seen.starts if start.endswith(" candidate")]
        assert len(candidates) == self.fault.starts, f"the candidate started: {seen.starts}"
        assert len(seen.starts) - len(candidates) == 1, f"the known-good started: {seen.starts}"
        loaderfiles.assert_default_is_whole(node, self.host, good)
        if seen.phase != "armed":
            pending = loaderfiles.pending(node)
            assert not pending, f"pending: {pending}"
        assert node.state()["counters"].get("reboots", 0) <= 1
        node.wait_cluster("uncordoned", lambda: not node.is_cordoned())
        seen.fine, seen.why = True, ""


def _see_the_end(node: Node, good: str, fault: Fault, seen: Seen, began: float) -> None:
    """Wait until the known-good is up and has its verdict, whatever boots lie before that."""
    until = time.monotonic() + _PATIENCE
    up = ""
    while time.monotonic() < until:
        try:
            boot, release, state = node.machine.boot_id(), node.release(), node.state()
            if release == good and "trialboot.boot=" in node.command_line() and boot != up:
                up, seen.back_seconds = boot, round(time.monotonic() - began)
            seen.phase = state["phase"]
            judged = state["boot"] == up and state["verdict"]
            if judged and seen.phase in fault.ends and not state["cluster"]["waiting"]:
                seen.end_seconds = round(time.monotonic() - began - seen.back_seconds)
                return
        except (AgentGone, CommandFailed, ValueError):
            if not node.machine.running():
                raise InfrastructureError("QEMU ended") from None
        time.sleep(1)
    node.fail(f"after {_PATIENCE:.0f} s not the end of {fault.name}: phase {seen.phase}")


# --- the table ----------------------------------------------------------------------------------


def table() -> str:
    """Make the table of all results in build/matrix, a line a cell, in Markdown."""
    cells = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    cells.sort(key=lambda cell: (list(HOSTS).index(cell["host"]), cell["fault"]))
    lines = [
        "| host | fault | kernels that started | back after | end after | phase | |",
        "|---|---|---|---|---|---|---|",
        *map(_line, cells),
    ]
    return "\n".join(lines) + "\n"


def _line(cell: dict[str, object]) -> str:
    starts = ", ".join(cell["starts"]) if isinstance(cell["starts"], list) else ""
    told = "as it should" if cell["fine"] else f"**{cell['why']}**"
    return (
        f"| {cell['host']} | {cell['fault']} | {starts} | {cell['back_seconds']:.0f} s "
        f"| {cell['end_seconds']:.0f} s | {cell['phase']} | {told} |"
    )


def write_table() -> Path:
    """Write the table beside the results."""
    path = RESULTS.with_suffix(".md")
    path.write_text(table())
    return path


if __name__ == "__main__":
    print(write_table().read_text())
