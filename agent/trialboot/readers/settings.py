"""Settings that the next boot makes from files: sysctl, modprobe, modules to load, and others.

sysctl.d(5), modprobe.d(5) and modules-load.d(5) share one rule: of files with one name the first
folder's counts, files are read in the order of their names, and one that is no regular file (a
link to /dev/null) only hides its namesakes.
"""

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trialboot.content import file_sha256, paths_of
from trialboot.core.facts import Setting, Unknown
from trialboot.errors import HostError
from trialboot.host import Host

_FOLDERS: Final = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
_LARGEST: Final = 1 << 20
"""Bytes of one file of settings."""

_WHOLE: Final = (
    *("/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/etc/network/interfaces"),
    *("/etc/network/interfaces.d", "/etc/netplan", "/etc/systemd/network", "/etc/cni/net.d"),
    *("/etc/modprobe.d", "/etc/initramfs-tools", "/etc/dracut.conf.d"),
)
"""Files that are held by what they contain, and folders of such files."""

_REFUSALS: Final = frozenset({"false", "true"})
_SWAPPED: Final = str.maketrans("./", "/.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModprobeRule:
    """One line of modprobe.d about one module, whose name has `_` for `-`."""

    command: str
    """`blacklist`, `options` or `install`."""
    module: str
    value: str


def read_settings(host: Host) -> tuple[Setting, ...] | Unknown:
    """Read what the files of this host will set at the next boot, sorted.

    | kind | subject | value |
    |---|---|---|
    | `sysctl` | key with dots; a dot of its own is a `/` | value; empty: left alone |
    | `blacklist` | module | `blacklist`, or `install /bin/false` where it never loads |
    | `modprobe option` | module | all of its options |
    | `load at boot` | module | `load` |
    | `file` | path | SHA-256 |

    A key of sysctl may be a pattern (`net.ipv4.conf.*.rp_filter`): it stands here as written. One
    file that cannot be read makes all of them unknown.
    """
    try:
        told = (_sysctl(host), _modprobe(host), _load_at_boot(host), _files(host))
        return tuple(sorted(setting for settings in told for setting in settings))
    except HostError as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def parse_sysctl(text: str) -> tuple[tuple[str, str], ...]:
    """Give key and value of each line, as systemd-sysctl reads it (its sysctl.c).

    A `-` before a key means that a failure is ignored; alone with a key, that the key is left
    alone. Lines that are no assignment are skipped, as there.
    """
    found = []
    for line in _lines(text, "#;"):
        key, equals, value = line.partition("=")
        if equals or line.startswith("-"):
            found.append((_key(key.strip().removeprefix("-")), " ".join(value.split())))
    return tuple((key, value) for key, value in found if key)


def parse_modprobe(text: str) -> tuple[ModprobeRule, ...]:
    """Give the lines of modprobe.d(5) that keep a module from loading, or say how it loads.

    A line goes on after a backslash at its end. An `install` that does anything but refuse is
    left out.
    """
    found = []
    for line in _lines(text.replace("\\\n", " "), "#"):
        command, *words = line.split()
        if not words or (command == "install" and not _refuses(words[1:])):
            continue
        if command in {"blacklist", "options", "install"}:
            value = " ".join(words[1:]) if command != "blacklist" else ""
            found.append(ModprobeRule(command=command, module=_module(words[0]), value=value))
    return tuple(found)


def parse_load_at_boot(text: str) -> tuple[str, ...]:
    """Name the modules of a file of modules-load.d(5), in their order, with `_` for `-`."""
    return tuple(_module(line) for line in _lines(text, "#;"))


def _sysctl(host: Host) -> Iterable[Setting]:
    found: dict[str, Setting] = {}
    for path in _drop_ins(host, "sysctl.d"):
        for key, value in parse_sysctl(_text(host, path)):
            found[key] = Setting(kind="sysctl", subject=key, value=value, source=path)
    return found.values()


def _modprobe(host: Host) -> Iterable[Setting]:
    found: dict[tuple[str, str], Setting] = {}
    for path in _drop_ins(host, "modprobe.d"):
        for rule in parse_modprobe(_text(host, path)):
            kind = "modprobe option" if rule.command == "options" else "blacklist"
            place = (kind, rule.module)
            before = found[place].value if place in found else ""
            if rule.command == "options":  # options of one module add up
                value = f"{before} {rule.value}".strip()
            elif rule.command == "install":
                value = f"install {rule.value}"
            elif before.startswith("install "):  # what is never installed needs no blacklist
                continue
            else:
                value = "blacklist"
            found[place] = Setting(kind=kind, subject=rule.module, value=value, source=path)
    return found.values()


def _load_at_boot(host: Host) -> Iterable[Setting]:
    found: dict[str, Setting] = {}
    for path in _drop_ins(host, "modules-load.d"):
        for name in parse_load_at_boot(_text(host, path)):
            found[name] = Setting(kind="load at boot", subject=name, value="load", source=path)
    return found.values()


def _files(host: Host) -> Iterator[Setting]:
    for name in _WHOLE:
        top = host.path(name)
        for path in _regular(top):
            where = name if path == top else f"{name}/{path.relative_to(top).as_posix()}"
            yield Setting(kind="file", subject=where, value=file_sha256(path))


def _regular(top: Path) -> Iterator[Path]:
    """Give a file, or all regular files below a folder; links to files count, dangling ones not.

    Raises `OSError`.
    """
    if _kind(top) == stat.S_IFREG:
        yield top
    if _kind(top) == stat.S_IFDIR:
        paths = (top / name for name in paths_of(top))
        yield from (path for path in paths if _kind(path) == stat.S_IFREG)


def _drop_ins(host: Host, folder: str) -> tuple[str, ...]:
    """Give the files of one kind in the order in which they are read. Raises `OSError`."""
    chosen: dict[str, str] = {}
    for top in _FOLDERS:
        place = host.path(f"{top}/{folder}")
        paths = place.iterdir() if _kind(place) == stat.S_IFDIR else ()
        for name in (path.name for path in paths):
            if name.endswith(".conf") and not name.startswith("."):
                chosen.setdefault(name, f"{top}/{folder}/{name}")
    return tuple(chosen[name] for name in sorted(chosen))


def _text(host: Host, path: str) -> str:
    """Read a file of settings; what is no regular file says nothing. Raises `OSError`."""
    place = host.path(path)
    if _kind(place) != stat.S_IFREG:
        return ""
    with place.open("rb") as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise HostError(f"{path} is too large for a file of settings")
    return raw.decode(errors="replace")


def _kind(path: Path) -> int:
    """Give what a path is (S_IFREG ...), through links; 0 for nothing. Raises `OSError`."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _lines(text: str, comments: str) -> Iterator[str]:
    lines = (line.strip() for line in text.split("\n"))
    return (line for line in lines if line and line[0] not in comments)


def _key(key: str) -> str:
    """Give a key with dots: if its first separator is a slash, slashes stand for dots."""
    first = re.search(r"[./]", key)
    dotted = key.translate(_SWAPPED) if first and first.group() == "/" else key
    return dotted.strip(".")


def _refuses(words: list[str]) -> bool:
    return len(words) == 1 and words[0].rpartition("/")[2] in _REFUSALS


def _module(name: str) -> str:
    return name.replace("-", "_")
