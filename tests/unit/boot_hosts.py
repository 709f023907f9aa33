"""Folders that look like hosts with other boot loaders and layouts than Debian's plain GRUB."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.unit.loaders.host_folder import INITRAMFS, PLAIN
from trialboot.core.systemdboot import LOADER_VENDOR
from trialboot.host import Host

MACHINE: Final = "6a9857a393724b7a981ebb5b8495b9ea"
OLD: Final = "6.1.0-56-amd64"
NEW: Final = "6.12.117-amd64"
SPLIT: Final = "7.2.13+deb14-cloud-amd64"
FEDORA_OLD: Final = "6.11.0-63.fc42.x86_64"
FEDORA_NEW: Final = "6.12.1-100.fc42.x86_64"
EFIVARS: Final = "/sys/firmware/efi/efivars"

FEDORA_CFG: Final = """\
set pager=1

if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${env_block}" ] ; then
  set env_block="(${root})${env_block}"
  export env_block
  load_env -f "${env_block}"
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   if [ "${env_block}" ] ; then
     save_env -f "${env_block}" next_entry
   else
     save_env next_entry
   fi
   set boot_once=true
else
   set default="${saved_entry}"
fi

if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option

if [ -f ${prefix}/user.cfg ]; then
  source ${prefix}/user.cfg
  if [ -n "${GRUB2_PASSWORD}" ]; then
    set superusers="root"
    export superusers
    password_pbkdf2 root ${GRUB2_PASSWORD}
  fi
fi

set tuned_params="skew_tick=1"
set tuned_initrd=""

insmod increment
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if  [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    decrement boot_counter
  fi
  save_env boot_counter
fi

insmod part_gpt
insmod ext2
search --no-floppy --fs-uuid --set=root 5f0c6b3e-1111-2222-3333-444455556666
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/mapper/fedora-root ro rhgb quiet "
fi

insmod blscfg
blscfg

if [ "${boot_success}" = "1" ] ; then
  set boot_indeterminate=0
elif [ "${boot_indeterminate}" = "1" ]; then
  set boot_indeterminate=2
fi
set boot_success=0
save_env boot_success boot_indeterminate

if [ "$grub_platform" = "efi" ]; then
	insmod bli
	menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
		fwsetup
	}
fi

if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""


def block(**values: str) -> str:
    """Write an environment block of GRUB."""
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return f"# GRUB Environment Block\n{lines}".ljust(1024, "#")


@dataclass(frozen=True)
class BootHost:
    """A host folder that files are written into."""

    root: Path
    host: Host = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", Host(root=self.root))

    def write(self, path: str, content: str | bytes = "") -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def efi(self, **variables: str) -> None:
        """Set EFI variables of the boot loader; there are always some of the firmware's."""
        self.write(f"{EFIVARS}/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\7\0\0\0\1\0")
        for name, value in variables.items():
            raw = b"\7\0\0\0" + value.encode("utf-16-le") + b"\0\0"
            self.write(f"{EFIVARS}/{name}-{LOADER_VENDOR}", raw)

    def with_parts(self) -> None:
        """Lay down what belongs to a boot set, or to the vault, on any host."""
        self.write("/lib/firmware/nic/fw.bin", "old firmware")
        for file in (path for path in INITRAMFS.rglob("*") if path.is_file()):
            place = f"/usr/lib/trialboot/initramfs/{file.relative_to(INITRAMFS)}"
            self.write(place, file.read_bytes())

    def kernels(self, *releases: str, initrd: str = "/boot/initrd.img-{}") -> None:
        for release in releases:
            self.write(f"/boot/vmlinuz-{release}", f"kernel {release}")
            self.write(initrd.format(release), f"initrd {release}")


def separate_boot(root: Path) -> BootHost:
    """Make Debian with initramfs-tools and GRUB; /boot is a file system of its own."""
    made = BootHost(root)
    made.kernels(OLD, NEW)
    made.write("/boot/grub/grub.cfg", PLAIN)
    made.write("/usr/sbin/update-initramfs")
    return made


def protected(root: Path) -> Path:
    """Make a GRUB host that survives a panic and has no watchdog; give its folder."""
    made = separate_boot(root)
    made.write("/proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n")
    made.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz ro panic=10\n")
    (root / "sys/dev/block/8:2").mkdir(parents=True)
    made.write("/etc/grub.d/09_trialboot").chmod(0o755)
    return root


def with_dracut(root: Path) -> BootHost:
    """Make Debian with dracut; /boot lies on the root file system, a btrfs subvolume."""
    made = BootHost(root)
    made.kernels(OLD, NEW)
    made.write("/boot/grub/grub.cfg", PLAIN.replace("\t/", "\t/@rootfs/boot/"))
    made.write("/proc/self/mountinfo", "29 1 0:25 /@rootfs / rw - btrfs /dev/vda2 rw\n")
    made.write("/usr/bin/dracut")
    return made


def fedora(root: Path, **environment: str) -> BootHost:
    """Make Fedora: GRUB takes its entries from /boot/loader/entries; no /boot/grub."""
    made = BootHost(root)
    made.kernels(FEDORA_OLD, FEDORA_NEW, initrd="/boot/initramfs-{}.img")
    made.write("/boot/grub2/grub.cfg", FEDORA_CFG)
    made.write("/boot/grub2/grubenv", block(boot_success="1", **environment))
    made.write("/usr/bin/dracut")
    for release in (FEDORA_OLD, FEDORA_NEW):
        made.write(
            f"/boot/loader/entries/{MACHINE}-{release}.conf",
            f"title Fedora Linux ({release}) 42 (Server Edition)\n"
            f"version {release}\n"
            f"linux /vmlinuz-{release}\n"
            f"initrd /initramfs-{release}.img $tuned_initrd\n"
            "options root=/dev/mapper/fedora-root ro rhgb quiet $tuned_params\n"
            "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n",
        )
    return made


