"""The vault: what it keeps is whole, verified, and stays so."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import Node, PowerCutError, make_node, power_for
from trialboot.core.bootset import Fingerprint
from trialboot.core.facts import Unknown
from trialboot.errors import VaultError
from trialboot.writers import vault
from trialboot.writers.vault import Sources


def kept(node: Node) -> Fingerprint:
    vault.keep(node.host, node.boot_set(), node.sources())
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
    firmware = tmp_path / vault.firmware_of(fingerprint).lstrip("/")
    assert (firmware / "nic/fw.bin").samefile(tmp_path / "lib/firmware/nic/fw.bin")
    assert str((firmware / "nic/link.bin").readlink()) == "fw.bin"
    assert vault.kept(node.host) == (fingerprint,)
    assert vault.load(node.host, fingerprint) == node.boot_set()
    vault.verify(node.host, fingerprint)
    assert leftovers(node) == []


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
    vault.verify(node.host, fingerprint)


def test_a_kernel_named_by_a_link_is_kept_itself(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "boot/vmlinuz").symlink_to("vmlinuz-6.1.0-56-amd64")
    vault.keep(node.host, node.boot_set(), replace(node.sources(), kernel="/boot/vmlinuz"))
    assert not (folder_of(node, node.boot_set().fingerprint) / "vmlinuz").is_symlink()


def test_a_boot_set_may_lack_initrd_and_firmware(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot_set = replace(node.boot_set(), initrd="", firmware="")
    sources = Sources(kernel="/boot/vmlinuz-6.1.0-56-amd64", initrd="", firmware="")
    vault.keep(node.host, boot_set, sources)
    vault.verify(node.host, boot_set.fingerprint)
    names = {path.name for path in folder_of(node, boot_set.fingerprint).iterdir()}
    assert names == {"vmlinuz", "manifest.json"}


@pytest.mark.parametrize(
    ("part", "why"),
    [("kernel", "vmlinuz"), ("initrd", "initrd.img"), ("firmware", "firmware tree")],
)
def test_what_changed_since_it_was_read_is_not_kept(tmp_path: Path, part: str, why: str) -> None:
    node = make_node(tmp_path)
    other = replace(node.boot_set(), **{part: "0" * 64})
    with pytest.raises(VaultError, match=why):
        vault.keep(node.host, other, node.sources())
    assert vault.kept(node.host) == ()
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
        vault.verify(node.host, fingerprint)
    if damage is overwrite and "vmlinuz" in name:
        node.write("/boot/vmlinuz-6.1.0-56-amd64.new", content.decode()).replace(
            tmp_path / "boot/vmlinuz-6.1.0-56-amd64"
        )
    vault.keep(node.host, boot_set, node.sources())
    vault.verify(node.host, fingerprint)


def test_a_manifest_of_another_boot_set_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    folder = folder_of(node, kept(node))
    other = folder.with_name("0" * 64)
    folder.rename(other)
    with pytest.raises(VaultError, match="another boot set"):
        vault.verify(node.host, Fingerprint(other.name))


def test_a_manifest_of_another_format_is_unknown(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    manifest = folder_of(node, fingerprint) / "manifest.json"
    manifest.write_text(json.dumps({"format": 2}), encoding="utf-8")
    assert isinstance(vault.load(node.host, fingerprint), Unknown)


def test_a_missing_source_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(VaultError, match="gone"):
        vault.keep(node.host, node.boot_set(), replace(node.sources(), initrd="/boot/gone"))
    assert leftovers(node) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_what_cannot_be_linked_is_copied_if_there_is_room(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    other = Path(f"/dev/shm/trialboot-test-{os.getpid()}")
    other.write_text("kernel 6.1.0-56-amd64", encoding="utf-8")
    try:
        (tmp_path / "boot/far").symlink_to(other)
        sources = replace(node.sources(), kernel="/boot/far")
        vault.keep(node.host, node.boot_set(), sources)
        vault.verify(node.host, node.boot_set().fingerprint)
        os.truncate(other, 1 << 50)
        unlike = replace(node.boot_set(), modules="other")
        with pytest.raises(VaultError, match=r"needs \d+ MiB, /boot has \d+ MiB free"):
            vault.keep(node.host, unlike, sources)
    except OSError as error:
        pytest.skip(f"a file so large cannot be made here: {error}")
    finally:
        other.unlink()
    assert leftovers(node) == []


def test_what_the_menu_boots_is_not_dropped(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    fingerprint = kept(node)
    node.write("/boot/trialboot/known-good.sh", f"FINGERPRINT='{fingerprint}'\n")
    with pytest.raises(VaultError, match="known-good"):
        vault.drop(node.host, fingerprint)
    (tmp_path / "boot/trialboot/known-good.sh").unlink()
    for _ in range(2):
        vault.drop(node.host, fingerprint)
    assert vault.kept(node.host) == ()
    assert list((tmp_path / "usr/lib/trialboot/kept").iterdir()) == []
    assert (tmp_path / "lib/firmware/nic/fw.bin").exists()


@pytest.mark.parametrize("effects", range(40))
def test_a_power_cut_leaves_a_whole_boot_set_or_none(tmp_path: Path, effects: int) -> None:
    node = make_node(tmp_path)
    boot_set = node.boot_set()
    try:
        with power_for(effects, tmp_path):
            vault.keep(node.host, boot_set, node.sources())
            vault.drop(node.host, boot_set.fingerprint)
    except PowerCutError:
        for fingerprint in vault.kept(node.host):
            vault.verify(node.host, fingerprint)
    kept(node)
    vault.verify(node.host, boot_set.fingerprint)
    assert leftovers(node) == []
