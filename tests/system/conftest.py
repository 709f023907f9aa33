"""What all tests with real package managers and a real systemd share."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.system import roots, toys
from tests.system.packages import Installed
from tests.vm import command
from tests.vm.errors import InfrastructureError
from tests.vm.node import build_package

_CLONE_NEWNS = 0x00020000
PACKAGE = "/srv/trialboot.deb"
OLDER = "/srv/trialboot-older.deb"

# The same package as an older version, and with a conffile that has changed since.
_AGE = f"""
dpkg-deb -R {PACKAGE} /srv/older
sed -i 's/^Version: .*/Version: 0.0.9/' /srv/older/DEBIAN/control
echo '# As it was.' >>/srv/older/etc/apt/apt.conf.d/02trialboot
dpkg-deb --root-owner-group -Zgzip -z1 -b /srv/older {OLDER}
rm -r /srv/older
"""

Lend: TypeAlias = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def private_mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give this run mounts of its own: they go with it, however it ends."""
    roots.require()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        pytest.skip(f"no mounts of our own here: {os.strerror(ctypes.get_errno())}")
    command.output("mount", "--make-rprivate", "/")
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "original").mkdir()
    try:
        with roots.copy(folder / "original", folder / "copy"):
            pass
    except InfrastructureError as error:
        pytest.skip(f"no overlays on this file system: {error}")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this checkout."""
    given = os.environ.get("TRIALBOOT_DEB")
    return Path(given) if given else build_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def bare(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lend]:
    """Give a suite's root with our package's file and the toys in it, nothing installed yet."""

    def prepare(place: Path) -> None:
        shutil.copy(package, place / PACKAGE[1:])
        roots.chroot_run(place, ("sh", "-ec", _AGE))
        toys.lay(place)
        roots.chroot_run(place, ("apt-get", "-q", "update"))

    with ExitStack() as stack:
        yield _templates(stack, tmp_path_factory.mktemp("bare"), roots.root, prepare)


@pytest.fixture(scope="session")
def installed(bare: Lend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lend]:
    """Give a suite's root with our package installed. Never written to: tests use copies."""

    def prepare(place: Path) -> None:
        roots.chroot_run(place, ("apt-get", "-q", "-y", "install", PACKAGE))
        # Its own installation leaves a note at its end, which is no matter here.
        Installed(place).notes()

    with ExitStack() as stack:
        yield _templates(stack, tmp_path_factory.mktemp("installed"), bare, prepare)


@pytest.fixture
def debian(request: pytest.FixtureRequest, installed: Lend, tmp_path: Path) -> Iterator[Installed]:
    """A private root with our package installed, of bookworm or of the suite that is asked for."""
    suite = getattr(request, "param", "bookworm")
    with roots.copy(installed(suite), tmp_path / "debian") as place:
        yield Installed(place)


@pytest.fixture
def fresh(request: pytest.FixtureRequest, bare: Lend, tmp_path: Path) -> Iterator[Installed]:
    """A private root in which our package is still to be installed, from PACKAGE."""
    suite = getattr(request, "param", "bookworm")
    with roots.copy(bare(suite), tmp_path / "fresh") as place:
        yield Installed(place)


def _templates(
    stack: ExitStack, folder: Path, below: Lend, prepare: Callable[[Path], None]
) -> Lend:
    """Make a template the first time that its suite is asked for."""
    made: dict[str, Path] = {}

    def lend(suite: str) -> Path:
        if suite not in made:
            place = stack.enter_context(roots.copy(below(suite), folder / suite))
            prepare(place)
            made[suite] = place
        return made[suite]

    return lend
