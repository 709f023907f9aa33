"""What files hold, by SHA-256: the one way in which readers and the vault name a tree."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Final

from trialboot.core.facts import Tree

Cache = MutableMapping[str, str]
"""`device:inode:size:ctime in ns` -> SHA-256. Plain text, so that a caller may keep it as JSON."""

_PIECE: Final = 1 << 20


def file_sha256(path: Path) -> str:
    """Hash a file's bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def read_tree(
    root: Path,
    *,
    cache: Cache | None = None,
    wanted: Callable[[str], bool] | None = None,
) -> Tree:
    """Hash a tree: files by their bytes, links by the text of their target.

    `wanted` chooses by relative path. A file with the same inode, size and ctime as in the cache
    is not read again. Raises `OSError`: a tree that was read by half is no tree.
    """
    known: Cache = {} if cache is None else cache
    files: list[tuple[str, str]] = []
    newest = 0.0
    for path, status in _walk(root):
        name = path.relative_to(root).as_posix()
        if stat.S_ISDIR(status.st_mode):
            newest = max(newest, status.st_ctime)
        elif wanted is None or wanted(name):
            files.append((name, _content(path, status, known)))
            newest = max(newest, status.st_ctime)
    return Tree(files=tuple(sorted(files)), newest_change=int(newest))


def paths_of(root: Path) -> tuple[str, ...]:
    """Name the files and links of a tree, relative to it, sorted. Raises `OSError`."""
    found = (path for path, status in _walk(root) if not stat.S_ISDIR(status.st_mode))
    return tuple(sorted(path.relative_to(root).as_posix() for path in found))


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Give folders, files and links, never what a link names; sockets and devices are skipped."""
    yield root, root.stat()
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(Path(entry.path))
                if stat.S_IFMT(status.st_mode) in {stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK}:
                    yield Path(entry.path), status


def _content(path: Path, status: os.stat_result, cache: Cache) -> str:
    if stat.S_ISLNK(status.st_mode):
        return hashlib.sha256(b"-> " + os.fsencode(path.readlink())).hexdigest()
    key = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"
    if key not in cache:
        cache[key] = file_sha256(path)
    return cache[key]
