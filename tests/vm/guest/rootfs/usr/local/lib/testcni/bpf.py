"""Loads and attaches tiny eBPF programs by bpf(2) and raw netlink: for tests only, never shipped.

One file, two users: the CNI of the test machines, and the root tests, as tests/host/bpf_loader.py.
Layouts: include/uapi/linux/bpf.h, rtnetlink.h and pkt_sched.h of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Final

__all__ = [
    "EXIT",
    "R0",
    "R1",
    "R2",
    "SOCKMAP",
    "TINY",
    "XDP_SKB_MODE",
    "Attach",
    "ProgType",
    "RefusedError",
    "TcParent",
    "call",
    "jump_unless_equal",
    "link_create",
    "link_detach",
    "load_word",
    "map_create",
    "move",
    "netfilter_link",
    "obj_get",
    "obj_pin",
    "prog_attach",
    "prog_by_id",
    "prog_detach",
    "prog_load",
    "prog_name",
    "prog_query",
    "tc_attach",
    "tc_clsact",
    "tc_detach",
    "xdp_attach",
]


class ProgType(IntEnum):
    """enum bpf_prog_type, as far as tests need it."""

    SOCKET_FILTER = 1
    SCHED_CLS = 3
    XDP = 6
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    SOCK_OPS = 13
    SK_SKB = 14
    CGROUP_DEVICE = 15
    SK_MSG = 16
    CGROUP_SOCK_ADDR = 18
    FLOW_DISSECTOR = 22
    CGROUP_SYSCTL = 23
    SK_LOOKUP = 30
    NETFILTER = 32


class Attach(IntEnum):
    """enum bpf_attach_type, as far as tests need it."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_EGRESS = 1
    CGROUP_INET_SOCK_CREATE = 2
    CGROUP_SOCK_OPS = 3
    SK_SKB_STREAM_VERDICT = 5
    CGROUP_DEVICE = 6
    SK_MSG_VERDICT = 7
    CGROUP_INET4_BIND = 8
    CGROUP_INET6_BIND = 9
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    FLOW_DISSECTOR = 17
    CGROUP_SYSCTL = 18
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    SK_LOOKUP = 36
    XDP = 37
    NETFILTER = 45
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55


