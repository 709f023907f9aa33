"""doctor --set and --unset: on request, a file each, taken back where it does not come out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.boot_hosts import fedora, protected, systemd_boot
from tests.unit.loaders.host_folder import PLAIN
from trialboot import cli
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.loaders.ground import WATCHDOG_IN_INITRD
from trialboot.writers.dropins import DROP_INS, Setting

PANIC: Final = DROP_INS[Setting.PANIC].path
WATCHDOG: Final = DROP_INS[Setting.WATCHDOG].path
EARLY: Final = DROP_INS[Setting.WATCHDOG_IN_INITRD].path
BARE: Final = PLAIN.replace(" panic=10", "")


@dataclass
class Machine:
    """A GRUB host whose grub-mkconfig reads the drop-in."""

    root: Path
    obeys: bool = True
    """Nothing replaces GRUB_CMDLINE_LINUX after our file."""
    refuse: str = ""
    runtime: int = 0
    ran: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        protected(self.root)
        self.write("/boot/grub/grub.cfg", BARE)

    def write(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    def menu(self) -> str:
        return (self.root / "boot/grub/grub.cfg").read_text()

    def cli(self, *argv: str) -> int:
        host = Host(root=self.root, run=self._run, call=self._call)
        return cli.main(["doctor", *argv], host)

    def _call(self, *words: Any, **_: Any) -> Any:
        return self.runtime if words[-1] == "RuntimeWatchdogUSec" else 0

    def _run(self, argv: Sequence[str], **_: object) -> str:
        self.ran.append(argv[0])
        if argv[0] == self.refuse:
            raise HostError(f"«{argv[0]}» ended with 1")
        if argv[0] == "grub-mkconfig":
            self.write(argv[2], PLAIN if self.obeys and self.has(PANIC) else BARE)
        return ""

    def with_watchdog(self) -> None:
        self.write("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- panic= -------------------------------------------------------------------------------------


def test_panic_is_set_in_a_file_of_its_own_and_the_menu_made_anew(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.cli("--set", "panic") == 0
    assert machine.has(PANIC)
    assert machine.menu() == PLAIN
    said = capsys.readouterr().err
    assert f"written: {PANIC}" in said
    assert "the next boot is a trial" in said
    assert machine.cli("--unset", "panic") == 0
    assert not machine.has(PANIC)
    assert machine.menu() == BARE


def test_what_is_set_already_is_not_set_twice(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write("/boot/grub/grub.cfg", PLAIN)
    assert machine.cli("--set", "panic") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert not machine.has(PANIC)
    assert machine.ran == []


def test_what_does_not_come_out_is_taken_back(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.obeys = False
    assert machine.cli("--set", "panic") == 74
    assert "another file sets GRUB_CMDLINE_LINUX after ours" in capsys.readouterr().err
    assert not machine.has(PANIC)
    assert machine.menu() == BARE


@pytest.mark.parametrize("command", ["grub-mkconfig", "grub-script-check"])
def test_where_the_menu_cannot_be_made_nothing_has_changed(
    machine: Machine, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    machine.refuse = command
    assert machine.cli("--set", "panic") == 74
    assert f"«{command}» ended with 1" in capsys.readouterr().err
    assert not machine.has(PANIC)
    assert machine.menu() == BARE


def test_a_setting_stays_where_the_menu_cannot_be_made_without_it(machine: Machine) -> None:
    machine.cli("--set", "panic")
    machine.refuse = "grub-mkconfig"
    assert machine.cli("--unset", "panic") == 74
    assert machine.has(PANIC)
    assert machine.menu() == PLAIN


@pytest.mark.parametrize("make", [fedora, systemd_boot])
def test_a_command_line_that_is_not_ours_is_proposed_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any
) -> None:
    make(tmp_path)
    assert cli.main(["doctor", "--set", "panic"], Host(root=tmp_path)) == 74
    said = capsys.readouterr().err
    assert "/etc/kernel/cmdline" in said
    assert "grubby --update-kernel=ALL --args=panic=10" in said
    assert not (tmp_path / PANIC.lstrip("/")).exists()


# --- watchdogs ----------------------------------------------------------------------------------


def test_without_hardware_there_is_nothing_to_arm(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting in ("watchdog", "watchdog-in-initrd"):
        assert machine.cli("--set", setting) == 74
        assert "there is no hardware watchdog" in capsys.readouterr().err
    assert not machine.has(WATCHDOG)
    assert not machine.has(EARLY)


def test_the_watchdog_is_set_for_running_and_for_reboots(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.with_watchdog()
    assert machine.cli("--set", "watchdog") == 0
    assert "systemctl daemon-reexec" in capsys.readouterr().err
    text = (machine.root / WATCHDOG.lstrip("/")).read_text()
    assert "[Manager]\nRuntimeWatchdogSec=60\nRebootWatchdogSec=10min\n" in text
    assert machine.ran == [], "nothing is restarted silently"
    assert machine.cli("--unset", "watchdog") == 0
    assert not machine.has(WATCHDOG)


def test_an_initrd_arms_no_watchdog_that_systemd_would_not_feed(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.with_watchdog()
    assert machine.cli("--set", "watchdog-in-initrd") == 74
    assert "first «trialboot doctor --set watchdog»" in capsys.readouterr().err
    machine.runtime = 60_000_000
    assert machine.cli("--set", "watchdog-in-initrd") == 0
    assert "update-initramfs -u -k all" in capsys.readouterr().err
    assert "SECONDS=120\n" in (machine.root / EARLY.lstrip("/")).read_text()
    assert EARLY == WATCHDOG_IN_INITRD


def test_systemd_feeds_the_watchdog_as_long_as_initrds_are_to_arm_it(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.with_watchdog()
    machine.runtime = 60_000_000
    machine.cli("--set", "watchdog")
    machine.cli("--set", "watchdog-in-initrd")
    assert machine.cli("--unset", "watchdog") == 74
    assert "first «trialboot doctor --unset watchdog-in-initrd»" in capsys.readouterr().err
    assert machine.has(WATCHDOG)
    assert machine.cli("--unset", "watchdog-in-initrd") == 0
    assert machine.cli("--unset", "watchdog") == 0
    assert not machine.has(WATCHDOG)
    assert machine.ran == []


@pytest.mark.parametrize("setting", Setting)
def test_what_is_not_there_need_not_be_removed(
    machine: Machine, capsys: pytest.CaptureFixture[str], setting: Setting
) -> None:
    assert machine.cli("--unset", str(setting)) == 0
    assert "is not there: nothing to remove" in capsys.readouterr().err
    assert machine.ran == []
