"""What `trialboot next --now` says on whole nodes, one story each: the text is held word by word.

The texts lie beside this file. TRIALBOOT_RENEW=1 writes them anew: read the difference as a tired
administrator would before it is committed.
"""

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.fakes import module_files
from tests.unit import boot_hosts
from tests.unit.boot_hosts import FEDORA_NEW, FEDORA_OLD, MACHINE, SPLIT
from tests.unit.loaders.host_folder import UUID
from tests.unit.scenarios.node import (
    ARGUMENTS,
    GPU,
    ICE,
    LOADED,
    NEW,
    OLD,
    Node,
    Part,
    furnish,
    menu_of,
    node,
    two_kernels,
)
from tests.unit.workers.debian_host import NEXT_BOOT
from trialboot import cli
from trialboot.core.grub import format_environment
from trialboot.core.menu import BOOT_WORD, KNOWN_GOOD
from trialboot.core.systemdboot import LOADER_VENDOR
from trialboot.core.trial import Choice, Condemned, Phase, Trial
from trialboot.readers.equipment.devlink import read_devlink

HERE: Final = Path(__file__).parent
RENEW: Final = "TRIALBOOT_RENEW"
ENTRY_OF_OLD: Final = f"gnulinux-advanced-{UUID}>gnulinux-{OLD}-advanced-{UUID}"
REBUILT: Final = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2025-09-28)"

Story = Callable[[Path], Node]
STORIES: Final[dict[str, Story]] = {}


def story(make: Story) -> Story:
    """Take a story into the table; its name is that of its text."""
    STORIES[make.__name__] = make
    return make


# --- nothing, and the incident ------------------------------------------------------------------


@story
def nothing_changed(root: Path) -> Node:
    """Nobody touched anything since the boot."""
    return node(root)


@story
def the_incident(root: Path) -> Node:
    """«Only a linux-firmware update», on a node where a new kernel has waited for weeks."""
    host = two_kernels(root)
    host.install_firmware({ICE: "ice 1.3.36.0", "amdgpu/navi10_pfp.bin": "pfp 2"})
    host.install_firmware({f"amdgpu/gc_11_0_{n}_me.bin": "new" for n in range(12)})
    host.make_initrd(OLD, content="rebuilt")
    host.make_initrd(NEW, content="rebuilt")
    return host


@story
def reboot_required_though_nothing_changes(root: Path) -> Node:
    """A flag that somebody set for another reason is evidence, not an answer."""
    host = node(root)
    host.write("/run/reboot-required", "*** System restart required ***\n")
    host.write("/run/reboot-required.pkgs", "libc6\ndbus\n")
    return host


@story
def kernel_switches_without_reboot_required(root: Path) -> Node:
    """Nothing asks for a reboot, and the next one switches the kernel."""
    return two_kernels(root)


# --- firmware -----------------------------------------------------------------------------------


@story
def firmware_in_use(root: Path) -> Node:
    host = node(root)
    host.install_firmware({ICE: "ice 1.3.36.0"})
    host.make_initrd(OLD)
    return host


@story
def firmware_not_in_use(root: Path) -> Node:
    host = node(root)
    host.install_firmware({"amdgpu/navi10_pfp.bin": "pfp 2", "amdgpu/navi10_me.bin": "me 2"})
    host.make_initrd(OLD)
    return host


@story
def firmware_shadowed_by_updates(root: Path) -> Node:
    """The operator's own file in updates/ is what the kernel takes: the package's is not."""
    host = Node(root)
    furnish(host)
    host.write(f"/lib/firmware/updates/{ICE}", "ice of the vendor")
    host.install_kernel(OLD)
    host.menu(OLD)
    host.boots(OLD)
    host.look()
    host.install_firmware({ICE: "ice 1.3.36.0"})
    host.make_initrd(OLD)
    return host


