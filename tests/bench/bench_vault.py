"""What it costs to keep a boot set by hard links, beside what one would do by hand."""

import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.cost import cpu_ms, least
from tests.unit.loaders.host_folder import make_node
from trialboot import bootfiles
from trialboot.bootfiles import BOOT_SETS, KEPT_FIRMWARE
from trialboot.content import file_sha256, is_module, read_tree
from trialboot.core.actions import Keep, PinKnownGood
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.core.trial import Choice
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.workers import pin
from trialboot.writers import contentcache
from trialboot.writers.vault import bootsets, room
from trialboot.writers.vault.bootsets import Sources

_RELEASE = "6.12.117-amd64"
_INITRAMFS = Path(__file__).parents[2] / "packaging" / "initramfs"
_FIRMWARE_FILES, _MODULE_FILES = 3500, 4000
_BYTES = 32 << 10
"""A file: enough that hashing them all again would show (240 MiB), and soon made."""
_ROUNDS = 3
_BUDGETS = {"vault.firmware_seconds": 0.5}
_MEBIBYTE = 1 << 20


def figures() -> list[dict[str, Any]]:
    """Keep 3,500 firmware files and 4,000 modules, on the file system of this folder."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2]) as folder:
        host = Host(root=Path(folder))
        made = _make(host)
        rows = [_firmware(host, made), _whole(host, made), _space(host), _verify(host, made)]
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2]) as folder:
        return [*rows, _pin(Path(folder))]


def _make(host: Host) -> tuple[BootSet, dict[str, str]]:
    """Make the trees and read them as a snapshot does; give the boot set and what was hashed."""
    for path in ("boot/vmlinuz", "boot/initrd.img"):
        _write(host.path(path), 0)
    _fill(host)
    tree = host.path(f"lib/modules/{_RELEASE}")
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


def _fill(host: Host) -> None:
    """Make a firmware tree and a module tree."""
    for number in range(_FIRMWARE_FILES):
        _write(host.path(f"lib/firmware/vendor{number % 120}/blob{number}.bin"), number)
    tree = host.path(f"lib/modules/{_RELEASE}")
    for number in range(_MODULE_FILES):
        _write(tree / f"kernel/drivers/kind{number % 400}/module{number}.ko", number + 10_000)
    (tree / "modules.dep").write_text("kernel/drivers/kind0/module0.ko:\n")


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
    linked = least(_ROUNDS, lambda: _copied(host, "lib/firmware", "-al"))
    return _row("vault.firmware_seconds", round(spent, 2), "s", "cp -al", round(linked, 2))


def _whole(host: Host, made: tuple[BootSet, dict[str, str]]) -> dict[str, Any]:
    spent = least(_ROUNDS, lambda: _seconds(host, made, modules=True))
    linked = least(_ROUNDS, lambda: _copied(host, "lib", "-al"))
    return _row("vault.keep_seconds", round(spent, 2), "s", "cp -al", round(linked, 2))


def _copied(host: Host, tree: str, how: str) -> float:
    """Give the seconds that a tree of links takes, or a copy."""
    target = host.path("copy")
    before = time.monotonic()
    subprocess.run(["/bin/cp", how, host.path(tree), target], check=True)
    spent = time.monotonic() - before
    shutil.rmtree(target)
    return spent


def _space(host: Host) -> dict[str, Any]:
    """Tell what is on disk beyond the packages' own files; the peer is what a copy would add."""
    kept = [*host.path(BOOT_SETS).rglob("*"), *host.path(KEPT_FIRMWARE).rglob("*")]
    own = room.taken(host) + sum(_allocated(path) for path in kept if path.is_dir())
    copied = sum(_allocated(path) for path in host.path("lib").rglob("*"))
    figure = round(own / _MEBIBYTE, 1)
    return _row("vault.space_mib", figure, "MiB", "cp -a", copied // _MEBIBYTE)


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
    figure = round(least(_ROUNDS, spent), 2)
    return _row("vault.verify_cpu_seconds", figure, "s", "sha256sum", round(summed, 2))


def _pin(root: Path) -> dict[str, Any]:
    """Keep, verify, install, point: all but grub-mkconfig, which is the host's own and played."""
    host, wanted = make_host_to_pin(root)

    def spent() -> float:
        shutil.rmtree(root / "boot/trialboot", ignore_errors=True)
        bootfiles.parsed_once.cache_clear()  # a process of its own has nothing of it
        before = time.process_time()
        pin_all(host, wanted)
        return 1000 * (time.process_time() - before)

    by_hand = f"cp -al {root}/lib {root}/copy && find {root}/copy -type f -exec sha256sum {{}} +"
    figure = least(_ROUNDS, spent)
    cost = cpu_ms(["/bin/sh", "-c", by_hand])
    return _row("pin.cpu_ms", round(figure), "ms", "cp -al, sha256sum", round(cost))


def make_host_to_pin(root: Path) -> tuple[Host, Choice]:
    """Make a host with a boot menu and such trees; give what is to become its known-good."""
    node = make_node(root)
    _fill(node.host)
    boot_set = replace(
        node.boot_set(_RELEASE),
        modules=tree_identity(read_tree(root / f"lib/modules/{_RELEASE}", wanted=is_module)),
    )
    entries = Grub(node.host).state().entries
    entry = next(known.entry for known in entries if _RELEASE in known.kernel)
    return node.host, Choice(entry=entry, boot_set=boot_set)


def pin_all(host: Host, wanted: Choice) -> None:
    """Keep a boot set and make it entry and default."""
    cache = contentcache.load(host)
    for action in (Keep(wanted.boot_set, wanted.entry), PinKnownGood(wanted.boot_set)):
        pin.perform(host, Grub(host), action, cache)


def _row(name: str, figure: float, unit: str, peer: str, cost: float) -> dict[str, Any]:
    ratio = f", ratio {figure / cost:.2f}" if cost else ""
    return {
        "name": name,
        "figure": figure,
        "budget": _BUDGETS.get(name),
        "unit": unit,
        "peer": f"{peer}{ratio}",
        "peer_figure": cost,
    }
