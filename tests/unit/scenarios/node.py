"""A cluster node made of files: whole kernels, modules and firmware, on top of a Debian folder.

What a package brings is laid out as the package does; what the running kernel shows is written
as /proc and /sys show it. `depmod` makes the indexes. Interfaces have names that no machine has:
the real ioctl of the reader answers ENODEV, and /sys alone tells their drivers.
"""

import hashlib
import os
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.fakes import module_files
from tests.unit.loaders.host_folder import INITRAMFS
from tests.unit.workers.debian_host import ARGUMENTS, BOOT, NEW, OLD, Debian, menu_of
from trialboot.core.machine import step
from trialboot.core.newc import archive
from trialboot.core.outlook import Outlook
from trialboot.core.trial import Choice, Decision, Policy, Seen, Trial
from trialboot.workers import snapshot
from trialboot.writers import store
from trialboot.writers.vault import bootsets
from trialboot.writers.vault.bootsets import Sources

LONG_AGO: Final = 1_760_000_000
"""mtime of what the packages brought, Unix seconds: dpkg keeps that of the package."""
GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
BUILDS: Final[Mapping[str, str]] = {
    OLD: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2025-09-20)",
    NEW: "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2025-10-02)",
}
MICROCODE: Final = "kernel/x86/microcode/GenuineIntel.bin"
ICE: Final = "intel/ice/ddp/ice.pkg"
GPU: Final = "i915/kbl_dmc_ver1_04.bin"
NIC_ALIAS: Final = "pci:v00008086d00001592sv00008086sd00000002bc02sc00i00"
ZFS: Final = "updates/dkms/zfs.ko"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One module: where its file lies, what it says, and how the running kernel counts it."""

    folder: str
    references: int = 0
    asks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    version: str = ""
    parameters: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Give the `.modinfo` but what the build adds."""
        return [
            "license=GPL",
            *(f"firmware={name}" for name in self.asks),
            *(f"alias={alias}" for alias in self.aliases),
            *([f"version={self.version}"] if self.version else []),
            *(f"parmtype={name}:int" for name in self.parameters),
        ]


LOADED: Final[Mapping[str, Part]] = {
    "ice": Part(
        folder="kernel/drivers/net/ethernet/intel/ice",
        asks=(ICE,),
        aliases=("pci:v00008086d00001592sv*sd*bc*sc*i*",),
    ),
    "bnxt_en": Part(
        folder="kernel/drivers/net/ethernet/broadcom/bnxt",
        aliases=("pci:v000014E4d000016D7sv*sd*bc*sc*i*",),
    ),
    "vxlan": Part(folder="kernel/drivers/net/vxlan", references=1, aliases=("rtnl-link-vxlan",)),
    "udp_tunnel": Part(folder="kernel/net/ipv4", references=1),
    "veth": Part(folder="kernel/drivers/net", aliases=("rtnl-link-veth",)),
    "bridge": Part(folder="kernel/net/bridge", references=1),
    "br_netfilter": Part(folder="kernel/net/bridge"),
    "stp": Part(folder="kernel/net/802", references=1),
    "llc": Part(folder="kernel/net/llc", references=2),
    "overlay": Part(folder="kernel/fs/overlayfs", references=14),
    "nf_conntrack": Part(folder="kernel/net/netfilter", references=5),
    "nf_nat": Part(folder="kernel/net/netfilter", references=2),
    "nf_tables": Part(folder="kernel/net/netfilter", references=61),
    "xt_comment": Part(folder="kernel/net/netfilter", references=30),
    "ip_vs": Part(folder="kernel/net/netfilter/ipvs", references=8),
    "cls_bpf": Part(folder="kernel/net/sched", references=3),
    "sch_ingress": Part(folder="kernel/net/sched", references=3),
    "megaraid_sas": Part(
        folder="kernel/drivers/scsi/megaraid",
        references=2,
        aliases=("pci:v00001000d00000014sv*sd*bc*sc*i*",),
        version="07.717.02.00-rc1",
        parameters=("lb_pending_cmds", "max_sectors"),
    ),
    "i915": Part(
        folder="kernel/drivers/gpu/drm/i915",
        references=1,
        asks=(GPU,),
        aliases=("pci:v00008086d00003E98sv*sd*bc03sc*i*",),
    ),
    "coretemp": Part(folder="kernel/drivers/hwmon"),
    "kvm_intel": Part(folder="kernel/arch/x86/kvm"),
}
"""What the running kernel has loaded; its files are in both kernels, unless a story says else."""