@story
def firmware_put_into_updates(root: Path) -> Node:
    """A new file in updates/ hides the package's from the next boot on."""
    host = node(root)
    host.write(f"/lib/firmware/updates/{ICE}", "ice of the vendor")
    return host


@story
def firmware_packed_now(root: Path) -> Node:
    """The package packs its files from now on: the plain ones go, .zst comes."""
    host = node(root)
    for path in (ICE, GPU, "amdgpu/navi10_me.bin"):
        host.remove(f"/lib/firmware/{path}")
        host.write(f"/lib/firmware/{path}.zst", f"packed {path}")
    host.list_package("linux-firmware", None)
    host.make_initrd(OLD)
    return host


@story
def firmware_in_use_is_gone(root: Path) -> Node:
    """The package that had the network card's firmware was removed."""
    host = node(root)
    host.remove(f"/lib/firmware/{ICE}")
    host.make_initrd(OLD)
    return host


# --- kernels and modules ------------------------------------------------------------------------


@story
def same_name_rebuild(root: Path) -> Node:
    """The kernel's package came anew under the same release: other image, other modules."""
    host = node(root)
    host.install_kernel(OLD, build=REBUILT)
    return host


@story
def modules_extra_missing(root: Path) -> Node:
    """linux-modules-extra of the next kernel is not installed: card and overlay are without it."""
    host = node(root)
    _without_extra(host)
    return host


@story
def modules_extra_missing_armed(root: Path) -> Node:
    """The same on an armed node: it is refused, and the known-good boots."""
    host = node(root)
    trial = host.prove()
    _without_extra(host)
    _put_ours_into_the_menu(host, trial)
    host.decide(trial)
    return host


def _without_extra(host: Node) -> None:
    host.install_kernel(NEW, without={"ice", "bnxt_en", "vxlan", "i915", "coretemp"})
    host.menu(NEW)


@story
def names_vanish_inside_a_stable_series(root: Path) -> Node:
    """Fourteen names go, as from 5.15.0-100 to -204; the network of this node uses none."""
    gone = (
        *("sch_cbq", "sch_dsmark", "sch_atm", "cls_tcindex", "cls_rsvp", "cls_rsvp6"),
        *("ems_pcmcia", "mISDN_core", "capi", "hisax_isac", "pktcdvd", "rndis_wlan", "orinoco"),
        "sp8870",
    )
    host = Node(root)
    old = {name: Part(folder="kernel/attic") for name in gone}
    host.loaded |= {name: old[name] for name in ("sch_cbq", "pktcdvd")}
    furnish(host)
    host.install_kernel(OLD, other=old)
    host.menu(OLD)
    host.boots(OLD)
    host.look()
    host.install_kernel(NEW)
    host.menu(NEW)
    return host


@story
def module_renamed(root: Path) -> Node:
    """The name is gone, and another module of the next kernel answers to it."""
    host = node(root)
    renamed = Part(folder="kernel/drivers/hwmon", aliases=("coretemp",))
    host.install_kernel(NEW, without={"coretemp"}, other={"intel_coretemp": renamed})
    host.menu(NEW)
    return host


@story
def module_built_in_now(root: Path) -> Node:
    host = node(root)
    host.install_kernel(NEW, without={"overlay"}, builtin={"overlay": LOADED["overlay"]})
    host.menu(NEW)
    return host


@story
def driver_of_a_device_switches(root: Path) -> Node:
    """Another module of the next kernel answers to the second network card."""
    host = node(root)
    newer = replace(LOADED["bnxt_en"], folder="kernel/drivers/net/ethernet/broadcom/bnge")
    host.install_kernel(NEW, other={"bnge": newer, "bnxt_en": Part(folder="kernel/attic")})
    host.menu(NEW)
    return host


@story
def a_device_has_no_driver(root: Path) -> Node:
    """The next kernel has the controller's module, which no longer takes this old card."""
    host = node(root)
    host.install_kernel(NEW, other={"megaraid_sas": replace(LOADED["megaraid_sas"], aliases=())})
    host.menu(NEW)
    return host


