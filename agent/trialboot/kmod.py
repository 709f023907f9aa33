"""Unpacks module files and asks a kernel's index of aliases: the door to libkmod and libzstd.

Both are C libraries, called by ctypes: a `modinfo` or `modprobe --resolve-alias` would be one
process a question. xz and gzip come with Python, and libkmod unpacks those no faster.
"""

import ctypes
import functools
import lzma
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from trialboot.errors import HostError

MOST: Final = 64 << 20
"""Bytes that a file may have, packed or unpacked, before it is refused: 64 MiB."""

LIBKMOD: Final = "libkmod.so.2"
LIBZSTD: Final = "libzstd.so.1"

Functions: TypeAlias = Mapping[str, tuple[object, tuple[object, ...]]]
"""Name of a C function -> its result and its arguments."""

_SAID: Final = f"it unpacks to more than {MOST >> 20} MiB"
_CUT: Final = "it cannot be unpacked: it is cut short"
_PIECE: Final = 4 << 20  # bytes unpacked at a time
_XZ_MEMORY: Final = 128 << 20  # the kernel's own modules ask for 2 MiB
_GZIP: Final = 16 + zlib.MAX_WBITS  # with gzip's header and nothing else
_ZSTD_DAMAGED: Final = (1 << 64) - 2  # ZSTD_CONTENTSIZE_ERROR
_INVALID: Final = -22  # -EINVAL
_SILENT: Final = -1  # below LOG_EMERG: what libkmod has to say comes as its answer
_INDEX: Final = struct.Struct(">III")  # magic, version, offset of the root
_INDEX_BEGINS: Final = (0xB007F457, 0x00020001)
_INDEXES: Final = ("modules.dep.bin", "modules.alias.bin", "modules.builtin.bin")
_INDEX_OF_BUILTIN: Final = "modules.builtin.alias.bin"  # may lack, and libkmod does without
_OFFSET_IN_FILE: Final = 0x0FFFFFFF  # the upper four bits of an offset say what the node holds
_PREFIX, _VALUES, _CHILDREN = 0x80000000, 0x40000000, 0x20000000  # libkmod/libkmod-index.c
_NUMBER: Final = struct.Struct(">I")
_LONGEST_WORD: Final = 2048  # libkmod puts a path behind the folder's into PATH_MAX bytes
_LONGEST_TEXT: Final = 1 << 16  # a module with all that it depends on
_DEEPEST: Final = 4096  # letters of the longest alias; libkmod calls itself once a level

_KMOD_FUNCTIONS: Final[Functions] = {
    "kmod_new": (ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)),
    "kmod_unref": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "kmod_set_log_priority": (None, (ctypes.c_void_p, ctypes.c_int)),
    "kmod_load_resources": (ctypes.c_int, (ctypes.c_void_p,)),
    "kmod_module_new_from_lookup": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)),
    ),
    "kmod_list_next": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p)),
    "kmod_module_get_module": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "kmod_module_get_name": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "kmod_module_unref": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "kmod_module_unref_list": (ctypes.c_int, (ctypes.c_void_p,)),
}
_ZSTD_FUNCTIONS: Final[Functions] = {
    "ZSTD_decompressBound": (ctypes.c_ulonglong, (ctypes.c_char_p, ctypes.c_size_t)),
    "ZSTD_decompress": (
        ctypes.c_size_t,
        (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t),
    ),
    "ZSTD_isError": (ctypes.c_uint, (ctypes.c_size_t,)),
}


def unpack_xz(packed: bytes) -> memoryview:
    """Unpack one xz stream of at most `MOST` bytes. Raises `HostError`."""
    return _joined(_pieces_of_xz(packed), lzma.LZMAError)


def unpack_gzip(packed: bytes) -> memoryview:
    """Unpack one gzip member of at most `MOST` bytes. Raises `HostError`."""
    return _joined(_pieces_of_gzip(packed), zlib.error)


