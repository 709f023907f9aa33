"""Compiles the test objects with clang, once for each source and compiler.

``python3 -m tests.bpf.objects FOLDER`` puts them all into a folder, for a machine without clang.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_COMPILER: Final = "clang-14"
_FLAGS: Final = (
    *("-target", "bpf", "-mcpu=v1", "-O2", "-g", "-Wall", "-Wextra", "-Werror"),
    "-Wno-unused-variable",  # each object takes of the header what it needs
)

OBJECTS: Final = {
    "cilium": ("cilium.c", ()),
    "large": ("large.c", ()),
    "set_retval": ("set_retval.c", ()),
    "small_enough": ("too_large.c", ("-DSLOTS=18",)),
    "too_large": ("too_large.c", ()),
}
"""Name -> source and definitions. `cilium`, `large` and `small_enough` load on every kernel from
5.10 on, `too_large` on none, and `set_retval` on none from 7.2 on."""


def build(name: str) -> bytes:
    """Give one object, compiled now where it is not cached."""
    source, definitions = OBJECTS[name]
    words = (_COMPILER, *_FLAGS, *definitions, "-c", source)
    place = _cache() / f"bpf-{_key(words)}.o"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.{os.getpid()}")
        subprocess.run([*words, "-o", draft], cwd=_HERE, check=True)
        draft.replace(place)
    return place.read_bytes()


def _key(words: tuple[str, ...]) -> str:
    version = subprocess.run([_COMPILER, "--version"], capture_output=True, check=True).stdout
    sources = [path.read_bytes() for path in sorted(_HERE.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join((" ".join(words).encode(), version, *sources))).hexdigest()[
        :16
    ]


def _cache() -> Path:
    """Where compiled objects are kept, outside the repository."""
    folder = os.environ.get("TRIALBOOT_CACHE") or Path.home() / ".cache" / "trialboot"
    return Path(folder).absolute()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for each in OBJECTS:
        (target / f"{each}.o").write_bytes(build(each))
