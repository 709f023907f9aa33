"""bpf(2) against an injected kernel: rooms, lists, races, names."""

import ctypes
import errno
import os

import pytest

from tests.fakes.bpf_kernel import FakeKernel
from trialboot import bpf

INET4_CONNECT = 10
KINDS = {
    bpf.PROGRAMS: FakeKernel(programs={7: "seven", 9: "nine"}),
    bpf.MAPS: FakeKernel(maps={7: (1, "seven"), 9: (1, "nine")}),
    bpf.LINKS: FakeKernel(bpf_links={7: b"7", 9: b"9"}),
}


@pytest.mark.parametrize("count", [64, 65, 4096])
def test_room_is_made_for_many_programs(count: int) -> None:
    kernel = FakeKernel(attached={INET4_CONNECT: list(range(1, count + 1))})

    assert bpf.query(kernel.syscall, 3, INET4_CONNECT) == tuple(range(1, count + 1))


def test_room_is_not_made_without_end() -> None:
    kernel = FakeKernel(attached={INET4_CONNECT: list(range(1, 5000))})

    with pytest.raises(OSError, match="No space left"):
        bpf.query(kernel.syscall, 3, INET4_CONNECT)


@pytest.mark.parametrize("kind", KINDS)
def test_all_objects_of_a_kind_are_listed(kind: bpf.Kind) -> None:
    assert list(bpf.ids(KINDS[kind].syscall, kind)) == [7, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_the_kernel_does_not_know_has_none(kind: bpf.Kind) -> None:
    kernel = FakeKernel(refused={-kind.list: errno.EINVAL})

    assert list(bpf.ids(kernel.syscall, kind)) == []


def test_a_list_that_may_not_be_read_is_an_error() -> None:
    kernel = FakeKernel(refused={-bpf.MAP_GET_NEXT_ID: errno.EPERM})

    with pytest.raises(PermissionError):
        list(bpf.ids(kernel.syscall, bpf.MAPS))


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_went_away_is_not_described(kind: bpf.Kind) -> None:
    assert bpf.described(KINDS[kind].syscall, kind, 8) is None


def test_an_object_is_described_and_closed() -> None:
    kernel = FakeKernel({2: "in"})

    info = bpf.described(kernel.syscall, bpf.PROGRAMS, 2)

    assert info is not None
    assert (len(info), bpf.program_name(info)) == (240, "in")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.descriptors[0])


def test_a_program_is_closed_even_if_it_tells_nothing() -> None:
    kernel = FakeKernel({2: "in"}, refused={-bpf.OBJ_GET_INFO_BY_FD: errno.EPERM})

    with pytest.raises(PermissionError):
        bpf.described(kernel.syscall, bpf.PROGRAMS, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.descriptors[0])


@pytest.mark.parametrize(
    ("told", "base"),
    [
        (b"cilium_policy_0", "cilium_policy"),
        (b"cilium_ct4_0012", "cilium_ct4"),
        (b"cilium_calls_33", "cilium_calls"),
        (b"cali_v4_ct3", "cali_v4_ct3"),
        (b"cali_v4_nat_fe3", "cali_v4_nat_fe3"),
        (b"_7", ""),
        (b"\xff\x01", "\ufffd\x01"),
    ],
)
def test_a_maps_name_has_no_number_at_its_end(told: bytes, base: str) -> None:
    assert bpf.map_name(bytes(24) + told.ljust(16, b"\0") + bytes(48)) == base


def test_a_processor_without_a_number_for_bpf_is_refused_not_guessed() -> None:
    with pytest.raises(OSError, match="vax") as caught:
        bpf.bpf(bpf.PROG_QUERY, ctypes.create_string_buffer(64), "vax")
    assert caught.value.errno == errno.ENOSYS


def test_the_true_system_call_tells_its_errno() -> None:
    with pytest.raises(OSError, match=r"bpf\(2\) command 999"):
        bpf.bpf(999, ctypes.create_string_buffer(64))