FIRMWARE: Final[Mapping[str, str]] = {
    ICE: "ice 1.3.30.0",
    GPU: "dmc 1.4",
    "amdgpu/navi10_pfp.bin": "pfp 1",
    "amdgpu/navi10_me.bin": "me 1",
    "iwlwifi-9000-pu-b0-jf-b0-46.ucode": "wifi 46",
    "qcom/sm8250/a650_zap.mbn": "zap 1",
}
CONFIG: Final[Mapping[str, str]] = {
    **dict.fromkeys(("BPF", "BPF_SYSCALL", "BPF_JIT", "CGROUP_BPF", "CGROUPS", "MEMCG"), "y"),
    **dict.fromkeys(("NET_CLS_BPF", "NET_SCH_INGRESS", "NET_SCH_FQ", "VXLAN", "WIREGUARD"), "m"),
    **dict.fromkeys(("NF_TABLES", "IP_SET", "IP_VS", "BRIDGE_NETFILTER", "OVERLAY_FS"), "m"),
    **dict.fromkeys(("MODULE_SIG", "DEBUG_INFO_BTF"), "y"),
    "MODULE_SIG_FORCE": "n",
}
DEVICES: Final[Mapping[str, tuple[str, str]]] = {
    "0000:3b:00.0": (NIC_ALIAS, "ice"),
    "0000:5e:00.0": ("pci:v000014E4d000016D7sv000014E4sd00001402bc02sc00i00", "bnxt_en"),
    "0000:18:00.0": ("pci:v00001000d00000014sv00001028sd00001FD4bc01sc04i00", "megaraid_sas"),
    "0000:00:02.0": ("pci:v00008086d00003E98sv00008086sd00007270bc03sc00i00", "i915"),
}
"""Bus address -> modalias and the module that drives it."""
INTERFACES: Final[Mapping[str, str]] = {"xnic0np0": "0000:3b:00.0", "xnic1np1": "0000:5e:00.0"}
_ROUTE: Final = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "xnic0np0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "xnic1np1\t000A0A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)