def unpack_zstd(packed: bytes, *, library: str = LIBZSTD) -> memoryview:
    """Unpack zstd frames to at most `MOST` bytes. Raises `HostError`, also without the library."""
    zstd = _zstd(library)
    bound = zstd.ZSTD_decompressBound(packed, len(packed))
    if not packed or bound == _ZSTD_DAMAGED:
        raise HostError("it cannot be unpacked: it is no whole zstd frame")
    if bound > MOST:
        raise HostError(_SAID)
    room = ctypes.create_string_buffer(bound)
    size = zstd.ZSTD_decompress(room, bound, packed, len(packed))
    if zstd.ZSTD_isError(size):
        raise HostError("it cannot be unpacked: its zstd frames are damaged")
    return memoryview(room)[:size].cast("B")


def look_up(
    folder: Path,
    aliases: Iterable[str],
    *,
    library: str = LIBKMOD,
    known: MutableMapping[str, str] | None = None,
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name the modules of a kernel's folder that answer to each alias, as modprobe finds them.

    Modules built into the kernel answer too. What this host's modprobe.d says (blacklists, aliases
    of its own) is left out: the same question is asked of several kernels. Raises `HostError`
    without the library or without an index that is whole; `known` remembers those that are.
    """
    kmod = _kmod(library)
    whole = {} if known is None else known
    for name in _INDEXES:
        _check_index(folder / name, whole)
    if _is_filled(folder / _INDEX_OF_BUILTIN):
        _check_index(folder / _INDEX_OF_BUILTIN, whole)
    with _context(kmod, folder) as context:
        return tuple((alias, _answers(kmod, context, alias)) for alias in aliases)


def _joined(pieces: Iterable[bytes], refusal: type[Exception]) -> memoryview:
    """Join in one place: two copies of the largest module would be one too many."""
    content = bytearray()
    try:
        for piece in pieces:
            content += piece
            if len(content) > MOST:
                raise HostError(_SAID)
    except refusal as error:
        raise HostError(f"it cannot be unpacked: {error}") from error
    return memoryview(content)


def _pieces_of_xz(packed: bytes) -> Iterator[bytes]:
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    rest = packed
    while rest or not unpacker.needs_input:
        yield unpacker.decompress(rest, _PIECE)
        rest = b""
        if unpacker.eof:
            return
    raise HostError(_CUT)


def _pieces_of_gzip(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP)
    piece, rest = b"", packed
    while piece or rest:
        piece = unpacker.decompress(rest, _PIECE)
        rest = unpacker.unconsumed_tail
        yield piece
        if unpacker.eof:
            return
    raise HostError(_CUT)


@functools.lru_cache
def _kmod(name: str) -> ctypes.CDLL:
    return _bind(name, _KMOD_FUNCTIONS)


@functools.lru_cache
def _zstd(name: str) -> ctypes.CDLL:
    return _bind(name, _ZSTD_FUNCTIONS)


def _bind(name: str, functions: Functions) -> ctypes.CDLL:
    """Load a library by its soname: ctypes' own search would start programs."""
    try:
        library = ctypes.CDLL(name)
        for function, (result, arguments) in functions.items():
            bound = getattr(library, function)
            bound.restype, bound.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise HostError(f"{name} cannot be used: {error}") from error
    return library


