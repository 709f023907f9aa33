"""Boot entries as the Boot Loader Specification has them: files below `loader/entries` (type 1).

UAPI.1, https://uapi-group.org/specifications/specs/boot_loader_specification/; versions are
compared by UAPI.10, https://uapi-group.org/specifications/specs/version_format_specification/.
GRUB reads the same files in its own way: `core/blscfg.py`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Final

from trialboot.core.facts import Unknown

FILE_LIMIT: Final = 64 * 1024
"""Bytes of one file that are read at most: a larger one is refused, with a reason."""
COUNT_LIMIT: Final = 1000
"""Entries that are read at most."""

_PIECES: Final = re.compile(r"[~^.-]|[0-9]+|[A-Za-z]+|[^~^.0-9A-Za-z-]+")
_SKIPPED: Final = re.compile(r"[^~^.0-9A-Za-z-]")
_MARKS: Final = ("~", "", "-", "^", ".")
_COUNTERS: Final = re.compile(r"\+([0-9]{1,9})(?:-[0-9]{1,9})?(?=\.(?:conf|efi)$)", re.IGNORECASE)
_IMAGES: Final = ("linux", "efi", "uki", "uki-url")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFile:
    """One file below `loader/entries`, as it lies there."""

    name: str
    text: str | Unknown
    folder: str = "/boot"
    """Where the file system is mounted that holds it: paths in it begin there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEntry:
    """What one file says."""

    name: str
    folder: str
    """Where the file system is mounted that its paths begin in."""
    kind: str
    """Which key names what is started: `linux`, `efi`, `uki`, `uki-url`."""
    image: str
    title: str = ""
    version: str = ""
    machine_id: str = ""
    sort_key: str = ""
    architecture: str = ""
    initrds: tuple[str, ...] = ()
    options: str = ""
    """All `options`, in their order."""

    @property
    def bad(self) -> bool:
        """All its tries are used up: it sorts behind all others."""
        return is_bad(self.name)


def parse_entry(file: EntryFile) -> BootEntry | Unknown | None:
    """Read one entry; keys that are not known are skipped. None where no loader would show it."""
    if isinstance(file.text, Unknown):
        return file.text
    pairs = list(keys_of(file.text))
    images = [(key, value) for key, value in pairs if key in _IMAGES]
    if len({key for key, _ in images}) != 1:
        return None  # it names nothing to start, or things of two kinds
    last = dict(pairs)
    kind, image = images[-1]
    return BootEntry(
        name=file.name,
        folder=file.folder,
        kind=kind,
        image=image,
        title=last.get("title", ""),
        version=last.get("version", ""),
        machine_id=last.get("machine-id", ""),
        sort_key=last.get("sort-key", ""),
        architecture=last.get("architecture", ""),
        initrds=tuple(value for key, value in pairs if key == "initrd"),
        options=" ".join(value for key, value in pairs if key == "options"),
    )


def keys_of(text: str) -> Iterator[tuple[str, str]]:
    """Give key and value of each line, cut and unquoted as systemd-boot does.

    `line_get_key_value` in src/boot/efi-string.c of systemd: a line without a value is skipped.
    """
    for line in re.split(r"[\r\n]", text):
        words = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        if len(words) == 1 or words[0].startswith("#"):
            continue
        key, value = words
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        yield key, value


def is_bad(name: str) -> bool:
    """Tell an entry whose tries are used up: `NAME+LEFT-DONE.conf` with none left."""
    found = _COUNTERS.search(name)
    return found is not None and int(found[1]) == 0


def without_tries(name: str) -> str:
    """Give the file name that stays the same while its tries are counted."""
    return _COUNTERS.sub("", name)


def in_order(entries: Sequence[BootEntry]) -> tuple[BootEntry, ...]:
    """Sort as the specification's «Sorting» says, the entry that is taken by itself first."""
    return tuple(sorted(entries, key=cmp_to_key(_compare)))


def _compare(left: BootEntry, right: BootEntry) -> int:
    flags = ((left.bad, right.bad), (not left.sort_key, not right.sort_key))
    for mine, other in flags:
        if mine != other:
            return 1 if mine else -1
    return _by_key(left, right) or _by_name(left, right)


def _by_key(left: BootEntry, right: BootEntry) -> int:
    if not left.sort_key:
        return 0
    mine, other = (left.sort_key, left.machine_id), (right.sort_key, right.machine_id)
    if mine != other:
        return 1 if mine > other else -1
    return compare_versions(right.version, left.version)


def _by_name(left: BootEntry, right: BootEntry) -> int:
    """Compare the names with counters and suffix, as systemd-boot does.

    The specification drops them; where names differ in their counters alone, it sorts by those.
    """
    return compare_versions(right.name.lower(), left.name.lower())


def compare_versions(left: str, right: str) -> int:
    """Compare by UAPI.10: below, at or above 0 as left is older, the same or newer."""
    one, two = _PIECES.findall(left)[::-1], _PIECES.findall(right)[::-1]
    while True:
        order = _next_step(one, two)
        if order is not None:
            return order


def _next_step(one: list[str], two: list[str]) -> int | None:
    """Go once through the eight points of UAPI.10; None where both were the same so far."""
    for pieces in (one, two):
        if _SKIPPED.match(_head(pieces)):
            pieces.pop()
    for mark in _MARKS:
        mine, other = _head(one) == mark, _head(two) == mark
        if mine != other:
            return -1 if mine else 1
        if mine and not mark:
            return 0
        if mine:
            one.pop()
            two.pop()
    return _by_component(one, two)


def _by_component(one: list[str], two: list[str]) -> int | None:
    numbers = _head(one).isdigit() or _head(two).isdigit()
    first, second = (_number(one), _number(two)) if numbers else (_letters(one), _letters(two))
    return None if first == second else (1 if first > second else -1)


def _head(pieces: list[str]) -> str:
    return pieces[-1] if pieces else ""


def _number(pieces: list[str]) -> tuple[int, str]:
    """Take a number off, of any length. None is less than 0, as in systemd (UAPI.10: equal)."""
    if not _head(pieces).isdigit():
        return -1, ""
    digits = pieces.pop().lstrip("0")
    return len(digits), digits


def _letters(pieces: list[str]) -> tuple[int, str]:
    return 0, pieces.pop() if _head(pieces).isalpha() else ""
