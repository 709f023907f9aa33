"""Kernel modules: those loaded now, and those that a kernel's tree has for this host.

What a module is stands in its file: a plain one is asked for a few pieces with pread(2), a packed
one is unpacked once and then remembered in a cache. Nothing here starts a `modinfo`: that would be
one process a module.
"""

import errno
import functools
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from trialboot import kmod
from trialboot.content import is_module
from trialboot.core.elf import (
    SIGNATURE,
    Piece,
    parse_build_id,
    parse_modinfo,
    parse_parameters,
    read_sections,
)
from trialboot.core.facts import Driver, Module, ModuleFile, ModuleTree, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.kmod import MOST, unpack_gzip, unpack_xz, unpack_zstd

Cache: TypeAlias = MutableMapping[str, str]
"""`module:device:inode:size:ctime in ns` -> what the file says, as JSON.

Plain text, so that a caller may keep it as JSON; the first word keeps it apart from the hashes of
`content.Cache`, so that both may lie in one.
"""

LookUp: TypeAlias = Callable[[Path, Iterable[str]], Iterable[tuple[str, tuple[str, ...]]]]
"""A kernel's folder and aliases -> each alias with its modules. Raises `HostError`."""

_UNPACK: Final[Mapping[str, Callable[[bytes], memoryview]]] = {
    ".xz": unpack_xz,
    ".zst": unpack_zstd,
    ".gz": unpack_gzip,
}
_MODINFO: Final = ".modinfo"
_NOTES: Final = ".note.gnu.build-id"
_DEVICES: Final = "/sys/devices"
_PAGE: Final = 4096
_DEEPEST: Final = 32  # folders below /sys/devices; a disk behind several switches lies at 16
_NO_DEVICE_BELOW: Final = frozenset(
    (
        *("power", "queues", "statistics", "msi_irqs", "cache", "cpuidle", "cpufreq", "topology"),
        *("mq", "wakeup"),
    )
)  # groups of attributes, and what counts wake-ups: more than half of all folders
_NO_DEVICE_IN: Final = frozenset({"system/memory", "system/node"})  # thousands on large machines
_WENT_AWAY: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)


def read_loaded_modules(
    host: Host, release: str, *, cache: Cache | None = None
) -> tuple[Module, ...] | Unknown:
    """Read `/proc/modules`, what /sys/module says of each, and the firmware names in its file.

    A module without a file in the running tree names no firmware; one whose file is not understood
    has it Unknown.
    """
    place = _folder_of(release)
    try:
        references = parse_references(_text(host, "/proc/modules"))
        files = _dependencies(host, release, place)
    except HostError as error:
        return Unknown(str(error))
    tree = _Files(host, place, {} if cache is None else cache)
    return tuple(
        _loaded(
            host, name, references[name], tree.read(name, files[name]) if name in files else None
        )
        for name in sorted(references)
    )


def read_module_tree(
    host: Host,
    release: str,
    names: Collection[str],
    aliases: Collection[str] | Unknown,
    *,
    folder: str | None = None,
    cache: Cache | None = None,
    look_up: LookUp | None = None,
) -> ModuleTree | Unknown:
    """Read the modules of one kernel: all by name, those of `names` by their files.

    `aliases` are the modaliases of this host's devices (`read_modaliases`); `folder` is where the
    tree lies if not in /lib/modules. Unknown where depmod has not run for this kernel.
    """
    place = folder or _folder_of(release)
    try:
        files = _dependencies(host, release, place)
        builtin = _builtin(host, place)
    except HostError as error:
        return Unknown(str(error))
    tree = _Files(host, place, {} if cache is None else cache)
    read = [
        (files[name], tree.read(name, files[name])) for name in sorted(set(names) & set(files))
    ]
    return ModuleTree(
        release=release,
        names=tuple(sorted(files)),
        builtin=builtin,
        used=tuple(found for _, found in read if isinstance(found, ModuleFile)),
        unread=tuple(
            f"{path} of {release} is not understood: {found.why}"
            for path, found in read
            if isinstance(found, Unknown)
        ),
        drivers=_drivers(
            host.path(place), release, aliases, look_up or partial(kmod.look_up, known=cache)
        ),
    )


def read_modaliases(host: Host) -> tuple[str, ...] | Unknown:
    """Read the modalias of every device below /sys/devices, sorted, each once."""
    try:
        found = set(_modaliases(os.fspath(host.path(_DEVICES))))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")
    return tuple(sorted(found - {""}))


