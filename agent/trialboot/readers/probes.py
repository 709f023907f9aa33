"""Asks the kernel the small questions that CNIs ask it: each by raw bytecode, let go at once.

A no to one of them is a note, never a verdict: which of them a CNI needs is the CNI's affair.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trialboot import confined
from trialboot.bpf import RefusedError, Syscall, bpf, create_map, load_program
from trialboot.core.facts import Unknown
from trialboot.core.loadtest import Accepted, Probe, Refused
from trialboot.errors import HostError
from trialboot.host import Host

_SCHED_CLS, _CGROUP_SOCK, _SOCK_ADDR = 3, 9, 18  # BPF_PROG_TYPE_*
_INET4_CONNECT, _UDP4_SENDMSG = 10, 14  # BPF_CGROUP_*
_PROG_ARRAY: Final = 3
_TAIL_CALL, _SET_RETVAL = 12, 187  # BPF_FUNC_*
_BTF: Final = "/sys/kernel/btf/vmlinux"
_MARK_RULE: Final = (
    *("ip6tables", "-w", "5", "-t", "mangle", "-A", "OUTPUT"),
    *("-j", "MARK", "--set-xmark", "0x4000/0x4000"),
)
_MARK_REFUSED: Final = "not supported"
_MARK_SECONDS: Final = 10.0
_MARK_MEMORY: Final = 1 << 30
_LINES: Final = 6


def _instruction(code: int, register: int = 0, *, source: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | register, 0, number)


def _move(register: int, number: int) -> bytes:
    return _instruction(0xB7, register, number=number)


def _call(function: int) -> bytes:
    return _instruction(0x85, number=function)


def _map_address(register: int, descriptor: int) -> bytes:
    """Put a map's address into a register: BPF_PSEUDO_MAP_FD, two instructions wide."""
    return _instruction(0x18, register, source=1, number=descriptor) + _instruction(0)


_EXIT: Final = _instruction(0x95)


def read_probes(host: Host, syscall: Syscall = bpf) -> tuple[Probe, ...]:
    """Ask them all. Takes the capabilities to load programs."""
    asked: tuple[tuple[str, Callable[[], None]], ...] = (
        ("a tc program", lambda: _tc_program(syscall)),
        # cilium/cilium: pkg/datapath/linux/probes; kernels from 7.2 on want a number there
        ("bpf_set_retval as Cilium asks for it", lambda: _set_retval(syscall)),
        # projectcalico/calico#11302: refused from 6.12.57 on
        ("one prog array for two kinds of sock_addr", lambda: _shared_array(syscall)),
    )
    return (
        *(Probe(name=name, result=_asked(question)) for name, question in asked),
        Probe(name="BTF of the kernel", result=_btf(host)),
        # rancher/rke2#7438, canonical/microk8s#4961
        Probe(name="MARK of ip6tables", result=_ip6tables_mark(host)),
    )


def _asked(question: Callable[[], None]) -> Accepted | Refused | Unknown:
    try:
        question()
    except RefusedError as error:
        lines = [line for line in error.log.splitlines() if line.strip()]
        if not lines:
            return Unknown(f"the kernel said {error.strerror}, and its verifier nothing")
        word = errno.errorcode.get(error.errno or 0, str(error.errno))
        return Refused(program="probe", error=word, log=tuple(lines[-_LINES:]))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")
    return Accepted()


def _tc_program(syscall: Syscall) -> None:
    os.close(load_program(syscall, _SCHED_CLS, _move(0, -1) + _EXIT))


def _set_retval(syscall: Syscall) -> None:
    code = _call(_SET_RETVAL) + _move(0, 0) + _EXIT
    os.close(load_program(syscall, _CGROUP_SOCK, code))


def _shared_array(syscall: Syscall) -> None:
    with _closed(create_map(syscall, _PROG_ARRAY, key=4, value=4, entries=1)) as array:
        code = _map_address(2, array) + _move(3, 0) + _call(_TAIL_CALL) + _move(0, 1) + _EXIT
        with _closed(load_program(syscall, _SOCK_ADDR, code, expected_attach=_INET4_CONNECT)):
            os.close(load_program(syscall, _SOCK_ADDR, code, expected_attach=_UDP4_SENDMSG))


@contextmanager
def _closed(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _btf(host: Host) -> Accepted | Refused:
    if host.exists(_BTF):
        return Accepted()
    return Refused(program="probe", error="ENOENT", log=(f"there is no {_BTF}",))


def _ip6tables_mark(host: Host) -> Accepted | Refused | Unknown:
    """Add a rule in a network namespace that vanishes with the process that added it."""

    def add() -> bytes:
        host.run(_MARK_RULE, timeout=_MARK_SECONDS)
        return b"added"

    try:
        confined.call(
            add, seconds=_MARK_SECONDS, memory=_MARK_MEMORY, namespaces=confined.NEW_NETWORK
        )
    except HostError as error:
        if _MARK_REFUSED in str(error):
            return Refused(program="probe", error="EINVAL", log=(str(error),))
        return Unknown(str(error))
    return Accepted()
