"""Our maintainer scripts: killed half-way, and on a host whose GRUB we had taken over."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.host import grub_flow
from tests.system import roots, toys
from tests.system.conftest import OLDER, PACKAGE
from tests.system.packages import STARTED_BY_BOOT, STARTED_BY_OTHERS, Installed, apt, units
from trialboot import __version__
from trialboot.core.facts import Unknown
from trialboot.core.grub import format_environment, parse_environment
from trialboot.writers import aptprotection, dropins

pytestmark = pytest.mark.system
on_each_suite = pytest.mark.parametrize("debian", roots.SUITES, indirect=True)

CFG = "/boot/grub/grub.cfg"
ENVIRONMENT = "/boot/grub/grubenv"
KNOWN_GOOD = "trialboot-known-good"
# The host's own: what its operator had saved before we came.
THEIRS = {"saved_entry": "theirs"}
STALLED = "/var/lib/toy-stalled"
# Runs in the root, on the package that is installed there.
ARM = """
from pathlib import Path
from tests.host import grub_flow
from trialboot.loaders.grub import Grub
work = Path("/srv/work")
work.mkdir()
grub_flow.arm(Grub(grub_flow.on_sda2(work)), work)
"""


def stall(debian: Installed, program: str) -> None:
    """Let a program wait for toys.WAKE before it does its work; STALLED is there meanwhile."""
    real = f"{program}.real"
    debian.run("mv", program, real)
    wait = f"while [ ! -e {toys.WAKE} ]; do : >{STALLED}; sleep 0.1; done"
    debian.write(program, f'#!/bin/sh\n{wait}\nexec {real} "$@"\n', 0o755)


def kill_dpkg(debian: Installed, run: str) -> None:
    """Kill dpkg, and all with it, while a script of ours stands at a known place."""
    with debian.at_terminal(run) as terminal:
        end = time.monotonic() + 60
        while not debian.exists(STALLED):
            assert time.monotonic() < end, terminal.said
            time.sleep(0.05)
        terminal.kill("dpkg")
        terminal.wait()
    debian.write(toys.WAKE, "")


def furnish(debian: Installed) -> str:
    """Give the root two kernels and a menu of its own; return that menu."""
    for release in grub_flow.RELEASES:
        debian.write(f"/boot/vmlinuz-{release}", f"kernel {release}")
        debian.write(f"/boot/initrd.img-{release}", f"initrd {release}")
    debian.write("/etc/default/grub", grub_flow.DEFAULTS)
    debian.write("/usr/sbin/grub-probe", grub_flow.PROBE, 0o755)
    debian.run("mkdir", "-p", "/boot/grub")
    debian.run("update-grub")
    (debian.place / ENVIRONMENT[1:]).write_bytes(format_environment(THEIRS))
    return read(debian, CFG)


def arm(debian: Installed) -> None:
    """Make a kept boot set the default and another kernel the one-shot, as a trial does."""
    (debian.place / "srv/tests/host").mkdir(parents=True)
    shutil.copy(Path(grub_flow.__file__), debian.place / "srv/tests/host/grub_flow.py")
    debian.run("env", "PYTHONPATH=/srv", "python3", "-B", "-c", ARM)
    assert KNOWN_GOOD in read(debian, CFG)
    assert environment(debian)["saved_entry"] == KNOWN_GOOD
    assert environment(debian)["next_entry"]


def read(debian: Installed, path: str) -> str:
    return (debian.place / path.lstrip("/")).read_text()


def environment(debian: Installed) -> Mapping[str, str]:
    # Not by grub-editenv: GRUB 2.14's wants to know the device, and an overlay has none.
    values = parse_environment((debian.place / ENVIRONMENT[1:]).read_bytes())
    assert not isinstance(values, Unknown), values.why
    return values


def menu(text: str) -> list[str]:
    """Give what GRUB runs: an empty script of ours leaves two lines of comment."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def boots_as_ever(debian: Installed, own: str) -> None:
    """Make sure that menu, default and one-shot are what the host had without us."""
    assert menu(read(debian, CFG)) == menu(own)
    assert environment(debian) == THEIRS
    debian.run("update-grub")
    assert menu(read(debian, CFG)) == menu(own)


# --- killed half-way ----------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", roots.SUITES, indirect=True)
def test_an_installation_that_was_killed_is_finished_by_dpkg(fresh: Installed) -> None:
    stall(fresh, "/usr/bin/py3compile")
    kill_dpkg(fresh, f"apt-get -q -y install {PACKAGE}")
    assert fresh.state("trialboot") == f"half-configured {__version__}"
    fresh.run("dpkg", "--configure", "-a")
    assert fresh.state("trialboot") == f"installed {__version__}"
    assert fresh.audit() == ""
    fresh.notes()
    fresh.apt("install", "toy-a")
    assert fresh.events() == ["begin", "end"]


def test_an_upgrade_that_was_killed_is_finished_by_dpkg(fresh: Installed) -> None:
    fresh.apt("install", OLDER)
    stall(fresh, "/usr/bin/py3compile")
    kill_dpkg(fresh, f"apt-get -q -y install {PACKAGE}")
    fresh.run("dpkg", "--configure", "-a")
    assert fresh.state("trialboot") == f"installed {__version__}"
    assert fresh.audit() == ""


@pytest.mark.parametrize("verb", ["purge", "reinstall"])
def test_a_removal_that_was_killed_can_be_finished_or_undone(debian: Installed, verb: str) -> None:
    stall(debian, "/usr/bin/py3clean")
    kill_dpkg(debian, "apt-get -q -y remove trialboot")
    debian.run("dpkg", "--configure", "-a")
    if verb == "purge":
        debian.apt("purge", "trialboot")
        assert debian.traces() == []
    else:
        debian.apt("install", "--reinstall", PACKAGE)
        assert debian.state("trialboot") == f"installed {__version__}"
    assert debian.audit() == ""


