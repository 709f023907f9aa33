"""What files hold, remembered between processes: only speed is lost without it."""

import json
from itertools import islice
from pathlib import Path
from typing import Final

from trialboot.content import Cache
from trialboot.errors import StoreError
from trialboot.host import Host, write_durably

MOST: Final = 40_000
"""Files: two kernels with all their modules and two firmware trees have half as many."""

_CACHE: Final = "/var/lib/trialboot/content-cache.json"


def load(host: Host) -> Cache:
    """Give what was hashed before; nothing where that cannot be read."""
    try:
        found = json.loads(host.path(_CACHE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(found, dict) and {str}.issuperset(map(type, found.values()))
    return found if is_ours else {}


def save(host: Host, cache: Cache) -> None:
    """Remember what was hashed; of too much the newest. Raises `StoreError`."""
    target = host.path(_CACHE)
    newest = dict(islice(cache.items(), max(0, len(cache) - MOST), None))
    content = json.dumps(newest).encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _holds(target, content):
            write_durably(target, content)
    except OSError as error:
        raise StoreError(f"{_CACHE}: {error.strerror}") from error


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
