"""Kernel modules: those loaded now with the firmware they name, and those a kernel's tree has.

The firmware names stand in `.modinfo` of the module's file (`firmware=`), read by a small ELF
reader: one file descriptor and a few reads, where `modinfo` would be one process a module.
"""

import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from trialboot.core.facts import Module, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_UNPACK: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".ko": bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
}
_ENDINGS: Final = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def read_loaded_modules(host: Host, release: str) -> tuple[Module, ...] | Unknown:
    """Read `/proc/modules` and the firmware names of each module's file in the running tree."""
    try:
        names = parse_loaded(host.read_text("/proc/modules"))
        files = parse_dependencies(host.read_text(f"/lib/modules/{release}/modules.dep"))
    except HostError as error:
        return Unknown(str(error))
    folder = host.path(f"/lib/modules/{release}")
    return tuple(
        Module(name=name, firmware=_firmware_of(folder / files[name]) if name in files else ())
        for name in names
    )


def read_known_modules(host: Host, release: str) -> tuple[str, ...] | Unknown:
    """Name all modules that a kernel's tree has, and those built into it."""
    try:
        files = parse_dependencies(host.read_text(f"/lib/modules/{release}/modules.dep"))
        builtin = host.read_text(f"/lib/modules/{release}/modules.builtin")
    except HostError as error:
        return Unknown(str(error))
    return tuple(sorted({*files, *(_name(line) for line in builtin.split())}))


def is_module(path: str) -> bool:
    """Tell module files from what depmod makes of them."""
    return path.endswith(_ENDINGS)


def parse_loaded(text: str) -> tuple[str, ...]:
    """Name the modules of `/proc/modules`, sorted."""
    return tuple(sorted(line.split()[0] for line in text.splitlines() if line.strip()))


def parse_dependencies(text: str) -> dict[str, str]:
    """Turn `modules.dep` into module name -> path below the tree."""
    paths = (line.partition(":")[0] for line in text.splitlines() if line.strip())
    return {_name(path): path for path in paths}


def _name(path: str) -> str:
    name = path.rpartition("/")[2]
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name.replace("-", "_")


def _firmware_of(path: Path) -> tuple[str, ...] | Unknown:
    unpack = _UNPACK.get(path.suffix)
    if unpack is None:
        return Unknown(f"{path.suffix} files are not understood yet")
    try:
        return parse_firmware_names(unpack(path.read_bytes()))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        return Unknown(f"{path.name}: {error}")


def parse_firmware_names(raw: bytes) -> tuple[str, ...]:
    """Give the `firmware=` values of a module's `.modinfo` section; none if it is no ELF64."""
    modinfo = _section(raw, b".modinfo")
    words = (word for word in modinfo.split(b"\0") if word.startswith(b"firmware="))
    return tuple(sorted({word[9:].decode(errors="replace") for word in words}))


def _section(raw: bytes, wanted: bytes) -> bytes:
    """Find a section of a little-endian ELF64 file (elf(5)); empty if there is none."""
    if len(raw) < _HEADER.size or raw[:6] != b"\x7fELF\x02\x01":
        return b""
    header = _HEADER.unpack_from(raw)
    offset, size, count, names_index = header[6], header[11], header[12], header[13]
    try:
        rows = [_SECTION.unpack_from(raw, offset + i * size) for i in range(count)]
        names = raw[rows[names_index][4] :]
        for row in rows:
            if names[row[0] :].startswith(wanted + b"\0"):
                return raw[row[4] : row[4] + row[5]]
    except (struct.error, IndexError, OverflowError):
        return b""
    return b""
