"""The one-shot through BootNext, on a folder that looks like a UEFI host with /boot on btrfs."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.loaders.efi_host import DEBIAN, ESP, MOUNTS, Firmware, uefi_node
from tests.unit.loaders.host_folder import (
    OLD,
    SIMPLE,
    Node,
    PowerCutError,
    power_for,
    refused_below,
)
from trialboot import efivariables
from trialboot.bootfiles import read_menu
from trialboot.bootonce import may_be_hidden
from trialboot.core.actions import PIN_ACTIONS, Action, ForgetOnce, Secure
from trialboot.core.efi import TRIAL_ENTRY, LoadOption, format_number, format_option, format_order
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.grub import format_environment, parse_environment
from trialboot.core.machine import step
from trialboot.core.menu import BOOT_NEXT, KNOWN_GOOD, Carrier, Menu, Resolved, next_entry
from trialboot.core.protection import Level
from trialboot.core.trial import Choice, Judged, Phase, Policy, Trial
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import LoaderError
from trialboot.loaders.boot_next import BootNext
from trialboot.loaders.environment_block import EnvironmentBlock
from trialboot.loaders.grub import Grub
from trialboot.loaders.oneshots import carrier_for, other_carriers
from trialboot.readers.efi import read_boot_next
from trialboot.workers import pin
from trialboot.writers.vault import bootsets, parts

OURS = LoadOption(description=TRIAL_ENTRY, partition=ESP, file="/EFI/trialboot/shimx64.efi")
FOLDER = "boot/efi/EFI/trialboot"


def armed(root: Path) -> tuple[Node, Firmware, Grub]:
    """Have the old kernel known-good and the newest one booted once."""
    node, firmware = uefi_node(root)
    grub = Grub(node.host)
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    grub.make_default(KNOWN_GOOD)
    grub.boot_once(EntryId(SIMPLE))
    return node, firmware, grub


def reached(node: Node) -> str:
    menu = read_menu(node.host)
    assert isinstance(menu, Menu), menu
    answer = next_entry(menu)
    assert isinstance(answer, Resolved), answer
    return answer.entry.entry


def block(node: Node) -> object:
    return parse_environment((node.root / FOLDER / "trial.env").read_bytes())


def grub_takes(node: Node) -> None:
    """Do what 09_trialboot does: clear the entry."""
    file = node.root / FOLDER / "trial.env"
    values = parse_environment(file.read_bytes())
    assert not isinstance(values, Unknown)
    file.write_bytes(format_environment({**values, "trialboot_once": ""}))


def test_a_candidate_is_booted_once_by_a_second_copy_of_grub(tmp_path: Path) -> None:
    node, firmware, _ = armed(tmp_path)
    names = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert names == ["grubx64.efi", "mmx64.efi", "shimx64.efi", "trial.env"]
    assert (tmp_path / FOLDER / "grubx64.efi").read_text() == "grubx64 1"
    assert block(node) == {"trialboot_once": SIMPLE, "trialboot_source": "EFI/debian"}
    assert firmware.next_entry() == OURS
    assert firmware.order() == (0, 1, 2, 1)
    # 2 is in the order though nothing has it: an entry of that number would stand in the order.
    assert firmware.entries()["Boot0003"] == OURS
    assert reached(node) == SIMPLE
    assert read_boot_next(node.host) == ""


def test_a_start_takes_it_back(tmp_path: Path) -> None:
    node, firmware, _ = armed(tmp_path)
    firmware.start()
    assert reached(node) == KNOWN_GOOD
    grub_takes(node)
    assert reached(node) == KNOWN_GOOD
    assert firmware.order() == (0, 1, 2, 1)


def test_firmware_that_keeps_boot_next_boots_the_candidate_once(tmp_path: Path) -> None:
    node, firmware, _ = armed(tmp_path)
    grub_takes(node)
    assert firmware.next_entry() == OURS
    assert reached(node) == KNOWN_GOOD


def test_it_is_forgotten_whole_and_may_be_set_again(tmp_path: Path) -> None:
    node, firmware, grub = armed(tmp_path)
    for _ in range(2):
        grub.forget_once()
        assert firmware.get("BootNext") is None
        assert not (tmp_path / FOLDER / "trial.env").exists()
        assert reached(node) == KNOWN_GOOD
    for _ in range(2):
        grub.boot_once(EntryId(OLD))
    assert reached(node) == OLD
    assert list(firmware.entries().values()).count(OURS) == 1


def test_without_the_esp_it_is_not_known_and_forgotten_all_the_same(tmp_path: Path) -> None:
    """The variable is the firmware's: what it would start lies on a partition out of reach."""
    node, firmware, grub = armed(tmp_path)
    node.write("/proc/self/mountinfo", MOUNTS.replace("/boot/efi", "/srv"))
    (tmp_path / "boot/efi/EFI").rename(tmp_path / "EFI")
    assert "/boot/efi, which is not mounted: mount it" in grub.state().once_doubt
    grub.forget_once()
    assert firmware.get("BootNext") is None
    assert reached(node) == KNOWN_GOOD


