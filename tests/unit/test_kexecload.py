"""What is handed to kexec_file_load(2), and what its refusal is told as."""

import os
from pathlib import Path

import pytest

from trialboot import kexecload


def write(folder: Path, name: str, content: bytes) -> Path:
    place = folder / name
    place.write_bytes(content)
    return place


def test_one_initrd_is_handed_over_as_it_is(tmp_path: Path) -> None:
    initrd = write(tmp_path, "initrd", b"12345")
    with kexecload.joined([initrd]) as file:
        assert os.fstat(file.fileno()).st_ino == initrd.stat().st_ino


def test_several_initrds_begin_at_four_bytes(tmp_path: Path) -> None:
    initrds = [write(tmp_path, f"{n}", c) for n, c in enumerate((b"12345", b"", b"1234", b"1"))]
    with kexecload.joined(initrds) as file:
        assert os.pread(file.fileno(), 100, 0) == b"12345\0\0\00012341\0\0\0"


@pytest.mark.parametrize("initrds", [0, 1, 2])
def test_what_is_no_kernel_is_refused_and_names_the_call(tmp_path: Path, initrds: int) -> None:
    kernel = write(tmp_path, "vmlinuz", b"no kernel")
    files = [write(tmp_path, f"initrd{n}", b"x") for n in range(initrds)]
    with pytest.raises(OSError, match="kexec_file_load") as error:
        kexecload.stage(kernel, files, "ro")
    assert error.value.errno


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kexecload.stage(tmp_path / "vmlinuz", [], "ro")
    with pytest.raises(FileNotFoundError):
        kexecload.stage(write(tmp_path, "vmlinuz", b"x"), [tmp_path / "initrd"], "ro")
