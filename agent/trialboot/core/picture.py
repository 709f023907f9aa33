"""One sample of the network in stable terms: what a contract promises, or what is there now.

Free of anything that a healthy reboot renumbers: no ids, no interface indexes, no priorities, no
mechanism. Each part fails by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from trialboot.core.cni import is_for_a_peer, is_temporary, owner_of, pod_class
from trialboot.core.facts import Attachment, Link, Neighbour, Network, Route, Rule, Unknown
from trialboot.core.podrules import PodRules, is_the_nodes_rule, pod_rules_of
from trialboot.core.roles import Role, role_name
from trialboot.core.sysctls import Setting, settings_of

INET: Final = 2
_LOCAL_ROUTES: Final = frozenset({"local", "broadcast", "anycast", "multicast"})
MAIN: Final = 254
_LOCAL_TABLE: Final = 255
_REDIRECT, _KERNEL, _BOOT, _STATIC, _RA, _DHCP = 1, 2, 3, 4, 9, 16  # rtnetlink.h
_CONFIGURED: Final = frozenset({0, _STATIC, _DHCP})
"""Protocols of routes that the node's own configuration makes, whatever their gateway."""
_ITS_GATEWAY: Final = _CONFIGURED | {_KERNEL, _BOOT}
"""Others are learned from routers: by advertisement, or by a routing daemon."""
_PASSING: Final = ("fe80:", "ff00:")
"""IPv6 link-local prefixes come with each link and say nothing that the link does not."""
TUNNEL: Final = "tun"
"""tun and tap devices: a VPN or a virtual machine brings them and takes them along."""
_OF_A_PROGRAM: Final = frozenset({TUNNEL, "macvtap", "ipvtap"})
_CONTAINERS: Final = frozenset({"veth", "netkit"})
_OF_ANY_NAMESPACE: Final = frozenset({"netfilter", "sockmap"})
"""Hooks of which bpf(2) does not tell whose network they serve: a pod's looks like the node's."""
_T = TypeVar("_T")
_F = TypeVar("_F")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRole:
    """One program on the interfaces of a class of pods: how many of those present carried it."""

    pods: str
    role: Role
    carried: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRoutes:
    """How many interfaces of a class of pods had a route of their own."""

    pods: str
    family: int
    carried: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeLink:
    """A link of the node itself (not of a pod) that was up."""

    name: str
    kind: str
    mac: str = ""
    bus: str = ""
    mtu: int = 0
    lasting: bool = True
    """It does not come and go with containers, programs or other nodes, as a bridge of pods does.
    """


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeRoute:
    """A route that the node's own configuration makes: compared exactly."""

    family: int
    destination: str
    table: int
    link: str
    gateway: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RemoteRoutes:
    """How many routes to other nodes' pods there were: judged as a class, with a floor."""

    family: int
    protocol: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Neighbours:
    """How many permanent neighbours a link had: an overlay has one for each remote node."""

    link: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeRule:
    """A policy routing rule; its priority is not part of it, for CNIs move rules about."""

    family: int
    source: str
    destination: str
    mark: str
    input_link: str
    table: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MacOrigins:
    """Where the MACs of a class of pods came from: random, set ... (addr_assign_type)."""

    pods: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One sample in the contract's terms."""

    roles: tuple[Role, ...] | Unknown
    ways: tuple[tuple[str, str], ...]
    """How each role is attached (tc, tcx, netkit ...): a note, never judged."""
    pod_roles: tuple[PodRole, ...] | Unknown
    pods: tuple[tuple[str, int], ...] | Unknown
    """Interfaces present, by class of pod."""
    links: tuple[NodeLink, ...] | Unknown
    mac_origins: tuple[MacOrigins, ...]
    routes: tuple[NodeRoute, ...] | Unknown
    remote_routes: tuple[RemoteRoutes, ...]
    pod_routes: tuple[PodRoutes, ...]
    rules: tuple[NodeRule, ...] | Unknown
    pod_rules: tuple[PodRules, ...] | Unknown
    neighbours: tuple[Neighbours, ...] | Unknown
    sysctls: tuple[Setting, ...] | Unknown


class _Names:
    """Which link names are pods', from what the links themselves show where they do."""

    def __init__(self, links: tuple[Link, ...] | Unknown) -> None:
        there = () if isinstance(links, Unknown) else links
        self._known = {link.name: _class_of(link) for link in there}

    def pods(self, link: str) -> str | None:
        """Name the class of a link; one that went away meanwhile is told by its name."""
        return self._known[link] if link in self._known else pod_class(link)


def _class_of(link: Link) -> str | None:
    named = pod_class(link.name)
    if named or not link.elsewhere or link.kind not in _CONTAINERS:
        return named
    # A CNI, or a container engine, whose names we do not know.
    return None if is_temporary(link.name) or link.name == "lxc_health" else f"{link.kind}*"