def test_a_variable_that_cannot_be_read_hides_what_is_not_mounted(tmp_path: Path) -> None:
    node, firmware, grub = armed(tmp_path)
    firmware.file("BootNext").unlink()
    firmware.file("BootNext").mkdir()
    assert may_be_hidden(node.host, Carrier(BOOT_NEXT, "/boot/efi"))
    assert isinstance(read_menu(node.host), Unknown)
    with pytest.raises(LoaderError, match="BootNext"):
        grub.forget_once()


def test_another_boot_next_is_not_forgotten(tmp_path: Path) -> None:
    _, firmware, grub = armed(tmp_path)
    firmware.put("BootNext", format_number(1))
    grub.forget_once()
    assert firmware.get("BootNext") == format_number(1)
    told = r"BootNext is taken: .*«Windows Boot Manager» \(Boot0001\).*«efibootmgr -N»"
    with pytest.raises(LoaderError, match=told):
        grub.boot_once(EntryId(OLD))
    assert firmware.get("BootNext") == format_number(1)


def test_a_boot_next_that_leads_nowhere_is_told_by_its_number(tmp_path: Path) -> None:
    _, firmware, grub = armed(tmp_path)
    firmware.put("BootNext", format_number(0x1A))
    with pytest.raises(LoaderError, match="the firmware starts Boot001A next"):
        grub.boot_once(EntryId(OLD))
    assert firmware.get("BootNext") == format_number(0x1A)


def test_a_boot_next_that_is_not_understood_is_taken(tmp_path: Path) -> None:
    _, firmware, grub = armed(tmp_path)
    firmware.put("BootNext", b"odd")
    with pytest.raises(LoaderError, match=r"BootNext is taken.*not understood \(not two bytes"):
        grub.boot_once(EntryId(OLD))
    assert firmware.get("BootNext") == b"odd"


def test_removal_leaves_what_was_there(tmp_path: Path) -> None:
    node, firmware = uefi_node(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "sys").rglob("*") if path.is_file()}
    esp = {path: path.read_bytes() for path in (tmp_path / "boot/efi").rglob("*.efi")}
    node, firmware, grub = armed(tmp_path / "other")
    root = node.root
    for _ in range(2):
        grub.remove()
    after = {path: path.read_bytes() for path in (root / "sys").rglob("*") if path.is_file()}
    assert len(after) == len(before)
    assert {p.name for p in after} == {p.name for p in before}
    assert {p.name for p in (root / "boot/efi").rglob("*.efi")} == {p.name for p in esp}
    assert not (root / FOLDER).exists()
    assert firmware.order() == (0, 1, 2, 1)


def test_firmware_that_puts_our_entry_into_its_order_is_put_right(tmp_path: Path) -> None:
    _, firmware, grub = armed(tmp_path)
    firmware.put("BootOrder", format_order([3, 0, 1, 2, 1]))
    grub.forget_once()
    assert firmware.order() == (0, 1, 2, 1)


