"""Messages as pyroute2 decodes them become facts; what cannot be read becomes Unknown."""

import errno
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from pyroute2 import NetlinkError

from trialboot.core.facts import Address, Attachment, Link, Network, Route, Rule, Unknown
from trialboot.host import Host
from trialboot.readers.network import (
    parse_address,
    parse_link,
    parse_route,
    parse_rule,
    read_addresses,
    read_links,
    read_network,
    read_routes,
    read_rules,
)


class Message(dict[str, Any]):
    """What all versions of pyroute2 agree on: fields by name, attributes by `get_attr`."""

    def __init__(self, attributes: dict[str, Any], **fields: Any) -> None:
        super().__init__(fields, header={"flags": 2})
        self._attributes = attributes

    def get_attr(self, name: str) -> Any:
        return self._attributes.get(name)

    def interrupted(self) -> "Message":
        self["header"] = {"flags": 2 | 0x10}
        return self


NAMES = {1: "lo", 2: "eth0", 3: "br0"}


def link(index: int, name: str, flags: int = 69699, **attributes: Any) -> Message:
    usual = {"IFLA_IFNAME": name, "IFLA_MTU": 1500, "IFLA_OPERSTATE": "UP"}
    return Message({**usual, **attributes}, index=index, flags=flags)


def route(attributes: dict[str, Any], **fields: Any) -> Message:
    usual = {"family": 2, "dst_len": 0, "table": 254, "proto": 3, "type": 1, "flags": 0}
    return Message(attributes, **{**usual, **fields})


def rule(attributes: dict[str, Any], **fields: Any) -> Message:
    usual = {"family": 2, "src_len": 0, "dst_len": 0, "table": 254, "action": 1}
    return Message(attributes, **{**usual, **fields})


def address(index: int, scope: int = 0, **attributes: Any) -> Message:
    return Message(attributes, family=2, index=index, prefixlen=24, scope=scope)


def a_route(**fields: Any) -> Route:
    usual = {"family": 2, "destination": "default", "table": 254, "link": "eth0", "gateway": ""}
    return Route(**{**usual, "protocol": 3, "kind": "unicast", **fields})


# ---- links and addresses -------------------------------------------------------------------


def test_a_link_is_told_whole() -> None:
    message = link(
        2,
        "eth0",
        IFLA_ADDRESS="02:00:00:00:00:01",
        IFLA_MASTER=3,
        IFLA_LINKINFO=Message({"IFLA_INFO_KIND": "veth"}),
    )

    assert parse_link(message, NAMES) == Link(
        name="eth0",
        kind="veth",
        mac="02:00:00:00:00:01",
        mtu=1500,
        up=True,
        carrier=True,
        master="br0",
    )


def test_a_plain_device_has_no_kind_no_mac_no_master() -> None:
    found = parse_link(link(2, "tun0"), NAMES)

    assert (found.kind, found.mac, found.master) == ("", "", "")


@pytest.mark.parametrize(
    ("state", "carrier"),
    [("UP", True), ("UNKNOWN", True), ("DOWN", False), ("LOWERLAYERDOWN", False),
     ("DORMANT", False), ("NOTPRESENT", False)],
)  # fmt: skip
def test_carrier_follows_the_operational_state(state: str, carrier: bool) -> None:  # noqa: FBT001
    assert parse_link(link(2, "eth0", IFLA_OPERSTATE=state), NAMES).carrier is carrier


def test_up_is_the_administrators_flag() -> None:
    assert parse_link(link(2, "eth0", flags=0x1003), NAMES).up is True
    assert parse_link(link(2, "eth0", flags=0x1002), NAMES).up is False


def test_the_own_end_of_a_point_to_point_address_counts() -> None:
    message = address(2, IFA_ADDRESS="10.0.0.2", IFA_LOCAL="10.0.0.1")

    assert parse_address(message, NAMES) == (Address(link="eth0", address="10.0.0.1/24", scope=0),)


def test_an_ipv6_address_has_only_the_one() -> None:
    message = address(2, scope=253, IFA_ADDRESS="fe80::1")

    assert parse_address(message, NAMES) == (
        Address(link="eth0", address="fe80::1/24", scope=253),
    )


def test_an_address_of_a_link_that_went_away_went_with_it() -> None:
    assert parse_address(address(9, IFA_LOCAL="10.0.0.1"), NAMES) == ()


