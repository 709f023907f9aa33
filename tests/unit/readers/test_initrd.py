"""An initrd's microcode and its age."""

import hashlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.boot_hosts import BootHost
from trialboot.core.facts import Unknown
from trialboot.core.newc import archive
from trialboot.readers.initrd import read_microcode, read_stale

INTEL, AMD = "kernel/x86/microcode/GenuineIntel.bin", "kernel/x86/microcode/AuthenticAMD.bin"
ZSTD = b"\x28\xb5\x2f\xfd"
PATH = "/boot/initrd.img-1"
RELEASE = "6.12.117-amd64"


def early(**files: bytes) -> bytes:
    names = {"intel": INTEL, "amd": AMD, "other": "kernel/firmware/acpi/dsdt.aml"}
    return archive({names[name]: (0o644, content) for name, content in files.items()})


def microcode(root: Path, initrd: bytes) -> tuple[tuple[str, str], ...] | Unknown:
    host = BootHost(root)
    host.write(PATH, initrd)
    return read_microcode(host.host, PATH)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LARGE = bytes(range(256)) * 1000


@pytest.mark.parametrize(
    ("initrd", "found"),
    [
        (b"", []),
        (ZSTD + b"rest", []),
        (early(other=b"x") + ZSTD, []),
        (early(intel=b"i1") + ZSTD + early(amd=b"hidden"), [("GenuineIntel.bin", b"i1")]),
        (early(intel=LARGE) + b"\0" * 513 * 4 + ZSTD, [("GenuineIntel.bin", LARGE)]),
        (
            early(amd=b"a") + b"\0" * 300 + early(intel=b"i") + b"\0" * 3,
            [("AuthenticAMD.bin", b"a"), ("GenuineIntel.bin", b"i")],
        ),
        (early(intel=b"1st") + early(intel=b"2nd"), [("GenuineIntel.bin", b"1st")]),
        (early(intel=b"i") + b"\0" * 200_000, [("GenuineIntel.bin", b"i")]),
        (early(intel=b"i") + b"\0" * 5 + early(amd=b"not aligned"), [("GenuineIntel.bin", b"i")]),
    ],
)
def test_microcode_is_found_in_the_archives_at_the_start(
    tmp_path: Path, initrd: bytes, found: list[tuple[str, bytes]]
) -> None:
    wanted = tuple((name, sha256(content)) for name, content in found)
    assert microcode(tmp_path, initrd) == wanted


@pytest.mark.parametrize(
    ("initrd", "why"),
    [
        (early(intel=b"i" * 1000)[:-300], "cut short"),
        (early(intel=b"i")[:200] + b"070701", "damaged"),
        (b"070701" + b"0" * 200, "damaged at byte 0"),
    ],
)
def test_a_damaged_archive_is_unknown(tmp_path: Path, initrd: bytes, why: str) -> None:
    found = microcode(tmp_path, initrd)
    assert isinstance(found, Unknown)
    assert found.why.startswith(f"{PATH}: ")
    assert why in found.why


def test_no_more_than_its_limit_is_read(tmp_path: Path) -> None:
    host = BootHost(tmp_path)
    place = host.write(PATH, early(intel=b""))
    size = 65 * 1024 * 1024
    raw = bytearray(early(intel=b"i"))
    at = raw.index(INTEL.encode())
    raw[at - 110 + 54 : at - 110 + 62] = b"%08X" % size
    with place.open("wb") as file:
        file.write(raw)
        file.truncate(size + 4096)
    assert read_microcode(host.host, PATH) == Unknown(
        f"{PATH}: more than 67108864 bytes of it would have to be read"
    )


def test_a_large_member_that_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    host = BootHost(tmp_path)
    size = 256 * 1024 * 1024
    raw = bytearray(archive({"big": (0o644, b"b")}))
    raw[54:62] = b"%08X" % size
    at = 110 + len(b"big\0")
    place = host.write(PATH, bytes(raw[: at + -at % 4]))
    with place.open("r+b") as file:
        file.seek(at + -at % 4 + size)
        file.write(early(intel=b"i"))
    assert read_microcode(host.host, PATH) == (("GenuineIntel.bin", sha256(b"i")),)


