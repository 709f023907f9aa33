"""What of reachability needs no network; the rest is tried in real namespaces (tests/host)."""

import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.proof import Means, Way
from trialboot.host import Host
from trialboot.readers.reachability import Door, checksum, reach

NOWHERE = Door(index=0, gateway="")


def test_a_checksum_is_that_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"") == 0xFFFF


@given(st.binary().filter(lambda packet: len(packet) % 2 == 0))
def test_a_packet_with_its_checksum_sums_to_nothing(packet: bytes) -> None:
    assert checksum(packet + checksum(packet).to_bytes(2, "big")) == 0


def test_connections_are_tried_at_once_accepted_and_refused_ones_are_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ways = [
            Way(means=Means.TCP, address="127.0.0.1", port=made.getsockname()[1])
            for made in (server, unused)
        ]
        assert reach(Host(), ways, NOWHERE, 5.0) == dict.fromkeys(ways, "")


def test_what_a_pod_does_not_tell_is_not_waited_for() -> None:
    began = time.monotonic()
    told = reach(Host(), [Way(means=Means.SERVICE), Way(means=Means.GATEWAY)], NOWHERE, 30.0)
    assert list(told.values()) == [
        "no process of a pod was told its address",
        "the pod has no gateway",
    ]
    assert time.monotonic() - began < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need CAP_NET_RAW")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_echo_comes_back(address: str) -> None:
    way = Way(means=Means.PING, address=address)
    if address == "::1" and not os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        pytest.skip("this kernel has no IPv6")
    assert reach(Host(), [way], NOWHERE, 5.0) == {way: ""}