@story
def dkms_not_built(root: Path) -> Node:
    host = _with_zfs(root)
    host.install_kernel(NEW)
    host.menu(NEW)
    return host


@story
def zfs_changes_its_version(root: Path) -> Node:
    """zfs-dkms was upgraded, and built for the kernel that runs."""
    host = _with_zfs(root)
    shutil.rmtree(root / "var/lib/dkms/zfs")
    host.install_zfs(OLD, "2.2.7-1")
    return host


def _with_zfs(root: Path) -> Node:
    host = Node(root)
    furnish(host)
    host.install_kernel(OLD)
    host.install_zfs(OLD)
    host.menu(OLD)
    host.boots(OLD)
    host.look()
    return host


@story
def driver_version_and_parameter(root: Path) -> Node:
    """megaraid_sas 07.717 becomes 07.727 and forgets a parameter."""
    host = node(root)
    newer = replace(
        LOADED["megaraid_sas"], version="07.727.03.00-rc1", parameters=("max_sectors",)
    )
    host.install_kernel(NEW, other={"megaraid_sas": newer})
    host.menu(NEW)
    return host


@story
def unsigned_module_under_enforcement(root: Path) -> Node:
    """The next kernel takes signed modules only, and its bridge is not signed."""
    host = node(root)
    host.install_kernel(NEW, unsigned={"bridge"}, options={"MODULE_SIG_FORCE": "y"})
    host.menu(NEW)
    return host


@story
def packed_modules(root: Path) -> Node:
    """The next kernel's modules are packed with xz, one of another version."""
    host = node(root)
    newer = replace(LOADED["megaraid_sas"], version="07.727.03.00-rc1")
    host.install_kernel(NEW, other={"megaraid_sas": newer}, ending=".ko.xz")
    host.menu(NEW)
    return host


@story
def cni_options_lost(root: Path) -> Node:
    host = node(root)
    host.install_kernel(NEW, options={"NET_SCH_FQ": "n", "WIREGUARD": "y", "NETKIT": "y"})
    host.menu(NEW)
    return host


@story
def no_configuration_of_the_next_kernel(root: Path) -> Node:
    """A kernel from elsewhere brought no config: its options are not known, and that is said."""
    host = two_kernels(root)
    host.remove(f"/boot/config-{NEW}")
    return host


# --- initrd, microcode, command line, settings --------------------------------------------------


@story
def microcode_changes(root: Path) -> Node:
    host = node(root)
    host.list_package("intel-microcode", None)
    host.make_initrd(OLD, microcode="microcode 2")
    return host


@story
def initrd_rebuilt(root: Path) -> Node:
    host = node(root)
    host.make_initrd(OLD, content="with another hook")
    return host


@story
def initrd_older_than_the_firmware(root: Path) -> Node:
    """The firmware came and update-initramfs did not run: the initrd has the old file."""
    host = node(root)
    host.install_firmware({ICE: "ice 1.3.36.0"})
    return host


@story
def command_line_changes(root: Path) -> Node:
    host = node(root)
    menu = menu_of(OLD).replace(
        " quiet", " quiet mitigations=off systemd.unified_cgroup_hierarchy=0"
    )
    host.write("/boot/grub/grub.cfg", menu)
    return host


@story
def settings_change(root: Path) -> Node:
    """After the boot: a sysctl, a blacklist of a loaded module, and one nobody feels."""
    host = node(root)
    host.write("/etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\nkernel.sysrq = 0\n")
    host.write("/etc/modprobe.d/cis.conf", "install br_netfilter /bin/false\nblacklist floppy\n")
    return host


# --- what the boot loader does ------------------------------------------------------------------


@story
def one_shot_is_set(root: Path) -> Node:
    """Somebody ran grub-reboot: the older kernel boots once."""
    host = two_kernels(root)
    host.write("/boot/grub/grubenv", format_environment({"next_entry": ENTRY_OF_OLD}))
    return host