class TcParent(IntEnum):
    """The two places of a clsact qdisc that hold filters."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


class RefusedError(OSError):
    """The kernel refused a program; `log` says what the verifier wrote, if anything."""

    def __init__(self, number: int, name: str, log: str) -> None:
        super().__init__(number, os.strerror(number), name)
        self.log = log


NAME_SIZE: Final = 15  # what BPF_OBJ_NAME_LEN leaves beside the final zero
ALLOW_MULTI: Final = 2
XDP_SKB_MODE: Final = 2

SOCKMAP: Final = 15

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280}
_MAP_CREATE: Final = 0
_PROG_LOAD: Final = 5
_OBJ_PIN: Final = 6
_OBJ_GET: Final = 7
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_GET_FD_BY_ID: Final = 13
_OBJ_GET_INFO_BY_FD: Final = 15
_PROG_QUERY: Final = 16
_LINK_CREATE: Final = 28
_LINK_DETACH: Final = 34
_LOG_SIZE: Final = 1 << 20
_MOST_PROGRAMS: Final = 64
_LOAD_TRIES: Final = 5  # the verifier answers EAGAIN when a signal is pending

# ---- instructions ----------------------------------------------------------------------------

R0: Final = 0
R1: Final = 1
R2: Final = 2


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)


def move(register: int, value: int) -> bytes:
    """Set a register to a number."""
    return _instruction(0xB7, register, value=value)


def load_word(dst: int, src: int, offset: int) -> bytes:
    """Read the 32 bits at src + offset."""
    return _instruction(0x61, dst, src, offset)


def jump_unless_equal(register: int, value: int, skip: int) -> bytes:
    """Skip so many instructions unless the register is that number."""
    return _instruction(0x55, register, offset=skip, value=value)


def call(helper: int) -> bytes:
    """Call a helper function of the kernel by its number."""
    return _instruction(0x85, value=helper)


EXIT: Final = _instruction(0x95)

_HARMLESS: Final = {
    ProgType.SOCKET_FILTER: 0,
    ProgType.SCHED_CLS: -1,  # TC_ACT_UNSPEC and TCX_NEXT: whoever comes next decides
    ProgType.XDP: 2,  # XDP_PASS
    ProgType.CGROUP_SKB: 1,
    ProgType.CGROUP_SOCK: 1,
    ProgType.SOCK_OPS: 1,
    ProgType.SK_SKB: 1,
    ProgType.CGROUP_DEVICE: 1,
    ProgType.SK_MSG: 1,
    ProgType.CGROUP_SOCK_ADDR: 1,
    ProgType.FLOW_DISSECTOR: 0,
    ProgType.CGROUP_SYSCTL: 1,
    ProgType.SK_LOOKUP: 1,
    ProgType.NETFILTER: 1,
}
TINY: Final = {kind: move(R0, answer) + EXIT for kind, answer in _HARMLESS.items()}
"""The smallest program of each type: it lets everything pass."""

# ---- bpf(2) ----------------------------------------------------------------------------------

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)


def prog_load(
    prog_type: int, instructions: bytes, name: str, expected_attach_type: int = 0
) -> int:
    """Load a program and return its file descriptor, or raise RefusedError."""
    if len(name) > NAME_SIZE:
        raise ValueError(f"program name {name!r} is longer than {NAME_SIZE} characters")
    try:
        return _prog_load(prog_type, instructions, name, expected_attach_type)
    except OSError as error:
        number = error.errno or 0
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return _prog_load(prog_type, instructions, name, expected_attach_type, log)
    except OSError as error:
        said = log.value.decode(errors="replace")
        raise RefusedError(number, name, said) from error


def _prog_load(
    prog_type: int,
    instructions: bytes,
    name: str,
    expected_attach_type: int,
    log: ctypes.Array[ctypes.c_char] | None = None,
) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "=IIQQIIQII16sII",
        prog_type,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0 if log is None else 1,
        0 if log is None else len(log),
        0 if log is None else ctypes.addressof(log),
        0,
        0,
        name.encode(),
        0,
        expected_attach_type,
    )
    for _ in range(_LOAD_TRIES - 1):
        with suppress(BlockingIOError):
            return _bpf(_PROG_LOAD, attr)
    return _bpf(_PROG_LOAD, attr)


def map_create(map_type: int, name: str) -> int:
    """Make a map of one entry, from a number to a number of 32 bits."""
    return _bpf(_MAP_CREATE, struct.pack("=IIIIIII16s", map_type, 4, 4, 1, 0, 0, 0, name.encode()))


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """Attach by a link (target: cgroup or netns descriptor, or ifindex); closing it detaches."""
    return _bpf(
        _LINK_CREATE, struct.pack("=IIIIQQQQ", prog_fd, target, attach_type, flags, 0, 0, 0, 0)
    )


def netfilter_link(prog_fd: int, family: int, hook: int, priority: int) -> int:
    """Attach to a netfilter hook of this network namespace; closing the link detaches."""
    target = (family, hook, priority, 0)
    return _bpf(
        _LINK_CREATE, struct.pack("=IIIIIIiIQQ", prog_fd, 0, Attach.NETFILTER, 0, *target, 0, 0)
    )


def link_detach(link_fd: int) -> None:
    """Detach what the link holds at once, whoever else keeps the link."""
    _bpf(_LINK_DETACH, struct.pack("=I", link_fd))


def xdp_attach(ifindex: int, prog_fd: int, flags: int = XDP_SKB_MODE) -> int:
    """Attach an XDP program by a link; closing it detaches."""
    return link_create(prog_fd, ifindex, Attach.XDP, flags)


def prog_attach(target_fd: int, prog_fd: int, attach_type: int, flags: int = ALLOW_MULTI) -> None:
    """Attach to a cgroup the old way, beside programs of others; it lasts until detached."""
    _bpf(_PROG_ATTACH, struct.pack("=IIIIII", target_fd, prog_fd, attach_type, flags, 0, 0))


def prog_detach(target_fd: int, prog_fd: int, attach_type: int) -> None:
    """Undo prog_attach."""
    _bpf(_PROG_DETACH, struct.pack("=IIIIII", target_fd, prog_fd, attach_type, 0, 0, 0))


def prog_query(target: int, attach_type: int) -> list[int]:
    """Ids of the programs attached there (target: descriptor, or ifindex for tcx)."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    layout = "=IIIIQIIQQQQ"
    attr = ctypes.create_string_buffer(
        struct.pack(
            layout, target, attach_type, 0, 0, ctypes.addressof(ids), len(ids), 0, 0, 0, 0, 0
        ),
        struct.calcsize(layout),
    )
    try:
        _bpf(_PROG_QUERY, attr)
    except FileNotFoundError:
        return []
    (count,) = struct.unpack_from("=I", attr, 24)
    return list(ids[:count])


