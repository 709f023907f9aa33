"""What files hold, remembered between processes: only speed is lost without it."""

import json
from typing import Final

from trialboot.content import Cache
from trialboot.errors import StoreError
from trialboot.host import Host, write_durably

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
    """Remember what was hashed. Raises `StoreError`."""
    target = host.path(_CACHE)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, json.dumps(dict(cache)).encode())
    except OSError as error:
        raise StoreError(f"{_CACHE}: {error.strerror}") from error
