"""Differences of the package database add up, and those that matter for a boot are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Package, Unknown
from trialboot.core.packagechange import (
    PackageChange,
    combined,
    difference,
    touches_boot,
    weightiest,
)


def change(name: str, before: str = "1", after: str = "2") -> PackageChange:
    return PackageChange(name=name, architecture="amd64", before=before, after=after)


_PACKAGES = st.lists(
    st.builds(
        Package,
        name=st.sampled_from("abc"),
        architecture=st.sampled_from(["amd64", "all"]),
        version=st.sampled_from("123"),
    ),
    unique=True,
).map(lambda packages: tuple(sorted(packages)))


def package(name: str, version: str) -> Package:
    return Package(name=name, architecture="amd64", version=version)


def test_a_difference_names_what_came_went_and_changed() -> None:
    before = (package("a", "1"), package("b", "1"), package("c", "1"))
    after = (package("b", "2"), package("c", "1"), package("d", "1"))
    assert difference(before, after) == (
        change("a", "1", ""),
        change("b", "1", "2"),
        change("d", "", "1"),
    )


def test_kernels_side_by_side_are_each_a_change() -> None:
    before = (package("kernel-core", "1"), package("kernel-core", "2"))
    after = (package("kernel-core", "3"),)
    assert difference(before, after) == (
        change("kernel-core", "", "3"),
        change("kernel-core", "1", ""),
        change("kernel-core", "2", ""),
    )


@given(_PACKAGES, _PACKAGES, _PACKAGES)
def test_two_differences_in_a_row_are_one(
    first: tuple[Package, ...], second: tuple[Package, ...], third: tuple[Package, ...]
) -> None:
    over = combined(difference(first, second), difference(second, third))
    assert over == difference(first, third)
    assert difference(first, first) == ()
    once = difference(first, second)
    assert combined(once, once) == once, "the same difference twice is one"


def test_what_is_not_known_makes_the_sum_unknown() -> None:
    why = Unknown("no list")
    assert combined((change("a"),), why) == why
    assert combined(why, (change("a"),)) == why


def test_of_too_many_changes_those_that_matter_for_a_boot_stay() -> None:
    changes = (change("a"), change("b"), change("linux-image-6.1"))
    assert weightiest(changes, 2) == (change("a"), change("linux-image-6.1"))
    assert weightiest(changes, 3) == changes


BOOTS = """
    linux-image-amd64 linux-image-6.1.0-56-amd64 linux-image-unsigned-5.15.0-204-generic
    linux-modules-5.15.0-204-generic linux-modules-extra-6.8.0-40-generic linux-binary-7.1.0-amd64
    linux-base linux-base-7.1.0-amd64 kernel kernel-core kernel-modules-extra kernel-rt-core
    kernel-64k kernel-uki-virt proxmox-kernel-6.8 pve-kernel-6.2 xen-hypervisor-4.17-amd64
    linux-firmware linux-firmware-raspi firmware-misc-nonfree firmware-linux-free raspi-firmware
    amd-gpu-firmware wireless-regdb intel-microcode amd64-microcode microcode_ctl ucode-intel
    initramfs-tools initramfs-tools-core cryptsetup-initramfs dracut dracut-core mkinitcpio
    grub-pc grub-efi-amd64-bin grub2-common grub2-efi-x64 grubby shim shim-signed
    shim-x64 systemd-boot systemd-boot-efi systemd-ukify u-boot-rpi flash-kernel extlinux
    dkms zfs-dkms nvidia-dkms-535 akmod-nvidia kmod-nvidia linux-image-amd64:amd64
"""
OTHERS = """
    linux-headers-amd64 linux-libc-dev linux-perf linux-doc kernel-headers kernel-devel
    kernel-tools kernelshark kmod libc6 systemd bash initramfs dkmsx grub shimmer a-firmwares
    python3-firmware2 fwupd microcode xlinux-image-6.1 busybox
"""


@pytest.mark.parametrize("name", BOOTS.split())
def test_packages_that_a_boot_is_made_of_are_known(name: str) -> None:
    assert touches_boot(("bash", name, "vim"))


def test_other_packages_are_none() -> None:
    assert not touches_boot(OTHERS.split())
    assert not touches_boot(())
