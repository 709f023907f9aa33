"""The watchdog in the initrd: when it is armed there, and when not, on a host that is a folder."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "packaging/watchdog/trialboot-watchdog"
DEVICE = "sys/class/watchdog/watchdog0"
SWITCH = "etc/trialboot/watchdog-in-initrd"
CONFIGURATION = "etc/systemd/system.conf.d/50-watchdog.conf"


def write(root: Path, path: str, text: str = "") -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a hardware watchdog that systemd takes over."""
    write(tmp_path, SWITCH)
    write(tmp_path, "etc/systemd/system.conf", "[Manager]\n#RuntimeWatchdogSec=off\n")
    write(tmp_path, CONFIGURATION, "[Manager]\nRuntimeWatchdogSec=60\n")
    write(tmp_path, f"{DEVICE}/identity", "i6300ESB timer\n")
    write(tmp_path, f"{DEVICE}/nowayout", "0\n")
    module = tmp_path / "sys/module/no_such_driver"
    module.mkdir(parents=True)
    driver = tmp_path / DEVICE / "device/driver"
    driver.mkdir(parents=True)
    (driver / "module").symlink_to(module)
    return tmp_path


def settings(host: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        ["/bin/sh", str(PROGRAM), "settings", "6.12"],
        env={"TRIALBOOT_HOST": str(host), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_driver_of_the_watchdog_is_taken_along(host: Path) -> None:
    assert settings(host) == (0, "MODULE='no_such_driver' OPTION='' LIMIT=600\n", "")


def test_a_built_in_driver_needs_no_module(host: Path) -> None:
    (host / DEVICE / "device/driver/module").unlink()
    assert settings(host)[:2] == (0, "MODULE='' OPTION='' LIMIT=600\n")


def test_the_limit_is_the_operators(host: Path) -> None:
    write(host, SWITCH, "# mine\nSECONDS=300\nLIMIT=60\nLIMIT=; reboot\n")
    assert settings(host)[1] == "MODULE='no_such_driver' OPTION='' LIMIT=60\n"


def _not_taken_over(host: Path) -> None:
    write(host, CONFIGURATION, "[Manager]\nRuntimeWatchdogSec=60\nRuntimeWatchdogSec=0\n")


def _another_device(host: Path) -> None:
    write(host, CONFIGURATION, "[Manager]\nRuntimeWatchdogSec=60\nWatchdogDevice=/dev/watchdog1\n")


def _none(host: Path) -> None:
    (host / DEVICE).rename(host / "sys/class/watchdog/watchdog7")


def _software(host: Path) -> None:
    (host / DEVICE / "device").rename(host / "gone")
    write(host, f"{DEVICE}/identity", "Software Watchdog\n")


def _no_way_out(host: Path) -> None:
    write(host, f"{DEVICE}/nowayout", "1\n")


def _too_short(host: Path) -> None:
    write(host, SWITCH, "SECONDS=10\n")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_not_taken_over, "systemd does not take it over (RuntimeWatchdogSec)"),
        (_another_device, "systemd does not take it over (RuntimeWatchdogSec)"),
        (_none, "this machine shows none"),
        (_software, "Software Watchdog is no hardware"),
        (_no_way_out, "it cannot be stopped once it runs (nowayout)"),
        (_too_short, "SECONDS=10"),
    ],
)
def test_what_could_reset_a_healthy_host_is_not_armed(
    host: Path, change: Callable[[Path], None], why: str
) -> None:
    change(host)
    code, told, said = settings(host)
    assert (code, told) == (1, "")
    assert why in said


def test_where_nobody_has_asked_for_it_the_hook_does_nothing() -> None:
    if Path("/", SWITCH).exists():
        pytest.skip("this machine has asked for it")
    hook = ROOT / "packaging/watchdog/hooks/trialboot-watchdog"
    done = subprocess.run(["/bin/sh", str(hook)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
