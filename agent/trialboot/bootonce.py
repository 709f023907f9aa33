"""One-shots that GRUB's own environment block does not carry: where they are, and which is set.

The other carriers are an environment block of ours, `trial.env`: GRUB takes the entry that it
names, clears it, reads it back, and only then follows it (packaging/grub/09_trialboot). A copy of
GRUB that only BootNext starts has it beside itself on the ESP; else it lies on a plain partition.
The block of a kexec trial lies in /boot/grub: the shutdown takes it, and GRUB knows nothing of it.
"""

import os
import stat
from pathlib import Path
from typing import Final

from trialboot import efivariables
from trialboot.core.bootset import word_of
from trialboot.core.efi import TRIAL_FOLDER, boot_number, is_ours, parse_number
from trialboot.core.facts import Kernel, Unknown
from trialboot.core.grub import BLOCK_SIZE, parse_environment
from trialboot.core.menu import BOOT_NEXT, KEXEC, KEXEC_WORD, Carrier
from trialboot.host import Host

ONCE: Final = "trialboot_once"
"""The key that names the entry; GRUB empties it."""
SOURCE: Final = "trialboot_source"
"""The folder of the ESP that a copy of GRUB was made from."""
KNOWN_BY: Final = "trialboot_token"
"""What the kernel that was started by kexec is known by; there once the entry was taken."""
KEXEC_CARRIER: Final = Carrier(KEXEC, "/boot/grub")
"""Its block lies beside GRUB's menu, where who may read that one finds this one."""
SET_IN_THIS_BOOT: Final = "/run/trialboot/one-shot-set"
"""There since an own block was given a one-shot: GRUB empties the block at each of its starts."""
_BLOCK: Final = "trial.env"
_OWN_FOLDER: Final = "trialboot"
_ROOM: Final = 64 << 20
"""Bytes of all files of a GRUB: no real one has a tenth of it."""


def folder_of(carrier: Carrier) -> str:
    """Name the folder of a carrier's files on this host."""
    below = TRIAL_FOLDER if carrier.kind == BOOT_NEXT else _OWN_FOLDER
    return f"{carrier.folder.rstrip('/')}/{below}"


def block_of(carrier: Carrier) -> str:
    """Name a carrier's environment block on this host."""
    return f"{folder_of(carrier)}/{_BLOCK}"


def read_once(host: Host, carrier: Carrier) -> str | Unknown:
    """Give the entry that is booted once; empty for none.

    A copy of GRUB that is not the one on the ESP any more counts as none: an upgrade has replaced
    its modules, so it is to be copied anew before it may be started.
    """
    try:
        if carrier.kind == BOOT_NEXT and not next_is_ours(host):
            return ""
        block = read_block(host, carrier)
        if isinstance(block, Unknown):
            return block
        if carrier.kind == BOOT_NEXT and not _is_current(host, carrier, block.get(SOURCE, "")):
            return ""
    except OSError as error:
        return Unknown(f"the one-shot of {carrier.kind}: {error.strerror}")
    return block.get(ONCE, "")


def may_be_hidden(host: Host, carrier: Carrier) -> bool:
    """Tell whether a carrier whose partition is not mounted may have something booted once."""
    if carrier.kind != BOOT_NEXT:
        return carrier.kind != KEXEC and host.exists(SET_IN_THIS_BOOT)
    try:
        return next_is_ours(host)
    except OSError:
        return True


def is_kexec_trial(host: Host, kernel: Kernel) -> bool | Unknown:
    """Tell whether a shutdown of ours started this kernel by kexec, as what was to be booted once.

    A token is good for one start: the next one-shot replaces it. Who copies a command line with it
    by hand starts the same kernel with the same arguments.
    """
    token = word_of(kernel.command_line, KEXEC_WORD)
    if not kernel.by_kexec or isinstance(token, Unknown):
        return False
    try:
        block = read_block(host, KEXEC_CARRIER)
    except OSError as error:
        return Unknown(f"{block_of(KEXEC_CARRIER)}: {error.strerror}")
    return block if isinstance(block, Unknown) else block.get(KNOWN_BY) == token


def next_is_ours(host: Host) -> bool:
    """Tell whether BootNext names the entry of ours. Raises `OSError`."""
    value = efivariables.read(host, "BootNext")
    number = Unknown("none") if value is None else parse_number(value)
    options = efivariables.options(host)
    return any(boot_number(name) == number and is_ours(option) for name, option in options.items())


def read_block(host: Host, carrier: Carrier) -> dict[str, str] | Unknown:
    """Read a carrier's block; missing or garbage is to GRUB one without keys. Raises `OSError`."""
    shown = block_of(carrier)
    path = host.path(shown)
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not stat.S_ISREG(status.st_mode) or status.st_size > BLOCK_SIZE:
        return Unknown(f"{shown} is no file of {BLOCK_SIZE} bytes")
    found = parse_environment(path.read_bytes())
    return {} if isinstance(found, Unknown) else found


def same_files(here: Path, there: Path) -> bool:
    """Tell whether two files hold the same. Raises `OSError`."""
    sizes = {path.stat().st_size for path in (here, there)}
    return len(sizes) == 1 and max(sizes) < _ROOM and here.read_bytes() == there.read_bytes()


def _is_current(host: Host, carrier: Carrier, source: str) -> bool:
    """Tell whether GRUB's copy still is what it was made from."""
    copies = sorted(host.path(folder_of(carrier)).glob("*.[eE][fF][iI]"))
    origin = host.path(f"{carrier.folder}/{source}")
    pairs = [(copy, origin / copy.name) for copy in copies]
    return bool(source and pairs) and all(
        original.is_file() and same_files(copy, original) for copy, original in pairs
    )
