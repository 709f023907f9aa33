"""A folder that looks like a large Debian node: its next boot brings another kernel and firmware.

What runs is the known-good, kept with firmware and modules; a snapshot was taken since the boot.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.fakes.module_files import PACK, SIGNATURE, depmod, install, load, module
from tests.unit.loaders.host_folder import INITRAMFS, Mkconfig
from tests.unit.workers.debian_host import ARGUMENTS, BOOT, NEW, OLD, kernel_image
from trialboot import lookahead, snapshot
from trialboot.core.trial import Choice, Decision, Trial
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.workers import snapshot as snapshot_worker
from trialboot.writers import contentcache, store
from trialboot.writers.vault import bootsets, parts
from trialboot.writers.vault.bootsets import Sources

LOADED: Final = 150
_MODULES: Final = 4000
_FIRMWARE: Final = 4000
_DEVICES: Final = 300
_PACKAGES: Final = 1900
_LARGE: Final = 64 << 10  # bytes of code: the kernel's own modules have 60 KiB on average
_SMALL: Final = 2 << 10
"""Of the modules that are not loaded: a warm run does not open them."""
_BLOB: Final = 4 << 10
_KERNEL: Final = 8 << 20
_INITRD: Final = 8 << 20
_STATUS: Final = """Package: package-{0}
Status: install ok installed
Priority: optional
Section: libs
Installed-Size: 100
Maintainer: Somebody <somebody@example.org>
Architecture: amd64
Version: 1.{0}-1
Depends: libc6 (>= 2.34), libgcc-s1 (>= 3.0), package-1 (>= 1.0)
Description: a package of usual length
 What it does is told in some lines, each of which is about as long as
 a line of a terminal, and there are four or five of them in most of the
 packages of a distribution.
Homepage: https://example.org/package-{0}

"""


@dataclass(frozen=True)
class NextHost:
    """The folder, and the files of the modules in use in the kernel that boots next."""

    root: Path
    module_files: tuple[str, ...]


def bus(*words: Any, **_: object) -> Any:
    """Answer for the system bus: nobody owns fwupd's name, and no watchdog is armed."""
    return 0 if words[3] == "Get" else False


def make(root: Path, ending: str) -> NextHost:
    """Make the host; modules end with `.ko` or `.ko.xz`."""
    dice = random.Random(0)  # noqa: S311  only bytes of test files
    words = [dice.randbytes(8) for _ in range(400)]
    small = {
        _place(number, ending): PACK[ending](_module(dice, words, number, _SMALL))
        for number in range(LOADED, _MODULES)
    }
    _write_configuration(root)
    for release in (OLD, NEW):
        _install_kernel(root, release, small, ending, dice, words)
    _write_firmware(root, dice)
    _write_system(root)
    _make_known_good(root)
    _upgrade(root, dice)
    files = (str(root / "lib/modules" / NEW / _place(n, ending)) for n in range(LOADED))
    return NextHost(root=root, module_files=tuple(files))


def _place(number: int, ending: str) -> str:
    return f"kernel/drivers/kind-{number % 400}/m{number}{ending}"


