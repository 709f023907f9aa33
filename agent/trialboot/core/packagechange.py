"""Differences of the package database, and which of them matter for a boot."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Package, Unknown


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PackageChange:
    """One difference of the package database; a version that is empty stands for absent."""

    name: str
    architecture: str
    before: str
    after: str


Place = tuple[str, str]
Version = tuple[Place, str]


def difference(
    before: tuple[Package, ...], after: tuple[Package, ...]
) -> tuple[PackageChange, ...]:
    """Tell what changed between two states of the package database, sorted by name.

    Of a package that several versions of are installed (kernels, under dnf) each that came or
    went is a change; one that went and one that came are one.
    """
    gone, came = set(before) - set(after), set(after) - set(before)
    return _paired({_version_of(each) for each in gone}, {_version_of(each) for each in came})


def combined(
    first: tuple[PackageChange, ...] | Unknown, second: tuple[PackageChange, ...] | Unknown
) -> tuple[PackageChange, ...] | Unknown:
    """Give the difference over two differences, one after the other."""
    if isinstance(first, Unknown):
        return first
    if isinstance(second, Unknown):
        return second
    gone, came = sides(first)
    then_gone, then_came = sides(second)
    return _paired(
        (gone - then_came) | (then_gone - came), (came - then_gone) | (then_came - gone)
    )


def sides(changes: tuple[PackageChange, ...]) -> tuple[set[Version], set[Version]]:
    """Give what went and what came."""
    gone = {((each.name, each.architecture), each.before) for each in changes if each.before}
    came = {((each.name, each.architecture), each.after) for each in changes if each.after}
    return gone, came


def _version_of(package: Package) -> Version:
    return (package.name, package.architecture), package.version


def _paired(gone: set[Version], came: set[Version]) -> tuple[PackageChange, ...]:
    before, after = _by_place(gone), _by_place(came)
    rows: list[PackageChange] = []
    for place in before.keys() | after.keys():
        old, new = before.get(place, ()), after.get(place, ())
        if len(old) == len(new) == 1:
            rows.append(_change(place, old[0], new[0]))
        else:
            rows += [_change(place, version, "") for version in old]
            rows += [_change(place, "", version) for version in new]
    return tuple(sorted(rows))


def _by_place(versions: set[Version]) -> dict[Place, tuple[str, ...]]:
    found: dict[Place, tuple[str, ...]] = {}
    for place, version in versions:
        found[place] = (*found.get(place, ()), version)
    return found


def _change(place: Place, before: str, after: str) -> PackageChange:
    return PackageChange(name=place[0], architecture=place[1], before=before, after=after)


# --- which packages matter ----------------------------------------------------------------------

BOOT_PACKAGES: Final = (
    "^("
    "linux-(image|modules|binary|base|firmware)(-.*)?"
    "|kernel(-(core|modules|uki|rt|64k|16k|debug|default|uek|automotive|zfcpdump).*)?"
    "|(proxmox|pve)-kernel-.*|xen-hypervisor.*"
    "|firmware-.*|.*-firmware(-.*)?|wireless-regdb"
    "|.*-microcode|microcode_ctl|ucode-.*"
    "|initramfs-tools.*|.*-initramfs|dracut.*|mkinitcpio.*"
    "|grub-.*|grub2.*|grubby|shim|shim-.*|systemd-(boot|ukify).*|sdbootutil"
    "|u-boot-.*|flash-kernel|refind|extlinux|syslinux.*"
    "|dkms|.*-dkms(-.*)?|akmod-.*|kmod-.*"
    ")$"
)
"""Names of the packages that a boot is made of, in Debian, Ubuntu and Fedora: kernels, modules,
firmware, microcode, what builds initrds, boot loaders, DKMS. An extended regular expression that
Python and POSIX awk read alike: packaging/dpkg/package-hook has the same."""
_BOOT_PACKAGES: Final = re.compile(BOOT_PACKAGES)


def touches_boot(names: Iterable[str]) -> bool:
    """Tell whether one of these packages is one that a boot is made of.

    An architecture behind a name (`linux-image-amd64:amd64`) does not matter.
    """
    return any(_BOOT_PACKAGES.match(name.partition(":")[0]) for name in names)


def weightiest(changes: tuple[PackageChange, ...], most: int) -> tuple[PackageChange, ...]:
    """Give some of the changes, sorted, first of all those of packages that matter for a boot."""
    by_weight = sorted(changes, key=lambda each: (not touches_boot((each.name,)), each))
    return tuple(sorted(by_weight[:most]))
