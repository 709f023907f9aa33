"""What this node's network promises: learned while healthy, renewed, amended by the operator.

The operator's amendments are lines as `trialboot contract` prints them, or patterns of such lines
(fnmatch): `pin` what must stay although the CNI changed, `ignore` what may go, `add` what was not
learned.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from trialboot.core.facts import Cni, CniConfiguration, Network, Unknown
from trialboot.core.picture import (
    INET,
    MacOrigins,
    Neighbours,
    NodeLink,
    NodeRoute,
    NodeRule,
    Picture,
    PodRole,
    PodRoutes,
    RemoteRoutes,
    picture_of,
)
from trialboot.core.podrules import PodRules
from trialboot.core.roles import Role
from trialboot.core.sysctls import Setting

FORMAT: Final = 2
"""1 had no CNI, neighbours, sysctls, pod routes and MACs; its files are still understood."""
STABLE_SECONDS: Final = 300.0
"""A CNI's agent must have run so long before anything is learned beside it."""

Item: TypeAlias = (
    Role
    | PodRole
    | NodeLink
    | MacOrigins
    | NodeRoute
    | RemoteRoutes
    | PodRoutes
    | NodeRule
    | PodRules
    | Neighbours
    | Setting
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CniPromise:
    """Which CNI the contract was learned beside."""

    plugins: tuple[str, ...] = ()
    digest: str = ""
    """Of its configuration file."""
    agents: tuple[str, ...] = ()
    """Its processes that had run for a while, by name."""
    images: tuple[tuple[str, str], ...] = ()
    """Agent and its image, where the container runtime shows it."""
    pods: tuple[tuple[str, str], ...] = ()
    """Agent and the UID of its pod: a rollout makes another pod."""


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
    ways: tuple[tuple[str, str], ...] = ()
    mac_origins: tuple[MacOrigins, ...] = ()
    pod_routes: tuple[PodRoutes, ...] = ()
    pod_rules: tuple[PodRules, ...] = ()
    neighbours: tuple[Neighbours, ...] = ()
    sysctls: tuple[Setting, ...] = ()
    modules: tuple[str, ...] = ()
    """Loaded modules that carry the network: told beside a failure, never judged."""
    cni: CniPromise = CniPromise()


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendments:
    """The operator's file: lines or patterns of lines."""

    pin: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    add: tuple[str, ...] = ()


NO_AMENDMENTS: Final = Amendments()

_PARTS: Final = (
    "roles", "pod_roles", "links", "mac_origins", "routes", "remote_routes", "pod_routes", "rules",
    "pod_rules", "neighbours", "sysctls",
)  # fmt: skip
"""Fields of a contract that hold items of their own line each."""


# --- learning -----------------------------------------------------------------------------------


def learn(
    network: Network, *, at: str, boot: str, kernel: str, cni: CniPromise | None = None,
    modules: tuple[str, ...] = (), young: frozenset[str] = frozenset(),
) -> Contract | Unknown:  # fmt: skip
    """Turn a healthy sample into a promise. Any part that was not seen makes it Unknown.

    Nothing is learned from `young` links: a pod that is being made is no model.
    """
    picture = picture_of(network, young)
    for name in (f.name for f in fields(picture)):
        part = getattr(picture, name)
        if isinstance(part, Unknown):
            return Unknown(f"{_PART_WORDS.get(name, name)}: {part.why}")
    made: dict[str, Any] = {f.name: getattr(picture, f.name) for f in fields(Picture)}
    return Contract(
        format=FORMAT,
        learned_at=at,
        boot=boot,
        kernel=kernel,
        cni=cni or CniPromise(),
        modules=modules,
        **made,
    )


_PART_WORDS: Final = {
    "roles": "eBPF attachments", "pods": "links",
}  # fmt: skip


def cni_promise(cni: Cni) -> CniPromise | Unknown:
    """Say which CNI runs, or why this is no moment to learn beside it.

    An agent that has not run for a while may be about to change what it attached.
    """
    if isinstance(cni.agents, Unknown):
        return Unknown(f"CNI agents: {cni.agents.why}")
    fresh = {agent.name for agent in cni.agents if agent.age < STABLE_SECONDS}
    if fresh:
        minutes = f"{STABLE_SECONDS / 60:.0f} minutes"
        return Unknown(f"{', '.join(sorted(fresh))} has run for less than {minutes}")
    return cni_seen(cni)


def cni_seen(cni: Cni) -> CniPromise:
    """Say which CNI runs, as far as it is known; what is not known is empty."""
    agents = () if isinstance(cni.agents, Unknown) else cni.agents
    found = CniPromise(
        agents=tuple(sorted({agent.name for agent in agents})),
        images=tuple(sorted({(agent.name, agent.image) for agent in agents if agent.image})),
        pods=tuple(sorted({(agent.name, agent.pod) for agent in agents if agent.pod})),
    )
    if not isinstance(cni.configuration, CniConfiguration):
        return found
    return replace(found, plugins=cni.configuration.plugins, digest=cni.configuration.digest)


def renewed(old: Contract, fresh: Contract, pin: tuple[str, ...] = ()) -> Contract:
    """Renew a promise from a newer healthy sample.

    A class of pods that has no interface just now (a drained node) keeps what it had promised; so
    does every line that the operator pinned.
    """
    present = {name for name, _ in fresh.pods}
    kept = {
        part: tuple(
            item
            for item in getattr(old, part)
            if _pods_of(item) not in {None, *present} or is_named(item, pin)
        )
        for part in _PARTS
    }
    pods = tuple(pod for pod in old.pods if pod[0] not in present)
    merged: dict[str, Any] = {p: _merged(getattr(fresh, p), kept[p]) for p in _PARTS}
    return replace(fresh, pods=tuple(sorted((*fresh.pods, *pods))), **merged)


def _pods_of(item: Item) -> str | None:
    return item.pods if isinstance(item, PodRole | PodRoutes | PodRules | MacOrigins) else None


def _merged(fresh: tuple[Item, ...], kept: Iterable[Item]) -> tuple[Item, ...]:
    subjects = {subject_of(item) for item in fresh}
    more = [item for item in kept if subject_of(item) not in subjects]
    return tuple(sorted((*fresh, *more)))


# --- the operator's amendments ------------------------------------------------------------------


def line_of(item: Item) -> str:
    """Write one promise as people read it and the operator's file names it."""
    match item:
        case Setting(values=values):
            return f"{subject_of(item)} = {' or '.join(values)}"
        case RemoteRoutes(count=count) | Neighbours(count=count):
            return f"{subject_of(item)}: {count}"
        case PodRole(carried=carried) | PodRoutes(carried=carried) | PodRules(carried=carried):
            return f"{subject_of(item)}: on {carried}"
        case MacOrigins(origins=origins):
            return f"{subject_of(item)}: {', '.join(origins)}"
        case _:
            return subject_of(item)


def subject_of(item: Item) -> str:
    """Name what a promise is about, without how much of it there was."""
    kind, words = _WORDS[type(item)]
    return f"{kind}: {words(item)}"


def version_of(family: int) -> str:
    """Give an address family's name."""
    return "IPv4" if family == INET else "IPv6"


def route_words(route: NodeRoute) -> str:
    """Write a route as ip-route(8) does."""
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    via = f" via {route.gateway}" if route.gateway else ""
    device = f" dev {route.link}" if route.link else ""
    family = "" if route.family == INET else " (IPv6)"
    return f"{kind}{route.destination}{via}{device} table {route.table}{family}"


def rule_words(rule: NodeRule) -> str:
    """Write a rule as ip-rule(8) does."""
    to = f" to {rule.destination}" if rule.destination else ""
    mark = f" fwmark {rule.mark}" if rule.mark else ""
    device = f" iif {rule.input_link}" if rule.input_link else ""
    family = "" if rule.family == INET else " (IPv6)"
    return f"from {rule.source or 'all'}{to}{mark}{device} {rule.action} {rule.table}{family}"


_WORDS: Final[dict[type, tuple[str, Callable[[Any], str]]]] = {
    Role: ("role", str),
    PodRole: ("pods", lambda item: str(item.role).removeprefix("pod:")),
    NodeLink: ("link", lambda item: item.name),
    MacOrigins: ("pod macs", lambda item: item.pods),
    NodeRoute: ("route", route_words),
    RemoteRoutes: (
        "remote routes",
        lambda item: f"{version_of(item.family)} protocol {item.protocol}",
    ),
    PodRoutes: ("pod routes", lambda item: f"{item.pods} {version_of(item.family)}"),
    NodeRule: ("rule", rule_words),
    PodRules: ("pod rules", lambda item: f"{item.pods} {version_of(item.family)}"),
    Neighbours: ("neighbours", lambda item: item.link),
    Setting: ("sysctl", lambda item: item.name),
}


def items_of(contract: Contract | Picture) -> Iterator[Item]:
    """Give every promise that has a line of its own, in the order that people read them."""
    for part in _PARTS:
        there = getattr(contract, part)
        if not isinstance(there, Unknown):
            yield from there


def lines_of(contract: Contract) -> tuple[tuple[str, str], ...]:
    """Write the whole contract: the name of each promise, by which it is amended, and its line."""
    agents = ((f"agent: {name}", f"agent: {name}") for name in contract.cni.agents)
    return (*((subject_of(item), line_of(item)) for item in items_of(contract)), *agents)


def is_named(item: Item, patterns: tuple[str, ...]) -> bool:
    """Tell whether one of the operator's patterns means this promise."""
    return is_line_named(subject_of(item), patterns)


def is_line_named(line: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether one of the operator's patterns means this line; a line names itself."""
    return any(line == pattern or fnmatchcase(line, pattern) for pattern in patterns)


def amended(contract: Contract, amendments: Amendments) -> Contract:
    """Give the contract that is judged by: without what the operator ignores, with what was added.

    Raises `ValueError` that names the line which cannot be understood.
    """
    added = [parse_line(line) for line in amendments.add]
    parts: dict[str, Any] = {
        part: tuple(i for i in getattr(contract, part) if not is_named(i, amendments.ignore))
        for part in _PARTS
    }
    for item in added:
        part = _PART_OF[type(item)]
        there = parts[part]
        # The operator knows which value is right; of a link, more was learned than its name.
        first, then = ((item,), there) if isinstance(item, Setting) else (there, (item,))
        parts[part] = _merged(first, then)
    agents = tuple(
        name
        for name in contract.cni.agents
        if not is_line_named(f"agent: {name}", amendments.ignore)
    )
    return replace(contract, cni=replace(contract.cni, agents=agents), **parts)


_PART_OF: Final = {Role: "roles", NodeLink: "links", NodeRoute: "routes", Setting: "sysctls"}
_FORMS: Final = (
    "role: PLACE|HOOK|DIRECTION|PROGRAM, link: NAME, "
    "route: DESTINATION [via GATEWAY] dev LINK [table N], sysctl: NAME = VALUE"
)


def parse_line(line: str) -> Role | NodeLink | NodeRoute | Setting:
    """Read a line of the operator's `add`, or raise `ValueError` that says what it may be."""
    kind, _, rest = line.partition(": ")
    words = rest.split()
    match kind:
        case "role" if rest.count("|") == 3:  # noqa: PLR2004  place, hook, direction, program
            place, hook, direction, program = rest.split("|")
            return Role(place=place, hook=hook, direction=direction, program=program)
        case "link" if len(words) == 1:
            return NodeLink(name=rest.strip(), kind="")
        case "route" if words:
            return _parse_route(line, words)
        case "sysctl" if len(words) == 3 and words[1] == "=":  # noqa: PLR2004  NAME = VALUE
            return Setting(name=words[0], values=(words[2],))
        case _:
            raise ValueError(f"«{line}» is none of: {_FORMS}")


def _parse_route(line: str, words: list[str]) -> NodeRoute:
    destination, *rest = words
    keys = dict(zip(rest[::2], rest[1::2], strict=False))
    known = keys.keys() <= {"via", "dev", "table"} and len(rest) == 2 * len(keys)
    table = keys.get("table", "254")
    if not known or "dev" not in keys or not table.isdecimal():
        raise ValueError(f"«{line}» is none of: {_FORMS}")
    gateway = keys.get("via", "")
    return NodeRoute(
        family=10 if ":" in destination or ":" in gateway else INET,
        destination=destination,
        table=int(table),
        link=keys["dev"],
        gateway=gateway,
        kind="unicast",
    )
