"""systemd-boot's variables: what they cannot say, and what the firmware refuses."""

from pathlib import Path

import pytest

from tests.unit.boot_hosts import EFIVARS, MACHINE, OLD, controlled_systemd_boot
from trialboot.core.facts import EntryId
from trialboot.core.systemdboot import LOADER_VENDOR
from trialboot.errors import LoaderError
from trialboot.loaders.systemd_boot import SystemdBoot

ENTRY = EntryId(f"{MACHINE}-{OLD}.conf")


def variable(root: Path, name: str) -> Path:
    return root / f"{EFIVARS}/{name}-{LOADER_VENDOR}".lstrip("/")


def test_what_the_firmware_refuses_is_told(tmp_path: Path) -> None:
    host = controlled_systemd_boot(tmp_path)
    variable(tmp_path, "LoaderEntryOneShot").mkdir()
    loader = SystemdBoot(host.host)
    with pytest.raises(LoaderError, match="LoaderEntryOneShot"):
        loader.boot_once(ENTRY)
    with pytest.raises(LoaderError, match="LoaderEntryOneShot"):
        loader.forget_once()