def _module(dice: random.Random, words: Sequence[bytes], number: int, size: int) -> bytes:
    """Make a module whose code packs about as well as machine code does: to a fifth."""
    said = [f"alias=pci:v{number:08X}d{n:08X}sv*sd*bc*sc*i*" for n in range(4)]
    said += ["license=GPL", "vermagic=6 SMP mod_unload", "depends=", "parmtype=level:int"]
    if number % 3 == 0:
        said += [f"firmware=vendor-{number % 120}/{number + n}.bin" for n in range(2)]
    code = b"".join(dice.choices(words, k=size // 8))
    return module(*said, build_id=dice.randbytes(20), signature=SIGNATURE, code=code)


def _install_kernel(  # noqa: PLR0917  what all modules are made from
    root: Path,
    release: str,
    small: Mapping[str, bytes],
    ending: str,
    dice: random.Random,
    words: Sequence[bytes],
) -> None:
    large = {
        _place(number, ending): PACK[ending](_module(dice, words, number, _LARGE))
        for number in range(LOADED)
    }
    builtin = "".join(f"kernel/lib/b{number}.ko\n" for number in range(500))
    install(root, release, {**large, **small}, builtin)
    depmod(root, release)
    image = kernel_image(release)
    _write(root, f"boot/vmlinuz-{release}", image + bytes(_KERNEL - len(image)))
    _write(root, f"boot/initrd.img-{release}", dice.randbytes(_INITRD))
    options = "".join(f"CONFIG_OPTION_{number}=m\n" for number in range(9000))
    _write(root, f"boot/config-{release}", f"{options}CONFIG_BPF_SYSCALL=y\n".encode())


def _write_firmware(root: Path, dice: random.Random) -> None:
    for number in range(_FIRMWARE):
        path = f"lib/firmware/vendor-{number % 120}/{number}.bin"
        _write(root, path, dice.randbytes(_BLOB))


def _write_configuration(root: Path) -> None:
    for number in range(20):
        keys = "".join(f"net.ipv4.conf.eth{n}.rp_filter = {number}\n" for n in range(10))
        _write(root, f"etc/sysctl.d/{number:02}-some.conf", keys.encode())
        rules = f"blacklist never{number}\noptions m{number} debug=1\n"
        _write(root, f"etc/modprobe.d/{number:02}-some.conf", rules.encode())
    for path in ("etc/fstab", "etc/default/grub", "etc/network/interfaces"):
        _write(root, path, b"# some lines\n" * 40)
    for path in ("etc/systemd/network/10.network", "etc/cni/net.d/10.conflist"):
        _write(root, path, b"# some lines\n" * 40)
    status = "".join(_STATUS.format(number) for number in range(_PACKAGES))
    _write(root, "var/lib/dpkg/status", status.encode())
    for number in range(_PACKAGES):
        for kind in ("list", "md5sums", "postinst"):
            _write(root, f"var/lib/dpkg/info/package-{number}.{kind}", b"/usr\n")


def _write_system(root: Path) -> None:
    """Write /proc and /sys as they are after a boot that came after all of this."""
    started = int(time.time()) + 3600
    _write(root, "proc/version", f"Linux version {OLD} (debian) (gcc) #1 SMP\n".encode())
    _write(root, "proc/cmdline", f"BOOT_IMAGE=/vmlinuz-{OLD} {ARGUMENTS}\n".encode())
    _write(root, "proc/stat", f"cpu  1 2 3\nbtime {started}\n".encode())
    _write(root, "proc/sys/kernel/random/boot_id", f"{BOOT}\n".encode())
    _write(root, "proc/sys/kernel/tainted", b"0\n")
    _write(root, "proc/self/mountinfo", b"1 0 8:2 / / rw - ext4 /dev/sda2 rw\n")
    _write(root, "proc/net/route", b"Iface\tDestination\n")
    _write(root, "proc/cpuinfo", b"processor\t: 0\nmicrocode\t: 0x1f\n\n" * 32)
    (root / "sys/dev/block/8:2").mkdir(parents=True)
    (root / "sys/class/net/lo").mkdir(parents=True)
    for number in range(LOADED):
        load(root, f"m{number}", build_id=b"", srcversion=b"0123456789\n")
    for number in range(_DEVICES):
        folder = f"sys/devices/pci0000:00/0000:{number:02x}:00.0"
        alias = f"pci:v{number:08X}d00000001sv00sd00bc00sc00i00\n"
        _write(root, f"{folder}/modalias", alias.encode())
        for inner in ("power", "msi_irqs", f"net/eth{number}/queues", "wakeup/wakeup1/power"):
            (root / folder / inner).mkdir(parents=True)


def _make_known_good(root: Path) -> None:
    """Keep what runs, as the pin worker does after a sound verdict, and let a snapshot follow."""
    for file in (path for path in INITRAMFS.rglob("*") if path.is_file()):
        place = f"usr/lib/trialboot/initramfs/{file.relative_to(INITRAMFS)}"
        _write(root, place, file.read_bytes())
    runner = Mkconfig(root)
    _write(root, "boot/grub/grub.cfg", runner.menu().replace(NEW, OLD).encode())
    host = Host(root=root, run=runner, call=bus)
    cache = contentcache.load(host)
    outlook = lookahead.look_ahead(host, Trial(), snapshot.take(host, cache), cache)
    assert isinstance(outlook.running, Choice), outlook.running
    good = outlook.running.boot_set
    bootsets.keep(host, good, _sources(good.release), cache)
    Grub(host).install(parts.boot_files(host, good.fingerprint))
    contentcache.save(host, cache)
    trial = Trial(known_good=good, pinned=True, running=outlook.running)
    store.save_decision(host, Decision(trial=replace(trial, boot=outlook.boot)))


def _sources(release: str) -> Sources:
    return Sources(
        kernel=f"/boot/vmlinuz-{release}",
        initrds=(f"/boot/initrd.img-{release}",),
        firmware="/lib/firmware",
        modules=f"/lib/modules/{release}",
    )


def _upgrade(root: Path, dice: random.Random) -> None:
    """Bring some firmware files, each as a new file; the menu has had the next kernel on top."""
    for number in range(0, 60, 3):
        path = root / f"lib/firmware/vendor-{number % 120}/{number}.bin"
        path.unlink()
        path.write_bytes(dice.randbytes(_BLOB))
    snapshot_worker.work(Host(root=root, call=bus))


def _write(root: Path, path: str, content: bytes) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
