"""Firmware and modules that were replaced in place: what the kernel itself loads, early and late.

The known-good has the firmware compressed, the update brings it plain: the kernel looks for the
plain name in all its folders before it looks for a compressed one, so that no search path of its
own (`firmware_class.path=`) would bring the old bytes back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import stories
from tests.vm.image import Image
from tests.vm.node import Node, Say, kept_disk, set_up
from tests.vm.stories import GOOD

pytestmark = pytest.mark.vm

LOADED = "/sys/module/toynic/parameters/firmware_loaded"
FOLDER = "/lib/firmware/toynic"
ADDED = f"{FOLDER}/added.bin"
UNCOVER = "umount /lib/firmware && rm /run/trialboot/kept-firmware-mounted"
"""As docs/operations.md has it."""
OURS, REBUILT = "toynic: running firmware", "toynic: RUNNING firmware"
"""What the module says, and what says the same module with one string of it changed."""

PACK = {
    # The kernel's decompressor knows no other check.
    "xz": 'python3 -c \'import lzma, sys; p = sys.argv[1]; open(p + ".xz", "wb").write('
    'lzma.compress(open(p, "rb").read(), check=lzma.CHECK_CRC32))\' {}',
    # From a file, so that the frame has its size: the kernel insists.
    "zst": "zstd -q {}",
}

HOOK = """\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
mkdir -p "$DESTDIR/usr/lib/firmware/toynic"
cp /lib/firmware/toynic/nic.bin* "$DESTDIR/usr/lib/firmware/toynic/"
"""
"""initramfs-tools 0.142 packs no compressed firmware by itself."""

TOYNIC = """\
[Match]
Name=toynic0
[Link]
RequiredForOnline=no
ActivationPolicy=up
[Network]
LinkLocalAddressing=no
"""


def packed_disk(image: Image, package: Path, form: str, say: Say) -> Path:
    """A disk whose NIC gets its firmware from a compressed file, in the initrd and in the root."""

    def make(to: Path) -> None:
        with Node(image, to.with_suffix(".work")) as node:
            node.start()
            node.machine.exec("echo toynic >> /etc/initramfs-tools/modules")
            node.machine.write("/etc/initramfs-tools/hooks/toynic", HOOK, 0o755)
            node.machine.write("/etc/systemd/network/50-toynic.network", TOYNIC)
            pack = PACK[form].format(f"{FOLDER}/nic.bin")
            node.machine.exec(f"{pack} && rm {FOLDER}/nic.bin")
            node.machine.exec(f"update-initramfs -u -k {image.kernels[GOOD]}", timeout=600)
            node.machine.reboot()
            assert node.machine.read(LOADED).startswith("GOOD 1.0")
            set_up(node, package, say)
            node.machine.power_off()
            node.machine.save(to)

    return kept_disk(image, package, f"nic-{form}", make)


@pytest.mark.parametrize("form", PACK)
def test_the_known_good_gets_its_own_firmware_and_modules_back(
    image: Image, package: Path, tmp_path: Path, say: Say, form: str
) -> None:
    """S4b: a packed file is followed by a plain one, one is added, a module rebuilt in place."""
    good = image.kernels[GOOD]
    module = f"/lib/modules/{good}/updates/toynic.ko"
    with Node(image, tmp_path / "node", packed_disk(image, package, form, say)) as node:
        stories.boot_known_good(node, say)
        assert _says(node, OURS) == 1
        assert not _is_bound(node, "modules"), "nothing was changed yet"
        kept = _sha256(node, module)
        _rebuild(node, module)
        node.machine.exec(UNCOVER)
        node.machine.write(ADDED, "added\n")
        stories.upgrade(node, "firmware-toynic=2.0", say)
        assert node.machine.exec(f"ls {FOLDER}").stdout.split() == [
            *("added.bin", "nic.bin", f"nic.bin.{form}")
        ]

        trial = stories.reboot_into_trial(node, good, say)
        assert not node.machine.exec("ip -br link show toynic0", check=False).stdout
        stories.fall_back(node, trial, good, say)
        stories.recover(node, say)

        say(node.machine.exec("dmesg | grep -e toynic -e trialboot").stdout)
        _assert_loads_the_old(node, module, kept, form)
        say("early and late, firmware and module are those of the known-good")
        _assert_kept_from_below(node)
        say("tried again: what lies below the kept trees was kept as links")
        _assert_packages_get_theirs_back(node, module, kept)
        _assert_keeps_on_vfat(node)
        say("a boot set is kept, verified and dropped on the ESP")


def _assert_loads_the_old(node: Node, module: str, kept: str, form: str) -> None:
    # Early: what the kept initrd had. ...
    assert (_says(node, OURS), _says(node, REBUILT)) == (1, 0)
    assert node.machine.read(LOADED).startswith("GOOD 1.0")
    # ... Late: what the kernel finds in the root now.
    node.machine.exec("modprobe -r toynic && modprobe toynic")
    assert node.machine.read(LOADED).startswith("GOOD 1.0")
    assert (_says(node, OURS), _says(node, REBUILT)) == (2, 0)
    assert node.machine.exec(f"ls {FOLDER}").stdout.split() == [f"nic.bin.{form}"]
    assert _is_bound(node, "firmware")
    assert _is_bound(node, "modules")
    assert _sha256(node, module) == kept


def _assert_kept_from_below(node: Node) -> None:
    """Have the candidate kept again: link(2) does not cross the mounts that cover its files."""
    node.trialboot("retry")
    node.wait_state("the one-shot is set", lambda _: bool(node.grubenv().get("next_entry")))
    good = node.record()["trial"]["known_good"]
    candidate = node.record()["trial"]["candidate"]["boot_set"]
    assert candidate["firmware"] != good["firmware"]
    names = f"/usr/lib/trialboot/kept/*/firmware/{FOLDER.rpartition('/')[2]}/added.bin"
    # The packages' own name, and the vault's.
    assert node.machine.exec(f"stat -c %h {names}").stdout.split() == ["2"]
    assert _is_bound(node, "firmware")


def _assert_packages_get_theirs_back(node: Node, module: str, kept: str) -> None:
    # Whoever writes by hand cannot write into the vault.
    beside = f"{module}.by-hand"
    denied = node.machine.exec(f"touch {ADDED} {beside}", check=False)
    assert denied.stderr.count("Read-only file system") == 2
    node.machine.exec("/usr/lib/trialboot/package-hook dpkg-begin")
    assert node.machine.read(f"{FOLDER}/nic.bin") == "BROKEN 2.0\n"
    assert node.machine.read(ADDED) == "added\n"
    assert _sha256(node, module) != kept
    mounts = node.machine.read("/proc/self/mountinfo")
    assert "trialboot/kept" not in mounts, mounts


ON_VFAT = """\
from pathlib import Path
from trialboot.content import file_sha256
from trialboot.core.bootset import BootSet
from trialboot.host import Host
from trialboot.writers.vault import bootsets

