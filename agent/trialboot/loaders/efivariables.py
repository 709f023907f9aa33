"""Writes EFI variables through efivarfs: whole, and read back.

Documentation/filesystems/efivarfs.rst: one write(2) is one SetVariable of the firmware, which does
it whole or not at all. Files are immutable, so that `rm -r` bricks nobody: the flag is lifted for
the write, and set again.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trialboot.core.systemdboot import format_variable, parse_variable
from trialboot.errors import LoaderError

_GET_FLAGS: Final = 0x80086601
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS with a 64-bit long (include/uapi/linux/fs.h)."""
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10


def set_variable(path: Path, value: str) -> None:
    """Let a variable say this. Raises `LoaderError`.

    What it says already is not written again: the memory of a firmware wears out.
    """
    try:
        content = format_variable(value)
    except UnicodeEncodeError as error:
        raise LoaderError(f"{path.name} cannot say «{value!r}»: it is no text") from error
    if _says(path, value):
        return
    is_new = not path.exists()
    try:
        with _writable(path):
            _write(path, content)
    except OSError as error:
        if is_new:
            # A file without content is what efivarfs leaves where the firmware refused.
            path.unlink(missing_ok=True)
        raise LoaderError(f"{path.name}: the firmware refused: {error.strerror}") from error
    if not _says(path, value):
        raise LoaderError(f"{path.name} does not hold what was written")


def unset_variable(path: Path) -> None:
    """Delete a variable; one that is not there is no error. Raises `LoaderError`."""
    if not path.exists():
        return
    try:
        _lift(path)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LoaderError(f"{path.name}: the firmware refused: {error.strerror}") from error
    if path.exists():
        raise LoaderError(f"{path.name} is still there")


def _says(path: Path, value: str) -> bool:
    """Tell whether a variable is there, is kept by the firmware, and says this."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LoaderError(f"{path.name}: {error.strerror}") from error
    return raw[:4] == format_variable(value)[:4] and parse_variable(raw) == value


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, content)
    finally:
        os.close(descriptor)
    if written != len(content):
        raise LoaderError(f"{path.name}: {written} of {len(content)} bytes were taken")


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    flags = _lift(path) if path.exists() else None
    try:
        yield
    finally:
        if flags is not None:
            _set_flags(path, flags)


def _lift(path: Path) -> int | None:
    """Lift the immutable flag; give the flags that were set, or None where it was not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        buffer = bytearray(8)
        try:
            fcntl.ioctl(descriptor, _GET_FLAGS, buffer)
        except OSError:
            return None  # a file system without flags refuses no write for one
        flags = int.from_bytes(buffer, "little") & 0xFFFFFFFF
    finally:
        os.close(descriptor)
    if not flags & _IMMUTABLE:
        return None
    _set_flags(path, flags & ~_IMMUTABLE)
    return flags


def _set_flags(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SET_FLAGS, flags.to_bytes(8, "little"))
    finally:
        os.close(descriptor)
