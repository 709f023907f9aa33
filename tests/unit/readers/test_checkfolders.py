"""Files of the folders of checks: which there are, and which must not be run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.operatorchecks import Level
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.checkfolders import Program, read_programs

REQUIRED, WANTED = "required.d", "wanted.d"


def folder(root: Path, level: str = REQUIRED) -> Path:
    made = root / "etc/trialboot/checks.d" / level
    made.mkdir(parents=True, exist_ok=True, mode=0o755)
    return made


def program(root: Path, name: str, level: str = REQUIRED, mode: int = 0o755) -> Path:
    path = folder(root, level) / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def read(root: Path) -> tuple[Program, ...]:
    return read_programs(Host(root=root), owner=os.geteuid())


def test_without_folders_there_are_no_checks(tmp_path: Path) -> None:
    assert read(tmp_path) == ()
    folder(tmp_path)
    assert read(tmp_path) == ()


def test_the_required_ones_come_first_each_level_by_name(tmp_path: Path) -> None:
    for name, level in (("20-b", REQUIRED), ("00-w", WANTED), ("10-a", REQUIRED)):
        program(tmp_path, name, level)
    program(tmp_path, ".10-a.swp")
    assert [(found.name, found.level, found.refusal) for found in read(tmp_path)] == [
        ("required.d/10-a", Level.REQUIRED, ""),
        ("required.d/20-b", Level.REQUIRED, ""),
        ("wanted.d/00-w", Level.WANTED, ""),
    ]


def _dangling(root: Path) -> None:
    (folder(root) / "10-a").symlink_to("nowhere")


def _looping(root: Path) -> None:
    (folder(root) / "10-a").symlink_to("10-a")


def _subfolder(root: Path) -> None:
    (folder(root) / "10-a").mkdir()


def _pipe(root: Path) -> None:
    os.mkfifo(folder(root) / "10-a")


def _link_to_a_foreign_file(root: Path) -> None:
    target = root / "elsewhere"
    target.touch()
    target.chmod(0o777)
    (folder(root) / "10-a").symlink_to(target)


def _open_folder(root: Path) -> None:
    program(root, "10-a")
    folder(root).chmod(0o777)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_dangling, "it cannot be looked at: No such file or directory"),
        (_looping, "it cannot be looked at: Too many levels of symbolic links"),
        (_subfolder, "it is no file"),
        (_pipe, "it is no file"),
        (_link_to_a_foreign_file, "it can be written by others than root"),
        (lambda root: program(root, "10-a", mode=0o644), "it is not executable"),
        (lambda root: program(root, "10-a", mode=0o757), "it can be written by others than root"),
        (lambda root: program(root, "10-a", mode=0o775), "it can be written by others than root"),
        (_open_folder, "its folder can be written by others than root"),
    ],
)
def test_what_must_not_be_run_is_told(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path)
    (found,) = read(tmp_path)
    assert (found.name, found.refusal) == ("required.d/10-a", told)


def test_a_check_of_another_user_is_refused(tmp_path: Path) -> None:
    program(tmp_path, "10-a")
    (found,) = read_programs(Host(root=tmp_path), owner=os.geteuid() + 1)
    assert found.refusal == f"its folder belongs to user {os.geteuid()}, not to root"


def test_a_folder_that_is_none_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "etc/trialboot/checks.d").mkdir(parents=True)
    (tmp_path / "etc/trialboot/checks.d/wanted.d").touch()
    with pytest.raises(HostError, match=r"^/etc/trialboot/checks\.d/wanted\.d: Not a directory$"):
        read(tmp_path)


@given(name=st.binary(min_size=1, max_size=40).filter(lambda n: not set(n) & {0, 0x2F}))
def test_any_bytes_may_be_in_a_name(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    root = tmp_path_factory.mktemp("names")
    if name in {b".", b".."}:
        return
    path = program(root, os.fsdecode(name))
    found = read(root)
    if name.startswith(b"."):
        assert found == ()
        return
    assert found[0].path == path
    assert found[0].name.isprintable()
    assert found[0].name.encode("utf-8")
