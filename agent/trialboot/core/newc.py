"""The cpio archives that a kernel unpacks as an initrd (the kernel's buffer-format.rst)."""

from collections.abc import Mapping
from typing import Final

_FOLDER: Final = 0o040755
_FILE: Final = 0o100000
_END: Final = "TRAILER!!!"


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Pack files (path -> permissions, content), with their folders, always to the same bytes."""
    members: dict[str, tuple[int, bytes]] = {}
    for path, (permissions, content) in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            members.setdefault("/".join(parts[:depth]), (_FOLDER, b""))
        members[path] = (_FILE | permissions, content)
    packed = [_member(n, path, *what) for n, (path, what) in enumerate(members.items(), 1)]
    return b"".join([*packed, _member(0, _END, 0, b"")])


def _member(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if mode == _FOLDER else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
