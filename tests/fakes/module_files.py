"""Kernel modules made by the tests: small ELF64 files, trees of them, and what sysfs shows."""

import gzip
import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

SIGNATURE: Final = b"a signature\x00\x00~Module signature appended~\n"

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")


def program(name: str) -> str:
    """Find a program, also where only root looks for it; empty if it is not installed."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def elf64(sections: Mapping[str, bytes]) -> bytes:
    """Write an ELF64 file with these sections, in this order, and the table of them at its end."""
    names = b"\0"
    body = b""
    rows = [(0,) * 10]
    for name, content in {**sections, ".shstrtab": b""}.items():
        here = len(names)
        names += name.encode() + b"\0"
        held = names if name == ".shstrtab" else content
        rows.append((here, 1, 2, 0, _HEADER.size + len(body), len(held), 0, 0, 1, 0))
        body += held
    body += b"\0" * (-len(body) % 8)
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(1, 62, 1, 0, 0, _HEADER.size + len(body), 0),
        *(_HEADER.size, 0, 0, _SECTION.size, len(rows), len(rows) - 1),
    )
    return header + body + b"".join(_SECTION.pack(*row) for row in rows)


def note(content: bytes, *, owner: bytes = b"GNU\0", kind: int = 3) -> bytes:
    """Write one ELF note."""
    head = struct.pack("<III", len(owner), len(content), kind)
    return b"".join((head, owner, b"\0" * (-len(owner) % 4), content, b"\0" * (-len(content) % 4)))


def module(
    *modinfo: str, build_id: bytes = b"", signature: bytes = b"", code: bytes = b""
) -> bytes:
    """Write a module with this `.modinfo`, and what else is asked for."""
    sections = {".text": code} if code else {}
    if build_id:
        sections[".note.gnu.build-id"] = note(build_id)
    sections[".modinfo"] = b"".join(word.encode() + b"\0" for word in modinfo)
    return elf64(sections) + signature


def _zstd(raw: bytes) -> bytes:
    argv = [program("zstd"), "-q", "-c"]
    return subprocess.run(argv, input=raw, capture_output=True, check=True).stdout


PACK: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".ko": bytes,
    ".ko.xz": lambda raw: lzma.compress(
        raw,
        check=lzma.CHECK_CRC32,
        filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}],
    ),
    ".ko.gz": gzip.compress,
    ".ko.zst": _zstd,
}
"""Ending -> how the kernel's build packs a module (scripts/Makefile.modinst)."""

NEEDS: Final = {".ko.zst": "zstd"}
"""Ending -> the program without which a test cannot write it."""


def missing(ending: str) -> str:
    """Tell why files of this ending cannot be made here; empty if they can."""
    name = NEEDS.get(ending, "")
    return f"{name} is not installed" if name and not program(name) else ""


def install(root: Path, release: str, files: Mapping[str, bytes], builtin: str = "") -> Path:
    """Write a kernel's tree as its package has it, with a `modules.dep` without dependencies."""
    tree = root / "lib/modules" / release
    for path, content in files.items():
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "modules.dep").write_text("".join(f"{path}:\n" for path in files))
    (tree / "modules.builtin").write_text(builtin)
    return tree


def depmod(root: Path, release: str) -> None:
    """Let kmod make the indexes of a tree, as the kernel's package does."""
    (root / "lib/modules" / release / "modules.order").touch()
    argv = [program("depmod"), "-b", str(root), release]
    subprocess.run(argv, capture_output=True, check=True)


def load(root: Path, name: str, references: int = 0, **shown: bytes) -> None:
    """Let the running kernel show one more module."""
    listed = root / "proc/modules"
    listed.parent.mkdir(parents=True, exist_ok=True)
    with listed.open("a") as file:
        file.write(f"{name} 16384 {references} - Live 0xffffffffc0000000\n")
    folder = root / "sys/module" / name
    (folder / "notes").mkdir(parents=True)
    for attribute, content in shown.items():
        where = "notes/.note.gnu.build-id" if attribute == "build_id" else attribute
        (folder / where).write_bytes(content)
