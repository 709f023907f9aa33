"""What stages a candidate when the machine goes down: taken from the block, then marked."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.unit.loaders.efi_host import Firmware
from tests.unit.loaders.host_folder import SIMPLE, Node, PowerCutError, power_for
from tests.unit.loaders.test_kexec import BLOCK, raid_alone
from tests.unit.loaders.test_own_block import reached
from trialboot.bootonce import KNOWN_BY
from trialboot.core.facts import EntryId
from trialboot.core.grub import parse_environment
from trialboot.core.menu import KNOWN_GOOD
from trialboot.core.trial import Choice, Decision, Phase, Trial
from trialboot.errors import HostError, LoaderError
from trialboot.host import Host
from trialboot.loaders.kexec import Kexec
from trialboot.workers import stage_kexec
from trialboot.writers import store

REBOOT = "  412 reboot.target start waiting\n"
KERNEL = "6.12.117-amd64"


@dataclass
class Linux:
    """Plays kexec_file_load(2)."""

    staged: list[tuple[list[str], str]] = field(default_factory=list)
    refuses: bool = False

    def stage(self, kernel: Path, initrds: Sequence[Path], command_line: str) -> None:
        if self.refuses:
            raise OSError(129, "Key was rejected by service", "kexec_file_load(2)")
        self.staged.append(([kernel.name, *(path.name for path in initrds)], command_line))

    def unstage(self) -> None:
        self.staged.clear()


@dataclass
class Down:
    """A host with an armed candidate that goes down."""

    node: Node
    linux: Linux = field(default_factory=Linux)
    jobs: str = REBOOT

    @property
    def host(self) -> Host:
        return replace(self.node.host, run=self._run)

    @property
    def marked(self) -> bool:
        return (self.node.root / "run/trialboot/kexec").exists()

    @property
    def block(self) -> object:
        return parse_environment((self.node.root / BLOCK).read_bytes())

    def goes(self) -> None:
        stage_kexec.work(self.host, self.linux.stage, self.linux.unstage)

    def is_untouched(self) -> bool:
        return (
            not self.linux.staged and not self.marked and self.block == {"trialboot_once": SIMPLE}
        )

    def _run(self, argv: Sequence[str], **_: object) -> str:
        assert argv == ["systemctl", "list-jobs", "--no-legend", "reboot.target"]
        if not self.jobs:
            raise HostError("«systemctl» ended with 1")
        return self.jobs


@pytest.fixture
def down(tmp_path: Path) -> Down:
    node, grub = raid_alone(tmp_path)
    good, new = node.boot_set(), node.boot_set(KERNEL)
    candidate = Choice(entry=EntryId(SIMPLE), boot_set=new)
    trial = Trial(phase=Phase.ARMED, known_good=good, pinned=True, candidate=candidate)
    store.save_decision(node.host, Decision(trial=trial))
    grub.boot_once(EntryId(SIMPLE))
    node.write("/proc/version", "Linux version 6.1.0-56-amd64 (x) (gcc) #1 SMP\n")
    node.write("/proc/stat", "btime 1\n")
    node.write("/proc/sys/kernel/random/boot_id", "b\n")
    node.write("/proc/sys/kernel/tainted", "0\n")
    (tmp_path / "run/trialboot").mkdir(parents=True, exist_ok=True)
    return Down(node)


def test_the_candidate_is_staged_taken_and_marked(
    down: Down, capsys: pytest.CaptureFixture[str]
) -> None:
    down.goes()
    ((files, line),) = down.linux.staged
    assert files == [f"vmlinuz-{KERNEL}", f"initrd.img-{KERNEL}"]
    taken = down.block
    assert isinstance(taken, dict)
    assert taken["trialboot_once"] == ""
    assert line.endswith(f" trialboot.kexec={taken[KNOWN_BY]}")
    assert line.startswith(f"BOOT_IMAGE=/vmlinuz-{KERNEL} root=")
    assert down.marked
    assert reached(down.node) == KNOWN_GOOD
    assert "this reboot starts it by kexec" in capsys.readouterr().out


def test_two_candidates_are_known_by_two_tokens(down: Down) -> None:
    lines = []
    for _ in range(2):
        Kexec(down.host).set(EntryId(SIMPLE))
        down.goes()
        lines.append(down.linux.staged[-1][1])
    assert lines[0] != lines[1]


def test_without_a_candidate_nothing_is_asked(down: Down) -> None:
    Kexec(down.host).forget()
    down.jobs = ""
    down.goes()
    assert not down.marked


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ("", "«systemctl» ended with 1"),
        ("  9 poweroff.target start waiting\n", "the machine does not reboot"),
        ("  9 reboot.target stop waiting\n", "the machine does not reboot"),
    ],
)
def test_where_it_does_not_reboot_nothing_is_staged(
    down: Down, jobs: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    down.jobs = jobs
    down.goes()
    assert down.is_untouched()
    assert f"an ordinary reboot: {why}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("/etc/trialboot/trialboot.toml", 'mode = "observe"\n', "trialboot is not armed"),
        ("/etc/trialboot/trialboot.toml", "mode =\n", "Invalid value"),
        ("/sys/kernel/kexec_loaded", "1\n", "somebody else has a kernel staged"),
        ("/proc/version", "odd", "somebody else has a kernel staged"),
        ("/proc/sys/kernel/kexec_load_disabled", "1\n", "kernel.kexec_load_disabled is set"),
        ("/var/lib/trialboot/decision.json", "{", "decision.json"),
    ],
)
def test_each_doubt_leaves_the_candidate_waiting(
    down: Down, file: str, content: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    down.node.write(file, content)
    down.goes()
    assert down.is_untouched()
    assert why in capsys.readouterr().out


def test_who_asked_for_the_firmwares_setup_gets_it(
    down: Down, capsys: pytest.CaptureFixture[str]
) -> None:
    firmware = Firmware(down.node.root)
    firmware.put("OsIndications", (1).to_bytes(8, "little"))
    down.goes()
    assert down.is_untouched()
    assert "«the firmware's setup» is to be booted once more" in capsys.readouterr().out
    firmware.file("OsIndications").unlink()
    firmware.file("OsIndications").mkdir()
    down.goes()
    assert down.is_untouched()
    assert "OsIndications: Is a directory" in capsys.readouterr().out
    firmware.file("OsIndications").rmdir()
    firmware.put("OsIndications", bytes(8))
    down.goes()
    assert down.marked


def test_a_mark_that_cannot_be_left_takes_it_out_again(down: Down) -> None:
    shutil.rmtree(down.node.root / "run/trialboot")
    with pytest.raises(HostError, match="No such file"):
        down.goes()
    assert down.is_untouched()


def test_an_initrd_that_is_gone_leaves_it_waiting(
    down: Down, capsys: pytest.CaptureFixture[str]
) -> None:
    (down.node.root / f"boot/initrd.img-{KERNEL}").unlink()
    down.goes()
    assert down.is_untouched()
    assert f"initrd.img-{KERNEL}" in capsys.readouterr().out


def test_a_kernel_that_refuses_it_leaves_it_waiting(down: Down) -> None:
    down.linux.refuses = True
    with pytest.raises(HostError, match="Key was rejected by service"):
        down.goes()
    assert down.is_untouched()


def test_a_block_that_cannot_be_written_takes_it_out_again(
    down: Down, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LoaderError, match="No space left on device"):
        down.goes()
    assert down.is_untouched()


@pytest.mark.parametrize("cut", range(6))
def test_after_a_power_cut_it_waits_or_was_taken(down: Down, cut: int) -> None:
    try:
        with power_for(cut, down.node.root):
            down.goes()
    except PowerCutError:
        pass  # the mark is in /run, which is gone
    assert reached(down.node) in {KNOWN_GOOD, SIMPLE}
