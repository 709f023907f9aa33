"""The watchdog in the initrd: when it is armed there, and when not, on a host that is a folder."""

import os
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
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


def test_a_driver_that_names_no_device_is_the_one_that_uses_the_core(host: Path) -> None:
    (host / DEVICE / "device").rename(host / "gone")
    for name in ("no_such_driver", "softdog"):
        (host / "sys/module/watchdog/holders" / name).mkdir(parents=True)
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
    write(host, f"{DEVICE}/identity", "Software Watchdog\n")


def _two_drivers(host: Path) -> None:
    (host / DEVICE / "device").rename(host / "gone")
    for name in ("i6300esb", "iTCO_wdt"):
        (host / "sys/module/watchdog/holders" / name).mkdir(parents=True)


def _no_driver(host: Path) -> None:
    (host / DEVICE / "device").rename(host / "gone")


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
        (_two_drivers, "which driver has i6300ESB timer is not told"),
        (_no_driver, "which driver has i6300ESB timer is not told"),
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


# --- in the initrd ------------------------------------------------------------------------------


class Initrd:
    """A folder that looks like an initrd; its watchdog is a terminal, so that it can be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watchdog, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.watchdog, False)
        (root / "dev").mkdir()
        (root / "dev/watchdog0").symlink_to(os.ttyname(self._slave))
        write(root, "run/nothing")
        write(root, "proc/cmdline", "root=UUID=x ro quiet\n")
        write(root, "etc/trialboot-watchdog", "MODULE='' OPTION='' LIMIT=600\n")
        self.real = root / "real"
        write(self.real, SWITCH)
        write(self.real, CONFIGURATION, "[Manager]\nRuntimeWatchdogSec=60\n")

    def do(self, *words: str) -> None:
        environment = {"TRIALBOOT_HOST": str(self.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        words = ("/bin/sh", str(PROGRAM), *words)
        subprocess.run(words, env=environment, check=True, timeout=20)

    def heard(self) -> bytes:
        """Give what the watchdog was told since the last time."""
        time.sleep(0.3)
        try:
            return os.read(self.watchdog, 100)
        except BlockingIOError:
            return b""

    def said(self) -> str:
        log = self.root / "dev/kmsg"
        return log.read_text() if log.exists() else ""

    def keeper_runs(self) -> bool:
        keeper = (self.root / "run/trialboot-watchdog").read_text().strip()
        time.sleep(0.3)
        comm = Path(f"/proc/{keeper}/stat")
        return comm.exists() and comm.read_text().rpartition(")")[2].split()[0] != "Z"

    def keeper_ends(self) -> bool:
        """It was sent a signal; on a busy machine it takes a moment to die of it."""
        until = time.monotonic() + 10
        while self.keeper_runs() and time.monotonic() < until:
            time.sleep(0.05)
        return not self.keeper_runs()

    def close(self) -> None:
        if (self.root / "run/trialboot-watchdog").exists():
            self.do("end", str(self.real))
        os.close(self.watchdog)
        os.close(self._slave)


@pytest.fixture
def initrd(tmp_path: Path) -> Iterator[Initrd]:
    made = Initrd(tmp_path)
    yield made
    made.close()


def test_it_is_armed_kept_alive_and_handed_over_to_systemd(initrd: Initrd) -> None:
    initrd.do("begin")
    assert initrd.heard() == b"\n"
    assert initrd.keeper_runs()
    initrd.do("end", str(initrd.real))
    assert initrd.keeper_ends()
    # Without the magic word it runs on.
    assert initrd.heard() == b""
    assert "runs on until systemd takes it over" in initrd.said()


@pytest.mark.parametrize("gone", [SWITCH, CONFIGURATION])
def test_it_is_disarmed_where_nobody_would_take_it_over(initrd: Initrd, gone: str) -> None:
    """Also in the initrd of a known-good that was kept long ago."""
    initrd.do("begin")
    assert initrd.heard() == b"\n"
    (initrd.real / gone).unlink()
    initrd.do("end", str(initrd.real))
    assert initrd.keeper_ends()
    assert initrd.heard() == b"V"
    assert "is disarmed" in initrd.said()


def test_an_initrd_that_never_ends_is_not_kept_alive_for_ever(initrd: Initrd) -> None:
    write(initrd.root, "etc/trialboot-watchdog", "MODULE='' OPTION='' LIMIT=1\n")
    initrd.do("begin")
    time.sleep(5.5)
    assert initrd.keeper_ends()
    assert initrd.heard() == b"\n"
    assert "will reset this machine" in initrd.said()


@pytest.mark.parametrize("program", ["e2fsck", "cryptsetup", "askpass"])
def test_what_may_take_its_time_does_not_count(initrd: Initrd, program: str) -> None:
    write(initrd.root, "etc/trialboot-watchdog", "MODULE='' OPTION='' LIMIT=1\n")
    write(initrd.root, "proc/77/comm", f"{program}\n")
    initrd.do("begin")
    time.sleep(5.5)
    assert initrd.keeper_runs()


@pytest.mark.parametrize("line", ["ro init=/bin/sh", "ro break=mount", "ro rd.break"])
def test_who_asks_for_a_shell_is_not_reset(initrd: Initrd, line: str) -> None:
    write(initrd.root, "proc/cmdline", f"{line}\n")
    initrd.do("begin")
    assert not (initrd.root / "run/trialboot-watchdog").exists()
    initrd.do("end", str(initrd.real))
    assert initrd.heard() == b""


def test_a_crash_kernel_is_not_reset(initrd: Initrd) -> None:
    write(initrd.root, "proc/vmcore")
    initrd.do("begin")
    assert initrd.heard() == b""


def test_without_a_watchdog_the_boot_goes_on(initrd: Initrd) -> None:
    (initrd.root / "dev/watchdog0").unlink()
    initrd.do("begin")
    initrd.do("end", str(initrd.real))
    assert initrd.said() == ""


def test_where_nobody_has_asked_for_it_the_hook_does_nothing() -> None:
    if Path("/", SWITCH).exists():
        pytest.skip("this machine has asked for it")
    hook = ROOT / "packaging/watchdog/hooks/trialboot-watchdog"
    done = subprocess.run(["/bin/sh", str(hook)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
