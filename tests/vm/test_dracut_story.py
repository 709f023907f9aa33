"""dracut on a booted machine: it writes the next initrd into the file of the last one.

Debian 12's own dracut makes the initrd of the kernel that runs anew, twice: once well, and once so
that it panics. What is kept must stay what it was.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import packages, stories
from tests.vm.image import Image
from tests.vm.node import Node, Say
from tests.vm.stories import GOOD, assert_bootable_default

pytestmark = pytest.mark.vm

PACKAGES = ("dracut-core", "kpartx")
"""Not the package «dracut»: it would take initramfs-tools away, and dracut(8) is in the other."""
CRASH = "#!/bin/sh\necho 1 > /proc/sys/kernel/sysrq\necho c > /proc/sysrq-trigger\n"


@pytest.fixture(scope="module")
def dracut(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Debian's packages of it."""
    return packages.download(tmp_path_factory.mktemp("dracut"), *PACKAGES)


def test_dracut_takes_nothing_that_is_kept_with_it(
    image: Image, node: Node, dracut: list[Path], say: Say
) -> None:
    """S16: a kept initrd becomes a copy, one of dracut's is proven and kept, a bad one left."""
    good = image.kernels[GOOD]
    initrd = f"/boot/initrd.img-{good}"
    stories.boot_known_good(node, say)
    assert _links(node, initrd) == "2"
    _install(node, dracut)
    node.wait_state("the kept initrd is a copy", lambda _: _links(node, initrd) == "1")
    kept = _sha256(node, _kept_initrd(node))
    assert kept == _sha256(node, initrd)
    say("dracut is installed: the kept initrd is no longer a link to the host's")

    _make_initrd(node, good, "")
    assert _sha256(node, initrd) != kept
    assert _sha256(node, _kept_initrd(node)) == kept
    stories.reboot_into_trial(node, good, say)
    assert _by_dracut(node)
    node.wait_state("it is blessed", lambda s: bool(s["phase"] == "steady" and s["pinned"]))
    say("the initrd that dracut made has proven itself")

    kept = _sha256(node, _kept_initrd(node))
    assert (kept, _links(node, initrd)) == (_sha256(node, initrd), "1")
    node.wait_release(good, node.reboot())
    _assert_known_good_of_dracut(node, say)

    node.machine.write("/root/crash.sh", CRASH, 0o755)
    _make_initrd(node, good, "--include /root/crash.sh /lib/dracut/hooks/pre-mount/00-crash.sh")
    assert _sha256(node, _kept_initrd(node)) == kept
    node.wait_release(good, node.reboot(), timeout=420)
    assert "sysrq triggered crash" in node.machine.serial().lower()
    _assert_known_good_of_dracut(node, say)
    stories.recover(node, say)
    assert _sha256(node, _kept_initrd(node)) == kept
    assert_bootable_default(node)


def _install(node: Node, files: list[Path]) -> None:
    for file in files:
        node.machine.write(f"/root/{file.name}", file.read_bytes())
    node.install(" ".join(f"--no-install-recommends /root/{file.name}" for file in files))


def _make_initrd(node: Node, release: str, words: str) -> None:
    """Run dracut as an administrator does, and wait until the change is armed."""
    node.machine.exec(f"dracut --force {words} /boot/initrd.img-{release} {release}", timeout=900)
    node.wait_phase("armed")


def _assert_known_good_of_dracut(node: Node, say: Say) -> None:
    assert "trialboot.boot=" in node.command_line()
    assert _by_dracut(node)
    assert "trialboot: firmware: bound the kept tree" in node.machine.exec("dmesg").stdout
    say("the known-good entry boots the kept initrd of dracut, and it binds the kept firmware")


def _by_dracut(node: Node) -> bool:
    """Ask for a unit that runs in dracut's initrds alone."""
    return "dracut-cmdline.service" in node.machine.exec("journalctl -b --no-pager").stdout


def _kept_initrd(node: Node) -> str:
    return node.known_good_entry()["INITRDS"].split()[0]


def _links(node: Node, path: str) -> str:
    return node.machine.exec(f"stat -c %h {path}").stdout.strip()


def _sha256(node: Node, path: str) -> str:
    return node.machine.exec(f"sha256sum {path}").stdout.split()[0]
