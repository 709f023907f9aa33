"""What a boot loader will do next, read from its own files with nothing of trialboot's."""

from __future__ import annotations

from tests.vm.hosts import Host
from tests.vm.node import KNOWN_GOOD, Node

_VARIABLES = "/sys/firmware/efi/efivars"
_LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_BLOCKS = (
    "/boot/plain/trialboot/trial.env",
    "/boot/efi/EFI/trialboot/trial.env",
    "/boot/grub/trialboot/trial.env",
)
_ONCE = (f"LoaderEntryOneShot-{_LOADER}", f"BootNext-{_GLOBAL}")


def pending(node: Node) -> dict[str, str]:
    """Everything that would boot something once: words of GRUB, firmware and systemd-boot."""
    found = {}
    for block in _BLOCKS:
        if node.machine.exists(block):
            lines = node.machine.exec(f"grub-editenv {block} list").stdout.splitlines()
            values = dict(line.split("=", 1) for line in lines)
            if values.get("trialboot_once"):
                found[block] = values["trialboot_once"]
    if node.machine.exists("/boot/grub/grubenv") and (once := node.grubenv().get("next_entry")):
        found["next_entry"] = once
    for name in _ONCE:
        if value := efi_variable(node, name):
            found[name.partition("-")[0]] = value
    return found


def efi_variable(node: Node, name: str) -> str:
    """The text of an EFI variable, or its hexadecimal digits; empty where there is none."""
    path = f"{_VARIABLES}/{name}"
    if not node.machine.exists(path):
        return ""
    # Four bytes of attributes come first.
    digits = node.machine.exec(f"cat {path} | tail -c +5 | od -A n -v -t x1 | tr -d ' \\n'").stdout
    value = bytes.fromhex(digits)
    return value.decode("utf-16-le").rstrip("\0") if name.startswith("Loader") else digits


def boot_order(node: Node) -> str:
    """The firmware's own order, which a trial must leave as it found it."""
    return efi_variable(node, f"BootOrder-{_GLOBAL}")


def assert_default_is_whole(node: Node, host: Host, release: str) -> None:
    """The default is our entry, of this release; its files are on disk and hash as recorded."""
    kernel, files, told = (_systemd_boot if host.loader == "systemd-boot" else _grub)(node)
    assert told == release, f"the default boots {told}"
    for path in files:
        assert node.machine.exists(path), f"the default names {path}, which is not there"
    found = node.machine.exec(f"sha256sum {kernel}").stdout.split()[0]
    assert found == node.record()["trial"]["known_good"]["kernel"], f"{kernel} is another"


def _grub(node: Node) -> tuple[str, list[str], str]:
    saved = node.grubenv().get("saved_entry", "")
    assert saved == KNOWN_GOOD, f"GRUB's default is «{saved}»"
    values = node.known_good_entry()
    return values["KERNEL"], [values["KERNEL"], *values["INITRDS"].split()], values["RELEASE"]


def _systemd_boot(node: Node) -> tuple[str, list[str], str]:
    default = efi_variable(node, f"LoaderEntryDefault-{_LOADER}")
    assert default, "systemd-boot has no default"
    lines = node.machine.read(f"/boot/efi/loader/entries/{default}").splitlines()
    words = [line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2]
    files = [f"/boot/efi{value}" for key, value in words if key in {"linux", "initrd"}]
    values = dict(words)
    assert "trialboot.boot=" in values["options"], f"the default {default} is not ours"
    return f"/boot/efi{values['linux']}", files, values["version"]
