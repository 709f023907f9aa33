"""Power cuts at every single write of the vault: what is named is whole, or is not there."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import Node, PowerCutError, make_node, power_for
from trialboot.bootfiles import host_path
from trialboot.content import file_sha256, is_module, read_tree
from trialboot.core.actions import Keep, Mend, PinKnownGood
from trialboot.core.bootset import BootSet, initrd_identity, tree_identity
from trialboot.core.menu import KNOWN_GOOD, Resolved, next_entry
from trialboot.loaders.grub import Grub
from trialboot.workers import pin
from trialboot.writers.vault import bootsets, ownfiles
from trialboot.writers.vault.bootsets import Sources

RELEASE, NEW = "6.1.0-56-amd64", "6.12.117-amd64"
Made = tuple[Node, BootSet, Sources]


def make(root: Path, release: str = RELEASE) -> Made:
    """Make a host with a boot set of every kind of part."""
    node = make_node(root)
    node.write("/boot/microcode.img", "microcode")
    for name in ("kernel/net/toy.ko", "updates/own.ko.xz", "modules.dep"):
        node.write(f"/lib/modules/{release}/{name}", name)
    paths = ("/boot/microcode.img", f"/boot/initrd.img-{release}")
    boot_set = replace(
        node.boot_set(release),
        initrd=initrd_identity([file_sha256(root / path.lstrip("/")) for path in paths]),
        modules=tree_identity(read_tree(root / f"lib/modules/{release}", wanted=is_module)),
    )
    modules = f"/lib/modules/{release}"
    return node, boot_set, replace(node.sources(release), initrds=paths, modules=modules)


def assert_whole(node: Node) -> None:
    """Whatever is named must be whole, and nothing of the host may be lost."""
    for fingerprint in bootsets.kept(node.host):
        bootsets.verify(node.host, fingerprint)
    assert (node.root / "lib/firmware/nic/fw.bin").read_text() == "old firmware"
    assert (node.root / f"boot/vmlinuz-{RELEASE}").read_text() == f"kernel {RELEASE}"


def cut_everywhere(tmp_path: Path, act: Callable[[Made], None]) -> int:
    """Cut the power before each effect of an action, and make it again after each cut."""
    for effects in range(2000):
        made = make(tmp_path / str(effects))
        node, boot_set, sources = made
        try:
            with power_for(effects, node.root):
                act(made)
        except PowerCutError:
            assert_whole(node)
            bootsets.keep(node.host, boot_set, sources)
            bootsets.verify(node.host, boot_set.fingerprint)
            assert not list(node.root.rglob(".*.draft"))
        else:
            return effects
    raise AssertionError("it never came to an end")


def keep(made: Made) -> None:
    node, boot_set, sources = made
    bootsets.keep(node.host, boot_set, sources)


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a vfat below /boot, and another file system for the trees: every file is copied."""

    def refused(source: str, target: str, **_: object) -> None:
        raise PermissionError(1, "Operation not permitted", source, None, target)

    monkeypatch.setattr(os, "link", refused)


def test_keeping(tmp_path: Path) -> None:
    assert cut_everywhere(tmp_path, keep) > 20


def test_keeping_by_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch)
    assert cut_everywhere(tmp_path, keep) > 20


def test_keeping_with_dracut(tmp_path: Path) -> None:
    def act(made: Made) -> None:
        made[0].write("/usr/bin/dracut", "")
        keep(made)

    assert cut_everywhere(tmp_path, act) > 20


def test_taking_kept_initrds_off_the_files_of_dracut(tmp_path: Path) -> None:
    """What is kept is whole at every instant: it is what the menu boots."""
    for effects in range(2000):
        made = make(tmp_path / str(effects))
        node, boot_set, _ = made
        keep(made)
        node.write("/usr/bin/dracut", "")
        try:
            with power_for(effects, node.root):
                ownfiles.own_initrds(node.host, boot_set.fingerprint)
        except PowerCutError:
            assert bootsets.kept(node.host) == (boot_set.fingerprint,)
            assert_whole(node)
            keep(made)
            assert ownfiles.shared_initrds(node.host, boot_set.fingerprint) == ()
            assert not list(node.root.rglob(".*.draft"))
        else:
            assert effects > 2
            return
    raise AssertionError("it never came to an end")


def test_keeping_anew_what_was_damaged(tmp_path: Path) -> None:
    def act(made: Made) -> None:
        node, boot_set, sources = made
        bootsets.keep(node.host, boot_set, sources)
        (node.root / "boot/trialboot" / boot_set.fingerprint / "initrd-2.img").unlink()
        bootsets.keep(node.host, boot_set, sources)

    for effects in range(2000):
        made = make(tmp_path / str(effects))
        try:
            with power_for(effects, made[0].root):
                act(made)
        except PowerCutError:
            # Damaged by this very test, it may still be so: never silently, and it is mended.
            keep(made)
            assert_whole(made[0])
        else:
            return
    raise AssertionError("it never came to an end")


def spoil_firmware(node: Node, good: BootSet) -> None:
    kept = node.root / "usr/lib/trialboot/kept" / good.fingerprint / "firmware/nic/fw.bin"
    kept.unlink()
    kept.write_text("other")


