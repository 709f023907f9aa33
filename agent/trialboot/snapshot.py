"""All readers asked at one moment. A reader that fails makes its part Unknown, never empty."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from trialboot.content import Cache, read_tree
from trialboot.core.facts import Kernel, Module, Package, Tree, Unknown
from trialboot.core.outlook import Snapshot
from trialboot.core.transaction import Condition
from trialboot.covered import firmware_folder
from trialboot.errors import HostError, LoaderError
from trialboot.host import Host
from trialboot.readers import (
    dkms,
    dnfhistory,
    efi,
    evidence,
    kernel,
    modules,
    packages,
    rpmdb,
    settings,
)
from trialboot.readers.equipment import inventory

_T = TypeVar("_T")


def take(host: Host, cache: Cache) -> Snapshot:
    """Read everything that one moment of a host has, but the network: that takes rights.

    `cache` holds what was hashed before, and afterwards what was hashed now.
    """
    now = host.moment()
    runs = kernel.read_kernel(host)
    installed, condition = _package_database(host)
    return Snapshot(
        taken_at=now,
        kernel=runs,
        modules=_loaded(host, runs, cache),
        firmware=guarded(lambda: _firmware(host, cache)),
        packages=installed,
        condition=condition,
        equipment=inventory.read_equipment(host),
        dkms=dkms.read_dkms(host),
        settings=settings.read_settings(host),
        boot_next=efi.read_boot_next(host),
        evidence=evidence.read_evidence(host),
    )


def _firmware(host: Host, cache: Cache) -> Tree:
    """Read the packages' firmware; a host without any, a cloud image, may lack the folder.

    A link that leads nowhere is another matter: what it leads to may be not mounted.
    """
    folder = host.path(firmware_folder(host))
    if folder.exists() or folder.is_symlink():
        return read_tree(folder, cache=cache)
    return Tree(files=(), newest_change=int(folder.parent.stat().st_ctime))


def guarded(read: Callable[[], _T]) -> _T | Unknown:
    """Turn what a read raises into not knowing."""
    try:
        return read()
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")
    except (HostError, LoaderError) as error:
        return Unknown(str(error))


def _package_database(host: Host) -> tuple[tuple[Package, ...] | Unknown, Condition]:
    """Read dpkg's database; on a host without dpkg, rpm's."""
    database = packages.read_database(host)
    unfinished = dnfhistory.read_unfinished(host)
    installed = database.packages
    if not host.exists(packages.STATUS):
        found = rpmdb.read_rpm_packages(host)
        installed = found if isinstance(found, tuple) else installed
    return installed, replace(database.condition, unfinished=unfinished)


def _loaded(host: Host, runs: Kernel | Unknown, cache: Cache) -> tuple[Module, ...] | Unknown:
    if isinstance(runs, Unknown):
        return runs
    return modules.read_loaded_modules(host, runs.release, cache=cache)