@story
def default_names_nothing(root: Path) -> Node:
    """GRUB_DEFAULT names the kernel that was purged: GRUB falls to its first entry."""
    host = two_kernels(root)
    menu = menu_of(NEW).replace('default="0"', f'default="gnulinux-5.10.0-{UUID}"')
    host.write("/boot/grub/grub.cfg", menu)
    return host


@story
def operator_saved_the_older_kernel(root: Path) -> Node:
    """GRUB_DEFAULT=saved, and the operator saved the kernel that runs: nothing switches."""
    host = two_kernels(root)
    menu = menu_of(NEW).replace('default="0"', 'default="${saved_entry}"')
    host.write("/boot/grub/grub.cfg", menu)
    host.write("/boot/grub/grubenv", format_environment({"saved_entry": ENTRY_OF_OLD}))
    host.boots(OLD, boot=NEXT_BOOT)
    host.look()
    return host


@story
def an_older_kernel_installed_later(root: Path) -> Node:
    """/vmlinuz points to it, GRUB's default does not: nothing changes."""
    host = node(root)
    host.install_kernel("6.1.0-55-amd64")
    host.link("/vmlinuz", "boot/vmlinuz-6.1.0-55-amd64")
    host.write("/boot/grub/grub.cfg", menu_of(OLD).replace(NEW, "6.1.0-55-amd64"))
    return host


@story
def kexec_is_staged(root: Path) -> Node:
    host = node(root)
    host.write("/sys/kernel/kexec_loaded", "1\n")
    return host


@story
def uefi_starts_another_loader(root: Path) -> Node:
    host = node(root)
    windows = (
        struct.pack("<IH", 1, 4) + "Windows Boot Manager\0".encode("utf-16-le") + b"\x7f\xff\4\0"
    )
    host.efi(BootNext=b"\3\0", BootCurrent=b"\1\0", Boot0003=windows, Boot0001=windows)
    loader = f"/sys/firmware/efi/efivars/LoaderInfo-{LOADER_VENDOR}"
    host.write(loader, b"\7\0\0\0" + "GRUB 2.12\0".encode("utf-16-le"))
    return host


@story
def bios_update_waits(root: Path) -> Node:
    host = node(root)
    host.write("/run/dbus/system_bus_socket", "")
    waiting = {"Name": "System Firmware", "Version": "2.19.1", "UpdateVersion": "2.21.0"}
    host.fwupd = ({**waiting, "UpdateState": 4},)
    return host


# --- what cannot be known -----------------------------------------------------------------------


@story
def no_boot_folder(root: Path) -> Node:
    """A VM whose kernel comes from its hypervisor."""
    host = node(root)
    shutil.rmtree(root / "boot")
    (root / "var/lib/trialboot/ran.json").unlink()
    host.boots(OLD, boot=NEXT_BOOT, command_line="console=ttyS0 root=/dev/vda ro")
    return host


@story
def no_modules_dep(root: Path) -> Node:
    """depmod did not run for the next kernel."""
    host = two_kernels(root)
    host.remove(f"/lib/modules/{NEW}/modules.dep")
    return host


@story
def grub_cfg_cannot_be_read(root: Path) -> Node:
    host = node(root)
    host.remove("/boot/grub/grub.cfg")
    (root / "boot/grub/grub.cfg").mkdir()
    return host


@story
def parts_cannot_be_read(root: Path) -> Node:
    """BootNext, DKMS and the settings cannot be read: what they would change is not known."""
    host = two_kernels(root)
    _spoil_small_parts(host)
    return host


@story
def parts_cannot_be_read_and_nothing_else_changes(root: Path) -> Node:
    host = node(root)
    _spoil_small_parts(host)
    return host


