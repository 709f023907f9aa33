"""rtnetlink messages become facts; what cannot be read becomes Unknown."""

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.netlink_messages import (
    DONE,
    INTERRUPTED,
    LINK,
    attribute,
    attributes,
    link,
    message,
    refusal,
)
from trialboot.core.facts import (
    Address,
    Attachment,
    Link,
    Neighbour,
    Network,
    Route,
    Rule,
    Unknown,
)
from trialboot.host import Host
from trialboot.readers.network import (
    ADDRESSES,
    NEIGHBOURS,
    ROUTES,
    RULES,
    parse_address,
    parse_link,
    parse_neighbour,
    parse_route,
    parse_rule,
    read_network,
)

NAMES = {1: "lo", 2: "eth0", 3: "br0"}
Found = dict[int, bytes | int]


def ip(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def address(found: Found, index: int = 2, scope: int = 0, family: int = 2) -> bytes:
    return struct.pack("=BBBBI", family, 24, 0x80, scope, index) + attributes(found)


def route(
    found: Found,
    *,
    family: int = 2,
    length: int = 0,
    table: int = 254,
    protocol: int = 3,
    kind: int = 1,
    flags: int = 0,
) -> bytes:
    head = struct.pack("=8BI", family, length, 9, 9, table, protocol, 253, kind, flags)
    return head + attributes(found)


def rule(
    found: Found,
    *,
    family: int = 2,
    to: int = 0,
    source: int = 0,
    table: int = 254,
    action: int = 1,
) -> bytes:
    head = struct.pack("=8BI", family, to, source, 9, table, 9, 9, action, 0)
    return head + attributes(found)


def neighbour(found: Found, *, family: int = 2, index: int = 2, state: int = 0x80) -> bytes:
    return struct.pack("=BBHiHBB", family, 0, 0, index, state, 0, 1) + attributes(found)


def a_route(**changed: object) -> Route:
    usual = {"family": 2, "destination": "default", "table": 254, "link": "eth0", "gateway": ""}
    values: dict[str, object] = {**usual, "protocol": 3, "kind": "unicast", **changed}
    return Route(**values)  # type: ignore[arg-type]


# ---- links and addresses -------------------------------------------------------------------


def test_a_link_is_told_whole() -> None:
    found: Found = {
        1: b"\x02\0\0\0\0\x01",
        4: 1400,
        10: 3,
        16: b"\x06",
        18: attribute(1, b"veth\0"),
        37: 0,
        54: b"\x02\0\0\0\0\x02",
        56: b"0000:3b:00.0\0",
    }

    assert parse_link(link(2, b"eth0", found), NAMES, lambda name: name.decode().upper()) == (
        Link(
            name="eth0",
            kind="veth",
            mac="02:00:00:00:00:01",
            mtu=1400,
            up=True,
            carrier=True,
            master="br0",
            permanent_mac="02:00:00:00:00:02",
            bus="0000:3b:00.0",
            mac_origin="ETH0",
            elsewhere=True,
        ),
    )


def test_a_plain_device_has_only_its_name() -> None:
    (found,) = parse_link(link(2, b"tun0"), NAMES)

    told = (found.kind, found.mac, found.mtu, found.master, found.permanent_mac, found.bus)
    assert told == ("", "", 0, "", "", "")
    assert not found.elsewhere
    assert found.name == "tun0"


def test_a_name_may_be_of_any_bytes() -> None:
    assert parse_link(link(2, b"v\xff\x01"), NAMES)[0].name == "v\ufffd\x01"


@pytest.mark.parametrize(
    ("state", "carrier"),
    [(0, True), (1, False), (2, False), (3, False), (4, False), (5, False), (6, True)],
    ids=["unknown", "not present", "down", "lower layer down", "testing", "dormant", "up"],
)
def test_carrier_follows_the_operational_state(state: int, carrier: bool) -> None:  # noqa: FBT001
    assert parse_link(link(2, b"eth0", {16: bytes([state])}), NAMES)[0].carrier is carrier


@pytest.mark.parametrize(("flags", "up"), [(0x1003, True), (0x1002, False)])
def test_up_is_the_administrators_flag(flags: int, up: bool) -> None:  # noqa: FBT001
    assert parse_link(link(2, b"eth0", flags=flags), NAMES)[0].up is up


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (address({1: ip("10.0.0.2"), 2: ip("10.0.0.1")}), ["10.0.0.1/24"]),
        (address({1: ip("fe80::1")}, family=10), ["fe80::1/24"]),
        (address({2: ip("10.0.0.1")}, index=9), []),
        (address({2: b"other"}, family=28), []),
    ],
    ids=["the own end of a point-to-point address counts", "an IPv6 address has only the one",
         "its link went away", "a family that nobody asked for"],
)  # fmt: skip
def test_a_message_is_the_address_that_it_tells(body: bytes, told: list[str]) -> None:
    assert [one.address for one in parse_address(body, NAMES)] == told


