"""What files hold, by SHA-256: the one way in which readers and the vault name a tree.

Also trees of hard links: a link is a change of the file's ctime, so who links and unlinks has to
move what is known of a file along.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Final

from trialboot.core.facts import Tree

Cache = MutableMapping[str, str]
"""`device:inode:size:ctime in ns` -> SHA-256. Plain text, so that a caller may keep it as JSON."""

_PIECE: Final = 1 << 20
_KINDS: Final = ("", "module:", "index:")
"""What a cache knows by a file's key: its hash, what a module says, that an index is whole."""
_CONTENT_KINDS: Final = frozenset({stat.S_IFREG, stat.S_IFLNK})
_MODULE_ENDINGS: Final = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def is_module(path: str) -> bool:
    """Tell module files from what depmod(8) makes of them: they alone are a module tree."""
    return path.endswith(_MODULE_ENDINGS)


def file_sha256(path: Path) -> str:
    """Hash a file's bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def cached_sha256(path: Path, cache: Cache) -> str:
    """Do so, but where the cache knows the file as it is now. Raises `OSError`."""
    key = _key(path.stat())
    if key not in cache:
        cache[key] = file_sha256(path)
    return cache[key]


def part_sha256(path: Path, offset: int, size: int) -> str:
    """Hash so many bytes of a file from there on. Raises `OSError`, also where it has fewer."""
    digest = hashlib.sha256()
    for piece in _pieces(path, offset, size):
        digest.update(piece)
    return digest.hexdigest()


def copy_part(path: Path, offset: int, size: int, target: Path) -> None:
    """Write so many bytes of a file into one of their own. Raises `OSError`."""
    with target.open("wb") as file:
        for piece in _pieces(path, offset, size):
            file.write(piece)


def _pieces(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        left = size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise OSError(errno.EIO, "it ends too early", str(path))
            left -= len(piece)
            yield piece


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
    newest = root.stat().st_ctime
    folders = [("", os.fspath(root))]
    while folders:
        above, folder = folders.pop()
        for own_name, status in _statuses(folder):
            name, kind = f"{above}{own_name}", stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                folders.append((f"{name}/", f"{folder}/{own_name}"))
            elif kind not in _CONTENT_KINDS or not (wanted is None or wanted(name)):
                continue
            else:
                content = known.get(_key(status))
                files.append((name, content or _read(f"{folder}/{own_name}", status, known)))
            newest = max(newest, status.st_ctime)
    return Tree(files=tuple(sorted(files)), newest_change=int(newest))


def paths_of(root: Path) -> tuple[str, ...]:
    """Name the files and links of a tree, relative to it, sorted. Raises `OSError`."""
    return tuple(
        sorted(
            name
            for name, entry in _walk(root)
            if entry.is_file(follow_symlinks=False) or entry.is_symlink()
        )
    )


def link_tree(source: Path, target: Path, cache: Cache | None = None) -> list[tuple[Path, Path]]:
    """Make a folder a tree of hard links to the files of another: links as links, modes as found.

    What the cache knows of a file it knows of the link as well, where nothing wrote to the file
    meanwhile. Gives the pairs of files that the file system refused to link. Raises `OSError`.
    """
    # Thousands of files: words, for Path objects double the cost.
    known: Cache = {} if cache is None else cache
    refused: list[tuple[Path, Path]] = []
    folders = [(os.fspath(source), os.fspath(target))]
    while folders:
        here, there = folders.pop()
        _same_folder(here, there)
        with os.scandir(here) as entries:
            for entry in entries:
                place = f"{there}/{entry.name}"
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append((entry.path, place))
                elif stat.S_ISLNK(status.st_mode):
                    Path(place).symlink_to(Path(entry.path).readlink())
                elif stat.S_ISREG(status.st_mode) and not _linked(
                    entry.path, place, status, known
                ):
                    refused.append((Path(entry.path), Path(place)))
    return refused


def link_file(source: Path, target: Path, cache: Cache) -> bool:
    """Hard-link one file as `link_tree` does; False where the file system refuses."""
    return _linked(os.fspath(source), os.fspath(target), source.lstat(), cache)


def remove_tree(root: Path, cache: Cache) -> None:
    """Remove a tree; what is known of files that have another name stays known. Raises `OSError`.

    An unlink changes the ctime of what is left of a file.
    """
    for name, entry in _walk(root):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            path = root / name
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                path.unlink()
                _renew(cache, status, os.fstat(descriptor))
            finally:
                os.close(descriptor)
    shutil.rmtree(root)


def _same_folder(here: str, there: str) -> None:
    with_mode = Path(there)
    with_mode.mkdir(parents=True, exist_ok=True)
    with_mode.chmod(stat.S_IMODE(Path(here).stat().st_mode))


def _linked(source: str, target: str, before: os.stat_result, cache: Cache) -> bool:
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        return False
    _renew(cache, before, os.lstat(target))
    return True


def _renew(cache: Cache, before: os.stat_result, after: os.stat_result) -> None:
    """Keep what is known of a file whose ctime we moved ourselves, if all else is as it was."""
    for kind in _KINDS:
        known = cache.pop(f"{kind}{_key(before)}", None)
        if known is not None and _bytes_of(before) == _bytes_of(after):
            cache[f"{kind}{_key(after)}"] = known


def _bytes_of(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _key(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"


def _statuses(folder: str) -> list[tuple[str, os.stat_result]]:
    """Look at all that a folder holds, itself held open: no path is walked for each name.

    Raises `OSError` that names the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from error
    finally:
        os.close(descriptor)


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Give what is in a tree by relative path, never what a link names. Raises `OSError`.

    Words, not Path objects: a tree has thousands of files. Whether one is a folder or a link its
    own folder tells: only who wants more has to look at it.
    """
    folders = [("", os.fspath(root))]
    while folders:
        above, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{above}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append((f"{name}/", entry.path))
                yield name, entry


def _read(path: str, status: os.stat_result, cache: Cache) -> str:
    if stat.S_ISLNK(status.st_mode):
        return hashlib.sha256(b"-> " + os.fsencode(Path(path).readlink())).hexdigest()
    content = cache[_key(status)] = file_sha256(Path(path))
    return content
