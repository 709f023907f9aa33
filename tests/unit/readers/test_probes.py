"""The questions to the kernel: a no with the verifier's word is one, all else is no verdict."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from trialboot.bpf import MAP_CREATE, Attributes, Syscall
from trialboot.core.facts import Unknown
from trialboot.core.loadtest import Accepted, Refused
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.probes import read_probes

MARK = "MARK of ip6tables"
SHARED = "one prog array for two kinds of sock_addr"
TC = "a tc program"


def willing(_command: int, _attributes: Attributes) -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def tables(answer: str = "") -> Callable[..., str]:
    def run(_argv: Sequence[str], *, timeout: float) -> str:
        assert timeout <= 10
        if answer:
            raise HostError(answer)
        return ""

    return run


def asked(
    root: Path, syscall: Syscall = willing, answer: str = ""
) -> dict[str, Accepted | Refused | Unknown]:
    host = Host(root=root, run=tables(answer))
    return {probe.name: probe.result for probe in read_probes(host, syscall)}


def test_a_willing_kernel_takes_all_that_needs_no_root(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").touch()
    found = asked(tmp_path)
    assert {result for name, result in found.items() if name != MARK} == {Accepted()}


def test_a_kernel_without_btf_says_so(tmp_path: Path) -> None:
    found = asked(tmp_path)["BTF of the kernel"]
    assert isinstance(found, Refused)
    assert found.log == ("there is no /sys/kernel/btf/vmlinux",)


def test_the_second_program_of_a_shared_array_may_be_refused(tmp_path: Path) -> None:
    def kernel(command: int, attributes: Attributes) -> int:
        attach = struct.unpack_from("=I", attributes, 68) if len(attributes) >= 72 else (0,)
        if command != MAP_CREATE and attach == (14,):
            (log,) = struct.unpack_from("=Q", attributes, 32)
            if log:
                ctypes.memmove(log, b"processed 5 insns\n\0", 19)
            raise OSError(errno.EINVAL, "Invalid argument")
        return willing(command, attributes)

    found = asked(tmp_path, kernel)
    assert found[SHARED] == Refused(program="probe", error="EINVAL", log=("processed 5 insns",))
    assert found[TC] == Accepted()


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EPERM, "Operation not permitted", "bpf(2)"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "bpf(2)"),
    ],
)
def test_without_a_word_of_the_verifier_there_is_no_verdict(
    tmp_path: Path, error: OSError
) -> None:
    def kernel(_command: int, _attributes: Attributes) -> int:
        raise error

    assert isinstance(asked(tmp_path, kernel)[TC], Unknown)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", Accepted),
        ("Extension MARK revision 0 not supported, missing kernel module?", Refused),
        ("«ip6tables» cannot be started: No such file or directory", Unknown),
        ("Permission denied (you must be root)", Unknown),
    ],
)
def test_only_a_missing_extension_is_a_no_of_ip6tables(
    tmp_path: Path, answer: str, kind: type
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it asks in a network namespace of its own")
    assert isinstance(asked(tmp_path, answer=answer)[MARK], kind)