def picture_of(network: Network, young: frozenset[str] = frozenset()) -> Picture:
    """Put a sample into stable terms.

    `young` are links that no earlier sample had: a CNI takes a moment to attach to a new pod, so
    nothing is asked of those yet.
    """
    names = _Names(network.links)
    links = _known(network.links, lambda there: tuple(x for x in there if x.name not in young))
    routes, attachments = network.routes, network.attachments
    return Picture(
        roles=_known(attachments, lambda there: _roles(there, names)),
        ways=() if isinstance(attachments, Unknown) else _ways(attachments, names),
        pod_roles=_known(attachments, lambda there: _pod_roles(there, names, young)),
        pods=_known(links, lambda there: _pods(there, names)),
        links=_known(links, lambda there: _node_links(there, names)),
        mac_origins=() if isinstance(links, Unknown) else _mac_origins(links, names),
        routes=_known(routes, lambda there: _node_routes(there, names)),
        remote_routes=() if isinstance(routes, Unknown) else _remote_routes(routes, names),
        pod_routes=() if isinstance(routes, Unknown) else _pod_routes(routes, names, young),
        rules=_node_rules(network, names),
        pod_rules=_pod_rules(network, names, young),
        neighbours=_known(network.neighbours, lambda there: _neighbours(there, names)),
        sysctls=_known(network.sysctls, lambda there: settings_of(there, names.pods, young)),
    )


def _known(part: _T | Unknown, then: Callable[[_T], _F]) -> _F | Unknown:
    return part if isinstance(part, Unknown) else then(part)


# --- eBPF ---------------------------------------------------------------------------------------


def _place_of(attachment: Attachment, names: _Names) -> str | None:
    """Name the class of pods that an attachment is on; None for one of the node."""
    return names.pods(attachment.place.removeprefix("dev:"))


def _judged(attachments: Iterable[Attachment]) -> Iterable[Attachment]:
    """Leave out what comes and goes: systemd's programs, tools, and probes of a CNI's start."""
    return (
        a
        for a in attachments
        if owner_of(a.program) not in {"systemd", "tools"}
        and a.hook not in _OF_ANY_NAMESPACE
        and not is_temporary(a.place.removeprefix("dev:"))
    )


def _role(attachment: Attachment, place: str) -> Role:
    return Role(
        place=place,
        hook=attachment.hook,
        direction=attachment.direction,
        program=role_name(attachment.program),
    )


def _roles(attachments: tuple[Attachment, ...], names: _Names) -> tuple[Role, ...]:
    there = {_role(a, a.place) for a in _judged(attachments) if _place_of(a, names) is None}
    return tuple(sorted(there))


def _ways(attachments: tuple[Attachment, ...], names: _Names) -> tuple[tuple[str, str], ...]:
    ways: dict[str, set[str]] = {}
    for attachment in _judged(attachments):
        pods = _place_of(attachment, names)
        place = f"pod:{pods}" if pods else attachment.place
        ways.setdefault(str(_role(attachment, place)), set()).add(attachment.via)
    return tuple(sorted((role, "+".join(sorted(how))) for role, how in ways.items()))


def _pod_roles(
    attachments: tuple[Attachment, ...], names: _Names, young: frozenset[str]
) -> tuple[PodRole, ...]:
    carriers: dict[tuple[str, Role], set[str]] = {}
    for attachment in _judged(attachments):
        pods = _place_of(attachment, names)
        if pods and attachment.place.removeprefix("dev:") not in young:
            key = (pods, _role(attachment, f"pod:{pods}"))
            carriers.setdefault(key, set()).add(attachment.place)
    return tuple(
        sorted(
            PodRole(pods=pods, role=role, carried=len(places))
            for (pods, role), places in carriers.items()
        )
    )


# --- links --------------------------------------------------------------------------------------


def _pods(links: tuple[Link, ...], names: _Names) -> tuple[tuple[str, int], ...]:
    present = Counter(name for link in links if (name := names.pods(link.name)))
    return tuple(sorted(present.items()))


def _node_links(links: tuple[Link, ...], names: _Names) -> tuple[NodeLink, ...]:
    node = [
        link for link in links if names.pods(link.name) is None and not is_temporary(link.name)
    ]
    plain = {link.name for link in node if not link.kind}
    bridges = {link.master for link in node if link.kind not in _OF_A_PROGRAM}
    return tuple(
        sorted(
            NodeLink(
                name=link.name,
                kind=link.kind,
                mac=link.permanent_mac or link.mac,
                bus=link.bus,
                mtu=link.mtu,
                lasting=_is_lasting(link, bridges, plain),
            )
            for link in node
            if link.up and link.carrier
        )
    )


