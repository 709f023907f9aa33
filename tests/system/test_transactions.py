"""Real runs of apt, aptitude, unattended-upgrades and dpkg, and the notes that the hook leaves."""

from __future__ import annotations

import shutil
from itertools import groupby

import pytest

from tests.system import roots, toys
from tests.system.packages import SPOOL, Installed, apt, steps
from trialboot import __version__

pytestmark = pytest.mark.system
on_each_suite = pytest.mark.parametrize("debian", roots.SUITES, indirect=True)

RUN = ["begin", "end"]
DPKG_RUN = ["dpkg-begin", "dpkg-end"]
# apt's exit code for whatever went wrong.
FAILED = 100
FOREIGN = "/etc/apt/apt.conf.d/90toy"
# The shell outlives apt-get, so that dpkg may go on without it as it would on a host.
INSTALL_A_SLEEPER = """
apt-get -q -y install toy-sleeps
while pgrep -x dpkg >/dev/null; do sleep 0.1; done
"""


# --- what goes well -----------------------------------------------------------------------------


@on_each_suite
def test_an_installation_leaves_a_beginning_with_its_plan_and_an_end(debian: Installed) -> None:
    debian.apt("install", "toy-b=1.0", "toy-a=1.0")
    assert debian.state("toy-b") == "installed 1.0"
    begin, end = debian.notes()
    assert [begin.event, end.event] == RUN
    assert begin.whole
    assert end.whole
    assert steps(begin) == {"toy-a": "- < 1.0", "toy-b": "- < 1.0"}


@on_each_suite
def test_an_upgrade_tells_the_version_before_and_after(debian: Installed) -> None:
    debian.apt("install", "toy-b=1.0", "toy-a=1.0")
    debian.notes()
    debian.apt("dist-upgrade")
    assert debian.state("toy-a") == "installed 2.0"
    begin, end = debian.notes()
    assert [begin.event, end.event] == RUN
    assert steps(begin) == {"toy-a": "1.0 < 2.0", "toy-b": "1.0 < 2.0"}


def test_a_downgrade_points_the_other_way(debian: Installed) -> None:
    debian.apt("install", "toy-a")
    debian.notes()
    debian.apt("install", "--allow-downgrades", "toy-a=1.0")
    assert debian.state("toy-a") == "installed 1.0"
    begin, end = debian.notes()
    assert [begin.event, end.event] == RUN
    assert steps(begin) == {"toy-a": "2.0 > 1.0"}


@on_each_suite
@pytest.mark.parametrize("verb", ["remove", "purge"])
def test_a_removal_is_told_like_any_other_run(debian: Installed, verb: str) -> None:
    debian.apt("install", "toy-a", "toy-b")
    debian.notes()
    debian.apt(verb, "toy-a")
    assert debian.state("toy-b") in {"absent", "not-installed"}
    begin, end = debian.notes()
    assert [begin.event, end.event] == RUN
    assert steps(begin) == {"toy-a": "2.0 > -", "toy-b": "2.0 > -"}


def test_a_run_with_nothing_to_do_leaves_nothing(debian: Installed) -> None:
    debian.apt("install", "toy-a")
    debian.notes()
    debian.apt("install", "toy-a")
    debian.apt("install", "--simulate", "toy-b")
    debian.apt("install", "--download-only", "toy-b")
    assert debian.events() == []


@on_each_suite
@pytest.mark.parametrize("name", ["toy-firmware-usr", "toy-firmware-lib", "toy-module"])
def test_firmware_and_modules_from_bare_dpkg_also_pull_the_trigger(
    debian: Installed, name: str
) -> None:
    debian.run("dpkg", "-i", toys.file_name(name, "1.0"))
    # The one in the middle is the trigger's, for either spelling of /lib.
    assert debian.events() == ["dpkg-begin", "dpkg-end", "dpkg-end"]
    debian.run("dpkg", "--remove", name)
    assert debian.events() == ["dpkg-begin", "dpkg-end", "dpkg-end"]


def test_bare_dpkg_leaves_its_own_kind_of_notes(debian: Installed) -> None:
    debian.run("dpkg", "-i", toys.file_name("toy-a", "1.0"))
    assert debian.state("toy-a") == "installed 1.0"
    assert debian.events() == DPKG_RUN


