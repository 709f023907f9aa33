"""Which carrier the one-shots of this host have: the first that works there."""

from collections.abc import Sequence
from typing import Final

from trialboot.bootfiles import read_menu
from trialboot.bootonce import folder_of
from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu
from trialboot.errors import LoaderError
from trialboot.host import Host
from trialboot.loaders.boot_next import BootNext
from trialboot.loaders.environment_block import EnvironmentBlock
from trialboot.loaders.ground import mounts_of
from trialboot.loaders.kexec import Kexec
from trialboot.loaders.oneshot import OneShot
from trialboot.loaders.own_block import OwnBlock

_ESP: Final = ("/boot/efi", "/efi", "/boot")


def carrier_for(host: Host) -> OneShot | Unknown:
    """Choose what carries one-shots here; Unknown says why nothing but the own block could.

    Where nothing does, 09_trialboot lets GRUB refuse each one-shot that it cannot clear.
    """
    block = EnvironmentBlock(host)
    if why := block.against_default():
        return Unknown(why)
    if not block.against():
        return block
    reasons: dict[str, None] = {}
    for carrier in _others(host):
        against = carrier.against()
        if not against:
            return carrier
        reasons.update(dict.fromkeys(against))
    told = "; ".join(reasons)
    return Unknown(
        f"nothing else carries a one-shot: {told}. A plain partition of 1 MiB or more with ext2 "
        "or vfat, mounted below /boot, would; so does boot.by_kexec = true in trialboot.toml"
    )


def carrier_in(host: Host, menu: Menu) -> OneShot:
    """Give the carrier that the menu on disk takes a one-shot from."""
    if menu.carrier is None:
        return EnvironmentBlock(host)
    for carrier in _others(host):
        if carrier.carrier == menu.carrier:
            return carrier
    where = menu.carrier.folder
    raise LoaderError(f"the menu takes one-shots from {where}: mount it, or run update-grub")


def other_carriers(host: Host) -> list[OneShot]:
    """Give the carriers besides GRUB's own block that have anything on this host.

    The menu's is one of them, whatever is mounted: BootNext is a variable of the firmware.
    """
    menu = read_menu(host)
    asked = menu.carrier if isinstance(menu, Menu) else None
    return [
        carrier
        for carrier in _others(host)
        if host.path(folder_of(carrier.carrier)).is_dir() or carrier.carrier == asked
    ]


def _others(host: Host) -> Sequence[BootNext | OwnBlock | Kexec]:
    return (
        *(BootNext(host, folder) for folder in _ESP),
        *(OwnBlock(host, folder) for folder in _partitions(host)),
        Kexec(host),
    )


def _partitions(host: Host) -> list[str]:
    """Name what is mounted beside /boot: the ESP, or a partition that was made for this."""
    mounts = mounts_of(host)
    places = [] if isinstance(mounts, Unknown) else [mount.place for mount in mounts]
    beside = [place for place in places if place == "/efi" or place.startswith("/boot/")]
    return list(dict.fromkeys(beside))