# ---- routes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "routes"),
    [
        (route({"RTA_GATEWAY": "10.0.0.1", "RTA_OIF": 2}), [a_route(gateway="10.0.0.1")]),
        (route({"RTA_TABLE": 500, "RTA_OIF": 2}, table=252), [a_route(table=500)]),
        (route({"RTA_OIF": 2}, table=77), [a_route(table=77)]),
        (route({}, type=6), [a_route(link="", kind="blackhole")]),
        (route({"RTA_OIF": 2}, type=42), [a_route(kind="type 42")]),
        (
            route({"RTA_TABLE": 255, "RTA_OIF": 1}, type=2),
            [a_route(table=255, link="lo", kind="local")],
        ),
        (
            route({"RTA_TABLE": 2004, "RTA_OIF": 1}, proto=2, type=2),
            [a_route(table=2004, link="lo", kind="local", protocol=2)],
        ),
        (route({"RTA_OIF": 9}), []),
        (route({"RTA_OIF": 2}, flags=0x200), []),
        *(
            (route({"RTA_TABLE": 255, "RTA_OIF": 2}, proto=2, type=derived), [])
            for derived in (2, 3, 4, 5)
        ),
    ],
    ids=[
        "no destination is the default",
        "the long table number wins",
        "the short table number where it is alone",
        "a blackhole goes over no link",
        "an unheard-of kind is told by number",
        "a local route that somebody added",
        "a local route of another table",
        "its link went away",
        "a cached answer",
        "derived: local",
        "derived: broadcast",
        "derived: anycast",
        "derived: multicast",
    ],
)
def test_a_message_is_the_routes_that_it_promises(message: Message, routes: list[Route]) -> None:
    assert list(parse_route(message, NAMES)) == routes


def test_each_hop_is_a_route() -> None:
    hops = [
        Message({"RTA_GATEWAY": "10.0.0.1"}, oif=2),
        Message({"RTA_VIA": {"family": 10, "addr": "fe80::1"}}, oif=3),
        Message({"RTA_GATEWAY": "10.0.0.3"}, oif=9),
    ]
    message = route({"RTA_DST": "10.9.0.0", "RTA_MULTIPATH": hops}, dst_len=16)

    assert parse_route(message, NAMES) == (
        a_route(destination="10.9.0.0/16", gateway="10.0.0.1"),
        a_route(destination="10.9.0.0/16", link="br0", gateway="fe80::1"),
    )


# ---- rules ---------------------------------------------------------------------------------


def test_a_rule_is_told_whole() -> None:
    message = rule(
        {
            "FRA_PRIORITY": 100,
            "FRA_SRC": "10.1.0.0",
            "FRA_DST": "10.2.0.0",
            "FRA_FWMARK": 0x200,
            "FRA_FWMASK": 0xF00,
            "FRA_IIFNAME": "eth0",
            "FRA_TABLE": 2004,
        },
        src_len=24,
        dst_len=16,
        table=252,
    )

    assert parse_rule(message) == Rule(
        family=2,
        priority=100,
        source="10.1.0.0/24",
        destination="10.2.0.0/16",
        mark="0x200/0xf00",
        input_link="eth0",
        table=2004,
        action="lookup",
    )


def test_the_first_rule_has_no_priority_and_it_is_zero() -> None:
    found = parse_rule(rule({"FRA_TABLE": 255}))

    assert (found.priority, found.table, found.mark, found.source) == (0, 255, "", "")


def test_a_mask_without_a_mark_asks_for_no_mark() -> None:
    assert parse_rule(rule({"FRA_FWMASK": 0xF})).mark == "0x0/0xf"


@pytest.mark.parametrize(
    ("number", "action"),
    [(1, "lookup"), (2, "goto 300"), (3, "nop"), (6, "blackhole"), (7, "unreachable"),
     (8, "prohibit"), (42, "action 42")],
)  # fmt: skip
def test_each_action_has_its_name(number: int, action: str) -> None:
    assert parse_rule(rule({"FRA_GOTO": 300}, action=number)).action == action


# ---- the reading ---------------------------------------------------------------------------


