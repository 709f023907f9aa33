"""The harness itself: machines boot, answer, reboot, and carry what the tests build on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.image import Image, build
from tests.vm.machine import Firmware, Machine
from trialboot.core.grub import parse_menu
from trialboot.core.grubwords import as_script
from trialboot.core.menu import Menu, MenuEntry

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def image() -> Image:
    """The image, built once a recipe."""
    return build()


@pytest.fixture(scope="module")
def machine(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that runs the usual kernel, started by GRUB under BIOS."""
    with Machine(image, tmp_path_factory.mktemp("machine")) as machine:
        machine.start()
        machine.wait_agent()
        yield machine


def test_grub_boots_the_usual_kernel(machine: Machine, image: Image) -> None:
    assert machine.exec("uname -r").stdout.strip() == image.kernels["6.12"]
    assert "BOOT_IMAGE=" in machine.read("/proc/cmdline")


def test_the_console_tells_what_the_kernel_says(machine: Machine) -> None:
    machine.exec("echo '<3>a word on the console' > /dev/kmsg; sleep 1")
    assert "a word on the console" in machine.serial()


def test_files_travel_both_ways(machine: Machine) -> None:
    machine.write("/root/a folder/a file", "über\n", mode=0o600)
    assert machine.read("/root/a folder/a file") == "über\n"
    assert machine.exec("stat -c %a '/root/a folder/a file'").stdout == "600\n"
    assert not machine.exists("/root/another")


def test_the_toy_driver_runs_its_good_firmware(machine: Machine) -> None:
    machine.exec("modprobe toynic")
    loaded = machine.read("/sys/module/toynic/parameters/firmware_loaded")
    assert loaded == "GOOD 1.0\n"
    assert machine.exists("/sys/class/net/toynic0")
    machine.exec("modprobe -r toynic")


def test_the_toy_driver_refuses_broken_firmware(machine: Machine) -> None:
    machine.exec(
        "mkdir /tmp/broken && dpkg-deb -x /srv/repo/firmware-toynic_2.0_all.deb /tmp/broken"
        " && mount --bind /tmp/broken/lib/firmware /lib/firmware",
    )
    refused = machine.exec("modprobe toynic", check=False)
    machine.exec("umount /lib/firmware")
    assert refused.code != 0
    assert not machine.exists("/sys/class/net/toynic0")


def test_the_next_kernel_resolves_and_removes_nothing(machine: Machine, image: Image) -> None:
    said = machine.exec(f"apt-get install -s linux-image-{image.kernels['7']}").stdout
    assert " 0 to remove " in said
    assert f"Inst linux-modules-{image.kernels['7']} " in said


def test_autoremove_takes_no_kernel(machine: Machine) -> None:
    assert "Remv" not in machine.exec("apt-get autoremove -s").stdout


def test_the_node_has_the_kubelets_files(machine: Machine) -> None:
    assert machine.exec("stat -c %a /etc/kubernetes/kubelet.conf").stdout == "600\n"
    assert "BEGIN CERTIFICATE" in machine.read("/var/lib/kubelet/pki/kubelet-client-current.pem")


def test_a_reboot_is_known_by_its_boot_id(machine: Machine) -> None:
    before = machine.boot_id()
    assert machine.reboot() != before


def test_a_reset_is_known_by_its_boot_id(machine: Machine) -> None:
    before = machine.boot_id()
    machine.exec("sync")
    machine.reset()
    assert machine.wait_reboot(before) != before


ODD_WORDS = r"""\
	linux KERNEL ROOT ro \
		console=ttyS0 'x.a=it\q' "x.b=it's  here" x.c=by\\x2dlabel 'x.d=a\x2Db c' 'x.e={"k": 1}' \
		x.f=\$z$nobody 'x.g=a;b|c&d' x.h=\"q\" "x.i=a\
b" x.j='#no' x.k=\\x2 $nobody
"""
ENTRY = "menuentry 'Odd' --id odd {{\n{}\n\tinitrd INITRD\n}}\n"


def test_grub_hands_over_the_words_that_we_say_it_does(image: Image, tmp_path: Path) -> None:
    """And what we write for it comes back as the very same command line."""
    with Machine(image, tmp_path) as machine:
        machine.start()
        machine.wait_agent()
        menu = machine.read("/boot/grub/grub.cfg")
        stock = next(e for e in _entries(menu) if e.entry.startswith("gnulinux-simple"))
        places = {"KERNEL": stock.kernel, "INITRD": stock.initrds[0]}
        places["ROOT"] = stock.arguments.split()[0]

        def boots(linux: str) -> tuple[str, str]:
            text = ENTRY.format(linux) + ENTRY.format("\tlinux KERNEL ROOT ro x.second")
            for name, value in places.items():
                text = text.replace(name, value)
            machine.write("/boot/grub/custom.cfg", text)
            machine.exec("grub-script-check /boot/grub/custom.cfg && grub-reboot odd")
            first, second = _entries(text)
            assert "has the same id" in second.doubt
            machine.reboot()
            line = machine.read("/proc/cmdline").rstrip("\n")
            return line.removeprefix(f"BOOT_IMAGE={stock.kernel} "), first.arguments

        ran, told = boots(ODD_WORDS)
        assert ran == told
        script = as_script(ran)
        assert isinstance(script, str)
        ran_again, _ = boots(f"\tlinux KERNEL {script}")
        assert ran_again == ran


def _entries(text: str) -> tuple[MenuEntry, ...]:
    menu = parse_menu(text, {})
    assert isinstance(menu, Menu)
    return menu.entries


@pytest.mark.parametrize(("firmware", "has_efi"), [("bios", False), ("uefi", True)])
def test_the_same_disk_boots_by_either_firmware(
    image: Image,
    tmp_path: Path,
    firmware: Firmware,
    *,
    has_efi: bool,
) -> None:
    with Machine(image, tmp_path) as machine:
        machine.start(firmware=firmware)
        machine.wait_agent()
        assert machine.exists("/sys/firmware/efi") is has_efi
        machine.power_off()
        assert not machine.running()


def test_a_saved_disk_remembers(image: Image, tmp_path: Path) -> None:
    with Machine(image, tmp_path / "first") as first:
        first.start(kernel="6.1")
        first.wait_agent()
        assert first.exec("uname -r").stdout.strip() == image.kernels["6.1"]
        first.write("/root/mark", "kept")
        first.power_off()
        saved = first.save(tmp_path / "saved")
    with Machine(image, tmp_path / "second", backing=saved) as second:
        second.start(kernel="6.12")
        second.wait_agent()
        assert second.read("/root/mark") == "kept"
