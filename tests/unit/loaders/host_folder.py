"""A folder that looks like a GRUB host, a grub-mkconfig that writes canned menus, a power cut."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialboot.content import file_sha256, read_tree
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers.vault.bootsets import Sources

HERE = Path(__file__).parent
PLAIN = (HERE / "debian12-grub.cfg").read_text(encoding="utf-8")
OURS = (HERE / "debian12-grub-known-good.cfg").read_text(encoding="utf-8")
INITRAMFS = HERE.parents[2] / "packaging" / "initramfs"
UUID = "5f0c6b3e-1111-2222-3333-444455556666"
SIMPLE = f"gnulinux-simple-{UUID}"
OLD = f"gnulinux-advanced-{UUID}>gnulinux-6.1.0-56-amd64-advanced-{UUID}"
OLD_LINE = "root=UUID=x ro quiet panic=10"


@dataclass
class Mkconfig:
    """Plays grub-mkconfig and grub-script-check, and keeps what was run."""

    root: Path
    host_default: str = "0"
    refuse: str = ""
    spoil: tuple[str, str] = ("", "")
    ran: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], **_: object) -> str:
        self.ran.append(argv[0])
        self.lines.append(" ".join(argv))
        if argv[0] == self.refuse:
            raise HostError(f"«{argv[0]}» ended with 1")
        if argv[0] == "grub-mkconfig":
            (self.root / argv[2].lstrip("/")).write_text(self.menu(), encoding="utf-8")
        return ""

    def menu(self) -> str:
        """Do what 09_trialboot and trialboot.cfg do, on a separate /boot."""
        script = self.root / "boot/trialboot/known-good.sh"
        if not script.exists():
            return PLAIN.replace('default="0"', f'default="{_spec(self.host_default)}"')
        lines = script.read_text(encoding="utf-8").splitlines()
        values = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        words = {name: shlex.split(value)[0] for name, value in values.items()}
        initrds = words["INITRDS"].replace("/boot/", "/")
        text = OURS.replace("/trialboot/aaaa/vmlinuz", words["KERNEL"].removeprefix("/boot"))
        text = text.replace("/trialboot/aaaa/initrd.img /trialboot/aaaa/firmware.cpio", initrds)
        start, end = text.index("root=UUID="), text.index("\n\tinitrd")
        text = text[:start] + words["COMMAND_LINE"] + " ${trialboot_instead}" + text[end:]
        if "CARRIER" in words:
            text = text.replace("set trialboot_took=\n", _carried(words["CARRIER"]))
        text = text.replace("host_default='0'", f"host_default='{self.host_default}'")
        return text.replace(*self.spoil) if self.spoil[0] else text


def _carried(carrier: str) -> str:
    return f"set trialboot_took=\nset trialboot_carrier='{carrier}'\n"


def _spec(default: str) -> str:
    return "${saved_entry}" if default == "saved" else default


@dataclass(frozen=True)
class Node:
    """A host folder with two kernels, a firmware tree and GRUB."""

    root: Path
    mkconfig: Mkconfig
    host: Host

    def write(self, path: str, content: str) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
        return place

    def boot_set(self, release: str = "6.1.0-56-amd64") -> BootSet:
        return BootSet(
            release=release,
            kernel=file_sha256(self.root / f"boot/vmlinuz-{release}"),
            initrd=file_sha256(self.root / f"boot/initrd.img-{release}"),
            modules="m",
            firmware=tree_identity(read_tree(self.root / "lib/firmware")),
            command_line=OLD_LINE,
        )

    def sources(self, release: str = "6.1.0-56-amd64") -> Sources:
        return Sources(
            kernel=f"/boot/vmlinuz-{release}",
            initrds=(f"/boot/initrd.img-{release}",),
            firmware="/lib/firmware",
        )


def make_node(root: Path, **mkconfig: Any) -> Node:
    runner = Mkconfig(root, **mkconfig)
    node = Node(root, runner, Host(root=root, run=runner))
    for release in ("6.1.0-56-amd64", "6.12.117-amd64"):
        node.write(f"/boot/vmlinuz-{release}", f"kernel {release}")
        node.write(f"/boot/initrd.img-{release}", f"initrd {release}")
    node.write("/lib/firmware/nic/fw.bin", "old firmware")
    (root / "lib/firmware/nic/link.bin").symlink_to("fw.bin")
    for file in (path for path in INITRAMFS.rglob("*") if path.is_file()):
        node.write(f"/usr/lib/trialboot/initramfs/{file.relative_to(INITRAMFS)}", file.read_text())
    node.write("/boot/grub/grub.cfg", runner.menu())
    node.write("/proc/self/mountinfo", "1 0 8:2 / / rw - ext4 /dev/sda2 rw\n")
    node.write("/sys/devices/sda/sda2/partition", "2\n")
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block/8:2").symlink_to(root / "sys/devices/sda/sda2")
    return node


class PowerCutError(BaseException):
    """The machine lost its power."""


class _Power:
    left = -1
    root = ""
    code = 0
    elsewhere = ""


_EFFECTS = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.chmod"}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _Power.root or not _is_effect(event, arguments):
        return
    if _Power.left <= 0 and _Power.code:
        if _Power.elsewhere and str(arguments[0]).startswith(_Power.elsewhere):
            return
        raise OSError(_Power.code, os.strerror(_Power.code), str(arguments[0]))
    if _Power.left <= 0:
        raise PowerCutError(event)
    _Power.left -= 1


def _is_effect(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and bool(flags & 3)
        return writes and str(path).startswith(_Power.root)
    # A relative path is one below a folder that shutil holds open.
    path = str(arguments[0]) if event in _EFFECTS else ""
    return bool(path) and (not path.startswith("/") or path.startswith(_Power.root))


@contextmanager
def power_for(effects: int, root: Path) -> Iterator[None]:
    """Let so many changes of the file system happen; from then on nothing happens any more."""
    _Power.left, _Power.root = effects, str(root)
    try:
        yield
    finally:
        _Power.root = ""


@contextmanager
def refused_below(folder: Path, code: int, *, elsewhere: str = "") -> Iterator[None]:
    """Have each change below a folder fail, as on a disk that is full or was found broken.

    Another file system may be mounted in it, `elsewhere`.
    """
    _Power.code, _Power.elsewhere = code, str(folder / elsewhere) if elsewhere else ""
    try:
        with power_for(0, folder):
            yield
    finally:
        _Power.code, _Power.elsewhere = 0, ""


sys.addaudithook(_watch)
