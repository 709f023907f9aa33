"""The one-shot in a block of our own, on a folder that looks like a host with all on RAID."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import (
    OLD,
    SIMPLE,
    Node,
    PowerCutError,
    make_node,
    power_for,
    refused_below,
)
from trialboot.bootfiles import read_menu
from trialboot.core.actions import Secure
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grub import format_environment, parse_environment
from trialboot.core.menu import KNOWN_GOOD, OWN_BLOCK, Carrier, Menu, Resolved, next_entry
from trialboot.core.protection import Level
from trialboot.errors import LoaderError
from trialboot.loaders.grub import Grub
from trialboot.loaders.oneshots import carrier_for
from trialboot.loaders.own_block import OwnBlock
from trialboot.workers import pin
from trialboot.writers.vault import bootsets, parts

PLAIN = "/boot/plain"
MOUNTS = """\
22 1 9:0 / / rw - ext4 /dev/md0 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:1 / /boot/plain rw - ext2 /dev/sda1 rw
"""
TRIAL = "boot/plain/trialboot/trial.env"


def raid_node(root: Path, mounts: str = MOUNTS) -> Node:
    node = make_node(root)
    node.write("/proc/self/mountinfo", mounts)
    node.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz ro panic=10\n")
    node.write("/run/udev/data/b8:1", "E:ID_FS_UUID=0b7a4f6e-1111-4222-8333-944455556666\n")
    node.write("/sys/devices/sda/sda1/partition", "1\n")
    node.write("/sys/devices/md0/md/level", "raid1\n")
    (root / "boot/plain").mkdir()
    (root / "sys/dev/block/8:1").symlink_to(root / "sys/devices/sda/sda1")
    (root / "sys/dev/block/9:0").symlink_to(root / "sys/devices/md0")
    return node


def pinned(root: Path) -> tuple[Node, Grub]:
    node = raid_node(root)
    grub = Grub(node.host)
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    grub.make_default(KNOWN_GOOD)
    return node, grub


def reached(node: Node) -> str:
    menu = read_menu(node.host)
    assert isinstance(menu, Menu), menu
    answer = next_entry(menu)
    assert isinstance(answer, Resolved), answer
    return answer.entry.entry


def test_a_candidate_is_booted_once(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    for _ in range(2):
        grub.boot_once(EntryId(SIMPLE))
    assert grub.state().carrier == Carrier(OWN_BLOCK, PLAIN)
    assert parse_environment((tmp_path / TRIAL).read_bytes()) == {"trialboot_once": SIMPLE}
    assert reached(node) == SIMPLE
    (tmp_path / TRIAL).write_bytes(format_environment({"trialboot_once": ""}))
    assert reached(node) == KNOWN_GOOD


def test_grub_learns_of_the_file_system_from_the_known_good(tmp_path: Path) -> None:
    pinned(tmp_path)
    script = (tmp_path / "boot/trialboot/known-good.sh").read_text()
    assert "CARRIER=own-block:/boot/plain\n" in script
    assert "CARRIER_UUID=0b7a4f6e-1111-4222-8333-944455556666\n" in script


def test_it_is_forgotten_and_removed(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(OLD))
    for _ in range(2):
        grub.forget_once()
        assert reached(node) == KNOWN_GOOD
    grub.boot_once(EntryId(OLD))
    for _ in range(2):
        grub.remove()
    assert not (tmp_path / TRIAL).parent.exists()
    assert grub.state().carrier is None


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(OLD))
    node.write("/boot/plain/trialboot/of-the-operator", "x")
    grub.remove()
    assert [path.name for path in (tmp_path / TRIAL).parent.iterdir()] == ["of-the-operator"]


def test_a_host_whose_carrier_changes_gets_another_menu(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    node.write("/proc/self/mountinfo", MOUNTS.replace("9:0", "8:1"))
    boot_set = node.boot_set()
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    assert grub.state().carrier is None
    grub.boot_once(EntryId(SIMPLE))
    assert reached(node) == SIMPLE
    assert not (tmp_path / TRIAL).exists()


def test_a_partition_that_is_mounted_later_is_used_for_the_next_trial(tmp_path: Path) -> None:
    node = raid_node(tmp_path, MOUNTS.replace("/boot/plain", "/srv"))
    grub = Grub(node.host)
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    grub.make_default(KNOWN_GOOD)
    assert grub.state().carrier is None
    before = (tmp_path / "boot/grub/grubenv").read_bytes()
    with pytest.raises(LoaderError, match="cannot write its environment block through md"):
        grub.boot_once(EntryId(SIMPLE))
    assert (tmp_path / "boot/grub/grubenv").read_bytes() == before
    node.write("/proc/self/mountinfo", MOUNTS)
    grub.boot_once(EntryId(SIMPLE))
    assert grub.state().carrier == Carrier(OWN_BLOCK, PLAIN)
    assert grub.state().known_good == boot_set.fingerprint
    assert reached(node) == SIMPLE


def test_protection_and_obstacles_name_what_is_missing(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    assert grub.protection().level is not Level.NONE
    assert grub.against(EntryId(SIMPLE)) == ()
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    found = grub.protection()
    assert found.level is Level.NONE
    assert found.reasons[0] == "GRUB cannot write its environment block through md"
    assert "A plain partition of 1 MiB or more" in found.reasons[1]
    assert grub.against(EntryId(SIMPLE)) == found.reasons[:2]
    (tmp_path / "boot/grub/grub.cfg").unlink()
    assert "No such file" in grub.against(EntryId(SIMPLE))[-1]


def test_a_boot_that_is_read_only_protects_nothing(tmp_path: Path) -> None:
    node = raid_node(tmp_path, MOUNTS.replace("/dev/md0 rw", "/dev/md0 ro,errors=remount-ro"))
    found = carrier_for(node.host)
    assert isinstance(found, Unknown)
    assert "/ is mounted read-only" in found.why
    assert found.why in Grub(node.host).protection().reasons


def without_uuid(node: Node) -> None:
    node.write("/run/udev/data/b8:1", "E:ID_FS_UUID=$(reboot)\n")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda n: n.write("/proc/self/mountinfo", ""), "no partition is mounted on /boot/plain"),
        (lambda n: n.write("/proc/self/mountinfo", MOUNTS.replace("ext2", "xfs")), "xfs"),
        (lambda n: n.write("/proc/self/mountinfo", MOUNTS.replace("8:1", "9:0")), "md"),
        (without_uuid, "udev tells no UUID"),
    ],
)
def test_why_it_cannot_be_used(tmp_path: Path, harm: Callable[[Node], None], why: str) -> None:
    node = raid_node(tmp_path)
    carrier = OwnBlock(node.host, PLAIN)
    harm(node)
    assert why in carrier.against()[0]
    with pytest.raises(LoaderError, match="carries no one-shot"):
        carrier.set(EntryId(OLD))
    assert not (tmp_path / TRIAL).exists()


def test_without_a_uuid_grub_cannot_be_told(tmp_path: Path) -> None:
    node = raid_node(tmp_path)
    without_uuid(node)
    with pytest.raises(LoaderError, match="udev tells no UUID"):
        OwnBlock(node.host, PLAIN).words()


@pytest.mark.parametrize("spoil", [lambda p: p.mkdir(), lambda p: p.symlink_to("x")])
def test_what_is_no_block_is_not_written(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    node, grub = pinned(tmp_path)
    (tmp_path / TRIAL).parent.mkdir()
    spoil(tmp_path / TRIAL)
    with pytest.raises(LoaderError, match="no file of 1024 bytes"):
        grub.boot_once(EntryId(OLD))
    assert isinstance(read_menu(node.host), Unknown)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    _, grub = pinned(tmp_path)
    (tmp_path / "boot/plain/trialboot").write_text("a file")
    with pytest.raises(LoaderError, match="File exists"):
        grub.boot_once(EntryId(OLD))


def test_a_folder_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    _, grub = pinned(tmp_path)
    (tmp_path / TRIAL).mkdir(parents=True)
    with pytest.raises(LoaderError, match="/boot/plain/trialboot"):
        OwnBlock(grub.host, PLAIN).remove()


def test_a_menu_whose_carrier_is_not_mounted_cannot_boot_once(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    with pytest.raises(LoaderError, match="takes one-shots from /boot/plain"):
        grub.boot_once(EntryId(OLD))


@pytest.mark.parametrize("cut", range(12))
def test_a_power_cut_while_it_is_set_leaves_a_host_that_boots(tmp_path: Path, cut: int) -> None:
    node, grub = pinned(tmp_path)
    try:
        with power_for(cut, tmp_path):
            grub.boot_once(EntryId(SIMPLE))
    except PowerCutError:
        assert reached(node) in {KNOWN_GOOD, SIMPLE}
    grub.boot_once(EntryId(SIMPLE))
    assert reached(node) == SIMPLE


def test_what_is_out_of_reach_is_neither_known_nor_forgotten(tmp_path: Path) -> None:
    """GRUB finds the partition by its UUID, whether or not Linux has it mounted."""
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(SIMPLE))
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    menu = grub.state()
    told = next_entry(menu)
    assert isinstance(told, Unknown)
    assert told.why == menu.once_doubt
    assert "/boot/plain, which is not mounted: mount it" in told.why
    with pytest.raises(LoaderError, match="which is not mounted: mount it"):
        grub.forget_once()
    node.write("/proc/self/mountinfo", MOUNTS)
    grub.forget_once()
    assert reached(node) == KNOWN_GOOD


def test_what_grub_has_taken_is_known_to_be_gone_without_the_partition(tmp_path: Path) -> None:
    """A candidate that lacks the driver of the partition is judged, and left, like any other."""
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(SIMPLE))
    (tmp_path / TRIAL).write_bytes(format_environment({"trialboot_once": ""}))
    shutil.rmtree(tmp_path / "run/trialboot")  # another boot
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    assert reached(node) == KNOWN_GOOD
    grub.forget_once()


def test_what_was_forgotten_is_known_to_be_gone_without_the_partition(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(SIMPLE))
    grub.forget_once()
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    assert reached(node) == KNOWN_GOOD


def test_a_one_shot_that_cannot_be_marked_is_not_set(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    shutil.rmtree(tmp_path / "run/trialboot")
    node.write("/run/trialboot", "a file")
    with pytest.raises(LoaderError, match="one-shot-set: File exists"):
        grub.boot_once(EntryId(SIMPLE))
    assert reached(node) == KNOWN_GOOD


def test_a_host_is_given_back_although_the_block_is_out_of_reach(tmp_path: Path) -> None:
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(SIMPLE))
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/plain", "/srv"))
    grub.remove()
    assert (grub.state().carrier, grub.state().known_good) == (None, "")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_write_any_more_holds_no_rollback_up(
    tmp_path: Path, code: int
) -> None:
    node, grub = pinned(tmp_path)
    grub.boot_once(EntryId(SIMPLE))
    (tmp_path / TRIAL).write_bytes(format_environment({"trialboot_once": ""}))
    shutil.rmtree(tmp_path / "run/trialboot")  # another boot
    if code == errno.EROFS:
        node.write("/proc/self/mountinfo", MOUNTS.replace("/dev/md0 rw", "/dev/md0 ro"))
    with refused_below(tmp_path / "boot", code, elsewhere="plain"):
        pin.perform(node.host, grub, Secure(node.boot_set()), {})
    assert reached(node) == KNOWN_GOOD