def parse_references(text: str) -> dict[str, int]:
    """Give the modules of `/proc/modules` with their references; 0 where none are counted.

    Raises `HostError` on a name that no module can have.
    """
    references = {}
    for line in text.splitlines():
        name, *columns = line.split() or [""]
        if "/" in name or name in {".", ".."}:
            raise HostError(f"/proc/modules: {name!r} is no module's name")
        if name:
            references[name] = _number(columns[1] if len(columns) > 1 else "-")
    return references


def parse_dependencies(text: str) -> dict[str, str]:
    """Turn `modules.dep` into module name -> path below the tree. Raises `HostError`."""
    files = {}
    for number, line in enumerate(text.splitlines(), 1):
        path, colon, _ = line.partition(":")
        if colon and is_module(path):
            files[_name(path)] = path
        elif line.strip():
            raise HostError(f"line {number} names no module: run depmod")
    return files


def parse_builtin(text: str) -> tuple[str, ...]:
    """Name the modules of `modules.builtin`, sorted. Raises `HostError`."""
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not is_module(line.strip()):
            raise HostError(f"line {number} names no module: install the kernel's package again")
        if line.strip():
            names.add(_name(line.strip()))
    return tuple(sorted(names))


def parse_module(piece: Piece, size: int) -> ModuleFile | Unknown:
    """Tell what a module file of `size` bytes says, but its name and path."""
    sections = read_sections(piece, size, (_MODINFO, _NOTES))
    if isinstance(sections, Unknown):
        return sections
    if _MODINFO not in sections:
        return Unknown(f"it has no section {_MODINFO}")
    build_id = parse_build_id(sections.get(_NOTES, b""))
    if isinstance(build_id, Unknown):
        return build_id
    words = parse_modinfo(sections[_MODINFO])
    tail = piece(len(SIGNATURE), max(size - len(SIGNATURE), 0))
    return ModuleFile(
        name="",
        path="",
        version=words.get("version", ("",))[0],
        srcversion=words.get("srcversion", ("",))[0],
        build_id=build_id,
        signed=tail == SIGNATURE,
        firmware=tuple(sorted(set(words.get("firmware", ())))),
        parameters=parse_parameters(words),
    )


# --- text files -------------------------------------------------------------------------------


def _folder_of(release: str) -> str:
    return f"/lib/modules/{release}"


def _dependencies(host: Host, release: str, tree: str) -> dict[str, str]:
    if not host.exists(tree):
        raise HostError(f"{release} has no modules: there is no {tree}")
    if not host.exists(f"{tree}/modules.dep"):
        raise HostError(f"depmod has not run for {release}: there is no {tree}/modules.dep")
    text = _text(host, f"{tree}/modules.dep")
    try:
        return parse_dependencies(text)
    except HostError as error:
        raise HostError(f"{tree}/modules.dep: {error}") from error


def _builtin(host: Host, tree: str) -> tuple[str, ...]:
    text = _text(host, f"{tree}/modules.builtin")
    try:
        return parse_builtin(text)
    except HostError as error:
        raise HostError(f"{tree}/modules.builtin: {error}") from error


def _text(host: Host, absolute: str) -> str:
    """Read a text of at most `MOST` bytes. Raises `HostError`."""
    try:
        with host.path(absolute).open("rb") as file:
            raw = file.read(MOST + 1)
    except OSError as error:
        raise HostError(f"{absolute}: {error.strerror}") from error
    if len(raw) > MOST:
        raise HostError(f"{absolute} has more than {MOST >> 20} MiB")
    if b"\0" in raw:
        raise HostError(f"{absolute} is damaged: it is no text")
    return raw.decode(errors="replace")


def _name(path: str) -> str:
    name = path.rpartition("/")[2]
    return name[: name.rindex(".ko")].replace("-", "_")  # each ending of a module begins with it


def _number(word: str) -> int:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else 0  # noqa: PLR2004  a C int


# --- loaded modules ---------------------------------------------------------------------------


def _loaded(host: Host, name: str, references: int, file: ModuleFile | Unknown | None) -> Module:
    folder = os.fspath(host.path(f"/sys/module/{name}"))
    build_id = parse_build_id(_shown(f"{folder}/notes/{_NOTES}"))
    return Module(
        name=name,
        firmware=file if isinstance(file, Unknown) else file.firmware if file else (),
        references=references,
        version=_shown(f"{folder}/version").decode(errors="replace").strip(),
        srcversion=_shown(f"{folder}/srcversion").decode(errors="replace").strip(),
        build_id=build_id if isinstance(build_id, str) else "",
    )


