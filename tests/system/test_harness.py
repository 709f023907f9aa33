"""The roots and the containers under the other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import nspawn, roots
from tests.vm.errors import CommandFailed

pytestmark = pytest.mark.system


def test_a_copy_is_private_and_the_root_stays_as_it_was(tmp_path: Path) -> None:
    original = roots.root("bookworm")
    with (
        roots.copy(original, tmp_path / "one") as one,
        roots.copy(original, tmp_path / "two") as two,
    ):
        roots.chroot_run(one, ("sh", "-c", "echo changed >/etc/issue; rm /etc/motd"))
        assert (one / "etc/issue").read_text() == "changed\n"
        assert "Debian" in (two / "etc/issue").read_text()
    assert "Debian" in (original / "etc/issue").read_text()


def test_a_command_in_a_root_has_no_network_and_ends_with_all_that_it_started(
    tmp_path: Path,
) -> None:
    with roots.copy(roots.root("bookworm"), tmp_path / "one") as place:
        assert roots.chroot_run(place, ("ip", "-o", "link")).count("\n") == 1
        said = roots.chroot_run(place, ("sh", "-c", "sleep 1000 >/dev/null 2>&1 & ps -e"))
        assert "sleep" in said
        with pytest.raises(CommandFailed, match="took more than 1 s"):
            roots.chroot_run(place, ("sleep", "1000"), timeout=1)
        assert roots.chroot_try(place, ("sh", "-c", "exit 7")) == (7, "")


@pytest.mark.parametrize("suite", roots.SUITES)
def test_a_container_runs_a_real_systemd_and_reboots(suite: str, tmp_path: Path) -> None:
    with (
        roots.copy(roots.root(suite), tmp_path / "copy") as place,
        nspawn.Machine(place, tmp_path) as machine,
    ):
        assert machine.run(("systemctl", "is-system-running")) == "running\n"
        assert machine.run(("systemctl", "--failed", "--no-legend")) == ""
        machine.run(("touch", "/run/volatile", "/var/lasting"))
        machine.reboot()
        assert machine.try_run(("test", "-e", "/run/volatile"))[0] == 1
        machine.run(("test", "-e", "/var/lasting"))