def _spoil_small_parts(host: Node) -> None:
    host.efi(BootNext=b"\3")
    host.write("/var/lib/dkms", "a file where a folder was")
    host.write("/etc/sysctl.d/huge.conf", b"#" * (2 << 20))


@story
def a_module_file_is_damaged(root: Path) -> Node:
    """The next kernel's file of the network card's module is half written."""
    host = two_kernels(root)
    path = f"/lib/modules/{NEW}/{LOADED['ice'].folder}/ice.ko"
    host.write(path, (root / path.lstrip("/")).read_bytes()[:100])
    return host


@story
def looked_at_too_late(root: Path) -> Node:
    """trialboot was installed after the initrd had been rebuilt: what runs is not known."""
    host = node(root)
    (root / "var/lib/trialboot/ran.json").unlink()
    host.boots(OLD, boot=NEXT_BOOT, started=1_765_000_000)
    return host


# --- other layouts ------------------------------------------------------------------------------


@story
def dracut_layout(root: Path) -> Node:
    """Debian with dracut, /boot on the btrfs subvolume of the root."""
    boot_hosts.with_dracut(root)
    host = Node(root)
    furnish(host)
    for release in (OLD, NEW):
        host.install_kernel(release)
    subvolume = menu_of(OLD).replace("\t/", "\t/@rootfs/boot/")
    host.write("/boot/grub/grub.cfg", subvolume)
    _boot_on_btrfs(host)
    host.write(
        "/boot/grub/grub.cfg", subvolume.replace(OLD, "X").replace(NEW, OLD).replace("X", NEW)
    )
    return host


def _boot_on_btrfs(host: Node) -> None:
    host.boots(OLD, command_line=f"BOOT_IMAGE=/@rootfs/boot/vmlinuz-{OLD} {ARGUMENTS}")
    host.write("/proc/self/mountinfo", "29 1 0:25 /@rootfs / rw - btrfs /dev/vda2 rw\n")
    host.look()


@story
def debian_7_split_packages(root: Path) -> Node:
    """Debian sid: the image lies below /usr/lib/modules, linux-base links it into /boot."""
    boot_hosts.split_packages(root)
    return _on_merged_usr(Node(root), "/boot/vmlinuz-{}")


@story
def debian_7_without_copies_in_boot(root: Path) -> Node:
    """The same where no hook links: the menu names the package's own file."""
    boot_hosts.without_copy(root)
    return _on_merged_usr(Node(root), "/usr/lib/modules/{}/vmlinuz")


def _on_merged_usr(host: Node, image: str) -> Node:
    host.image, host.config = image, "/usr/lib/modules/{}/config"
    host.remove(f"/boot/config-{SPLIT}")
    furnish(host)
    for release in (OLD, SPLIT):
        host.install_kernel(release)
    menu = (host.root / "boot/grub/grub.cfg").read_text()
    kernel = image.format(OLD)
    swapped = menu.replace(SPLIT, "X").replace(OLD, SPLIT).replace("X", OLD)
    for release in (OLD, SPLIT):
        swapped = swapped.replace(f"/boot/vmlinuz-{release}", image.format(release))
    host.write("/boot/grub/grub.cfg", swapped)
    host.boots(OLD, command_line=f"BOOT_IMAGE={kernel} {ARGUMENTS}")
    host.look()
    host.write("/boot/grub/grub.cfg", menu.replace(f"/boot/vmlinuz-{OLD}", kernel))
    return host


@story
def fedora(root: Path) -> Node:
    """Fedora: entries from /boot/loader/entries, and a saved default."""
    boot_hosts.fedora(root, saved_entry=f"{MACHINE}-{FEDORA_OLD}")
    host = Node(root, initrd="/boot/initramfs-{}.img")
    furnish(host)
    for release in (FEDORA_OLD, FEDORA_NEW):
        host.install_kernel(release)
    host.boots(
        FEDORA_OLD,
        command_line=f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{FEDORA_OLD} "
        "root=/dev/mapper/fedora-root ro rhgb quiet skew_tick=1",
    )
    host.look()
    saved = boot_hosts.block(saved_entry=f"{MACHINE}-{FEDORA_NEW}", boot_success="1")
    host.write("/boot/grub2/grubenv", saved)
    return host


