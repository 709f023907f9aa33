"""GRUB with boot entries (Fedora, RHEL) written: its environment block, and a file of ours."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.boot_hosts import (
    FEDORA_NEW,
    FEDORA_OLD,
    MACHINE,
    BootHost,
    controlled_fedora,
    controlled_systemd_boot,
)
from tests.unit.loaders.host_folder import PowerCutError, power_for
from trialboot.bootfiles import host_path
from trialboot.content import file_sha256, read_tree
from trialboot.core.bootset import BootSet, KeptBoot, tree_identity
from trialboot.core.facts import EntryId
from trialboot.core.grub import parse_environment
from trialboot.core.menu import KNOWN_GOOD, MenuEntry, Resolved, next_entry, wanted_entry
from trialboot.core.protection import Level
from trialboot.errors import LoaderError, VaultError
from trialboot.loaders.choice import loader_of
from trialboot.loaders.grub_bls import GrubBls
from trialboot.loaders.interface import Loader
from trialboot.writers.vault import bootsets, parts
from trialboot.writers.vault.bootsets import Sources

OLD = EntryId(f"{MACHINE}-{FEDORA_OLD}")
NEW = EntryId(f"{MACHINE}-{FEDORA_NEW}")
ENTRY = "boot/loader/entries/trialboot-known-good.conf"
LINE = 'root=/dev/mapper/fedora-root ro "dyndbg=file x.c +p" panic=10'
SOURCES = Sources(
    kernel=f"/boot/vmlinuz-{FEDORA_OLD}",
    initrds=(f"/boot/initramfs-{FEDORA_OLD}.img",),
    firmware="/lib/firmware",
)


def boot_set(host: BootHost) -> BootSet:
    return BootSet(
        release=FEDORA_OLD,
        kernel=file_sha256(host.host.path(SOURCES.kernel)),
        initrd=file_sha256(host.host.path(SOURCES.initrds[0])),
        modules="m",
        firmware=tree_identity(read_tree(host.root / "lib/firmware")),
        command_line=LINE,
    )


def install(host: BootHost) -> GrubBls:
    kept, loader = boot_set(host), GrubBls(host.host)
    bootsets.keep(host.host, kept, SOURCES)
    assert loader.install(parts.boot_files(host.host, kept.fingerprint)) == KNOWN_GOOD
    return loader


def environment(host: BootHost, path: str = "boot/grub2/grubenv") -> object:
    return parse_environment((host.root / path).read_bytes())


def boots(host: BootHost) -> MenuEntry:
    answer = next_entry(GrubBls(host.host).state())
    assert isinstance(answer, Resolved), answer
    for file in (answer.entry.kernel, *answer.entry.initrds):
        assert isinstance(host_path(host.host, file), str), file
    return answer.entry


def test_the_known_good_is_a_file_of_ours_and_the_saved_entry(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path, saved_entry=NEW)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    print_of = boot_set(host).fingerprint
    entry = boots(host)
    assert (entry.entry, entry.kernel) == (KNOWN_GOOD, f"/trialboot/{print_of}/vmlinuz")
    assert entry.initrds == (
        f"/trialboot/{print_of}/initrd.img",
        f"/trialboot/{print_of}/firmware.cpio",
    )
    assert entry.arguments.startswith(f"{LINE} trialboot.boot={print_of} trialboot.firmware=")
    assert loader.state().known_good == print_of
    assert environment(host) == {
        "saved_entry": KNOWN_GOOD,
        "boot_success": "1",
        "trialboot_admin_saved": NEW,
    }
    wanted = wanted_entry(loader.state())
    assert isinstance(wanted, Resolved)
    assert wanted.entry.entry == NEW


def test_the_loader_of_such_a_host_is_this_one(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    loader: Loader = GrubBls(host.host)
    assert loader_of(host.host, loader.state()) == loader


def test_all_may_be_said_twice_and_ends_as_it_began(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path, saved_entry=OLD, kernelopts="root=x ro")
    before = environment(host)
    loader = install(host)
    for _ in range(2):
        install(host)
        loader.make_default(KNOWN_GOOD)
        loader.boot_once(NEW)
    assert boots(host).entry == NEW
    for _ in range(2):
        loader.forget_once()
    assert boots(host).entry == KNOWN_GOOD
    for _ in range(2):
        loader.remove()
    assert environment(host) == before
    assert boots(host).entry == OLD
    assert not (tmp_path / ENTRY).exists()
    assert not (tmp_path / "boot/trialboot/known-good.sh").exists()


def test_what_grubby_sets_at_a_kernel_update_is_the_hosts_wish(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path, saved_entry=OLD)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    block = (tmp_path / "boot/grub2/grubenv").read_text()
    (tmp_path / "boot/grub2/grubenv").write_text(
        block.replace(f"saved_entry={KNOWN_GOOD}", f"saved_entry={NEW}")[:1024]
    )
    wanted = wanted_entry(loader.state())
    assert isinstance(wanted, Resolved)
    assert wanted.entry.entry == NEW
    loader.make_default(KNOWN_GOOD)
    loader.remove()
    assert boots(host).entry == NEW


def test_a_one_shot_that_an_operator_set_stays(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path, saved_entry=NEW)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    loader.boot_once(OLD)
    loader.remove()
    assert boots(host).entry == OLD
    loader.forget_once()
    assert boots(host).entry == NEW


def test_a_host_that_had_saved_nothing_boots_its_newest_again(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    loader.remove()
    assert boots(host).entry == NEW


BTRFS = "23 22 8:2 / / rw - btrfs /dev/sda2 rw\n24 23 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n"


def test_a_block_on_the_esp_is_written_there(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path, saved_entry=OLD)
    block = tmp_path / "boot/grub2/grubenv"
    real = tmp_path / "boot/efi/EFI/fedora/grubenv"
    real.parent.mkdir(parents=True)
    block.rename(real)
    block.symlink_to("../efi/EFI/fedora/grubenv")
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    assert block.is_symlink()
    assert environment(host, "boot/efi/EFI/fedora/grubenv") == environment(host)
    assert boots(host).entry == KNOWN_GOOD
    host.write("/proc/self/mountinfo", BTRFS)
    assert loader.against(OLD) == ()


def test_what_counts_is_the_file_system_that_a_link_leads_to(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    host.write("/proc/self/mountinfo", BTRFS)
    loader = GrubBls(host.host)
    assert "on btrfs" in loader.against(OLD)[0]
    block = tmp_path / "boot/grub2/grubenv"
    block.unlink()
    block.symlink_to("/boot/efi/EFI/fedora/grubenv")
    assert loader.against(OLD) == ()


def test_a_block_that_is_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    block = tmp_path / "boot/grub2/grubenv"
    block.unlink()
    block.symlink_to("grubenv")
    with pytest.raises(LoaderError):
        GrubBls(host.host).forget_once()


def test_on_a_root_file_system_grub_sees_boot_as_a_folder(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    for file in (tmp_path / "boot/loader/entries").iterdir():
        file.write_text(file.read_text().replace(" /vmlinuz", " /boot/vmlinuz"))
        file.write_text(file.read_text().replace(" /initramfs", " /boot/initramfs"))
    install(host).make_default(KNOWN_GOOD)
    assert boots(host).kernel.startswith("/boot/trialboot/")


def test_the_vault_does_not_drop_what_the_entry_boots(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    install(host)
    (tmp_path / "boot/trialboot/known-good.sh").unlink()
    with pytest.raises(VaultError, match="known-good entry boots"):
        bootsets.drop(host.host, boot_set(host).fingerprint)


# --- refusals -----------------------------------------------------------------------------------


def test_another_loader_is_not_written(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    for act in (GrubBls(host.host).state, GrubBls(host.host).remove):
        with pytest.raises(LoaderError, match="is systemd-boot, not grub-bls"):
            act()


def test_a_default_that_is_not_saved_is_refused(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    menu = tmp_path / "boot/grub2/grub.cfg"
    menu.write_text(menu.read_text().replace('default="${saved_entry}"', 'default="0"'))
    loader = install(host)
    before = environment(host)
    with pytest.raises(LoaderError, match="GRUB_DEFAULT is «0», not saved"):
        loader.make_default(KNOWN_GOOD)
    assert environment(host) == before


@pytest.mark.parametrize("line", ["a $x", "a\nlinux /evil", 'a "b'])
def test_what_grub_would_not_hand_over_is_refused(tmp_path: Path, line: str) -> None:
    host = controlled_fedora(tmp_path)
    kept, loader = boot_set(host), install(host)
    before = (tmp_path / ENTRY).read_bytes()
    files = parts.boot_files(host.host, kept.fingerprint)
    with pytest.raises(LoaderError):
        loader.install(replace(files, boot_set=replace(kept, command_line=line)))
    assert (tmp_path / ENTRY).read_bytes() == before


def test_a_boot_set_that_is_not_kept_is_refused(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    kept = boot_set(host)
    gone = KeptBoot(boot_set=kept, kernel=f"/boot/trialboot/{kept.fingerprint}/vmlinuz")
    with pytest.raises(LoaderError, match="not kept"):
        GrubBls(host.host).install(gone)
    assert not (tmp_path / ENTRY).exists()


def test_an_entry_whose_kernel_is_gone_is_refused(tmp_path: Path) -> None:
    host = controlled_fedora(tmp_path)
    (tmp_path / f"boot/vmlinuz-{FEDORA_NEW}").unlink()
    with pytest.raises(LoaderError, match="cannot boot"):
        GrubBls(host.host).boot_once(NEW)


def test_an_entry_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="no entry «gone»"):
        GrubBls(controlled_fedora(tmp_path).host).boot_once(EntryId("gone"))


# --- protection ---------------------------------------------------------------------------------


def test_it_says_that_it_is_untried(tmp_path: Path) -> None:
    found = GrubBls(controlled_fedora(tmp_path).host).protection()
    assert found.level is Level.USERSPACE_ONLY
    assert "not tried on a real host" in found.notes[0]


def on_a_raid(host: BootHost) -> None:
    host.write("/sys/devices/sda/sda2/md/level", "raid1\n")


def without_mounts(host: BootHost) -> None:
    (host.root / "proc/self/mountinfo").unlink()
    (host.root / "proc/cmdline").unlink()


def on_btrfs(host: BootHost) -> None:
    mounts = host.root / "proc/self/mountinfo"
    mounts.write_text(mounts.read_text().replace("/boot rw - ext4", "/boot rw - btrfs"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(on_a_raid, "through md"), (on_btrfs, "on btrfs"), (without_mounts, "not known")],
)
def test_where_grub_cannot_clear_the_one_shot_nothing_is_booted_once(
    tmp_path: Path, spoil: Callable[[BootHost], None], why: str
) -> None:
    host = controlled_fedora(tmp_path)
    loader = GrubBls(host.host)
    assert loader.against(NEW) == ()
    spoil(host)
    assert loader.protection().level is Level.NONE
    assert why in loader.against(NEW)[0]
    with pytest.raises(LoaderError, match=why):
        loader.boot_once(NEW)
    assert "next_entry" not in str(environment(host))


# --- power --------------------------------------------------------------------------------------


@pytest.mark.parametrize("had", [{}, {"saved_entry": OLD}])
@pytest.mark.parametrize("effects", range(60))
def test_a_power_cut_anywhere_leaves_a_bootable_host(
    tmp_path: Path, effects: int, had: dict[str, str]
) -> None:
    host = controlled_fedora(tmp_path, **had)
    before = environment(host)

    def trial() -> None:
        loader = install(host)
        loader.make_default(KNOWN_GOOD)
        loader.boot_once(NEW)
        loader.forget_once()
        loader.remove()
        bootsets.drop(host.host, boot_set(host).fingerprint)

    try:
        with power_for(effects, tmp_path):
            trial()
    except PowerCutError:
        assert effects < 59, "there are more effects than instants"
        boots(host)
        for fingerprint in bootsets.kept(host.host):
            bootsets.verify(host.host, fingerprint)
    trial()
    assert environment(host) == before
    assert boots(host).entry == had.get("saved_entry", NEW)
    assert bootsets.kept(host.host) == ()
