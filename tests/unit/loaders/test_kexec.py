"""The one-shot that Linux carries, on a folder that looks like a BIOS host with all on RAID."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import OLD, SIMPLE, Node, PowerCutError, power_for
from tests.unit.loaders.test_own_block import MOUNTS, pinned, reached
from trialboot.bootonce import is_kexec_trial
from trialboot.config import PATH as CONFIG
from trialboot.core.facts import BootId, EntryId, Kernel, Unknown
from trialboot.core.grub import format_environment, parse_environment
from trialboot.core.menu import KEXEC, KNOWN_GOOD, Carrier
from trialboot.core.protection import Level
from trialboot.errors import LoaderError
from trialboot.loaders.grub import Grub
from trialboot.loaders.kexec import Kexec

ALL_ON_RAID = MOUNTS.replace("/boot/plain", "/srv")
ALLOWED = 'mode = "armed"\n[boot]\nby_kexec = true\n'
BLOCK = "boot/grub/trialboot/trial.env"
TRIAL = "0123456789abcdef"


def raid_alone(root: Path) -> tuple[Node, Grub]:
    """A pinned known-good, kexec allowed, and nothing else that carries a one-shot."""
    node, grub = pinned(root)
    node.write("/proc/self/mountinfo", ALL_ON_RAID)
    node.write(CONFIG, ALLOWED)
    node.write("/proc/sys/kernel/bootloader_type", "114\n")
    node.write("/proc/sys/kernel/kexec_load_disabled", "0\n")
    node.write("/sys/kernel/kexec_loaded", "0\n")
    # The menu was made when a partition was there.
    boot_once(grub)
    grub.forget_once()
    return node, grub


def boot_once(grub: Grub) -> None:
    grub.boot_once(EntryId(SIMPLE))


def started_by_kexec(token: str) -> Kernel:
    line = f"BOOT_IMAGE=/vmlinuz ro trialboot.kexec={token}"
    return Kernel(release="6.12", version="", command_line=line, boot=BootId("b"), by_kexec=True)


def test_a_candidate_waits_for_the_reboot_and_the_menu_says_where(tmp_path: Path) -> None:
    node, grub = raid_alone(tmp_path)
    before = (tmp_path / "boot/grub/grubenv").read_bytes()
    for _ in range(2):
        boot_once(grub)
    assert grub.state().carrier == Carrier(KEXEC, "/boot/grub")
    assert (tmp_path / "boot/grub/grubenv").read_bytes() == before
    assert b"next_entry" not in before
    assert parse_environment((tmp_path / BLOCK).read_bytes()) == {"trialboot_once": SIMPLE}
    assert reached(node) == SIMPLE


def test_what_was_taken_waits_no_more_and_is_known_by_its_token(tmp_path: Path) -> None:
    node, grub = raid_alone(tmp_path)
    boot_once(grub)
    Kexec(node.host).take(TRIAL)
    assert reached(node) == KNOWN_GOOD
    assert is_kexec_trial(node.host, started_by_kexec(TRIAL)) is True
    assert is_kexec_trial(node.host, started_by_kexec("another")) is False
    # Forgetting what does not wait leaves the token of the trial that runs.
    grub.forget_once()
    assert is_kexec_trial(node.host, started_by_kexec(TRIAL)) is True
    boot_once(grub)
    assert is_kexec_trial(node.host, started_by_kexec(TRIAL)) is False


def test_what_the_loader_started_is_no_trial_of_kexec(tmp_path: Path) -> None:
    node, _ = raid_alone(tmp_path)
    Kexec(node.host).take(TRIAL)
    told = started_by_kexec(TRIAL)
    by_grub = Kernel(release="6.12", version="", command_line=told.command_line, boot=told.boot)
    by_hand = Kernel(release="6.12", version="", command_line="ro", boot=told.boot, by_kexec=True)
    assert is_kexec_trial(node.host, by_grub) is False
    assert is_kexec_trial(node.host, by_hand) is False


def test_a_block_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    node, _ = raid_alone(tmp_path)
    block = tmp_path / BLOCK
    block.unlink()
    block.mkdir()
    found = is_kexec_trial(node.host, started_by_kexec(TRIAL))
    assert isinstance(found, Unknown)
    assert "no file of 1024 bytes" in found.why
    block.rmdir()
    block.parent.rmdir()
    block.parent.symlink_to("trialboot")
    found = is_kexec_trial(node.host, started_by_kexec(TRIAL))
    assert isinstance(found, Unknown)
    assert "levels of symbolic links" in found.why


def test_it_is_forgotten_and_removed(tmp_path: Path) -> None:
    node, grub = raid_alone(tmp_path)
    boot_once(grub)
    for _ in range(2):
        grub.forget_once()
        assert reached(node) == KNOWN_GOOD
    boot_once(grub)
    for _ in range(2):
        grub.remove()
    assert not (tmp_path / BLOCK).parent.exists()


def test_what_grub_cannot_clear_in_its_own_block_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Somebody's grub-reboot, which the guard of 09_trialboot follows never, and keeps."""
    node, grub = raid_alone(tmp_path)
    block = tmp_path / "boot/grub/grubenv"
    words = parse_environment(block.read_bytes())
    assert isinstance(words, dict)
    block.write_bytes(format_environment({**words, "next_entry": OLD}))
    assert (grub.state().once, reached(node)) == ("", KNOWN_GOOD)
    boot_once(grub)
    Kexec(node.host).take(TRIAL)
    assert (grub.state().once, reached(node)) == ("", KNOWN_GOOD)