@dataclass
class Node(Debian):
    """A node with two network cards, a RAID controller and a graphics card, that runs a CNI."""

    image: str = "/boot/vmlinuz-{}"
    initrd: str = "/boot/initrd.img-{}"
    config: str = "/boot/config-{}"
    loaded: dict[str, Part] = field(default_factory=lambda: dict(LOADED))
    fwupd: tuple[dict[str, Any], ...] = ()

    def _call(self, *words: Any, **options: Any) -> Any:
        if words[3] == "NameHasOwner":
            return bool(self.fwupd)
        return self.fwupd if words[3] == "GetDevices" else super()._call(*words, **options)

    # --- what packages bring ------------------------------------------------------------------

    def install_kernel(
        self,
        release: str,
        *_names: str,
        build: str = "",
        without: Collection[str] = (),
        builtin: Mapping[str, Part] | None = None,
        other: Mapping[str, Part] | None = None,
        options: Mapping[str, str] | None = None,
        unsigned: Collection[str] = (),
        microcode: str = "microcode 1",
        ending: str = ".ko",
    ) -> None:
        """Lay out image, config, modules and initrd of one kernel, as its packages do."""
        told = build or BUILDS.get(release, "#1 SMP")
        self.write(self.image.format(release), image_of(release, told))
        self.write(self.config.format(release), config_text({**CONFIG, **(options or {})}))
        parts = {name: part for name, part in LOADED.items() if name not in without}
        files = {
            f"{part.folder}/{name.replace('_', '-')}{ending}": module_files.PACK[ending](
                module_of(name, part, release, told, signed=name not in unsigned)
            )
            for name, part in {**parts, **(other or {})}.items()
        }
        self.install_modules(
            release, files, {"ext4": Part(folder="kernel/fs/ext4")} | dict(builtin or {})
        )
        self.make_initrd(release, microcode)

    def install_modules(
        self, release: str, files: Mapping[str, bytes], builtin: Mapping[str, Part]
    ) -> None:
        lines = (f"{part.folder}/{name}.ko\n" for name, part in builtin.items())
        module_files.install(self.root, release, files, "".join(lines))
        words = (
            f"{name}.{word}\0"
            for name, part in builtin.items()
            for word in [*part.words(), f"file={part.folder}/{name}"]
        )
        self.write(f"/lib/modules/{release}/modules.builtin.modinfo", "".join(words))
        self.depmod(release)

    def depmod(self, release: str, modified: int | None = LONG_AGO) -> None:
        """Make the indexes of a kernel; when they were made is what an initrd is held against."""
        module_files.depmod(self.root, release)
        self.date(f"/lib/modules/{release}/modules.dep", modified)

    def make_initrd(self, release: str, microcode: str = "microcode 1", content: str = "") -> None:
        """Write an initrd, younger than all that is there; the early archive holds microcode."""
        early = archive({MICROCODE: (0o644, microcode.encode())}) if microcode else b""
        main = f"\x1f\x8binitrd of {release} {content}".encode("latin-1")
        self.write(self.initrd.format(release), early + main)
        self.date(self.initrd.format(release))

    def install_firmware(self, files: Mapping[str, str], package: str = "linux-firmware") -> None:
        for path, content in files.items():
            self.write(f"/lib/firmware/{path}", content)
        self.list_package(package, None)

    def list_package(self, package: str, modified: int | None = LONG_AGO) -> None:
        """Write the list of a package's files, which dpkg renews when it unpacks it."""
        self.write(f"/var/lib/dpkg/info/{package}.list", "/.\n")
        self.date(f"/var/lib/dpkg/info/{package}.list", modified)

    def install_zfs(self, release: str, version: str = "2.1.11-1+deb12u1") -> None:
        """Have DKMS build zfs for one kernel."""
        part = Part(folder="", version=version)
        self.loaded["zfs"] = replace(part, references=6)
        self.write(f"/lib/modules/{release}/{ZFS}", module_of("zfs", part, release, version))
        self.write(
            f"/var/lib/dkms/zfs/{version.partition('-')[0]}/{release}/x86_64/module/zfs.ko", ""
        )
        self.depmod(release)

    # --- what the running kernel shows ----------------------------------------------------------

    def boots(
        self,
        release: str,
        *,
        boot: str = BOOT,
        command_line: str = "",
        started: float | None = None,
    ) -> None:
        super().boots(release, boot=boot, command_line=command_line, started=started)
        build = BUILDS.get(release, "#1 SMP")
        told = f"Linux version {release} (debian-kernel@lists.debian.org) (gcc-12) {build}\n"
        self.write("/proc/version", told)
        self.write("/proc/modules", "")
        for name, part in self.loaded.items():
            self._show(name, part, release, build)
        self.write("/proc/net/route", _ROUTE)
        self.write("/proc/cpuinfo", "processor\t: 0\nmicrocode\t: 0x5003901\n")
        for name, value in (
            ("vendor", "Dell Inc."),
            ("version", "2.19.1"),
            ("date", "06/04/2025"),
        ):
            self.write(f"/sys/class/dmi/id/bios_{name}", f"{value}\n")

    def _show(self, name: str, part: Part, release: str, build: str) -> None:
        with (self.root / "proc/modules").open("a") as file:
            file.write(f"{name} 16384 {part.references} - Live 0xffffffffc0000000\n")
        folder = f"/sys/module/{name}"
        note = module_files.note(
            build_id_of(name, release, part.version if name == "zfs" else build)
        )
        self.write(f"{folder}/notes/.note.gnu.build-id", note)
        if part.version:
            self.write(f"{folder}/version", f"{part.version}\n")

    def show_devices(self, devices: Mapping[str, tuple[str, str]]) -> None:
        """Write /sys/devices and /sys/class/net, with the links from one to the other."""
        for address, (alias, module) in devices.items():
            folder = f"/sys/devices/pci0000:00/{address}"
            self.write(f"{folder}/modalias", f"{alias}\n")
            self.link(f"{folder}/driver", f"../../../bus/pci/drivers/{module}")
            self.link(f"/sys/bus/pci/drivers/{module}/module", f"../../../../module/{module}")
        for name, address in INTERFACES.items():
            self.link(f"/sys/class/net/{name}/device", f"../../../devices/pci0000:00/{address}")
        self.write("/sys/class/net/xvxlan0/type", "1\n")

    def efi(self, **variables: bytes) -> None:
        """Set variables of the UEFI firmware itself."""
        for name, value in variables.items():
            path = f"/sys/firmware/efi/efivars/{name}-{GLOBAL}"
            self.write(path, struct.pack("<I", 7) + value)

    # --- plain files ----------------------------------------------------------------------------

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def date(self, path: str, modified: int | None = None) -> None:
        """Set an mtime, in Unix seconds, or to this very moment.

        The kernel's own stamps are those of its last tick: too coarse to tell what came later.
        """
        moment = time.time_ns() if modified is None else modified * 10**9
        os.utime(self.root / path.lstrip("/"), ns=(moment, moment))

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    # --- what trialboot did before --------------------------------------------------------------

    def look(self) -> Outlook:
        """Let the snapshot worker look, as it does at the start of each boot."""
        snapshot.work(self.host)
        outlook = store.load(self.host, store.OUTLOOK, Outlook)
        assert isinstance(outlook, Outlook)
        return outlook

    def arm(self) -> None:
        self.write("/etc/trialboot/trialboot.toml", 'mode = "armed"\n')

    def prove(self, release: str = OLD) -> Trial:
        """Arm the node, with what runs kept as its known-good and the loader's default."""
        self.arm()
        running = self.look().running
        assert isinstance(running, Choice)
        sources = Sources(
            kernel=self.image.format(release),
            initrds=(self.initrd.format(release),),
            firmware="/lib/firmware",
            modules=f"/lib/modules/{release}",
        )
        bootsets.keep(self.host, running.boot_set, sources)
        trial = Trial(known_good=running.boot_set, pinned=True, running=running)
        self.remember(trial)
        return trial

    def remember(self, trial: Trial) -> None:
        store.save_decision(self.host, Decision(trial=trial))

    def decide(self, trial: Trial) -> Trial:
        """Let the daemon take what the worker sees now, and decide."""
        seen = Seen(at="2026-01-02T12:30:15Z", wanted=self.look().wanted)
        after = step(trial, seen, Policy(armed=True)).trial
        self.remember(after)
        return after


