"""What it costs to keep a boot set by hard links, beside a copy of the same trees."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.cost import cpu_ms, least
from trialboot.bootfiles import BOOT_SETS, KEPT_FIRMWARE
from trialboot.content import file_sha256, is_module, read_tree
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.host import Host
from trialboot.writers.vault import bootsets
from trialboot.writers.vault.bootsets import Sources

_RELEASE = "6.12.117-amd64"
_INITRAMFS = Path(__file__).parents[2] / "packaging" / "initramfs"
_FIRMWARE_FILES, _MODULE_FILES = 3500, 4000
_BYTES = 32 << 10
"""A file: enough that hashing them all again would show (240 MiB), and soon made."""
_ROUNDS = 3
_MEBIBYTE = 1 << 20


def figures() -> list[dict[str, Any]]:
    """Keep 3,500 firmware files and 4,000 modules, on the file system of this folder."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2]) as folder:
        host = Host(root=Path(folder))
        made = _make(host)
        return [_firmware(host, made), _whole(host, made), _space(host), _verify(host, made)]


def _make(host: Host) -> tuple[BootSet, dict[str, str]]:
    """Make the trees and read them as a snapshot does; give the boot set and what was hashed."""
    for path in ("boot/vmlinuz", "boot/initrd.img"):
        _write(host.path(path), 0)
    for number in range(_FIRMWARE_FILES):
        _write(host.path(f"lib/firmware/vendor{number % 120}/blob{number}.bin"), number)
    tree = host.path(f"lib/modules/{_RELEASE}")
    for number in range(_MODULE_FILES):
        _write(tree / f"kernel/drivers/kind{number % 400}/module{number}.ko", number + 10_000)
    (tree / "modules.dep").write_text("kernel/drivers/kind0/module0.ko:\n")
    shutil.copytree(_INITRAMFS, host.path(bootsets.INITRAMFS))
    cache: dict[str, str] = {}
    boot_set = BootSet(
        release=_RELEASE,
        kernel=file_sha256(host.path("boot/vmlinuz")),
        initrd=file_sha256(host.path("boot/initrd.img")),
        modules=tree_identity(read_tree(tree, cache=cache, wanted=is_module)),
        firmware=tree_identity(read_tree(host.path("lib/firmware"), cache=cache)),
        command_line="quiet",
    )
    return boot_set, cache


def _write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(number.to_bytes(8, "little") * (_BYTES // 8))


def _sources(*, modules: bool) -> Sources:
    return Sources(
        kernel="/boot/vmlinuz",
        initrds=("/boot/initrd.img",),
        firmware="/lib/firmware",
        modules=f"/lib/modules/{_RELEASE}" if modules else "",
    )


def _seconds(host: Host, made: tuple[BootSet, dict[str, str]], *, modules: bool) -> float:
    boot_set, cache = made
    bootsets.drop(host, boot_set.fingerprint, cache)
    before = time.monotonic()
    bootsets.keep(host, boot_set, _sources(modules=modules), cache)
    return time.monotonic() - before


def _firmware(host: Host, made: tuple[BootSet, dict[str, str]]) -> dict[str, Any]:
    spent = least(_ROUNDS, lambda: _seconds(host, made, modules=False))
    copied = _copied(host, "lib/firmware")
    return _row("vault.firmware_seconds", round(spent, 2), 0.5, "s", round(copied, 2))


def _whole(host: Host, made: tuple[BootSet, dict[str, str]]) -> dict[str, Any]:
    spent = least(_ROUNDS, lambda: _seconds(host, made, modules=True))
    copied = _copied(host, "lib")
    return _row("vault.keep_seconds", round(spent, 2), None, "s", round(copied, 2))


def _copied(host: Host, tree: str) -> float:
    """Give the seconds that a copy of a tree takes."""
    target = host.path("copy")
    before = time.monotonic()
    subprocess.run(["/bin/cp", "-a", host.path(tree), target], check=True)
    spent = time.monotonic() - before
    shutil.rmtree(target)
    return spent


def _space(host: Host) -> dict[str, Any]:
    """Tell what is on disk beyond the packages' own files; the peer is what a copy would add."""
    kept = [*host.path(BOOT_SETS).rglob("*"), *host.path(KEPT_FIRMWARE).rglob("*")]
    own = sum(_allocated(path) for path in kept if path.is_dir() or path.stat().st_nlink == 1)
    packaged = sum(_allocated(path) for path in host.path("lib").rglob("*"))
    return _row("vault.space", round(own / _MEBIBYTE, 1), None, "MiB", packaged // _MEBIBYTE)


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def _verify(host: Host, made: tuple[BootSet, dict[str, str]]) -> dict[str, Any]:
    """Every byte is read again: before each pin."""
    boot_set, _ = made

    def spent() -> float:
        before = time.process_time()
        bootsets.verify(host, boot_set.fingerprint)
        return time.process_time() - before

    all_files = f"find {host.path('lib')} -type f -exec sha256sum {{}} +"
    summed = least(_ROUNDS, lambda: cpu_ms(["/bin/sh", "-c", all_files])) / 1000
    row = _row("vault.verify_cpu_seconds", round(least(_ROUNDS, spent), 2), None, "s", summed)
    return {**row, "peer": "sha256sum", "peer_figure": round(summed, 2)}


def _row(
    name: str, figure: float, budget: float | None, unit: str, copied: float
) -> dict[str, Any]:
    return {
        "name": name,
        "figure": figure,
        "budget": budget,
        "unit": unit,
        "peer": "cp -a",
        "peer_figure": copied,
    }
