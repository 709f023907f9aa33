"""Reads links, addresses, routes, rules and neighbours of this network namespace.

Layouts and numbers: include/uapi/linux/{if_link,if_addr,rtnetlink,fib_rules,neighbour}.h of the
kernel.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, TypeVar

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
from trialboot.netlink import (
    TRIES,
    Attributes,
    Netlink,
    cut_short,
    dump,
    dump_links,
    exchange,
    link_name,
    parse_attributes,
    text,
    unpack,
)

Names: TypeAlias = Mapping[int, str]
"""Link names by ifindex. An index that it lacks is of a link that went away meanwhile."""

_Dump: TypeAlias = tuple[bytes, ...] | Unknown
_Fact = TypeVar("_Fact", Address, Link, Neighbour, Route, Rule)
_T = TypeVar("_T")
_Parse: TypeAlias = Callable[[bytes, Names], Iterable[_Fact]]


class Subject(NamedTuple):
    """What can be dumped: its word for people, the request, the size of the request's body."""

    word: str
    request: int
    size: int


ADDRESSES: Final = Subject("addresses", 22, 8)
ROUTES: Final = Subject("routes", 26, 12)
NEIGHBOURS: Final = Subject("neighbours", 30, 12)
RULES: Final = Subject("rules", 34, 12)

_FAMILIES: Final = {2: 4, 10: 16}  # IPv4, IPv6: bytes of an address. Dumps have others beside.
_IFF_UP: Final = 0x1
_LINK_NETNSID: Final = 37
_WITH_CARRIER: Final = (b"\0", b"\6")  # IF_OPER_UNKNOWN, IF_OPER_UP
_PERMANENT: Final = 0x80  # NUD_PERMANENT
_CLONED: Final = 0x200  # RTM_F_CLONED: a cached answer, not a route
_TABLE_LOCAL: Final = 255
_PROTOCOL_KERNEL: Final = 2
_HOP: Final = 8  # bytes of a struct rtnexthop
_NO_LINK: Final = 0  # a blackhole and its like go over no link

_ROUTE_KINDS: Final = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast",
    6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw",
}  # fmt: skip
_RULE_ACTIONS: Final = {
    1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit",
}  # fmt: skip
_MAC_ORIGINS: Final = {b"0": "permanent", b"1": "random", b"2": "stolen", b"3": "set"}


def read_network(
    host: Host,
    attachments: tuple[Attachment, ...] | Unknown,
    *,
    netlink: Netlink = exchange,
) -> Network:
    """Read the network, each part by itself; eBPF attachments come from their own reader.

    Links go last: whatever names a link is older than it.
    """
    ask = partial(_dump, host, netlink)
    addresses, routes, rules = ask(ADDRESSES), ask(ROUTES), ask(RULES)
    neighbours = ask(NEIGHBOURS)
    links = _guarded("links", lambda: dump_links(netlink, host.sleep))
    names = _names(links)
    return Network(
        links=_facts("links", links, names, partial(parse_link, mac_origin=_mac_origin(host))),
        addresses=_facts("addresses", addresses, names, parse_address),
        routes=_facts("routes", routes, names, parse_route),
        rules=_facts("rules", rules, {}, parse_rule),
        neighbours=_facts("neighbours", neighbours, names, parse_neighbour),
        attachments=attachments,
    )


def parse_link(
    body: bytes, names: Names, mac_origin: Callable[[bytes], str] = lambda _name: ""
) -> tuple[Link]:
    """Give the link of one RTM_NEWLINK message; `mac_origin` tells it for a link's name.

    Raises `OSError` if the message is cut short, as all of these do.
    """
    _, flags = unpack("=4xiI", body)
    found = parse_attributes(body, 16)
    name = found.get(3, b"").partition(b"\0")[0]
    details = parse_attributes(found.get(18, b""))  # IFLA_LINKINFO
    link = Link(
        name=text(name),
        kind=text(details.get(1, b"")),
        mac=found.get(1, b"").hex(":"),
        mtu=_number(found, 4),
        up=bool(flags & _IFF_UP),
        carrier=found.get(16) in _WITH_CARRIER,
        master=names.get(_number(found, 10), ""),
        permanent_mac=found.get(54, b"").hex(":"),
        bus=text(found.get(56, b"")),
        mac_origin=mac_origin(name),
        elsewhere=_LINK_NETNSID in found,
    )
    return (link,)


def parse_address(body: bytes, names: Names) -> tuple[Address, ...]:
    """Give the address of one RTM_NEWADDR message; nothing if its link went away."""
    family, length, scope, index = unpack("=BBxBI", body)
    if family not in _FAMILIES or index not in names:
        return ()
    found = parse_attributes(body, 8)
    # Of a point-to-point link IFA_ADDRESS is the other end's; IPv6 has no IFA_LOCAL elsewhere.
    own = _address(family, found.get(2) or found.get(1, b""))
    return (Address(link=names[index], address=f"{own}/{length}", scope=scope),)


