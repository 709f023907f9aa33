"""systemd-boot's menu: its entries, and which of them loader.conf and EFI variables lead to.

As src/boot/boot.c of https://github.com/systemd/systemd does it. Unified kernel images (type 2)
are named and not read: where one of them may be the answer, the answer is in doubt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from trialboot.core.bls import (
    BootEntry,
    EntryFile,
    in_order,
    is_bad,
    keys_of,
    parse_entry,
    without_tries,
)
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import SYSTEMD_BOOT, Menu, MenuEntry

LOADER_VENDOR: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""The vendor GUID of the EFI variables (https://systemd.io/BOOT_LOADER_INTERFACE/)."""
VARIABLE_LIMIT: Final = 8192
"""Bytes of an EFI variable that are read at most."""

_SAVED: Final = "@saved"
_ARCHITECTURES: Final = frozenset({"", "x64"})
"""EFI's name of the one architecture whose kernels are understood."""
_AUTOMATIC: Final = "auto-"
"""Ids of what systemd-boot finds by itself: Windows, a shell, the firmware's settings."""
_ATTRIBUTES: Final = 4

_Ranges = tuple[tuple[str, str], ...]
"""One character of a pattern: the lowest and the highest that each of its ranges takes."""
_ANY: Final[_Ranges] = (("\0", "\U0010ffff"),)
_TOKEN: Final = re.compile(
    r"\\(?P<escaped>.)|(?P<any>\?)|(?P<star>\*)|\[(?P<set>\]?(?:\\.|[^\]\\])*)\]|(?P<plain>[^\\\[])",
    re.DOTALL,
)
_RANGE: Final = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What chooses among the entries: ids or patterns; empty where it is not set."""

    file: str = ""
    """`default` of loader.conf."""
    default: str = ""
    """LoaderEntryDefault."""
    once: str = ""
    """LoaderEntryOneShot."""
    last: str = ""
    """LoaderEntryLastBooted: what `@saved` stands for."""
    booted: str = ""
    """LoaderEntrySelected: the entry of this boot."""


def parse_variable(raw: bytes) -> str | Unknown:
    """Read an EFI variable that holds a string, as efivarfs shows it.

    Four bytes of attributes, then UTF-16LE up to the first NUL
    (Documentation/filesystems/efivarfs.rst).
    """
    if len(raw) < _ATTRIBUTES or len(raw) > VARIABLE_LIMIT:
        return Unknown("it has no size that such a variable has")
    try:
        return raw[_ATTRIBUTES:].decode("utf-16-le").partition("\0")[0]
    except UnicodeDecodeError:
        return Unknown("it is no UTF-16")


def parse_default(text: str) -> str:
    """Give the `default` of a loader.conf; the last one counts, an unknown `@name` does not."""
    found = [value for key, value in keys_of(text) if key == "default"]
    known = [v for v in found if not v.startswith("@") or v.lower() == _SAVED]
    return known[-1] if known else ""


def image_of(file: EntryFile) -> str:
    """Give the file that an entry starts, as a path of the host; empty where that is not known.

    systemd-boot shows none whose image is missing: the caller leaves such files out.
    """
    entry = parse_entry(file)
    if not isinstance(entry, BootEntry) or entry.kind == "uki-url":
        return ""
    return _on_host(entry, entry.image)


def menu_of(files: Sequence[EntryFile], images: Sequence[str], choices: Choices) -> Menu:
    """Make the menu from the files of `loader/entries` and the names below `EFI/Linux`.

    What was not read may sort anywhere. It stands first: whatever it might be chosen for is then
    in doubt, and what names another entry is not.
    """
    parsed = [(file.name, parse_entry(file)) for file in files if _is_shown(file.name, ".conf")]
    placed = in_order([entry for _, entry in parsed if isinstance(entry, BootEntry)])
    unread = [_unread(name, entry.why) for name, entry in parsed if isinstance(entry, Unknown)]
    doubt = "unified kernel images are not read yet, nor is their place in the menu"
    unread += [_unread(name, doubt) for name in images if _is_shown(name, ".efi")]
    entries = [
        *(entry for entry in unread if not is_bad(entry.entry)),
        *(_menu_entry(entry) for entry in placed if entry.architecture.lower() in _ARCHITECTURES),
        *(entry for entry in unread if is_bad(entry.entry)),
        *_automatic(choices),
    ]
    return _chosen([replace(entry, place=(n,)) for n, entry in enumerate(entries)], choices)


def _is_shown(name: str, ending: str) -> bool:
    lower = name.lower()
    return lower.endswith(ending) and not lower.startswith((".", _AUTOMATIC))


def _unread(name: str, doubt: str) -> MenuEntry:
    return MenuEntry(entry=EntryId(name.lower()), title=name, place=(), doubt=doubt)


def _automatic(choices: Choices) -> list[MenuEntry]:
    asked = {choices.once.lower(), choices.default.lower(), choices.file.lower()}
    named = sorted(name for name in asked if name.startswith(_AUTOMATIC))
    return [_unread(name, "systemd-boot finds it by itself, or does not") for name in named]


def _menu_entry(entry: BootEntry) -> MenuEntry:
    is_linux = entry.kind == "linux"
    return MenuEntry(
        entry=EntryId(entry.name.lower()),
        title=entry.title or entry.name,
        place=(),
        kernel=_on_host(entry, entry.image) if is_linux else "",
        initrds=tuple(_on_host(entry, path) for path in entry.initrds),
        arguments=entry.options,
        doubt="" if is_linux else f"what it starts is not understood yet: {entry.image}",
    )


def _on_host(entry: BootEntry, path: str) -> str:
    return f"{entry.folder}/{path.lstrip('/')}"


def _chosen(entries: Sequence[MenuEntry], choices: Choices) -> Menu:
    """Follow the settings in the loader's order (`config_select_default_entry`)."""
    settings = [
        choices.last if s.lower() == _SAVED else s for s in (choices.default, choices.file)
    ]
    found = [_find(entries, setting) for setting in settings]
    booted = [
        entry.entry
        for entry in entries
        if without_tries(entry.entry) == without_tries(choices.booted.lower())
    ]
    return Menu(
        entries=tuple(entries),
        default_spec=found[0] or found[1],
        saved=choices.last.lower(),
        once=_find(entries, choices.once),
        loader=SYSTEMD_BOOT,
        booted="".join(booted[:1]),
    )


