"""EFI variables as files: written whole, read back, and immutable again afterwards."""

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.systemdboot import format_variable
from trialboot.errors import LoaderError
from trialboot.loaders.efivariables import set_variable, unset_variable

GET, SET, IMMUTABLE = 0x80086601, 0x40086602, 0x10


def flags(path: Path) -> int:
    buffer = bytearray(8)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, GET, buffer)
    finally:
        os.close(descriptor)
    return int.from_bytes(buffer, "little")


def set_flags(path: Path, value: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SET, value.to_bytes(8, "little"))
    finally:
        os.close(descriptor)


@pytest.fixture
def immutable(tmp_path: Path) -> Path:
    """Make a variable as efivarfs shows it; the test's file system has to know the flag."""
    path = tmp_path / "LoaderEntryDefault-x"
    path.write_bytes(format_variable("a.conf"))
    try:
        set_flags(path, flags(path) | IMMUTABLE)
    except OSError as error:
        pytest.skip(f"no immutable files here, which the VM stories have: {error.strerror}")
    return path


def test_the_immutable_flag_is_lifted_and_set_again(immutable: Path) -> None:
    try:
        with pytest.raises(PermissionError):
            immutable.write_bytes(b"")
        set_variable(immutable, "b.conf")
        assert immutable.read_bytes() == format_variable("b.conf")
        assert flags(immutable) & IMMUTABLE
        unset_variable(immutable)
        assert not immutable.exists()
    finally:
        if immutable.exists():
            set_flags(immutable, flags(immutable) & ~IMMUTABLE)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=99))
def test_what_it_says_already_is_not_written_again(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("efi") / "x"
    set_variable(path, text)
    first = path.stat()
    set_variable(path, text)
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    assert path.read_bytes() == format_variable(text)


def test_another_set_of_attributes_is_another_variable(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\6" + format_variable("a")[1:])
    set_variable(path, "a")
    assert path.read_bytes() == format_variable("a")


def test_what_is_refused_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="the firmware refused"):
        set_variable(tmp_path / "gone" / "x", "a")
    with pytest.raises(LoaderError, match="it is no text"):
        set_variable(tmp_path / "x", "a\udcff.conf")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(LoaderError, match="folder"):
        set_variable(folder, "a")
    with pytest.raises(LoaderError, match="the firmware refused"):
        unset_variable(folder)
    unset_variable(tmp_path / "gone")
