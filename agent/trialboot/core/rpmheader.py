"""Headers of rpm packages: name, version and architecture, as rpm's database stores them.

The form is that of rpm's lib/header.c and of its manual, «RPM V4 Package format»: two counts, an
index of (tag, type, offset, count), then the store that the offsets point into; big-endian.
"""

import struct
from collections.abc import Mapping
from typing import Final

from trialboot.core.facts import Package, Unknown

_COUNTS: Final = struct.Struct(">II")
_ENTRY: Final = struct.Struct(">IIII")
_NUMBER: Final = struct.Struct(">I")

_NAME: Final = 1000
_VERSION: Final = 1001
_RELEASE: Final = 1002
_EPOCH: Final = 1003
_ARCHITECTURE: Final = 1022
_WANTED: Final = frozenset({_NAME, _VERSION, _RELEASE, _EPOCH, _ARCHITECTURE})

_INT32: Final = 4
_STRING: Final = 6

_MOST_ENTRIES: Final = 65_535
"""rpm's own limit (header.c, HEADER_TAGS_MAX)."""
_LONGEST: Final = 1024
"""Bytes of a name, version, release or architecture; the longest known names have about 100."""


def parse_header(raw: bytes) -> Package | Unknown:
    """Read who a package is. The version is `[EPOCH:]VERSION-RELEASE`, without epoch if it is 0.

    A package without an architecture is none that rpm would install: only `gpg-pubkey`, a key that
    rpm keeps among its packages, has none.
    """
    tags = _wanted_tags(raw)
    if isinstance(tags, Unknown):
        return tags
    name, version, release = tags.get(_NAME, ""), tags.get(_VERSION, ""), tags.get(_RELEASE, "")
    if not (name and version and release):
        return Unknown("an rpm header has no name, version or release")
    epoch = tags.get(_EPOCH, "0")
    return Package(
        name=name,
        architecture=tags.get(_ARCHITECTURE, ""),
        version=f"{version}-{release}" if epoch == "0" else f"{epoch}:{version}-{release}",
    )


def _wanted_tags(raw: bytes) -> Mapping[int, str] | Unknown:
    if len(raw) < _COUNTS.size:
        return Unknown("an rpm header is cut off")
    entries, length = _COUNTS.unpack_from(raw)
    start = _COUNTS.size + entries * _ENTRY.size
    if entries > _MOST_ENTRIES or len(raw) < start + length:
        return Unknown("an rpm header is cut off, or is none")
    store = memoryview(raw)[start : start + length]
    found: dict[int, str] = {}
    for tag, kind, offset, count in _ENTRY.iter_unpack(raw[_COUNTS.size : start]):
        if tag in _WANTED:
            value = _value(store, kind, offset, count)
            if value is None:
                return Unknown(f"an rpm header's tag {tag} cannot be read")
            found[tag] = value
    return found


def _value(store: memoryview, kind: int, offset: int, count: int) -> str | None:
    """Give the one number or string of an entry, or nothing where it is neither."""
    if count != 1:
        return None
    if kind == _INT32:
        field = store[offset : offset + _NUMBER.size]
        return str(_NUMBER.unpack(field)[0]) if len(field) == _NUMBER.size else None
    text, end, _ = bytes(store[offset : offset + _LONGEST]).partition(b"\0")
    if kind != _STRING or not end:
        return None
    return text.decode(errors="replace")
