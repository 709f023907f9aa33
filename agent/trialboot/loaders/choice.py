"""Which boot loader this host has, and whether it may be written."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.menu import GRUB, GRUB_BLS, SYSTEMD_BOOT, Menu
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.loaders.grub_bls import GrubBls
from trialboot.loaders.interface import Loader
from trialboot.loaders.systemd_boot import SystemdBoot

_LOADERS: Final[Mapping[str, Callable[[Host], Loader]]] = MappingProxyType(
    {GRUB: Grub, GRUB_BLS: GrubBls, SYSTEMD_BOOT: SystemdBoot}
)


def is_controlled(menu: Menu) -> bool:
    """Tell whether the loader of a menu is one that trialboot writes; others are only read."""
    return menu.loader in _LOADERS


def loader_of(host: Host, menu: Menu | Unknown) -> Loader | Unknown:
    """Give the loader whose menu this is, to be written."""
    if isinstance(menu, Unknown):
        return menu
    if not is_controlled(menu):
        return Unknown(
            f"the boot loader is {menu.loader}: its menu is read and not controlled yet, "
            "so this host stays in observe mode"
        )
    return _LOADERS[menu.loader](host)
