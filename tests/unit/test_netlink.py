"""Netlink packed by hand: dumps, attributes, and whatever bytes there may be."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.netlink_messages import DONE, INTERRUPTED, attribute, link, message
from trialboot import netlink


def test_messages_of_several_datagrams_are_one_dump() -> None:
    first = message(16, b"one") + message(16, b"four")
    second = message(16, b"last") + DONE

    assert netlink.parse_dump([first, second]) == (b"one", b"four", b"last")


@pytest.mark.parametrize(
    ("datagrams", "problem"),
    [
        ([message(16, b"body", flags=0x12), DONE], errno.EINTR),
        ([message(16, b"body"), message(3, struct.pack("=i", 0), flags=0x12)], errno.EINTR),
        ([message(2, struct.pack("=i", -errno.EPERM))], errno.EPERM),
        ([message(16, b"body"), message(3, struct.pack("=i", -errno.ENOMEM))], errno.ENOMEM),
        ([message(16, b"body")], errno.EBADMSG),
        ([], errno.EBADMSG),
        ([b"\x10\0\0"], errno.EBADMSG),
        ([message(16, b"longer body")[:-8]], errno.EBADMSG),
        ([struct.pack("=IHHII", 4, 16, 2, 1, 0)], errno.EBADMSG),
    ],
    ids=[
        "interrupted", "interrupted at the end", "refused", "broken off with an error",
        "no end", "no answer", "half a header", "half a body", "a length below the header's",
    ],
)  # fmt: skip
def test_a_dump_that_is_not_whole_is_an_error(datagrams: list[bytes], problem: int) -> None:
    with pytest.raises(OSError, match=r"netlink|changed|cut short") as caught:
        netlink.parse_dump(datagrams)

    assert caught.value.errno == problem


def test_an_acknowledgement_ends_a_dump() -> None:
    assert netlink.parse_dump([message(2, struct.pack("=i", 0))]) == ()


@pytest.mark.parametrize("chain", [b"\x05", b"\x08\0\x01\0abc", b"\x03\0\x01\0", b"\0\0\0\0"])
def test_attributes_cut_short_are_an_error(chain: bytes) -> None:
    with pytest.raises(OSError, match="cut short"):
        netlink.parse_attributes(chain)


def test_attributes_lose_their_flags_and_padding() -> None:
    chain = attribute(0x8000 | 2, b"abc") + attribute(3, b"")

    assert netlink.parse_attributes(chain) == {2: b"abc", 3: b""}


def test_attributes_may_begin_behind_a_header() -> None:
    assert netlink.parse_attributes(b"head" + attribute(3, b"abcd"), 4) == {3: b"abcd"}


def test_a_link_has_its_name_whatever_bytes_it_is_of() -> None:
    assert netlink.link_name(link(7, b"v\xff\x01", {18: b"nonsense"})) == (7, b"v\xff\x01")


def test_a_link_without_a_name_has_an_empty_one() -> None:
    assert netlink.link_name(struct.pack("=BxHiII", 0, 1, 7, 0, 0)) == (7, b"")


@pytest.mark.parametrize("times", [1, 4])
def test_an_interrupted_dump_is_asked_for_again_after_a_pause(times: int) -> None:
    answers = [[message(16, b"torn", INTERRUPTED)]] * times + [[message(16, b"whole"), DONE]]
    pauses: list[float] = []

    found = netlink.dump(lambda _request: answers.pop(0), 18, b"", pauses.append)

    assert found == (b"whole",)
    assert len(pauses) == times


def test_a_dump_interrupted_five_times_is_given_up() -> None:
    asked: list[bytes] = []

    def interrupted(request: bytes) -> list[bytes]:
        asked.append(request)
        return [message(16, b"torn", INTERRUPTED)]

    with pytest.raises(InterruptedError):
        netlink.dump(interrupted, 18, b"body", lambda _seconds: None)
    assert len(asked) == 5
    assert asked[0] == struct.pack("=IHHII", 20, 18, 0x301, 1, 0) + b"body"


def test_what_is_no_dump_asks_for_the_acknowledgement_that_ends_it() -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        asked.append(request)
        return [message(88, b"told"), message(2, struct.pack("=i", 0))]

    assert netlink.ask(answer, 90, b"body") == (b"told",)
    assert asked == [struct.pack("=IHHII", 20, 90, 0x5, 1, 0) + b"body"]


def test_an_error_is_not_asked_for_again() -> None:
    def refused(_request: bytes) -> list[bytes]:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    with pytest.raises(OSError, match="No buffer space") as caught:
        netlink.dump(refused, 18, b"", lambda _seconds: pytest.fail("it waited"))
    assert caught.value.errno == errno.ENOBUFS


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_datagrams_are_a_dump_or_an_error(datagrams: list[bytes]) -> None:
    try:
        bodies = netlink.parse_dump(datagrams)
    except OSError:
        return
    assert all(isinstance(body, bytes) for body in bodies)


@given(st.binary(max_size=80), st.integers(0, 8))
def test_any_chain_is_attributes_or_an_error(chain: bytes, at: int) -> None:
    try:
        found = netlink.parse_attributes(chain, at)
    except OSError:
        return
    assert sum(map(len, found.values())) <= len(chain)
