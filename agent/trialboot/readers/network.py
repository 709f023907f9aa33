"""Reads links, addresses, routes and rules of this network namespace. The home of pyroute2.

Layouts and numbers: include/uapi/linux/{if_link,if_addr,rtnetlink,fib_rules}.h of the kernel.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias, TypeVar, cast

from trialboot.core.facts import Address, Attachment, Link, Network, Route, Rule, Unknown
from trialboot.host import Host

Message: TypeAlias = Any
"""A netlink message of pyroute2, whose versions agree on `message[field]` and `get_attr(name)`."""

Names: TypeAlias = Mapping[int, str]
"""Link names by ifindex. An index that it lacks is of a link that went away meanwhile."""

OpenNetlink: TypeAlias = Callable[[], AbstractContextManager[Any]]

_Dump: TypeAlias = tuple[Message, ...] | Unknown
_Fact = TypeVar("_Fact", Address, Link, Route, Rule)

_FAMILIES: Final = (2, 10)  # IPv4, IPv6
_TRIES: Final = 5
_PAUSE: Final = 0.05  # seconds between two tries
_DUMP_INTERRUPTED: Final = 0x10  # NLM_F_DUMP_INTR
_IFF_UP: Final = 0x1
_CLONED: Final = 0x200  # RTM_F_CLONED: a cached answer, not a route
_TABLE_LOCAL: Final = 255
_PROTOCOL_KERNEL: Final = 2

_NO_LINK: Final = 0  # a blackhole and its like go over no link

_ROUTE_KINDS: Final = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_RULE_ACTIONS: Final = {
    1: "lookup",
    2: "goto",
    3: "nop",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}


def open_netlink() -> AbstractContextManager[Any]:
    """Open a netlink socket. Raises `OSError`."""
    from pyroute2 import IPRoute  # noqa: PLC0415  25 MB and 180 ms: only who reads pays

    netlink: AbstractContextManager[Any] = IPRoute()
    return netlink


def read_network(
    host: Host,
    attachments: tuple[Attachment, ...] | Unknown,
    *,
    netlink: OpenNetlink = open_netlink,
) -> Network:
    """Read the network over one socket; the eBPF attachments come from their own reader."""
    dumps = _ask(host, netlink, "addresses", "routes", "rules", "links")
    names = _names(dumps["links"])
    return Network(
        links=_links(dumps["links"]),
        addresses=_addresses(dumps["addresses"], names),
        routes=_routes(dumps["routes"], names),
        rules=_rules(dumps["rules"]),
        attachments=attachments,
    )


def read_links(host: Host, *, netlink: OpenNetlink = open_netlink) -> tuple[Link, ...] | Unknown:
    """Read every link."""
    return _links(_ask(host, netlink, "links")["links"])


def read_addresses(
    host: Host, *, netlink: OpenNetlink = open_netlink
) -> tuple[Address, ...] | Unknown:
    """Read every address, of every scope."""
    dumps = _ask(host, netlink, "addresses", "links")
    return _addresses(dumps["addresses"], _names(dumps["links"]))


def read_routes(host: Host, *, netlink: OpenNetlink = open_netlink) -> tuple[Route, ...] | Unknown:
    """Read the routes of every table, without those that only follow from addresses."""
    dumps = _ask(host, netlink, "routes", "links")
    return _routes(dumps["routes"], _names(dumps["links"]))


def read_rules(host: Host, *, netlink: OpenNetlink = open_netlink) -> tuple[Rule, ...] | Unknown:
    """Read every policy routing rule."""
    return _rules(_ask(host, netlink, "rules")["rules"])


def parse_link(message: Message, names: Names) -> Link:
    """Give the link of one RTM_NEWLINK message."""
    details = message.get_attr("IFLA_LINKINFO")
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        kind=(details.get_attr("IFLA_INFO_KIND") if details else None) or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        carrier=message.get_attr("IFLA_OPERSTATE") in {"UP", "UNKNOWN"},
        master=names.get(message.get_attr("IFLA_MASTER") or 0, ""),
    )


def parse_address(message: Message, names: Names) -> tuple[Address, ...]:
    """Give the address of one RTM_NEWADDR message; nothing if its link went away."""
    if message["index"] not in names:
        return ()
    # Of a point-to-point link IFA_ADDRESS is the other end's; IPv6 has no IFA_LOCAL elsewhere.
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return (
        Address(
            link=names[message["index"]],
            address=f"{own}/{message['prefixlen']}",
            scope=message["scope"],
        ),
    )


def parse_route(message: Message, names: Names) -> tuple[Route, ...]:
    """Give the routes of one RTM_NEWROUTE message, one for each hop.

    Nothing for a cached answer, for what the kernel derives from addresses, and for hops over
    links that went away.
    """
    if _is_derived(message):
        return ()
    hops = message.get_attr("RTA_MULTIPATH") or [message]
    links = ((hop, _link_of(hop)) for hop in hops)
    return tuple(
        _route(message, names.get(link, ""), _gateway(hop))
        for hop, link in links
        if link in names or link == _NO_LINK
    )


def parse_rule(message: Message) -> Rule:
    """Give the rule of one RTM_NEWRULE message."""
    table = message.get_attr("FRA_TABLE")
    return Rule(
        family=message["family"],
        priority=message.get_attr("FRA_PRIORITY") or 0,
        source=_prefix(message.get_attr("FRA_SRC"), message["src_len"]),
        destination=_prefix(message.get_attr("FRA_DST"), message["dst_len"]),
        mark=_mark(message),
        input_link=message.get_attr("FRA_IIFNAME") or "",
        table=message["table"] if table is None else table,
        action=_action(message),
    )


def _ask(host: Host, open_socket: OpenNetlink, *subjects: str) -> dict[str, _Dump]:
    """Dump the subjects in this order. Links go last: whatever names a link is older than it."""
    try:
        with open_socket() as netlink:
            return {subject: _dump(host, netlink, subject) for subject in subjects}
    except OSError as error:
        return dict.fromkeys(subjects, Unknown(f"netlink: {error.strerror or error}"))


def _dump(host: Host, netlink: Any, subject: str) -> _Dump:
    """Dump one subject whole, or tell why that was not possible."""
    from pyroute2 import NetlinkError  # noqa: PLC0415  see open_netlink

    why = ""
    for attempt in range(_TRIES):
        if attempt:
            host.sleep(_PAUSE)
        try:
            messages = tuple(_messages(netlink, subject))
        except (NetlinkError, OSError) as error:  # some versions raise where others show the flag
            why = str(error)
            continue
        if not any(message["header"]["flags"] & _DUMP_INTERRUPTED for message in messages):
            return messages
        why = "changed while it was read"
    return Unknown(f"netlink {subject}, {_TRIES} tries: {why}")


def _messages(netlink: Any, subject: str) -> Iterable[Message]:
    match subject:
        case "links":
            return cast("Iterable[Message]", netlink.get_links())
        case "addresses":
            return cast("Iterable[Message]", netlink.get_addr())
        case "routes":
            return _by_family(netlink.get_routes)
        case _:
            return _by_family(netlink.get_rules)


def _by_family(get: Callable[..., Iterable[Message]]) -> Iterable[Message]:
    """Ask for each family alone; a kernel without one answers with all that it has."""
    return (
        message
        for family in _FAMILIES
        for message in get(family=family)
        if message["family"] == family
    )


def _names(links: _Dump) -> Names | Unknown:
    if isinstance(links, Unknown):
        return links
    return {message["index"]: message.get_attr("IFLA_IFNAME") for message in links}


def _links(dump: _Dump) -> tuple[Link, ...] | Unknown:
    names = _names(dump)
    return _facts(dump, names, lambda message, known: (parse_link(message, known),))


def _addresses(dump: _Dump, names: Names | Unknown) -> tuple[Address, ...] | Unknown:
    return _facts(dump, names, parse_address)


def _routes(dump: _Dump, names: Names | Unknown) -> tuple[Route, ...] | Unknown:
    return _facts(dump, names, parse_route)


def _rules(dump: _Dump) -> tuple[Rule, ...] | Unknown:
    return _facts(dump, {}, lambda message, _names: (parse_rule(message),))


def _facts(
    dump: _Dump,
    names: Names | Unknown,
    parse: Callable[[Message, Names], tuple[_Fact, ...]],
) -> tuple[_Fact, ...] | Unknown:
    """Parse a dump into sorted facts: the kernel's order says nothing."""
    if isinstance(dump, Unknown):
        return dump
    if isinstance(names, Unknown):
        return names
    return tuple(sorted(fact for message in dump for fact in parse(message, names)))


