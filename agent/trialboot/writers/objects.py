"""Keeps copies of compiled eBPF objects, each under the name of its SHA-256."""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.errors import StoreError
from trialboot.host import Host, write_durably

FOLDER: Final = "/var/lib/trialboot/objects"


def keep(host: Host, content: bytes) -> str:
    """Keep an object, and give its SHA-256. Raises `StoreError`."""
    digest = hashlib.sha256(content).hexdigest()
    place = _folder(host) / digest
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not place.exists():
            write_durably(place, content)
    except OSError as error:
        raise StoreError(f"{FOLDER}/{digest} cannot be written: {error.strerror}") from error
    return digest


def recall(host: Host, digest: str) -> bytes | Unknown:
    """Give a kept object, checked by its hash."""
    try:
        content = (_folder(host) / digest).read_bytes()
    except OSError as error:
        return Unknown(f"its copy cannot be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != digest:
        return Unknown("its copy is damaged")
    return content


def forget_others(host: Host, digests: Collection[str]) -> None:
    """Remove every copy but these. What cannot be removed now goes the next time."""
    try:
        for place in _folder(host).iterdir():
            if place.name not in digests:
                place.unlink(missing_ok=True)
    except OSError:
        return


def _folder(host: Host) -> Path:
    return host.path(FOLDER)
