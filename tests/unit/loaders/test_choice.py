"""Which loader writes a menu."""

from dataclasses import replace
from pathlib import Path

from tests.unit.boot_hosts import systemd_boot
from trialboot.bootfiles import read_menu
from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu
from trialboot.loaders.choice import is_controlled, loader_of


def test_a_loader_that_nobody_writes_is_named_and_left_alone(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path).host
    menu = read_menu(host)
    assert isinstance(menu, Menu)
    other = replace(menu, loader="refind")
    assert not is_controlled(other)
    found = loader_of(host, other)
    assert isinstance(found, Unknown)
    assert "the boot loader is refind: its menu is read and not controlled yet" in found.why


def test_a_menu_that_cannot_be_read_has_no_loader(tmp_path: Path) -> None:
    host = systemd_boot(tmp_path).host
    assert loader_of(host, Unknown("torn")) == Unknown("torn")
