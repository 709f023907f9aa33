"""What we write for systemd-boot as its own tool reads it: bootctl(1), in a mount namespace."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.boot_hosts import MACHINE, NEW, OLD, controlled_systemd_boot, image_parts
from tests.unit.loaders.test_systemd_boot import boot_set, install
from trialboot.core.systemdboot import OURS

pytestmark = pytest.mark.host

# A file system that is no ESP is taken for one when bootctl is told to.
LISTED = """
mount -t tmpfs none "$1" && cp -a "$2/." "$1/" &&
SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --no-variables --esp-path="$1" list --json=short
"""


@pytest.fixture(autouse=True)
def _tools() -> None:
    if shutil.which("bootctl") is None:
        pytest.skip("not installed: bootctl (Debian: systemd-boot)")
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")


def entries_of(said: str) -> list[dict[str, Any]]:
    """Read a list, as since version 253, or an entry a line; without what is found by itself."""
    found = [json.loads(line) for line in said.splitlines()]
    flat = [entry for part in found for entry in (part if isinstance(part, list) else [part])]
    return [entry for entry in flat if not entry["id"].startswith("auto-")]


def test_bootctl_reads_our_entry_and_sees_the_same_menu(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path / "host")
    entries = host.root / "boot/efi/loader/entries"
    (entries / f"{MACHINE}-{NEW}.conf").rename(entries / f"{MACHINE}-{NEW}+2-1.conf")
    image = image_parts(
        linux=b"kernel",
        initrd=b"initrd",
        cmdline=b"root=UUID=a ro\0",
        osrel=b"PRETTY_NAME=Debian\nID=debian\nVERSION_ID=99\n",
        uname=b"9.9",
    )
    host.write("/boot/efi/EFI/Linux/uki+3.efi", image)
    ours = install(host).state().entries
    (tmp_path / "esp").mkdir()
    words = ["sh", "-c", LISTED, "sh", str(tmp_path / "esp"), str(host.root / "boot/efi")]
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", *words], check=True, capture_output=True, text=True
    )
    theirs = entries_of(done.stdout)
    assert [entry["id"] for entry in theirs] == [
        OURS,
        "uki.efi",
        f"{MACHINE}-{NEW}.conf",
        f"{MACHINE}-{OLD}.conf",
    ]
    assert [entry["id"] for entry in theirs[1:]] == [entry.entry for entry in ours[1:]]
    folder = f"/trialboot/{boot_set(host).fingerprint}"
    assert theirs[0]["linux"] == f"{folder}/vmlinuz"
    assert theirs[0]["initrd"] == [f"{folder}/initrd.img", f"{folder}/firmware.cpio"]
    for mine, other in zip(ours, theirs, strict=True):
        assert other["options"] == mine.arguments
