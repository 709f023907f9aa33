"""What a kept boot set says of itself: the file that is written last and read first."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from trialboot.core.bootset import BootSet
from trialboot.host import write_durably

NAME: Final = "manifest.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A boot set and its parts; a part that it lacks is empty."""

    boot_set: BootSet
    initrds: tuple[str, ...]
    """SHA-256 of each of its own initrds, in the order of loading."""
    second: str
    """SHA-256 of the initrd that binds the kept trees."""
    firmware: bool
    """Its firmware tree is kept."""
    modules: str
    """The release whose module tree is kept; empty where none is, as before modules were kept."""


def read(folder: Path) -> Manifest:
    """Read the manifest of a kept boot set. Raises `OSError`; `ValueError` where it is none."""
    text = (folder / NAME).read_text(encoding="utf-8")
    try:
        return _understood(json.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is incomplete: {error}") from error


def write(folder: Path, manifest: Manifest, kept_at: datetime) -> None:
    """Write it durably. Raises `OSError`."""
    values = {
        "format": _FORMAT,
        "boot_set": asdict(manifest.boot_set),
        "initrds": manifest.initrds,
        "second_initrd": manifest.second,
        "firmware": manifest.firmware,
        "modules": manifest.modules,
        "kept_at": kept_at.isoformat(timespec="seconds"),
    }
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    write_durably(folder / NAME, text.encode(), mode=0o644)


def _understood(values: Any) -> Manifest:
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"not a manifest of format {_FORMAT}")
    boot_set = BootSet(**values["boot_set"])
    second = values["second_initrd"]
    # Older ones have one initrd at most, and do not name it; the second is for firmware alone.
    only = [boot_set.initrd] if boot_set.initrd else []
    return Manifest(
        boot_set=boot_set,
        initrds=tuple(values.get("initrds", only)),
        second=second,
        firmware=bool(values.get("firmware", second)),
        modules=values.get("modules", ""),
    )
