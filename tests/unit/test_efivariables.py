"""Variables of the firmware as files: what is read, what is written, and the flag that guards."""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from trialboot import efivariables
from trialboot.core.efi import LoadOption, format_option
from trialboot.core.facts import Unknown
from trialboot.host import Host

GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def file(root: Path, name: str) -> Path:
    folder = root / "sys/firmware/efi/efivars"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{GUID}"


def test_a_variable_is_attributes_and_value(tmp_path: Path) -> None:
    host, place = Host(root=tmp_path), file(tmp_path, "BootNext")
    assert efivariables.read(host, "BootNext") is None
    for _ in range(2):
        efivariables.write(host, "BootNext", b"\3\0")
    assert place.read_bytes() == struct.pack("<I", 7) + b"\3\0"
    for _ in range(2):
        efivariables.remove(host, "BootNext")
    assert not place.exists()


def test_what_it_holds_already_is_not_written_again(tmp_path: Path) -> None:
    host, place = Host(root=tmp_path), file(tmp_path, "BootNext")
    efivariables.write(host, "BootNext", b"\3\0")
    first = place.stat()
    efivariables.write(host, "BootNext", b"\3\0")
    assert place.stat().st_mtime_ns == first.st_mtime_ns


def test_another_set_of_attributes_is_another_variable(tmp_path: Path) -> None:
    host, place = Host(root=tmp_path), file(tmp_path, "BootNext")
    place.write_bytes(b"\6\0\0\0\3\0")
    efivariables.write(host, "BootNext", b"\3\0")
    assert place.read_bytes() == b"\7\0\0\0\3\0"


def test_each_vendor_has_variables_of_its_own(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    file(tmp_path, "BootNext")
    efivariables.write(host, "X", b"ours", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
    assert efivariables.read(host, "X") is None
    assert efivariables.read(host, "X", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f") == b"ours"


def test_what_the_firmware_refuses_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, place = Host(root=tmp_path), file(tmp_path, "BootNext")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        efivariables.write(host, "BootNext", b"\3\0")
    assert not place.exists()


def test_a_folder_in_place_of_a_variable_is_an_error(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    file(tmp_path, "BootNext").mkdir()
    for act in (efivariables.read, efivariables.remove):
        with pytest.raises(OSError, match="directory"):
            act(host, "BootNext")


def test_a_host_without_uefi_has_no_options(tmp_path: Path) -> None:
    assert efivariables.options(Host(root=tmp_path)) == {}


def test_options_are_told_by_the_names_that_they_have(tmp_path: Path) -> None:
    known = LoadOption(description="x")
    for name in ("Boot000a", "Boot000A"):
        file(tmp_path, name).write_bytes(struct.pack("<I", 7) + format_option(known))
    file(tmp_path, "Boot0001").write_bytes(b"")
    for other in ("BootOrder", "OsIndications", "Boot00001"):
        file(tmp_path, other).write_bytes(b"\7\0\0\0x")
    (file(tmp_path, "x").parent / "Boot0002-00000000-0000-0000-0000-000000000000").write_bytes(b"")
    found = efivariables.options(Host(root=tmp_path))
    assert found == {
        "Boot000A": known,
        "Boot000a": known,
        "Boot0001": Unknown("the description has no end"),
    }


def is_guarded(place: Path) -> bool:
    with place.open("rb") as opened:
        flags: int = struct.unpack("q", fcntl.ioctl(opened, 0x80086601, bytes(8)))[0]
    return bool(flags & 0x10)


def guard(place: Path, sign: str) -> bool:
    words = [shutil.which("chattr") or "chattr", sign, str(place)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def test_a_guarded_variable_is_written_and_guarded_again(tmp_path: Path) -> None:
    host, place = Host(root=tmp_path), file(tmp_path, "Guarded")
    place.write_bytes(b"\7\0\0\0old")
    if os.geteuid() != 0 or not guard(place, "+i"):
        pytest.skip("needs root, and a file system with the immutable flag")
    try:
        efivariables.write(host, "Guarded", b"other")
        assert place.read_bytes() == b"\7\0\0\0other"
        assert is_guarded(place)
        efivariables.remove(host, "Guarded")
        assert not place.exists()
    finally:
        guard(place, "-i")
