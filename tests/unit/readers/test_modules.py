"""Modules that are loaded, the firmware that they name, and those that a kernel's tree has."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.debian_host import FIRMWARE, OLD, debian, module_file
from trialboot.core.facts import Module, Unknown
from trialboot.readers.modules import (
    is_module,
    parse_dependencies,
    parse_firmware_names,
    parse_loaded,
    read_known_modules,
    read_loaded_modules,
)

LOADED = """\
nf_tables 331776 0 - Live 0xffffffffc0a00000
bnx2 118784 0 - Live 0xffffffffc0900000 (OE)

ext4 999424 1 - Live 0x0
"""

DEPENDENCIES = """\
kernel/drivers/net/bnx2.ko.xz:
kernel/net/nf-tables.ko.xz: kernel/net/nfnetlink.ko.xz
updates/dkms/nv.ko.zst:
kernel/plain.ko:
"""


def test_loaded_modules_are_named_in_order() -> None:
    assert parse_loaded(LOADED) == ("bnx2", "ext4", "nf_tables")
    assert parse_loaded("") == ()


def test_dependencies_give_the_file_of_each_module_by_its_name() -> None:
    assert parse_dependencies(DEPENDENCIES) == {
        "bnx2": "kernel/drivers/net/bnx2.ko.xz",
        "nf_tables": "kernel/net/nf-tables.ko.xz",
        "nv": "updates/dkms/nv.ko.zst",
        "plain": "kernel/plain.ko",
    }


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("kernel/a.ko", True),
        ("kernel/a.ko.xz", True),
        ("kernel/a.ko.zst", True),
        ("kernel/a.ko.gz", True),
        ("modules.dep", False),
        ("modules.builtin.bin", False),
        ("kernel/a.ko.sig", False),
    ],
)
def test_module_files_are_told_from_what_depmod_writes(path: str, answer: bool) -> None:  # noqa: FBT001  a column of the table
    assert is_module(path) is answer


def test_firmware_names_stand_in_the_module() -> None:
    raw = module_file("license=GPL", "firmware=b.bin", "firmware=a.bin", "firmware=b.bin")
    assert parse_firmware_names(raw) == ("a.bin", "b.bin")


@pytest.mark.parametrize("raw", [b"", b"MZ" * 64, module_file("license=GPL"), b"\x7fELF\x01\x01"])
def test_a_file_that_names_none_has_none(raw: bytes) -> None:
    assert parse_firmware_names(raw) == ()


@given(st.data())
def test_a_damaged_module_never_stops_the_reading(data: st.DataObject) -> None:
    raw = bytearray(module_file("firmware=a.bin"))
    for place in data.draw(st.lists(st.integers(6, len(raw) - 1), max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    assert isinstance(parse_firmware_names(bytes(raw[:cut])), tuple)


def test_loaded_modules_come_with_their_firmware(tmp_path: Path) -> None:
    host = debian(tmp_path)
    assert read_loaded_modules(host.host, OLD) == (
        Module(name="bnx2", firmware=(FIRMWARE,)),
        Module(name="nf_tables"),
    )


def test_a_compressed_module_is_read_too(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.write(f"/lib/modules/{OLD}/modules.dep", "kernel/bnx2.ko.xz:\n")
    raw = lzma.compress(module_file("firmware=x.bin"))
    host.write(f"/lib/modules/{OLD}/kernel/bnx2.ko.xz", raw)
    found = read_loaded_modules(host.host, OLD)
    assert not isinstance(found, Unknown)
    assert found[0] == Module(name="bnx2", firmware=("x.bin",))


@pytest.mark.parametrize("path", ["/proc/modules", f"/lib/modules/{OLD}/modules.dep"])
def test_loaded_modules_that_cannot_be_read_are_unknown(tmp_path: Path, path: str) -> None:
    host = debian(tmp_path).host
    (tmp_path / path.lstrip("/")).unlink()
    assert read_loaded_modules(host, OLD) == Unknown(f"{path}: No such file or directory")


def test_known_modules_are_those_of_the_tree_and_those_built_in(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    assert read_known_modules(host, OLD) == ("bnx2", "ext4", "nf_tables")


@pytest.mark.parametrize("name", ["modules.dep", "modules.builtin"])
def test_known_modules_that_cannot_be_read_are_unknown(tmp_path: Path, name: str) -> None:
    host = debian(tmp_path).host
    (tmp_path / "lib/modules" / OLD / name).unlink()
    found = read_known_modules(host, OLD)
    assert isinstance(found, Unknown)
    assert name in found.why
