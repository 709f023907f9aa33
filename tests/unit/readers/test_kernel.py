"""The running kernel from /proc and /sys, and what an image says it is."""

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.debian_host import BOOT, NEW, OLD, debian, kernel_image
from trialboot.core.facts import BootId, Kernel, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.kernel import (
    parse_build,
    parse_build_id,
    parse_image_banner,
    parse_kernel,
    read_boot_id,
    read_kernel,
    read_uptime,
)


def parsed(**other: str) -> Kernel | Unknown:
    parts: dict[str, Any] = {
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
        ("stat", f"btime {'1' * 5000}\n", "/proc/stat has no line btime"),
        ("taint", "none\n", "/proc/sys/kernel/tainted is no number"),
        ("taint", "1" * 5000, "/proc/sys/kernel/tainted is no number"),
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


@pytest.mark.parametrize("text", ["", "\0" * 40, "soon", "-1.0 2.0", "1e9 1"])
def test_an_uptime_that_is_none_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text(text)
    with pytest.raises(HostError, match="/proc/uptime does not begin with a number"):
        read_uptime(Host(root=tmp_path))


@pytest.mark.parametrize("release", [OLD, NEW, "6.8.0-31-generic"])
def test_an_image_says_its_release(release: str) -> None:
    banner = parse_image_banner(kernel_image(release))
    assert isinstance(banner, str)
    assert banner.split()[0] == release


def test_a_banner_without_an_end_is_cut() -> None:
    image = bytearray(kernel_image(OLD))
    image[0x400:0x600] = b"6.1 " + b"x" * 0x1FC
    image += b"x" * 0x100
    banner = parse_image_banner(bytes(image))
    assert banner == "6.1 " + "x" * 508


@pytest.mark.parametrize("release", ["6" * 65, "../6.1", "6.1/x"])
def test_what_can_be_no_folder_is_no_release(release: str) -> None:
    assert isinstance(parse_image_banner(kernel_image(release)), Unknown)
    assert isinstance(parsed(version=f"Linux version {release} (x) #1 SMP"), Unknown)


@pytest.mark.parametrize("part", ["version", "command_line", "boot"])
def test_more_than_any_kernel_tells_is_unknown(part: str) -> None:
    found = parsed(**{part: "Linux version 6.1 " + "x" * 20_000})
    assert found == Unknown("/proc tells more of the kernel than any kernel does")


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
    assert parse_image_banner(image) == Unknown(why)


@given(st.binary(max_size=0x700))
def test_any_bytes_are_a_banner_or_unknown(head: bytes) -> None:
    for image in (head, kernel_image(OLD)[:0x20E] + head):
        found = parse_image_banner(image)
        assert isinstance(found, Unknown) or found.split()


def note(kind: int, name: bytes, content: bytes) -> bytes:
    padded = [part + b"\0" * (-len(part) % 4) for part in (name, content)]
    return struct.pack("<III", len(name), len(content), kind) + b"".join(padded)


LINUX = note(0x101, b"Linux\0", b"\0") + note(0x100, b"Linux\0", b"6.1.0-56-amd64\0")
BUILD_ID = bytes(range(20))
BUILD = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.187-1 (2026-01-02)"


@pytest.mark.parametrize(
    ("notes", "build_id"),
    [
        (note(3, b"GNU\0", BUILD_ID), BUILD_ID.hex()),
        (LINUX + note(3, b"Xen\0", b"1234") + note(3, b"GNU\0", BUILD_ID), BUILD_ID.hex()),
        (LINUX, ""),
        (note(1, b"GNU\0", BUILD_ID), ""),
        (note(3, b"GNU\0", BUILD_ID)[:-1], ""),
        (b"\xff" * 64, ""),
        (b"", ""),
    ],
)
def test_the_build_id_stands_among_the_notes(notes: bytes, build_id: str) -> None:
    assert parse_build_id(notes) == build_id


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_notes_give_an_id_in_hex_or_none(raw: bytes, cut: int) -> None:
    for notes in (raw, LINUX + raw, (LINUX + note(3, b"GNU\0", BUILD_ID))[:cut]):
        assert set(parse_build_id(notes)) <= set("0123456789abcdef")


def test_the_kernel_shows_its_build_id_and_whether_another_is_staged(tmp_path: Path) -> None:
    host = debian(tmp_path)
    bare = read_kernel(host.host)
    assert isinstance(bare, Kernel)
    assert (bare.build_id, bare.kexec_staged) == ("", False)
    host.write("/sys/kernel/notes", LINUX + note(3, b"GNU\0", BUILD_ID))
    host.write("/sys/kernel/kexec_loaded", "1\n")
    found = read_kernel(host.host)
    assert isinstance(found, Kernel)
    assert (found.build_id, found.kexec_staged) == (BUILD_ID.hex(), True)


def test_nothing_staged_is_said_by_a_zero(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.write("/sys/kernel/kexec_loaded", "0\n")
    found = read_kernel(host.host)
    assert isinstance(found, Kernel)
    assert not found.kexec_staged


@pytest.mark.parametrize(
    ("told", "by_kexec"),
    [
        ("208\n", True),  # 0xd0: kexec-tools, kexec_file_load(2)
        ("114\n", False),  # 0x72: GRUB
        ("33\n", False),  # 0x21: the kernel's EFI stub
        ("176\n", False),  # 0xb0: QEMU
        ("3328\n", False),  # an extended kind
        ("no number\n", False),
        ("", False),  # no file: not x86
    ],
)
def test_a_kernel_that_another_kernel_started_says_so(
    tmp_path: Path, told: str, *, by_kexec: bool
) -> None:
    host = debian(tmp_path)
    if told:
        host.write("/proc/sys/kernel/bootloader_type", told)
    found = read_kernel(host.host)
    assert isinstance(found, Kernel)
    assert found.by_kexec is by_kexec


@pytest.mark.parametrize(
    ("version", "build"),
    [
        (f"Linux version {OLD} (d@debian.org) (gcc-12 (Debian 12.2) 12, GNU ld) {BUILD}\n", BUILD),
        (f"{OLD} (debian-kernel@lists.debian.org) {BUILD}", BUILD),
        (
            "6.8.0-31-generic (builder@lcy02) #31~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC Sat Apr 20",
            "#31~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC Sat Apr 20",
        ),
        ("6.1.0 (a@b#c)", ""),
        ("#", ""),
        ("", ""),
    ],
)
def test_the_build_is_the_same_from_proc_and_from_an_image(version: str, build: str) -> None:
    assert parse_build(version) == build


def test_an_image_says_all_of_its_banner() -> None:
    assert parse_image_banner(kernel_image(OLD)) == (
        f"{OLD} (debian-kernel@lists.debian.org) #1 SMP"
    )


@given(st.text(max_size=200))
def test_any_text_has_a_build_or_none(text: str) -> None:
    found = parse_build(text)
    assert not found or found.startswith("#")
