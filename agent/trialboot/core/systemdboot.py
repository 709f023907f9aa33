"""systemd-boot's menu: its entries, and which of them loader.conf and EFI variables lead to.

As src/boot/boot.c of https://github.com/systemd/systemd does it. A unified kernel image (type 2)
that is not understood is named: where it may be the answer, the answer is in doubt.
"""

import json
import re
from collections import Counter
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
from trialboot.core.bootset import word_of
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import BOOT_WORD, KNOWN_GOOD, SYSTEMD_BOOT, Menu, MenuEntry
from trialboot.core.uki import ImageFile, UnifiedImage

LOADER_VENDOR: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""The vendor GUID of the EFI variables (https://systemd.io/BOOT_LOADER_INTERFACE/)."""
VARIABLE_LIMIT: Final = 8192
"""Bytes of an EFI variable that are read at most."""
OURS: Final = f"{KNOWN_GOOD}.conf"
"""The file of the known-good entry, which is its id to the loader."""
ENTRY_DEFAULT: Final = 1 << 2
ENTRY_ONE_SHOT: Final = 1 << 3
"""Bits of LoaderFeatures: the loader heeds LoaderEntryDefault, and LoaderEntryOneShot."""

_SAVED: Final = "@saved"
_ARCHITECTURES: Final = frozenset({"", "x64"})
"""EFI's name of the one architecture whose kernels are understood."""
_AUTOMATIC: Final = "auto-"
"""Ids of what systemd-boot finds by itself: Windows, a shell, the firmware's settings."""
_ATTRIBUTES: Final = 4
_FEATURES: Final = 12
"""Bytes: attributes and a 64-bit number."""

_Ranges = tuple[tuple[str, str], ...]
"""One character of a pattern: the lowest and the highest that each of its ranges takes."""
_ANY: Final[_Ranges] = (("\0", "\U0010ffff"),)
_TOKEN: Final = re.compile(
    r"\\(?P<escaped>.)|(?P<any>\?)|(?P<star>\*)|\[(?P<set>\]?(?:\\.|[^\]\\])*)\]|(?P<plain>[^\\\[])",
    re.DOTALL,
)
_RANGE: Final = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host had set before our default: what `remove` gives back. Empty: not set."""

    default: str = ""
    """LoaderEntryDefault."""
    last: str = ""
    """LoaderEntryLastBooted: the loader deletes it while a default is set."""


NOTHING_BEFORE: Final = Before()


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
    before: Before = NOTHING_BEFORE
    """What counts in the place of `default` and `last` while the default is ours."""


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


def format_text(value: str) -> bytes:
    """Write what such a variable holds behind its attributes. Raises `UnicodeEncodeError`."""
    return value.encode("utf-16-le") + b"\0\0"


def parse_features(raw: bytes) -> int | Unknown:
    """Read LoaderFeatures: a 64-bit number behind the attributes."""
    if len(raw) != _FEATURES:
        return Unknown("LoaderFeatures is not eight bytes long")
    return int.from_bytes(raw[_ATTRIBUTES:], "little")


def parse_before(text: str) -> Before | Unknown:
    """Read what `format_before` wrote."""
    try:
        found = json.loads(text)
        return Before(default=str(found["default"]), last=str(found["last"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Unknown("it is not what trialboot wrote")


def format_before(before: Before) -> str:
    """Write what the host had set before us."""
    return json.dumps({"default": before.default, "last": before.last}) + "\n"


def known_good_file(release: str, kernel: str, initrds: Sequence[str], options: str) -> str:
    """Write our entry. Its key sorts first: it boots where all variables of the firmware are lost.

    Files are named as the boot partition names them. Raises `ValueError` where a line would not be
    read back as it was written.
    """
    lines = [
        ("title", f"trialboot: known-good {release} (kept)"),
        ("version", release),
        ("sort-key", "00-trialboot"),
        ("linux", kernel),
        *(("initrd", initrd) for initrd in initrds),
        ("options", options),
    ]
    text = "# Written by trialboot; it is written again when it is changed.\n"
    text += "".join(f"{key} {value}\n" for key, value in lines)
    if list(keys_of(text)) != lines:
        raise ValueError(f"no boot entry can say: {options}")
    return text


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


def menu_of(files: Sequence[EntryFile], images: Sequence[ImageFile], choices: Choices) -> Menu:
    """Make the menu from the files of `loader/entries` and those of `EFI/Linux`.

    What was not read may sort anywhere. It stands first: whatever it might be chosen for is then
    in doubt, and what names another entry is not.
    """
    parsed = [(file.name, parse_entry(file)) for file in files if _is_shown(file.name, ".conf")]
    shown = [image for image in images if _is_shown(image.name, ".efi")]
    made = {(i.folder, i.name): i.image for i in shown if isinstance(i.image, UnifiedImage)}
    placed = in_order(
        [
            *(entry for _, entry in parsed if isinstance(entry, BootEntry)),
            *(_as_entry(folder, name, image) for (folder, name), image in made.items()),
        ]
    )
    unread = [_unread(name, entry.why) for name, entry in parsed if isinstance(entry, Unknown)]
    doubt = "this unified kernel image is not understood: {}"
    odd = [(i.name, i.image.why) for i in shown if isinstance(i.image, Unknown)]
    unread += [_unread(name, doubt.format(why)) for name, why in odd]
    entries = [
        *(entry for entry in unread if not is_bad(entry.name)),
        *(
            _menu_entry(entry, made.get((entry.folder, entry.name)))
            for entry in placed
            if entry.architecture.lower() in _ARCHITECTURES
        ),
        *(entry for entry in unread if is_bad(entry.name)),
        *_automatic(choices),
    ]
    numbered = [replace(entry, place=(n,)) for n, entry in enumerate(_apart(entries))]
    return _chosen(numbered, choices)


def _apart(entries: Sequence[MenuEntry]) -> list[MenuEntry]:
    """Doubt entries that only their counters tell apart: blessing one would hit the other."""
    times = Counter(entry.entry for entry in entries)
    doubt = "two boot entries have this name but for the counter of tries: remove one"
    return [replace(e, doubt=e.doubt or doubt) if times[e.entry] > 1 else e for e in entries]


def _as_entry(folder: str, name: str, image: UnifiedImage) -> BootEntry:
    """Give what systemd-boot makes of a unified image (`boot_entry_add_type2`)."""
    return BootEntry(
        name=name,
        folder=folder,
        kind="uki",
        image=f"EFI/Linux/{name}",
        title=image.title,
        version=image.version,
        sort_key=image.sort_key,
        options=image.command_line,
    )


def _is_shown(name: str, ending: str) -> bool:
    lower = name.lower()
    return lower.endswith(ending) and not lower.startswith((".", _AUTOMATIC))


def _unread(name: str, doubt: str) -> MenuEntry:
    return MenuEntry(entry=_id_of(name), name=name.lower(), title=name, place=(), doubt=doubt)


def _id_of(name: str) -> EntryId:
    """Name an entry by its file, without what the loader counts in it."""
    lower = without_tries(name.lower())
    return KNOWN_GOOD if lower == OURS else EntryId(lower)


def _automatic(choices: Choices) -> list[MenuEntry]:
    asked = {choices.once.lower(), choices.default.lower(), choices.file.lower()}
    asked.add(choices.before.default.lower())
    named = sorted(name for name in asked if name.startswith(_AUTOMATIC))
    return [_unread(name, "systemd-boot finds it by itself, or does not") for name in named]


def _menu_entry(entry: BootEntry, image: UnifiedImage | None) -> MenuEntry:
    understood = entry.kind == "linux" or image is not None
    return MenuEntry(
        entry=_id_of(entry.name),
        name=entry.name.lower(),
        title=entry.title or entry.name,
        place=(),
        kernel=_on_host(entry, entry.image) if understood else "",
        initrds=tuple(_on_host(entry, path) for path in entry.initrds),
        arguments=entry.options,
        image=image,
        doubt="" if understood else f"what it starts is not understood yet: {entry.image}",
    )


def _on_host(entry: BootEntry, path: str) -> str:
    return f"{entry.folder}/{path.lstrip('/')}"


def _chosen(entries: Sequence[MenuEntry], choices: Choices) -> Menu:
    """Follow the settings in the loader's order (`config_select_default_entry`)."""
    booted = [entry.entry for entry in entries if entry.entry == _id_of(choices.booted)]
    return Menu(
        entries=tuple(entries),
        default_spec=_by_settings(entries, choices.default, choices.file, choices.last),
        saved=choices.last.lower(),
        once=_find(entries, choices.once),
        host_default=_host_default(entries, choices),
        known_good=_kept_in(entries),
        loader=SYSTEMD_BOOT,
        booted="".join(booted[:1]),
    )


def _by_settings(entries: Sequence[MenuEntry], default: str, file: str, last: str) -> str:
    settings = [last if s.lower() == _SAVED else s for s in (default, file)]
    return _find(entries, settings[0]) or _find(entries, settings[1])


def _host_default(entries: Sequence[MenuEntry], choices: Choices) -> str:
    """Say what the host itself would boot; empty where neither entry nor default is ours."""
    others = [entry for entry in entries if entry.entry != KNOWN_GOOD]
    is_ours = choices.default.lower() == OURS
    if len(others) == len(entries) and not is_ours:
        return ""
    before = choices.before if is_ours else Before(default=choices.default, last=choices.last)
    first = others[0].entry if others else ""
    return _by_settings(others, before.default, choices.file, before.last) or first


def _kept_in(entries: Sequence[MenuEntry]) -> str:
    words = [word_of(e.arguments, BOOT_WORD) for e in entries if e.entry == KNOWN_GOOD]
    return next((word for word in words if isinstance(word, str)), "")


def _find(entries: Sequence[MenuEntry], pattern: str) -> str:
    """Give the first entry whose file name, counters and all, fits a pattern; empty for none."""
    segments = _segments(pattern.lower()) if pattern else None
    if segments is None:
        return ""
    return next((entry.entry for entry in entries if _fits(segments, entry.name)), "")


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