root = Path("/boot/efi/try")
files = [root / "boot/vmlinuz", root / "boot/initrd.img"]
for path in files:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode() * 100_000)
kernel, initrd = map(file_sha256, files)
boot_set = BootSet(
    release="6", kernel=kernel, initrd=initrd, modules="", firmware="", command_line=""
)
sources = bootsets.Sources(kernel="/boot/vmlinuz", initrds=("/boot/initrd.img",))
for _ in range(2):
    bootsets.keep(Host(root=root), boot_set, sources)
bootsets.verify(Host(root=root), boot_set.fingerprint)
kept = root / "boot/trialboot" / boot_set.fingerprint
assert sorted(p.name for p in kept.iterdir()) == ["initrd.img", "manifest.json", "vmlinuz"]
assert not (kept / "vmlinuz").samefile(files[0])
bootsets.drop(Host(root=root), boot_set.fingerprint)
assert bootsets.kept(Host(root=root)) == ()
assert not list(root.rglob(".*.draft"))
"""


def _assert_keeps_on_vfat(node: Node) -> None:
    """Keep where there are no links, no owners and no modes, as on the ESP of systemd-boot."""
    assert node.machine.exec("stat -f -c %T /boot/efi").stdout == "msdos\n"
    node.machine.write("/root/on_vfat.py", ON_VFAT)
    node.machine.exec("python3 -I /root/on_vfat.py && rm -r /boot/efi/try")


def _rebuild(node: Node, module: str) -> None:
    """Have another module under the same name, as a rebuilt package of this release brings it."""
    code = (
        f"p = '{module}'; b = open(p, 'rb').read(); assert b.count(b'{OURS}') == 1; "
        f"open(p + '.dpkg-new', 'wb').write(b.replace(b'{OURS}', b'{REBUILT}'))"
    )
    node.machine.exec(f'python3 -c "{code}" && mv {module}.dpkg-new {module}')


def _says(node: Node, words: str) -> int:
    return node.machine.exec("dmesg").stdout.count(words)


def _sha256(node: Node, path: str) -> str:
    return node.machine.exec(f"sha256sum {path}").stdout.split()[0]


def _is_bound(node: Node, kind: str) -> bool:
    """Tell whether a kept tree lies over that of the packages."""
    lines = node.machine.read("/proc/self/mountinfo").splitlines()
    places = (line.split()[3:5] for line in lines)
    return any("/trialboot/kept/" in root and f"/lib/{kind}" in place for root, place in places)