def _is_lasting(link: Link, bridges: set[str], plain: set[str]) -> bool:
    """Tell what must be there whether or not pods are: a bridge only with a port of the node.

    A device below another plain one is a virtual function that speeds it up: a cloud takes it away
    and gives another one while it serves the host, and nothing is lost (netvsc, net_failover).
    """
    if link.kind == "bridge":
        return link.name in bridges
    if link.master in plain:
        return False
    return link.kind not in _OF_A_PROGRAM and not is_for_a_peer(link.name)


def _mac_origins(links: tuple[Link, ...], names: _Names) -> tuple[MacOrigins, ...]:
    origins: dict[str, set[str]] = {}
    for link in links:
        pods = names.pods(link.name)
        if pods and link.mac_origin:
            origins.setdefault(pods, set()).add(link.mac_origin)
    return tuple(
        sorted(MacOrigins(pods=pods, origins=tuple(sorted(o))) for pods, o in origins.items())
    )


# --- routes, rules, neighbours ------------------------------------------------------------------


def _is_counted(route: Route) -> bool:
    """Leave out what only follows from addresses and links, and what a router told to pass by."""
    if route.table == _LOCAL_TABLE or route.protocol == _REDIRECT:
        return False
    if route.kind in _LOCAL_ROUTES and route.protocol == _KERNEL:
        return False
    return not route.destination.startswith(_PASSING)


def _is_the_nodes(route: Route) -> bool:
    """Tell a route that the node's configuration makes from one that leads to other nodes' pods.

    CNIs written in Go leave the protocol at «boot», and some say «kernel»: with a gateway, and no
    default route, such a one leads to another node and goes when that node does.
    """
    if route.protocol in _CONFIGURED or route.destination == "default":
        return True
    if route.protocol in {_KERNEL, _BOOT, _RA}:
        return not route.gateway
    return False


def _node_routes(routes: tuple[Route, ...], names: _Names) -> tuple[NodeRoute, ...]:
    return tuple(
        sorted(
            {
                NodeRoute(
                    family=r.family,
                    destination=r.destination,
                    table=r.table,
                    link=r.link,
                    # Which of several routers advertises itself last is no property of the node.
                    gateway=r.gateway if r.protocol in _ITS_GATEWAY else "",
                    kind=r.kind,
                )
                for r in routes
                if _is_counted(r) and _is_the_nodes(r) and names.pods(r.link) is None
            }
        )
    )


def _remote_routes(routes: tuple[Route, ...], names: _Names) -> tuple[RemoteRoutes, ...]:
    counted = Counter(
        (r.family, r.protocol)
        for r in routes
        if _is_counted(r)
        # A block of this node's own addresses that leads nowhere leads to nobody.
        and r.kind == "unicast"
        and not _is_the_nodes(r)
        and names.pods(r.link) is None
    )
    return tuple(
        sorted(
            RemoteRoutes(family=family, protocol=protocol, count=count)
            for (family, protocol), count in counted.items()
        )
    )


def _pod_routes(
    routes: tuple[Route, ...], names: _Names, young: frozenset[str]
) -> tuple[PodRoutes, ...]:
    carriers: dict[tuple[str, int], set[str]] = {}
    for route in routes:
        pods = names.pods(route.link) if _is_counted(route) else None
        if pods and route.link not in young:
            carriers.setdefault((pods, route.family), set()).add(route.link)
    return tuple(
        sorted(
            PodRoutes(pods=pods, family=family, carried=len(links))
            for (pods, family), links in carriers.items()
        )
    )


def _node_rules(network: Network, names: _Names) -> tuple[NodeRule, ...] | Unknown:
    rules, addresses = network.rules, network.addresses
    if isinstance(rules, Unknown):
        return rules
    if isinstance(addresses, Unknown):
        return Unknown(f"addresses: {addresses.why}")
    return _rules(
        tuple(
            rule
            for rule in rules
            if is_the_nodes_rule(rule, addresses) and names.pods(rule.input_link) is None
        )
    )


def _pod_rules(
    network: Network, names: _Names, young: frozenset[str]
) -> tuple[PodRules, ...] | Unknown:
    routes, rules = network.routes, network.rules
    if isinstance(routes, Unknown):
        return routes
    if isinstance(rules, Unknown):
        return rules
    return pod_rules_of(rules, tuple(r for r in routes if r.link not in young), names.pods)


def _rules(rules: tuple[Rule, ...]) -> tuple[NodeRule, ...]:
    return tuple(
        sorted(
            {
                NodeRule(
                    family=r.family,
                    source=r.source,
                    destination=r.destination,
                    mark=r.mark,
                    input_link=r.input_link,
                    table=r.table,
                    action=r.action,
                )
                for r in rules
            }
        )
    )


def _neighbours(neighbours: tuple[Neighbour, ...], names: _Names) -> tuple[Neighbours, ...]:
    counted = Counter(n.link for n in neighbours if names.pods(n.link) is None)
    return tuple(sorted(Neighbours(link=link, count=count) for link, count in counted.items()))