def parse_route(body: bytes, names: Names) -> tuple[Route, ...]:
    """Give the routes of one RTM_NEWROUTE message, one for each hop.

    Nothing for a cached answer, for what the kernel derives from addresses, and for hops over
    links that went away.
    """
    family, length, table, protocol, kind, flags = unpack("=BBxxBBxBI", body)
    if family not in _FAMILIES or flags & _CLONED:
        return ()
    found = parse_attributes(body, 12)
    table = _number(found, 15, table)  # the header has room for 255 tables only
    if table == _TABLE_LOCAL and protocol == _PROTOCOL_KERNEL:
        return ()
    hops = _hops(found[9]) if 9 in found else [(_number(found, 4), found)]  # noqa: PLR2004
    destination = _prefix(family, found.get(1, b""), length) or "default"
    return tuple(
        Route(
            family=family,
            destination=destination,
            table=table,
            link=names.get(index, ""),
            gateway=_gateway(family, hop),
            protocol=protocol,
            kind=_ROUTE_KINDS.get(kind) or f"type {kind}",
        )
        for index, hop in hops
        if index in names or index == _NO_LINK
    )


def parse_rule(body: bytes, _names: Names) -> tuple[Rule, ...]:
    """Give the rule of one RTM_NEWRULE message; nothing for a rule of multicast routing."""
    family, to_length, from_length, table, action = unpack("=BBBxBxxB4x", body)
    if family not in _FAMILIES:
        return ()
    found = parse_attributes(body, 12)
    rule = Rule(
        family=family,
        priority=_number(found, 6),  # of the first rule of all, which has 0, nothing is told
        source=_prefix(family, found.get(2, b""), from_length),
        destination=_prefix(family, found.get(1, b""), to_length),
        mark=_mark(_number(found, 10), _number(found, 16)),
        input_link=text(found.get(3, b"")),
        table=_number(found, 15, table),
        action=_action(action, found),
    )
    return (rule,)


def parse_neighbour(body: bytes, names: Names) -> tuple[Neighbour, ...]:
    """Give the neighbour of one RTM_NEWNEIGH message; nothing unless it is permanent."""
    family, index, state = unpack("=B3xiH2x", body)
    if family not in _FAMILIES or not state & _PERMANENT or index not in names:
        return ()
    found = parse_attributes(body, 12)
    address = _address(family, found.get(1, b""))
    mac = found.get(2, b"").hex(":")
    return (Neighbour(link=names[index], address=address, mac=mac),)


def _dump(host: Host, netlink: Netlink, subject: Subject) -> _Dump:
    word, request, size = subject
    return _guarded(word, lambda: dump(netlink, request, bytes(size), host.sleep))


def _names(links: _Dump) -> Names | Unknown:
    if isinstance(links, Unknown):
        return links
    return _guarded(
        "links", lambda: {number: text(name) for number, name in map(link_name, links)}
    )


def _facts(
    word: str, messages: _Dump, names: Names | Unknown, parse: _Parse[_Fact]
) -> tuple[_Fact, ...] | Unknown:
    """Parse a dump into sorted facts: the kernel's order says nothing."""
    if isinstance(messages, Unknown):
        return messages
    if isinstance(names, Unknown):
        return names
    return _guarded(word, lambda: _sorted([one for m in messages for one in parse(m, names)]))


def _sorted(facts: list[_Fact]) -> tuple[_Fact, ...]:
    """Sort as the facts themselves compare, but with each one's fields looked up once only."""
    if facts:
        facts.sort(key=attrgetter(*(field.name for field in fields(facts[0]))))
    return tuple(facts)


def _guarded(word: str, read: Callable[[], _T]) -> _T | Unknown:
    try:
        return read()
    except InterruptedError as error:
        return Unknown(f"netlink {word}, {TRIES} tries: {error.strerror}")
    except OSError as error:
        return Unknown(f"netlink {word}: {error.strerror or error}")


def _mac_origin(host: Host) -> Callable[[bytes], str]:
    """Give who tells where the MAC of a link comes from: netlink has no word for it.

    Of links that went away, and where /sys shows another network namespace, nothing is told.
    """
    folder = os.fsencode(host.path("/sys/class/net"))

    def tell(link: bytes) -> str:
        try:
            file = os.open(b"%s/%s/addr_assign_type" % (folder, link), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return _MAC_ORIGINS.get(os.read(file, 8).strip(), "")
        except OSError:
            return ""
        finally:
            os.close(file)

    return tell


def _hops(chain: bytes) -> list[tuple[int, Attributes]]:
    """Split RTA_MULTIPATH: struct rtnexthop (length, flags, hops, ifindex), then attributes."""
    hops = []
    while chain:
        length, index = unpack("=HxxI", chain)
        if not _HOP <= length <= len(chain):
            raise cut_short()
        hops.append((index, parse_attributes(chain[:length], _HOP)))
        chain = chain[(length + 3) & ~3 :]
    return hops


def _gateway(family: int, hop: Attributes) -> str:
    if 5 in hop:  # noqa: PLR2004  RTA_GATEWAY
        return _address(family, hop[5])
    if 18 not in hop:  # noqa: PLR2004  RTA_VIA: a gateway of the other family
        return ""
    (other,) = unpack("=H", hop[18])
    return _address(other, hop[18][2:])


def _prefix(family: int, address: bytes, length: int) -> str:
    return f"{_address(family, address)}/{length}" if length else ""


def _address(family: int, raw: bytes) -> str:
    if len(raw) != _FAMILIES.get(family):
        raise cut_short()
    return socket.inet_ntop(family, raw)


def _number(found: Attributes, kind: int, otherwise: int = 0) -> int:
    return unpack("=I", found[kind])[0] if kind in found else otherwise


def _mark(value: int, mask: int) -> str:
    return f"{value:#x}/{mask:#x}" if value or mask else ""


def _action(number: int, found: Attributes) -> str:
    name = _RULE_ACTIONS.get(number, f"action {number}")
    return f"{name} {_number(found, 4)}" if name == "goto" else name
