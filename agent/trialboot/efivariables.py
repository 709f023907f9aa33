"""The firmware's boot variables, through efivarfs (Documentation/filesystems/efivarfs.rst).

A variable is a file: four bytes of attributes, then its value. A write is one write(2), and the
firmware makes it durable. All raise `OSError`; where there is no UEFI there are no variables.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from trialboot.core.efi import LoadOption, boot_number, parse_option
from trialboot.core.facts import Unknown
from trialboot.host import Host

VARIABLES: Final = "/sys/firmware/efi/efivars"
GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""EFI_GLOBAL_VARIABLE: the vendor of the firmware's own (UEFI specification 2.10, 3.3)."""
_LARGEST: Final = 64 << 10
_ATTRIBUTES: Final = 4
_KEPT: Final = struct.pack("<I", 7)
"""Non-volatile, for boot services and for the running system (8.2.1)."""

_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL (include/uapi/linux/fs.h)."""


def read(host: Host, name: str, vendor: str = GLOBAL) -> bytes | None:
    """Read the value of a variable; None where it is not there."""
    raw = _raw(host.path(_file(name, vendor)))
    return None if raw is None else raw[_ATTRIBUTES:]


def write(host: Host, name: str, value: bytes, vendor: str = GLOBAL) -> None:
    """Write a variable, and read it back: there is firmware that says yes and does nothing.

    What it holds already is not written again: the memory of a firmware wears out.
    """
    path, content = host.path(_file(name, vendor)), _KEPT + value
    before = _raw(path)
    if before == content:
        return
    try:
        with _mutable(str(path)):
            _write(path, content)
    except OSError:
        if before is None:
            # A file without content is what efivarfs leaves where the firmware refused.
            path.unlink(missing_ok=True)
        raise
    if _raw(path) != content:
        raise OSError(errno.EIO, f"the firmware did not take {name}")


def remove(host: Host, name: str, vendor: str = GLOBAL) -> None:
    """Remove a variable; one that is not there is removed."""
    path = host.path(_file(name, vendor))
    with suppress(FileNotFoundError), _mutable(str(path)):
        path.unlink()
    if path.exists():
        raise OSError(errno.EIO, f"the firmware did not let {name} go")


def options(host: Host) -> dict[str, LoadOption | Unknown]:
    """Give what each `Boot####` starts, by the name that the firmware gave it.

    A number that has two names, as `Boot000a` beside `Boot000A`, is two entries here.
    """
    found: dict[str, LoadOption | Unknown] = {}
    for name in _names(host):
        if boot_number(name) is not None and (value := read(host, name)) is not None:
            found[name] = parse_option(value)
    return found


def _file(name: str, vendor: str) -> str:
    return f"{VARIABLES}/{name}-{vendor}"


def _raw(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, content)
    finally:
        os.close(descriptor)
    if written != len(content):
        raise OSError(errno.EIO, f"{written} of {len(content)} bytes were taken")


def _names(host: Host) -> list[str]:
    ending = f"-{GLOBAL}"
    try:
        names = [path.name for path in host.path(VARIABLES).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name.removesuffix(ending) for name in names if name.endswith(ending))


@contextmanager
def _mutable(path: str) -> Iterator[None]:
    """Lift the flag that guards variables which the kernel does not know; put it back after."""
    guarded = _flags(path)
    if guarded & _IMMUTABLE:
        _set_flags(path, guarded & ~_IMMUTABLE)
    try:
        yield
    finally:
        if guarded & _IMMUTABLE:
            with suppress(FileNotFoundError):
                _set_flags(path, guarded)


def _flags(path: str) -> int:
    """Give the inode's flags; none where there is no such file, or the file system has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        raw = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        return int(struct.unpack("q", raw)[0])
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _set_flags(path: str, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("q", flags))
    finally:
        os.close(descriptor)