def _check_index(path: Path, known: MutableMapping[str, str]) -> None:
    """Refuse an index that depmod did not finish, or that was damaged: libkmod trusts it and dies.

    It reads beyond the end of such a file, or beyond its own stack. The walk takes 15 ms for a
    distribution's kernel, so a file that is whole is remembered.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            key = f"index:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_ctime_ns}"
            raw = b"" if key in known else file.read(min(status.st_size, MOST))
    except OSError as error:
        raise HostError(f"{path.name} cannot be read: {error.strerror}") from error
    if key in known:
        return
    if len(raw) < _INDEX.size:
        raise HostError(f"{path.name} is cut short: run depmod")
    if not _is_index(raw):
        raise HostError(f"{path.name} is damaged: run depmod")
    known[key] = "whole"


def _is_index(raw: bytes) -> bool:
    """Tell whether every node that can be reached lies in the file, whole, and once."""
    magic, version, root = _INDEX.unpack_from(raw)
    if (magic, version) != _INDEX_BEGINS:
        return False
    if root == len(raw) == _INDEX.size:
        return True  # a kernel without modules: no bit says that the root holds anything
    seen: set[int] = set()
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        at = node & _OFFSET_IN_FILE
        if at in seen or depth > _DEEPEST or not _INDEX.size <= at < len(raw):
            return False
        seen.add(at)
        try:
            waiting += [(child, depth + 1) for child in _children(raw, node) if child]
        except (struct.error, IndexError, ValueError):
            return False
    return True


def _children(raw: bytes, node: int) -> tuple[int, ...]:
    """Give the nodes below one. Raises `ValueError` and what a read beyond the end raises."""
    at = node & _OFFSET_IN_FILE
    children: tuple[int, ...] = ()
    if node & _PREFIX:
        at = _behind_text(raw, at)
    if node & _CHILDREN:
        first, last = raw[at], raw[at + 1]
        children = struct.unpack_from(f">{last - first + 1}I", raw, at + 2)
        at += 2 + len(children) * _NUMBER.size
    if node & _VALUES:
        (count,) = _NUMBER.unpack_from(raw, at)
        at += _NUMBER.size
        for _ in range(count):
            at = _behind_text(raw, at + _NUMBER.size)  # behind its priority
    return children


def _behind_text(raw: bytes, at: int) -> int:
    end = raw.index(b"\0", at, at + _LONGEST_TEXT)
    if end - at > _LONGEST_WORD and max(map(len, raw[at:end].split(b" "))) > _LONGEST_WORD:
        raise ValueError("a path is longer than any")
    return end + 1


def _is_filled(path: Path) -> bool:
    """Tell whether depmod had anything to write: before 5.2 no kernel told of what is built in."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


@contextmanager
def _context(kmod: ctypes.CDLL, folder: Path) -> Iterator[int]:
    nothing = (ctypes.c_char_p * 1)(None)  # no folder of configuration
    context = kmod.kmod_new(os.fsencode(folder), ctypes.byref(nothing))
    if not context:
        raise HostError(f"libkmod cannot open {folder}")
    try:
        kmod.kmod_set_log_priority(context, _SILENT)
        problem = kmod.kmod_load_resources(context)
        if problem < 0:
            raise HostError(f"libkmod cannot read {folder}: {os.strerror(-problem)}")
        yield context
    finally:
        kmod.kmod_unref(context)


def _answers(kmod: ctypes.CDLL, context: int, alias: str) -> tuple[str, ...]:
    if len(alias) > _DEEPEST:
        return ()  # libkmod would put it on its stack
    found = ctypes.c_void_p()
    problem = kmod.kmod_module_new_from_lookup(
        context, alias.encode(errors="surrogateescape"), ctypes.byref(found)
    )
    if problem == _INVALID:
        return ()  # it is no alias to libkmod, so nobody answers to it: brackets do not match
    if problem < 0:
        raise HostError(f"libkmod cannot look up {alias}: {os.strerror(-problem)}")
    try:
        return tuple(sorted(set(_names(kmod, found))))
    finally:
        kmod.kmod_module_unref_list(found)


def _names(kmod: ctypes.CDLL, found: ctypes.c_void_p) -> Iterator[str]:
    item = found.value
    while item:
        module = kmod.kmod_module_get_module(item)
        yield kmod.kmod_module_get_name(module).decode(errors="replace")
        kmod.kmod_module_unref(module)
        item = kmod.kmod_list_next(found, item)