def test_an_address_has_link_and_scope() -> None:
    body = address({2: ip("10.0.0.1")}, scope=253)

    assert parse_address(body, NAMES) == (Address(link="eth0", address="10.0.0.1/24", scope=253),)


# ---- routes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "routes"),
    [
        (route({5: ip("10.0.0.1"), 4: 2}), [a_route(gateway="10.0.0.1")]),
        (
            route({1: ip("fd01::"), 5: ip("fe80::1"), 4: 2}, family=10, length=64),
            [a_route(family=10, destination="fd01::/64", gateway="fe80::1")],
        ),
        (route({15: 500, 4: 2}, table=252), [a_route(table=500)]),
        (route({4: 2}, table=77), [a_route(table=77)]),
        (route({}, kind=6), [a_route(link="", kind="blackhole")]),
        (route({4: 2}, kind=42), [a_route(kind="type 42")]),
        (
            route({18: struct.pack("=H", 10) + ip("fe80::2"), 4: 2}),
            [a_route(gateway="fe80::2")],
        ),
        (route({15: 255, 4: 1}, kind=2), [a_route(table=255, link="lo", kind="local")]),
        (
            route({15: 2004, 4: 1}, protocol=2, kind=2),
            [a_route(table=2004, link="lo", kind="local", protocol=2)],
        ),
        (route({4: 9}), []),
        (route({4: 2}, flags=0x200), []),
        (route({4: 2}, family=128), []),
        *((route({15: 255, 4: 2}, protocol=2, kind=derived), []) for derived in (2, 3, 4, 5)),
    ],
    ids=[
        "no destination is the default",
        "IPv6",
        "the long table number wins",
        "the short table number where it is alone",
        "a blackhole goes over no link",
        "an unheard-of kind is told by number",
        "a gateway of the other family",
        "a local route that somebody added",
        "a local route of another table",
        "its link went away",
        "a cached answer",
        "multicast routing",
        "derived: local",
        "derived: broadcast",
        "derived: anycast",
        "derived: multicast",
    ],
)
def test_a_message_is_the_routes_that_it_promises(body: bytes, routes: list[Route]) -> None:
    assert list(parse_route(body, NAMES)) == routes


def hop(index: int, found: Found) -> bytes:
    chain = attributes(found)
    return struct.pack("=HBBi", 8 + len(chain), 0, 0, index) + chain


def test_each_hop_is_a_route() -> None:
    hops = (
        hop(2, {5: ip("10.0.0.1")})
        + hop(3, {18: struct.pack("=H", 10) + ip("fe80::1")})
        + hop(9, {5: ip("10.0.0.3")})
    )
    body = route({1: ip("10.9.0.0"), 9: hops}, length=16)

    assert parse_route(body, NAMES) == (
        a_route(destination="10.9.0.0/16", gateway="10.0.0.1"),
        a_route(destination="10.9.0.0/16", link="br0", gateway="fe80::1"),
    )


@pytest.mark.parametrize(
    "body",
    [
        route({1: b"short", 4: 2}, length=24),
        route({4: b"\x02"}),
        route({5: b"", 4: 2}),
        route({18: b"\x0a", 4: 2}),
        route({18: struct.pack("=H", 99) + ip("10.0.0.1"), 4: 2}),
        route({9: b"\x08\0"}),
        route({9: struct.pack("=HBBi", 4, 0, 0, 2)}),
        route({9: struct.pack("=HBBi", 99, 0, 0, 2)}),
        route({4: 2})[:10],
    ],
)
def test_a_route_that_is_cut_short_is_an_error(body: bytes) -> None:
    with pytest.raises(OSError, match="cut short"):
        parse_route(body, NAMES)


# ---- rules and neighbours ------------------------------------------------------------------


def test_a_rule_is_told_whole() -> None:
    found: Found = {
        6: 100,
        2: ip("10.1.0.0"),
        1: ip("10.2.0.0"),
        10: 0x200,
        16: 0xF00,
        3: b"eth0\0",
        15: 2004,
    }

    assert parse_rule(rule(found, source=24, to=16, table=252), NAMES) == (
        Rule(
            family=2,
            priority=100,
            source="10.1.0.0/24",
            destination="10.2.0.0/16",
            mark="0x200/0xf00",
            input_link="eth0",
            table=2004,
            action="lookup",
        ),
    )