@pytest.mark.parametrize("place", ["before", "within"])
def test_a_removal_killed_while_the_boot_loader_is_given_back_can_be_finished(
    debian: Installed, place: str
) -> None:
    own = furnish(debian)
    arm(debian)
    program = {"before": "/usr/bin/py3clean", "within": "/usr/sbin/grub-mkconfig"}[place]
    stall(debian, program)
    kill_dpkg(debian, "apt-get -q -y remove trialboot")
    debian.run("dpkg", "--configure", "-a")
    debian.apt("purge", "trialboot")
    boots_as_ever(debian, own)
    assert debian.traces() == []


# --- units, and what the operator has put in ----------------------------------------------------


@on_each_suite
def test_the_boot_starts_few_units_and_nothing_of_them_outlives_us(debian: Installed) -> None:
    assert units(debian) == {"enabled": STARTED_BY_BOOT, "static": STARTED_BY_OTHERS}
    debian.apt("remove", "trialboot")
    assert units(debian).keys() <= {"masked"}
    debian.write("/var/lib/trialboot/objects/aa", "kept")
    debian.apt("purge", "trialboot")
    assert units(debian) == {}
    assert debian.traces() == []


def test_a_service_that_the_operator_has_disabled_stays_so_over_an_upgrade(
    fresh: Installed,
) -> None:
    fresh.apt("install", OLDER)
    fresh.run("systemctl", "disable", "trialboot-load-test.service")
    fresh.run("systemctl", "mask", "trialboot-keep-objects.service")
    fresh.apt("install", PACKAGE)
    assert units(fresh)["disabled"] == {"trialboot-load-test.service"}
    assert units(fresh)["masked"] == {"trialboot-keep-objects.service"}


def test_the_operators_checks_are_theirs_even_after_a_purge(debian: Installed) -> None:
    own = ["etc/trialboot/checks.d/required.d/10-own", "etc/trialboot/checks.d/wanted.d/10-own"]
    for path in own:
        debian.write(path, "#!/bin/sh\n", 0o755)
    debian.apt("purge", "trialboot")
    assert [path for path in own if debian.exists(path)] == own
    assert not debian.exists("/etc/trialboot/trialboot.toml")


# --- the boot loader is the host's own again ----------------------------------------------------


@on_each_suite
def test_after_a_removal_the_host_boots_as_it_did_without_us(debian: Installed) -> None:
    own = furnish(debian)
    arm(debian)
    debian.apt("remove", "trialboot")
    boots_as_ever(debian, own)
    assert not debian.exists("/boot/trialboot/known-good.sh")
    # Our conffiles are still there, and do nothing.
    assert debian.exists("/etc/grub.d/09_trialboot")
    debian.apt("purge", "trialboot")
    boots_as_ever(debian, own)
    assert debian.traces() == []


def test_a_purge_in_one_go_gives_the_boot_loader_back_too(debian: Installed) -> None:
    own = furnish(debian)
    arm(debian)
    debian.apt("purge", "trialboot")
    boots_as_ever(debian, own)
    assert debian.traces() == []


def test_what_apt_was_told_of_the_known_good_goes_with_us(debian: Installed) -> None:
    debian.write(aptprotection.FILE, aptprotection.parts_file("9.9.9-toy").decode())
    debian.apt("remove", "trialboot")
    assert not debian.exists(aptprotection.FILE)


def test_what_doctor_has_set_goes_with_us_and_what_others_wrote_stays(debian: Installed) -> None:
    own = furnish(debian)
    for drop_in in dropins.DROP_INS.values():
        debian.write(drop_in.path, f"{dropins.MARK} (doctor)\n{drop_in.lines}")
    theirs = dropins.DROP_INS[dropins.Setting.WATCHDOG].path
    debian.write(theirs, "[Manager]\nRuntimeWatchdogSec=60\n")
    debian.run("update-grub")
    assert read(debian, CFG).count("panic=10") > own.count("panic=10")
    debian.apt("remove", "trialboot")
    assert [d.path for d in dropins.DROP_INS.values() if debian.exists(d.path)] == [theirs]
    boots_as_ever(debian, own)


def test_a_removal_without_grub_tools_is_told_and_goes_through(debian: Installed) -> None:
    furnish(debian)
    arm(debian)
    debian.run("mv", "/usr/sbin/grub-mkconfig", "/srv/grub-mkconfig")
    code, said = debian.try_run(*apt("remove", "trialboot"))
    assert code == 0
    assert "the boot loader could not be given back" in said
    # What GRUB reads at its next start is the environment block: there the host is itself again.
    assert environment(debian) == THEIRS


def test_a_purge_takes_away_the_modules_that_were_put_back_and_no_others(
    debian: Installed,
) -> None:
    for name, release in (("aa", "1-gone"), ("bb", "2-installed"), ("cc", "3-never-restored")):
        debian.write(f"/usr/lib/trialboot/kept/{name}/modules/{release}/modules.dep", "")
        debian.write(f"/lib/modules/{release}/modules.dep", "")
    for name in ("aa", "bb"):
        debian.write(f"/usr/lib/trialboot/kept/{name}/modules-restored", "")
    debian.write("/boot/vmlinuz-2-installed", "kernel")
    debian.apt("purge", "trialboot")
    left = sorted(path.name for path in (debian.place / "lib/modules").iterdir())
    assert [name for name in left if name[0] in "123"] == ["2-installed", "3-never-restored"]
    assert not debian.exists("/usr/lib/trialboot/kept")