class FakeNetlink:
    """Answers each question with the next of its answers; the last one is for good."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {
            "links": [[link(2, "eth0"), link(1, "lo")]],
            "addresses": [[address(2, IFA_LOCAL="10.0.0.1")]],
            "routes": [[route({"RTA_OIF": 2})]],
            "rules": [[rule({})]],
        }
        self.asked: list[str] = []

    def open(self) -> AbstractContextManager[Any]:
        return nullcontext(self)

    def get_links(self) -> Iterable[Message]:
        return self._answer("links")

    def get_addr(self) -> Iterable[Message]:
        return self._answer("addresses")

    def get_routes(self, family: int) -> Iterable[Message]:
        return self._answer("routes") if family == 2 else ()

    def get_rules(self, family: int) -> Iterable[Message]:
        return self._answer("rules") if family == 2 else ()

    def _answer(self, subject: str) -> Iterable[Message]:
        self.asked.append(subject)
        answers = self.answers[subject]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: Iterable[Message] = answer
        return found


HOST = Host(sleep=lambda _seconds: None)
NO_ATTACHMENTS: tuple[Attachment, ...] = ()


def read(netlink: FakeNetlink) -> Network:
    return read_network(HOST, NO_ATTACHMENTS, netlink=netlink.open)


def test_all_parts_are_read_and_sorted_over_one_socket() -> None:
    netlink = FakeNetlink()

    network = read(netlink)

    assert isinstance(network.links, tuple)
    assert [found.name for found in network.links] == ["eth0", "lo"]
    assert network.addresses == (Address(link="eth0", address="10.0.0.1/24", scope=0),)
    assert network.routes == (a_route(),)
    assert isinstance(network.rules, tuple)
    assert network.attachments == ()
    assert netlink.asked == ["addresses", "routes", "rules", "links"]


@pytest.mark.parametrize(
    ("subject", "reader"),
    [("links", read_links), ("addresses", read_addresses), ("routes", read_routes),
     ("rules", read_rules)],
)  # fmt: skip
def test_each_part_can_be_read_alone(subject: str, reader: Callable[..., Any]) -> None:
    assert reader(HOST, netlink=FakeNetlink().open) == getattr(read(FakeNetlink()), subject)


@pytest.mark.parametrize("subject", ["addresses", "routes", "rules"])
def test_each_part_fails_by_itself(subject: str) -> None:
    netlink = FakeNetlink()
    netlink.answers[subject] = [NetlinkError(errno.EPERM)]

    network = read(netlink)

    parts = {name: getattr(network, name) for name in ("links", "addresses", "routes", "rules")}
    assert [name for name, part in parts.items() if isinstance(part, Unknown)] == [subject]
    assert "Operation not permitted" in parts[subject].why


def test_without_links_nothing_that_names_one_is_known() -> None:
    netlink = FakeNetlink()
    netlink.answers["links"] = [OSError(errno.ENOBUFS, "No buffer space available")]

    network = read(netlink)

    assert isinstance(network.links, Unknown)
    assert network.addresses == network.routes == network.links
    assert isinstance(network.rules, tuple)


@pytest.mark.parametrize("interrupted", [1, 4])
def test_an_interrupted_dump_is_read_again(interrupted: int) -> None:
    netlink = FakeNetlink()
    torn = [rule({"FRA_PRIORITY": 9}).interrupted()]
    netlink.answers["rules"] = [torn] * interrupted + [[rule({})]]

    found = read_rules(HOST, netlink=netlink.open)

    assert isinstance(found, tuple)
    assert [one.priority for one in found] == [0]


def test_a_version_that_raises_when_interrupted_is_read_again() -> None:
    netlink = FakeNetlink()
    netlink.answers["rules"] = [NetlinkError(-1, "dump interrupted"), [rule({})]]

    assert isinstance(read_rules(HOST, netlink=netlink.open), tuple)


def test_a_dump_interrupted_five_times_is_unknown() -> None:
    netlink = FakeNetlink()
    netlink.answers["rules"] = [[rule({}).interrupted()]]
    pauses: list[float] = []

    found = read_rules(Host(sleep=pauses.append), netlink=netlink.open)

    assert found == Unknown("netlink rules, 5 tries: changed while it was read")
    assert len(netlink.asked) == 5
    assert len(pauses) == 4


def test_no_socket_is_unknown() -> None:
    def refuse() -> AbstractContextManager[Any]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    network = read_network(HOST, Unknown("no bpf"), netlink=refuse)

    why = Unknown("netlink: Address family not supported by protocol")
    assert network.links == network.addresses == network.routes == network.rules == why
    assert network.attachments == Unknown("no bpf")


def test_a_kernel_without_ipv6_answers_with_what_it_has_and_nothing_counts_twice() -> None:
    class Ipv4Only(FakeNetlink):
        def get_routes(self, family: int) -> Iterable[Message]:
            assert family in {2, 10}
            return self._answer("routes")

    assert read_routes(HOST, netlink=Ipv4Only().open) == (a_route(),)