def node(root: Path) -> Node:
    """Make a node that runs OLD, its only kernel; trialboot observes it since its boot."""
    made = Node(root)
    furnish(made)
    made.install_kernel(OLD)
    made.menu(OLD)
    made.boots(OLD)
    made.look()
    return made


def furnish(made: Node) -> None:
    """Write what is there whatever the kernel and the boot loader are."""
    for path, content in FIRMWARE.items():
        made.write(f"/lib/firmware/{path}", content)
    for package in ("linux-firmware", "intel-microcode", "initramfs-tools-core"):
        made.list_package(package)
    made.write("/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n")
    made.write(
        "/etc/sysctl.d/90-kubelet.conf", "vm.overcommit_memory = 1\nnet.ipv4.ip_forward = 1\n"
    )
    made.write("/etc/modprobe.d/blacklist.conf", "blacklist pcspkr\n")
    made.write("/etc/modules-load.d/k8s.conf", "overlay\nbr_netfilter\n")
    made.write("/etc/initramfs-tools/initramfs.conf", "MODULES=most\n")
    made.write("/etc/fstab", "/dev/sda2 / ext4 errors=remount-ro 0 1\n")
    made.show_devices(DEVICES)
    (made.root / "sys/dev/block/8:2").mkdir(parents=True)
    for file in (path for path in INITRAMFS.rglob("*") if path.is_file()):
        made.write(f"/usr/lib/trialboot/initramfs/{file.relative_to(INITRAMFS)}", file.read_text())


def two_kernels(root: Path, default: str = NEW) -> Node:
    """Make a node that runs OLD, with NEW installed since and GRUB's default."""
    made = node(root)
    made.install_kernel(NEW)
    made.menu(default)
    return made


def image_of(release: str, build: str) -> bytes:
    """Make what the x86 boot protocol needs to tell release and build."""
    banner = 0x400
    image = bytearray(0x800)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (banner - 0x200).to_bytes(2, "little")
    text = f"{release} (debian-kernel@lists.debian.org) {build}".encode()
    image[banner : banner + len(text)] = text
    return bytes(image)


def build_id_of(name: str, release: str, build: str) -> bytes:
    return hashlib.sha1(f"{name} {release} {build}".encode(), usedforsecurity=False).digest()


def module_of(name: str, part: Part, release: str, build: str, *, signed: bool = True) -> bytes:
    """Make a module file as one build of one kernel has it."""
    return module_files.module(
        *part.words(),
        f"name={name}",
        f"vermagic={release} SMP preempt mod_unload modversions ",
        build_id=build_id_of(name, release, build),
        signature=module_files.SIGNATURE if signed else b"",
        code=build.encode(),
    )


def config_text(options: Mapping[str, str]) -> str:
    return "".join(
        f"# CONFIG_{name} is not set\n" if value == "n" else f"CONFIG_{name}={value}\n"
        for name, value in options.items()
    )


__all__ = ["ARGUMENTS", "NEW", "OLD", "Node", "menu_of", "node", "two_kernels"]