@story
def systemd_boot(root: Path) -> Node:
    """Debian with systemd-boot: the newest entry of the ESP, unless a setting says else."""
    selected = f"{MACHINE}-{OLD}.conf"
    boot_hosts.systemd_boot(root, LoaderEntryDefault=selected, LoaderEntrySelected=selected)
    esp = f"/boot/efi/{MACHINE}/{{0}}"
    host = Node(root, image=f"{esp}/linux", initrd=f"{esp}/initrd.img-{{0}}")
    furnish(host)
    for release in (OLD, NEW):
        host.install_kernel(release)
    line = (
        f"initrd=\\{MACHINE}\\{OLD}\\initrd.img-{OLD} root=UUID=a ro systemd.machine_id={MACHINE}"
    )
    host.boots(OLD, command_line=line)
    host.look()
    boot_hosts.BootHost(root).efi(
        LoaderInfo="systemd-boot 257.9-1~deb13u1", LoaderEntrySelected=selected
    )
    (root / f"sys/firmware/efi/efivars/LoaderEntryDefault-{LOADER_VENDOR}").unlink()
    return host


@story
def unified_kernel_image(root: Path) -> Node:
    """Debian with systemd-boot, whose newer kernel comes with its initrd in one image."""
    host = systemd_boot(root)
    folder = f"/boot/efi/{MACHINE}/{NEW}"
    image = boot_hosts.image_parts(
        linux=(root / f"{folder}/linux".lstrip("/")).read_bytes(),
        initrd=(root / f"{folder}/initrd.img-{NEW}".lstrip("/")).read_bytes(),
        cmdline=f"root=UUID=a ro systemd.machine_id={MACHINE}\0".encode(),
        osrel=b"ID=debian\nVERSION_ID=13\n",
        uname=NEW.encode(),
    )
    (root / f"boot/efi/loader/entries/{MACHINE}-{NEW}.conf").unlink()
    shutil.rmtree(root / folder.lstrip("/"))
    boot_hosts.BootHost(root).write(f"/boot/efi/EFI/Linux/{MACHINE}-{NEW}+3.efi", image)
    boot_hosts.BootHost(root).write("/boot/efi/loader/loader.conf", f"default {MACHINE}-6.12*\n")
    return host


# --- an armed node ------------------------------------------------------------------------------


@story
def armed_for_a_trial(root: Path) -> Node:
    host = node(root)
    trial = host.prove()
    host.install_kernel(NEW)
    host.menu(NEW)
    _put_ours_into_the_menu(host, trial, once=f"gnulinux-simple-{UUID}")
    host.decide(trial)
    return host


def _put_ours_into_the_menu(host: Node, trial: Trial, once: str = "") -> None:
    """Do what 09_trialboot and the pin worker do: our entry first, and the saved default."""
    assert trial.known_good is not None
    fingerprint = trial.known_good.fingerprint
    ours = (
        "set trialboot_host_default='0'\n"
        f"menuentry 'trialboot: known-good' --id '{KNOWN_GOOD}' {{\n"
        f"\tlinux\t/trialboot/{fingerprint}/vmlinuz {ARGUMENTS} {BOOT_WORD}={fingerprint}\n"
        f"\tinitrd\t/trialboot/{fingerprint}/initrd.img\n}}\n"
    )
    place = host.root / "boot/grub/grub.cfg"
    menu = place.read_text().replace('default="0"', 'default="${saved_entry}"')
    cut = menu.index("menuentry 'Debian")
    host.write("/boot/grub/grub.cfg", menu[:cut] + ours + menu[cut:])
    values = {"saved_entry": KNOWN_GOOD, **({"next_entry": once} if once else {})}
    host.write("/boot/grub/grubenv", format_environment(values))


