"""Loads whole eBPF objects into the kernel and lets go of them again: the door to libbpf.

A C library, called by ctypes (libbpf.h, from 0.3 to 1.x). Nothing is attached, and nothing is
pinned: libbpf is told to forget where maps want to be pinned, so no bpffs is touched and no map of
a running CNI is taken over. Tables that hold entries are made small: their size is memory, and no
matter of the verifier's.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from trialboot.bpf import PROGRAMS, bpf, info_of, program_tag, verified_instructions
from trialboot.core.bpfobject import patched
from trialboot.core.facts import Unknown
from trialboot.core.loadlog import parse_failure
from trialboot.core.loadtest import Accepted, Program, Refused

LIBRARIES: Final = ("libbpf.so.1", "libbpf.so.0")

_TYPES: Final = (("xdp", 6), ("tc", 3), ("tcx", 3), ("classifier", 3))
"""Section names up to their first `/` that some libbpf does not know: BPF_PROG_TYPE_*."""
_SCHED_CLS, _XDP = 3, 6
_XDP_OBJECT: Final = "bpf_xdp.o"  # its tail calls are in `tc/` sections in some versions
_TABLES: Final = frozenset({1, 5, 9, 10, 11})  # hash, per CPU, LRU of both, LPM trie
_ENTRIES: Final = 1024
_USUAL, _BRIEF = 0, 4  # libbpf's own choice of the verifier's log; its words without its steps
_TOO_LARGE: Final = "E2BIG"
_WARNINGS: Final = 0  # LIBBPF_WARN
_LONGEST: Final = 16 << 20  # of one message: the verifier's log is one
_FIRST_LINES, _LAST_LINES = 20, 200  # of a message that are kept
_Print: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_POINTER, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_FUNCTIONS: Final = {
    "libbpf_set_print": (_POINTER, (_POINTER,)),
    "libbpf_get_error": (ctypes.c_long, (_POINTER,)),
    "bpf_object__open_mem": (_POINTER, (_TEXT, ctypes.c_size_t, _POINTER)),
    "bpf_object__load": (_INT, (_POINTER,)),
    "bpf_object__close": (None, (_POINTER,)),
    "bpf_program__name": (_TEXT, (_POINTER,)),
    "bpf_program__section_name": (_TEXT, (_POINTER,)),
    "bpf_program__get_type": (_INT, (_POINTER,)),
    "bpf_program__set_type": (_INT, (_POINTER, _INT)),
    "bpf_program__fd": (_INT, (_POINTER,)),
    "bpf_map__set_pin_path": (_INT, (_POINTER, _TEXT)),
}
# Newer name or older one -> its place among the arguments where the object stands.
_RENAMED: Final = {
    "programs": (("bpf_object__next_program", 0), ("bpf_program__next", 1)),
    "maps": (("bpf_object__next_map", 0), ("bpf_map__next", 1)),
}
_SIZES: Final = {
    "bpf_map__type": (_INT, (_POINTER,)),
    "bpf_map__max_entries": (ctypes.c_uint32, (_POINTER,)),
    "bpf_map__set_max_entries": (_INT, (_POINTER, ctypes.c_uint32)),
}
_NAMES: Final = {os.strerror(number): name for number, name in errno.errorcode.items()} | {
    "Unknown error 524": "ENOTSUPP"  # the kernel's own, which leaks out of the verifier
}


class _Options(ctypes.Structure):
    """The beginning of struct bpf_object_open_opts, which all versions share."""

    _fields_ = (("size", ctypes.c_size_t), ("object_name", ctypes.c_char_p))


def find_library(names: tuple[str, ...] = LIBRARIES) -> ctypes.CDLL | Unknown:
    """Load the first of the libraries that is there and has what is needed."""
    why = []
    for name in names:
        try:
            library = ctypes.CDLL(name, use_errno=True)
            for function, (result, arguments) in (_FUNCTIONS | _SIZES).items():
                bound = getattr(library, function)
                bound.restype, bound.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            why.append(f"{name} cannot be used: {error}")
            continue
        return library
    return Unknown("; ".join(why))


def load(raw: bytes, name: str, library: ctypes.CDLL | Unknown) -> Accepted | Refused | Unknown:
    """Load an object whole, and let it go. `name` is its file's: it may tell what it is.

    A refusal is asked for once more, then with the verifier's account of its last steps; after
    «too large» that would be a million steps. Takes the capabilities to load programs; call it in
    a process that may be lost.
    """
    if isinstance(library, Unknown):
        return library
    try:
        content = patched(raw)
    except ValueError as error:
        return Unknown(str(error))
    first = _load(library, content, name, _BRIEF)
    if not isinstance(first, Refused) or first.error == _TOO_LARGE:
        return first
    again = _load(library, content, name, _USUAL)
    return Unknown("it was refused once, and taken then") if isinstance(again, Accepted) else again


def _load(
    library: ctypes.CDLL, content: bytes, name: str, log_level: int
) -> Accepted | Refused | Unknown:
    with _messages(library) as said:
        options = _Options(ctypes.sizeof(_Options), name.encode())
        object_ = library.bpf_object__open_mem(content, len(content), ctypes.byref(options))
        problem = library.libbpf_get_error(object_)
        if problem:
            return Unknown(f"libbpf cannot open it: {_last(said, problem)}")
        try:
            why = _prepare(library, object_, name, log_level)
            if why:
                return Unknown(why)
            if library.bpf_object__load(object_):
                return parse_failure(said, _NAMES)
            return Accepted(programs=tuple(_programs(library, object_)))
        finally:
            library.bpf_object__close(object_)


def _prepare(library: ctypes.CDLL, object_: int, name: str, log_level: int) -> str:
    """Set the types that libbpf does not know, pin nothing, and make tables small."""
    for program in _each(library, "programs", object_):
        if hasattr(library, "bpf_program__set_log_level"):  # from 0.7 on
            library.bpf_program__set_log_level(_POINTER(program), log_level)
        if not library.bpf_program__get_type(program):
            section = library.bpf_program__section_name(program).decode(errors="replace")
            kind = dict(_TYPES).get(section.partition("/")[0])
            if kind is None:
                return f"programs of section «{section}» are not known"
            is_xdp = kind == _SCHED_CLS and name.endswith(_XDP_OBJECT)
            library.bpf_program__set_type(program, _XDP if is_xdp else kind)
    for map_ in _each(library, "maps", object_):
        library.bpf_map__set_pin_path(map_, None)
        if library.bpf_map__type(map_) in _TABLES:
            entries = min(library.bpf_map__max_entries(map_), _ENTRIES)
            library.bpf_map__set_max_entries(map_, entries)
    return ""


def _programs(library: ctypes.CDLL, object_: int) -> Iterator[Program]:
    for program in _each(library, "programs", object_):
        info = info_of(bpf, PROGRAMS, library.bpf_program__fd(program))
        yield Program(
            name=library.bpf_program__name(program).decode(errors="replace"),
            tag=program_tag(info),
            verified_instructions=verified_instructions(info),
        )


def _each(library: ctypes.CDLL, what: str, object_: int) -> Iterator[int]:
    newer, older = _RENAMED[what]
    function, place = newer if hasattr(library, newer[0]) else older
    following = getattr(library, function)
    following.restype, following.argtypes = _POINTER, (_POINTER, _POINTER)
    item = following(*(object_, None) if place == 0 else (None, object_))
    while item:
        yield item
        item = following(*(object_, item) if place == 0 else (item, object_))


@contextmanager
def _messages(library: ctypes.CDLL) -> Iterator[list[str]]:
    """Collect the lines of libbpf's warnings, of each message its first and last ones."""
    said: list[str] = []
    heard = _Print(_listener(said))
    before = library.libbpf_set_print(ctypes.cast(heard, _POINTER))
    try:
        yield said
    finally:
        library.libbpf_set_print(before)


def _listener(said: list[str]) -> Callable[[int, bytes, Any], int]:
    libc = ctypes.CDLL(None)
    libc.vsnprintf.argtypes = (_POINTER, ctypes.c_size_t, _TEXT, _POINTER)
    room = mmap.mmap(-1, _LONGEST)  # pages that nothing is written to cost nothing
    place = ctypes.addressof(ctypes.c_char.from_buffer(room))

    def listen(level: int, words: bytes, arguments: Any) -> int:
        if level == _WARNINGS:
            size = min(libc.vsnprintf(place, _LONGEST, words, arguments), _LONGEST - 1)
            lines = room[: max(size, 0)].decode(errors="replace").splitlines()
            said.extend(lines[:_FIRST_LINES])
            said.extend(lines[_FIRST_LINES:][-_LAST_LINES:])
        return 0

    return listen


def _last(said: list[str], problem: int) -> str:
    lines = [line.removeprefix("libbpf: ") for line in said if line.strip()]
    return lines[-1] if lines else os.strerror(abs(problem))
