"""A candidate that the reboot starts by kexec: all on RAID1, BIOS, where nothing else forgets.

GRUB can write nowhere on this host, so each reset, whatever caused it, ends on the known-good.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import loaderfiles, stories
from tests.vm.hosts import HOSTS
from tests.vm.image import Image
from tests.vm.node import CONFIG, Node, Say, steady_disk
from tests.vm.stories import BAD, GOOD

pytestmark = pytest.mark.vm

HOST = HOSTS["mdraid"]
ALLOWED = f"{CONFIG}\n[boot]\nby_kexec = true\n"
PANIC = """\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
case $(uname -r) in 7.*) echo c > /proc/sysrq-trigger ;; esac
"""


@pytest.fixture
def node(image: Image, package: Path, tmp_path: Path, say: Say) -> Iterator[Node]:
    """The known-good runs, and the operator has allowed it."""
    begin = steady_disk(image, package, say, HOST)
    with Node(image, tmp_path / "node", begin, HOST.hardware()) as node:
        stories.boot_known_good(node, say)
        assert node.state()["next"]["protection"]["level"] == "none"
        node.machine.write("/etc/trialboot/trialboot.toml", ALLOWED)
        node.machine.exec("systemctl restart trialbootd.service")
        state = node.wait_state(
            "the host is protected",
            lambda s: bool(s["next"] and s["next"]["protection"]["level"] == "panic-only"),
        )
        say(f"allowed: {state['next']['protection']['notes']}")
        yield node


def arm(node: Node, image: Image, say: Say) -> None:
    """Install the candidate; what is to be started is in a block that GRUB does not read."""
    stories.upgrade(node, f"linux-image-{image.kernels[BAD]}", say)
    (block,) = loaderfiles.pending(node)
    assert block == "/boot/grub/trialboot/trial.env"


def test_a_good_candidate_is_blessed(image: Image, node: Node, say: Say) -> None:
    """S13: a power cycle tries nothing; a reboot does; the blessed one boots by GRUB."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    node.machine.write("/etc/default/testcni", "SCALAR=1\n")
    arm(node, image, say)
    node.machine.exec("sync")
    node.machine.kill()
    boot = node.start()
    assert node.release() == good
    node.wait_state("judged", lambda s: bool(s["boot"] == boot and s["verdict"]))
    assert node.state()["phase"] == "armed"
    assert loaderfiles.pending(node)
    say("a power cycle: the known-good, and the candidate waits")
    node.wait_release(bad, node.reboot())
    assert "trialboot.kexec=" in node.command_line()
    assert int(node.machine.read("/proc/sys/kernel/bootloader_type")) >> 4 == 0xD
    assert not loaderfiles.pending(node)
    say("the reboot started the candidate by kexec")
    node.wait_phase("trial")
    node.wait_cluster("a cordon during the trial", node.has_receipt)
    node.wait_state(
        "blessed", lambda s: bool(s["phase"] == "steady" and s["known_good"]["release"] == bad)
    )
    loaderfiles.assert_default_is_whole(node, HOST, bad)
    node.wait_cluster("uncordoned", lambda: not node.is_cordoned())
    node.wait_release(bad, node.reboot())
    assert "trialboot.boot=" in node.command_line()
    say("blessed, and it boots by GRUB from the known-good entry")


def test_a_candidate_without_a_network_goes_back(image: Image, node: Node, say: Say) -> None:
    """S14: the incident, on a host that could not try anything."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    arm(node, image, say)
    trial = stories.reboot_into_trial(node, bad, say)
    stories.fall_back(node, trial, good, say)
    stories.recover(node, say)
    _assert_left(node, image)
    node.wait_release(good, node.reboot())
    say("and a reboot boots the known-good again")


def test_a_candidate_that_panics_is_left(image: Image, node: Node, say: Say) -> None:
    """S15: it dies in its initrd; the reset leads to GRUB, whose default never was another."""
    node.machine.write("/etc/initramfs-tools/scripts/init-premount/panic", PANIC, 0o755)
    arm(node, image, say)
    node.wait_release(image.kernels[GOOD], node.reboot())
    assert "trialboot.boot=" in node.command_line()
    say("back on the known-good: the firmware and GRUB went back by themselves")
    state = node.wait_phase("recovered")
    assert "never came up" in state["condemned"][0]["why"]
    assert state["counters"].get("reboots", 0) == 0
    assert "sysrq triggered crash" in node.machine.serial().lower()
    _assert_left(node, image)


def _assert_left(node: Node, image: Image) -> None:
    assert node.machine.serial().count(f"Linux version {image.kernels[BAD]}") == 1
    assert not loaderfiles.pending(node)
    loaderfiles.assert_default_is_whole(node, HOST, image.kernels[GOOD])
    node.wait_cluster("uncordoned", lambda: not node.is_cordoned())