def test_an_image_built_below_another_root_is_no_matter_of_this_host(debian: Installed) -> None:
    debian.run("mkdir", "-p", "/target/var/lib/dpkg/info", "/target/var/lib/dpkg/updates")
    debian.write("/target/var/lib/dpkg/status", "")
    debian.run("dpkg", "--root=/target", "-i", toys.file_name("toy-firmware-usr", "1.0"))
    assert debian.exists("/target/usr/lib/firmware/toy/usr.bin")
    assert debian.events() == []


def test_aptitude_runs_the_same_hooks(debian: Installed) -> None:
    debian.run("aptitude", "-q", "-y", "install", "toy-b")
    assert debian.state("toy-a") == "installed 2.0"
    begin, *runs_of_dpkg, end = debian.notes()
    assert [begin.event, end.event] == RUN
    # It gives dpkg's lock away for each run of dpkg, which then takes itself for a bare one.
    assert [note.event for note in runs_of_dpkg] == DPKG_RUN * (len(runs_of_dpkg) // 2)
    assert steps(begin) == {"toy-a": "- < 2.0", "toy-b": "- < 2.0"}


@pytest.mark.parametrize(
    ("minimal", "least", "most"), [("true", 10, 20), ("false", 1, 2)], ids=["small", "one"]
)
def test_unattended_upgrades_run_in_small_steps_or_in_one(
    debian: Installed, minimal: str, least: int, most: int
) -> None:
    load = [toy.name for toy in toys.toys() if toy.name.startswith("toy-load-")]
    debian.apt("install", *(f"{name}=1.0" for name in load))
    debian.notes()
    debian.write(
        "/etc/apt/apt.conf.d/52toys",
        f'Unattended-Upgrade::Origins-Pattern {{ "origin={toys.ORIGIN}"; }};\n'
        f'Unattended-Upgrade::MinimalSteps "{minimal}";\n',
    )
    debian.run("unattended-upgrade", "--verbose")
    assert {debian.state(name) for name in load} == {"installed 2.0"}
    notes = debian.notes()
    # It reads apt's configuration twice, so each of its runs calls each hook twice.
    runs = [event for event, _ in groupby(note.event for note in notes)]
    assert runs == RUN * (len(runs) // 2)
    assert least <= len(runs) // 2 <= most
    told = {name for note in notes for name in steps(note)}
    assert told == set(load)


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_failing_package_has_a_beginning_and_an_end_and_so_has_its_repair(
    debian: Installed,
) -> None:
    debian.write(toys.FAIL, "")
    code, _ = debian.try_run(*apt("install", "toy-fails"))
    assert code == FAILED
    assert debian.state("toy-fails") == "half-configured 2.0"
    assert debian.events() == RUN
    debian.run("rm", toys.FAIL)
    debian.apt("install", "--fix-broken")
    assert debian.state("toy-fails") == "installed 2.0"
    begin, end = debian.notes()
    assert [begin.event, end.event] == RUN
    assert steps(begin) == {}


@on_each_suite
def test_a_killed_apt_leaves_a_beginning_without_an_end(debian: Installed) -> None:
    with debian.at_terminal(INSTALL_A_SLEEPER) as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("apt-get")
        debian.write(toys.WAKE, "")
        terminal.wait()
    assert debian.state("toy-sleeps") == "half-configured 2.0"
    assert debian.events() == ["begin"]
    debian.run("dpkg", "--configure", "-a")
    assert debian.state("toy-sleeps") == "installed 2.0"
    assert debian.audit() == ""
    assert debian.events() == DPKG_RUN


@on_each_suite
def test_a_killed_dpkg_is_ended_by_apt(debian: Installed) -> None:
    with debian.at_terminal("apt-get -q -y install toy-sleeps; echo code=$?") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("dpkg")
        terminal.wait_for(f"code={FAILED}")
    assert debian.state("toy-sleeps") == "half-configured 2.0"
    assert debian.events() == RUN
    debian.write(toys.WAKE, "")
    debian.run("dpkg", "--configure", "-a")
    assert debian.state("toy-sleeps") == "installed 2.0"
    assert debian.events() == DPKG_RUN


def test_a_killed_bare_dpkg_leaves_a_beginning_without_an_end(debian: Installed) -> None:
    package = toys.file_name("toy-sleeps", "2.0")
    with debian.at_terminal(f"dpkg -i {package}; echo code=$?") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.kill("dpkg")
        terminal.wait_for("code=137")
    assert debian.events() == ["dpkg-begin"]


def test_a_package_that_kills_its_dpkg_is_ended_by_apt(debian: Installed) -> None:
    debian.apt("install", "toy-kills=1.0")
    debian.notes()
    code, _ = debian.try_run(*apt("install", "toy-kills"))
    assert code == FAILED
    assert debian.state("toy-kills") == "half-configured 2.0"
    assert debian.events() == RUN


def test_an_interrupt_at_the_terminal_does_not_end_the_hook_half_way(debian: Installed) -> None:
    with debian.at_terminal("apt-get -q -y install toy-sleeps; echo code=$?") as terminal:
        terminal.wait_for(toys.ASLEEP)
        terminal.type("\x03")
        debian.write(toys.WAKE, "")
        terminal.wait_for("code=")
    # Whatever the interrupt did to the run, the notes are whole.
    assert debian.events() == RUN


def test_another_hook_that_vetoes_leaves_a_beginning_without_an_end(debian: Installed) -> None:
    debian.write(FOREIGN, 'DPkg::Pre-Install-Pkgs { "false"; };\n')
    code, _ = debian.try_run(*apt("install", "toy-a"))
    assert code == FAILED
    assert debian.state("toy-a") == "absent"
    assert debian.events() == ["begin"]
    debian.run("rm", FOREIGN)
    debian.apt("install", "toy-a")
    assert debian.events() == RUN


def test_another_hook_that_fails_at_the_end_does_not_hide_ours(debian: Installed) -> None:
    debian.write(FOREIGN, 'DPkg::Post-Invoke { "false"; };\n')
    code, _ = debian.try_run(*apt("install", "toy-a"))
    assert code == FAILED
    assert debian.state("toy-a") == "installed 2.0"
    assert debian.events() == RUN


def test_a_full_disk_fails_no_run_and_leaves_no_torn_note(debian: Installed) -> None:
    said = debian.run(
        "sh",
        "-ec",
        f"""
        mount -t tmpfs -o size=64k tmpfs /{SPOOL}
        head -c 65536 /dev/zero >/{SPOOL}/filler || true
        apt-get -q -y install toy-a
        dpkg -i {toys.file_name("toy-b", "2.0")}
        echo "notes:" /{SPOOL}/*.ev
        """,
    )
    assert said.endswith(f"notes: /{SPOOL}/*.ev\n")
    assert debian.state("toy-b") == "installed 2.0"


# --- our own package ----------------------------------------------------------------------------


def work_with_packages(debian: Installed) -> None:
    """Take apt and dpkg through a day's work; nothing of ours may be heard."""
    said = debian.apt("install", "toy-a=1.0", "toy-fails")
    said += debian.apt("install", "toy-a")
    said += debian.run("dpkg", "-i", toys.file_name("toy-b", "2.0"))
    said += debian.apt("purge", "toy-a", "toy-b", "toy-fails")
    assert "trialboot" not in said
    assert debian.state("toy-a") in {"absent", "not-installed"}


@on_each_suite
def test_apt_and_dpkg_work_on_when_only_our_conffiles_are_left(debian: Installed) -> None:
    debian.apt("remove", "trialboot")
    assert debian.state("trialboot") == f"config-files {__version__}"
    assert debian.exists("/etc/apt/apt.conf.d/02trialboot")
    assert debian.exists("/etc/dpkg/dpkg.cfg.d/trialboot")
    work_with_packages(debian)


@on_each_suite
def test_a_purge_leaves_nothing_of_ours(debian: Installed) -> None:
    debian.apt("install", "toy-load")
    assert list((debian.place / SPOOL).iterdir())
    debian.apt("purge", "trialboot")
    assert debian.traces() == []
    work_with_packages(debian)


def test_a_purge_after_a_removal_leaves_nothing_either(debian: Installed) -> None:
    debian.apt("remove", "trialboot")
    debian.apt("purge", "trialboot")
    assert debian.traces() == []


def test_it_can_be_installed_again_after_a_removal(debian: Installed) -> None:
    debian.apt("remove", "trialboot")
    debian.apt("install", "/srv/trialboot.deb")
    debian.notes()
    debian.apt("install", "toy-a")
    assert debian.events() == RUN


def test_an_operator_who_deleted_the_spool_is_not_punished(debian: Installed) -> None:
    shutil.rmtree(debian.place / SPOOL)
    work_with_packages(debian)
    assert not debian.exists(SPOOL)
