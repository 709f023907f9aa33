"""What this node's network promises, learned while it is healthy.

Free of anything that a healthy reboot renumbers: no ids, no interface indexes, no priorities, no
mechanism.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from trialboot.core.facts import Attachment, Link, Network, Route, Rule, Unknown

FORMAT: Final = 1

_POD_CLASSES: Final = (
    (re.compile(r"lxc[0-9a-f]+"), "lxc*"),
    (re.compile(r"cali[0-9a-z]+"), "cali*"),
    (re.compile(r"eni[0-9a-f]{11}"), "eni*"),
    (re.compile(r"veth[0-9a-f]{8}"), "veth*"),
    (re.compile(r"gke[0-9a-f]{11}"), "gke*"),
    (re.compile(r"azv[0-9a-f]+"), "azv*"),
)
_TEMPORARY: Final = re.compile(r"testTcxb?|cali_nk_probe")
_LOCAL_ROUTES: Final = frozenset({"local", "broadcast", "anycast", "multicast"})
_LOCAL_TABLE: Final = 255
_KERNEL, _STATIC = 2, 4
_NODE_PROTOCOLS: Final = frozenset({0, 1, _KERNEL, 3, _STATIC, 9, 16})
_LINK_LOCAL: Final = "fe80:"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Role:
    """One eBPF program at its place: `dev:eth0|skb|ingress|cil_from_netdev`."""

    place: str
    hook: str
    direction: str
    program: str

    def __str__(self) -> str:
        """Write it as people and files have it."""
        return f"{self.place}|{self.hook}|{self.direction}|{self.program}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRole:
    """One program on the interfaces of a class of pods: how many of those present carried it."""

    pods: str
    role: Role
    carried: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeLink:
    """A link of the node itself (not of a pod) that was up."""

    name: str
    kind: str


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
    """How many routes a CNI's routing protocol had put in: judged as a class, with a floor."""

    family: int
    protocol: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The promise itself. Versioned on disk; the last three are kept."""

    format: int
    learned_at: str
    boot: str
    kernel: str
    roles: tuple[Role, ...]
    pods: tuple[tuple[str, int], ...]
    """Interfaces present, by class of pod: a floor for nothing, the base of `carried`."""
    pod_roles: tuple[PodRole, ...]
    links: tuple[NodeLink, ...]
    routes: tuple[NodeRoute, ...]
    remote_routes: tuple[RemoteRoutes, ...]
    rules: tuple[NodeRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One sample of the network in the contract's terms: what is promised, or what is there."""

    roles: tuple[Role, ...]
    pods: tuple[tuple[str, int], ...]
    pod_roles: tuple[PodRole, ...]
    links: tuple[NodeLink, ...]
    routes: tuple[NodeRoute, ...]
    remote_routes: tuple[RemoteRoutes, ...]
    rules: tuple[NodeRule, ...]


def pod_class(link: str) -> str | None:
    """Name the class of pod interface that a link's name shows; None for a node's own link.

    `lxc_health` is Cilium's own endpoint and a node device.
    """
    for pattern, name in _POD_CLASSES:
        if pattern.fullmatch(link):
            return name
    return None


def learn(network: Network, *, at: str, boot: str, kernel: str) -> Contract | Unknown:
    """Turn a healthy sample into a promise. Any part that was not seen makes it Unknown."""
    picture = picture_of(network)
    if isinstance(picture, Unknown):
        return picture
    return Contract(
        format=FORMAT,
        learned_at=at,
        boot=boot,
        kernel=kernel,
        roles=picture.roles,
        pods=picture.pods,
        pod_roles=picture.pod_roles,
        links=picture.links,
        routes=picture.routes,
        remote_routes=picture.remote_routes,
        rules=picture.rules,
    )


def renewed(old: Contract, fresh: Contract) -> Contract:
    """Renew a promise from a newer healthy sample.

    A class of pods that has no interface just now (a drained node) keeps what it had promised.
    """
    present = {name for name, _ in fresh.pods}
    pods = tuple(pod for pod in old.pods if pod[0] not in present)
    roles = tuple(role for role in old.pod_roles if role.pods not in present)
    return replace(
        fresh,
        pods=tuple(sorted((*fresh.pods, *pods))),
        pod_roles=tuple(sorted((*fresh.pod_roles, *roles))),
    )


