"""BootNext: what the firmware starts once, in words, and what hostile variables give."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialboot.core.efi import parse_description, parse_number
from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers.efi import read_boot_next

GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
WINDOWS = struct.pack("<IH", 1, 4) + "Windows Boot Manager\0".encode("utf-16-le") + b"\x7f\xff\4\0"


def firmware(root: Path, **variables: bytes) -> Host:
    folder = root / "sys/firmware/efi/efivars"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in variables.items():
        (folder / f"{name}-{GUID}").write_bytes(struct.pack("<I", 7) + value)
    return Host(root=root)


def number(value: int) -> bytes:
    return value.to_bytes(2, "little")


def test_a_host_without_efi_has_none(tmp_path: Path) -> None:
    assert read_boot_next(Host(root=tmp_path)) == ""


def test_a_firmware_that_was_told_nothing_has_none(tmp_path: Path) -> None:
    assert read_boot_next(firmware(tmp_path, BootCurrent=number(1))) == ""


def test_another_loader_is_named_with_its_description(tmp_path: Path) -> None:
    host = firmware(tmp_path, BootNext=number(0x1A), BootCurrent=number(1), Boot001A=WINDOWS)
    assert read_boot_next(host) == "Boot001A «Windows Boot Manager»"


def test_the_loader_that_runs_is_no_other_one(tmp_path: Path) -> None:
    host = firmware(tmp_path, BootNext=number(3), BootCurrent=number(3), Boot0003=WINDOWS)
    assert read_boot_next(host) == ""


def test_a_firmware_that_does_not_say_what_it_started_is_not_believed_to_start_it_again(
    tmp_path: Path,
) -> None:
    host = firmware(tmp_path, BootNext=number(3), Boot0003=WINDOWS)
    assert read_boot_next(host) == "Boot0003 «Windows Boot Manager»"


def test_an_option_without_a_description_is_named_by_its_number(tmp_path: Path) -> None:
    host = firmware(tmp_path, BootNext=number(3), Boot0003=struct.pack("<IHH", 1, 0, 0))
    assert read_boot_next(host) == "Boot0003"


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"BootNext": b""}, "BootNext: not two bytes long"),
        ({"BootNext": b"123"}, "BootNext: not two bytes long"),
        ({"BootNext": number(3)}, "BootNext names Boot0003, which the firmware does not have"),
        (
            {"BootNext": number(3), "Boot0003": b"abc"},
            "BootNext names Boot0003: the description has no end",
        ),
        (
            {"BootNext": number(3), "Boot0003": b"123456\x00\xd8\0\0"},
            "BootNext names Boot0003: the description is no UTF-16",
        ),
        (
            {"BootNext": number(3), "Boot0003": b"123456\x1b\0\0\0"},
            "BootNext names Boot0003: the description is no plain text",
        ),
    ],
)
def test_what_cannot_be_understood_is_unknown(
    tmp_path: Path, variables: dict[str, bytes], why: str
) -> None:
    assert read_boot_next(firmware(tmp_path, **variables)) == Unknown(why)


def test_a_variable_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / f"sys/firmware/efi/efivars/BootNext-{GUID}").mkdir(parents=True)
    assert read_boot_next(Host(root=tmp_path)) == Unknown("EFI variables: Is a directory")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_number_and_a_description_or_unknown(raw: bytes) -> None:
    assert isinstance(parse_number(raw), int) == (len(raw) == 2)
    described = parse_description(raw)
    assert isinstance(described, Unknown) or described.isprintable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_load_option_is_told_or_unknown(tmp_path: Path, option: bytes) -> None:
    host = firmware(tmp_path, BootNext=number(3), Boot0003=option)
    told = read_boot_next(host)
    assert isinstance(told, Unknown) or told.startswith("Boot0003")
