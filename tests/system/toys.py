"""Small packages in two versions each, and a repository of them, for real runs of apt and dpkg."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.vm import command
from tests.vm.image import cache

VERSIONS: Final = ("1.0", "2.0")
# Where a root finds the repository, and the name that unattended-upgrades is told to trust.
PLACE: Final = "/srv/toys"
ORIGIN: Final = "Toys"
MODULES: Final = "/usr/lib/modules/9.9.9-toy"
# Files that decide what the scripts of a toy do, made and removed by a test.
FAIL: Final = "/var/lib/toy-fails"
WAKE: Final = "/var/lib/toy-wakes"
ASLEEP: Final = "toy-sleeps has fallen asleep"
_LOAD = 12


@dataclass(frozen=True)
class Toy:
    """One package: what it needs, its files by path, its scripts by name; VERSION is replaced."""

    name: str
    depends: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)


def toys() -> tuple[Toy, ...]:
    """List all packages. Each is there in both versions."""
    sleep = f"echo '{ASLEEP}'; while [ ! -e {WAKE} ]; do sleep 0.1; done"
    # Only the newer version kills: there has to be something to upgrade from.
    kill = 'if [ VERSION = 2.0 ] && [ ! -e /var/lib/toy-spares ]; then kill -9 "$PPID"; fi'
    return (
        Toy("toy-a", files={"usr/share/toy-a/version": "VERSION"}),
        Toy("toy-b", depends="toy-a (= VERSION)", files={"usr/share/toy-b/version": "VERSION"}),
        Toy("toy-firmware-usr", files={"usr/lib/firmware/toy/usr.bin": "VERSION"}),
        Toy("toy-firmware-lib", files={"lib/firmware/toy/lib.bin": "VERSION"}),
        Toy("toy-module", files={f"{MODULES[1:]}/kernel/toy.ko": "VERSION"}),
        Toy("toy-fails", scripts={"postinst": f"[ ! -e {FAIL} ] || exit 1"}),
        Toy("toy-kills", scripts={"postinst": kill}),
        Toy("toy-sleeps", scripts={"postinst": sleep}),
        *(Toy(f"toy-load-{number}") for number in range(_LOAD)),
        Toy("toy-load", depends=", ".join(f"toy-load-{number}" for number in range(_LOAD))),
    )


def repository() -> Path:
    """Return a folder with all packages and their index, built where the cache has none."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = cache() / f"toys-{key}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "toys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in cache().glob("*toys-*"):
                shutil.rmtree(old)
            draft = folder.with_name(f"draft-{folder.name}")
            _build(draft)
            draft.rename(folder)
    return folder


def lay(place: Path) -> None:
    """Put the repository into a root and make it the only one that its apt knows."""
    shutil.copytree(repository(), place / PLACE[1:])
    sources = place / "etc/apt/sources.list.d/toys.list"
    sources.write_text(f"deb [trusted=yes] file:{PLACE} ./\n")


def file_name(name: str, version: str) -> str:
    """Give the path of a package's file, as a root sees it."""
    return f"{PLACE}/{name}_{version}_all.deb"


def _build(folder: Path) -> None:
    folder.mkdir()
    trees = folder / "trees"
    for toy in toys():
        for version in VERSIONS:
            tree = trees / f"{toy.name}-{version}"
            _write(toy, version, tree)
            _pack(tree, folder)
    shutil.rmtree(trees)
    index = "\n".join(_index(folder))
    (folder / "Packages").write_text(index)
    (folder / "Release").write_text(_release(index.encode()))


def _write(toy: Toy, version: str, tree: Path) -> None:
    for path, text in toy.files.items():
        file = tree / path
        file.parent.mkdir(parents=True)
        file.write_text(text.replace("VERSION", version) + "\n")
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(_control(toy, version))
    for name, text in toy.scripts.items():
        script = control / name
        script.write_text(f"#!/bin/sh\nset -e\n{text}\n".replace("VERSION", version))
        script.chmod(0o755)


def _control(toy: Toy, version: str) -> str:
    fields = {
        "Package": toy.name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "trialboot tests <nobody@invalid>",
        "Depends": toy.depends.replace("VERSION", version),
        "Description": "a toy",
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def _pack(tree: Path, folder: Path) -> None:
    command.output("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, folder)


def _index(folder: Path) -> Iterator[str]:
    for deb in sorted(folder.glob("*.deb")):
        control = command.output("dpkg-deb", "--field", deb)
        content = deb.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield f"{control}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {digest}\n"


def _release(index: bytes) -> str:
    digest = hashlib.sha256(index).hexdigest()
    return (
        f"Origin: {ORIGIN}\nLabel: {ORIGIN}\nSuite: stable\nCodename: toys\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\nArchitectures: all amd64\n"
        f"SHA256:\n {digest} {len(index)} Packages\n"
    )
