"""The story of the package manager: what may remove a kernel, and what boots nevertheless.

Nothing is simulated: apt, unattended-upgrades and dpkg of Debian 12 on a really booted machine.
Only the third kernel package is a toy, for apt counts names: it spares the kernel that runs and
the newest one, so the known-good of a trial is the one that goes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vm import stories
from tests.vm.image import Image
from tests.vm.node import CONFIG, KNOWN_GOOD, Node, Say, set_up
from tests.vm.stories import GOOD, OLD, assert_bootable_default

pytestmark = pytest.mark.vm

PROTECTION = "/etc/apt/apt.conf.d/02trialboot-known-good"
UNUSED = """\
Unattended-Upgrade::Remove-Unused-Kernel-Packages "true";
Unattended-Upgrade::Remove-Unused-Dependencies "true";
"""
# A trial that is still going on while packages come and go.
LONG_TRIAL = re.sub("(?m)^(minimum_settle_seconds|deadline_seconds) = .*$", r"\1 = 900", CONFIG)
TOY = """\
set -e
mkdir -p /root/toy/DEBIAN
cat > /root/toy/DEBIAN/control <<CONTROL
Package: linux-image-99.0.0-1-toy-amd64
Version: 99.0.0-1
Architecture: all
Maintainer: trialboot tests <root@localhost>
Description: a kernel package that is newer than all others, without a kernel
CONTROL
dpkg-deb -b /root/toy /root/toy.deb
dpkg -i /root/toy.deb
"""


def test_the_known_good_survives_the_package_manager(
    image: Image, package: Path, tmp_path: Path, say: Say
) -> None:
    """S7: autoremove, unattended-upgrades, and a purge by hand with a reboot straight after it."""
    old, new = image.kernels[OLD], image.kernels[GOOD]
    with Node(image, tmp_path / "node") as node:
        _boot_by_default(node, image, old, say)
        set_up(node, package, say)
        assert old.replace(".", "[.]") in node.machine.read(PROTECTION)
        _begin_trial(node, old, new, say)
        _let_apt_want_it_away(node, say)
        _autoremove(node, old, say)
        _unattended_upgrade(node, old, say)
        _purge_and_reboot(node, old, say)
        _assert_whole(node, old, say)


def _boot_by_default(node: Node, image: Image, release: str, say: Say) -> None:
    """Make 6.1 what this host's own GRUB configuration boots, and boot it."""
    node.start()
    menu = f"gnulinux-advanced-{image.uuid}"
    chosen = f"{menu}>gnulinux-{release}-advanced-{image.uuid}"
    node.machine.exec(
        f"sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=\"{chosen}\"/' /etc/default/grub && update-grub",
        timeout=300,
    )
    node.wait_release(release, node.reboot())
    say(f"{release} is up, by the host's own GRUB_DEFAULT")


def _begin_trial(node: Node, old: str, new: str, say: Say) -> None:
    """Let the host's configuration boot the newer kernel again: a change, so a trial."""
    node.machine.write("/etc/trialboot/trialboot.toml", LONG_TRIAL)
    node.machine.exec(
        "sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/' /etc/default/grub && update-grub"
        " && systemctl restart trialbootd",
        timeout=300,
    )
    node.wait_phase("armed")
    assert node.default_release() == old
    stories.reboot_into_trial(node, new, say)
    node.wait_phase("trial")


def _let_apt_want_it_away(node: Node, say: Say) -> None:
    """No kernel is wanted for itself, and the known-good is neither running nor the newest."""
    # The image keeps all kernels by a file of its own, and has apt read the local repository so.
    node.machine.exec("sed -i /NeverAutoRemove/d /etc/apt/apt.conf.d/90guest")
    node.machine.exec("apt-mark auto '?installed ?name(^linux-image-)'")
    node.machine.exec(TOY + "apt-mark auto linux-image-99.0.0-1-toy-amd64")
    say("a kernel that is newer still has come; none is installed for its own sake")


def _unprotected(node: Node, line: str) -> str:
    """Give what a command would do here without what trialboot told apt."""
    aside = "/root/protection"
    node.machine.exec(f"mv {PROTECTION} {aside}")
    said = node.machine.exec(line, timeout=600).stdout
    node.machine.exec(f"mv {aside} {PROTECTION}")
    return said


def _autoremove(node: Node, release: str, say: Say) -> None:
    kernel = f"linux-image-{release}"
    would = _unprotected(node, "apt-get -s autoremove")
    assert f"Remv {kernel} " in would, would
    say(f"without trialboot's configuration autoremove would remove {kernel}")
    did = node.machine.exec("apt-get -y autoremove", timeout=300).stdout
    assert kernel not in did, did
    assert _installed(node, kernel)
    say("apt-get autoremove leaves it")


def _unattended_upgrade(node: Node, release: str, say: Say) -> None:
    kernel = f"linux-image-{release}"
    # Its service only waits for a shutdown.
    node.machine.exec("systemctl mask unattended-upgrades.service")
    node.install("unattended-upgrades")
    node.machine.write("/etc/apt/apt.conf.d/60unused", UNUSED)
    would = _unprotected(node, "unattended-upgrade --dry-run --verbose 2>&1")
    assert re.search(rf"Removing unused kernel packages: .*{re.escape(kernel)}", would), would
    say(f"without trialboot's configuration unattended-upgrades would remove {kernel}")
    did = node.machine.exec("unattended-upgrade --verbose 2>&1", timeout=600).stdout
    assert "Removing unused kernel packages" not in did, did
    assert _installed(node, kernel)
    say("unattended-upgrade leaves it")


def _purge_and_reboot(node: Node, release: str, say: Say) -> None:
    """The administrator removes it by name, and reboots before anybody could look at it."""
    node.machine.write("/etc/trialboot/trialboot.toml", CONFIG)  # for the next boot
    node.machine.exec(
        f"DEBIAN_FRONTEND=noninteractive apt-get purge -y linux-image-{release}", timeout=300
    )
    left = node.reboot()
    say(f"apt-get purge linux-image-{release}, and a reboot at once")
    node.wait_release(release, left)
    assert "trialboot.boot=" in node.command_line()
    say(f"{release} is up, from the known-good entry")


def _assert_whole(node: Node, release: str, say: Say) -> None:
    assert not _installed(node, f"linux-image-{release}")
    assert not node.machine.exists(f"/boot/vmlinuz-{release}")
    node.machine.exec("modprobe wireguard && grep -q ^wireguard /proc/modules")
    tree = f"/lib/modules/{release}"
    assert node.machine.exec(f"dpkg-query -S {tree}/modules.dep", check=False).code
    links = node.machine.exec(f"stat -c %h {tree}/kernel/drivers/net/dummy.ko").stdout.strip()
    assert int(links) > 1
    say("its modules are there and load, though no package has them any more")
    state = node.wait_phase("recovered")
    assert state["known_good"]["release"] == release
    assert node.grubenv()["saved_entry"] == KNOWN_GOOD
    assert_bootable_default(node)
    status = node.trialboot("status")
    for told in (
        rf"running: {re.escape(release)} ",
        rf"known-good: {re.escape(release)} \([0-9a-f]+\), kept, and the loader's default",
    ):
        assert re.search(told, status), status
    for line in status.splitlines():
        say(f"  status: {line}")


def _installed(node: Node, package: str) -> bool:
    words = f"dpkg-query -W -f '${{db:Status-Status}}' {package}"
    return node.machine.exec(words, check=False).stdout.strip() == "installed"
