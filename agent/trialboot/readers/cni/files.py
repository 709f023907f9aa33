"""Files that others write, read up to a limit and never waited for."""

import errno
import os
import stat
from typing import Final

LONGEST: Final = 300
"""Letters of a line that are kept as evidence."""


def read_whole(path: str, most: int) -> bytes:
    """Read a file. Raises `OSError`: EFBIG if it is larger than `most` bytes."""
    with os.fdopen(_open(path), "rb", buffering=0) as file:
        raw = _read(file.fileno(), most + 1)
    if len(raw) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return raw


def read_tail(path: str, most: int) -> bytes:
    """Read the last `most` bytes of a file that is no link. Raises `OSError`.

    What the limit cut is dropped up to the end of its line.
    """
    descriptor = _open(path, os.O_NOFOLLOW)
    try:
        begin = max(0, os.fstat(descriptor).st_size - most)
        os.lseek(descriptor, begin, os.SEEK_SET)
        raw = _read(descriptor, most)
    finally:
        os.close(descriptor)
    return raw.partition(b"\n")[2] if begin else raw


def printable(text: str) -> str:
    """Make a line fit to be shown: nothing that moves a cursor, and not without end."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * LONGEST])
    return shown.strip()[:LONGEST]


def _open(path: str, flags: int = 0) -> int:
    """Open a plain file: a pipe or a device may wait for ever. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no plain file", path)


def _read(descriptor: int, most: int) -> bytes:
    parts = []
    while most > 0:
        part = os.read(descriptor, most)
        if not part:
            break
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
