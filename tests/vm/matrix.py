"""One cell of the matrix faults x hosts: an armed node, a fault, and what came of it.

Each cell leaves a file in build/matrix; ``python3 -m tests.vm.matrix`` makes the table of them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.vm import atrest, hosts, loaderfiles, stories
from tests.vm.errors import AgentGone, CommandFailed, InfrastructureError
from tests.vm.faults import WORDS, Fault
from tests.vm.hosts import HOSTS, Host
from tests.vm.image import Image
from tests.vm.node import REPOSITORY, Node, Say, steady_disk
from tests.vm.stories import BAD, GOOD, armed_disk, nic_disk

RESULTS = REPOSITORY / "build" / "matrix"
_START = re.compile(
    r"Linux version (\S+)(?:(?:(?!Linux version ).)*?Command line: ([^\n]*))?", re.DOTALL
)
_REPAIR = 120.0


@dataclass(kw_only=True)
class Seen:
    """What a cell showed. A file of these words is all that is kept of it."""

    host: str
    fault: str
    boot: str = ""
    """The id of the boot that it ended in."""
    starts: list[str] = field(default_factory=list)
    """Each start of a kernel, in order: its release, and whether the known-good entry did it."""
    back_seconds: float = 0.0
    """From power-on of the trial until the known-good answers for good."""
    end_seconds: float = 0.0
    """From there until the end phase."""
    phase: str = ""
    fine: bool = False
    why: str = "it was not finished"

    def keep(self, folder: Path = RESULTS) -> None:
        """Write it where the table is made from."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.host}--{self.fault}.json"
        (folder / name).write_text(json.dumps(asdict(self), indent=1) + "\n")


def kernel_starts(serial: str) -> list[str]:
    """Tell each start of a kernel from the serial console.

    One that died before it told its command line counts: no known-good entry is seen.
    """
    return [
        f"{release} {'known-good' if 'trialboot.boot=' in line else 'candidate'}"
        for release, line in _START.findall(serial)
    ]


@dataclass(frozen=True)
class Cell:
    """A host and what goes wrong with it."""

    host: Host
    fault: Fault

    def play(self, image: Image, package: Path, folder: Path, say: Say) -> None:
        """Bring the fault about on this host, and see it to its end."""
        begin = _BEGINNINGS[self.fault.begin](image, package, say, self.host)
        hardware = self.host.hardware(serial_number=self.fault.switch)
        seen = Seen(host=self.host.name, fault=self.fault.name)
        with Node(image, folder, begin, hardware) as node:
            try:
                _Play(self, node, image, seen, say).to_the_end()
            except Exception as error:
                seen.why = next(iter(str(error).splitlines()), repr(error))[:300]
                raise
            finally:
                seen.keep()
                say(f"seen: {seen}")


_BEGINNINGS: Mapping[str, Callable[[Image, Path, Say, Host], Path]] = MappingProxyType(
    {"armed": armed_disk, "steady": steady_disk, "nic": lambda *words: nic_disk(*words[:3])}
)


