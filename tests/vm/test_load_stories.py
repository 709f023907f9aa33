"""The story of the load test: a kernel refuses what a CNI has compiled, before any CNI runs."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from tests.vm import reboots, stories
from tests.vm.image import Image
from tests.vm.node import Node, Say
from tests.vm.reboots import KEPT
from tests.vm.stories import BAD, GOOD

pytestmark = pytest.mark.vm

# As Cilium names them: one that 7.x refuses, and one as large as any that it takes.
NAMES = {"bpf_sock.o": "set_retval", "bpf_lxc.o": "large"}
# What the kubelet starts comes after it; this CNI has no kubelet.
AFTER_THE_LOAD_TEST = "[Unit]\nAfter=trialboot-load-test.service\n"
SLOW = 100  # seconds that the CNI takes to begin; all is over by then
AT_ONCE = 60.0  # seconds, far from the deadline of 240


def test_a_kernel_that_refuses_a_kept_object_is_left_at_once(
    image: Image, node: Node, say: Say
) -> None:
    """S8: the CNI would take its time on 7.x; its compiled object is refused before it starts."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.boot_known_good(node, say)
    _compile(node, say)
    stories.upgrade(node, f"linux-image-{bad}", say)
    node.wait_cluster("both objects kept", lambda: _kept(node) == set(NAMES))
    say(f"kept, and tried on {good}: {', '.join(NAMES)}")
    reboots.tell_cni(node, f"START_DELAY={SLOW}")  # one that is whole by then is no reason to go

    trial = stories.reboot_into_trial(node, bad, say)
    stories.fall_back(node, trial, good, say)
    reboots.tell_cni(node, "")  # at its usual pace again
    node.machine.exec("systemctl restart --no-block testcni.service")
    stories.assert_failure_was_told(node, say)
    stories.recover(node, say)
    _assert_the_load_test_explains(node, say)
    _assert_it_came_first(node, trial, say)
    _assert_at_once(node, say)


def _compile(node: Node, say: Say) -> None:
    """Have the CNI compile its programs, as Cilium does at each of its starts."""
    reboots.compile_objects(node, NAMES)
    reboots.tell_cni(node, "")
    node.machine.write("/etc/systemd/system/testcni.service.d/kubelet.conf", AFTER_THE_LOAD_TEST)
    node.machine.exec("systemctl daemon-reload && systemctl restart testcni.service")
    say("the CNI was upgraded: it gives bpf_set_retval a number, and compiles")


def _kept(node: Node) -> set[str]:
    if not node.machine.exists(KEPT):
        return set()
    kept = json.loads(node.machine.read(KEPT))["value"]["objects"]
    return {row["name"].rpartition("/")[2] for row in kept}


def _assert_the_load_test_explains(node: Node, say: Say) -> None:
    reasons = node.record()["trial"]["condemned"][0]["reasons"]
    for reason in reasons:
        say(f"  reason: {reason[:240]}")
    assert "bpf_sock.o" in reasons[0], reasons
    assert "R1 is not a scalar" in reasons[0], reasons
    assert not any("bpf_lxc.o" in reason for reason in reasons), reasons


def _assert_it_came_first(node: Node, trial: str, say: Say) -> None:
    """It had ended before the CNI was started, and the kernel was left before the CNI was up."""
    tested = _seconds(node, trial, "trialboot-load-test", "Finished ")
    began = _seconds(node, trial, "testcni", "Starting ")
    say(f"in the trial: tested {tested:.1f} s after the kernel's start, the CNI at {began:.1f} s")
    assert tested < began
    assert "node is ready" not in _log(node, trial, "testcni")


def _seconds(node: Node, boot: str, unit: str, said: str) -> float:
    """When a unit said something in a boot: seconds since its kernel started."""
    log = _log(node, boot, unit)
    line = next((line for line in log.splitlines() if said in line), None)
    assert line, log
    return float(re.match(r"\[ *([0-9.]+)\]", line)[1])  # type: ignore[index]  # a match or a failed test


def _log(node: Node, boot: str, unit: str) -> str:
    words = f"journalctl -b {boot.replace('-', '')} -u {unit} -o short-monotonic --no-pager"
    return node.machine.exec(words).stdout


def _assert_at_once(node: Node, say: Say) -> None:
    """From the trial's first sign of life to its verdict, by the daemon's own clock."""
    trial = node.record()["trial"]
    began = next(m["at"] for m in trial["story"] if m["text"].startswith("trial: "))
    ended = trial["condemned"][0]["at"]
    took = (_time(ended) - _time(began)).total_seconds()
    say(f"condemned {took:.0f} s after the daemon saw the trial")
    assert took < AT_ONCE


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
