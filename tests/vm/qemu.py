"""The QEMU command line that every guest shares, and where the UEFI firmware is."""

from __future__ import annotations

from pathlib import Path

from tests.vm.errors import InfrastructureError

PROGRAM = "qemu-system-x86_64"
# Debian, Ubuntu and Fedora keep the same firmware under different names: code, then variables.
_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
)
# A plain processor is a fast one under TCG: vector instructions that programs choose because they
# are there, and five-level page tables, cost a third of a boot and half of every command.
_PROCESSORS = {"kvm": ("kvm", "max"), "tcg": ("tcg,thread=multi", "Nehalem")}


def machine(accelerator: str) -> list[str]:
    """A q35 board of two processors without screen, sound or network."""
    how, cpu = _PROCESSORS[accelerator]
    return [
        PROGRAM,
        *("-machine", "q35", "-accel", how, "-cpu", cpu),
        *("-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-device", "virtio-rng-pci", "-rtc", "base=utc"),
    ]


def disk(path: Path, form: str, cache: str) -> list[str]:
    """The disk /dev/vda."""
    return ["-drive", f"file={path},format={form},if=virtio,cache={cache}"]


def serial(path: Path) -> list[str]:
    """The serial console, appended to a file so that it tells the whole story."""
    return ["-chardev", f"file,id=serial,path={path},append=on", "-serial", "chardev:serial"]


def direct(kernel: Path, initrd: Path | None, command_line: str) -> list[str]:
    """Boot a kernel without any boot loader."""
    ram_disk = ["-initrd", str(initrd)] if initrd else []
    return ["-kernel", str(kernel), *ram_disk, "-append", command_line]


def firmware() -> tuple[Path, Path]:
    """UEFI code and its empty variables."""
    for code, variables in _FIRMWARE:
        if Path(code).exists() and Path(variables).exists():
            return Path(code), Path(variables)
    raise InfrastructureError("no UEFI firmware: apt-get install ovmf")


def uefi(variables: Path) -> list[str]:
    """Boot by UEFI, with variables of this machine's own."""
    code, _ = firmware()
    return [
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
    ]
