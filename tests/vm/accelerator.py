"""Finds out whether KVM really runs guests here; a /dev/kvm that exists proves nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.vm import command, qemu

_PATIENCE = 20.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def accelerator(kernel: Path, cache: Path) -> str:
    """Say "kvm" when this kernel boots under it, else "tcg". Asked once a boot of the host."""
    remembered = cache / f"accelerator-{_BOOT_ID.read_text().strip()}"
    if not remembered.exists():
        answer = "kvm" if Path("/dev/kvm").exists() and _boots_under_kvm(kernel) else "tcg"
        remembered.write_text(answer)
    return remembered.read_text()


def _boots_under_kvm(kernel: Path) -> bool:
    """Boot without a root: a kernel that comes as far as missing it has run."""
    with tempfile.TemporaryDirectory(prefix="trialboot-kvm-") as folder:
        console = Path(folder, "console")
        words = [
            *qemu.machine("kvm"),
            *qemu.serial(console),
            *qemu.direct(kernel, None, "console=ttyS0 panic=-1"),
            "-no-reboot",
        ]
        process = command.start(words, Path(folder, "qemu.log"))
        if not command.ended(process, _PATIENCE):
            process.kill()
            process.wait()
        return console.exists() and b"Unable to mount root fs" in console.read_bytes()
