"""The running kernel from /proc, and the release that an image says it is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.debian_host import BOOT, NEW, OLD, debian, kernel_image
from trialboot.core.facts import BootId, Kernel, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.kernel import (
    parse_image_release,
    parse_kernel,
    read_boot_id,
    read_kernel,
    read_uptime,
)


def parsed(**other: str) -> Kernel | Unknown:
    parts = {
        "version": "Linux version 6.1.0-56-amd64 (d@x) (gcc-12) #1 SMP\n",
        "command_line": "BOOT_IMAGE=/vmlinuz ro\n",
        "boot": "abc\n",
        "stat": "cpu  1\nbtime 1700000000\nprocesses 2\n",
        "taint": "4096\n",
    }
    return parse_kernel(**{**parts, **other})


def test_the_running_kernel_is_read() -> None:
    assert parsed() == Kernel(
        release=OLD,
        version="Linux version 6.1.0-56-amd64 (d@x) (gcc-12) #1 SMP",
        command_line="BOOT_IMAGE=/vmlinuz ro",
        boot=BootId("abc"),
        taint=4096,
        boot_time=1700000000,
    )


@pytest.mark.parametrize(
    ("part", "text", "why"),
    [
        ("version", "Darwin 23\n", "/proc/version does not begin with «Linux version RELEASE»"),
        ("version", "", "/proc/version does not begin with «Linux version RELEASE»"),
        ("stat", "cpu  1 2\n", "/proc/stat has no line btime"),
        ("stat", "xbtime 12\n", "/proc/stat has no line btime"),
    ],
)
def test_what_cannot_be_parsed_is_unknown(part: str, text: str, why: str) -> None:
    assert parsed(**{part: text}) == Unknown(why)


@pytest.mark.parametrize(
    "file", ["version", "cmdline", "stat", "sys/kernel/random/boot_id", "sys/kernel/tainted"]
)
def test_a_missing_file_is_unknown_and_named(tmp_path: Path, file: str) -> None:
    host = debian(tmp_path).host
    assert isinstance(read_kernel(host), Kernel)
    (tmp_path / "proc" / file).unlink()
    found = read_kernel(host)
    assert isinstance(found, Unknown)
    assert found.why == f"/proc/{file}: No such file or directory"


def test_boot_id_and_uptime_are_read_alone(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    assert (read_boot_id(host), read_uptime(host)) == (BOOT, 100.25)
    with pytest.raises(HostError, match="/proc/uptime: No such file"):
        read_uptime(Host(root=tmp_path / "elsewhere"))


@pytest.mark.parametrize("release", [OLD, NEW, "6.8.0-31-generic"])
def test_an_image_says_its_release(release: str) -> None:
    assert parse_image_release(kernel_image(release)) == release


def test_a_banner_without_an_end_is_cut() -> None:
    image = bytearray(kernel_image(OLD))
    image[0x400:0x600] = b"x" * 0x200
    assert parse_image_release(bytes(image)) == "x" * 256


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "not an x86 kernel image; other architectures are not understood yet"),
        (b"MZ" * 0x300, "not an x86 kernel image; other architectures are not understood yet"),
        (kernel_image(OLD)[:0x400], "the kernel image has no version banner"),
        (kernel_image(""), "the kernel image has no version banner"),
    ],
)
def test_an_image_that_says_nothing_is_unknown(image: bytes, why: str) -> None:
    assert parse_image_release(image) == Unknown(why)


@given(st.binary(max_size=0x700))
def test_any_bytes_are_a_release_or_unknown(head: bytes) -> None:
    for image in (head, kernel_image(OLD)[:0x20E] + head):
        found = parse_image_release(image)
        assert isinstance(found, Unknown) or found