def after_a_sound_trial(node: Node) -> list[Action]:
    """Give what the pin worker is asked once the newest kernel has proven itself."""
    new = Choice(entry=EntryId(SIMPLE), boot_set=node.boot_set("6.12.117-amd64"))
    boot, at = BootId("here"), "2026-01-01T00:00:00Z"
    trial = Trial(
        phase=Phase.TRIAL,
        known_good=node.boot_set(),
        pinned=True,
        candidate=new,
        running=new,
        boot=boot,
    )
    event = Judged(at=at, boot=boot, verdict=Verdict(outcome=Outcome.SOUND, reasons=("sound",)))
    todo = step(trial, event, Policy(armed=True)).todo
    return [action for action in todo if isinstance(action, PIN_ACTIONS)]


def test_a_sound_trial_leaves_nothing_with_firmware_that_keeps_what_it_was_told(
    tmp_path: Path,
) -> None:
    node, firmware, grub = armed(tmp_path)
    grub_takes(node)
    firmware.put("BootOrder", format_order([3, 0, 1, 2, 1]))
    assert firmware.next_entry() == OURS
    for action in after_a_sound_trial(node):
        pin.perform(node.host, grub, action, {})
        assert reached(node) == KNOWN_GOOD
    assert firmware.get("BootNext") is None
    assert firmware.order() == (0, 1, 2, 1)
    assert not (tmp_path / FOLDER / "trial.env").exists()
    assert grub.state().known_good == node.boot_set("6.12.117-amd64").fingerprint


@pytest.mark.parametrize("cut", range(8))
def test_a_power_cut_while_it_is_tidied_leads_to_the_known_good(tmp_path: Path, cut: int) -> None:
    node, firmware, grub = armed(tmp_path)
    grub_takes(node)
    firmware.put("BootOrder", format_order([3, 0, 1, 2, 1]))
    with suppress(PowerCutError), power_for(cut, tmp_path):
        pin.perform(node.host, grub, ForgetOnce(spent=True), {})
    assert reached(node) == KNOWN_GOOD
    assert firmware.next_entry() in {None, OURS}
    pin.perform(node.host, grub, ForgetOnce(spent=True), {})
    assert firmware.get("BootNext") is None
    assert firmware.order() == (0, 1, 2, 1)


def test_what_grub_cannot_clear_is_followed_by_the_known_good(tmp_path: Path) -> None:
    node, _, grub = armed(tmp_path)
    EnvironmentBlock(node.host).set(EntryId(OLD))
    assert reached(node) == SIMPLE
    for carrier in other_carriers(node.host):
        carrier.forget()
    assert grub.state().once == ""
    assert reached(node) == KNOWN_GOOD


def test_a_new_grub_on_the_esp_makes_the_copy_stale_until_it_is_copied_again(
    tmp_path: Path,
) -> None:
    node, _, grub = armed(tmp_path)
    (tmp_path / "boot/efi/EFI/debian/grubx64.efi").write_text("grubx64 2")
    assert reached(node) == KNOWN_GOOD
    grub.boot_once(EntryId(SIMPLE))
    assert (tmp_path / FOLDER / "grubx64.efi").read_text() == "grubx64 2"
    assert reached(node) == SIMPLE


def test_another_way_to_start_is_copied_anew(tmp_path: Path) -> None:
    node, firmware, grub = armed(tmp_path)
    node.write("/boot/efi/EFI/BOOT/BOOTX64.EFI", "unsigned grub")
    firmware.put("Boot0001", format_option(LoadOption(description="UEFI Disk")))
    firmware.put("BootCurrent", format_number(1))
    grub.boot_once(EntryId(SIMPLE))
    names = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert names == ["BOOTX64.EFI", "trial.env"]
    ours = [o for o in firmware.entries().values() if isinstance(o, LoadOption)]
    assert "/EFI/trialboot/BOOTX64.EFI" in {option.file for option in ours}
    assert reached(node) == SIMPLE


