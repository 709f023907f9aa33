"""Finds the compiled programs of this node's CNI: on the host, or inside its agent's image.

What an agent's file system holds is foreign input: each folder is opened below the one before,
no symbolic link is followed, and sizes and numbers have an end.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from trialboot.core.cni import PROFILES, Profile
from trialboot.host import Host

LARGEST: Final = 16 << 20
MOST_BYTES: Final = 64 << 20
MOST_FILES: Final = 128
_MOST_NAMES: Final = 10_000  # of one folder
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SYS_ADMIN: Final = 1 << 21  # CAP_SYS_ADMIN in CapEff
_WILD: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Found:
    """One compiled object, whole."""

    name: str
    content: bytes
    shipped: bool
    """From an agent's image, not compiled on this node."""


@dataclass(frozen=True, slots=True)
class _Place:
    """One file that may be an object, open."""

    name: str
    descriptor: int
    shipped: bool


def read_objects(host: Host) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """Give the objects that are there, and what was left out of them: a sentence each."""
    found: list[Found] = []
    left_out: list[str] = []
    room, over = MOST_BYTES, 0
    for place in _places(host, left_out):
        try:
            size = _size(place, left_out)
            if size is None:
                continue
            if len(found) == MOST_FILES or size > room:
                over += 1
                continue
            content = _read(place.descriptor, size)
        finally:
            os.close(place.descriptor)
        room -= len(content)
        found.append(Found(place.name, content, place.shipped))
    if over:
        left_out.append(f"{over} more: {MOST_FILES} files and {MOST_BYTES >> 20} MiB are kept")
    return tuple(found), tuple(left_out)


def _size(place: _Place, left_out: list[str]) -> int | None:
    """Give a file's size in bytes; None for what is no file, or larger than any object."""
    status = os.fstat(place.descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size > LARGEST:
        left_out.append(f"{place.name}: it is larger than {LARGEST >> 20} MiB")
        return None
    return status.st_size


def _read(descriptor: int, size: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(size)


def _places(host: Host, left_out: list[str]) -> Iterator[_Place]:
    for profile in PROFILES:
        for pattern in profile.host_objects:
            base, rest = _base(host, pattern)
            yield from _below(base, rest, (pattern, False), left_out)
        if profile.agent_objects:
            yield from _of_agent(host, profile, left_out)


def _of_agent(host: Host, profile: Profile, left_out: list[str]) -> Iterator[_Place]:
    root = _agent_root(host, profile.agents)
    if root is None:
        return
    for pattern in profile.agent_objects:
        told = f"{profile.agents[0]}:{pattern}"
        yield from _below(root, pattern.strip("/"), (told, True), left_out)


def _base(host: Host, pattern: str) -> tuple[Path, str]:
    """Split a pattern into its real folder and the rest: /var/run is a link on every host."""
    parts = pattern.strip("/").split("/")
    wild = next(number for number, part in enumerate(parts) if _WILD & set(part))
    folder = host.path("/".join(parts[:wild]))
    return Path(os.path.realpath(folder)), "/".join(parts[wild:])


def _agent_root(host: Host, names: tuple[str, ...]) -> Path | None:
    """Give the root folder of the first process of that name that could load programs itself.

    Any pod may call a process so; one with CAP_SYS_ADMIN needs nothing from us.
    """
    for process in sorted(host.path("/proc").glob("[0-9]*")):
        with suppress(OSError):
            name = (process / "comm").read_text(errors="replace").strip()
            if name in names and _may_load((process / "status").read_text(errors="replace")):
                return process / "root"
    return None


def _may_load(status: str) -> bool:
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key == "CapEff":
            return bool(int(value.strip(), 16) & _SYS_ADMIN)
    return False


def _below(
    base: Path, pattern: str, origin: tuple[str, bool], left_out: list[str]
) -> Iterator[_Place]:
    told, shipped = origin
    prefix = told.removesuffix(pattern)
    try:
        with _opened(str(base), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, None) as folder:
            for name, descriptor in _matching(folder, pattern.split("/"), ""):
                shown = os.fsencode(name).decode(errors="replace")
                yield _Place(f"{prefix}{shown}", descriptor, shipped)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        left_out.append(f"{told}: {error.strerror}")


def _matching(folder: int, parts: list[str], above: str) -> Iterator[tuple[str, int]]:
    """Open what matches, the plainer objects first: those with a debug log are seldom in use."""
    part, *rest = parts
    for name in sorted(_names(folder, part), key=lambda name: ("debug" in name, name)):
        with suppress(OSError):  # gone meanwhile, or a link
            if not rest:
                yield f"{above}{name}", os.open(name, _FILE, dir_fd=folder)
                continue
            with _opened(name, _FOLDER, folder) as below:
                yield from _matching(below, rest, f"{above}{name}/")


def _names(folder: int, part: str) -> list[str]:
    if not _WILD & set(part):
        return [part]
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) == _MOST_NAMES:
                break
            if fnmatchcase(entry.name, part):
                names.append(entry.name)
    return names


@contextmanager
def _opened(name: str, flags: int, folder: int | None) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