def picture_of(network: Network) -> Picture | Unknown:
    """Put a sample into the contract's terms; the first part that could not be read is Unknown."""
    links, routes = network.links, network.routes
    rules, attachments = network.rules, network.attachments
    if isinstance(links, Unknown):
        return Unknown(f"links: {links.why}")
    if isinstance(routes, Unknown):
        return Unknown(f"routes: {routes.why}")
    if isinstance(rules, Unknown):
        return Unknown(f"rules: {rules.why}")
    if isinstance(attachments, Unknown):
        return Unknown(f"eBPF attachments: {attachments.why}")
    return Picture(
        roles=_roles(attachments),
        pods=_pods(links),
        pod_roles=_pod_roles(attachments),
        links=_node_links(links),
        routes=_node_routes(routes),
        remote_routes=_remote_routes(routes),
        rules=_rules(rules),
    )


def _judged(attachments: Iterable[Attachment]) -> list[Attachment]:
    # systemd puts sd_* programs on the cgroups of hardened services: never a network's promise.
    return [
        a
        for a in attachments
        if not a.program.startswith("sd_")
        and not _TEMPORARY.fullmatch(a.place.removeprefix("dev:"))
    ]


def _role(attachment: Attachment, place: str) -> Role:
    return Role(
        place=place,
        hook=attachment.hook,
        direction=attachment.direction,
        program=attachment.program,
    )


def _pod_of(attachment: Attachment) -> str | None:
    if not attachment.place.startswith("dev:"):
        return None
    return pod_class(attachment.place.removeprefix("dev:"))


def _roles(attachments: tuple[Attachment, ...]) -> tuple[Role, ...]:
    return tuple(sorted({_role(a, a.place) for a in _judged(attachments) if _pod_of(a) is None}))


def _pods(links: tuple[Link, ...]) -> tuple[tuple[str, int], ...]:
    present = Counter(name for link in links if (name := pod_class(link.name)))
    return tuple(sorted(present.items()))


def _pod_roles(attachments: tuple[Attachment, ...]) -> tuple[PodRole, ...]:
    carriers: dict[tuple[str, Role], set[str]] = {}
    for attachment in _judged(attachments):
        pods = _pod_of(attachment)
        if pods:
            key = (pods, _role(attachment, f"pod:{pods}"))
            carriers.setdefault(key, set()).add(attachment.place)
    return tuple(
        sorted(
            PodRole(pods=pods, role=role, carried=len(places))
            for (pods, role), places in carriers.items()
        )
    )


def _node_links(links: tuple[Link, ...]) -> tuple[NodeLink, ...]:
    return tuple(
        sorted(
            NodeLink(name=link.name, kind=link.kind)
            for link in links
            if link.up
            and link.carrier
            and pod_class(link.name) is None
            and not _TEMPORARY.fullmatch(link.name)
        )
    )


def _node_routes(routes: tuple[Route, ...]) -> tuple[NodeRoute, ...]:
    return tuple(
        sorted(
            {
                NodeRoute(
                    family=r.family,
                    destination=r.destination,
                    table=r.table,
                    link=r.link,
                    gateway=r.gateway,
                    kind=r.kind,
                )
                for r in routes
                if r.protocol in _NODE_PROTOCOLS and _is_promised(r)
            }
        )
    )


def _is_promised(route: Route) -> bool:
    if route.table == _LOCAL_TABLE or pod_class(route.link) is not None:
        return False
    if route.kind in _LOCAL_ROUTES and route.protocol == _KERNEL:
        return False
    # IPv6 link-local prefixes come with each link and say nothing that the link does not.
    return not route.destination.startswith((_LINK_LOCAL, "ff00:"))


def _remote_routes(routes: tuple[Route, ...]) -> tuple[RemoteRoutes, ...]:
    counted = Counter(
        (r.family, r.protocol)
        for r in routes
        if r.protocol not in _NODE_PROTOCOLS and pod_class(r.link) is None
    )
    return tuple(
        sorted(
            RemoteRoutes(family=family, protocol=protocol, count=count)
            for (family, protocol), count in counted.items()
        )
    )


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
