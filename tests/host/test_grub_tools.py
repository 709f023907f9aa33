"""Our part of the menu with the GRUB tools of the machine, in a mount namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trialboot.core.grub import format_environment, parse_environment

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
TOOLS = ("grub-mkconfig", "grub-script-check", "grub-editenv", "unshare")
UUID = "5f0c6b3e-1111-2222-3333-444455556666"
OLD = f"gnulinux-advanced-{UUID}>gnulinux-6.1.0-56-amd64-advanced-{UUID}"


@pytest.fixture(autouse=True)
def _tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")


@pytest.fixture
def seen(tmp_path: Path) -> dict[str, Any]:
    program = [sys.executable, str(Path(__file__).with_name("grub_flow.py")), str(tmp_path)]
    agent = f"PYTHONPATH={ROOT / 'agent'}"
    done = tool("unshare", "--mount", "env", agent, "LC_ALL=C.UTF-8", *program)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_trial_with_the_real_tools(seen: dict[str, Any]) -> None:
    assert "trialboot-known-good" not in seen["own"]
    assert "trialboot_host_default" not in seen["own"]
    assert seen["before"] == [OLD, OLD]
    assert seen["candidate"] == OLD
    assert seen["armed"] == [OLD, OLD]
    assert set(seen["listed"]) == {
        "saved_entry=trialboot-known-good",
        f"next_entry={OLD}",
        "trialboot_admin_saved=",
    }
    assert seen["once_gone"] == ["trialboot-known-good", OLD]
    fingerprint = seen["fingerprint"]
    assert seen["arguments"] == (
        'root=UUID=x ro "dyndbg=file x.c +p" quiet a;b panic=10 '
        f"trialboot.boot={fingerprint} "
        f"trialboot.firmware=/usr/lib/trialboot/kept/{fingerprint}/firmware"
    )
    assert seen["saves_by_itself"] == [True, False], "GRUB_SAVEDEFAULT is the host's, without us"
    assert seen["idempotent"]
    assert seen["carried"] == [["", "boot-next:/boot/x y"], ["", "own-block:/boot/x y"]]
    for why in ("without vmlinuz", "without initrd.img", "without firmware.cpio", "not run"):
        assert seen[why], f"{why}, the menu must be the host's own"
    assert seen["removed"]
    assert seen["left"] == ["theirs=a b=c"]
    assert seen["folder"] == ["grub.cfg", "grubenv", "other.cfg"]


def tool(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(argv[0]) or argv[0]
    return subprocess.run([found, *argv[1:]], capture_output=True, text=True, check=False)


def test_grub_editenv_and_we_read_each_other(tmp_path: Path) -> None:
    file = tmp_path / "grubenv"
    values = {"saved_entry": "a>b c", "odd": "back\\slash", "empty": ""}
    file.write_bytes(format_environment(values))
    assert tool("grub-editenv", file, "set", "next_entry=x=y").returncode == 0
    assert parse_environment(file.read_bytes()) == {**values, "next_entry": "x=y"}
    assert tool("grub-editenv", file, "unset", "odd").returncode == 0
    listed = tool("grub-editenv", file, "list").stdout.splitlines()
    assert sorted(listed) == ["empty=", "next_entry=x=y", "saved_entry=a>b c"]


def test_what_was_settled_is_seen_without_the_journal(tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    if shutil.which("mke2fs") is None:
        pytest.skip("mke2fs is not installed")
    made = tool("mke2fs", "-q", "-t", "ext4", image, "32M")
    assert made.returncode == 0, made.stderr
    program: list[str | Path] = [
        sys.executable,
        Path(__file__).with_name("settle_flow.py"),
        image,
        place,
    ]
    agent = f"PYTHONPATH={ROOT / 'agent'}"
    done = tool("unshare", "--mount", "env", agent, *program)
    if "loop" in done.stderr:
        pytest.skip(f"no loop device: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["note"], found["after"]) == ("", "new")
    assert found["before"] == "", "fsync alone was enough here: then settle() is not needed"


@pytest.mark.parametrize(
    "script",
    [
        "grub/09_trialboot",
        "grub/trialboot.cfg",
        "initramfs/scripts/trialboot",
        "initramfs/conf/conf.d/trialboot",
    ],
)
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = tool("shellcheck", "-x", ROOT / "packaging" / script)
    assert done.returncode == 0, done.stdout
