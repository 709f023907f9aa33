"""Firmware inside devices is read from /sys and /proc; what is not there is no device."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Device
from trialboot.host import Host
from trialboot.readers.equipment.devices import parse_microcode, parse_nvidia, read_devices

NVIDIA = """\
Model: \t\t NVIDIA A100-SXM4-80GB
IRQ:   \t\t 255
GPU UUID: \t GPU-1
Video BIOS: \t 92.00.45.00.03
GPU Firmware: \t 535.183.01
"""
BUS = "0000:07:00.0"


def host(root: Path, files: dict[str, str]) -> Host:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return Host(root=root)


@pytest.mark.parametrize(
    ("files", "device"),
    [
        (
            {
                "sys/class/dmi/id/bios_vendor": "Dell Inc.\n",
                "sys/class/dmi/id/bios_version": "2.12.4\n",
                "sys/class/dmi/id/bios_date": "03/15/2026\n",
            },
            Device(kind="bios", name="Dell Inc.", running="2.12.4 (03/15/2026)"),
        ),
        (
            {"sys/class/dmi/id/bios_date": "03/15/2026\n"},
            Device(kind="bios", name="", running="03/15/2026"),
        ),
        (
            {"proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0xd0003f5\n" * 2},
            Device(kind="microcode", name="CPU", running="0xd0003f5"),
        ),
        (
            {
                "sys/class/nvme/nvme0/firmware_rev": "GDC5902Q\n",
                "sys/class/nvme/nvme0/model": "SAMSUNG MZQL2   \n",
            },
            Device(kind="nvme", name="nvme0 (SAMSUNG MZQL2)", running="GDC5902Q"),
        ),
        (
            {"sys/block/sda/device/rev": "HPG3\n"},
            Device(kind="disk", name="sda", running="HPG3"),
        ),
        (
            {"sys/class/infiniband/mlx5_0/fw_ver": "22.35.2000\n"},
            Device(kind="infiniband", name="mlx5_0", running="22.35.2000"),
        ),
        (
            {
                "sys/class/drm/card0/device/vbios_version": "113-D67301-059\n",
                "sys/class/drm/card0/device/fw_version/vcn_fw_version": "0x00000000\n",
                "sys/class/drm/card0-DP-1/device/vbios_version": "113-D67301-059\n",
            },
            Device(kind="gpu", name="card0 vbios", running="113-D67301-059"),
        ),
        (
            {"sys/class/drm/card1/device/fw_version/smc_fw_version": "0x003a4b00\n"},
            Device(kind="gpu", name="card1 smc", running="0x003a4b00"),
        ),
        (
            {f"proc/driver/nvidia/gpus/{BUS}/information": "GPU Firmware: 1\nVideo BIOS: ??.?\n"},
            Device(kind="gpu", name=f"{BUS} GPU Firmware", running="1"),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Device) else "",
)
def test_a_device_tells_its_firmware(
    tmp_path: Path, files: dict[str, str], device: Device
) -> None:
    assert read_devices(host(tmp_path, files)) == ((device,), ())


def test_a_machine_without_any_of_these_has_no_devices_and_no_trouble(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\n",
        "sys/block/vda/device/vendor": "0x1af4\n",
        "sys/class/infiniband/rxe0/node_guid": "0\n",
    }
    assert read_devices(Host(root=tmp_path)) == ((), ())
    assert read_devices(host(tmp_path, files)) == ((), ())


def test_both_versions_of_a_gpu_are_told(tmp_path: Path) -> None:
    place = f"proc/driver/nvidia/gpus/{BUS}/information"
    name = f"{BUS} NVIDIA A100-SXM4-80GB"
    assert read_devices(host(tmp_path, {place: NVIDIA}))[0] == (
        Device(kind="gpu", name=f"{name} Video BIOS", running="92.00.45.00.03"),
        Device(kind="gpu", name=f"{name} GPU Firmware", running="535.183.01"),
    )


def test_processors_of_several_revisions_are_told_with_all_of_them() -> None:
    text = "microcode\t: 0x2\nmicrocode\t: 0x10\nmicrocode\t: 0x2\nxmicrocode : 0x3\n"
    assert parse_microcode(text) == ("0x10", "0x2")


def test_a_source_that_cannot_be_read_is_a_sentence_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "sys/class/dmi/id/bios_version").mkdir(parents=True)
    (tmp_path / "sys/class/infiniband").symlink_to("infiniband")
    found, unread = read_devices(host(tmp_path, {"proc/cpuinfo": "microcode : 0x1\n"}))
    assert found == (Device(kind="microcode", name="CPU", running="0x1"),)
    assert unread == (
        "/sys/class/dmi/id/bios_version: Is a directory",
        "/sys/class/infiniband: Too many levels of symbolic links",
    )


def test_words_of_a_device_are_fit_to_be_printed(tmp_path: Path) -> None:
    files = {"sys/block/sda/device/rev": "\x1b[31m \t1\x00" + "x" * 500}
    ((device,), _) = read_devices(host(tmp_path, files))
    assert device.running.startswith("?[31m 1?xx")
    assert len(device.running) == 200


@given(st.text(max_size=300))
def test_any_text_gives_revisions_and_versions_or_none(text: str) -> None:
    assert all(parse_microcode(text + "\nmicrocode : 0x1\n"))
    told = parse_nvidia(f"Model:{text}")
    assert set(told) <= {"Model", "Video BIOS", "GPU Firmware"}
    assert all(value and value.isprintable() for value in told.values())
