"""The units load, stay within their budget of exposure, and start what exists."""

import configparser
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trialboot.workers.late_start import LONGEST_START

SYSTEMD = Path(__file__).parents[3] / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))

# systemd-analyze security, in tenths, 0 is best. It counts 0.3 for PrivateTmp and PrivateDevices,
# which no unit may have that has to work on a full disk.
EXPOSURE = {
    "trialbootd.service": 11,
    "trialboot-boot-check.service": 11,
    "trialboot-late-start.service": 10,
    "trialboot-kexec.service": 18,  # kexec_file_load(2), and writes below /boot/grub
    "trialboot-metrics.service": 10,
    "trialboot-render.service": 11,
    "trialboot-standstill.service": 10,
    "trialboot-node.service": 21,
    "trialboot-operator-checks.service": 24,
    "trialboot-pin.service": 22,
    "trialboot-prove.service": 34,  # entering namespaces found by processes: SYS_ADMIN, SYS_PTRACE
    "trialboot-snapshot.service": 24,
    "trialboot-before-reboot.service": 28,  # as keep-objects
    "trialboot-keep-objects.service": 28,  # loads programs, and opens the agent's root folder
    "trialboot-load-test.service": 22,  # loads programs
    "trialboot-verify.service": 26,  # walking all eBPF programs takes CAP_SYS_ADMIN
}
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")


def _options(name: str) -> dict[str, list[str]]:
    """Read a [Service] section; an option may stand there several times."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().partition("[Service]")[2].splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYZE), *words], capture_output=True, text=True, check=False, timeout=60
    )


# Where Python is to be spared the hosts that have nothing to do.
GUARDED = re.compile(r"^/bin/sh -c 'test ! -e /\S+ \|\| exec (.*)'$")


def test_every_unit_has_a_budget() -> None:
    assert list(EXPOSURE.keys() - set(SERVICES)) == []
    assert list(set(SERVICES) - EXPOSURE.keys()) == []


@needs_systemd
def test_the_units_load() -> None:
    units = sorted(
        [*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket"), *SYSTEMD.glob("*.timer")]
    )
    done = _analyze("verify", "--man=no", *map(str, units))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_not_more_exposed_than_it_must_be(name: str) -> None:
    limit = f"--threshold={EXPOSURE[name]}"
    done = _analyze("security", "--offline=yes", "--no-pager", limit, str(SYSTEMD / name))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_starts_a_module_that_exists_isolated(name: str) -> None:
    options = _options(name)
    # What acts at a stop has to have been started.
    (command,) = options.get("ExecStop") or options["ExecStart"]
    *python, module = GUARDED.sub(r"\1", command).split()
    assert python == ["/usr/bin/python3", "-I", "-m"]
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("name", SERVICES)
def test_the_run_folder_outlives_every_unit(name: str) -> None:
    options = _options(name)
    if "RuntimeDirectory" in options:
        assert options["RuntimeDirectoryPreserve"] == ["yes"]
        assert options["RuntimeDirectoryMode"] == ["0755"]
    assert ("StateDirectory" in options) == (options.get("StateDirectoryMode") == ["0700"])


@pytest.mark.parametrize("name", SERVICES)
def test_only_what_boots_by_itself_is_installed(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(SYSTEMD / name)
    starts = {
        "trialbootd.service": "WantedBy",
        "trialboot-boot-check.service": "RequiredBy",
        "trialboot-before-reboot.service": "WantedBy",
        "trialboot-kexec.service": "WantedBy",
        "trialboot-load-test.service": "WantedBy",
        "trialboot-standstill.service": "WantedBy",
    }
    assert unit.has_section("Install") == (name in starts)


@pytest.mark.parametrize("name", ["trialboot-snapshot.service", "trialboot-pin.service"])
def test_the_module_tree_can_be_read(name: str) -> None:
    assert "ProtectKernelModules" not in _options(name)


def test_the_pin_unit_splits_no_mount_between_packages_and_vault() -> None:
    options = _options("trialboot-pin.service")
    assert "ProtectSystem" not in options
    assert options["ReadWritePaths"] == ["-/sys/firmware/efi/efivars -/etc/apt/apt.conf.d"]


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"trialboot-metrics.service"}))
def test_a_unit_starts_on_a_full_disk(name: str) -> None:
    """systemd makes folders below /tmp and /var/tmp for these, and fails (226/NAMESPACE).

    The metrics alone may be missing there: DynamicUser implies PrivateTmp.
    """
    assert {"PrivateTmp", "PrivateDevices", "DynamicUser"}.isdisjoint(
        key for key, values in _options(name).items() if values != ["no"]
    )


@pytest.mark.parametrize("name", ["trialboot-late-start.service", "trialboot-standstill.service"])
def test_where_the_base_system_is_not_up_nothing_is_made_or_waited_for(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(SYSTEMD / name)
    assert unit["Unit"]["DefaultDependencies"] == "no"
    makes = {"PrivateTmp", "PrivateDevices", "StateDirectory"}
    assert makes.isdisjoint(_options(name))
    assert not {"Requires", "Wants", "RequiresMountsFor"} & set(unit["Unit"])


def test_the_late_start_looks_once_more_after_a_start_has_become_too_long() -> None:
    timer = (SYSTEMD / "trialboot-late-start.timer").read_text()
    minutes = re.findall(r"^OnBootSec=(\d+)min$", timer, re.MULTILINE)
    assert [int(minute) * 60 > LONGEST_START for minute in minutes] == [False, True]


def test_what_a_check_leaves_behind_ends_with_its_service() -> None:
    options = _options("trialboot-operator-checks.service")
    assert options["KillMode"] == ["control-group"]
    assert options["KillSignal"] == ["SIGKILL"]
    assert "StateDirectory" not in options


def test_the_resident_processes_hold_no_power() -> None:
    for name in ("trialbootd.service", "trialboot-metrics.service"):
        options = _options(name)
        assert options["CapabilityBoundingSet"] == [""]
        assert options["RestrictAddressFamilies"] == ["AF_UNIX"]
        assert options["PrivateNetwork"] == ["yes"]