def _is_derived(message: Message) -> bool:
    if message["flags"] & _CLONED:
        return True
    return _table(message) == _TABLE_LOCAL and message["proto"] == _PROTOCOL_KERNEL


def _table(message: Message) -> int:
    table: int | None = message.get_attr("RTA_TABLE")  # the header has room for 255 tables only
    return message["table"] if table is None else table


def _route(message: Message, link: str, gateway: str) -> Route:
    return Route(
        family=message["family"],
        destination=_prefix(message.get_attr("RTA_DST"), message["dst_len"]) or "default",
        table=_table(message),
        link=link,
        gateway=gateway,
        protocol=message["proto"],
        kind=_ROUTE_KINDS.get(message["type"], f"type {message['type']}"),
    )


def _link_of(hop: Message) -> int:
    """Give the ifindex of a hop; a hop of a multipath route has it in its header."""
    return hop.get_attr("RTA_OIF") or hop.get("oif") or _NO_LINK


def _gateway(hop: Message) -> str:
    gateway = hop.get_attr("RTA_GATEWAY")
    if gateway:
        return str(gateway)
    via = hop.get_attr("RTA_VIA")  # a gateway of the other family
    return str(via["addr"]) if via else ""


def _prefix(address: str | None, length: int) -> str:
    return f"{address}/{length}" if length else ""


def _mark(message: Message) -> str:
    value, mask = message.get_attr("FRA_FWMARK"), message.get_attr("FRA_FWMASK")
    if not value and not mask:
        return ""
    return f"{value or 0:#x}/{mask or 0:#x}"


def _action(message: Message) -> str:
    number = message["action"]
    name = _RULE_ACTIONS.get(number, f"action {number}")
    return f"{name} {message.get_attr('FRA_GOTO')}" if name == "goto" else name