def prog_by_id(prog_id: int) -> int:
    """Open a loaded program; FileNotFoundError if it is gone."""
    return _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", prog_id, 0, 0))


def prog_name(prog_id: int) -> str:
    """Name of a loaded program; FileNotFoundError if it is gone."""
    fd = prog_by_id(prog_id)
    info = ctypes.create_string_buffer(240)
    try:
        _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)))
    finally:
        os.close(fd)
    return info.raw[64:80].rstrip(b"\0").decode()


def obj_pin(fd: int, path: Path) -> None:
    """Give a program or link a name in a bpffs, so that it outlives the process."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    _bpf(_OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), fd, 0))


def obj_get(path: Path) -> int:
    """Open what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))


def _bpf(command: int, attr: bytes | ctypes.Array[ctypes.c_char]) -> int:
    buffer = attr if isinstance(attr, ctypes.Array) else ctypes.create_string_buffer(attr)
    size = len(attr)
    number = _SYSCALL[platform.machine()]
    answer = int(_libc.syscall(number, command, ctypes.addressof(buffer), size))
    if answer < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), f"bpf command {command}")
    return answer


# ---- tc filters by netlink -------------------------------------------------------------------

_NEW_QDISC: Final = 36
_NEW_FILTER: Final = 44
_DEL_FILTER: Final = 45
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_REPLACE: Final = 0x100
_EXCLUSIVE: Final = 0x200
_CREATE: Final = 0x400
_CLSACT: Final = 0xFFFFFFF1
_ALL_PROTOCOLS: Final = socket.htons(3)
_KIND: Final = 1
_OPTIONS: Final = 2
_BPF_FD: Final = 6
_BPF_NAME: Final = 7
_BPF_FLAGS: Final = 8
_DIRECT_ACTION: Final = 1


def tc_clsact(ifindex: int) -> None:
    """Give the device a clsact qdisc; fine if it has one."""
    body = _tcmsg(ifindex, 0xFFFF0000, _CLSACT, 0) + _attribute(_KIND, b"clsact\0")
    try:
        _request(_NEW_QDISC, _CREATE | _EXCLUSIVE, body)
    except FileExistsError:
        return


def tc_attach(
    ifindex: int, parent: TcParent, prog_fd: int, name: str, *, priority: int = 1, handle: int = 1
) -> None:
    """Attach a direct-action filter to a device with clsact, or replace it."""
    options = (
        _attribute(_BPF_FD, struct.pack("=I", prog_fd))
        + _attribute(_BPF_NAME, name.encode() + b"\0")
        + _attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    body = (
        _tcmsg(ifindex, handle, parent, priority << 16 | _ALL_PROTOCOLS)
        + _attribute(_KIND, b"bpf\0")
        + _attribute(_OPTIONS, options)
    )
    _request(_NEW_FILTER, _CREATE | _REPLACE, body)


def tc_detach(ifindex: int, parent: TcParent, *, priority: int = 1, handle: int = 1) -> None:
    """Remove a filter; fine if it, its qdisc or the device is gone."""
    body = _tcmsg(ifindex, handle, parent, priority << 16 | _ALL_PROTOCOLS)
    try:
        _request(_DEL_FILTER, 0, body + _attribute(_KIND, b"bpf\0"))
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.EINVAL, errno.ENODEV}:
            raise


def _tcmsg(ifindex: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxHiIII", socket.AF_UNSPEC, 0, ifindex, handle, parent, info)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def _request(message: int, flags: int, body: bytes) -> None:
    header = struct.pack("=IHHII", 16 + len(body), message, _REQUEST | _ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        netlink.bind((0, 0))
        netlink.send(header + body)
        answer = netlink.recv(1 << 17)
    (problem,) = struct.unpack_from("=i", answer, 16)
    if problem:
        raise OSError(-problem, os.strerror(-problem), f"netlink message {message}")