@story
def rolled_back_and_still_wanted(root: Path) -> Node:
    """The trial of NEW failed; the node runs its known-good, and packages still want NEW."""
    host = node(root)
    trial = host.prove()
    good = trial.known_good
    assert good is not None
    host.install_kernel(NEW)
    host.menu(NEW)
    _put_ours_into_the_menu(host, trial)
    line = f"BOOT_IMAGE=/trialboot/{good.fingerprint}/vmlinuz {ARGUMENTS}"
    host.boots(OLD, boot=NEXT_BOOT, command_line=f"{line} {BOOT_WORD}={good.fingerprint}")
    wanted = host.look().wanted
    assert isinstance(wanted, Choice)
    bad = Condemned(
        fingerprint=wanted.boot_set.fingerprint,
        release=NEW,
        why="checks failed: attachments",
        at="2026-01-02T11:00:00Z",
    )
    host.remember(replace(trial, phase=Phase.RECOVERED, condemned=(bad,)))
    return host


@story
def known_good_is_damaged(root: Path) -> Node:
    """The known-good's kernel package was purged, and with it the modules in /lib/modules."""
    host = node(root)
    trial = host.prove()
    host.install_kernel(NEW)
    host.menu(NEW)
    _put_ours_into_the_menu(host, trial, once=f"gnulinux-simple-{UUID}")
    trial = host.decide(trial)
    host.remove(f"/boot/vmlinuz-{OLD}")
    shutil.rmtree(root / f"lib/modules/{OLD}")
    return host


@story
def somebody_made_another_entry_the_default(root: Path) -> Node:
    """A postinst ran grub-set-default: it is wanted, by a trial, and not the default."""
    host = node(root)
    trial = host.prove()
    host.install_kernel(NEW)
    host.menu(NEW)
    _put_ours_into_the_menu(host, trial)
    values = {"saved_entry": f"gnulinux-simple-{UUID}"}
    host.write("/boot/grub/grubenv", format_environment(values))
    return host


@story
def somebody_removed_the_environment_block(root: Path) -> Node:
    """With it the default went: the first entry of the menu boots, which is ours by chance."""
    host = node(root)
    trial = host.prove()
    _put_ours_into_the_menu(host, trial)
    (host.root / "boot/grub/grubenv").unlink(missing_ok=True)
    return host


@story
def known_good_lacks_its_entry(root: Path) -> Node:
    """Somebody ran a grub-mkconfig of his own: the menu has our entry no more."""
    host = node(root)
    host.prove()
    return host


# --- the texts ----------------------------------------------------------------------------------

MISSING: Final = [name for name in ("depmod",) if not module_files.program(name)]
OWN_DEVICES: Final = read_devlink()
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason="kmod is not installed: no kernel has its indexes"),
    pytest.mark.skipif(OWN_DEVICES != ((), ()), reason=f"devlink of this machine: {OWN_DEVICES}"),
]


@pytest.mark.parametrize("name", STORIES)
def test_the_next_boot_is_told_as_recorded(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = STORIES[name](tmp_path)
    code = cli.main(["next", "--now", "--exit-code"], host.host)
    told = capsys.readouterr()
    assert not told.err
    said = told.out.replace(str(tmp_path), "")
    recorded = HERE / f"{name}.txt"
    if os.environ.get(RENEW):
        recorded.write_text(said, encoding="utf-8")
    assert said == recorded.read_text(encoding="utf-8"), f"{RENEW}=1 writes the texts anew"
    assert code == code_of(said)


def code_of(said: str) -> int:
    """Give what --exit-code must end with, by the first line."""
    if said.startswith("What the next boot changes is not known"):
        return 2
    nothing = ("The next boot changes nothing.", "The next boot changes nothing that")
    return 0 if said.startswith(nothing) else 1


def test_every_recorded_text_has_its_story() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == set(STORIES)
