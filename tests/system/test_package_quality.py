"""What Debian's own tools say about the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system import nspawn, roots
from tests.system.conftest import PACKAGE, Lend
from tests.system.packages import Installed
from tests.vm.node import REPOSITORY

pytestmark = pytest.mark.system

# Left by apt-utils, which a root without autopkgtest would not have.
NOT_OURS = ("/var/cache/debconf/tmp.ci/",)


@pytest.mark.parametrize("fresh", ["bookworm", "trixie"], indirect=True)
def test_lintian_has_no_error_and_no_warning(fresh: Installed) -> None:
    fresh.run("lintian", "--allow-root", "--fail-on=error,warning", PACKAGE)


def test_to_install_it_builds_no_initrd_anew(package: Path) -> None:
    """What runs would no longer be what is on disk, and could not become the known-good."""
    done = subprocess.run(
        ["dpkg-deb", "--info", str(package), "triggers"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    assert "activate" not in done.stdout


def test_piuparts_finds_nothing_left_behind(package: Path, tmp_path: Path) -> None:
    if shutil.which("piuparts") is None:
        pytest.skip("piuparts is missing: packaging/set-up installs it")
    ignored = [f"--ignore={path}" for path in NOT_OURS]
    words = [
        # No mount of piuparts' is left behind, and nothing comes from a mirror.
        *("unshare", "--mount", "--net", "piuparts"),
        *("--existing-chroot", str(roots.root("bookworm")), "--keep-sources-list"),
        *("--distribution=bookworm", "--no-eatmydata", "--tmpdir", str(tmp_path), *ignored),
        # The archive has no version to upgrade from: test_maintainer_scripts upgrades.
        *("--no-upgrade-test", str(package)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:]


def test_autopkgtest_passes_under_a_real_systemd(bare: Lend, tmp_path: Path) -> None:
    with (
        roots.copy(bare("bookworm"), tmp_path / "copy") as place,
        nspawn.Machine(place, tmp_path) as machine,
    ):
        shutil.copytree(REPOSITORY / "debian", place / "srv/source/debian")
        machine.run(
            ("autopkgtest", "--output-dir=/srv/out", PACKAGE, "/srv/source", "--", "null"),
            timeout=300,
        )
        summary = (place / "srv/out/summary").read_text()
    results = dict(line.split(maxsplit=1) for line in summary.splitlines())
    tests = {path.name for path in (REPOSITORY / "debian/tests").iterdir()} - {"control"}
    assert results == dict.fromkeys(tests, "PASS")
