"""devlink's answers are taken apart, and whatever the kernel says is never a traceback."""

import errno
import os
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Device
from trialboot.readers.equipment.devlink import is_end, parse_info, read_devlink

FAMILY = 0x15
NESTED = 0x8000


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, content: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(content), kind, 2, 1, 0) + content


def version(kind: int, name: str, value: str) -> bytes:
    return attribute(kind | NESTED, text(103, name) + text(104, value))


def device(*versions: bytes) -> bytes:
    head = struct.pack("=BBH", 51, 1, 0) + text(1, "pci") + text(2, "0000:3b:00.0")
    return message(FAMILY, head + text(98, "ice") + b"".join(versions))


def ended(kind: int, code: int = 0) -> bytes:
    return message(kind, struct.pack("=i", code))


FOUND = message(0x10, struct.pack("=BBH", 1, 2, 0) + attribute(1, struct.pack("=H", FAMILY)))
DONE = ended(3)
WAITING = device(
    version(100, "board.id", "K65390"),
    version(101, "fw.mgmt", "7.2.1"),
    version(101, "fw.undi", "1.3"),
    version(102, "fw.mgmt", "7.4.0"),
    version(102, "fw.undi", "1.3"),
    version(102, "fw.app", "9"),
)
NAME = "pci/0000:3b:00.0"


def kernel(*answers: bytes | int) -> Callable[[bytes], bytes]:
    """Stand for generic netlink: one answer after the other, or the errno of a socket."""
    left = list(answers)

    def exchange(request: bytes) -> bytes:
        assert len(request) == struct.unpack_from("=I", request)[0]
        answer = left.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    return exchange


def test_what_waits_in_a_device_stands_beside_what_runs() -> None:
    assert read_devlink(kernel(FOUND + ended(2), WAITING + DONE)) == (
        (
            Device(kind="devlink", name=f"{NAME} fw.mgmt", running="7.2.1", stored="7.4.0"),
            Device(kind="devlink", name=f"{NAME} fw.undi", running="1.3"),
        ),
        (),
    )


def test_a_kernel_without_devlink_has_no_such_devices() -> None:
    assert read_devlink(kernel(ended(2, -errno.ENOENT))) == ((), ())


def test_a_host_without_such_devices_has_none() -> None:
    assert read_devlink(kernel(FOUND, DONE)) == ((), ())


def test_an_end_without_a_code_is_a_good_end() -> None:
    assert parse_info(WAITING + message(3, b""), FAMILY)[0].running == "7.2.1"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((errno.EPERM,), "devlink: Operation not permitted"),
        ((ended(2, -errno.EPERM),), "devlink: Operation not permitted"),
        ((FOUND, ended(3, -errno.EIO)), "devlink: Input/output error"),
        ((FOUND, ended(2, -(1 << 31))), "devlink: error 2147483648"),
        ((FOUND, errno.ETIMEDOUT), "devlink: Connection timed out"),
        ((b"",), "devlink: the kernel's answer is cut short"),
        ((FOUND[:-1],), "devlink: the kernel's answer is cut short"),
        ((FOUND, WAITING), "devlink: the kernel's answer is cut short"),
        ((FOUND, device(b"\x03\0\x65\0") + DONE), "devlink: the kernel's answer is cut short"),
        ((message(0x10, b""),), "devlink: the kernel's answer is cut short"),
    ],
)
def test_what_goes_wrong_is_a_sentence(answers: tuple[bytes | int, ...], why: str) -> None:
    assert read_devlink(kernel(*answers)) == ((), (why,))


def test_a_socket_that_waited_too_long_says_so() -> None:
    def slow(_: bytes) -> bytes:
        raise TimeoutError("timed out")

    assert read_devlink(slow) == ((), ("devlink: timed out",))


@pytest.mark.parametrize(
    ("piece", "answer"),
    [(b"", False), (WAITING, False), (WAITING + DONE, True), (ended(2), True), (b"123", True)],
)
def test_the_end_of_an_answer_is_seen(piece: bytes, answer: bool) -> None:  # noqa: FBT001  a column of the table
    assert is_end(piece) is answer


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    raw = draw(st.binary(max_size=120))
    damaged = bytearray(WAITING + DONE)
    for place in draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = draw(st.integers(0, 255))
    return draw(st.sampled_from([raw, message(FAMILY, raw) + DONE, bytes(damaged), DONE + raw]))


@given(answers())
def test_any_answer_is_devices_or_a_sentence(answer: bytes) -> None:
    assert is_end(answer) in {True, False}
    for said in ((answer, DONE), (FOUND, answer)):
        found, unread = read_devlink(kernel(*said))
        assert all(row.kind == "devlink" for row in found)
        assert not (found and unread)
