"""bpf(2) by ctypes: the system call, the programs at a place, what the kernel says of an object.

Layouts and numbers: include/uapi/linux/bpf.h of the kernel.
"""

import ctypes
import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

Attributes: TypeAlias = ctypes.Array[ctypes.c_char]

Syscall: TypeAlias = Callable[[int, Attributes], int]
"""bpf(2): a command and its attributes, which the kernel may change. Raises `OSError`."""

MAP_CREATE: Final = 0
PROG_LOAD: Final = 5
PROG_GET_NEXT_ID: Final = 11
MAP_GET_NEXT_ID: Final = 12
PROG_GET_FD_BY_ID: Final = 13
MAP_GET_FD_BY_ID: Final = 14
OBJ_GET_INFO_BY_FD: Final = 15
PROG_QUERY: Final = 16
LINK_GET_FD_BY_ID: Final = 30
LINK_GET_NEXT_ID: Final = 31


class Kind(NamedTuple):
    """A kind of object: the commands that list and open it, the size of what is told of one."""

    list: int
    open: int
    size: int


PROGRAMS: Final = Kind(PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, 240)
MAPS: Final = Kind(MAP_GET_NEXT_ID, MAP_GET_FD_BY_ID, 88)
LINKS: Final = Kind(LINK_GET_NEXT_ID, LINK_GET_FD_BY_ID, 64)
_PROGRAM_NAME: Final = 64  # where struct bpf_prog_info and bpf_map_info have the name
_MAP_NAME: Final = 24
_TAG: Final = slice(8, 16)
_VERIFIED: Final = 216
_NUMBERED: Final = re.compile(r"_\d+$")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_MACHINE: Final = os.uname().machine
_SYSCALL_NUMBERS: Final = {
    "x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280,
}  # fmt: skip
_LSM_CGROUP: Final = 43
_ROOM: Final = 64  # programs at one place, to begin with
_MOST_ROOM: Final = 4096
_LOG: Final = 1 << 16  # bytes that are kept of what the verifier says
_LOAD_TRIES: Final = 5  # the verifier answers EAGAIN while a signal is pending
NO_SUCH_PLACE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
"""Errors of a place that went away meanwhile."""


class RefusedError(OSError):
    """The kernel refused a program; `log` is what its verifier wrote, which may be nothing."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number), "bpf(2) PROG_LOAD")
        self.log = log


def bpf(command: int, attributes: Attributes, machine: str = _MACHINE) -> int:
    """Make the system call. Raises `OSError`."""
    number = _SYSCALL_NUMBERS.get(machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"its number is not known on {machine}", "bpf(2)")
    answer = int(_LIBC.syscall(number, command, attributes, len(attributes)))
    if answer < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), f"bpf(2) command {command}")
    return answer


def query(syscall: Syscall, target: int, kind: int, room: int = _ROOM) -> tuple[int, ...]:
    """Give the ids of the programs of one attach type; none if the place went away.

    Raises `OSError`, EINVAL for an attach type that the kernel does not know.
    """
    # Without this flag lsm_cgroup wants one pointer more; at the root both say the same.
    flags = 1 if kind == _LSM_CGROUP else 0  # BPF_F_QUERY_EFFECTIVE
    ids = (ctypes.c_uint32 * room)()
    fields = (target, kind, flags, 0, ctypes.addressof(ids), room, 0, 0, 0, 0, 0)
    attributes = ctypes.create_string_buffer(struct.pack("=IIIIQIIQQQQ", *fields), 64)
    try:
        syscall(PROG_QUERY, attributes)
    except OSError as error:
        if error.errno in NO_SUCH_PLACE:
            return ()
        if error.errno == errno.ENOSPC and room < _MOST_ROOM:
            return query(syscall, target, kind, room * 4)
        raise
    return tuple(ids[: struct.unpack_from("=I", attributes, 24)[0]])


def ids(syscall: Syscall, kind: Kind) -> Iterator[int]:
    """Give the ids of all objects of a kind that the host has now.

    Nothing for a kind that is newer than the kernel. Raises `OSError`.
    """
    last = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", last, 0, 0), 12)
        try:
            syscall(kind.list, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT or (error.errno == errno.EINVAL and not last):
                return
            raise
        (last,) = struct.unpack_from("=I", attributes, 4)
        yield last


def opened(syscall: Syscall, kind: Kind, id_: int) -> int | None:
    """Open an object, for the caller to close; None if it is gone, or is only being made.

    Raises `OSError`.
    """
    attributes = ctypes.create_string_buffer(struct.pack("=III", id_, 0, 0), 12)
    try:
        return syscall(kind.open, attributes)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        # A link that is not settled: «pretend it doesn't exist yet» (bpf_link_by_id, syscall.c).
        return None


def described(syscall: Syscall, kind: Kind, id_: int) -> bytes | None:
    """Give what the kernel tells of an object (struct bpf_*_info); None if it is gone.

    Zeros where the kernel is older than a field. Raises `OSError`.
    """
    descriptor = opened(syscall, kind, id_)
    if descriptor is None:
        return None
    try:
        return info_of(syscall, kind, descriptor)
    finally:
        os.close(descriptor)


def info_of(syscall: Syscall, kind: Kind, descriptor: int) -> bytes:
    """Give what the kernel tells of an open object. Raises `OSError`."""
    info = ctypes.create_string_buffer(kind.size)
    wanted = struct.pack("=IIQ", descriptor, kind.size, ctypes.addressof(info))
    syscall(OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(wanted, 16))
    return info.raw


def program_name(info: bytes) -> str:
    """Give a program's name as the kernel keeps it, cut to 15 characters."""
    return _name(info, _PROGRAM_NAME)