def test_in_the_trial_itself_the_copy_is_not_copied_from_itself(tmp_path: Path) -> None:
    node, firmware, grub = armed(tmp_path)
    firmware.put("BootCurrent", format_number(3))
    grub.boot_once(EntryId(OLD))
    assert block(node) == {"trialboot_once": OLD, "trialboot_source": "EFI/debian"}


def test_protection_names_the_carrier(tmp_path: Path) -> None:
    _, _, grub = armed(tmp_path)
    found = grub.protection()
    assert found.level is not Level.NONE
    told = "UEFI's BootNext and a second copy of GRUB on /boot/efi"
    assert f"a candidate is booted once through {told}" in found.notes
    assert grub.against(EntryId(SIMPLE)) == ()


def test_where_grub_writes_its_own_block_that_is_the_carrier(tmp_path: Path) -> None:
    node, _ = uefi_node(tmp_path)
    node.write("/proc/self/mountinfo", MOUNTS.replace("0:25", "8:1").replace("btrfs", "ext4"))
    carrier = carrier_for(node.host)
    assert isinstance(carrier, EnvironmentBlock)
    carrier.set(EntryId(OLD))
    carrier.remove()
    assert (carrier.pending(), carrier.words()) == (OLD, {})
    carrier.forget()
    assert carrier.pending() == ""


def drop(path: str) -> Callable[[Node, Firmware], None]:
    return lambda node, _: (node.root / path).unlink()


def mounts(before: str, after: str) -> Callable[[Node, Firmware], None]:
    def harm(node: Node, _: Firmware) -> None:
        assert before in MOUNTS
        node.write("/proc/self/mountinfo", MOUNTS.replace(before, after))

    return harm


def variables_gone(_: Node, firmware: Firmware) -> None:
    for file in firmware.file("x").parent.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (variables_gone, "not started by UEFI"),
        (mounts("/boot/efi rw - vfat", "/boot/other rw - vfat"), "no ESP is mounted"),
        (mounts("vfat /dev/sda1 rw", "vfat /dev/sda1 ro"), "/boot/efi is mounted read-only"),
        (mounts("vfat /dev/sda1 rw", "ext4 /dev/sda1 rw"), "/boot/efi is no ESP: ext4"),
        (mounts("24 22 8:1", "24 22 9:0"), "/sys/dev/block/9:0 is not there"),
        (drop("run/udev/data/b8:1"), "/run/udev/data/b8:1"),
        (lambda n, _: n.write("/run/udev/data/b8:1", "E:A=b\n"), "udev does not tell"),
        (drop("boot/efi/EFI/debian/shimx64.efi"), "no EFI/debian/shimx64.efi"),
        (lambda n, _: n.write("/sys/devices/sda/sda1/md/level", "raid1"), "no plain partition"),
        (lambda _, f: f.put("BootOrder", b"odd"), "BootOrder is not made of pairs"),
    ],
)
def test_why_boot_next_cannot_be_used(
    tmp_path: Path, harm: Callable[[Node, Firmware], None], why: str
) -> None:
    node, firmware = uefi_node(tmp_path)
    carrier = BootNext(node.host, "/boot/efi")
    assert carrier.against() == ()
    harm(node, firmware)
    assert why in "; ".join(carrier.against())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(LoaderError):
        carrier.set(EntryId(OLD))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_variables_that_cannot_be_read_are_no_carrier(tmp_path: Path) -> None:
    node, firmware = uefi_node(tmp_path)
    firmware.file("BootNext").mkdir()
    firmware.file("BootCurrent").unlink()
    firmware.file("BootCurrent").mkdir()
    carrier = BootNext(node.host, "/boot/efi")
    for act in (carrier.forget, carrier.remove, lambda: carrier.set(EntryId(OLD))):
        with pytest.raises(LoaderError, match="Is a directory"):
            act()
    with pytest.raises(LoaderError, match="Is a directory"):
        carrier.pending()