def test_the_first_rule_has_no_priority_and_it_is_zero() -> None:
    (found,) = parse_rule(rule({15: 255}), NAMES)

    assert (found.priority, found.table, found.mark, found.source) == (0, 255, "", "")


def test_a_mask_without_a_mark_asks_for_no_mark() -> None:
    assert parse_rule(rule({16: 0xF}), NAMES)[0].mark == "0x0/0xf"


def test_rules_of_multicast_routing_are_none_of_ours() -> None:
    assert parse_rule(rule({}, family=128), NAMES) == ()


@pytest.mark.parametrize(
    ("number", "action"),
    [(1, "lookup"), (2, "goto 300"), (3, "nop"), (6, "blackhole"), (7, "unreachable"),
     (8, "prohibit"), (42, "action 42")],
)  # fmt: skip
def test_each_action_has_its_name(number: int, action: str) -> None:
    assert parse_rule(rule({4: 300}, action=number), NAMES)[0].action == action


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (neighbour({1: ip("10.0.0.9"), 2: b"\x02\0\0\0\0\x09"}), ["10.0.0.9 02:00:00:00:00:09"]),
        (neighbour({1: ip("fd00::9")}, family=10), ["fd00::9 "]),
        (neighbour({1: ip("10.0.0.9")}, state=0x02), []),
        (neighbour({1: ip("10.0.0.9")}, state=0x40), []),
        (neighbour({1: ip("10.0.0.9")}, index=9), []),
        (neighbour({2: b"\x02\0\0\0\0\x09"}, family=7), []),
    ],
    ids=["permanent", "without a MAC", "reachable", "no ARP", "its link went away", "a bridge's"],
)  # fmt: skip
def test_only_permanent_neighbours_are_told(body: bytes, told: list[str]) -> None:
    assert [f"{one.address} {one.mac}" for one in parse_neighbour(body, NAMES)] == told


@pytest.mark.parametrize(
    "parse", [parse_link, parse_address, parse_route, parse_rule, parse_neighbour]
)
@given(body=st.binary(max_size=120), family=st.sampled_from([b"", b"\x02", b"\x0a"]))
def test_any_bytes_are_facts_or_an_error(parse: object, body: bytes, family: bytes) -> None:
    assert callable(parse)
    try:
        facts = parse(family + body, {**NAMES, 0: "none"})
    except OSError as error:
        assert error.errno == errno.EBADMSG  # noqa: PT017  any other error fails by itself
        return
    assert isinstance(facts, tuple)


# ---- the reading ---------------------------------------------------------------------------


class FakeNetlink:
    """Answers each request with the next of its answers; the last one is for good."""

    def __init__(self) -> None:
        self.answers: dict[int, list[list[bytes]]] = {
            LINK: [whole(link(2, b"eth0"), link(1, b"lo"))],
            ADDRESSES.request: [whole(address({2: ip("10.0.0.1")}))],
            ROUTES.request: [whole(route({4: 2}))],
            RULES.request: [whole(rule({}))],
            NEIGHBOURS.request: [whole(neighbour({1: ip("10.0.0.9")}))],
        }
        self.asked: list[int] = []

    def __call__(self, request: bytes) -> Iterator[bytes]:
        (kind,) = struct.unpack_from("=4xH", request)
        self.asked.append(kind)
        answers = self.answers[kind]
        yield from answers.pop(0) if len(answers) > 1 else answers[0]


def whole(*bodies: bytes) -> list[bytes]:
    return [b"".join(message(16, body) for body in bodies), DONE]


TORN = [message(16, rule({6: 9}), INTERRUPTED), DONE]
HOST = Host(root=Path("/nowhere"), sleep=lambda _seconds: None)
NO_ATTACHMENTS: tuple[Attachment, ...] = ()


def read(netlink: FakeNetlink) -> Network:
    return read_network(HOST, NO_ATTACHMENTS, netlink=netlink)


def test_all_parts_are_read_and_sorted_and_links_go_last() -> None:
    netlink = FakeNetlink()

    network = read(netlink)

    assert isinstance(network.links, tuple)
    assert [found.name for found in network.links] == ["eth0", "lo"]
    assert network.addresses == (Address(link="eth0", address="10.0.0.1/24", scope=0),)
    assert network.routes == (a_route(),)
    assert network.neighbours == (Neighbour(link="eth0", address="10.0.0.9", mac=""),)
    assert isinstance(network.rules, tuple)
    assert network.attachments == ()
    assert sorted(netlink.asked) == sorted(netlink.answers)
    assert netlink.asked[-1] == LINK