def test_protection_tells_what_carries_it(tmp_path: Path) -> None:
    _, grub = raid_alone(tmp_path)
    found = grub.protection()
    assert (found.level, found.against_once) == (Level.PANIC_ONLY, ())
    assert found.carrier == "kexec at the next reboot in order, which resets no device"
    assert f"a candidate is booted once through {found.carrier}" in found.notes
    assert grub.against(EntryId(SIMPLE)) == ()


def test_whatever_else_forgets_is_taken_first(tmp_path: Path) -> None:
    node, grub = raid_alone(tmp_path)
    boot_once(grub)
    node.write("/proc/self/mountinfo", MOUNTS)
    boot_once(grub)
    assert "own-block" in (tmp_path / "boot/trialboot/known-good.sh").read_text()
    # The other carrier's waits no more: one candidate is one start.
    assert parse_environment((tmp_path / BLOCK).read_bytes()) == {"trialboot_once": ""}


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda n: n.write(CONFIG, 'mode = "armed"\n'), "boot.by_kexec is not set"),
        (lambda n: n.write(CONFIG, "[boot]\nby_kexec = 1\n"), "whether kexec is allowed"),
        (lambda n: (n.root / "proc/sys/kernel/bootloader_type").unlink(), "on x86 alone"),
        (lambda n: (n.root / "sys/kernel/kexec_loaded").unlink(), "has no kexec"),
        (lambda n: (n.root / "proc/sys/kernel/kexec_load_disabled").unlink(), "No such file"),
        (
            lambda n: n.write("/proc/sys/kernel/kexec_load_disabled", "1\n"),
            "kernel.kexec_load_disabled is set",
        ),
        (lambda n: n.write("/proc/self/mountinfo", ""), "no mount holds /boot/grub"),
        (
            lambda n: n.write("/proc/self/mountinfo", ALL_ON_RAID.replace("md0 rw", "md0 ro")),
            "/ is mounted read-only",
        ),
    ],
)
def test_why_it_cannot_be_used(tmp_path: Path, harm: Callable[[Node], None], why: str) -> None:
    node, grub = raid_alone(tmp_path)
    harm(node)
    assert why in Kexec(node.host).against()[0]
    with pytest.raises(LoaderError, match="kexec starts nothing here"):
        Kexec(node.host).set(EntryId(OLD))
    with pytest.raises(LoaderError):
        boot_once(grub)
    assert reached(node) == KNOWN_GOOD


def test_a_host_that_could_is_told_how(tmp_path: Path) -> None:
    node, grub = raid_alone(tmp_path)
    node.write(CONFIG, 'mode = "armed"\n')
    assert "so does boot.by_kexec = true in trialboot.toml" in grub.protection().reasons[1]


@pytest.mark.parametrize("cut", range(10))
def test_a_power_cut_while_it_is_set_or_taken_leaves_a_host_that_boots(
    tmp_path: Path, cut: int
) -> None:
    node, grub = raid_alone(tmp_path)
    try:
        with power_for(cut, tmp_path):
            boot_once(grub)
            Kexec(node.host).take(TRIAL)
    except PowerCutError:
        assert reached(node) in {KNOWN_GOOD, SIMPLE}
    boot_once(grub)
    assert reached(node) == SIMPLE
