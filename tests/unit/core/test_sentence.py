"""One sentence for a tired admin."""

import pytest

from trialboot.core.change import Area, Change, Risk
from trialboot.core.compare import MISSING, NOT_KNOWN, SIGNED_ONLY, USED
from trialboot.core.sentence import NOTHING, sentence


def row(area: Area, subject: str, before: str = "a", after: str = "b", *, why: str = "") -> Change:
    return Change(area=area, subject=subject, before=before, after=after, why=why)


def known(subject: str) -> Change:
    return Change(area=Area.OPTIONS, subject=subject, before="", after="", risk=Risk.NOTICE)


def danger(subject: str, after: str) -> Change:
    return Change(area=Area.LOADER, subject=subject, before="", after=after, risk=Risk.DANGER)


def missing(*names: str) -> list[Change]:
    return [row(Area.MODULES, name, "loaded", MISSING) for name in names]


def firmware(*paths: str, why: str = "") -> list[Change]:
    return [row(Area.FIRMWARE, path, why=why) for path in paths]


SWITCH = row(Area.KERNEL, "release", "6.1", "6.2")
REBUILT = row(Area.INITRD, "initrd of 6.1", "as before", "rebuilt")
LINE = row(Area.COMMAND_LINE, "command line")
SENTENCES = {
    "kernel": ([SWITCH], "switches the kernel 6.1 → 6.2."),
    "image": (
        [row(Area.KERNEL, "image of 6.1", "as before", "rebuilt")],
        "loads a rebuilt image of 6.1.",
    ),
    "a module": (
        [SWITCH, *missing("vxlan")],
        "switches the kernel 6.1 → 6.2; 1 loaded module is missing from it: vxlan.",
    ),
    "modules": (
        [SWITCH, *missing("ice", "vrf", "c", "d")],
        "switches the kernel 6.1 → 6.2; 4 loaded modules are missing from it: ice, vrf, c, …",
    ),
    "modules alone": (
        missing("a", "b", "c"),
        "changes what is told below; 3 loaded modules are missing from it: a, b, c.",
    ),
    "module tree": (
        [row(Area.MODULES, "module tree", "as before", "other files")],
        "loads other module files.",
    ),
    "a module with another name": (
        [SWITCH, row(Area.MODULES, "x", "loaded", "is y now")],
        "switches the kernel 6.1 → 6.2.",
    ),
    "unread modules": (
        [row(Area.MODULES, "modules in use", "loaded", "not known: x")],
        "may lack modules that are loaded now (not known).",
    ),
    "a driver": ([row(Area.DRIVERS, "pci:1")], "switches the driver of 1 device."),
    "no driver": (
        [row(Area.DRIVERS, "pci:1"), row(Area.DRIVERS, "pci:2", after="no driver")],
        "has no driver for 1 device.",
    ),
    "unused firmware": (
        firmware("x.bin"),
        "changes 1 firmware file (none that a loaded module names).",
    ),
    "used firmware": (
        firmware("mellanox/a.bin", why=USED),
        "changes 1 firmware file (mellanox/a.bin) that this host uses.",
    ),
    "some used firmware": (
        [*firmware("mellanox/a.bin", why=USED), *firmware("x.bin")],
        "changes 2 firmware files, of which this host uses 1 file (mellanox/a.bin).",
    ),
    "much used firmware": (
        firmware(*"abcd", why=USED),
        "changes 4 firmware files (a, b, c, …) that this host uses.",
    ),
    "firmware, not known whether used": (
        firmware("a", "b", why=NOT_KNOWN),
        "changes 2 firmware files (which of them this host uses is not known).",
    ),
    "initrd": ([REBUILT], "loads a rebuilt initrd."),
    "a stale initrd": (
        [row(Area.INITRD, "initrd of 6.1", "up to date", "older than x")],
        "loads an initrd that is older than its parts.",
    ),
    "microcode": ([row(Area.MICROCODE, "x")], "loads other CPU microcode."),
    "command line": ([LINE], "changes the kernel command line."),
    "an option": ([known("BPF")], "changes what is told below."),
    "options that are lost": (
        [row(Area.OPTIONS, "BPF"), row(Area.OPTIONS, "VXLAN"), known("NETKIT")],
        "lacks 2 kernel options that a CNI may need (BPF, VXLAN).",
    ),
    "another version of a module": (
        [row(Area.MODULES, "zfs version", "1", "2")],
        "loads another version of zfs.",
    ),
    "modules that are not signed": (
        [
            SWITCH,
            row(Area.MODULES, "zfs signature", why=SIGNED_ONLY),
            row(Area.MODULES, "x signature"),
        ],
        "switches the kernel 6.1 → 6.2; 1 loaded module is not signed as it demands: zfs.",
    ),
    "two modules that are not signed": (
        [row(Area.MODULES, f"{name} signature", why=SIGNED_ONLY) for name in "ab"],
        "changes what is told below; 2 loaded modules are not signed as it demands: a, b.",
    ),
    "devices": (
        [row(Area.DEVICES, "a"), row(Area.DEVICES, "b")],
        "activates firmware that waits in 2 devices.",
    ),
    "settings": (
        [row(Area.SETTINGS, "a"), row(Area.SETTINGS, "b")],
        "changes 2 settings.",
    ),
    "dkms": (
        [SWITCH, row(Area.DKMS, "zfs", "2", "not built")],
        "switches the kernel 6.1 → 6.2; dkms has not built zfs for it.",
    ),
    "a newer dkms": ([row(Area.DKMS, "zfs", "1", "2")], "changes what is told below."),
    "kexec": (
        [danger("kexec", "a kernel is staged")],
        ("changes nothing; but a kernel is staged for kexec, and a reboot may start that one."),
    ),
    "a one-shot": (
        [SWITCH, danger("one-shot", "«Linux 6.0»")],
        "switches the kernel 6.1 → 6.2; but «Linux 6.0» boots once before that.",
    ),
    "another loader": (
        [SWITCH, danger("UEFI BootNext", "Boot0003 «Windows»")],
        (
            "switches the kernel 6.1 → 6.2; "
            "but UEFI starts Boot0003 «Windows» first, not this loader."
        ),
    ),
    "three things": (
        [SWITCH, REBUILT, LINE],
        (
            "switches the kernel 6.1 → 6.2, loads a rebuilt initrd "
            "and changes the kernel command line."
        ),
    ),
}


@pytest.mark.parametrize(("rows", "words"), SENTENCES.values(), ids=SENTENCES)
def test_a_tired_admin_reads_one_sentence(rows: list[Change], words: str) -> None:
    assert sentence(rows) == f"The next boot {words}"


def test_nothing_is_said_to_be_nothing() -> None:
    assert sentence([]) == NOTHING == "The next boot changes nothing."