def spoil_kernel(node: Node, good: BootSet) -> None:
    kept = node.root / "boot/trialboot" / good.fingerprint / "vmlinuz"
    kept.unlink()
    kept.write_text("other")


@pytest.mark.parametrize("spoil", [spoil_firmware, spoil_kernel])
@pytest.mark.parametrize("by_copies", [False, True])
def test_mending_leaves_all_that_the_menu_boots_on_disk_at_every_instant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Node, BootSet], None],
    *,
    by_copies: bool,
) -> None:
    """Who resets the machine then is led to it by the loader, which needs kernel and initrds."""
    if by_copies:
        refuse_links(monkeypatch)
    for effects in range(2000):
        node, good, sources = make(tmp_path / str(effects))
        grub = Grub(node.host)
        bootsets.keep(node.host, good, sources)
        pin.perform(node.host, grub, PinKnownGood(good), {})
        spoil(node, good)
        try:
            with power_for(effects, node.root):
                pin.perform(node.host, grub, Mend(good), {})
        except PowerCutError:
            assert_default_is_on_disk(node, grub)
            pin.perform(node.host, grub, Mend(good), {})
            assert_mended(node, grub, good)
        else:
            assert_mended(node, grub, good)
            return
    raise AssertionError("it never came to an end")


def test_what_a_power_cut_left_beside_the_kept_files_goes_with_the_damage(tmp_path: Path) -> None:
    made = make(tmp_path)
    keep(made)
    spoil_kernel(*made[:2])
    place = tmp_path / "boot/trialboot" / made[1].fingerprint
    (place / ".initrd-1.img.draft").write_text("half a copy")
    keep(made)
    assert_whole(made[0])
    assert not list(tmp_path.rglob(".*.draft"))


def assert_default_is_on_disk(node: Node, grub: Grub) -> None:
    default = next_entry(grub.state())
    assert isinstance(default, Resolved)
    assert default.entry.entry == KNOWN_GOOD
    for file in (default.entry.kernel, *default.entry.initrds):
        assert isinstance(host_path(node.host, file), str), file


def test_mending_loses_nothing_that_is_in_the_vault_alone(tmp_path: Path) -> None:
    """The kernel is the host's, the initrds are kept and nowhere else."""
    for effects in range(2000):
        node, good, sources = make(tmp_path / str(effects))
        grub = Grub(node.host)
        bootsets.keep(node.host, good, sources)
        pin.perform(node.host, grub, PinKnownGood(good), {})
        (node.root / "boot/trialboot" / good.fingerprint / "vmlinuz").unlink()
        for path in sources.initrds:
            node.write(f"{path}.new", "rebuilt").replace(node.root / path.lstrip("/"))
        try:
            with power_for(effects, node.root):
                pin.perform(node.host, grub, Mend(good), {})
        except PowerCutError:
            pin.perform(node.host, grub, Mend(good), {})
            assert_mended(node, grub, good)
        else:
            assert_mended(node, grub, good)
            return
    raise AssertionError("it never came to an end")


def assert_mended(node: Node, grub: Grub, good: BootSet) -> None:
    assert bootsets.kept(node.host) == (good.fingerprint,)
    assert grub.state().known_good == good.fingerprint
    assert_whole(node)
    assert not list(node.root.rglob(".*.draft"))


def test_dropping(tmp_path: Path) -> None:
    def act(made: Made) -> None:
        keep(made)
        bootsets.drop(made[0].host, made[1].fingerprint)

    assert cut_everywhere(tmp_path, act) > 40


def test_giving_up_the_generation_before_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of three goes; the known-good of the menu is there at every instant."""
    for effects in range(0, 2000, 3):
        node, good, sources = make(tmp_path / str(effects))
        bootsets.keep(node.host, good, sources)
        grub = Grub(node.host)
        pin.perform(node.host, grub, PinKnownGood(good), {})
        older = replace(node.boot_set(), modules="older")
        bootsets.keep(node.host, older, node.sources())
        with monkeypatch.context() as patched:
            patched.setattr(os, "statvfs", FullWhile(node, older))
            cut = _is_cut(node, grub, effects)
        bootsets.verify(node.host, good.fingerprint)
        assert grub.state().known_good == good.fingerprint
        assert_whole(node)
        if not cut:
            assert older.fingerprint not in bootsets.kept(node.host)
            return
    raise AssertionError("it never came to an end")


class FullWhile:
    """A disk that is full as long as a boot set is kept."""

    def __init__(self, node: Node, boot_set: BootSet) -> None:
        self.place = node.root / "boot/trialboot" / boot_set.fingerprint

    def __call__(self, _: Path) -> os.statvfs_result:
        free = 0 if self.place.exists() else 1 << 20
        return os.statvfs_result((4096, 4096, 1 << 20, free, free, 0, 0, 0, 0, 255))


def _is_cut(node: Node, grub: Grub, effects: int) -> bool:
    entry = next(known.entry for known in grub.state().entries if NEW in known.kernel)
    try:
        with power_for(effects, node.root):
            pin.perform(node.host, grub, Keep(node.boot_set(NEW), entry), {})
    except PowerCutError:
        return True
    return False