def test_facts_are_in_the_order_in_which_they_compare() -> None:
    netlink = FakeNetlink()
    bodies = [
        route({4: index, 15: table}, protocol=protocol)
        for index in (2, 1)
        for table in (300, 20)
        for protocol in (80, 3)
    ]
    netlink.answers[ROUTES.request] = [whole(*bodies)]

    routes = read(netlink).routes

    assert isinstance(routes, tuple)
    assert list(routes) == sorted(routes)
    assert len(routes) == 8


@pytest.mark.parametrize("subject", [ADDRESSES, ROUTES, RULES, NEIGHBOURS])
def test_each_part_fails_by_itself(subject: object) -> None:
    netlink = FakeNetlink()
    assert isinstance(subject, type(ROUTES))
    netlink.answers[subject.request] = [[refusal(errno.EPERM)]]

    network = read(netlink)

    told = {field.name: getattr(network, field.name) for field in fields(network)}
    unknown = {name: part for name, part in told.items() if isinstance(part, Unknown)}
    del unknown["sysctls"]  # another reader's
    assert unknown == {subject.word: Unknown(f"netlink {subject.word}: Operation not permitted")}


@pytest.mark.parametrize(
    "answer", [[refusal(errno.ENOBUFS)], whole(b"cut"), whole(link(2, b"eth0", {4: b"12"}))],
)  # fmt: skip
def test_without_links_nothing_that_names_one_is_known(answer: list[bytes]) -> None:
    netlink = FakeNetlink()
    netlink.answers[LINK] = [answer]

    network = read(netlink)

    assert isinstance(network.links, Unknown)
    assert isinstance(network.rules, tuple)
    if answer != whole(link(2, b"eth0", {4: b"12"})):  # there the names are known
        assert network.addresses == network.routes == network.neighbours == network.links


@pytest.mark.parametrize("interrupted", [1, 4])
def test_an_interrupted_dump_is_read_again(interrupted: int) -> None:
    netlink = FakeNetlink()
    netlink.answers[RULES.request] = [TORN] * interrupted + [whole(rule({}))]

    found = read(netlink).rules

    assert isinstance(found, tuple)
    assert [one.priority for one in found] == [0]


def test_a_dump_interrupted_five_times_is_unknown() -> None:
    netlink = FakeNetlink()
    netlink.answers[RULES.request] = [TORN]
    pauses: list[float] = []

    network = read_network(Host(root=HOST.root, sleep=pauses.append), (), netlink=netlink)

    assert network.rules == Unknown("netlink rules, 5 tries: changed while it was read")
    assert netlink.asked.count(RULES.request) == 5
    assert len(pauses) == 4


def test_no_socket_is_unknown() -> None:
    def refuse(_request: bytes) -> Iterator[bytes]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    network = read_network(HOST, Unknown("no bpf"), netlink=refuse)

    for part in (network.links, network.routes, network.rules, network.neighbours):
        assert isinstance(part, Unknown)
        assert part.why.endswith("Address family not supported by protocol")
    assert network.attachments == Unknown("no bpf")


def test_an_answer_that_never_comes_is_unknown() -> None:
    def silent(_request: bytes) -> Iterator[bytes]:
        raise TimeoutError("timed out")

    assert read_network(HOST, (), netlink=silent).rules == Unknown("netlink rules: timed out")


@pytest.mark.parametrize(
    ("content", "origin"),
    [("0\n", "permanent"), ("1\n", "random"), ("2\n", "stolen"), ("3\n", "set"), ("4\n", ""),
     ("", ""), (None, "")],
)  # fmt: skip
def test_the_origin_of_a_mac_is_told_in_a_word(
    tmp_path: Path, content: str | None, origin: str
) -> None:
    place = tmp_path / "sys/class/net/eth0"
    place.mkdir(parents=True)
    if content is not None:
        (place / "addr_assign_type").write_text(content)

    links = read_network(Host(root=tmp_path), (), netlink=FakeNetlink()).links

    assert isinstance(links, tuple)
    assert {one.name: one.mac_origin for one in links} == {"eth0": origin, "lo": ""}


def test_the_origin_of_a_mac_is_empty_where_it_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/eth0/addr_assign_type").mkdir(parents=True)

    links = read_network(Host(root=tmp_path), (), netlink=FakeNetlink()).links

    assert isinstance(links, tuple)
    assert {one.mac_origin for one in links} == {""}


def test_thousands_of_links_are_told() -> None:
    netlink = FakeNetlink()
    netlink.answers[LINK] = [whole(*(link(n, b"lxc%x" % n, {10: 1}) for n in range(1, 5001)))]

    links = read(netlink).links

    assert isinstance(links, tuple)
    assert len(links) == 5000
    assert {one.master for one in links} == {"lxc1"}
