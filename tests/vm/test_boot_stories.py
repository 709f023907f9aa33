"""Stories of boots that no daemon of ours sees, or that no boot loader made.

Emergency mode, a start that never ends, kexec, a human at the menu, and a hang before userspace.
As all stories, each on a fresh overlay of one image, on a really booted machine.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.vm import stories
from tests.vm.errors import AgentGone, CommandFailed
from tests.vm.image import Image
from tests.vm.machine import Hardware
from tests.vm.node import Node, Say, steady_disk
from tests.vm.stories import BAD, GOOD, assert_bootable_default

pytestmark = pytest.mark.vm

# What a mandatory file system that the candidate cannot mount does to a boot.
BROKEN_MOUNT = """\
[Unit]
DefaultDependencies=no
Before=local-fs.target
ConditionKernelVersion=7.*
[Service]
Type=oneshot
ExecStart=/bin/false
[Install]
RequiredBy=local-fs.target
"""
# As a wait-online without a limit, on a candidate whose network does not come up.
NEVER_ONLINE = """\
[Unit]
DefaultDependencies=no
Before=network-online.target
ConditionKernelVersion=7.*
[Service]
Type=oneshot
ExecStart=/bin/sleep infinity
[Install]
WantedBy=network-online.target
"""
# The test does not wait for five minutes.
SOON = "[Timer]\nOnBootSec=\nOnBootSec=40s\n"

# kexec-tools is not in the guest: the two calls that it makes. kexec_file_load(2), reboot(2).
KEXEC = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
kernel, initrd = (os.open(path, os.O_RDONLY) for path in sys.argv[1:3])
line = sys.argv[3].encode() + b"\\0"
if libc.syscall(320, kernel, initrd, len(line), line, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.sync()
open("/proc/sysrq-trigger", "w").write("u")
libc.syscall(169, 0xfee1dead, 672274793, 0x45584543, None)
"""


def test_a_trial_that_ends_in_emergency_mode_is_left(image: Image, node: Node, say: Say) -> None:
    """S8: local-fs.target fails on the candidate; trialbootd never starts."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.boot_known_good(node, say)
    node.machine.write("/etc/systemd/system/broken-mount.service", BROKEN_MOUNT)
    node.machine.exec("systemctl enable broken-mount.service")
    stories.upgrade(node, f"linux-image-{bad}", say)
    left = node.reboot()
    node.wait_serial("this boot is a trial, and it stands still", 300)
    say("the candidate is in emergency mode, and says what will be done")
    node.wait_release(good, left, timeout=400)
    assert "trialboot.boot=" in node.command_line()
    say("back on the known-good")
    state = node.wait_phase("recovered")
    assert [c["release"] for c in state["condemned"]] == [bad]
    assert state["counters"].get("reboots", 0) == 0  # none that a verdict asked for
    serial = node.machine.serial()
    assert serial.count(f"Linux version {bad}") == 1
    assert "Emergency Mode" in serial
    assert "systemctl stop trialboot-standstill.service" in serial
    assert serial.count("rebooting into the known-good") == 1
    assert_bootable_default(node)
    node.wait_cluster("uncordoned", lambda: not node.is_cordoned())


def test_a_network_that_never_comes_up_keeps_no_trial_from_its_verdict(
    image: Image, node: Node, say: Say
) -> None:
    """S9: network-online.target, which trialbootd is ordered after, is never reached."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.boot_known_good(node, say)
    node.machine.write("/etc/systemd/system/never-online.service", NEVER_ONLINE)
    node.machine.write("/etc/systemd/system/trialboot-late-start.timer.d/soon.conf", SOON)
    node.machine.exec("systemctl enable never-online.service")
    stories.upgrade(node, f"linux-image-{bad}", say)
    trial = stories.reboot_into_trial(node, bad, say)
    node.wait_state("the daemon runs on the candidate", lambda s: bool(s["boot"] == trial))
    assert "never-online.service" in node.machine.exec("systemctl list-jobs --no-legend").stdout
    said = node.machine.exec("journalctl -b -o cat -u trialboot-late-start.service").stdout
    assert "trialbootd.service is started now" in said
    say("trialbootd was started although network-online.target is still waited for")
    stories.fall_back(node, trial, good, say)
    stories.recover(node, say)
    assert node.machine.serial().count(f"Linux version {bad}") == 1


def test_a_boot_by_kexec_is_no_trial(image: Image, node: Node, say: Say) -> None:
    """S10: under an armed trial the very candidate is started by kexec, with its entry's line."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    stories.boot_known_good(node, say)
    stories.upgrade(node, f"linux-image-{bad}", say)
    boot = _kexec(node, bad)
    say("kexec has started the candidate")
    state = node.wait_state(
        "this boot is judged", lambda s: bool(s["boot"] == boot and s["verdict"])
    )
    assert state["verdict"]["outcome"] != "sound"
    assert state["phase"] == "armed"
    assert not state["condemned"]
    assert any("kexec" in moment["text"] for moment in node.record()["trial"]["story"])
    assert node.once_kernel() == f"/boot/vmlinuz-{bad}"
    assert node.default_release() == good
    say("nothing was concluded: the trial is still to come")
    stories.reboot_into_trial(node, bad, say)
    node.wait_phase("trial")
    say("and it comes")


def _kexec(node: Node, release: str) -> str:
    """Start the kernel of an entry of GRUB's without GRUB. Gives the boot id."""
    menu = node.machine.read("/boot/grub/grub.cfg")
    kernel = f"/boot/vmlinuz-{release}"
    words = next(line.split() for line in menu.splitlines() if f"linux\t{kernel}" in line)
    line = " ".join([f"BOOT_IMAGE={kernel}", *words[2:]])
    node.machine.write("/root/kexec.py", KEXEC)
    left = node.machine.boot_id()
    with suppress(AgentGone, CommandFailed):
        files = f"{kernel} /boot/initrd.img-{release}"
        node.machine.exec(f"python3 /root/kexec.py {files} '{line}'", timeout=60)
    boot = node.wait_release(release, left)
    assert int(node.machine.read("/proc/sys/kernel/bootloader_type")) >> 4 == 0xD
    assert node.command_line() == line
    return boot