def systemd_boot(root: Path, folder: str = "/boot/efi", **variables: str) -> BootHost:
    """Make Debian with systemd-boot, as kernel-install lays entries out on the ESP."""
    made = BootHost(root)
    made.write(f"{folder}/loader/loader.conf", "timeout 3\n#console-mode keep\n")
    for release in (OLD, NEW):
        there = f"/{MACHINE}/{release}"
        made.write(f"{folder}{there}/linux", f"kernel {release}")
        made.write(f"{folder}{there}/initrd.img-{release}", f"initrd {release}")
        made.write(
            f"{folder}/loader/entries/{MACHINE}-{release}.conf",
            f"# Boot Loader Specification type#1 entry\ntitle      Debian GNU/Linux 13\n"
            f"version    {release}\nmachine-id {MACHINE}\nsort-key   debian\n"
            f"options    root=UUID=a ro systemd.machine_id={MACHINE}\n"
            f"linux      {there}/linux\ninitrd     {there}/initrd.img-{release}\n",
        )
    made.efi(LoaderInfo="systemd-boot 257.9-1~deb13u1", **variables)
    return made


def controlled_systemd_boot(root: Path, folder: str = "/boot/efi", **variables: str) -> BootHost:
    """Make the same as a host on which systemd-boot can be written, with parts to keep."""
    made = systemd_boot(root, folder, **variables)
    made.write(f"{EFIVARS}/LoaderFeatures-{LOADER_VENDOR}", b"\7\0\0\0\xff\x3f" + bytes(6))
    made.write(
        "/proc/self/mountinfo",
        "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
        f"30 22 8:1 / {folder} rw - vfat /dev/sda1 rw\n"
        f"31 22 0:9 / {EFIVARS} ro,nosuid - efivarfs efivarfs rw\n",
    )
    made.write("/proc/cmdline", "initrd=\\a root=UUID=a ro panic=10\n")
    made.with_parts()
    return made


def controlled_fedora(root: Path, file_system: str = "ext4", **environment: str) -> BootHost:
    """Make Fedora with parts to keep; /boot is a partition of its own, the block on it."""
    made = fedora(root, **environment)
    made.write(
        "/proc/self/mountinfo",
        f"22 1 8:3 / / rw - ext4 /dev/sda3 rw\n23 22 8:2 / /boot rw - {file_system} /dev/sda2 rw\n"
        "24 23 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n",
    )
    for number in (1, 2, 3):
        made.write(f"/sys/devices/sda/sda{number}/partition", f"{number}\n")
        (root / "sys/dev/block").mkdir(parents=True, exist_ok=True)
        (root / f"sys/dev/block/8:{number}").symlink_to(root / f"sys/devices/sda/sda{number}")
    made.write("/proc/cmdline", "BOOT_IMAGE=(hd0,gpt2)/vmlinuz ro panic=10\n")
    made.with_parts()
    return made


def image_parts(**sections: bytes) -> bytes:
    """Write a unified kernel image: a PE file whose sections begin at 512 bytes each."""
    names = [f".{name}".encode().ljust(8, b"\0") for name in sections]
    head = b"MZ".ljust(0x3C, b"\0") + (0x40).to_bytes(4, "little") + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, len(names), 0, 0, 0, 16, 0) + bytes(16)
    body, at = b"", 1024
    for name, content in zip(names, sections.values(), strict=True):
        padded = content.ljust(-(-len(content) // 512) * 512, b"\0")
        place = (len(content), 0x1000 + at, len(padded), at, 0, 0, 0, 0, 0)
        head += struct.pack("<8sIIIIIIHHI", name, *place)
        body, at = body + padded, at + len(padded)
    return head.ljust(1024, b"\0") + body


def split_packages(root: Path) -> BootHost:
    """Make Debian sid, kernel 7.x: linux-binary has it below /usr/lib/modules, nothing in /boot.

    The hook 00-legacy-boot of linux-base then links kernel and config into /boot.
    """
    made = BootHost(root)
    modules = f"/usr/lib/modules/{SPLIT}"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for name in ("System.map", "config", "modules.builtin", "modules.order", "vmlinuz"):
        made.write(f"{modules}/{name}", name)
    made.write(f"/boot/initrd.img-{SPLIT}", "initrd")
    for name in ("config", "vmlinuz"):
        (root / f"boot/{name}-{SPLIT}").hardlink_to(root / modules.lstrip("/") / name)
    made.write("/boot/grub/grub.cfg", PLAIN.replace(NEW, SPLIT).replace("\t/", "\t/boot/"))
    made.write("/usr/sbin/update-initramfs")
    return made


def without_copy(root: Path) -> BootHost:
    """Make the same where no hook links into /boot and the menu names the package's own file."""
    made = split_packages(root)
    (root / f"boot/vmlinuz-{SPLIT}").unlink()
    kernel = f"/boot/vmlinuz-{SPLIT}"
    menu = (root / "boot/grub/grub.cfg").read_text(encoding="utf-8")
    made.write("/boot/grub/grub.cfg", menu.replace(kernel, f"/usr/lib/modules/{SPLIT}/vmlinuz"))
    return made
