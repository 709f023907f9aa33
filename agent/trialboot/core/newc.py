"""The cpio archives that a kernel unpacks as an initrd (the kernel's buffer-format.rst)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Unknown

HEADER: Final = 110
"""Bytes before a member's name."""
NAME_LIMIT: Final = 4096
"""PATH_MAX, to which the kernel holds names (init/initramfs.c)."""

_MAGICS: Final = (b"070701", b"070702")
_FIELDS: Final = re.compile(rb"[0-9A-Fa-f]{104}")
_FOLDER: Final = 0o040755
_FILE: Final = 0o100000
_END: Final = "TRAILER!!!"
_LENT: Final = "usr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where one member of an archive lies: offsets in bytes from where the initrd begins."""

    name_at: int
    name_size: int
    """With its NUL."""
    content_at: int
    size: int

    @property
    def next_at(self) -> int:
        """Where the next member begins, if there is one."""
        return _aligned(self.content_at + self.size)


def member_at(header: bytes, at: int) -> Member | Unknown | None:
    """Read a member's header, which lies at an offset; None where no archive goes on there."""
    if header[:6] not in _MAGICS:
        return None
    if not _FIELDS.fullmatch(header, 6):
        return Unknown(f"the archive is damaged at byte {at}")
    size, name_size = int(header[54:62], 16), int(header[94:102], 16)
    if not 0 < name_size <= NAME_LIMIT:
        return Unknown(f"the archive is damaged at byte {at}: a name of {name_size} bytes")
    name_at = at + HEADER
    return Member(
        name_at=name_at,
        name_size=name_size,
        content_at=_aligned(name_at + name_size),
        size=size,
    )


def name_of(raw: bytes) -> str:
    """Give a member's name, of its bytes with the NUL."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Pack files (path -> permissions, content), with their folders, always to the same bytes.

    Below usr/ no folder is packed: they are those of the initrd before it, and dracut has links
    among them, which the kernel would replace by the folder (init/initramfs.c, clean_path). A
    file whose folder is not there it leaves out.
    """
    members: dict[str, tuple[int, bytes]] = {}
    for path, (permissions, content) in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts) if parts[0] != _LENT else 1):
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


def _aligned(offset: int) -> int:
    return offset + -offset % 4


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
