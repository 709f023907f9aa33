"""Healthy reboots: the CNI is well on every kernel, and its pods never come twice the same way."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bpf import objects
from tests.vm import stories
from tests.vm.image import Image
from tests.vm.node import KNOWN_GOOD, Node, Say

CNI = "/etc/default/testcni"
COMPILED = "/root/objects"
SAMPLE = "/var/lib/trialboot/network.json"
CONTRACTS = "/var/lib/trialboot/contracts.json"
KEPT = "/var/lib/trialboot/objects.json"
LOAD_TEST = "/run/trialboot/load-test.json"
# What the CNI needs to be well on 7.x; and it compiles, as Cilium does at each of its starts.
MENDED = ("SCALAR=1", f"OBJECTS={COMPILED}")


@dataclass(frozen=True, kw_only=True)
class Reboot:
    """One healthy reboot."""

    into: str
    """The kernel's series."""
    cni: str
    """How the CNI behaves in that boot: see testcni's settings."""
    via: str
    """How its programs are attached to the NIC there."""


def compile_objects(node: Node, sources: Mapping[str, str]) -> None:
    """Give the CNI what it is to compile: the test object for each name that Cilium has."""
    for name, source in sources.items():
        node.machine.write(f"{COMPILED}/{name}", objects.build(source))


def tell_cni(node: Node, words: str) -> None:
    """Have it behave so from its next start on."""
    node.machine.write(CNI, "\n".join([*MENDED, *words.split(), ""]))


def prove(node: Node, image: Image, reboots: Sequence[Reboot], say: Say) -> None:
    """Reboot so many times; each boot is judged sound, and nothing else happens."""
    before, boots = node.release(), _boots(node)
    for number, reboot in enumerate(reboots, 1):
        release = image.kernels[reboot.into]
        tell_cni(node, reboot.cni)
        began = time.monotonic()
        boot = _reboot_into(node, release)
        up = time.monotonic() - began
        _assert_sound(node, boot)
        took = time.monotonic() - began
        assert _ways(node) == {reboot.via}
        _wait_kept(node, release)
        say(
            f"{number}: {before} → {release} ({reboot.cni}): sound, up after {up:.0f} s,"
            f" judged after {took:.0f} s; {_waited_for(node)}; {_load_test(node)}"
        )
        before = release
    _assert_nothing_else_happened(node)
    if _boots(node) != boots + len(reboots):
        node.fail(f"{_boots(node) - boots} kernels have started in {len(reboots)} reboots")


def _boots(node: Node) -> int:
    """How many kernels the serial console has seen."""
    return node.machine.serial().count("Linux version ")


def _reboot_into(node: Node, release: str) -> str:
    """Reboot; by hand where GRUB's next boot is another kernel. Gives the boot id."""
    comes = node.once_kernel() or node.known_good_entry()["KERNEL"]
    if node.grubenv()["saved_entry"] == KNOWN_GOOD and comes.endswith(f"-{release}"):
        return node.wait_release(release, node.reboot())
    return stories.boot_once_by_hand(node, release)


def _assert_sound(node: Node, boot: str) -> None:
    def judged(state: dict[str, Any]) -> bool:
        if state["boot"] != boot or not state["verdict"]:
            return False
        blessed = state["phase"] == "steady" and state["pinned"]
        done = blessed and not state["cluster"]["waiting"]
        return done or state["verdict"]["outcome"] != "sound"

    state = node.wait_state("this boot is judged sound, and the cluster knows", judged, 400)
    assert state["verdict"]["outcome"] == "sound", _evidence(node, state)
    assert not state["trouble"], state
    assert not node.is_cordoned()


def _evidence(node: Node, state: dict[str, Any]) -> str:
    """Keep what a false alarm was found from, and give its reasons."""
    for path in (SAMPLE, CONTRACTS):
        (node.folder / path.rpartition("/")[2]).write_text(node.machine.read(path))
    log = node.machine.exec("journalctl -b --no-pager -u testcni -u 'trialboot*'").stdout
    verdict = json.dumps(state["verdict"], indent=1, ensure_ascii=False)
    return f"{verdict}\nsample and contracts are in {node.folder}\n{log[-8000:]}"


def _ways(node: Node) -> set[str]:
    """How what comes in by the NIC reaches the CNI, as trialboot itself has seen it."""
    sample = json.loads(node.machine.read(SAMPLE))["value"]
    return {a["via"] for a in sample["network"]["attachments"] if a["program"] == "tcni_from_nic"}


def _waited_for(node: Node) -> str:
    """What the verdict had to wait for: the last of its progress that names it."""
    log = node.machine.exec("journalctl -b -o cat --no-pager -u trialboot-verify").stdout
    waits = [line for line in log.splitlines() if ": waiting for " in line]
    return waits[-1] if waits else "it waited for nothing"


def _wait_kept(node: Node, release: str) -> None:
    """Wait until the objects were tried on this kernel: people reboot less quickly than tests."""
    until = time.monotonic() + 180
    while json.loads(node.machine.read(KEPT))["value"]["release"] != release:
        assert time.monotonic() < until, f"no object was tried on {release}"
        time.sleep(1)


def _load_test(node: Node) -> str:
    """What the kernel said to the compiled objects: it has refused none of them."""
    if not node.machine.exists(LOAD_TEST):
        return "no load test"
    found = json.loads(node.machine.read(LOAD_TEST))["value"]
    said = [row["result"] for row in found["objects"]]
    assert not [result for result in said if result["is"] == "Refused"], said
    words = [result.get("why", result["is"]) for result in said] or [found["not_needed"]]
    return f"load test: {', '.join(words)}"


def _assert_nothing_else_happened(node: Node) -> None:
    state, record = node.state(), node.record()["trial"]
    assert state["counters"].get("reboots", 0) == 0, state["counters"]
    assert record["condemned"] == []
    assert not [e for e in node.api.events if e["type"] == "Warning"], node.api.events
