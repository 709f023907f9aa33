"""The pin worker: what it may do, with a loader that only remembers and a real vault."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.boot_hosts import (
    EFIVARS,
    BootHost,
    controlled_fedora,
    controlled_systemd_boot,
    image_parts,
)
from tests.unit.loaders.host_folder import OLD, SIMPLE, Node, make_node
from trialboot.bootfiles import host_path, read_menu
from trialboot.content import file_sha256, is_module, read_tree
from trialboot.core.actions import (
    Action,
    BootOnce,
    ForgetOnce,
    GiveUp,
    Keep,
    Mend,
    PinKnownGood,
    Reboot,
    Secure,
    Tell,
    Unpin,
)
from trialboot.core.bootset import BootSet, KeptBoot, initrd_identity, tree_identity
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.grub import format_environment
from trialboot.core.menu import KNOWN_GOOD, Menu, next_entry, wanted_entry
from trialboot.core.node import Wish
from trialboot.core.protection import Level, Protection
from trialboot.core.trial import Choice, Condemned, Decision, Phase, Trial
from trialboot.errors import LoaderError, StoreError, VaultError, VaultRoomError
from trialboot.loaders.environment_block import EnvironmentBlock
from trialboot.loaders.grub import Grub
from trialboot.loaders.interface import Loader
from trialboot.loaders.systemd_boot import SystemdBoot
from trialboot.workers import pin, release
from trialboot.writers import contentcache, store
from trialboot.writers.vault import bootsets, layout, ownfiles, parts


@dataclass
class Recorder:
    """A loader that keeps what was asked of it."""

    node: Node
    done: list[tuple[Any, ...]] = field(default_factory=list)

    def state(self) -> Menu:
        menu = read_menu(self.node.host)
        assert not isinstance(menu, Unknown)
        return menu

    def make_default(self, entry: EntryId) -> None:
        self.done.append(("make_default", entry))

    def boot_once(self, entry: EntryId) -> None:
        self.done.append(("boot_once", entry))

    def against(self, entry: EntryId) -> tuple[str, ...]:
        return (f"{entry} is not to be asked here",)

    def forget_once(self) -> None:
        self.done.append(("forget_once",))

    def install(self, kept: KeptBoot) -> EntryId:
        self.done.append(("install", kept))
        return KNOWN_GOOD

    def remove(self) -> None:
        self.done.append(("remove",))

    def protection(self) -> Protection:
        return Protection(level=Level.FULL)


def perform(node: Node, *actions: Action) -> list[tuple[Any, ...]]:
    loader = Recorder(node)
    known: Loader = loader
    for action in actions:
        pin.perform(node.host, known, action, {})
    return loader.done


def keep(node: Node) -> Keep:
    return Keep(node.boot_set(), EntryId(OLD))


def test_keeping_puts_the_entrys_files_into_the_vault(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    assert perform(node, keep(node)) == []
    assert bootsets.kept(node.host) == (node.boot_set().fingerprint,)
    bootsets.verify(node.host, node.boot_set().fingerprint)


def test_keeping_twice_verifies_and_needs_the_entry_no_more(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    perform(node, wanted)
    (tmp_path / "boot/grub/grub.cfg").unlink()
    perform(node, wanted)
    assert bootsets.kept(node.host) == (wanted.boot_set.fingerprint,)


def test_a_damaged_boot_set_is_not_taken_for_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    perform(node, wanted)
    kept = tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "vmlinuz"
    kept.write_text("damaged")
    with pytest.raises(VaultError, match="vmlinuz"):
        perform(node, wanted)


def test_files_that_are_no_longer_the_boot_set_are_not_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    node.write("/boot/initrd.img-6.1.0-56-amd64", "rebuilt")
    with pytest.raises(VaultError, match=r"initrd\.img is not what the boot set"):
        perform(node, wanted)
    assert bootsets.kept(node.host) == ()


def test_an_entry_that_is_gone_is_named(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(VaultError, match="has no entry «gone» any more: nothing to keep"):
        perform(node, Keep(node.boot_set(), EntryId("gone")))


def test_an_entry_whose_kernel_is_gone_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    (tmp_path / "boot/vmlinuz-6.1.0-56-amd64").unlink()
    with pytest.raises(VaultError, match="neither below /boot nor below /"):
        perform(node, wanted)


def test_pinning_installs_what_is_kept_and_makes_it_the_default(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    fingerprint = wanted.boot_set.fingerprint
    for _ in range(2):
        assert perform(node, wanted, PinKnownGood(wanted.boot_set)) == [
            ("install", parts.boot_files(node.host, fingerprint)),
            ("make_default", KNOWN_GOOD),
        ]


def test_what_is_not_kept_is_not_pinned(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(VaultError, match="is not kept"):
        perform(node, PinKnownGood(node.boot_set()))


def test_what_is_damaged_is_not_pinned(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    perform(node, wanted)
    kept = tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "initrd.img"
    kept.unlink()
    kept.write_text("damaged")
    loader = Recorder(node)
    with pytest.raises(VaultError, match=r"initrd\.img"):
        pin.perform(node.host, loader, PinKnownGood(wanted.boot_set), {})
    assert loader.done == []


@pytest.mark.parametrize(
    ("action", "done"),
    [
        (BootOnce(EntryId(SIMPLE)), ("boot_once", SIMPLE)),
        (ForgetOnce(), ("forget_once",)),
        (ForgetOnce(spent=True), ("forget_once",)),
        (Unpin(), ("remove",)),
    ],
)
def test_the_other_verbs_go_to_the_loader(
    tmp_path: Path, action: Action, done: tuple[Any, ...]
) -> None:
    assert perform(make_node(tmp_path), action) == [done]


WISH = Wish(cordoned=True, reason="R", message="m", condition="False", boot="b", at="t")


@pytest.mark.parametrize("action", [Tell(WISH), Reboot("worse", BootId("b"))])
def test_what_is_not_the_pin_workers_is_refused(tmp_path: Path, action: Action) -> None:
    with pytest.raises(LoaderError, match="is not the pin worker's"):
        perform(make_node(tmp_path), action)


# --- room ---------------------------------------------------------------------------------------

NEW = "6.12.117-amd64"


@dataclass
class Disk:
    """A disk that is full as long as something is there."""

    filled_by: Path
    asked: int = 0

    def __call__(self, _: Path) -> os.statvfs_result:
        self.asked += 1
        free = 0 if self.filled_by.exists() else 1 << 20
        return os.statvfs_result((4096, 4096, 1 << 20, free, free, 0, 0, 0, 0, 255))


def full_disk(node: Node, monkeypatch: pytest.MonkeyPatch, filled_by: str) -> Disk:
    disk = Disk(node.root / "boot/trialboot" / filled_by)
    monkeypatch.setattr(os, "statvfs", disk)
    return disk


def test_where_room_lacks_the_generation_before_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(tmp_path)
    older = node.boot_set()
    perform(node, keep(node))
    wanted = node.boot_set(NEW)
    disk = full_disk(node, monkeypatch, older.fingerprint)
    perform(node, Keep(wanted, EntryId(SIMPLE)))
    assert bootsets.kept(node.host) == (wanted.fingerprint,)
    assert disk.asked > 1
    assert capsys.readouterr().err == (
        "the vault needs 1 MiB, /boot has 0 MiB free: remove an old kernel or enlarge /boot; "
        f"the boot set {older.fingerprint[:12]} goes\n"
    )


def test_the_known_good_never_goes_for_room_and_nothing_is_kept_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    good = node.boot_set()
    perform(node, keep(node))
    pin.perform(node.host, Grub(node.host), PinKnownGood(good), {})
    full_disk(node, monkeypatch, good.fingerprint)
    with pytest.raises(VaultRoomError, match="the vault needs 1 MiB, /boot has 0 MiB free"):
        pin.perform(node.host, Grub(node.host), Keep(node.boot_set(NEW), EntryId(SIMPLE)), {})
    assert bootsets.kept(node.host) == (good.fingerprint,)
    bootsets.verify(node.host, good.fingerprint)
    assert not list(tmp_path.rglob(".*.draft"))


# --- before a rollback --------------------------------------------------------------------------


class ReadOnlyBlock(EnvironmentBlock):
    """An environment block that cannot be written."""

    def write(self, values: Mapping[str, str]) -> None:
        del values
        raise LoaderError("grubenv: Read-only file system")


class ReadOnly(Grub):
    """A GRUB whose environment block cannot be written."""

    @property
    def block(self) -> EnvironmentBlock:
        return ReadOnlyBlock(self.host)


def pinned(node: Node) -> BootSet:
    """Keep and pin a boot set, as it was done when the trial was armed."""
    wanted = keep(node)
    for action in (wanted, PinKnownGood(wanted.boot_set)):
        pin.perform(node.host, Grub(node.host), action, {})
    return wanted.boot_set


def reached(node: Node) -> str:
    found = next_entry(Grub(node.host).state())
    assert not isinstance(found, Unknown)
    return found.entry.entry


def test_a_rollback_is_secured_whatever_was_done_to_default_and_one_shot(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    Grub(node.host).point(default=EntryId(OLD), once=EntryId(SIMPLE))
    for _ in range(2):
        pin.perform(node.host, Grub(node.host), Secure(good), {})
        assert (reached(node), Grub(node.host).state().once) == (KNOWN_GOOD, "")


def test_no_rollback_ends_on_damaged_files(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    kept = tmp_path / "boot/trialboot" / good.fingerprint / "initrd.img"
    kept.unlink()
    kept.write_text("damaged")
    loader = Recorder(node)
    with pytest.raises(VaultError, match=r"initrd\.img"):
        pin.perform(node.host, loader, Secure(good), {})
    assert loader.done == []


@pytest.mark.parametrize("block", [None, b"", b"garbage", "as it was"])
def test_a_block_that_takes_no_write_holds_no_rollback_up_where_it_leads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: bytes | str | None
) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    file = tmp_path / "boot/grub/grubenv"
    if isinstance(block, bytes):
        file.write_bytes(block)
    elif block is None:
        file.unlink()
    else:
        Grub(node.host).boot_once(EntryId(OLD))
        Grub(node.host).forget_once()
    pin.perform(node.host, ReadOnly(node.host), Secure(good), {})
    assert capsys.readouterr().err in {"", "before the rollback: grubenv: Read-only file system\n"}
    assert reached(node) == KNOWN_GOOD


def test_no_rollback_where_a_restart_would_end_elsewhere_and_that_cannot_be_put_right(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    Grub(node.host).boot_once(EntryId(OLD))
    with pytest.raises(LoaderError, match=f"a restart would end on «{OLD}»"):
        pin.perform(node.host, ReadOnly(node.host), Secure(good), {})
    node.write("/boot/grub/grubenv", format_environment({"saved_entry": "1st"}).decode())
    with pytest.raises(LoaderError, match=r"may not end on the known-good: .*digit"):
        pin.perform(node.host, ReadOnly(node.host), Secure(good), {})


def test_no_rollback_where_the_entry_names_files_that_are_not_there(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    menu = tmp_path / "boot/grub/grub.cfg"
    menu.write_text(menu.read_text().replace(f"{good.fingerprint}/vmlinuz", "gone/vmlinuz"))
    with pytest.raises(LoaderError, match="gone/vmlinuz is neither below /boot nor below /"):
        pin.perform(node.host, Recorder(node), Secure(good), {})


# --- modules, and what apt is told --------------------------------------------------------------

OLD_RELEASE = "6.1.0-56-amd64"
TREE = f"lib/modules/{OLD_RELEASE}"
APT = "etc/apt/apt.conf.d"
PROTECTED = f"{APT}/02trialboot-known-good"


def keep_with_modules(node: Node) -> Keep:
    node.write(f"{TREE}/kernel/toy.ko", "module toy")
    node.write(f"{TREE}/modules.dep", "kernel/toy.ko:\n")
    tree = read_tree(node.root / TREE, wanted=is_module)
    return Keep(replace(node.boot_set(), modules=tree_identity(tree)), EntryId(OLD))


def test_keeping_takes_the_module_tree_of_the_release(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    kept = tmp_path / layout.modules_of(wanted.boot_set).lstrip("/")
    assert sorted(path.name for path in kept.iterdir()) == ["kernel", "modules.dep"]


COVERED = """\
22 1 254:2 / / rw,relatime - ext4 /dev/vda2 rw
31 22 254:2 /usr/lib/trialboot/kept/f2/firmware /usr/lib/firmware ro - ext4 /dev/vda2 rw
33 22 254:2 /usr/lib/trialboot/kept/f2/modules/6.1 /usr/lib/modules/6.1 ro - ext4 /dev/vda2 rw
40 22 0:33 /kept/lib/firmware /lib/firmware rw - tmpfs somebody-elses rw
"""


def test_kept_trees_are_taken_off_before_what_is_below_them_is_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    node.write("/proc/self/mountinfo", COVERED)
    perform(node, keep(node))
    assert node.mkconfig.lines == [
        "umount --lazy /usr/lib/modules/6.1",
        "umount --lazy /usr/lib/firmware",
    ]


def test_where_they_cannot_be_taken_off_the_packages_trees_are_copied(tmp_path: Path) -> None:
    node = make_node(tmp_path, refuse="umount")
    node.write("/proc/self/mountinfo", COVERED)
    node.write("/run/trialboot/kept-firmware-mounted", "")
    shutil.move(tmp_path / "lib/firmware", tmp_path / "run/trialboot/packaged-firmware")
    node.write("/lib/firmware/nic/fw.bin", "the kept one")
    firmware = tree_identity(read_tree(tmp_path / "run/trialboot/packaged-firmware"))
    wanted = Keep(replace(node.boot_set(), firmware=firmware), EntryId(OLD))
    perform(node, wanted)
    bootsets.verify(node.host, wanted.boot_set.fingerprint)


def test_mending_puts_modules_entry_and_default_back_and_may_be_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    fingerprint = wanted.boot_set.fingerprint
    perform(node, wanted)
    shutil.rmtree(tmp_path / TREE)
    for _ in range(2):
        assert perform(node, Mend(wanted.boot_set)) == [
            ("install", parts.boot_files(node.host, fingerprint)),
            ("make_default", KNOWN_GOOD),
        ]
        assert (tmp_path / TREE / "kernel/toy.ko").read_text() == "module toy"
    assert capsys.readouterr().err == f"/{TREE} was gone and is put back: 1 modules\n"


def kept_files(node: Node, boot_set: BootSet) -> dict[str, bytes]:
    """Give what is kept of a boot set, by path."""
    roots = ("boot/trialboot", "usr/lib/trialboot/kept")
    folders = [node.root / root / boot_set.fingerprint for root in roots]
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(node.root).as_posix(): path.read_bytes() for path in files}


def cut_short(path: Path) -> None:
    """Damage a file, and no other that it may be linked to."""
    path.unlink()
    path.write_text("cut")


def give_errors(path: Path) -> None:
    """Be a file that the disk does not give: reading fails with EIO."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("boot/trialboot/{}/vmlinuz", Path.unlink),
        ("boot/trialboot/{}/vmlinuz", cut_short),
        ("boot/trialboot/{}/initrd.img", Path.unlink),
        ("boot/trialboot/{}/initrd.img", cut_short),
        ("boot/trialboot/{}/vmlinuz", give_errors),
        ("boot/trialboot/{}/initrd.img", give_errors),
        ("boot/trialboot/{}/firmware.cpio", cut_short),
        ("boot/trialboot/{}/manifest.json", Path.unlink),
        ("boot/trialboot/{}", remove_all),
        ("usr/lib/trialboot/kept/{}", remove_all),
        (f"usr/lib/trialboot/kept/{{}}/modules/{OLD_RELEASE}/kernel/toy.ko", cut_short),
        ("usr/lib/trialboot/kept/{}/firmware/nic/fw.bin", Path.unlink),
    ],
)
def test_damaged_files_of_the_known_good_are_kept_anew_from_the_hosts(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    fingerprint = wanted.boot_set.fingerprint
    perform(node, wanted)
    damage(tmp_path / name.format(fingerprint))
    with pytest.raises(VaultError):
        bootsets.verify(node.host, fingerprint)
    for _ in range(2):
        assert perform(node, Mend(wanted.boot_set)) == [
            ("install", parts.boot_files(node.host, fingerprint)),
            ("make_default", KNOWN_GOOD),
        ]
        bootsets.verify(node.host, fingerprint)
    assert (tmp_path / layout.modules_of(wanted.boot_set).lstrip("/") / "kernel/toy.ko").exists()
    assert not list(tmp_path.rglob(".*.draft"))


def test_what_is_whole_in_the_vault_is_taken_where_the_host_has_something_else_by_now(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    replaced = (f"/boot/initrd.img-{OLD_RELEASE}", "/lib/firmware/nic/fw.bin", f"/{TREE}/new.ko")
    for path in replaced:
        node.write(f"{path}.new", "of the next packages").replace(tmp_path / path.lstrip("/"))
    before = kept_files(node, wanted.boot_set)
    kept = tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint
    (kept / "vmlinuz").unlink()
    assert ("make_default", KNOWN_GOOD) in perform(node, Mend(wanted.boot_set))
    after = kept_files(node, wanted.boot_set)
    manifest = (kept / "manifest.json").relative_to(tmp_path).as_posix()
    assert {**after, manifest: before[manifest]} == before
    (kept / "initrd.img").unlink()
    with pytest.raises(VaultError, match="this host has its initrd no more"):
        perform(node, Mend(wanted.boot_set))
    assert (kept / "vmlinuz").exists()


def test_all_that_is_lost_is_named(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    for folder in ("boot/trialboot", "usr/lib/trialboot/kept"):
        shutil.rmtree(tmp_path / folder / wanted.boot_set.fingerprint)
    for path in (f"boot/vmlinuz-{OLD_RELEASE}", "lib/firmware/nic/fw.bin", f"{TREE}/modules.dep"):
        cut_short(tmp_path / path)
    cut_short(tmp_path / TREE / "kernel/toy.ko")
    told = "its kernel, initrd, firmware files, module tree no more"
    with pytest.raises(VaultError, match=told):
        perform(node, Mend(wanted.boot_set))


def test_that_modules_were_put_back_stays_known_of_a_boot_set_that_is_kept_anew(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    node.write("/proc/sys/kernel/osrelease", "other")
    perform(node, wanted)
    shutil.rmtree(tmp_path / TREE)
    perform(node, Mend(wanted.boot_set))
    (tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "vmlinuz").unlink()
    perform(node, Mend(wanted.boot_set))
    (tmp_path / f"boot/vmlinuz-{OLD_RELEASE}").unlink()
    bootsets.drop(node.host, wanted.boot_set.fingerprint)
    assert not (tmp_path / TREE).exists()


def test_mending_gives_up_the_generation_before_where_room_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    wanted, older = keep_with_modules(node), node.boot_set(NEW)
    perform(node, wanted, Keep(older, EntryId(SIMPLE)))
    (tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "vmlinuz").unlink()
    full_disk(node, monkeypatch, older.fingerprint)
    perform(node, Mend(wanted.boot_set))
    assert bootsets.kept(node.host) == (wanted.boot_set.fingerprint,)


def test_where_no_room_can_be_made_what_is_damaged_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    (tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "vmlinuz").unlink()
    left = kept_files(node, wanted.boot_set)
    full_disk(node, monkeypatch, wanted.boot_set.fingerprint)
    loader = Recorder(node)
    with pytest.raises(VaultRoomError, match="the vault needs 1 MiB, /boot has 0 MiB free"):
        pin.perform(node.host, loader, Mend(wanted.boot_set), {})
    assert (loader.done, kept_files(node, wanted.boot_set)) == ([], left)


def test_what_is_damaged_mends_nothing(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    shutil.rmtree(tmp_path / TREE)
    (tmp_path / layout.modules_of(wanted.boot_set).lstrip("/") / "kernel/toy.ko").unlink()
    loader = Recorder(node)
    left = kept_files(node, wanted.boot_set)
    told = "module tree is not what .* this host has its module tree no more: «trialboot observe»"
    with pytest.raises(VaultError, match=told):
        pin.perform(node.host, loader, Mend(wanted.boot_set), {})
    assert loader.done == []
    assert not (tmp_path / TREE).exists()
    assert kept_files(node, wanted.boot_set) == left
    assert not list(tmp_path.rglob(".*.draft"))


def test_entry_and_default_are_mended_even_where_modules_cannot_be(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)  # as it was kept before modules were
    perform(node, wanted)
    loader = Recorder(node)
    with pytest.raises(VaultError, match="install its kernel's package again"):
        pin.perform(node.host, loader, Mend(wanted.boot_set), {})
    assert ("make_default", KNOWN_GOOD) in loader.done


@pytest.mark.parametrize("action", [PinKnownGood, Mend])
def test_autoremove_is_told_of_the_known_good_until_it_is_unpinned(
    tmp_path: Path, action: type[PinKnownGood | Mend]
) -> None:
    node = make_node(tmp_path)
    (tmp_path / APT).mkdir(parents=True)
    wanted = keep_with_modules(node)
    perform(node, wanted)
    assert not (tmp_path / PROTECTED).exists()
    perform(node, action(wanted.boot_set))
    assert "6[.]1[.]0-56-amd64" in (tmp_path / PROTECTED).read_text()
    perform(node, Unpin())
    assert not (tmp_path / PROTECTED).exists()


def test_an_apt_that_cannot_be_told_keeps_nothing_from_being_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(tmp_path)
    (tmp_path / PROTECTED).mkdir(parents=True)
    wanted = keep(node)
    assert ("make_default", KNOWN_GOOD) in perform(node, wanted, PinKnownGood(wanted.boot_set))
    assert "autoremove may take the known-good's packages: /etc/apt" in capsys.readouterr().err
    assert perform(node, Unpin()) == [("remove",)]
    assert "autoremove still spares" in capsys.readouterr().err


# --- the whole worker, with GRUB ----------------------------------------------------------------


def decide(node: Node, *todo: Action) -> None:
    trial = Trial(known_good=node.boot_set())
    store.save_decision(node.host, Decision(trial=trial, todo=todo))


def boots(node: Node) -> str:
    answer = next_entry(Grub(node.host).state())
    assert not isinstance(answer, Unknown)
    return answer.entry.entry


def test_the_worker_arms_a_trial_and_may_be_run_again(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    decide(node, wanted, PinKnownGood(wanted.boot_set), BootOnce(EntryId(SIMPLE)))
    for _ in range(2):
        pin.work(node.host)
        assert boots(node) == SIMPLE
    decide(node, ForgetOnce())
    pin.work(node.host)
    assert boots(node) == KNOWN_GOOD


def test_where_room_is_short_the_known_goods_initrd_is_the_first_to_be_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    wanted, other = keep(node), Keep(node.boot_set(NEW), EntryId(SIMPLE))
    perform(node, wanted, other)
    node.write("/usr/bin/dracut", "")
    first, second = sorted((wanted.boot_set, other.boot_set), key=lambda known: known.fingerprint)
    room = [2 << 20]

    def room_for_one(_: Path) -> os.statvfs_result:
        free = room.pop() if room else 0
        return os.statvfs_result((4096, 1, free, free, free, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", room_for_one)
    trial = Trial(known_good=second, previous=first)
    store.save_decision(node.host, Decision(trial=trial, todo=(ForgetOnce(),)))
    pin.work(node.host)
    assert ownfiles.shared_initrds(node.host, second.fingerprint) == ()
    assert len(ownfiles.shared_initrds(node.host, first.fingerprint)) == 1


def test_what_is_given_up_leaves_the_vault_unless_the_menu_boots_it(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good, other = pinned(node), Keep(node.boot_set(NEW), EntryId(SIMPLE))
    perform(node, other)
    perform(node, GiveUp(good), GiveUp(other.boot_set), GiveUp(other.boot_set))
    assert bootsets.kept(node.host) == (good.fingerprint,)
    assert boots(node) == KNOWN_GOOD


def lose_kernel(node: Node, good: BootSet) -> None:
    """Remove the known-good's kernel wherever it is."""
    (node.root / "boot/trialboot" / good.fingerprint / "vmlinuz").unlink()
    (node.root / f"boot/vmlinuz-{OLD_RELEASE}").unlink()


def mend(node: Node, trial: Trial) -> str:
    """Run the worker on a decision to mend; give its trouble."""
    assert trial.known_good is not None
    store.save_decision(node.host, Decision(trial=trial, todo=(Mend(trial.known_good),)))
    with pytest.raises(VaultError) as trouble:
        pin.work(node.host)
    return str(trouble.value)


def test_a_default_whose_kernel_is_lost_for_good_is_given_back_to_the_host(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    kernel = (tmp_path / f"boot/vmlinuz-{OLD_RELEASE}").read_text()
    lose_kernel(node, good)
    assert boots(node) == KNOWN_GOOD
    trial = Trial(known_good=good, pinned=True)
    again = f"until then the boot loader is the host's own again, with «{SIMPLE}»"
    told = mend(node, trial)
    assert "has its kernel no more: «trialboot observe», and «trialboot arm»" in told
    assert told.endswith(again)
    for _ in range(2):
        assert (boots(node), Grub(node.host).state().known_good) == (SIMPLE, "")
        assert again not in mend(node, trial)
    node.write(f"/boot/vmlinuz-{OLD_RELEASE}", kernel)  # its package was installed again
    node.write(f"/{TREE}/modules.dep", "")
    pin.work(node.host)
    assert boots(node) == KNOWN_GOOD
    bootsets.verify(node.host, good.fingerprint)


@pytest.mark.parametrize("make", [controlled_fedora, controlled_systemd_boot])
def test_other_loaders_give_a_lost_default_back_too(
    tmp_path: Path, make: Callable[[Path], BootHost]
) -> None:
    host = make(tmp_path).host
    menu = read_menu(host)
    assert isinstance(menu, Menu)
    own = wanted_entry(menu)
    assert not isinstance(own, Unknown)
    entry = next(known for known in menu.entries if known.kernel and known != own.entry)
    places = [host_path(host, path) for path in (entry.kernel, *entry.initrds)]
    files = [host.path(place) for place in places if isinstance(place, str)]
    good = BootSet(
        release="6",
        kernel=file_sha256(files[0]),
        initrd=file_sha256(files[1]),
        modules="",
        firmware=tree_identity(read_tree(tmp_path / "lib/firmware")),
        command_line=entry.arguments,
    )
    store.save_decision(
        host,
        Decision(trial=Trial(known_good=good), todo=(Keep(good, entry.entry), PinKnownGood(good))),
    )
    pin.work(host)
    # Not the kernel: an entry that lacks it is not even in the menu of systemd-boot.
    files[1].unlink()
    host.path(parts.boot_files(host, good.fingerprint).initrds[0]).unlink()
    store.save_decision(host, Decision(trial=Trial(known_good=good), todo=(Mend(good),)))
    with pytest.raises(VaultError, match=f"the host's own again, with «{own.entry.entry}»"):
        pin.work(host)
    menu = read_menu(host)
    assert isinstance(menu, Menu)
    found = next_entry(menu)
    assert not isinstance(found, Unknown)
    assert (found.entry.entry, menu.known_good) == (own.entry.entry, "")


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STEADY])
def test_nothing_is_given_back_while_the_hosts_own_default_is_tried_or_has_failed(
    tmp_path: Path, phase: Phase
) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    lose_kernel(node, good)
    assert "host's own again" not in mend(node, Trial(known_good=good, pinned=True, phase=phase))
    failed = Condemned(fingerprint=good.fingerprint, release="6", why="worse", at="t", reasons=())
    mend(node, Trial(known_good=good, pinned=True, condemned=(failed,)))
    assert boots(node) == KNOWN_GOOD


def test_a_default_that_is_damaged_and_there_is_left(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    lose_kernel(node, good)
    node.write(f"/boot/trialboot/{good.fingerprint}/vmlinuz", "damaged")
    assert "host's own again" not in mend(node, Trial(known_good=good, pinned=True))
    assert boots(node) == KNOWN_GOOD


def test_nothing_is_given_back_to_a_default_that_is_not_on_disk_either(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    good = pinned(node)
    lose_kernel(node, good)
    (tmp_path / f"boot/initrd.img-{NEW}").unlink()
    told = mend(node, Trial(known_good=good, pinned=True))
    assert f"names a file that is gone, and stays: «{SIMPLE}» cannot boot: /initrd.img" in told
    assert boots(node) == KNOWN_GOOD
    node.write(f"/boot/initrd.img-{NEW}", "initrd")
    node.mkconfig.host_default = "1st"
    menu = node.host.read_text("/boot/grub/grub.cfg").replace(
        "host_default='0'", "host_default='1st'"
    )
    node.write("/boot/grub/grub.cfg", menu)
    assert "digit" in mend(node, Trial(known_good=good, pinned=True))
    assert boots(node) == KNOWN_GOOD


def test_the_worker_takes_all_kept_initrds_off_the_files_of_a_new_dracut(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    perform(node, wanted)
    kept = tmp_path / "boot/trialboot" / wanted.boot_set.fingerprint / "initrd.img"
    host_file = tmp_path / "boot/initrd.img-6.1.0-56-amd64"
    decide(node, ForgetOnce())
    pin.work(node.host)
    assert kept.samefile(host_file)
    node.write("/usr/sbin/dracut", "")
    pin.work(node.host)
    host_file.write_text("what dracut wrote in place")
    bootsets.verify(node.host, wanted.boot_set.fingerprint)
    kept.unlink()
    kept.hardlink_to(host_file)
    pin.work(node.host)  # damaged by now: left alone
    assert kept.samefile(host_file)


def test_tidying_after_a_trial_leaves_what_somebody_else_boots_once(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    decide(node, wanted, PinKnownGood(wanted.boot_set))
    pin.work(node.host)
    EnvironmentBlock(node.host).set(EntryId(OLD))
    decide(node, ForgetOnce(spent=True))
    pin.work(node.host)
    assert boots(node) == OLD


def test_what_cannot_be_tidied_holds_up_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(tmp_path)
    block = tmp_path / "boot/grub/grubenv"
    block.unlink(missing_ok=True)
    block.symlink_to("/etc/passwd")
    pin.perform(node.host, Grub(node.host), ForgetOnce(spent=True), {})
    assert "something is left of the one-shot: " in capsys.readouterr().err


def test_the_worker_stops_at_the_first_action_that_is_not_its_own(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    decide(node, ForgetOnce(), Tell(WISH), BootOnce(EntryId(OLD)))
    pin.work(node.host)
    assert boots(node) == SIMPLE


def test_the_worker_forgets_the_sets_that_nobody_needs(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    old = keep(node)
    bootsets.keep(node.host, old.boot_set, node.sources())
    good, candidate, stranger = (
        replace(node.boot_set("6.12.117-amd64"), modules=name) for name in ("g", "c", "s")
    )
    for boot_set in (good, candidate, stranger):
        bootsets.keep(node.host, boot_set, node.sources("6.12.117-amd64"))
    trial = Trial(
        known_good=good,
        previous=old.boot_set,
        candidate=Choice(entry=EntryId(SIMPLE), boot_set=candidate),
    )
    store.save_decision(node.host, Decision(trial=trial, todo=(ForgetOnce(),)))
    pin.work(node.host)
    needed = {boot_set.fingerprint for boot_set in (good, old.boot_set, candidate)}
    assert set(bootsets.kept(node.host)) == needed


def test_the_worker_leaves_the_record_to_the_daemon(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    decide(node, wanted)
    before = store.load_decision(node.host)
    pin.work(node.host)
    assert store.load_decision(node.host) == before


@pytest.mark.parametrize(
    ("record", "why"), [(None, "there is no record of what to do"), ("{", "decision.json")]
)
def test_without_a_record_nothing_is_tidied_away(
    tmp_path: Path, record: str | None, why: str
) -> None:
    """It may be of a version that this worker does not know: the daemon still runs the other."""
    node = make_node(tmp_path)
    decide(node, keep(node))
    pin.work(node.host)
    kept, place = bootsets.kept(node.host), tmp_path / "var/lib/trialboot/decision.json"
    place.unlink()
    if record is not None:
        place.write_text(record)
    with pytest.raises(StoreError, match=why):
        pin.work(node.host)
    assert bootsets.kept(node.host) == kept
    assert place.exists() is (record is not None)


def test_the_worker_fails_before_it_pins_what_could_not_be_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    other = replace(node.boot_set(), kernel="0" * 64)
    decide(node, Keep(other, EntryId(OLD)), PinKnownGood(other), BootOnce(EntryId(SIMPLE)))
    with pytest.raises(VaultError):
        pin.work(node.host)
    assert not (tmp_path / "boot/grub/grubenv").exists()
    assert node.mkconfig.ran == []


def test_what_was_hashed_stays_known_over_a_run(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep_with_modules(node)
    before: dict[str, str] = {}
    read_tree(tmp_path / TREE, cache=before, wanted=is_module)
    contentcache.save(node.host, before)
    decide(node, wanted)
    pin.work(node.host)
    after: dict[str, str] = {}
    read_tree(tmp_path / TREE, cache=after, wanted=is_module)
    assert before != after
    assert after.items() <= contentcache.load(node.host).items()


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "var/lib/trialboot/content-cache.json/x").mkdir(parents=True)
    decide(node, keep(node))
    pin.work(node.host)
    assert bootsets.kept(node.host) == (node.boot_set().fingerprint,)


def test_removing_the_package_gives_autoremove_back_even_where_the_loader_refuses(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    (tmp_path / APT).mkdir(parents=True)
    wanted = keep(node)
    decide(node, wanted, PinKnownGood(wanted.boot_set))
    pin.work(node.host)
    assert (tmp_path / PROTECTED).exists()
    grubenv = tmp_path / "boot/grub/grubenv"
    grubenv.rename(tmp_path / "elsewhere")
    grubenv.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LoaderError, match="is a link"):
        release.work(node.host)
    assert not (tmp_path / PROTECTED).exists()


def test_removing_the_package_gives_the_loader_back(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    wanted = keep(node)
    decide(node, wanted, PinKnownGood(wanted.boot_set), BootOnce(EntryId(OLD)))
    pin.work(node.host)
    for _ in range(2):
        release.work(node.host)
        assert boots(node) == SIMPLE
        assert Grub(node.host).state().known_good == ""


@pytest.mark.parametrize("make", [controlled_fedora, controlled_systemd_boot])
def test_removing_the_package_gives_other_loaders_back_too(
    tmp_path: Path, make: Callable[[Path], BootHost]
) -> None:
    host = make(tmp_path).host
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    release.work(host)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    menu = read_menu(host)
    assert isinstance(menu, Menu)
    assert after == before
    assert menu.known_good == ""


def test_the_parts_of_a_unified_image_are_kept_as_files(tmp_path: Path) -> None:
    made = controlled_systemd_boot(tmp_path)
    image = image_parts(linux=b"kernel", initrd=b"initrd" * 999, cmdline=b"root=UUID=a ro\0")
    place = made.write("/boot/efi/EFI/Linux/a+3.efi", image)
    wanted = BootSet(
        release="7.0",
        kernel=hashlib.sha256(b"kernel").hexdigest(),
        initrd=hashlib.sha256(b"initrd" * 999).hexdigest(),
        modules="",
        firmware=tree_identity(read_tree(tmp_path / "lib/firmware")),
        command_line="root=UUID=a ro",
    )
    loader = SystemdBoot(made.host)
    for action in (Keep(wanted, EntryId("a.efi")), PinKnownGood(wanted)):
        pin.perform(made.host, loader, action, {})
    kept = tmp_path / "boot/efi/trialboot" / wanted.fingerprint
    assert (kept / "vmlinuz").read_bytes() == b"kernel"
    assert (kept / "initrd.img").read_bytes() == b"initrd" * 999
    assert not (tmp_path / "var/lib/trialboot/unpacked").exists()
    menu = loader.state()
    assert (menu.known_good, menu.default_spec) == (wanted.fingerprint, KNOWN_GOOD)
    ours = next(entry for entry in menu.entries if entry.entry == KNOWN_GOOD)
    assert ours.arguments.startswith("root=UUID=a ro trialboot.boot=")
    (kept / "vmlinuz").unlink()
    with pytest.raises(VaultError, match="install its kernel's package again"):  # the modules
        pin.perform(made.host, loader, Mend(wanted), {})
    assert (kept / "vmlinuz").read_bytes() == b"kernel"
    assert not (tmp_path / "var/lib/trialboot/unpacked").exists()
    other = replace(wanted, release="7.2")
    secure = f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    made.write(secure, b"\6\0\0\0\1")
    with pytest.raises(VaultError, match="Secure Boot is on"):
        pin.perform(made.host, loader, Keep(other, EntryId("a.efi")), {})
    made.write(secure, b"\6\0\0\0\0")
    place.write_bytes(image[:-1024])
    cut = replace(wanted, release="7.1")
    with pytest.raises(VaultError):
        pin.perform(made.host, loader, Keep(cut, EntryId("a.efi")), {})
    assert not (tmp_path / "var/lib/trialboot/unpacked").exists()


def test_all_initrds_of_an_entry_are_kept_and_booted_in_their_order(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    text = node.host.read_text("/boot/grub/grub.cfg")
    node.write("/boot/grub/grub.cfg", text.replace("initrd\t", "initrd\t/microcode.img "))
    files = [
        node.write("/boot/microcode.img", "microcode"),
        tmp_path / "boot/initrd.img-6.1.0-56-amd64",
    ]
    both = initrd_identity([file_sha256(file) for file in files])
    boot_set = replace(node.boot_set(), initrd=both)
    perform(node, Keep(boot_set, EntryId(OLD)))
    kept = parts.boot_files(node.host, boot_set.fingerprint)
    assert [Path(path).name for path in kept.initrds] == [
        "initrd-1.img",
        "initrd-2.img",
        "firmware.cpio",
    ]
    for path, file in zip(kept.initrds, files, strict=False):
        assert node.host.path(path).samefile(file)
    bootsets.verify(node.host, boot_set.fingerprint)
    node.host.path(kept.initrds[0]).unlink()
    perform(node, Keep(boot_set, EntryId(OLD)))
    node.host.path(kept.initrds[1]).unlink()
    with pytest.raises(VaultError, match="install its kernel's package again"):  # the modules
        perform(node, Mend(boot_set))
    bootsets.verify(node.host, boot_set.fingerprint)
    Grub(node.host).install(kept)
    assert Grub(node.host).state().known_good == boot_set.fingerprint
