"""What apt is told of the known-good: it understands it, and autoremove obeys."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.loaders.host_folder import PowerCutError, power_for
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers import aptprotection

FILE = "etc/apt/apt.conf.d/02trialboot-known-good"
RELEASE = "6.12.117+deb12-cloud-amd64"
KERNELS = {"6.1.0-56-amd64": "6.1.192-2", RELEASE: "6.12.117-1", "7.2.13-amd64": "7.2.13-1"}
NEWER = {"7.3.1-amd64": "7.3.1-1", "7.4.1-amd64": "7.4.1-1"}

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here")


def host_with_apt(root: Path) -> Host:
    (root / "etc/apt/apt.conf.d").mkdir(parents=True)
    return Host(root=root)


def test_the_known_goods_packages_are_named_and_no_others(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    aptprotection.protect(host, RELEASE)
    text = (tmp_path / FILE).read_text()
    assert '{ "^linux-.*-6[.]12[.]117[+]deb12-cloud-amd64$"; };' in text
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644
    aptprotection.protect(host, "6.1.0-56-amd64")
    assert "6[.]12" not in (tmp_path / FILE).read_text()


def test_protecting_twice_writes_once(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    aptprotection.protect(host, RELEASE)
    inode = (tmp_path / FILE).stat().st_ino
    aptprotection.protect(host, RELEASE)
    assert (tmp_path / FILE).stat().st_ino == inode


def test_a_host_without_apt_is_left_alone(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    aptprotection.protect(host, RELEASE)
    aptprotection.release(host)
    assert list(tmp_path.iterdir()) == []


def test_releasing_takes_the_file_away_and_may_be_done_twice(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    aptprotection.protect(host, RELEASE)
    for _ in range(2):
        aptprotection.release(host)
        assert list((tmp_path / FILE).parent.iterdir()) == []


@pytest.mark.parametrize(
    "release",
    [
        *("", "6.1$", '6.1";};', "6.1 amd64", "6.1\n", "6.1/x", "6.1\\d", "6.1|.*", "6.1*"),
        *("6.1(x)", "6.1{2}", "6.1[0]", "-6.1", ".6", "6.1é", "6.1\0", "a" * 101, "6.1;#"),
    ],
)
def test_a_release_that_could_mean_more_is_refused(tmp_path: Path, release: str) -> None:
    host = host_with_apt(tmp_path)
    aptprotection.protect(host, RELEASE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(HostError, match="no kernel release"):
        aptprotection.protect(host, release)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    (tmp_path / FILE).mkdir()
    with pytest.raises(HostError, match="02trialboot-known-good"):
        aptprotection.protect(host, RELEASE)
    with pytest.raises(HostError, match="02trialboot-known-good"):
        aptprotection.release(host)


@pytest.mark.parametrize("effects", range(5))
def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, effects: int) -> None:
    host = host_with_apt(tmp_path)
    aptprotection.protect(host, "6.1.0-56-amd64")
    old = (tmp_path / FILE).read_bytes()
    try:
        with power_for(effects, tmp_path):
            aptprotection.protect(host, RELEASE)
    except PowerCutError:
        assert (tmp_path / FILE).read_bytes() == old
    aptprotection.protect(host, RELEASE)
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [Path(FILE).name]


# --- with the real apt --------------------------------------------------------------------------


def apt(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of apt on a root of its own; its configuration folder is read as at a start."""
    config = root / "apt.conf"
    config.write_text(
        f'Dir "{root}";\nDir::Etc::Parts "{root}/etc/apt/apt.conf.d";\n'
        f'Dir::State::status "{root}/status";\nDebug::NoLocking "1";\n'
        'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\n'
    )
    return subprocess.run(
        words,
        env={"APT_CONFIG": str(config), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def install(root: Path, kernels: dict[str, str]) -> None:
    """Let apt's state have these kernels, all installed for somebody else's sake."""
    for folder in (
        *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"),
        *("etc/apt/sources.list.d", "etc/apt/preferences.d"),
    ):
        (root / folder).mkdir(parents=True)
    (root / "etc/apt/sources.list").touch()
    stock = 'APT::VersionedKernelPackages { "linux-.*"; };\n'
    (root / "etc/apt/apt.conf.d/01autoremove").write_text(stock)
    names = [
        (f"linux-{kind}-{release}", version)
        for release, version in kernels.items()
        for kind in ("image", "modules-extra")
    ]
    (root / "status").write_text(
        "".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n"
            f"Version: {version}\nMaintainer: x\nDescription: x\n\n"
            for name, version in names
        )
    )
    (root / "var/lib/apt/extended_states").write_text(
        "".join(
            f"Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n\n" for name, _ in names
        )
    )


def removable(root: Path) -> set[str]:
    done = apt(root, "apt-get", "-s", "autoremove")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[1] for words in lines if words[:1] == ["Remv"]}


@needs_apt
def test_autoremove_takes_the_known_good_only_where_it_is_not_protected(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    install(tmp_path, {**KERNELS, **NEWER})
    doomed = {f"linux-{kind}-{r}" for r in KERNELS for kind in ("image", "modules-extra")}
    assert removable(tmp_path) == doomed
    aptprotection.protect(host, RELEASE)
    assert doomed - removable(tmp_path) == {
        f"linux-image-{RELEASE}",
        f"linux-modules-extra-{RELEASE}",
    }
    aptprotection.release(host)
    assert removable(tmp_path) == doomed


@needs_apt
def test_a_plus_sign_and_a_dot_are_no_pattern(tmp_path: Path) -> None:
    host = host_with_apt(tmp_path)
    install(tmp_path, {"6.1+x": "1-1", "6.11x": "1-2", "6a1+x": "1-3", **NEWER})
    aptprotection.protect(host, "6.1+x")
    left = {"6.1+x", "6.11x", "6a1+x"} - {
        name.removeprefix("linux-image-") for name in removable(tmp_path)
    }
    assert "6.1+x" in left
    assert "6.11x" not in left


@needs_apt
def test_a_draft_that_a_power_cut_left_is_not_read(tmp_path: Path) -> None:
    host_with_apt(tmp_path)
    draft = tmp_path / f"etc/apt/apt.conf.d/.{Path(FILE).name}.draft"
    draft.write_text('APT::NeverAutoRemove { "^half')
    done = apt(tmp_path, "apt-config", "dump")
    assert (done.returncode, done.stderr) == (0, "")
    assert "half" not in done.stdout


@needs_apt
def test_apt_reads_the_pattern_as_it_was_meant(tmp_path: Path) -> None:
    aptprotection.protect(host_with_apt(tmp_path), RELEASE)
    done = apt(tmp_path, "apt-config", "dump", "--format", "%f %v%n")
    assert (done.returncode, done.stderr) == (0, "")
    pattern = "^linux-.*-6[.]12[.]117[+]deb12-cloud-amd64$"
    assert f"APT::NeverAutoRemove:: {pattern}" in done.stdout.splitlines()


@needs_apt
@settings(deadline=None, max_examples=50)
@given(release=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,40}", fullmatch=True))
def test_no_release_breaks_apt(tmp_path_factory: pytest.TempPathFactory, release: str) -> None:
    root = tmp_path_factory.mktemp("root")
    aptprotection.protect(host_with_apt(root), release)
    done = apt(root, "apt-config", "dump")
    assert (done.returncode, done.stderr) == (0, "")
    assert "APT::NeverAutoRemove::" in done.stdout
