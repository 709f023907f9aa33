"""The stories, each on a fresh overlay of one image, on a really booted machine.

Nothing here is simulated but the API server, which answers as the recordings of a real one do.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.vm import stories
from tests.vm.errors import AgentGone, CommandFailed
from tests.vm.image import Image
from tests.vm.node import Node, Say, kept_disk, set_up, steady_disk

pytestmark = pytest.mark.vm

KNOWN_GOOD = "trialboot-known-good"
SIX_ONE, SIX_TWELVE = "6.1", "6.12"


def candidate_packages(image: Image) -> str:
    return f"linux-image-{stories.bad_release(image)} firmware-toynic=1.1"


def default_kernel(node: Node) -> str:
    """The release that GRUB's persistent default boots, from the loader's own files."""
    assert node.grubenv()["saved_entry"] == KNOWN_GOOD
    text = node.machine.read("/boot/trialboot/known-good.sh")
    return next(line for line in text.splitlines() if line.startswith("RELEASE="))[8:].strip("'")


def assert_bootable_default(node: Node) -> None:
    """The default names files that are on disk."""
    text = node.machine.read("/boot/trialboot/known-good.sh")
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    for path in (values["KERNEL"].strip("'"), *values["INITRDS"].strip("'").split()):
        assert node.machine.exists(path), path


def test_a_good_upgrade_is_blessed(image: Image, package: Path, tmp_path: Path, say: Say) -> None:
    """S1: from 6.1 to 6.12."""
    with Node(image, tmp_path / "node") as node:
        node.start(SIX_ONE)  # straight into 6.1, to take 6.12 away from this overlay
        node.machine.exec(
            "DEBIAN_FRONTEND=noninteractive apt-get purge -y "
            f"linux-image-{image.kernels[SIX_TWELVE]}",
            timeout=300,
        )
        node.machine.power_off()
        node.start()
        old, new = image.kernels[SIX_ONE], image.kernels[SIX_TWELVE]
        assert node.release() == old
        set_up(node, package, say)
        node.wait_cluster("BootProven", lambda: (node.condition() or {}).get("status") == "True")

        stories.upgrade(node, f"linux-image-{new}", say)
        words = node.trialboot("next")
        assert words.startswith(f"The next boot switches the kernel {old} → {new}"), words
        assert default_kernel(node) == old
        assert new in node.grubenv()["next_entry"]
        assert not node.is_cordoned()

        boot = stories.reboot_into_trial(node, new, say)
        node.wait_cluster("a cordon during the trial", node.has_receipt)
        assert node.is_cordoned()
        assert "next_entry" not in {k for k, v in node.grubenv().items() if v}

        state = node.wait_state(
            "blessed", lambda s: bool(s["phase"] == "steady" and s["known_good"]["release"] == new)
        )
        say("blessed")
        assert state["boot"] == boot
        assert state["verdict"]["outcome"] == "sound"
        node.wait_state(
            "pinned and told", lambda s: not s["trouble"] and not s["cluster"]["waiting"]
        )
        assert default_kernel(node) == new
        assert_bootable_default(node)
        assert not node.is_cordoned()
        assert not node.has_receipt()
        assert (node.condition() or {})["status"] == "True"
        assert (node.condition() or {})["reason"] == "BootProven"

        # 6.1 can still be booted, by hand: GRUB's own entry for it, once.
        entries = node.machine.exec(
            "sed -n \"s/.*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg"
        ).stdout.split()
        menu = next(e for e in entries if e.startswith("gnulinux-advanced"))
        once = next(e for e in entries if e.startswith(f"gnulinux-{old}-advanced"))
        node.machine.exec(f"grub-reboot '{menu}>{once}'")
        node.wait_release(old, node.reboot())
        say("6.1 is still bootable")


def test_the_incident_goes_back_by_itself(image: Image, node: Node, say: Say) -> None:
    """S2: only firmware, thought the administrator; 7.x came along and refused the CNI."""
    good, bad = image.kernels[SIX_TWELVE], stories.bad_release(image)
    stories.boot_known_good(node, say)
    assert (node.condition() or {})["status"] == "True"

    stories.upgrade(node, candidate_packages(image), say)
    assert default_kernel(node) == good
    assert bad in node.grubenv()["next_entry"]
    assert f"{good} → {bad}" in node.trialboot("next")

    trial = stories.reboot_into_trial(node, bad, say)
    node.wait_cluster("the node is cordoned", node.has_receipt)
    say("cordoned, with a receipt")
    left = stories.fall_back(node, trial, good, say)

    failed = node.events("TrialFailed")
    assert len(failed) == 1
    assert failed[0]["type"] == "Warning"
    assert "tcni_" in failed[0]["message"] or "kernel refused" in failed[0]["message"]
    receipts = [r for r in node.writes() if "trialboot.io/cordoned" in json.dumps(r.body)]
    assert receipts[0].body is not None
    assert receipts[0].body["spec"] == {"unschedulable": True}
    assert receipts[0].body["metadata"]["resourceVersion"]
    statuses = [r for r in node.writes() if r.path.startswith("/api/v1/nodes/node-a/status")]
    assert all(r.content_type == "application/strategic-merge-patch+json" for r in statuses)
    assert any('"False"' in json.dumps(r.body) for r in statuses)

    stories.recover(node, say)
    assert not node.has_receipt()
    reasons = node.record()["trial"]["condemned"][0]["reasons"]
    told = "\n".join(reasons)
    assert "eBPF tcni_from_nic is missing at dev:eth0 ingress" in told
    assert "tcni_connect4 is missing at cgroup:root inet4_connect" in told
    assert "the kernel refused it" in told
    assert "R1 is not a scalar" in told

    why = node.trialboot("why").splitlines()
    for line in why:
        say(f"  trialboot why: {line}")
    assert len(why) <= 10
    assert any(bad in line and "condemned" in line or "verdict worse" in line for line in why)
    assert default_kernel(node) == good
    assert_bootable_default(node)

    # A further reboot does not try 7.x again.
    again = node.wait_release(good, node.reboot())
    say("rebooted once more: still the known-good")
    node.wait_state("judged again", lambda s: bool(s["boot"] == again and s["verdict"]))
    assert node.state()["phase"] == "recovered"
    assert not node.grubenv().get("next_entry")
    assert bad not in _releases_after(node, left)


def _releases_after(node: Node, boot: str) -> str:
    """Kernels that the serial console saw start since a boot of the known-good."""
    del boot
    return node.machine.serial().rsplit("Linux version", 1)[-1].split("(", 1)[0]


def test_a_candidate_that_panics_is_answered_by_the_loader(
    image: Image, node: Node, say: Say
) -> None:
    """S3: it dies before userspace; none of our code runs."""
    good, bad = image.kernels[SIX_TWELVE], stories.bad_release(image)
    stories.boot_known_good(node, say)
    script = '#!/bin/sh\n[ "$1" = prereqs ] && exit 0\ncase $(uname -r) in 7.*)\n  echo c > /proc/sysrq-trigger;; esac\n'
    node.machine.write("/etc/initramfs-tools/scripts/init-premount/panic", script, 0o755)
    stories.upgrade(node, f"linux-image-{bad}", say)
    left = node.reboot()
    node.wait_release(good, left, timeout=300)
    say("back on the known-good: GRUB went back by itself")
    serial = node.machine.serial()
    assert "sysrq triggered crash" in serial.lower()
    state = node.wait_phase("recovered")
    assert state["condemned"][0]["release"] == bad
    assert "never came up" in state["condemned"][0]["why"]
    assert "never came up" in node.trialboot("why")
    assert state["counters"].get("reboots", 0) == 0
    assert not node.grubenv().get("next_entry")
    assert default_kernel(node) == good
    node.wait_cluster("uncordoned", lambda: not node.is_cordoned())


def test_bad_firmware_is_taken_back_with_its_initrd(
    image: Image, package: Path, tmp_path: Path, say: Say
) -> None:
    """S4: the same kernel; a firmware file that a driver uses changes, and the initrd with it."""
    good = image.kernels[SIX_TWELVE]
    disk = kept_disk(image, package, "nic", lambda to: _make_nic(image, package, to, say))
    with Node(image, tmp_path / "node", disk) as node:
        stories.boot_known_good(node, say)
        assert node.machine.read("/sys/module/toynic/parameters/firmware_loaded").startswith(
            "GOOD 1.0"
        )
        initrd = f"/boot/initrd.img-{good}"
        before = node.machine.exec(f"sha256sum {initrd}").stdout.split()[0]

        stories.upgrade(node, "firmware-toynic=2.0", say)
        words = node.trialboot("next")
        assert "firmware file" in words
        assert "toynic/nic.bin" in words
        after = node.machine.exec(f"sha256sum {initrd}").stdout.split()[0]
        assert before != after

        trial = stories.reboot_into_trial(node, good, say)
        assert "trialboot.boot=" not in node.command_line()
        back = stories.fall_back(node, trial, good, say)
        assert back != trial
        assert "trialboot.boot=" in node.command_line()
        stories.recover(node, say)

        # What the kernel itself loaded are the old bytes, from the old tree, with the old initrd.
        loaded = node.machine.read("/sys/module/toynic/parameters/firmware_loaded")
        assert loaded.startswith("GOOD 1.0"), loaded
        assert node.machine.exec("ip -br link show toynic0").stdout
        fingerprint = node.record()["trial"]["known_good"]
        assert fingerprint["initrd"] == before
        reasons = "\n".join(node.record()["trial"]["condemned"][0]["reasons"])
        assert "link toynic0" in reasons
        # The packages' own files are untouched.
        packaged = node.machine.exec("cat /run/trialboot/packaged-firmware/toynic/nic.bin").stdout
        assert packaged == "BROKEN 2.0\n"
        assert node.machine.exec(f"sha256sum {initrd}").stdout.split()[0] == after
        node.machine.exec("umount /lib/firmware && dpkg --verify firmware-toynic")


def _make_nic(image: Image, package: Path, to: Path, say: Say) -> None:
    """The prepared disk of S4: a NIC whose driver needs a firmware file is part of the contract."""
    with Node(image, to.with_suffix(".work")) as node:
        node.start()
        node.machine.write("/etc/modules-load.d/toynic.conf", "toynic\n")
        node.machine.write(
            "/etc/systemd/network/50-toynic.network",
            "[Match]\nName=toynic0\n[Network]\nLinkLocalAddressing=no\n"
            "[Link]\nRequiredForOnline=no\nActivationPolicy=up\n",
        )
        node.machine.reboot()
        node.machine.exec("ip -br link show toynic0")
        set_up(node, package, say)
        node.machine.power_off()
        node.machine.save(to)


def armed_disk(image: Image, package: Path, say: Say) -> Path:
    """The disk of S2 at rest after the package run: its next start is the trial."""

    def make(to: Path) -> None:
        with Node(image, to.with_suffix(".work"), steady_disk(image, package, say)) as node:
            stories.boot_known_good(node, say)
            stories.upgrade(node, candidate_packages(image), say)
            node.machine.power_off()
            node.machine.save(to)

    return kept_disk(image, package, "armed", make)


def test_the_api_server_may_be_away(image: Image, package: Path, tmp_path: Path, say: Say) -> None:
    """S5: it refuses connections until after the rollback."""
    good, bad = image.kernels[SIX_TWELVE], stories.bad_release(image)
    with Node(image, tmp_path / "node", armed_disk(image, package, say)) as node:
        node.api.refuse_connections()
        trial = node.start()
        assert node.release() == bad
        say(f"{bad} is up; the API server refuses connections")
        stories.fall_back(node, trial, good, say)
        assert not node.is_cordoned()
        wish = json.loads(node.machine.read("/var/lib/trialboot/wish.json"))["value"]
        assert wish["cordoned"] is True
        assert {n["reason"] for n in wish["notices"]} >= {"TrialRunning", "TrialFailed"}
        node.api.accept_connections()
        say("the API server is back")
        node.wait_cluster("the cordon is delivered", node.has_receipt)
        say("the cordon that was kept on disk is delivered")
        stories.recover(node, say)
        node.wait_cluster("all is told", lambda: bool(node.events("Recovered")))
        for reason in ("TrialRunning", "TrialFailed", "Recovered"):
            assert len(node.events(reason)) == 1, reason
        cordons = [
            r for r in node.writes() if (r.body or {}).get("spec") == {"unschedulable": True}
        ]
        assert 1 <= len(cordons) <= 2  # a second one only renews the receipt's reason


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_at_any_instant_ends_well(
    image: Image, package: Path, tmp_path: Path, say: Say, seed: int
) -> None:
    """S6: QEMU is killed at a random instant of S2, from the trial's power-on to the recovery."""
    good, bad = image.kernels[SIX_TWELVE], stories.bad_release(image)
    # From GRUB to the proven known-good takes about 170 s here; the cut falls anywhere in it.
    instant = random.Random(seed).uniform(0.1, 170.0)  # noqa: S311  a test's dice
    with Node(image, tmp_path / "node", armed_disk(image, package, say)) as node:
        node.machine.start()
        time.sleep(instant)
        node.machine.kill()
        say(f"power cut {instant:.0f} s after the trial's power-on")
        node.start()
        _end_of_trial(node, good, say)
        record = node.record()["trial"]
        assert record["phase"] == "recovered"
        assert [c["release"] for c in record["condemned"]] == [bad]
        assert node.state()["counters"].get("reboots", 0) <= 1
        assert not node.grubenv().get("next_entry")
        assert default_kernel(node) == good
        assert_bootable_default(node)
        names = node.machine.exec("ls /var/lib/trialboot").stdout
        assert "unreadable" not in names
        node.wait_cluster("uncordoned", lambda: not node.is_cordoned())


def _end_of_trial(node: Node, good: str, say: Say) -> None:
    """Wait for the end, whatever boots lie between: at most one more trial and its way back."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            node.machine.wait_agent()
            if node.release() == good and node.state()["phase"] == "recovered":
                say("recovered")
                return
        except (AgentGone, CommandFailed, ValueError):
            pass  # between two boots
        time.sleep(2)
    raise AssertionError(f"never recovered\n{node.machine.serial()[-4000:]}")