def _find(entries: Sequence[MenuEntry], pattern: str) -> str:
    """Give the first entry whose id fits a pattern; empty where none does."""
    segments = _segments(pattern.lower()) if pattern else None
    if segments is None:
        return ""
    return next((entry.entry for entry in entries if _fits(segments, entry.entry)), "")


def _segments(pattern: str) -> list[list[_Ranges]] | None:
    """Cut a pattern at each `*` (`efi_fnmatch`: no `!` in a set); None where it is broken."""
    segments: list[list[_Ranges]] = [[]]
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        at = token.end()
        if token["star"]:
            segments.append([])
        else:
            segments[-1].append(_ranges(token))
    return segments


def _ranges(token: re.Match[str]) -> _Ranges:
    if token["any"]:
        return _ANY
    if token["set"] is None:
        character = token["escaped"] or token["plain"]
        return ((character, character),)
    return tuple((found[1], found[2] or found[1]) for found in _RANGE.finditer(token["set"]))


def _fits(segments: list[list[_Ranges]], name: str) -> bool:
    """Match as `efi_fnmatch` does, without going back: the leftmost place is always the best."""
    first, *others = segments
    if not others:
        return len(first) == len(name) and _fits_at(first, name, 0)
    if not _fits_at(first, name, 0):
        return False
    *middle, last = others
    at = len(first)
    for segment in middle:
        places = range(at, len(name) - len(segment) + 1)
        place = next((p for p in places if _fits_at(segment, name, p)), None)
        if place is None:
            return False
        at = place + len(segment)
    end = len(name) - len(last)
    return at <= end and _fits_at(last, name, end)


def _fits_at(segment: list[_Ranges], name: str, at: int) -> bool:
    part = name[at : at + len(segment)]
    return len(part) == len(segment) and all(
        any(low <= character <= high for low, high in ranges)
        for character, ranges in zip(part, segment, strict=True)
    )