def _shown(path: str) -> bytes:
    """Read what the kernel shows of a module; most modules show no version."""
    try:
        return _head(path)
    except OSError:
        return b""


def _head(path: str) -> bytes:
    """Read one attribute of sysfs, which is a page at most. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _PAGE)
    finally:
        os.close(descriptor)


# --- module files -----------------------------------------------------------------------------


class _Files:
    """The module files of one kernel, each read at most once as long as it stays the same."""

    def __init__(self, host: Host, folder: str, cache: Cache) -> None:
        self._folder = os.fspath(host.path(folder))
        self._cache = cache

    def read(self, name: str, path: str) -> ModuleFile | Unknown:
        """Tell what a module's file says."""
        if path.startswith("/") or ".." in path.split("/"):
            return Unknown("it lies outside of the kernel's tree")
        try:
            found = self._remembered(f"{self._folder}/{path}")
        except HostError as error:
            return Unknown(str(error))
        except OSError as error:
            return Unknown(str(error.strerror))
        return found if isinstance(found, Unknown) else replace(found, name=name, path=path)

    def _remembered(self, place: str) -> ModuleFile | Unknown:
        known = _recalled(self._cache.get(_key(os.stat(place)), ""))  # noqa: PTH116  a word, not a Path: hundreds
        if known:
            return known
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            found = _read_file(descriptor, status, place.rpartition(".")[2])
        finally:
            os.close(descriptor)
        if isinstance(found, ModuleFile):
            self._cache[_key(status)] = _noted(found)
        return found


def _key(status: os.stat_result) -> str:
    return f"module:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"


def _read_file(descriptor: int, status: os.stat_result, ending: str) -> ModuleFile | Unknown:
    """Read an open module file. Raises `OSError`, and `HostError` where it cannot be unpacked."""
    if not stat.S_ISREG(status.st_mode):
        return Unknown("it is no regular file")
    if status.st_size > MOST:
        return Unknown(f"it has more than {MOST >> 20} MiB")
    unpack = _UNPACK.get(f".{ending}")
    if unpack is None:
        return parse_module(lambda length, at: os.pread(descriptor, length, at), status.st_size)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        content = unpack(file.read(MOST))
    return parse_module(lambda length, at: bytes(content[at : at + length]), len(content))


def _noted(file: ModuleFile) -> str:
    return json.dumps(
        [file.version, file.srcversion, file.build_id, file.signed, file.firmware, file.parameters]
    )


@functools.lru_cache(maxsize=1024)  # a kept file is the installed one, by another name
def _recalled(text: str) -> ModuleFile | None:
    """Give what `_noted` wrote; None for anything else, which costs only the time to read anew."""
    try:
        version, srcversion, build_id, signed, firmware, parameters = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    words = (version, srcversion, build_id, *_list(firmware), *_list(parameters))
    if not isinstance(signed, bool) or not all(isinstance(word, str) for word in words):
        return None
    return ModuleFile(
        name="",
        path="",
        version=version,
        srcversion=srcversion,
        build_id=build_id,
        signed=signed,
        firmware=tuple(firmware),
        parameters=tuple(parameters),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


# --- devices ----------------------------------------------------------------------------------


def _drivers(
    folder: Path, release: str, aliases: Collection[str] | Unknown, ask: LookUp
) -> tuple[Driver, ...] | Unknown:
    if isinstance(aliases, Unknown):
        return aliases
    try:
        answers = ask(folder, sorted(set(aliases)))
    except HostError as error:
        return Unknown(f"drivers of {release}: {error}")
    return tuple(Driver(alias=alias, modules=modules) for alias, modules in answers)


def _modaliases(top: str) -> Iterator[str]:
    """Walk the devices of sysfs. Raises `OSError`, but not for what was unplugged meanwhile."""
    waiting = [(top, "", _DEEPEST)]
    while waiting:
        folder, below, depth = waiting.pop()
        if depth == 0:
            raise OSError(errno.ELOOP, "devices lie deeper than any machine has them", folder)
        for entry in _entries(folder, is_top=folder == top):
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                inner = f"{below}/{name}" if below else name
                if name not in _NO_DEVICE_BELOW and inner not in _NO_DEVICE_IN:
                    waiting.append((entry.path, inner, depth - 1))
            elif name == "modalias":
                yield _modalias(entry.path)


def _entries(folder: str, *, is_top: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        if is_top or error.errno not in _WENT_AWAY:
            raise
        return []


def _modalias(path: str) -> str:
    try:
        return _head(path).decode(errors="replace").strip("\n\0 ")
    except OSError as error:
        if error.errno in _WENT_AWAY:
            return ""
        raise
