"""The boot menu as it lies on a host."""

from pathlib import Path

from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu
from trialboot.host import Host
from trialboot.readers.bootmenu import host_path, read_menu

MENU = "set default=0\nmenuentry 'a' --id a {\n linux /vmlinuz ro\n}\n"


def host_with(root: Path, **files: str) -> Host:
    (root / "boot/grub").mkdir(parents=True)
    for name, content in files.items():
        (root / "boot/grub" / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return Host(root=root)


def test_a_missing_environment_is_one_without_keys(tmp_path: Path) -> None:
    menu = read_menu(host_with(tmp_path, grub_cfg=MENU))
    assert isinstance(menu, Menu)
    assert (menu.saved, menu.once) == ("", "")


def test_the_environment_is_read_beside_the_menu(tmp_path: Path) -> None:
    block = "# GRUB Environment Block\nsaved_entry=a\nnext_entry=b\n".ljust(1024, "#")
    menu = read_menu(host_with(tmp_path, grub_cfg=MENU, grubenv=block))
    assert isinstance(menu, Menu)
    assert (menu.saved, menu.once) == ("a", "b")


def test_garbage_is_to_grub_an_environment_without_keys(tmp_path: Path) -> None:
    menu = read_menu(host_with(tmp_path, grub_cfg=MENU, grubenv="saved_entry=a\n"))
    assert isinstance(menu, Menu)
    assert menu.saved == ""


def test_what_cannot_be_read_names_file_and_errno(tmp_path: Path) -> None:
    host = host_with(tmp_path, grub_cfg=MENU)
    (tmp_path / "boot/grub/grubenv").mkdir()
    assert read_menu(host) == Unknown("/boot/grub/grubenv: Is a directory (errno 21)")
    (tmp_path / "boot/grub/grubenv").rmdir()
    (tmp_path / "boot/grub/grub.cfg").unlink()
    (tmp_path / "boot/grub/grub.cfg").mkdir()
    assert read_menu(host) == Unknown("/boot/grub/grub.cfg: Is a directory (errno 21)")


def test_a_custom_file_that_sets_the_default_is_seen(tmp_path: Path) -> None:
    assert isinstance(
        read_menu(host_with(tmp_path, grub_cfg=MENU, custom_cfg="set default=1\n")), Unknown
    )


def test_paths_are_found_with_and_without_a_separate_boot(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    (tmp_path / "boot/vmlinuz").touch()
    assert host_path(host, "/vmlinuz") == "/boot/vmlinuz"
    assert host_path(host, "/boot/vmlinuz") == "/boot/vmlinuz"
    assert isinstance(host_path(host, "/gone"), Unknown)
    assert isinstance(host_path(host, "(hd0)/vmlinuz"), Unknown)
