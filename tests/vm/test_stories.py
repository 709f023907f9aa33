"""The stories, each on a fresh overlay of one image, on a really booted machine.

Nothing here is simulated but the API server, which answers as the recordings of a real one do.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.vm import stories
from tests.vm.errors import AgentGone, CommandFailed
from tests.vm.image import Image
from tests.vm.node import Node, Say, set_up
from tests.vm.stories import BAD, GOOD, OLD, armed_disk, assert_bootable_default, nic_disk

pytestmark = pytest.mark.vm

FIRMWARE_LOADED = "/sys/module/toynic/parameters/firmware_loaded"
POWER_CUTS = range(2, 20) if os.environ.get("TRIALBOOT_POWER_CUTS") == "more" else range(2)
"""Seeds of the instants: each takes five minutes, so `make test` cuts twice, and 18 more times in
`make test-long`."""
PANIC = """\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
case $(uname -r) in 7.*) echo c > /proc/sysrq-trigger ;; esac
"""


def test_a_good_upgrade_is_blessed(image: Image, package: Path, tmp_path: Path, say: Say) -> None:
    """S1: from 6.1 to 6.12."""
    old, new = image.kernels[OLD], image.kernels[GOOD]
    with Node(image, tmp_path / "node") as node:
        _only_old_kernel(node, new)
        assert node.release() == old
        set_up(node, package, say)
        node.wait_cluster("BootProven", lambda: (node.condition() or {}).get("status") == "True")

        stories.upgrade(node, f"linux-image-{new}", say)
        words = node.trialboot("next")
        assert words.startswith(f"The next boot switches the kernel {old} → {new}"), words
        assert node.default_release() == old
        assert node.once_kernel() == f"/boot/vmlinuz-{new}"
        assert not node.is_cordoned()

        boot = stories.reboot_into_trial(node, new, say)
        node.wait_cluster("a cordon during the trial", node.has_receipt)
        assert node.is_cordoned()
        assert not node.grubenv().get("next_entry")

        _wait_blessed(node, new)
        say("blessed")
        assert node.state()["boot"] == boot
        assert node.default_release() == new
        assert_bootable_default(node)
        assert not node.is_cordoned()
        assert not node.has_receipt()
        assert (node.condition() or {})["status"] == "True"
        assert (node.condition() or {})["reason"] == "BootProven"
        stories.boot_once_by_hand(node, old)
        say("6.1 is still bootable")


def _only_old_kernel(node: Node, new: str) -> None:
    """Take 6.12 away from this overlay and boot what is left, through GRUB."""
    node.start(OLD)  # straight into 6.1, for apt does not like to remove the kernel that runs
    purge = f"DEBIAN_FRONTEND=noninteractive apt-get purge -y linux-image-{new}"
    node.machine.exec(purge, timeout=300)
    node.machine.power_off()
    node.start()


def _wait_blessed(node: Node, release: str) -> None:
    node.wait_state(
        f"{release} is blessed, pinned, and the cluster knows",
        lambda s: bool(
            s["phase"] == "steady"
            and s["known_good"]["release"] == release
            and not s["trouble"]
            and not s["cluster"]["waiting"]
        ),
    )


def test_the_incident_goes_back_by_itself(image: Image, node: Node, say: Say) -> None:
    """S2: 7.x refuses the CNI's programs; the node goes back, and does not try 7.x again."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.incident(image, node, say)

    cordons = [r for r in node.writes() if stories.is_cordon(r.body)]
    assert cordons
    assert all(r.content_type == "application/merge-patch+json" for r in cordons)
    statuses = [r for r in node.writes() if "/status" in r.path]
    assert all(r.content_type == "application/strategic-merge-patch+json" for r in statuses)
    why = node.trialboot("why").splitlines()
    assert len(why) <= 10
    assert any("condemned" in line and "worse" in line for line in why), why
    assert node.default_release() == good
    assert_bootable_default(node)

    again = node.wait_release(good, node.reboot())
    say("rebooted once more: still the known-good")
    node.wait_state("judged again", lambda s: bool(s["boot"] == again and s["verdict"]))
    assert node.state()["phase"] == "recovered"
    assert not node.grubenv().get("next_entry")
    # The serial console saw 7.x start exactly once.
    assert node.machine.serial().count(f"Linux version {bad}") == 1