class _Play:
    """One cell as it is played."""

    def __init__(self, cell: Cell, node: Node, image: Image, seen: Seen, say: Say) -> None:
        self._host, self._fault = cell.host, cell.fault
        self._node, self._image, self._seen, self._say = node, image, seen, say
        self._bad = image.kernels[BAD]
        self._last = self._bad if cell.fault.blessed else image.kernels[GOOD]
        self._left = ""
        self._told_before = 0
        self._began = 0.0

    def to_the_end(self) -> None:
        """Begin, wait, and look."""
        if self._fault.at_rest:
            self._change_at_rest()
        if self._fault.prepare:
            self._prepare_and_reboot(self._fault.prepare)
        else:
            self._began = time.monotonic()
            self._node.machine.start()
        try:
            if self._fault.act:
                self._fault.act(self._node, self._bad)
            self._wait()
        finally:
            self._seen.starts = kernel_starts(self._node.machine.serial()[self._told_before :])
        self._check()

    def _change_at_rest(self) -> None:
        script = WORDS.format(release=self._bad) + self._fault.at_rest
        atrest.change(self._node.machine, hosts.direct(self._host, self._image), script)
        self._say(f"at rest: {self._fault.told}")

    def _prepare_and_reboot(self, prepare: Callable[[Node, str], None]) -> None:
        stories.boot_known_good(self._node, self._say)
        prepare(self._node, self._bad)
        self._told_before = len(self._node.machine.serial())
        self._began = time.monotonic()
        self._left = self._node.reboot()
        self._say(f"prepared, and rebooted: {self._fault.told}")

    def _wait(self) -> None:
        """Wait for the end, whatever boots lie before it."""
        until = time.monotonic() + self._fault.patience
        while time.monotonic() < until:
            with suppress(AgentGone, CommandFailed, ValueError):
                if self._is_the_end():
                    return
            if not self._node.machine.running():
                raise InfrastructureError("QEMU ended")
            time.sleep(1)
        seconds = self._fault.patience
        self._node.fail(f"after {seconds:.0f} s not the end: phase {self._seen.phase}")

    def _is_the_end(self) -> bool:
        """The kernel that is to stay has its verdict, and the phase is one to end in."""
        node, seen = self._node, self._seen
        boot, release, state = node.machine.boot_id(), node.release(), node.state()
        if boot == self._left or state["boot"] != boot or release != self._last:
            return False
        if boot != seen.boot and self._is_where_it_stays():
            seen.boot, seen.back_seconds = boot, round(time.monotonic() - self._began)
        seen.phase = state["phase"]
        if boot != seen.boot or not state["verdict"] or state["cluster"]["waiting"]:
            return False
        seen.end_seconds = round(time.monotonic() - self._began - seen.back_seconds)
        return seen.phase in self._fault.ends

    def _is_where_it_stays(self) -> bool:
        return self._fault.blessed or self._is_kept()

    def _check(self) -> None:
        """The common end: whole, where it should be, nothing pending, and no loop."""
        node, seen = self._node, self._seen
        candidates = [start for start in seen.starts if start.endswith(" candidate")]
        others = 0 if self._fault.blessed else 1
        as_often = len(seen.starts) == len(candidates) + others
        if not as_often or len(candidates) not in self._fault.starts:
            node.fail(f"kernels started: {seen.starts}")
        self._check_default()
        pending = loaderfiles.pending(node)
        assert seen.phase == "armed" or not pending, f"pending: {pending}"
        before = node.machine.read(stories.BOOT_ORDER) if self._fault.begin == "armed" else ""
        assert before in {"", loaderfiles.boot_order(node)}, "the firmware's boot order changed"
        assert node.state()["counters"].get("reboots", 0) <= 1
        node.wait_cluster("uncordoned", lambda: not node.is_cordoned())
        if self._fault.blessed:
            self._boot_the_blessed()
        seen.fine, seen.why = True, ""

    def _check_default(self) -> None:
        """Where it was lost before the boot it is put back at a look; else it was never away."""
        until = time.monotonic() + (_REPAIR if self._fault.default_lost else 0)
        while True:
            try:
                return loaderfiles.assert_default_is_whole(self._node, self._host, self._last)
            except (AssertionError, CommandFailed):
                if time.monotonic() >= until:
                    raise
            time.sleep(2)

    def _boot_the_blessed(self) -> None:
        self._node.wait_release(self._last, self._node.reboot())
        assert self._is_kept(), self._node.command_line()
        self._say("and the blessed one boots, from the known-good entry")

    def _is_kept(self) -> bool:
        return "trialboot.boot=" in self._node.command_line()


# --- the table ----------------------------------------------------------------------------------


def table(folder: Path = RESULTS) -> str:
    """Make the table of all results in a folder, a line a cell, in Markdown."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
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
