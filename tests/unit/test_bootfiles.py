"""What the next boot is on hosts of every layout, from the files of their boot loaders."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.boot_hosts import (
    EFIVARS,
    FEDORA_NEW,
    FEDORA_OLD,
    MACHINE,
    NEW,
    OLD,
    SPLIT,
    BootHost,
    fedora,
    image_parts,
    separate_boot,
    split_packages,
    systemd_boot,
    with_dracut,
    without_copy,
)
from tests.unit.loaders.host_folder import PLAIN
from trialboot.bootfiles import host_path, read_menu
from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu, MenuEntry, Resolved, next_entry, wanted_entry
from trialboot.core.systemdboot import LOADER_VENDOR

FEDORA_LINE = "root=/dev/mapper/fedora-root ro rhgb quiet skew_tick=1"
LINE = 'root=/dev/sda2 ro "dyndbg=file x.c +p" quiet panic=10'
ESP_LINE = f"root=UUID=a ro systemd.machine_id={MACHINE}"


def menu_of(host: BootHost) -> Menu:
    menu = read_menu(host.host)
    assert isinstance(menu, Menu), menu
    return menu


def chosen(answer: Resolved | Unknown) -> MenuEntry:
    assert isinstance(answer, Resolved), answer
    return answer.entry


def why(host: BootHost) -> str:
    """Say why nothing can be said of the next boot."""
    menu = read_menu(host.host)
    answer = menu if isinstance(menu, Unknown) else next_entry(menu)
    assert isinstance(answer, Unknown), answer
    return answer.why


DEBIAN = (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}", LINE)
LAYOUTS = [
    (separate_boot, "grub", DEBIAN),
    (with_dracut, "grub", DEBIAN),
    (
        fedora,
        "grub-bls",
        (f"/boot/vmlinuz-{FEDORA_NEW}", f"/boot/initramfs-{FEDORA_NEW}.img", FEDORA_LINE),
    ),
    (
        systemd_boot,
        "systemd-boot",
        (
            f"/boot/efi/{MACHINE}/{NEW}/linux",
            f"/boot/efi/{MACHINE}/{NEW}/initrd.img-{NEW}",
            ESP_LINE,
        ),
    ),
    (
        split_packages,
        "grub",
        (f"/boot/vmlinuz-{SPLIT}", f"/boot/initrd.img-{SPLIT}", LINE),
    ),
    (
        without_copy,
        "grub",
        (f"/usr/lib/modules/{SPLIT}/vmlinuz", f"/boot/initrd.img-{SPLIT}", LINE),
    ),
]


@pytest.mark.parametrize(("make", "loader", "boots"), LAYOUTS)
def test_the_next_boot_is_found_in_every_layout(
    tmp_path: Path, make: Callable[[Path], BootHost], loader: str, boots: tuple[str, str, str]
) -> None:
    host = make(tmp_path)
    menu = menu_of(host)
    assert menu.loader == loader
    for entry in (chosen(next_entry(menu)), chosen(wanted_entry(menu))):
        files = [host_path(host.host, path) for path in (entry.kernel, *entry.initrds)]
        assert (*files, entry.arguments) == boots


def test_a_default_and_a_one_shot_of_fedora_are_followed(tmp_path: Path) -> None:
    old, new = f"{MACHINE}-{FEDORA_OLD}", f"{MACHINE}-{FEDORA_NEW}"
    menu = menu_of(fedora(tmp_path, saved_entry=old, next_entry=new))
    assert chosen(wanted_entry(menu)).entry == old
    assert chosen(next_entry(menu)).entry == new


def test_rhel_8_with_uefi_keeps_its_menu_on_the_esp(tmp_path: Path) -> None:
    host = fedora(tmp_path)
    moved = tmp_path / "boot/efi/EFI/redhat"
    moved.mkdir(parents=True)
    (tmp_path / "boot/grub2/grub.cfg").rename(moved / "grub.cfg")
    (moved / "user.cfg").write_text("GRUB2_PASSWORD=grub.pbkdf2.sha512.1\n", encoding="utf-8")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/grub2-efi.cfg").symlink_to("../boot/efi/EFI/redhat/grub.cfg")
    assert chosen(next_entry(menu_of(host))).entry == f"{MACHINE}-{FEDORA_NEW}"


def test_a_file_that_grub_sources_is_read_with_the_menu(tmp_path: Path) -> None:
    host = fedora(tmp_path)
    host.write("/boot/grub2/user.cfg", "set default=1\n")
    assert "what sets its default depends on the boot" in why(host)


@pytest.mark.parametrize("folder", ["/boot", "/efi", "/boot/efi"])
def test_paths_begin_where_the_entry_lies(tmp_path: Path, folder: str) -> None:
    host = systemd_boot(tmp_path, folder)
    host.write(f"/boot/loader/entries/{MACHINE}-9.conf", "linux /gone\nsort-key a\n")
    assert chosen(next_entry(menu_of(host))).kernel == f"{folder}/{MACHINE}/{NEW}/linux"


def test_entries_of_the_boot_partition_join_those_of_the_esp(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path, "/efi")
    host.write("/boot/a/linux", "kernel")
    host.write("/boot/loader/entries/a.conf", "linux /a/linux\nsort-key a\n")
    menu = menu_of(host)
    assert menu.entries[0].kernel == "/boot/a/linux"
    assert len(menu.entries) == 3


def test_one_partition_under_two_names_is_read_once(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path, "/boot")
    (tmp_path / "efi").symlink_to("boot")
    assert len(menu_of(host).entries) == 2


def test_efi_variables_choose_for_systemd_boot(tmp_path: Path) -> None:
    old, new = f"{MACHINE}-{OLD}.conf", f"{MACHINE}-{NEW}.conf"
    host = systemd_boot(tmp_path, LoaderEntryDefault=old, LoaderEntrySelected=new)
    menu = menu_of(host)
    assert (chosen(next_entry(menu)).entry, menu.booted) == (old, new)
    host.efi(LoaderEntryOneShot=new)
    menu = menu_of(host)
    assert chosen(next_entry(menu)).entry == new
    assert chosen(wanted_entry(menu)).entry == old
    host.efi(LoaderEntryDefault="@saved", LoaderEntryOneShot="", LoaderEntryLastBooted=new)
    assert chosen(next_entry(menu_of(host))).entry == new


def test_loader_conf_chooses_where_no_variable_does(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.write("/boot/efi/loader/loader.conf", f"default {MACHINE}-6.1.*\n")
    assert chosen(next_entry(menu_of(host))).entry == f"{MACHINE}-{OLD}.conf"


def test_a_unified_kernel_image_is_named_and_not_guessed(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.write("/boot/efi/EFI/Linux/debian-7.efi", b"MZ")
    assert "«debian-7.efi»: this unified kernel image is not understood: it is no PE" in why(host)
    host.efi(LoaderEntryDefault=f"{MACHINE}-{OLD}.conf")
    assert chosen(next_entry(menu_of(host))).entry == f"{MACHINE}-{OLD}.conf"


def uki(cmdline: bytes = b"root=UUID=b ro\0") -> bytes:
    osrel = b"ID=debian\nVERSION_ID=99\n"
    return image_parts(
        linux=b"kernel", initrd=b"initrd", cmdline=cmdline, osrel=osrel, uname=b"7.0"
    )


def test_a_unified_kernel_image_is_read(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.write("/boot/efi/EFI/Linux/debian-7.efi", uki())
    host.write("/boot/efi/loader/loader.conf", "default debian-7*\n")
    entry = chosen(next_entry(menu_of(host)))
    assert (entry.kernel, entry.initrds) == ("/boot/efi/EFI/Linux/debian-7.efi", ())
    assert entry.arguments == "root=UUID=b ro"
    assert entry.image is not None
    assert entry.image.release == "7.0"


@pytest.mark.parametrize("place", ["EFI/Linux/a.efi.extra.d/a.addon.efi", "loader/addons/a.efi"])
def test_what_adds_to_a_unified_image_puts_it_in_doubt(tmp_path: Path, place: str) -> None:
    host = systemd_boot(tmp_path)
    host.write("/boot/efi/EFI/Linux/a.efi", uki())
    host.write(f"/boot/efi/{place}")
    host.write("/boot/efi/loader/loader.conf", "default a.efi\n")
    assert "adds to it, which is not read yet" in why(host)


def test_a_unified_image_with_a_text_of_any_length_is_refused(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.write("/boot/efi/EFI/Linux/a.efi", uki(b"a" * (64 * 1024 + 1)))
    assert "its .cmdline has more than 65536 bytes" in why(host)


# --- which loader it is -------------------------------------------------------------------------


def test_of_two_loaders_the_one_that_says_so_counts(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.kernels(OLD, NEW)
    host.write("/boot/grub/grub.cfg", PLAIN)
    assert menu_of(host).loader == "systemd-boot"
    host.efi(LoaderInfo="GRUB 2.12")
    assert menu_of(host).loader == "grub"
    (tmp_path / f"{EFIVARS}/LoaderInfo-{LOADER_VENDOR}".lstrip("/")).unlink()
    assert menu_of(host).loader == "grub"
    (tmp_path / "boot/grub/grub.cfg").unlink()
    assert menu_of(host).loader == "systemd-boot"


def test_of_two_loaders_none_is_guessed_where_the_variables_cannot_be_read(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    for variable in (tmp_path / EFIVARS.lstrip("/")).iterdir():
        variable.unlink()
    assert why(host) == f"{EFIVARS} shows no variable"
    host.write("/boot/grub/grub.cfg", PLAIN)
    assert why(host) == f"GRUB or systemd-boot: {EFIVARS} shows no variable"
    (tmp_path / "boot/efi/loader/loader.conf").unlink()
    assert menu_of(host).loader == "grub"


def test_where_grub_says_that_it_is_there_its_menu_is_not_taken_from_elsewhere(
    tmp_path: Path,
) -> None:
    host = systemd_boot(tmp_path)
    host.efi(LoaderInfo="GRUB 2.12")
    assert why(host).startswith("/boot/grub/grub.cfg: No such file")


def test_a_loader_that_is_not_known_is_named(tmp_path: Path) -> None:
    host = separate_boot(tmp_path)
    host.efi(LoaderInfo="rEFInd 0.14.2")
    assert why(host) == "the boot loader «rEFInd 0.14.2» is not understood"


def test_without_a_loader_it_says_what_was_looked_for(tmp_path: Path) -> None:
    said = why(BootHost(tmp_path))
    for path in ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/loader/loader.conf"):
        assert path in said


def test_systemd_boot_needs_no_settings_where_it_says_that_it_is_there(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    (tmp_path / "boot/efi/loader/loader.conf").unlink()
    assert chosen(next_entry(menu_of(host))).entry == f"{MACHINE}-{NEW}.conf"


# --- limits, and what cannot be read ------------------------------------------------------------


def test_a_large_entry_is_refused_with_a_reason(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    place = f"/boot/efi/loader/entries/{MACHINE}-7.conf"
    host.write(place, b"#" * (64 * 1024 + 1))
    assert f"{place} is refused: it has more than 65536 bytes" in why(host)
    fine = fedora(tmp_path / "fedora")
    fine.write(f"/boot/loader/entries/{MACHINE}-7.conf", b"#" * (64 * 1024 + 1))
    assert "is refused" in why(fine)


def test_more_entries_than_anybody_has_are_refused(tmp_path: Path) -> None:
    for host in (fedora(tmp_path / "fedora"), systemd_boot(tmp_path / "esp", "/boot")):
        for number in range(1000):
            host.write(f"/boot/loader/entries/{number}.conf")
        assert why(host) == "loader/entries holds more than 1000 entries"


def test_entries_that_are_large_together_are_refused(tmp_path: Path) -> None:
    host = fedora(tmp_path)
    for number in range(65):
        host.write(f"/boot/loader/entries/{number}.conf", b"#" * 64 * 1024)
    assert why(host) == "loader/entries holds more than 4194304 bytes"


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (fedora, "/boot/loader/entries"),
        (systemd_boot, "/boot/efi/loader/entries"),
        (systemd_boot, "/boot/efi/EFI/Linux"),
    ],
)
def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, make: Callable[[Path], BootHost], path: str
) -> None:
    host = make(tmp_path)
    shutil.rmtree(tmp_path / path.lstrip("/"), ignore_errors=True)
    host.write(path, "a file")
    assert why(host) == f"{path}: Not a directory"


def test_efi_variables_that_cannot_be_read_are_no_missing_ones(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    shutil.rmtree(tmp_path / EFIVARS.lstrip("/"))
    host.write(EFIVARS, "a file")
    assert "Not a directory" in why(host)
    (tmp_path / EFIVARS.lstrip("/")).unlink()
    (tmp_path / EFIVARS.lstrip("/")).symlink_to("efivars")
    assert "Too many levels of symbolic links" in why(host)


def test_a_path_that_is_none_is_not_there(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    for name, path in (("long", "a" * 5000), ("odd", "a\0b")):
        host.write(f"/boot/efi/loader/entries/{name}.conf", f"linux /{path}\nsort-key a\n")
        assert isinstance(host_path(host.host, f"/{path}"), Unknown)
    assert chosen(next_entry(menu_of(host))).entry == f"{MACHINE}-{NEW}.conf"


@pytest.mark.parametrize("path", ["/boot/grub/grub.cfg", "/boot/grub/custom.cfg"])
def test_a_huge_menu_is_refused(tmp_path: Path, path: str) -> None:
    host = separate_boot(tmp_path)
    host.write(path, b"#" * (1024 * 1024 + 1))
    assert "more than 1048576 bytes" in why(host)


def test_a_huge_environment_is_refused(tmp_path: Path) -> None:
    host = separate_boot(tmp_path)
    host.write("/boot/grub/grubenv", b"#" * (64 * 1024 + 1))
    assert "/boot/grub/grubenv is refused" in why(host)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/boot/efi/loader/loader.conf", "Is a directory"),
        (f"{EFIVARS}/LoaderEntryDefault-{LOADER_VENDOR}", "Is a directory"),
    ],
)
def test_a_setting_that_cannot_be_read_is_no_setting_that_is_missing(
    tmp_path: Path, path: str, said: str
) -> None:
    host = systemd_boot(tmp_path)
    place = tmp_path / path.lstrip("/")
    place.unlink(missing_ok=True)
    place.mkdir()
    assert said in why(host)


def test_a_variable_that_is_no_string_is_no_variable_that_is_missing(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path)
    host.write(f"{EFIVARS}/LoaderEntryOneShot-{LOADER_VENDOR}", b"\7\0\0\0a")
    assert why(host) == f"{EFIVARS}/LoaderEntryOneShot-{LOADER_VENDOR}: it is no UTF-16"


TEXTS = st.binary(max_size=120)
ANY_HOST = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


@ANY_HOST
@given(TEXTS, TEXTS, TEXTS, st.binary(max_size=20))
def test_whatever_lies_there_gives_a_menu_or_a_reason(
    tmp_path: Path, entry: bytes, settings_file: bytes, variable: bytes, block: bytes
) -> None:
    first, second = systemd_boot(tmp_path / "esp"), fedora(tmp_path / "fedora")
    first.write("/boot/efi/loader/entries/a.conf", b"linux /a\n" + entry)
    first.write("/boot/efi/loader/loader.conf", b"default " + settings_file)
    first.write(f"{EFIVARS}/LoaderEntryOneShot-{LOADER_VENDOR}", variable)
    second.write(f"/boot/loader/entries/{MACHINE}-7.conf", b"linux /a\n" + entry)
    second.write("/boot/grub2/grubenv", b"# GRUB Environment Block\nsaved_entry=" + block)
    second.write("/boot/grub2/custom.cfg", settings_file)
    for host in (first, second):
        menu = read_menu(host.host)
        if isinstance(menu, Menu):
            assert isinstance(next_entry(menu), Resolved | Unknown)
            assert isinstance(wanted_entry(menu), Resolved | Unknown)
        else:
            assert menu.why


@pytest.mark.parametrize(
    ("mounts", "path", "found"),
    [
        ("1 0 0:2 /@ / rw - btrfs a rw\n", "/@/boot/k", "/boot/k"),
        ("1 0 0:2 /@boot /boot rw - btrfs a rw\n", "/@boot/k", "/boot/k"),
        ("1 0 0:2 /@ /srv rw - btrfs a rw\n", "/@/boot/k", None),
        ("1 0 0:2 / / rw - ext4 a rw\n", "/@/boot/k", None),
        ("torn\n", "/@/boot/k", None),
        ("", "/@/boot/k", None),
    ],
)
def test_a_subvolume_in_a_path_is_found_by_its_mount(
    tmp_path: Path, mounts: str, path: str, found: str | None
) -> None:
    host = BootHost(tmp_path)
    host.write("/boot/k")
    host.write("/proc/self/mountinfo", mounts)
    answer = host_path(host.host, path)
    assert isinstance(answer, Unknown) if found is None else answer == found