def test_a_candidate_that_panics_is_answered_by_the_loader(
    image: Image, node: Node, say: Say
) -> None:
    """S3: it dies before userspace; none of our code runs."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.boot_known_good(node, say)
    node.machine.write("/etc/initramfs-tools/scripts/init-premount/panic", PANIC, 0o755)
    stories.upgrade(node, f"linux-image-{bad}", say)
    node.wait_release(good, node.reboot(), timeout=300)
    say("back on the known-good: GRUB went back by itself")
    serial = node.machine.serial()
    assert serial.count(f"Linux version {bad}") == 1
    assert "sysrq triggered crash" in serial.lower()
    state = node.wait_phase("recovered")
    assert state["condemned"][0]["release"] == bad
    assert "never came up" in state["condemned"][0]["why"]
    assert "never came up" in node.trialboot("why")
    assert state["counters"].get("reboots", 0) == 0
    assert not node.grubenv().get("next_entry")
    assert node.default_release() == good
    node.wait_cluster("uncordoned", lambda: not node.is_cordoned())


def test_bad_firmware_is_taken_back_with_its_initrd(
    image: Image, package: Path, tmp_path: Path, say: Say
) -> None:
    """S4: the same kernel; a firmware file that a driver uses changes, and the initrd with it."""
    good = image.kernels[GOOD]
    initrd = f"/boot/initrd.img-{good}"
    with Node(image, tmp_path / "node", nic_disk(image, package, say)) as node:
        stories.boot_known_good(node, say)
        assert node.machine.read(FIRMWARE_LOADED).startswith("GOOD 1.0")
        before = _sha256(node, initrd)
        stories.upgrade(node, "firmware-toynic=2.0", say)
        assert "1 firmware file (toynic/nic.bin) that this host uses" in node.trialboot("next")
        after = _sha256(node, initrd)
        assert before != after

        trial = stories.reboot_into_trial(node, good, say)
        stories.fall_back(node, trial, good, say)
        stories.recover(node, say)

        # What the kernel itself loaded are the old bytes, with the old initrd, ...
        assert node.machine.read(FIRMWARE_LOADED).startswith("GOOD 1.0")
        assert node.machine.exec("ip -br link show toynic0").stdout
        assert node.record()["trial"]["known_good"]["initrd"] == before
        assert _sha256(node, node.known_good_entry()["INITRDS"].split()[0]) == before
        reasons = node.record()["trial"]["condemned"][0]["reasons"]
        assert any("link toynic0" in reason for reason in reasons), reasons
        # ... and the packages' own files are untouched, and theirs again when apt runs next.
        assert _sha256(node, initrd) == after
        assert node.machine.read("/lib/firmware/toynic/nic.bin") == "GOOD 1.0\n"
        assert (
            node.machine.read("/run/trialboot/packaged-firmware/toynic/nic.bin") == "BROKEN 2.0\n"
        )
        node.machine.exec("/usr/lib/trialboot/package-hook dpkg-begin")
        assert node.machine.read("/lib/firmware/toynic/nic.bin") == "BROKEN 2.0\n"
        assert not node.machine.exec("dpkg --verify firmware-toynic").stdout


def _sha256(node: Node, path: str) -> str:
    return node.machine.exec(f"sha256sum {path}").stdout.split()[0]


def test_the_api_server_may_be_away(image: Image, package: Path, tmp_path: Path, say: Say) -> None:
    """S5: it refuses connections until after the rollback."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    with Node(image, tmp_path / "node", armed_disk(image, package, say)) as node:
        node.api.refuse_connections()
        trial = node.start()
        node.assert_runs(bad)
        say(f"{bad} is up; the API server refuses connections")
        node.wait_serial(f"Linux version {good}", 420)
        assert not node.is_cordoned()
        assert not node.writes()
        say("the known-good starts; the API server is back")
        node.api.accept_connections()
        stories.fall_back(node, trial, good, say)
        wish = json.loads(node.machine.read("/var/lib/trialboot/wish.json"))["value"]
        assert wish["cordoned"] is True
        assert {n["reason"] for n in wish["notices"]} >= {"TrialRunning", "TrialFailed"}
        node.wait_cluster("the cordon that was kept on disk", node.has_receipt)
        say("the cordon that was kept on disk is delivered")
        stories.recover(node, say)
        for reason in ("TrialRunning", "TrialFailed", "Recovered"):
            assert len(node.events(reason)) == 1, reason
        assert len([r for r in node.writes() if stories.is_cordon(r.body)]) == 1


@pytest.mark.parametrize("seed", POWER_CUTS)
def test_a_power_cut_at_any_instant_ends_well(
    image: Image, package: Path, tmp_path: Path, say: Say, seed: int
) -> None:
    """S6: QEMU is killed at a random instant of S2, from the trial's power-on to the recovery."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    # From GRUB to the proven known-good takes about this long here; the cut falls anywhere in it.
    instant = random.Random(seed).uniform(1.0, 150.0)  # noqa: S311  a test's dice
    with Node(image, tmp_path / "node", armed_disk(image, package, say)) as node:
        node.machine.start()
        time.sleep(instant)
        node.machine.kill()
        say(f"power cut {instant:.0f} s after the trial's power-on")
        node.start()
        _wait_end_of_trial(node, good)
        say("recovered")
        record = node.record()["trial"]
        assert [c["release"] for c in record["condemned"]] == [bad]
        assert node.state()["counters"].get("reboots", 0) <= 1
        # Twice where the cut fell before GRUB or the candidate's start was recorded.
        assert node.machine.serial().count(f"Linux version {bad}") <= 2
        assert not node.grubenv().get("next_entry")
        assert node.default_release() == good
        assert_bootable_default(node)
        assert "unreadable" not in node.machine.exec("ls /var/lib/trialboot").stdout
        node.wait_cluster("uncordoned", lambda: not node.is_cordoned())


def _wait_end_of_trial(node: Node, good: str) -> None:
    """Wait for the end, whatever boots lie between: at most one more trial and its way back."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            node.machine.wait_agent()
            if node.release() == good and node.state()["phase"] == "recovered":
                return
        except (AgentGone, CommandFailed, ValueError):
            pass  # between two boots
        time.sleep(2)
    raise AssertionError(f"never recovered\n{node.machine.serial()[-4000:]}")
