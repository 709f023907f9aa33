"""A folder that looks like a Debian host with two kernels, GRUB, firmware and a /proc."""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from tests.unit.loaders.host_folder import INITRAMFS, PLAIN
from trialboot.host import Host

OLD: Final = "6.1.0-56-amd64"
NEW: Final = "6.12.117-amd64"
BOOT: Final = "11111111-1111-1111-1111-111111111111"
NEXT_BOOT: Final = "22222222-2222-2222-2222-222222222222"
ARGUMENTS: Final = 'root=/dev/sda2 ro "dyndbg=file x.c +p" quiet panic=10'
FIRMWARE: Final = "bnx2/bnx2-mips-09-6.2.1b.fw"

_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")


def kernel_image(release: str) -> bytes:
    """Make what the x86 boot protocol needs to tell a release."""
    banner = 0x400
    image = bytearray(0x600)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (banner - 0x200).to_bytes(2, "little")
    text = f"{release} (debian-kernel@lists.debian.org) #1 SMP".encode()
    image[banner : banner + len(text)] = text
    return bytes(image)


def module_file(*modinfo: str) -> bytes:
    """Make an ELF64 file with a `.modinfo` section."""
    names = b"\0.modinfo\0.shstrtab\0"
    words = b"".join(word.encode() + b"\0" for word in modinfo)
    at = _HEADER.size
    sections = (
        (0,) * 10,
        (names.index(b".modinfo"), 1, 2, 0, at, len(words), 0, 0, 1, 0),
        (names.index(b".shstrtab"), 3, 0, 0, at + len(words), len(names), 0, 0, 1, 0),
    )
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(1, 62, 1, 0, 0, at + len(words) + len(names), 0),
        *(_HEADER.size, 0, 0, _SECTION.size, len(sections), 2),
    )
    return header + words + names + b"".join(_SECTION.pack(*section) for section in sections)


def menu_of(release: str) -> str:
    """Give a generated menu with both releases, this one on top."""
    other = OLD if release == NEW else NEW
    return PLAIN.replace(NEW, "TOP").replace(OLD, other).replace("TOP", release)


@dataclass
class Debian:
    """The host, with a clock of its own and a systemd that knows no watchdog."""

    root: Path
    clock: float = 0.0
    ran: list[str] = field(default_factory=list)
    called: list[tuple[Any, ...]] = field(default_factory=list)
    unit_states: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> Host:
        return Host(
            root=self.root,
            run=self._run,
            call=self._call,
            now=lambda: datetime(2026, 1, 2, 12, 30, 15, 999, tzinfo=timezone.utc),
            sleep=self._sleep,
            monotonic=lambda: self.clock,
        )

    def _run(self, argv: Sequence[str], **_: object) -> str:
        self.ran.append(" ".join(argv))
        return ""

    def _call(self, *words: Any, **_: object) -> Any:
        self.called.append(words)
        member, last = words[3], words[-1]
        if member == "LoadUnit":
            return f"/unit/{last}"
        if member == "GetAll":
            return {"NRestarts": 0}
        if last == "ActiveState":
            return self.unit_states.get(words[1].removeprefix("/unit/"), "inactive")
        return 0

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds

    def write(self, path: str, content: str | bytes) -> Path:
        """Replace a file as dpkg does: a new inode under the old name."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.dpkg-new")
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(place)
        return place

    def install_kernel(self, release: str, *modules: str) -> None:
        self.write(f"/boot/vmlinuz-{release}", kernel_image(release))
        folder, paths = f"/lib/modules/{release}", []
        for name in modules or ("bnx2", "nf-tables"):
            paths.append(f"kernel/{name}.ko")
            asks = [f"firmware={FIRMWARE}"] if name == "bnx2" else []
            self.write(f"{folder}/{paths[-1]}", module_file("license=GPL", *asks))
        self.write(f"{folder}/modules.dep", "".join(f"{path}:\n" for path in paths))
        self.write(f"{folder}/modules.builtin", "kernel/fs/ext4.ko\n")
        self.write(f"/boot/initrd.img-{release}", f"initrd of {release}")

    def menu(self, release: str) -> None:
        self.write("/boot/grub/grub.cfg", menu_of(release))

    def boots(
        self,
        release: str,
        *,
        boot: str = BOOT,
        command_line: str = "",
        started: float | None = None,
    ) -> None:
        """Write /proc; what is on disk by now counts as older than this boot."""
        line = command_line or f"BOOT_IMAGE=/vmlinuz-{release} {ARGUMENTS}"
        begun = int(time.time() + 3600 if started is None else started)
        self.write("/proc/version", f"Linux version {release} (debian-kernel@x) (gcc) #1 SMP\n")
        self.write("/proc/cmdline", f"{line}\n")
        self.write("/proc/stat", f"cpu  1 2 3\nbtime {begun}\nprocesses 1\n")
        self.write("/proc/uptime", "100.25 200.50\n")
        self.write("/proc/modules", "nf_tables 1 0 - Live 0x0\nbnx2 1 0 - Live 0x0\n")
        self.write("/proc/sys/kernel/random/boot_id", f"{boot}\n")
        self.write("/proc/sys/kernel/tainted", "0\n")
        self.write("/proc/self/mountinfo", "1 0 8:2 / / rw - ext4 /dev/sda2 rw\n")


def debian(root: Path) -> Debian:
    """Make a host that runs OLD, its only kernel, with nothing pinned."""
    made = Debian(root)
    made.install_kernel(OLD)
    made.write(f"/lib/firmware/{FIRMWARE}", "firmware 1")
    made.write("/lib/firmware/other/unused.bin", "unused 1")
    made.write("/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n")
    (root / "sys/dev/block/8:2").mkdir(parents=True)
    for file in (path for path in INITRAMFS.rglob("*") if path.is_file()):
        made.write(f"/usr/lib/trialboot/initramfs/{file.relative_to(INITRAMFS)}", file.read_text())
    made.menu(OLD)
    made.boots(OLD)
    return made
