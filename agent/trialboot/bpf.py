"""bpf(2) by ctypes: the system call, the programs at a place, what the kernel says of one.

Layouts and numbers: include/uapi/linux/bpf.h of the kernel.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

Attributes: TypeAlias = ctypes.Array[ctypes.c_char]

Syscall: TypeAlias = Callable[[int, Attributes], int]
"""bpf(2): a command and its attributes, which the kernel may change. Raises `OSError`."""

PROG_GET_FD_BY_ID: Final = 13
OBJ_GET_INFO_BY_FD: Final = 15
PROG_QUERY: Final = 16
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_MACHINE: Final = platform.machine()
_SYSCALL_NUMBERS: Final = {
    "x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280,
}  # fmt: skip
_LSM_CGROUP: Final = 43
_ROOM: Final = 64  # programs at one place, to begin with
_MOST_ROOM: Final = 4096
NO_SUCH_PLACE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
"""Errors of a place that went away meanwhile."""


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


def program_name(syscall: Syscall, id_: int) -> str | None:
    """Give a program's name as the kernel keeps it; None if the program is gone."""
    try:
        attributes = ctypes.create_string_buffer(struct.pack("=III", id_, 0, 0), 12)
        descriptor = syscall(PROG_GET_FD_BY_ID, attributes)
    except FileNotFoundError:
        return None
    try:
        info = ctypes.create_string_buffer(240)
        wanted = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
        syscall(OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(wanted, 16))
        return info.raw[64:80].partition(b"\0")[0].decode(errors="replace")
    finally:
        os.close(descriptor)
