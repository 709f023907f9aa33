"""The operator's own checks as files: which there are, and which must not be run."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot.core.operatorchecks import Level, shown
from trialboot.errors import HostError
from trialboot.host import Host

FOLDER: Final = "/etc/trialboot/checks.d"
_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One file in a folder of checks."""

    name: str
    """Its folder and file, fit to be printed."""
    level: Level
    path: Path
    refusal: str = ""
    """Why it must not be run; empty where it may."""


def read_programs(host: Host, *, owner: int = 0) -> tuple[Program, ...]:
    """List the checks, the required ones first, each level by name; `.hidden` files are none.

    `owner` is the user that they and their folders must belong to. Raises `HostError`.
    """
    return tuple(program for level in Level for program in _level(host, level, owner))


def _level(host: Host, level: Level, owner: int) -> Iterator[Program]:
    folder = host.path(f"{FOLDER}/{level}.d")
    try:
        paths = sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
        refusal = _foreign(folder.stat(), owner) if paths else ""
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"{FOLDER}/{level}.d: {error.strerror}") from error
    for path in paths:
        if path.name.startswith("."):
            continue
        name = shown(os.fsencode(path.name)).replace("\n", "?")
        yield Program(
            name=f"{level}.d/{name}",
            level=level,
            path=path,
            refusal=f"its folder {refusal}" if refusal else _refusal(path, owner),
        )


def _refusal(path: Path, owner: int) -> str:
    try:
        found = path.stat()
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    foreign = _foreign(found, owner)
    if foreign:
        return f"it {foreign}"
    return "" if found.st_mode & stat.S_IXUSR else "it is not executable"


def _foreign(found: os.stat_result, owner: int) -> str:
    """Tell in words whether somebody else could put a program of theirs there."""
    if found.st_uid != owner:
        return f"belongs to user {found.st_uid}, not to root"
    return "can be written by others than root" if found.st_mode & _BY_OTHERS else ""
