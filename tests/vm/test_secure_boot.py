"""Secure Boot: the incident on a machine that starts nothing unsigned, and what differs there.

Debian's own chain, from Microsoft's keys in the firmware: shim, GRUB and kernels as Debian signed
them. docs/operations.md says what was seen here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import command, packages, stories
from tests.vm.image import ROOT_UUID, Image
from tests.vm.node import Node, Say
from tests.vm.stories import BAD, GOOD, assert_bootable_default

pytestmark = pytest.mark.vm

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
# What grub-install puts beside a signed GRUB, whose own folder is fixed.
STUB = f"""\
search.fs_uuid {ROOT_UUID} root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
"""
FILES = {
    "usr/lib/shim/shimx64.efi.signed": "/boot/efi/EFI/BOOT/BOOTX64.EFI",
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "/boot/efi/EFI/BOOT/grubx64.efi",
}


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's signed shim and GRUB, unpacked."""
    folder = tmp_path_factory.mktemp("signed")
    for package in packages.download(folder, "shim-signed", "grub-efi-amd64-signed"):
        command.output("dpkg-deb", "-x", package, folder / "tree")
    return folder / "tree"


def test_the_incident_under_secure_boot(image: Image, node: Node, signed: Path, say: Say) -> None:
    """S12: known-good, candidate, way back and a kernel whose signature is broken."""
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    _install_chain(node, signed)
    say("shim and GRUB as Debian signed them are on the ESP; Secure Boot is switched on")
    node.machine.start(firmware="secure")
    node.machine.wait_agent(timeout=600)
    _assert_locked_down(node, good, say)
    boot = node.machine.boot_id()
    node.wait_state(
        "this boot is judged sound",
        lambda s: bool(s["boot"] == boot and s["verdict"] and s["verdict"]["outcome"] == "sound"),
    )
    say("its network is proven: our readers of eBPF work under the kernel's lockdown")

    stories.upgrade(node, f"linux-image-{bad}", say)
    trial = stories.reboot_into_trial(node, bad, say)
    assert "Secure boot enabled" in node.machine.exec("dmesg").stdout
    assert not node.grubenv().get("next_entry")
    say("the one-shot was cleared by the signed GRUB: it writes its environment block")
    stories.fall_back(node, trial, good, say)
    stories.recover(node, say)
    assert_bootable_default(node)

    _break_signature(node, bad, say)
    say("GRUB said:")
    for line in node.machine.serial().splitlines():
        if line.startswith("error:"):
            say(f"  {line}")


def _install_chain(node: Node, signed: Path) -> None:
    node.start()
    node.machine.exec("mountpoint -q /boot/efi || mount /dev/vda1 /boot/efi")
    for source, target in FILES.items():
        # The guest's agent takes no more than so many bytes at once.
        content = (signed / source).read_bytes()
        node.machine.write(target, content[: 1 << 20])
        for at in range(1 << 20, len(content), 1 << 20):
            node.machine.exec(f"cat >> {target}", given=content[at : at + (1 << 20)])
        assert node.machine.exec(f"stat -c %s {target}").stdout.strip() == str(len(content))
    node.machine.write("/boot/efi/EFI/debian/grub.cfg", STUB)
    node.machine.exec("umount /boot/efi")
    node.machine.power_off()


def _assert_locked_down(node: Node, good: str, say: Say) -> None:
    node.assert_runs(good)
    variable = node.machine.exec(f"od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-{GLOBAL}")
    assert variable.stdout.split()[-1] == "1"
    kernel_log = node.machine.exec("dmesg").stdout
    assert "Secure boot enabled" in kernel_log
    assert "[integrity]" in node.machine.read("/sys/kernel/security/lockdown")
    say("Secure Boot is on, and the kernel is locked down (integrity)")
    assert "trialboot.boot=" in node.command_line()
    assert "trialboot: firmware: bound the kept tree" in kernel_log
    say("the kept kernel's signature is accepted, and the second initrd is taken")
    refused = node.machine.exec("insmod /lib/modules/*/updates/toynic.ko", check=False)
    assert refused.code != 0
    say(f"an unsigned module is refused: {refused.stderr.strip()}")


def _break_signature(node: Node, bad: str, say: Say) -> None:
    """Boot a kernel once that is shorter than what was signed: the known-good comes up."""
    node.machine.exec(f"truncate -s -4096 /boot/vmlinuz-{bad}")
    ids = "sed -n \"s/.*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg"
    entries = node.machine.exec(ids).stdout.split()
    menu = next(e for e in entries if e.startswith("gnulinux-advanced"))
    entry = next(e for e in entries if e.startswith(f"gnulinux-{bad}-advanced"))
    node.machine.exec(f"grub-reboot '{menu}>{entry}'")
    starts = node.machine.serial().count(f"Linux version {bad}")
    node.machine.wait_reboot(node.reboot(), timeout=420)
    assert "trialboot.boot=" in node.command_line()
    assert node.machine.serial().count(f"Linux version {bad}") == starts
    say("a kernel whose signature is broken is not started; GRUB fell back to the known-good")