def test_who_picks_the_known_good_in_the_menu_condemns_nothing(
    image: Image, package: Path, tmp_path: Path, say: Say
) -> None:
    """S12: somebody at the console takes our entry while the candidate is to boot once."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    with Node(image, tmp_path / "node", stories.armed_disk(image, package, say)) as node:
        node.machine.start()
        _take_the_first_entry(node)
        say("at the menu: Home, Return")
        node.machine.wait_agent()
        node.assert_runs(good)
        assert "trialboot.instead=picked" in node.command_line()
        boot = node.machine.boot_id()
        state = node.wait_state(
            "this boot is judged, and the candidate armed again",
            lambda s: bool(s["boot"] == boot and s["phase"] == "armed" and s["verdict"]),
        )
        assert not state["condemned"]
        said = node.machine.exec("journalctl -b -o cat -t trialboot").stdout
        assert "was picked in the boot menu" in said
        assert node.machine.serial().count(f"Linux version {bad}") == 0
        say("respected: nothing is condemned, and the candidate is armed again")
        stories.reboot_into_trial(node, bad, say)


def _take_the_first_entry(node: Node) -> None:
    """Press keys until a kernel starts: the menu is there for a second, and says not when."""
    until = time.monotonic() + 120
    while "Linux version" not in node.machine.serial():
        assert time.monotonic() < until, "no kernel has started"
        if "GRUB" in node.machine.serial():
            for key in ("home", "ret"):
                node.machine.qmp("send-key", keys=[{"type": "qcode", "data": key}])
                time.sleep(0.3)
        time.sleep(0.05)


# The operator's wish, with times that a test can wait for.
RUNTIME_WATCHDOG = "[Manager]\nRuntimeWatchdogSec=60\n"
IN_INITRD = "SECONDS=30\nLIMIT=20\n"
HANG = """\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
case $(uname -r) in 7.*) echo hanging > /dev/kmsg; while :; do sleep 1; done ;; esac
"""


def test_a_hang_in_the_initrd_is_answered_by_the_watchdog(
    image: Image, package: Path, tmp_path: Path, say: Say
) -> None:
    """S11: a healthy boot hands the watchdog over to systemd; a candidate that hangs is reset."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    hardware = Hardware(watchdog=True)
    with Node(image, tmp_path / "node", steady_disk(image, package, say), hardware) as node:
        stories.boot_known_good(node, say)
        assert "i6300ESB" in node.machine.read("/sys/class/watchdog/watchdog0/identity")
        node.machine.write("/etc/systemd/system.conf.d/watchdog.conf", RUNTIME_WATCHDOG)
        node.machine.write("/etc/trialboot/watchdog-in-initrd", IN_INITRD)
        _hand_over(node, good, say)
        _hang(node, good, bad, say)


def _hand_over(node: Node, good: str, say: Say) -> None:
    """The initrd that arms it is a change like any other: it is tried, and blessed."""
    node.machine.exec(f"update-initramfs -u -k {good}", timeout=400)
    node.wait_phase("armed")
    trial = stories.reboot_into_trial(node, good, say)
    kernel_log = node.machine.exec("dmesg").stdout
    assert "trialboot: the watchdog is armed" in kernel_log
    assert "trialboot: the watchdog runs on until systemd takes it over" in kernel_log
    assert node.machine.read("/sys/class/watchdog/watchdog0/state").strip() == "active"
    assert node.machine.read("/sys/class/watchdog/watchdog0/timeout").strip() == "60"
    node.wait_state("blessed", lambda s: bool(s["phase"] == "steady" and s["boot"] == trial))
    # Far longer than the 30 seconds for which it was armed in the initrd, and no reset.
    assert float(node.machine.read("/proc/uptime").split()[0]) > 60
    assert node.machine.boot_id() == trial
    say("systemd has taken the watchdog over; the boot is blessed")


def _hang(node: Node, good: str, bad: str, say: Say) -> None:
    node.machine.write("/etc/initramfs-tools/scripts/init-premount/hang", HANG, 0o755)
    stories.upgrade(node, f"linux-image-{bad}", say)
    left = node.reboot()
    node.wait_serial("hanging", 240)
    say("the candidate hangs in its initrd")
    node.wait_release(good, left, timeout=420)
    say("the watchdog has reset the machine: it is back on the known-good")
    state = node.wait_phase("recovered")
    assert [c["release"] for c in state["condemned"]] == [bad]
    serial = node.machine.serial()
    assert serial.count(f"Linux version {bad}") == 1
    assert "the watchdog will reset this machine" in serial
    assert_bootable_default(node)
