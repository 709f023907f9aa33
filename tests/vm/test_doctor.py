"""Doctor on a booted machine: what it finds, what it sets, and that a setting becomes a trial."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm import stories
from tests.vm.node import Node, Say

pytestmark = pytest.mark.vm

FILE = "/etc/default/grub.d/trialboot-panic.cfg"


def doctor(node: Node, say: Say) -> dict[str, Any]:
    """Ask doctor; give the state of each row, the level, and how each was found."""
    found: dict[str, Any] = json.loads(node.trialboot("doctor --json"))
    for row in found["rows"]:
        say(f"  {row['state']}: {row['subject']}: {row['found']}")
    return {"level": found["level"], **{row["subject"]: row["state"] for row in found["rows"]}}


def test_panic_is_set_on_request_and_is_a_trial_like_any_change(node: Node, say: Say) -> None:
    stories.boot_known_good(node, say)
    found = doctor(node, say)
    assert found["level"] == "panic-only"  # this machine has no watchdog
    fine = (
        *("boot loader", "one-shot", "known-good", "known-good entry", "default", "menu"),
        *("panic= of this boot", "panic= of the next boot", "daemon", "autoremove", "kexec"),
    )
    assert {name: found[name] for name in fine} == dict.fromkeys(fine, "fine")
    assert found["hardware watchdog"] == "lowers the protection"
    say("arm --accept-protection is not needed; then panic= goes from the command line")
    node.trialboot("arm")
    node.machine.exec("sed -i 's/ panic=5//' /etc/default/grub && update-grub", timeout=300)
    assert doctor(node, say)["panic= of the next boot"] == "lowers the protection"
    node.machine.exec("trialboot doctor --set panic", timeout=300)
    assert "panic=10" in node.machine.exec(f"cat {FILE}").stdout
    assert doctor(node, say)["panic= of the next boot"] == "fine"
    node.wait_phase("armed")
    say("the changed command line is armed for a trial")
    node.machine.exec("trialboot doctor --unset panic", timeout=300)
    assert doctor(node, say)["panic= of the next boot"] == "lowers the protection"
    assert node.machine.exec(f"ls {FILE}", check=False).stdout == ""
