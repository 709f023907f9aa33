"""Real runs of dnf4, dnf5 and rpm with our package in place, and what is left of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.system import roots, rpms
from tests.system.packages import SPOOL, STARTED_BY_BOOT, STARTED_BY_OTHERS, units
from tests.system.rpms import FAIL, KILL, TRIGGERED, RpmHost, file_name
from trialboot.core.facts import Package
from trialboot.core.packagenote import Note, leader_of
from trialboot.host import Host
from trialboot.readers.dnfhistory import read_unfinished
from trialboot.readers.rpmdb import read_rpm_packages

pytestmark = pytest.mark.system
on_each = pytest.mark.parametrize("host", list(rpms.DNF), indirect=True)

REPOSITORY = Path(__file__).parents[2]
RUN = ["begin", "end"]
TRIGGER = "rpm-trigger"
Lend: TypeAlias = Callable[[str], Path]


@pytest.fixture(scope="session")
def rpm_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .rpm of this checkout."""
    done = subprocess.run(
        [str(REPOSITORY / "packaging/build-rpm"), str(tmp_path_factory.mktemp("rpm"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def without(rpm_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lend]:
    """Give a suite's root with the toys and our package at hand, nothing of ours installed."""
    made: dict[str, Path] = {}
    with ExitStack() as stack:

        def lend(suite: str) -> Path:
            if suite not in made:
                into = tmp_path_factory.mktemp(f"without-{suite}")
                place = stack.enter_context(roots.copy(roots.root(suite), into))
                rpms.lay(place, suite, rpm_package)
                RpmHost(place, suite).dnf("install", "toy-system-1.0")
                made[suite] = place
            return made[suite]

        yield lend


@pytest.fixture(scope="session")
def with_ours(without: Lend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lend]:
    """Give a suite's root in which dnf has installed our package."""
    made: dict[str, Path] = {}
    with ExitStack() as stack:

        def lend(suite: str) -> Path:
            if suite not in made:
                into = tmp_path_factory.mktemp(f"with-{suite}")
                place = stack.enter_context(roots.copy(without(suite), into))
                host = RpmHost(place, suite)
                host.dnf("install", "trialboot")
                host.notes()
                made[suite] = place
            return made[suite]

        yield lend


@pytest.fixture
def host(request: pytest.FixtureRequest, with_ours: Lend, tmp_path: Path) -> Iterator[RpmHost]:
    """A private root with our package installed."""
    with roots.copy(with_ours(request.param), tmp_path / "host") as place:
        yield RpmHost(place, request.param)


@pytest.fixture
def bare(request: pytest.FixtureRequest, without: Lend, tmp_path: Path) -> Iterator[RpmHost]:
    """The same root without our package."""
    suite = request.node.callspec.params["host"]
    with roots.copy(without(suite), tmp_path / "bare") as place:
        yield RpmHost(place, suite)


def begin_and_end(host: RpmHost) -> Note:
    """Take the notes of one transaction of dnf; triggers may have told in between."""
    notes = host.notes()
    assert all(note.whole for note in notes)
    assert [notes[0].event, notes[-1].event] == RUN
    assert {note.event for note in notes[1:-1]} <= {"dpkg-begin", "dpkg-end"}
    return notes[0]


def installed(host: RpmHost) -> set[Package]:
    """Ask rpm itself what is installed."""
    form = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}\\n"
    lines = host.rpm("-qa", "--qf", form).splitlines()
    words = (line.split(" ") for line in lines)
    return {Package(name=name, version=version, architecture=a) for name, version, a in words}


# --- our own package ----------------------------------------------------------------------------


@on_each
def test_our_package_is_whole_and_its_services_follow_the_preset(host: RpmHost) -> None:
    assert host.rpm("--verify", "trialboot") == ""
    assert host.run("trialboot", "--version").startswith("trialboot 0.")
    assert units(host) == {"enabled": STARTED_BY_BOOT, "static": STARTED_BY_OTHERS}
    assert (host.place / SPOOL).stat().st_mode & 0o777 == 0o700
    assert (host.place / "etc/motd.d/trialboot").readlink() == Path("/run/trialboot/motd")


@on_each
def test_our_package_goes_without_a_trace_but_its_state(host: RpmHost) -> None:
    host.dnf("remove", "trialboot")
    state = ("var/lib/trialboot", "var/lib/systemd")
    assert [path for path in host.traces() if not path.startswith(state)] == []
    host.notes()
    host.dnf("install", "linux-firmware")
    assert host.notes() == []


@on_each
def test_our_package_is_reinstalled_over_itself(host: RpmHost) -> None:
    host.dnf("reinstall", "trialboot")
    assert host.notes()[0].event == "begin"
    assert host.rpm("--verify", "trialboot") == ""
    assert "enabled" in host.run("systemctl", "is-enabled", "trialbootd.service")


# --- dnf ----------------------------------------------------------------------------------------


@on_each
def test_an_installation_leaves_a_beginning_with_its_plan_and_an_end(host: RpmHost) -> None:
    host.dnf("install", "toy-app-1.0")
    assert set(begin_and_end(host).packages) == {
        *("toy-app install 0:1.0-1.noarch", "linux-firmware install 2:1.0-1.noarch"),
        "kernel-core install 0:4.0-1.noarch",
    }


@on_each
def test_an_upgrade_and_a_removal_tell_what_goes(host: RpmHost) -> None:
    host.dnf("install", "linux-firmware-1.0", "toy-plain-1.0")
    host.notes()
    host.dnf("upgrade", "linux-firmware")
    assert set(begin_and_end(host).packages) == {
        *("linux-firmware upgrade 2:4.0-1.noarch", "linux-firmware replaced 2:1.0-1.noarch")
    }
    host.dnf("remove", "toy-plain")
    assert set(begin_and_end(host).packages) == {"toy-plain remove 0:1.0-1.noarch"}


@on_each
def test_the_limit_of_kernels_removes_the_oldest_and_tells_it(host: RpmHost) -> None:
    for version in rpms.VERSIONS[:3]:
        host.dnf("install", f"kernel-core-{version}")
    host.notes()
    host.dnf("upgrade", "kernel-core")
    assert set(begin_and_end(host).packages) == {
        *("kernel-core install 0:4.0-1.noarch", "kernel-core remove 0:1.0-1.noarch")
    }
    assert not host.exists("/boot/vmlinuz-1.0-toy")


@on_each
def test_what_changes_nothing_leaves_nothing(host: RpmHost) -> None:
    host.dnf("install", "toy-plain")
    host.notes()
    host.dnf("install", "toy-plain")
    host.dnf("install", "--downloadonly", "toy-app")
    host.dnf("list", "--installed")
    assert host.try_dnf("install", "toy-nowhere")[0] == 1
    assert host.notes() == []


@on_each
def test_another_root_is_not_this_host(host: RpmHost) -> None:
    host.dnf(
        "--installroot=/srv/image", "--setopt=reposdir=/etc/yum.repos.d", "install", "toy-app"
    )
    assert host.exists("/srv/image/usr/lib/firmware/toy/nic.bin")
    assert host.notes() == []


@on_each
def test_without_a_spool_nothing_is_left(host: RpmHost) -> None:
    (host.place / SPOOL).rmdir()
    host.dnf("install", "toy-app")
    assert not host.exists(f"/{SPOOL}")


@on_each
def test_a_notice_stands_at_the_end_of_a_plan_that_touches_the_boot(host: RpmHost) -> None:
    told = {}
    for name in ("toy-plain", "toy-app"):
        words = " ".join(host.words("install", name))
        with host.at_terminal(f"mkdir -p /run/trialboot; {words}") as terminal:
            assert terminal.wait() == 0
            told[name] = "\ntrialboot: this run touched what boots" in terminal.said
    assert told == {"toy-plain": False, "toy-app": True}


@on_each
def test_all_notes_of_a_transaction_have_one_leader(host: RpmHost) -> None:
    host.dnf("install", "toy-app")
    leaders = {leader_of(note) for note in host.notes()}
    assert [leader.name for leader in leaders] == [rpms.DNF[host.suite]]
    host.rpm("--erase", "toy-app", "kernel-core")
    leaders = {leader_of(note) for note in host.notes()}
    assert [leader.name for leader in leaders] == ["rpm"]


@on_each
def test_a_transaction_that_failed_has_an_end_too(host: RpmHost, bare: RpmHost) -> None:
    codes = {}
    for each in (host, bare):
        each.write(FAIL, "")
        codes[each.place.parent.name], _ = each.try_dnf("install", "toy-fails", "toy-plain")
    assert codes["host"] == codes["bare"]
    assert set(begin_and_end(host).packages) == {
        *("toy-fails install 0:4.0-1.noarch", "toy-plain install 0:4.0-1.noarch")
    }


@on_each
def test_a_dnf_that_was_killed_is_seen_until_the_next_one(host: RpmHost, bare: RpmHost) -> None:
    for each in (host, bare):
        each.write(KILL, "")
        assert each.try_dnf("install", "toy-kills")[0] == 137
    assert [note.event for note in host.notes()] == ["begin"]
    look = Host(root=host.place)
    told = read_unfinished(look)
    assert isinstance(told, tuple)
    assert len(told) == 1
    assert "toy-kills" in told[0]
    assert told[0].endswith("has not ended")
    assert set(_packages(look)) == installed(host)
    host.dnf("install", "toy-plain")
    assert read_unfinished(look) == ()
    assert [note.event for note in host.notes()] == RUN


@on_each
@pytest.mark.parametrize(
    "words",
    [
        *("install toy-app", "install toy-nowhere", "remove toy-system", "remove toy-plain"),
        *("upgrade", "downgrade toy-system", "reinstall toy-system", "check", "makecache"),
    ],
)
def test_dnf_ends_as_it_would_without_us(host: RpmHost, bare: RpmHost, words: str) -> None:
    ours, theirs = (each.try_dnf(*words.split())[0] for each in (host, bare))
    assert ours == theirs


@on_each
@pytest.mark.parametrize("trouble", ["exit 1", "kill -9 $$", 'rm -f "$0"', "echo }; echo x >&2"])
def test_dnf_takes_no_notice_of_a_hook_in_trouble(host: RpmHost, trouble: str) -> None:
    for program in ("package-hook", "package-notice"):
        host.write(f"/usr/lib/trialboot/{program}", f"#!/bin/sh\n{trouble}\n", 0o755)
    host.dnf("install", "toy-app")
    assert host.try_dnf("install", "toy-nowhere")[0] == 1
    host.run("rm", "-r", "/usr/lib/trialboot")
    host.dnf("remove", "toy-app")


# --- rpm, kernel-install, and the database ------------------------------------------------------


@on_each
@pytest.mark.parametrize("name", ["kernel-core", "linux-firmware", "kmod-toy"])
def test_bare_rpm_tells_by_triggers(host: RpmHost, name: str) -> None:
    host.rpm("--install", file_name(name, "1.0"))
    assert host.events() == ["dpkg-end"]
    host.rpm("--upgrade", file_name(name, "2.0"))
    first, *rest = host.events()
    assert (first, set(rest)) == ("dpkg-begin", {"dpkg-end"})
    host.rpm("--erase", name)
    assert set(host.actions()) == {TRIGGER}


@on_each
def test_bare_rpm_tells_nothing_of_other_files(host: RpmHost) -> None:
    host.rpm("--upgrade", file_name("toy-plain", "1.0"))
    host.rpm("--erase", "toy-plain")
    assert host.notes() == []


@on_each
def test_triggers_of_others_run_beside_ours(host: RpmHost) -> None:
    host.dnf("install", "toy-triggers-1.0")
    host.rpm("--install", file_name("linux-firmware", "1.0"))
    assert (host.place / TRIGGERED[1:]).read_text() == "1.0\n"
    assert host.events()[-1] == "dpkg-end"


@on_each
def test_a_trigger_that_cannot_write_fails_no_transaction(host: RpmHost) -> None:
    host.write("/usr/lib/trialboot/package-hook", "#!/bin/sh\nexit 1\n", 0o755)
    host.rpm("--install", file_name("linux-firmware", "1.0"))
    host.run("rm", "/usr/lib/trialboot/package-hook")
    host.rpm("--upgrade", file_name("linux-firmware", "2.0"))
    assert host.notes() == []


@on_each
@pytest.mark.parametrize("verb", ["add", "remove"])
def test_kernel_install_runs_our_plugin(host: RpmHost, verb: str) -> None:
    host.rpm("--install", file_name("kernel-core", "1.0"))
    host.notes()
    image = ["/boot/vmlinuz-1.0-toy"] if verb == "add" else []
    host.run("kernel-install", verb, "1.0-toy", *image)
    assert host.actions() == [f"kernel:kernel-install/{verb}:1.0-toy"]


@on_each
def test_the_database_is_read_as_rpm_reads_it(host: RpmHost) -> None:
    host.dnf("install", "toy-app", "toy-plain-1.0", "kmod-toy")
    before = sorted(path.name for path in (host.place / rpms.DATABASE[host.suite][1:]).iterdir())
    found = _packages(Host(root=host.place))
    assert set(found) == installed(host)
    assert len(found) == len(set(found))
    assert Package(name="linux-firmware", version="2:4.0-1", architecture="noarch") in found
    after = sorted(path.name for path in (host.place / rpms.DATABASE[host.suite][1:]).iterdir())
    assert before == after


def _packages(host: Host) -> tuple[Package, ...]:
    found = read_rpm_packages(host)
    assert isinstance(found, tuple), found
    return found