def test_an_esp_without_room_is_no_carrier(tmp_path: Path) -> None:
    node, _ = uefi_node(tmp_path)
    os.truncate(tmp_path / "boot/efi/EFI/debian/mmx64.efi", 1 << 50 >> 10)
    (why,) = BootNext(node.host, "/boot/efi").against()
    assert "no room for a copy of GRUB" in why


def test_a_block_that_is_none_is_not_written(tmp_path: Path) -> None:
    node, firmware = uefi_node(tmp_path)
    node.write(f"/{FOLDER}/trial.env", "x" * 1025)
    carrier = BootNext(node.host, "/boot/efi")
    with pytest.raises(LoaderError, match="no file of 1024 bytes"):
        carrier.set(EntryId(OLD))
    assert firmware.get("BootNext") is None
    firmware.put("Boot0003", format_option(OURS))
    firmware.put("BootNext", format_number(3))
    with pytest.raises(LoaderError, match="no file of 1024 bytes"):
        carrier.pending()


def test_garbage_in_the_block_is_to_us_what_it_is_to_grub(tmp_path: Path) -> None:
    node, _, grub = armed(tmp_path)
    node.write(f"/{FOLDER}/trial.env", "garbage")
    assert reached(node) == KNOWN_GOOD
    grub.boot_once(EntryId(SIMPLE))
    assert reached(node) == SIMPLE


def test_a_menu_whose_one_shots_cannot_be_read_is_not_understood(tmp_path: Path) -> None:
    node, _, _ = armed(tmp_path)
    (tmp_path / FOLDER / "trial.env").unlink()
    (tmp_path / FOLDER / "trial.env").symlink_to("/etc/passwd")
    found = read_menu(node.host)
    assert isinstance(found, Unknown)
    assert "trial.env" in found.why


def test_firmware_that_forgets_what_it_was_told_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = uefi_node(tmp_path)
    monkeypatch.setattr(os, "write", lambda _, content: len(content))
    with pytest.raises(OSError, match="did not take"):
        efivariables.write(node.host, "BootNext", b"12")


def cuts() -> list[int]:
    return list(range(60))


@pytest.mark.parametrize("cut", cuts())
def test_a_power_cut_while_it_is_set_leaves_a_host_that_boots(tmp_path: Path, cut: int) -> None:
    node, firmware = uefi_node(tmp_path)
    grub = Grub(node.host)
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    grub.make_default(KNOWN_GOOD)
    try:
        with power_for(cut, tmp_path):
            grub.boot_once(EntryId(SIMPLE))
    except PowerCutError:
        assert reached(node) in {KNOWN_GOOD, SIMPLE}
        if firmware.get("BootNext"):
            assert firmware.next_entry() == OURS
    grub.boot_once(EntryId(SIMPLE))
    assert reached(node) == SIMPLE
    assert firmware.order() == (0, 1, 2, 1)
    assert firmware.entries()["Boot0000"] == DEBIAN


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("esp", [True, False], ids=["esp", "no-esp"])
def test_a_disk_that_takes_no_write_any_more_holds_no_rollback_up(
    tmp_path: Path, code: int, *, esp: bool
) -> None:
    """A bad candidate's root went read-only, or it has no vfat: its disk has the way back."""
    node, firmware, grub = armed(tmp_path)
    grub_takes(node)
    firmware.start()
    mounts = MOUNTS if esp else "".join(MOUNTS.splitlines(keepends=True)[:2])
    state = "ro" if code == errno.EROFS else "rw"
    node.write("/proc/self/mountinfo", mounts.replace("/dev/sda2 rw", f"/dev/sda2 {state}"))
    before = (tmp_path / "boot/trialboot/known-good.sh").read_bytes()
    with refused_below(tmp_path / "boot", code, elsewhere="efi"):
        pin.perform(node.host, grub, Secure(node.boot_set()), {})
    assert reached(node) == KNOWN_GOOD
    assert (tmp_path / "boot/trialboot/known-good.sh").read_bytes() == before
