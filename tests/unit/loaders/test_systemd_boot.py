"""systemd-boot written: its variables, our entry, and what a host had before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.boot_hosts import (
    EFIVARS,
    MACHINE,
    NEW,
    OLD,
    BootHost,
    controlled_systemd_boot,
    image_parts,
    separate_boot,
)
from tests.unit.loaders.host_folder import PowerCutError, power_for
from trialboot.bootfiles import boot_sets, host_path
from trialboot.content import file_sha256, read_tree
from trialboot.core.bootset import BootSet, KeptBoot, tree_identity
from trialboot.core.facts import EntryId
from trialboot.core.menu import (
    BOOT_WORD,
    KNOWN_GOOD,
    MenuEntry,
    Resolved,
    next_entry,
    wanted_entry,
)
from trialboot.core.protection import Level
from trialboot.core.systemdboot import LOADER_VENDOR, OURS
from trialboot.errors import LoaderError, VaultError
from trialboot.host import Host
from trialboot.loaders.choice import loader_of
from trialboot.loaders.interface import Loader
from trialboot.loaders.systemd_boot import SystemdBoot
from trialboot.workers import release
from trialboot.writers.vault import bootsets, layout, parts
from trialboot.writers.vault.bootsets import Sources

OLD_ENTRY = EntryId(f"{MACHINE}-{OLD}.conf")
NEW_ENTRY = EntryId(f"{MACHINE}-{NEW}.conf")
NOTE = "boot/trialboot/known-good.sh"


def sources(folder: str, release: str = OLD) -> Sources:
    there = f"{folder}/{MACHINE}/{release}"
    return Sources(
        kernel=f"{there}/linux",
        initrds=(f"{there}/initrd.img-{release}",),
        firmware="/lib/firmware",
    )


def boot_set(host: BootHost, folder: str = "/boot/efi", release: str = OLD) -> BootSet:
    files = sources(folder, release)
    return BootSet(
        release=release,
        kernel=file_sha256(host.host.path(files.kernel)),
        initrd=file_sha256(host.host.path(files.initrds[0])),
        modules="m",
        firmware=tree_identity(read_tree(host.root / "lib/firmware")),
        command_line="root=UUID=a ro panic=10",
    )


def install(host: BootHost, folder: str = "/boot/efi") -> SystemdBoot:
    kept, loader = boot_set(host, folder), SystemdBoot(host.host)
    bootsets.keep(host.host, kept, sources(folder))
    assert loader.install(parts.boot_files(host.host, kept.fingerprint)) == KNOWN_GOOD
    return loader


def variable(host: BootHost, name: str) -> str:
    """Say what a variable holds, to its first NUL; empty where it is not there."""
    path = host.root / f"{EFIVARS}/{name}-{LOADER_VENDOR}".lstrip("/")
    if not path.exists():
        return ""
    assert path.read_bytes()[:4] == b"\7\0\0\0"
    return path.read_bytes()[4:].decode("utf-16-le").partition("\0")[0]


def boots(host: BootHost) -> MenuEntry:
    """Say what would boot, and make sure that its files are there."""
    answer = next_entry(SystemdBoot(host.host).state())
    assert isinstance(answer, Resolved), answer
    for file in (answer.entry.kernel, *answer.entry.initrds):
        assert isinstance(host_path(host.host, file), str), file
    return answer.entry


@pytest.mark.parametrize("folder", ["/boot", "/efi", "/boot/efi"])
def test_the_known_good_is_an_entry_of_ours_on_the_partition_that_is_read(
    tmp_path: Path, folder: str
) -> None:
    host = controlled_systemd_boot(tmp_path, folder)
    loader = install(host, folder)
    loader.make_default(KNOWN_GOOD)
    print_of = boot_set(host, folder).fingerprint
    kept = f"{folder}/trialboot/{print_of}"
    entry = boots(host)
    assert (entry.entry, entry.kernel) == (KNOWN_GOOD, f"{kept}/vmlinuz")
    assert entry.initrds == (f"{kept}/initrd.img", f"{kept}/firmware.cpio")
    words = f"trialboot.boot={print_of} trialboot.firmware={layout.firmware_of(print_of)}"
    assert entry.arguments == f"root=UUID=a ro panic=10 {words}"
    assert variable(host, "LoaderEntryDefault") == OURS
    assert loader.state().known_good == print_of
    text = (tmp_path / f"{folder}/loader/entries/{OURS}".lstrip("/")).read_text()
    assert f"linux /trialboot/{print_of}/vmlinuz\n" in text


def test_the_loader_of_such_a_host_is_this_one(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader: Loader = SystemdBoot(host.host)
    assert loader_of(host.host, loader.state()) == loader


def test_all_may_be_said_twice_and_ends_as_it_began(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path, LoaderEntryDefault=OLD_ENTRY)
    loader = install(host)
    for _ in range(2):
        install(host)
        loader.make_default(KNOWN_GOOD)
        loader.boot_once(NEW_ENTRY)
    assert boots(host).entry == NEW_ENTRY
    for _ in range(2):
        loader.forget_once()
    assert boots(host).entry == KNOWN_GOOD
    for _ in range(2):
        loader.remove()
    assert variable(host, "LoaderEntryDefault") == OLD_ENTRY
    assert (boots(host).entry, loader.state().known_good) == (OLD_ENTRY, "")
    assert not (tmp_path / NOTE).exists()
    assert not list((tmp_path / "boot/efi/trialboot").glob("*.json"))


def test_a_host_that_had_set_nothing_has_nothing_set_afterwards(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    wanted = wanted_entry(loader.state())
    assert isinstance(wanted, Resolved)
    assert (wanted.entry.entry, wanted.fell_back) == (NEW_ENTRY, False)
    loader.remove()
    left = {path.name.partition("-")[0] for path in (tmp_path / EFIVARS.lstrip("/")).iterdir()}
    assert left == {"BootOrder", "LoaderInfo", "LoaderFeatures"}


def test_variables_are_given_back_while_the_partition_is_not_mounted(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    loader.boot_once(NEW_ENTRY)
    (tmp_path / "boot/efi").rename(tmp_path / "elsewhere")
    (tmp_path / "boot/efi").mkdir()
    release.work(host.host)
    left = {path.name.partition("-")[0] for path in (tmp_path / EFIVARS.lstrip("/")).iterdir()}
    assert left == {"BootOrder", "LoaderInfo", "LoaderFeatures"}


def test_what_was_booted_last_counts_again_after_us(tmp_path: Path) -> None:
    host = controlled_systemd_boot(
        tmp_path, LoaderEntryDefault="@saved", LoaderEntryLastBooted=OLD_ENTRY
    )
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    # systemd-boot deletes it at the next start: a default is set that is not @saved.
    (tmp_path / f"{EFIVARS}/LoaderEntryLastBooted-{LOADER_VENDOR}".lstrip("/")).unlink()
    wanted = wanted_entry(loader.state())
    assert isinstance(wanted, Resolved)
    assert wanted.entry.entry == OLD_ENTRY
    loader.remove()
    assert variable(host, "LoaderEntryLastBooted") == OLD_ENTRY
    assert variable(host, "LoaderEntryDefault") == "@saved"


def test_a_default_that_an_operator_set_after_us_stays(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    host.efi(LoaderEntryDefault=OLD_ENTRY)
    assert loader.state().host_default == OLD_ENTRY
    loader.make_default(KNOWN_GOOD)
    loader.remove()
    assert variable(host, "LoaderEntryDefault") == OLD_ENTRY


def test_a_pattern_of_the_host_is_not_what_boots(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    worn = f"{MACHINE}-{NEW}+0-3.conf"
    entries = tmp_path / "boot/efi/loader/entries"
    (entries / f"{MACHINE}-{NEW}.conf").rename(entries / worn)
    host.write("/boot/efi/loader/loader.conf", f"default {MACHINE}-6.12*\n")
    assert boots(host).name == worn
    loader = install(host)
    loader.make_default(KNOWN_GOOD)
    assert boots(host).entry == KNOWN_GOOD
    assert "no tries left" in loader.against(NEW_ENTRY)[0]


def test_a_candidate_is_booted_by_the_name_that_it_has_now(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    entries = tmp_path / "boot/efi/loader/entries"
    (entries / f"{MACHINE}-{NEW}.conf").rename(entries / f"{MACHINE}-{NEW}+3.conf")
    loader = SystemdBoot(host.host)
    loader.boot_once(NEW_ENTRY)
    assert variable(host, "LoaderEntryOneShot") == f"{MACHINE}-{NEW}+3.conf"
    (entries / f"{MACHINE}-{NEW}+3.conf").rename(entries / f"{MACHINE}-{NEW}+2-1.conf")
    loader.boot_once(NEW_ENTRY)
    assert variable(host, "LoaderEntryOneShot") == f"{MACHINE}-{NEW}+2-1.conf"
    assert boots(host).entry == NEW_ENTRY


def test_where_all_variables_are_lost_the_known_good_boots(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    install(host).make_default(KNOWN_GOOD)
    for name in ("LoaderEntryDefault", "LoaderInfo"):
        (tmp_path / f"{EFIVARS}/{name}-{LOADER_VENDOR}".lstrip("/")).unlink()
    assert boots(host).entry == KNOWN_GOOD


def test_the_vault_does_not_drop_what_the_entry_boots(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    install(host)
    fingerprint = boot_set(host).fingerprint
    assert f"FINGERPRINT={fingerprint}\n" in (tmp_path / NOTE).read_text()
    with pytest.raises(VaultError, match="known-good entry boots"):
        bootsets.drop(host.host, fingerprint)
    (tmp_path / NOTE).unlink()
    with pytest.raises(VaultError, match="known-good entry boots"):
        bootsets.drop(host.host, fingerprint)


# --- refusals -----------------------------------------------------------------------------------


def test_another_loader_is_not_written(tmp_path: Path) -> None:
    host = separate_boot(tmp_path)
    for act in (SystemdBoot(host.host).state, SystemdBoot(host.host).remove):
        with pytest.raises(LoaderError, match="is grub, not systemd-boot"):
            act()


def test_a_boot_set_that_is_not_kept_is_refused(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    kept = boot_set(host)
    gone = KeptBoot(boot_set=kept, kernel=f"/boot/efi/trialboot/{kept.fingerprint}/vmlinuz")
    with pytest.raises(LoaderError, match="not kept"):
        SystemdBoot(host.host).install(gone)


def test_what_an_entry_cannot_say_is_refused(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader, kept = install(host), boot_set(host)
    before = loader.state()
    files = parts.boot_files(host.host, kept.fingerprint)
    evil = replace(files, boot_set=replace(kept, command_line="a\nlinux /evil"))
    with pytest.raises(LoaderError, match="no boot entry can say"):
        loader.install(evil)
    assert loader.state() == before


def test_bytes_that_are_no_text_stay_on_the_command_line(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    kept = replace(boot_set(host), command_line="root=UUID=a x=\udcff")
    bootsets.keep(host.host, kept, sources("/boot/efi"))
    SystemdBoot(host.host).install(parts.boot_files(host.host, kept.fingerprint))
    assert b"x=\xff trialboot.boot=" in (tmp_path / f"boot/efi/loader/entries/{OURS}").read_bytes()


def test_an_entry_that_would_not_be_the_one_that_boots_is_taken_back(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader, kept = install(host), boot_set(host)
    other = replace(kept, initrd="", command_line="ro")
    kernel = f"/boot/efi/trialboot/{other.fingerprint}/vmlinuz"
    host.write(kernel, "kernel")
    host.write("/boot/efi/trialboot/x", "kernel")
    twin = host.write(f"/boot/efi/loader/entries/{KNOWN_GOOD}+3.conf", "linux /trialboot/x\n")
    words = (f"{BOOT_WORD}={other.fingerprint}",)
    with pytest.raises(LoaderError, match="as it was"):
        loader.install(KeptBoot(boot_set=other, kernel=kernel, words=words))
    twin.unlink()
    assert loader.state().known_good == kept.fingerprint


@pytest.mark.parametrize("gone", ["linux", f"initrd.img-{NEW}"])
def test_an_entry_whose_file_is_gone_is_refused(tmp_path: Path, gone: str) -> None:
    host = controlled_systemd_boot(tmp_path)
    (tmp_path / f"boot/efi/{MACHINE}/{NEW}/{gone}").unlink()
    with pytest.raises(LoaderError, match=r"cannot boot|no entry"):
        SystemdBoot(host.host).boot_once(NEW_ENTRY)
    assert variable(host, "LoaderEntryOneShot") == ""


def test_what_was_before_us_and_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    install(host).make_default(KNOWN_GOOD)
    host.write("/boot/efi/trialboot/systemd-boot-before.json", "{}")
    with pytest.raises(LoaderError, match="not what trialboot wrote"):
        SystemdBoot(host.host).remove()
    assert variable(host, "LoaderEntryDefault") == OURS


def test_a_folder_of_the_root_file_system_is_no_boot_partition(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    host.write("/proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n")
    kept = boot_set(host)
    bootsets.keep(host.host, kept, sources("/boot/efi"))
    with pytest.raises(LoaderError, match="no mounted partition"):
        SystemdBoot(host.host).install(parts.boot_files(host.host, kept.fingerprint))


def test_what_another_loader_left_in_boot_is_not_the_boot_partition(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    host.write("/boot/loader/entries/left.conf", "linux /vmlinuz\n")
    assert boot_sets(host.host) == "/boot/efi/trialboot"


# --- protection ---------------------------------------------------------------------------------


def unset(name: str) -> Callable[[BootHost], object]:
    return lambda host: (host.root / f"{EFIVARS}/{name}-{LOADER_VENDOR}".lstrip("/")).unlink()


def features(bits: int) -> Callable[[BootHost], object]:
    raw = b"\7\0\0\0" + bits.to_bytes(8, "little")
    return lambda host: host.write(f"{EFIVARS}/LoaderFeatures-{LOADER_VENDOR}", raw)


def mounts(old: str, new: str) -> Callable[[BootHost], object]:
    def change(host: BootHost) -> None:
        text = (host.root / "proc/self/mountinfo").read_text()
        assert old in text
        host.write("/proc/self/mountinfo", text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (unset("LoaderInfo"), "not by UEFI"),
        (unset("LoaderFeatures"), "not known: LoaderFeatures"),
        (features(0b0100), "heed LoaderEntryOneShot"),
        (features(0b1000), "heed LoaderEntryDefault"),
        (mounts("efivarfs rw", "efivarfs ro"), "mounted read-only"),
        (mounts(EFIVARS, "/x"), "is not mounted"),
        (mounts("vfat", "ext4"), "no mounted partition"),
    ],
)
def test_a_one_shot_that_cannot_be_relied_on_protects_nothing(
    tmp_path: Path, spoil: Callable[[BootHost], object], why: str
) -> None:
    host = controlled_systemd_boot(tmp_path)
    loader = SystemdBoot(host.host)
    assert loader.against(NEW_ENTRY) == ()
    assert loader.protection().level is not Level.NONE
    spoil(host)
    assert why in " ".join(loader.against(NEW_ENTRY))
    found = loader.protection()
    assert found.level is Level.NONE
    assert why in found.reasons[0]


def test_without_mounts_nothing_is_known(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    (tmp_path / "proc/self/mountinfo").unlink()
    (tmp_path / "proc/cmdline").unlink()
    reasons = " ".join(SystemdBoot(host.host).protection().reasons)
    assert "may be written is not known" in reasons
    assert "the file system of /boot/efi is not known" in reasons
    assert "the running command line is not known" in reasons


def test_a_panic_and_a_hang_count_as_with_any_loader(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    entry = f"/boot/efi/loader/entries/{MACHINE}-{NEW}.conf"
    text = (tmp_path / entry.lstrip("/")).read_text()
    host.write(entry, text.replace(" ro ", " ro panic=10 "))
    host.write("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n")
    found = SystemdBoot(Host(root=tmp_path, call=lambda *_: 30_000_000)).protection()
    early = "no watchdog is armed in the initrd: a hang before systemd waits"
    assert (found.level, found.reasons) == (Level.PANIC_ONLY, (early,))
    assert "picked the known-good in the menu" in found.notes[0]


# --- unified images -----------------------------------------------------------------------------


def test_a_unified_image_is_a_candidate_unless_secure_boot_is_on(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    image = image_parts(
        linux=b"kernel", initrd=b"initrd", cmdline=b"root=UUID=a ro\0", osrel=b"ID=debian\n"
    )
    host.write("/boot/efi/EFI/Linux/debian-7+3.efi", image)
    loader = SystemdBoot(host.host)
    loader.boot_once(EntryId("debian-7.efi"))
    assert variable(host, "LoaderEntryOneShot") == "debian-7+3.efi"
    assert boots(host).arguments == "root=UUID=a ro"
    secure = f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    host.write(secure, b"\6\0\0\0\0")
    assert loader.against(EntryId("debian-7.efi")) == ()
    host.write(secure, b"\6\0\0\0\1")
    assert "verified as a whole" in loader.against(EntryId("debian-7.efi"))[0]


# --- power --------------------------------------------------------------------------------------


@pytest.mark.parametrize("had", ["", OLD_ENTRY])
@pytest.mark.parametrize("effects", range(56))
def test_a_power_cut_anywhere_leaves_a_bootable_host(
    tmp_path: Path, effects: int, had: str
) -> None:
    set_before = {"LoaderEntryDefault": had} if had else {}
    host = controlled_systemd_boot(tmp_path, **set_before)

    def trial() -> None:
        loader = install(host)
        loader.make_default(KNOWN_GOOD)
        loader.boot_once(NEW_ENTRY)
        loader.forget_once()
        loader.remove()
        bootsets.drop(host.host, boot_set(host).fingerprint)

    try:
        with power_for(effects, tmp_path):
            trial()
    except PowerCutError:
        assert effects < 55, "there are more effects than instants"
        boots(host)
        for fingerprint in bootsets.kept(host.host):
            bootsets.verify(host.host, fingerprint)
    trial()
    assert variable(host, "LoaderEntryDefault") == had
    assert boots(host).entry == (had or NEW_ENTRY)
    assert bootsets.kept(host.host) == ()
