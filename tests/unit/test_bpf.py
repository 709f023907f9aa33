"""bpf(2) against an injected kernel: rooms, lists, races, names."""

import ctypes
import errno
import os
import struct

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


def test_a_link_that_is_only_being_made_is_not_there_yet() -> None:
    kernel = FakeKernel(bpf_links={7: b"7"}, refused={-bpf.LINKS.open: errno.EAGAIN})

    assert bpf.described(kernel.syscall, bpf.LINKS, 7) is None


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


def _open() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def test_the_tags_of_all_programs_are_walked_also_where_one_goes_away() -> None:
    def kernel(command: int, attributes: bpf.Attributes) -> int:
        (id_,) = struct.unpack_from("=I", attributes)
        if command == bpf.PROG_GET_NEXT_ID:
            if id_ == 3:
                raise FileNotFoundError(errno.ENOENT, "gone")
            struct.pack_into("=I", attributes, 4, id_ + 1)
            return 0
        if command == bpf.PROG_GET_FD_BY_ID:
            if id_ == 2:
                raise FileNotFoundError(errno.ENOENT, "gone")
            return _open()
        assert command == bpf.OBJ_GET_INFO_BY_FD
        (info,) = struct.unpack_from("=Q", attributes, 8)
        ctypes.memmove(info + 8, b"\xaa" * 8, 8)
        return 0

    assert list(bpf.loaded_tags(kernel)) == ["aa" * 8] * 2


def test_an_error_on_the_walk_is_raised() -> None:
    def kernel(_command: int, _attributes: bpf.Attributes) -> int:
        raise PermissionError(errno.EPERM, "no")

    with pytest.raises(PermissionError):
        list(bpf.loaded_tags(kernel))


def test_a_refusal_is_asked_for_once_more_with_a_log() -> None:
    asked: list[int] = []

    def kernel(command: int, attributes: bpf.Attributes) -> int:
        assert command == bpf.PROG_LOAD
        kind, count, _, _, level, size, log = struct.unpack_from("=IIQQIIQ", attributes)
        asked.append(level)
        assert (kind, count, bool(size)) == (3, 2, bool(level))
        if level:
            ctypes.memmove(log, b"R1 is not a scalar\n\0", 20)
        raise OSError(errno.EINVAL, "Invalid argument")

    with pytest.raises(bpf.RefusedError) as refused:
        bpf.load_program(kernel, 3, bytes(16))
    assert (refused.value.errno, refused.value.log) == (errno.EINVAL, "R1 is not a scalar\n")
    assert asked == [0, 1]


def test_a_verifier_that_was_interrupted_is_asked_again() -> None:
    left = [BlockingIOError()] * 3

    def kernel(_command: int, attributes: bpf.Attributes) -> int:
        if left:
            raise left.pop()
        assert struct.unpack_from("=I", attributes, 68) == (14,)
        return 7

    assert bpf.load_program(kernel, 18, bytes(8), expected_attach=14) == 7


def test_a_map_is_made_as_it_is_asked_for() -> None:
    def kernel(command: int, attributes: bpf.Attributes) -> int:
        assert command == bpf.MAP_CREATE
        assert struct.unpack_from("=IIII", attributes) == (3, 4, 4, 1)
        return 5

    assert bpf.create_map(kernel, 3, key=4, value=4, entries=1) == 5