def test_more_members_than_any_initrd_has_are_unknown(tmp_path: Path) -> None:
    one = archive({"a": (0o644, b"")}).partition(b"TRAILER!!!")[0][: 110 + 2]
    found = microcode(tmp_path, one * 100_001)
    assert isinstance(found, Unknown)
    assert "more than 100000 members" in found.why


def test_a_missing_initrd_is_unknown(tmp_path: Path) -> None:
    host = BootHost(tmp_path).host
    assert read_microcode(host, PATH) == Unknown(f"{PATH}: No such file or directory")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_bytes_break_the_reading(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(early(intel=b"i" * 9, other=b"x") + b"\0" * 8 + early(amd=b"a"))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[place] = data.draw(st.integers(0, 255))
    found = microcode(tmp_path, bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert isinstance(found, Unknown | tuple)


# --- age -----------------------------------------------------------------------------------------

LONG_AGO, NOW = 1_000_000_000, 4_000_000_000


def aged(root: Path, *, made: int, packages: tuple[str, ...] = ()) -> BootHost:
    """Make a host whose initrd was made at a time, and packages an hour after it."""
    host = BootHost(root)
    host.write(f"/lib/modules/{RELEASE}/modules.dep")
    for name in (*packages, "coreutils", "firmware"):
        host.write(f"/var/lib/dpkg/info/{name}.list")
        os.utime(root / f"var/lib/dpkg/info/{name}.list", (made + 3600, made + 3600))
    os.utime(root / f"lib/modules/{RELEASE}/modules.dep", (made, made))
    os.utime(host.write(PATH), (made, made))
    return host


def test_an_initrd_that_is_newer_than_all_is_not_stale(tmp_path: Path) -> None:
    host = aged(tmp_path, made=NOW)
    host.write("/etc/modprobe.d/old.conf")
    assert read_stale(host.host, PATH, RELEASE) == ()
    assert read_stale(host.host, PATH, "no-such-kernel") == ()


@pytest.mark.parametrize(
    "package",
    [
        "firmware-misc-nonfree",
        "linux-firmware",
        "linux-firmware-nvidia",
        "intel-microcode",
        "amd64-microcode",
        "initramfs-tools-core",
        "dracut-core",
    ],
)
def test_a_package_that_came_after_it_is_named(tmp_path: Path, package: str) -> None:
    host = aged(tmp_path, made=NOW, packages=(package,))
    assert read_stale(host.host, PATH, RELEASE) == (f"the package {package}",)


def test_modules_that_came_after_it_are_named(tmp_path: Path) -> None:
    host = aged(tmp_path, made=NOW)
    os.utime(tmp_path / f"lib/modules/{RELEASE}/modules.dep", (NOW + 1, NOW + 1))
    assert read_stale(host.host, PATH, RELEASE) == (f"the modules of {RELEASE}",)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/modprobe.d/a.conf",
        "/etc/initramfs-tools/conf.d/resume",
        "/etc/dracut.conf.d/b.conf",
    ],
)
def test_configuration_that_was_changed_after_it_is_named(tmp_path: Path, path: str) -> None:
    host = aged(tmp_path, made=LONG_AGO)
    os.utime(host.write(path), (LONG_AGO, LONG_AGO))  # ctime stays at now
    assert read_stale(host.host, PATH, RELEASE) == (path,)


def test_three_reasons_are_named_and_the_others_counted(tmp_path: Path) -> None:
    names = tuple(f"firmware-{letter}" for letter in "abcde")
    said = read_stale(aged(tmp_path, made=NOW, packages=names).host, PATH, RELEASE)
    assert not isinstance(said, Unknown)
    assert [line.split()[-1] for line in said] == [
        "firmware-a",
        "firmware-b",
        "firmware-c",
        "more",
    ]
    assert said[-1] == "2 more"


def test_the_age_of_a_missing_initrd_is_unknown(tmp_path: Path) -> None:
    assert isinstance(read_stale(BootHost(tmp_path).host, PATH, RELEASE), Unknown)


def test_a_real_initrd_s_layout_is_one_archive_and_a_stream(tmp_path: Path) -> None:
    blob = struct.pack("<12I", *range(12)) * 100
    initrd = early(intel=blob).ljust(5120, b"\0") + ZSTD + os.urandom(64)
    assert microcode(tmp_path, initrd) == (("GenuineIntel.bin", sha256(blob)),)