def program_tag(info: bytes) -> str:
    """Give the hash over a program's instructions, in hex."""
    return info[_TAG].hex()


def verified_instructions(info: bytes) -> int:
    """Give how many instructions the verifier walked; 0 before 5.16, which does not tell."""
    return int(struct.unpack_from("=I", info, _VERIFIED)[0])


def map_name(info: bytes) -> str:
    """Give a map's name without the number of an endpoint or interface at its end.

    `cilium_policy_00123`, cut to 15 characters, is `cilium_policy`.
    """
    return _NUMBERED.sub("", _name(info, _MAP_NAME))


def _name(info: bytes, at: int) -> str:
    return info[at : at + 16].partition(b"\0")[0].decode(errors="replace")


def loaded_tags(syscall: Syscall) -> Iterator[str]:
    """Give the tags of all programs that are loaded now. Raises `OSError`."""
    for id_ in ids(syscall, PROGRAMS):
        info = described(syscall, PROGRAMS, id_)
        if info is not None:
            yield program_tag(info)


def create_map(syscall: Syscall, kind: int, *, key: int, value: int, entries: int) -> int:
    """Make a map without a name, and give its descriptor. Sizes in bytes. Raises `OSError`."""
    fields = struct.pack("=IIIIIII16s", kind, key, value, entries, 0, 0, 0, b"")
    return syscall(MAP_CREATE, ctypes.create_string_buffer(fields, len(fields)))


def load_program(
    syscall: Syscall, kind: int, instructions: bytes, *, expected_attach: int = 0
) -> int:
    """Load a program and give its descriptor.

    Raises `RefusedError` with what the verifier says: it is only asked for that after a refusal,
    for a log costs time.
    """
    try:
        return _load(syscall, kind, instructions, expected_attach, None)
    except OSError as error:
        number = error.errno or errno.EINVAL
    log = ctypes.create_string_buffer(_LOG)
    try:
        return _load(syscall, kind, instructions, expected_attach, log)
    except OSError as error:
        raise RefusedError(number, log.value.decode(errors="replace")) from error


def _load(
    syscall: Syscall, kind: int, instructions: bytes, expected_attach: int, log: Attributes | None
) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    asked = (1, _LOG, ctypes.addressof(log)) if log is not None else (0, 0, 0)
    addresses = (len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(licence))
    fields = struct.pack(
        "=IIQQIIQII16sII", kind, *addresses, *asked, 0, 0, b"trialboot", 0, expected_attach
    )
    for _ in range(_LOAD_TRIES - 1):
        with suppress(BlockingIOError):
            return syscall(PROG_LOAD, ctypes.create_string_buffer(fields, len(fields)))
    return syscall(PROG_LOAD, ctypes.create_string_buffer(fields, len(fields)))
