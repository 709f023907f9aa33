"""The vault: what it keeps is whole, verified, and stays so."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import Node, PowerCutError, make_node, power_for
from trialboot.content import file_sha256, is_module, read_tree
from trialboot.core.bootset import (
    BootSet,
    Fingerprint,
    initrd_identity,
    plain_command_line,
    tree_identity,
)
from trialboot.core.facts import Tree, Unknown
from trialboot.errors import VaultError, VaultRoomError
from trialboot.writers.vault import bootsets, layout, moduletrees, ownfiles, parts, room
from trialboot.writers.vault.bootsets import Sources


def kept(node: Node) -> Fingerprint:
    bootsets.keep(node.host, node.boot_set(), node.sources())
    return node.boot_set().fingerprint


def folder_of(node: Node, fingerprint: Fingerprint) -> Path:
    return node.root / "boot/trialboot" / fingerprint


def leftovers(node: Node) -> list[Path]:
    return list(node.root.rglob(".*.draft"))


def test_a_boot_set_is_kept_as_links_and_read_back(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    folder = folder_of(node, fingerprint)
    assert (folder / "vmlinuz").samefile(tmp_path / "boot/vmlinuz-6.1.0-56-amd64")
    assert (folder / "initrd.img").samefile(tmp_path / "boot/initrd.img-6.1.0-56-amd64")
    assert (folder / "firmware.cpio").read_bytes().startswith(b"070701")
    firmware = tmp_path / layout.firmware_of(fingerprint).lstrip("/")
    assert (firmware / "nic/fw.bin").samefile(tmp_path / "lib/firmware/nic/fw.bin")
    assert str((firmware / "nic/link.bin").readlink()) == "fw.bin"
    assert bootsets.kept(node.host) == (fingerprint,)
    assert bootsets.load(node.host, fingerprint) == node.boot_set()
    bootsets.verify(node.host, fingerprint)
    assert leftovers(node) == []


# --- dracut writes over the old initrd ----------------------------------------------------------


def run_dracut(root: Path, content: str = "the next initrd") -> None:
    """Do what dracut ends with: cp(1) onto the file that is there."""
    with (root / "boot/initrd.img-6.1.0-56-amd64").open("w", encoding="utf-8") as file:
        file.write(content)


@pytest.mark.parametrize("place", ["usr/bin/dracut", "usr/sbin/dracut", "sbin/dracut"])
def test_where_dracut_is_a_kept_initrd_is_a_copy(tmp_path: Path, place: str) -> None:
    node = make_node(tmp_path)
    node.write(place, "")
    fingerprint = kept(node)
    run_dracut(tmp_path)
    bootsets.verify(node.host, fingerprint)
    folder = folder_of(node, fingerprint)
    assert (folder / "initrd.img").read_text() == "initrd 6.1.0-56-amd64"
    assert (folder / "vmlinuz").samefile(tmp_path / "boot/vmlinuz-6.1.0-56-amd64")


def test_an_initrd_that_was_kept_as_a_link_becomes_a_copy_when_it_is_kept_again(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    manifest = folder_of(node, fingerprint) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert ownfiles.shared_initrds(node.host, fingerprint) == ()
    node.write("usr/bin/dracut", "")
    initrd = folder_of(node, fingerprint) / "initrd.img"
    assert ownfiles.shared_initrds(node.host, fingerprint) == (initrd,)
    kept(node)
    assert ownfiles.shared_initrds(node.host, fingerprint) == ()
    assert manifest.stat().st_mtime_ns == before  # not kept anew
    run_dracut(tmp_path)
    bootsets.verify(node.host, fingerprint)
    assert leftovers(node) == []


def test_an_initrd_that_dracut_has_written_over_is_not_copied(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    node.write("usr/bin/dracut", "")
    run_dracut(tmp_path)
    with pytest.raises(VaultError, match=r"initrd\.img is not what .* holds: it changed"):
        ownfiles.own_initrds(node.host, fingerprint)
    assert len(ownfiles.shared_initrds(node.host, fingerprint)) == 1
    assert leftovers(node) == []


def test_room_is_looked_at_for_initrds_that_must_be_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    node.write("usr/bin/dracut", "")
    free = 2 << 20
    os.truncate(tmp_path / "boot/initrd.img-6.12.117-amd64", free)
    status = os.statvfs_result((4096, 1, free, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    ownfiles.own_initrds(node.host, fingerprint)
    new = node.boot_set("6.12.117-amd64")
    with pytest.raises(VaultRoomError, match="the vault needs 3 MiB, /boot has 2 MiB free"):
        bootsets.keep(node.host, new, node.sources("6.12.117-amd64"))
    node.host.path("/usr/bin/dracut").unlink()
    monkeypatch.undo()
    bootsets.keep(node.host, new, node.sources("6.12.117-amd64"))
    node.write("usr/bin/dracut", "")
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    with pytest.raises(VaultRoomError, match="the vault needs 3 MiB"):
        ownfiles.own_initrds(node.host, new.fingerprint)
    bootsets.verify(node.host, new.fingerprint)


def test_keeping_again_touches_nothing(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    before = (folder_of(node, fingerprint) / "manifest.json").stat().st_mtime_ns
    kept(node)
    assert (folder_of(node, fingerprint) / "manifest.json").stat().st_mtime_ns == before


def test_packages_may_replace_what_is_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    for path in ("boot/vmlinuz-6.1.0-56-amd64", "lib/firmware/nic/fw.bin"):
        new = node.write(f"{path}.dpkg-new", "new")
        new.replace(tmp_path / path)
    bootsets.verify(node.host, fingerprint)


def test_a_kernel_named_by_a_link_is_kept_itself(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "boot/vmlinuz").symlink_to("vmlinuz-6.1.0-56-amd64")
    bootsets.keep(node.host, node.boot_set(), replace(node.sources(), kernel="/boot/vmlinuz"))
    assert not (folder_of(node, node.boot_set().fingerprint) / "vmlinuz").is_symlink()


def test_a_boot_set_may_lack_initrd_and_firmware(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set = replace(node.boot_set(), initrd="", firmware="")
    sources = Sources(kernel="/boot/vmlinuz-6.1.0-56-amd64")
    bootsets.keep(node.host, boot_set, sources)
    bootsets.verify(node.host, boot_set.fingerprint)
    names = {path.name for path in folder_of(node, boot_set.fingerprint).iterdir()}
    assert names == {"vmlinuz", "manifest.json"}


def test_that_a_host_has_no_firmware_is_kept_and_bound_too(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    none = replace(node.boot_set(), firmware=tree_identity(Tree(files=(), newest_change=0)))
    shutil.rmtree(tmp_path / "lib/firmware")
    bootsets.keep(node.host, none, node.sources())
    bootsets.verify(node.host, none.fingerprint)
    files = parts.boot_files(node.host, none.fingerprint)
    assert f"trialboot.firmware={layout.firmware_of(none.fingerprint)}" in files.words


@pytest.mark.parametrize(
    ("part", "why"),
    [("kernel", "vmlinuz"), ("initrd", "initrd.img"), ("firmware", "firmware tree")],
)
def test_what_changed_since_it_was_read_is_not_kept(tmp_path: Path, part: str, why: str) -> None:
    node = make_node(tmp_path)
    other = replace(node.boot_set(), **{part: "0" * 64})
    with pytest.raises(VaultError, match=why):
        bootsets.keep(node.host, other, node.sources())
    assert bootsets.kept(node.host) == ()
    assert leftovers(node) == []


def overwrite(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("in place")


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("boot/trialboot/{}/vmlinuz", overwrite, "vmlinuz"),
        ("boot/trialboot/{}/initrd.img", Path.unlink, "initrd.img"),
        ("boot/trialboot/{}/firmware.cpio", overwrite, "firmware.cpio"),
        ("boot/trialboot/{}/manifest.json", overwrite, "manifest"),
        ("boot/trialboot/{}/manifest.json", Path.unlink, "not kept"),
        ("usr/lib/trialboot/kept/{}/firmware/nic/fw.bin", Path.unlink, "firmware tree"),
    ],
)
def test_damage_is_found_and_mended(
    tmp_path: Path, name: str, damage: Callable[[Path], None], why: str
) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    boot_set, place = node.boot_set(), tmp_path / name.format(fingerprint)
    content = place.read_bytes()
    damage(place)
    with pytest.raises(VaultError, match=why):
        bootsets.verify(node.host, fingerprint)
    if damage is overwrite and "vmlinuz" in name:
        node.write("/boot/vmlinuz-6.1.0-56-amd64.new", content.decode()).replace(
            tmp_path / "boot/vmlinuz-6.1.0-56-amd64"
        )
    bootsets.keep(node.host, boot_set, node.sources())
    bootsets.verify(node.host, fingerprint)


def test_a_manifest_of_another_boot_set_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    folder = folder_of(node, kept(node))
    other = folder.with_name("0" * 64)
    folder.rename(other)
    with pytest.raises(VaultError, match="another boot set"):
        bootsets.verify(node.host, Fingerprint(other.name))


def test_a_manifest_of_another_format_is_unknown(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    manifest = folder_of(node, fingerprint) / "manifest.json"
    manifest.write_text(json.dumps({"format": 2}), encoding="utf-8")
    assert isinstance(bootsets.load(node.host, fingerprint), Unknown)


def test_a_missing_source_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(VaultError, match="gone"):
        bootsets.keep(node.host, node.boot_set(), replace(node.sources(), initrds=("/boot/gone",)))
    assert leftovers(node) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_what_cannot_be_linked_is_copied_if_there_is_room(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    other = Path(f"/dev/shm/trialboot-test-{os.getpid()}")
    other.write_text("kernel 6.1.0-56-amd64", encoding="utf-8")
    try:
        (tmp_path / "boot/far").symlink_to(other)
        sources = replace(node.sources(), kernel="/boot/far")
        bootsets.keep(node.host, node.boot_set(), sources)
        bootsets.verify(node.host, node.boot_set().fingerprint)
        os.truncate(other, 1 << 50)
        unlike = replace(node.boot_set(), modules="other")
        with pytest.raises(VaultError, match=r"the vault needs \d+ MiB, /boot has \d+ MiB free"):
            bootsets.keep(node.host, unlike, sources)
    except OSError as error:
        pytest.skip(f"a file so large cannot be made here: {error}")
    finally:
        other.unlink()
    assert leftovers(node) == []


def test_only_what_packages_no_longer_have_is_the_vaults_own(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    kept(node)
    beside = room.taken(node.host)  # the second initrd and the manifest
    new = node.write("lib/firmware/nic/fw.bin.dpkg-new", "new")
    new.replace(tmp_path / "lib/firmware/nic/fw.bin")
    assert room.taken(node.host) - beside == 4096


def test_copies_beyond_what_the_vault_may_take_are_refused(tmp_path: Path) -> None:
    host = make_node(tmp_path).host
    room.check_share(host, room.MOST)
    with pytest.raises(VaultRoomError, match=r"may take 4096 MiB: it has 0 MiB, and 4097 MiB"):
        room.check_share(host, room.MOST + 1)


def test_what_the_menu_boots_is_not_dropped(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    node.write("/boot/trialboot/known-good.sh", f"FINGERPRINT='{fingerprint}'\n")
    with pytest.raises(VaultError, match="known-good"):
        bootsets.drop(node.host, fingerprint)
    (tmp_path / "boot/trialboot/known-good.sh").unlink()
    for _ in range(2):
        bootsets.drop(node.host, fingerprint)
    assert bootsets.kept(node.host) == ()
    assert list((tmp_path / "usr/lib/trialboot/kept").iterdir()) == []
    assert (tmp_path / "lib/firmware/nic/fw.bin").exists()


def test_what_is_not_kept_is_dropped_already(tmp_path: Path) -> None:
    bootsets.drop(make_node(tmp_path).host, Fingerprint("0" * 64))


@pytest.mark.parametrize("effects", range(40))
def test_a_power_cut_leaves_a_whole_boot_set_or_none(tmp_path: Path, effects: int) -> None:
    node = make_node(tmp_path)
    boot_set = node.boot_set()
    try:
        with power_for(effects, tmp_path):
            bootsets.keep(node.host, boot_set, node.sources())
            bootsets.drop(node.host, boot_set.fingerprint)
    except PowerCutError:
        for fingerprint in bootsets.kept(node.host):
            bootsets.verify(node.host, fingerprint)
    kept(node)
    bootsets.verify(node.host, boot_set.fingerprint)
    assert leftovers(node) == []


# --- the module tree ----------------------------------------------------------------------------

RELEASE = "6.1.0-56-amd64"
TREE = f"lib/modules/{RELEASE}"
MODULES = {
    "kernel/net/toy.ko": "module toy",
    "kernel/fs/squash.ko.xz": "module squash",
    "updates/dkms/own.ko.zst": "module own",
    "modules.dep": "kernel/net/toy.ko:\nkernel/fs/squash.ko.xz:\nupdates/dkms/own.ko.zst:\n",
    "modules.builtin": "kernel/fs/ext4.ko\n",
}


def with_modules(node: Node) -> tuple[BootSet, Sources]:
    for name, content in MODULES.items():
        node.write(f"{TREE}/{name}", content)
    (node.root / TREE / "build").symlink_to(f"/usr/src/linux-headers-{RELEASE}")
    tree = read_tree(node.root / TREE, wanted=is_module)
    boot_set = replace(node.boot_set(), modules=tree_identity(tree))
    return boot_set, replace(node.sources(), modules=f"/{TREE}")


def kept_with_modules(node: Node) -> tuple[BootSet, Path]:
    boot_set, sources = with_modules(node)
    bootsets.keep(node.host, boot_set, sources)
    return boot_set, node.root / layout.modules_of(boot_set).lstrip("/")


def content_of(tree: Path) -> dict[str, str]:
    files = (path for path in tree.rglob("*") if path.is_file())
    return {path.relative_to(tree).as_posix(): path.read_text() for path in files}


def test_the_module_tree_is_kept_whole_as_links(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    assert content_of(tree) == MODULES
    assert (tree / "kernel/net/toy.ko").samefile(tmp_path / TREE / "kernel/net/toy.ko")
    assert (tree / "modules.dep").samefile(tmp_path / TREE / "modules.dep")
    assert str((tree / "build").readlink()) == f"/usr/src/linux-headers-{RELEASE}"
    bootsets.verify(node.host, boot_set.fingerprint)
    assert leftovers(node) == []


def test_folders_are_kept_with_their_modes(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    before = os.umask(0o077)
    try:
        boot_set, sources = with_modules(node)
        (tmp_path / TREE / "kernel").chmod(0o755)
        bootsets.keep(node.host, boot_set, sources)
    finally:
        os.umask(before)
    kept_tree = tmp_path / layout.modules_of(boot_set).lstrip("/")
    assert (kept_tree / "kernel").stat().st_mode & 0o777 == 0o755


def test_a_module_tree_that_changed_since_it_was_read_is_not_kept(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    node.write(f"{TREE}/kernel/net/new.ko", "not in the boot set")
    with pytest.raises(VaultError, match="module tree"):
        bootsets.keep(node.host, boot_set, sources)
    assert bootsets.kept(node.host) == ()
    assert leftovers(node) == []


@pytest.mark.parametrize("damage", [overwrite, Path.unlink])
def test_a_damaged_kept_module_is_found(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    damage(tree / "kernel/net/toy.ko")
    with pytest.raises(VaultError, match="module tree"):
        bootsets.verify(node.host, boot_set.fingerprint)


def test_what_depmod_made_is_no_part_of_the_identity(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    overwrite(tree / "modules.dep")
    bootsets.verify(node.host, boot_set.fingerprint)


def test_a_boot_set_that_was_kept_before_modules_were_is_still_valid(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    manifest = folder_of(node, fingerprint) / "manifest.json"
    old = json.loads(manifest.read_text())
    del old["modules"]
    manifest.write_text(json.dumps(old))
    bootsets.verify(node.host, fingerprint)
    bootsets.keep(node.host, node.boot_set(), node.sources())
    assert bootsets.load(node.host, fingerprint) == node.boot_set()


def test_a_boot_set_without_firmware_has_its_modules_bound_all_the_same(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    boot_set = replace(boot_set, firmware="")
    bootsets.keep(node.host, boot_set, replace(sources, firmware=""))
    found = parts.boot_files(node.host, boot_set.fingerprint)
    assert [Path(path).name for path in found.initrds] == ["initrd.img", "firmware.cpio"]
    assert found.words == (
        f"trialboot.boot={boot_set.fingerprint}",
        f"trialboot.modules={layout.modules_of(boot_set)}",
    )
    assert plain_command_line(found.command_line) == boot_set.command_line
    bootsets.verify(node.host, boot_set.fingerprint)


def test_without_an_initrd_nothing_is_bound(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    boot_set = replace(boot_set, initrd="")
    bootsets.keep(node.host, boot_set, replace(sources, initrds=()))
    found = parts.boot_files(node.host, boot_set.fingerprint)
    assert (found.initrds, found.words) == ((), (f"trialboot.boot={boot_set.fingerprint}",))


def test_what_was_kept_before_several_initrds_were_is_still_valid(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    manifest = folder_of(node, fingerprint) / "manifest.json"
    now = json.loads(manifest.read_text())
    words = parts.boot_files(node.host, fingerprint)
    manifest.write_text(
        json.dumps({key: now[key] for key in now if key not in {"initrds", "firmware"}})
    )
    bootsets.verify(node.host, fingerprint)
    assert parts.boot_files(node.host, fingerprint) == words


@pytest.mark.parametrize("part", [0, 1])
def test_each_of_several_initrds_is_verified(tmp_path: Path, part: int) -> None:
    node = make_node(tmp_path)
    paths = ("/boot/microcode.img", f"/boot/initrd.img-{RELEASE}")
    node.write(paths[0], "microcode")
    both = initrd_identity([file_sha256(tmp_path / path.lstrip("/")) for path in paths])
    boot_set = replace(node.boot_set(), initrd=both)
    bootsets.keep(node.host, boot_set, replace(node.sources(), initrds=paths))
    bootsets.verify(node.host, boot_set.fingerprint)
    turned = replace(node.sources(), initrds=paths[::-1])
    with pytest.raises(VaultError, match=r"initrd-1.img \+ initrd-2.img is not what"):
        bootsets.keep(node.host, replace(boot_set, kernel=boot_set.kernel, modules="x"), turned)
    overwrite(tmp_path / paths[part].lstrip("/"))
    with pytest.raises(VaultError, match=f"initrd-{part + 1}.img is not what"):
        bootsets.verify(node.host, boot_set.fingerprint)


@pytest.mark.parametrize("release", ["../../etc", "..", ".hidden", "a/b"])
def test_a_release_that_is_a_path_is_refused(tmp_path: Path, release: str) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    with pytest.raises(VaultError, match="no name of a module tree"):
        bootsets.keep(node.host, replace(boot_set, release=release), sources)
    assert leftovers(node) == []


def test_dropping_forgets_the_modules_too(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    bootsets.drop(node.host, boot_set.fingerprint)
    assert not tree.exists()
    assert content_of(tmp_path / TREE) == MODULES


# --- what was hashed is not hashed again --------------------------------------------------------


def hashed(node: Node) -> dict[str, str]:
    """Give the cache as a snapshot leaves it."""
    cache: dict[str, str] = {}
    read_tree(node.root / "lib/firmware", cache=cache)
    read_tree(node.root / TREE, cache=cache, wanted=is_module)
    read_tree(node.root / "boot", cache=cache, wanted=lambda name: name.endswith(RELEASE))
    return cache


def test_what_the_cache_knows_stays_known_over_keep_and_drop(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    cache = hashed(node)
    contents = sorted(cache.values())
    bootsets.keep(node.host, boot_set, sources, cache)
    assert sorted(cache.values()) == contents
    assert hashed(node) == cache  # the same keys: a snapshot hashes nothing
    bootsets.drop(node.host, boot_set.fingerprint, cache)
    assert sorted(cache.values()) == contents
    assert hashed(node) == cache


def test_what_was_read_of_a_packed_module_stays_known_as_well(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    cache = {f"module:{key}": "{}" for key in hashed(node)}
    bootsets.keep(node.host, boot_set, sources, cache)
    assert {f"module:{key}" for key in hashed(node)} <= cache.keys()


def test_nothing_is_kept_by_a_cache_that_lies(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    cache = dict.fromkeys(hashed(node), "0" * 64)
    with pytest.raises(VaultError, match="firmware tree"):
        bootsets.keep(node.host, boot_set, sources, cache)


def test_a_file_written_in_place_is_read_again_whatever_the_cache_says(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    cache = hashed(node)
    overwrite(tmp_path / TREE / "kernel/net/toy.ko")
    with pytest.raises(VaultError, match="module tree"):
        bootsets.keep(node.host, boot_set, sources, cache)


def test_verifying_reads_every_byte(tmp_path: Path) -> None:
    """A disk that returns other bytes changes no time stamp."""
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    bootsets.keep(node.host, boot_set, sources, hashed(node))
    kept_module = tmp_path / layout.modules_of(boot_set).lstrip("/") / "kernel/net/toy.ko"
    status = kept_module.stat()
    kept_module.write_text("m0dule toy")
    os.utime(kept_module, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VaultError, match="module tree"):
        bootsets.verify(node.host, boot_set.fingerprint)


# --- putting the modules back -------------------------------------------------------------------


def remove_kernel(root: Path) -> None:
    """Do what dpkg does to a removed kernel: the index stays, and what dpkg does not know."""
    shutil.rmtree(root / TREE / "kernel")


def test_where_nothing_is_missing_nothing_is_done(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    (tmp_path / TREE / "build").unlink()  # the headers' package went: no boot needs it
    assert moduletrees.missing_modules(node.host, boot_set) == ()
    assert moduletrees.restore_modules(node.host, boot_set) == ""
    assert node.mkconfig.ran == []


def test_a_purged_tree_is_put_back_whole(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    shutil.rmtree(tmp_path / TREE)
    assert set(moduletrees.missing_modules(node.host, boot_set)) == set(MODULES)
    told = moduletrees.restore_modules(node.host, boot_set)
    assert told == f"/{TREE} was gone and is put back: 3 modules"
    assert content_of(tmp_path / TREE) == MODULES
    assert (tmp_path / TREE / "modules.dep").samefile(tree / "modules.dep")
    assert moduletrees.restore_modules(node.host, boot_set) == ""
    assert node.mkconfig.ran == []
    assert leftovers(node) == []


def test_a_removed_tree_is_filled_up_around_what_is_there(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    remove_kernel(tmp_path)
    told = moduletrees.restore_modules(node.host, boot_set)
    assert told == f"2 files were gone from /{TREE} and are put back"
    assert content_of(tmp_path / TREE) == MODULES
    assert node.mkconfig.ran == []  # modules.dep was the kept one still


def test_a_module_that_was_built_for_an_installed_kernel_may_be_removed(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    (tmp_path / TREE / "updates/dkms/own.ko.zst").unlink()
    assert moduletrees.missing_modules(node.host, boot_set) == ()
    (tmp_path / f"boot/vmlinuz-{RELEASE}").unlink()
    assert moduletrees.missing_modules(node.host, boot_set) == ("updates/dkms/own.ko.zst",)
    moduletrees.restore_modules(node.host, boot_set)
    assert content_of(tmp_path / TREE) == MODULES


def test_an_index_that_was_made_without_the_modules_is_made_anew(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    (tmp_path / TREE / "kernel/net/toy.ko").unlink()
    index = tmp_path / TREE / "modules.dep.new"
    index.write_text("kernel/fs/squash.ko.xz:\n")
    index.replace(tmp_path / TREE / "modules.dep")
    told = moduletrees.restore_modules(node.host, boot_set)
    assert told == f"1 files were gone from /{TREE} and are put back"
    assert node.mkconfig.ran == ["depmod"]


def test_depmod_that_fails_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path, refuse="depmod")
    boot_set, _ = kept_with_modules(node)
    (tmp_path / TREE / "kernel/net/toy.ko").unlink()
    new = node.write(f"{TREE}/modules.dep.new", "")
    new.replace(tmp_path / TREE / "modules.dep")
    with pytest.raises(VaultError, match="depmod"):
        moduletrees.restore_modules(node.host, boot_set)


def test_what_a_package_brought_is_not_written_over(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    new = node.write(f"{TREE}/kernel/net/toy.ko.dpkg-new", "a newer build")
    new.replace(tmp_path / TREE / "kernel/net/toy.ko")
    (tmp_path / TREE / "kernel/fs/squash.ko.xz").unlink()
    told = moduletrees.restore_modules(node.host, boot_set)
    assert "others there are not those of" in told
    assert content_of(tmp_path / TREE) == {**MODULES, "kernel/net/toy.ko": "a newer build"}
    assert (tree / "kernel/net/toy.ko").read_text() == "module toy"


def test_a_damaged_kept_tree_is_not_put_back(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    shutil.rmtree(tmp_path / TREE)
    overwrite(tree / "kernel/net/toy.ko")
    with pytest.raises(VaultError, match="is not what"):
        moduletrees.restore_modules(node.host, boot_set)
    assert not (tmp_path / TREE).exists()
    assert leftovers(node) == []


def test_modules_that_were_not_kept_cannot_be_put_back(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set = node.boot_set()
    kept(node)
    node.write(f"{TREE}/modules.dep", "")
    assert moduletrees.restore_modules(node.host, boot_set) == ""
    shutil.rmtree(tmp_path / TREE)
    with pytest.raises(VaultError, match="install its kernel's package again"):
        moduletrees.restore_modules(node.host, boot_set)


# --- what was put back is taken away again ------------------------------------------------------

DRAFTS = (f"lib/modules/.{RELEASE}.draft", f"lib/modules/.{RELEASE}.package-hook")
FOREIGN = "lib/modules/.6.1.0-own.draft"


def leave_drafts(node: Node) -> None:
    """Leave what a killed worker and a killed hook leave, and a folder of somebody else."""
    for draft in (*DRAFTS, FOREIGN):
        node.write(f"{draft}/kernel/half.ko", "half")


def drafts(node: Node) -> list[str]:
    return [draft for draft in (*DRAFTS, FOREIGN) if (node.root / draft).exists()]


@pytest.mark.parametrize("missing", [True, False])
def test_drafts_of_those_who_were_killed_are_swept(tmp_path: Path, *, missing: bool) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    leave_drafts(node)
    if missing:
        shutil.rmtree(tmp_path / TREE)
    assert bool(moduletrees.restore_modules(node.host, boot_set)) is missing
    assert drafts(node) == [FOREIGN]


def test_with_a_boot_set_the_drafts_of_its_modules_go(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    leave_drafts(node)
    bootsets.drop(node.host, boot_set.fingerprint)
    assert drafts(node) == [FOREIGN]


def test_a_draft_that_cannot_be_swept_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    (tmp_path / DRAFTS[0]).write_text("no folder")
    with pytest.raises(VaultError, match="Not a directory"):
        moduletrees.restore_modules(node.host, boot_set)


def test_a_tree_that_cannot_be_put_back_leaves_no_draft(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, tree = kept_with_modules(node)
    shutil.rmtree(tmp_path / TREE)
    (tree / "kernel/net/toy.ko").write_text("damaged")
    with pytest.raises(VaultError, match="is not what"):
        moduletrees.restore_modules(node.host, boot_set)
    assert drafts(node) == []


LIST = f"var/lib/dpkg/info/linux-image-{RELEASE}.list"


def restored(node: Node) -> BootSet:
    """Purge the kernel of a kept boot set, and put its modules back."""
    boot_set, _ = kept_with_modules(node)
    shutil.rmtree(node.root / TREE)
    (node.root / f"boot/vmlinuz-{RELEASE}").unlink()
    node.write("/proc/sys/kernel/osrelease", "6.12.117-amd64\n")
    moduletrees.restore_modules(node.host, boot_set)
    return boot_set


def test_a_tree_that_was_put_back_goes_with_its_boot_set(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set = restored(node)
    node.write(LIST, "/.\n/lib\n/lib/modules\n")  # removed, and its configuration left
    bootsets.drop(node.host, boot_set.fingerprint)
    assert not (tmp_path / TREE).exists()
    bootsets.drop(node.host, boot_set.fingerprint)


def test_a_tree_that_packages_brought_stays(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    (tmp_path / f"boot/vmlinuz-{RELEASE}").unlink()
    node.write("/proc/sys/kernel/osrelease", "6.12.117-amd64\n")
    bootsets.drop(node.host, boot_set.fingerprint)
    assert content_of(tmp_path / TREE) == MODULES


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("proc/sys/kernel/osrelease", f"{RELEASE}\n"),
        (f"boot/vmlinuz-{RELEASE}", "installed again"),
        (LIST, f"/.\n/lib/modules/{RELEASE}/kernel/net/toy.ko\n"),
        (
            f"var/lib/dpkg/info/linux-modules-{RELEASE}:amd64.list",
            f"/usr/{TREE}/modules.builtin\n",
        ),
        (f"usr/lib/trialboot/kept/{'b' * 64}/modules/{RELEASE}/modules.dep", "another boot set"),
    ],
)
def test_a_tree_that_is_needed_still_stays(tmp_path: Path, path: str, content: str) -> None:
    node = make_node(tmp_path)
    boot_set = restored(node)
    node.write(path, content)
    bootsets.drop(node.host, boot_set.fingerprint)
    assert content_of(tmp_path / TREE) == MODULES


def test_a_kernel_that_cannot_be_named_keeps_everything(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set = restored(node)
    (tmp_path / "proc/sys/kernel/osrelease").unlink()
    with pytest.raises(VaultError, match="osrelease"):
        bootsets.drop(node.host, boot_set.fingerprint)
    assert content_of(tmp_path / TREE) == MODULES


@pytest.mark.parametrize("effects", range(25))
@pytest.mark.parametrize("remove", ["purge", "remove"])
def test_a_power_cut_while_they_are_put_back_is_mended_the_next_time(
    tmp_path: Path, effects: int, remove: str
) -> None:
    node = make_node(tmp_path)
    boot_set, _ = kept_with_modules(node)
    gone = tmp_path / TREE if remove == "purge" else tmp_path / TREE / "kernel"
    shutil.rmtree(gone)
    with suppress(PowerCutError), power_for(effects, tmp_path):
        moduletrees.restore_modules(node.host, boot_set)
    moduletrees.restore_modules(node.host, boot_set)
    assert content_of(tmp_path / TREE) == MODULES
    assert leftovers(node) == []


@pytest.mark.parametrize("effects", range(0, 60, 2))
def test_a_power_cut_leaves_a_whole_boot_set_with_modules_or_none(
    tmp_path: Path, effects: int
) -> None:
    node = make_node(tmp_path)
    boot_set, sources = with_modules(node)
    with suppress(PowerCutError), power_for(effects, tmp_path):
        bootsets.keep(node.host, boot_set, sources, hashed(node))
    for fingerprint in bootsets.kept(node.host):
        bootsets.verify(node.host, fingerprint)
    bootsets.keep(node.host, boot_set, sources)
    bootsets.verify(node.host, boot_set.fingerprint)
    assert leftovers(node) == []
