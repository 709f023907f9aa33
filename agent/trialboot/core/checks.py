"""One sample of the network held against the contract: the law of what fails and what does not.

Places and roles count, not mechanisms; pods count by how many of those present are covered; the
node's own routes are exact, those to other nodes have a floor; a CNI that changed is not blamed
for what it no longer attaches. A part that could not be read leaves its own check undecided.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from trialboot.core.comparison import (
    CHANGED,
    ITS_LINK,
    Case,
    Terms,
    case_of,
    is_passing,
    or_none,
    told,
    unless_changed,
    went_with_its_link,
)
from trialboot.core.contract import (
    Contract,
    is_named,
    route_words,
    rule_words,
    subject_of,
    version_of,
)
from trialboot.core.datapath import pod_routes, pod_rules, pods, roles
from trialboot.core.facts import Network, Unknown
from trialboot.core.picture import MacOrigins, Neighbours, NodeLink, RemoteRoutes, picture_of
from trialboot.core.sysctls import Setting
from trialboot.core.verdict import Check, Finding, check_of

_FORWARDING: Final = ("net.ipv4.ip_forward", "net.ipv?.conf.*.forwarding")
_BRIDGED: Final = "net.bridge.bridge-nf-call-*"
_EVERY_LINK: Final = "net.ipv4.conf.all.rp_filter"


class _Lost(NamedTuple):
    """Something of which there was at least one for each other node, and of which none is left."""

    item: RemoteRoutes | Neighbours
    words: str
    before: int
    replaced: bool
    """What it was on is there, or another thing of its kind: a changed CNI does without it."""


def network_checks(
    contract: Contract, network: Network, terms: Terms | None = None
) -> tuple[Check, ...]:
    """Hold one sample against the contract, a check each for what it promises."""
    case = case_of(contract, network, terms or Terms())
    return (
        roles(case),
        pods(case),
        _links(case),
        _routes(case),
        _rules(case),
        _neighbours(case),
        _sysctls(case),
    )


# --- links, routes, rules, neighbours -----------------------------------------------------------


def _links(case: Case) -> Check:
    now = case.now.links
    if isinstance(now, Unknown):
        return check_of("links", undecided=[f"links: {now.why}"])
    there = {link.name: link for link in now}
    failed, notes = [], [f"link {old} is now {new}" for old, new in case.renames]
    for promised in case.contract.links:
        link = there.get(promised.name)
        if link is None or _is_other_kind(promised, link):
            words = f"link {promised.name} ({promised.kind or 'device'}) is gone or has no carrier"
            if is_passing(case, promised) and not is_named(promised, case.pinned):
                notes.append(f"{words} (it comes with pods, programs or other nodes)")
            else:
                failed.append(Finding(subject_of(promised), words))
        else:
            notes += _link_notes(promised, link)
    known = {link.name for link in case.contract.links}
    new = told(case, [link for link in now if link.name not in known])
    notes += [f"new link {link.name} ({link.kind or 'device'})" for link in new]
    foreign, excused = unless_changed(case, _foreign_macs(case))
    return check_of("links", [*failed, *foreign], [*notes, *excused])


def _is_other_kind(promised: NodeLink, link: NodeLink) -> bool:
    added = not promised.kind and not promised.mtu  # by the operator, who names no kind
    return not added and promised.kind != link.kind


def _link_notes(before: NodeLink, now: NodeLink) -> list[str]:
    notes = []
    if before.mtu > now.mtu:
        notes.append(f"MTU of {now.name} is {now.mtu}, was {before.mtu}")
    if not now.kind and before.mac and now.mac and before.mac != now.mac:
        notes.append(f"MAC of {now.name} is {now.mac}, was {before.mac}")
    return notes


def _foreign_macs(case: Case) -> list[tuple[MacOrigins, str]]:
    """Find pods whose MAC somebody else sets: the CNI has it in the pods' static neighbours."""
    if not any(profile.sets_macs for profile in case.profiles):
        return []
    before = {macs.pods: macs for macs in case.contract.mac_origins}
    found = []
    for macs in case.now.mac_origins:
        promised = before.get(macs.pods, macs)
        fresh = sorted(set(macs.origins) - set(promised.origins))
        if fresh:
            words = (
                f"MACs of pod interfaces {macs.pods} are {' and '.join(fresh)} now, "
                f"were {' and '.join(promised.origins)}: something else names or sets them"
            )
            found.append((promised, words))
    return found


def _routes(case: Case) -> Check:
    now = case.now.routes
    if isinstance(now, Unknown):
        return check_of("routes", undecided=[f"routes: {now.why}"])
    there = set(now)
    failed, notes = [], []
    for route in case.contract.routes:
        words = f"route {route_words(route)} is gone"
        if route in there:
            continue
        if went_with_its_link(case, route.link) and not is_named(route, case.pinned):
            notes.append(f"{words} ({ITS_LINK})")
        else:
            failed.append(Finding(subject_of(route), words))
    known = set(case.contract.routes)
    new = told(case, [route for route in now if route not in known])
    notes += [f"new route {route_words(route)}" for route in new]
    lost, at_rest, undecided = _gone(case, _lost_routes(case))
    bare, empty = pod_routes(case)
    return check_of("routes", [*failed, *lost, *bare], [*notes, *at_rest, *empty], undecided)


def _lost_routes(case: Case) -> list[_Lost]:
    now = {(r.family, r.protocol): r.count for r in case.now.remote_routes}
    families = {family for family, _ in now}
    return [
        _Lost(
            item=promised,
            words=f"no {version_of(promised.family)} route of protocol {promised.protocol} "
            "is left",
            before=promised.count,
            replaced=promised.family in families,
        )
        for promised in case.contract.remote_routes
        if (promised.family, promised.protocol) not in now
    ]


def _gone(case: Case, lost: Iterable[_Lost]) -> tuple[list[Finding], list[str], list[str]]:
    """Judge floors: what fails, what is only noted, what is undecided.

    The last other node may have left the cluster: one that is gone proves nothing by itself. At
    rest it has: no other boot has begun that could have broken it.
    """
    failed, notes, undecided = [], [], []
    for one in lost:
        words = f"{one.words}, {one.before} before"
        if is_named(one.item, case.pinned):
            failed.append(Finding(subject_of(one.item), words))
        elif case.changed and one.replaced:
            notes.append(f"{words} ({CHANGED})")
        elif one.before > 1:
            failed.append(Finding(subject_of(one.item), words))
        elif case.on_trial:
            undecided.append(f"{words}: the only other node may be gone")
        else:
            notes.append(f"{words}: the only other node is gone")
    return failed, notes, undecided


def _rules(case: Case) -> Check:
    now = case.now.rules
    if isinstance(now, Unknown):
        return check_of("rules", undecided=[f"rules: {now.why}"])
    there, known = set(now), set(case.contract.rules)
    missing = [rule for rule in case.contract.rules if rule not in there]
    failed, excused = unless_changed(
        case, [(rule, f"rule {rule_words(rule)} is gone") for rule in missing]
    )
    new = told(case, [rule for rule in now if rule not in known])
    bare, empty = pod_rules(case)
    notes = [*excused, *(f"new rule {rule_words(rule)}" for rule in new), *empty]
    return check_of("rules", [*failed, *bare], notes)


def _neighbours(case: Case) -> Check:
    now = case.now.neighbours
    if isinstance(now, Unknown):
        undecided = [f"neighbours: {now.why}"] if case.contract.neighbours else []
        return check_of("neighbours", undecided=undecided)
    there, links = {n.link for n in now}, {link.name for link in or_none(case.now.links)}
    lost = [
        _Lost(
            item=promised,
            words=f"no permanent neighbour of {promised.link} is left",
            before=promised.count,
            replaced=promised.link in links,
        )
        for promised in case.contract.neighbours
        if promised.link not in there
    ]
    failed, notes, undecided = _gone(case, lost)
    return check_of("neighbours", failed, notes, undecided)


# --- sysctls ------------------------------------------------------------------------------------


def _sysctls(case: Case) -> Check:
    now = case.now.sysctls
    if isinstance(now, Unknown):
        undecided = [f"sysctls: {now.why}"] if case.contract.sysctls else []
        return check_of("sysctls", undecided=undecided)
    there = {setting.name: setting for setting in now}
    failed, notes = [], []
    for promised in case.contract.sysctls:
        setting = there.get(promised.name)
        if not _is_broken(promised, setting):
            continue
        is_, was = " or ".join(setting.values if setting else ()), " or ".join(promised.values)
        words = f"sysctl {promised.name} is {is_ or 'not there'}, was {was}"
        if _is_needed(case, promised) or is_named(promised, case.pinned):
            failed.append(Finding(subject_of(promised), words))
        else:
            notes.append(words)
    return check_of("sysctls", failed, notes)


def _is_broken(promised: Setting, now: Setting | None) -> bool:
    """Tell a setting that has a value it had nowhere; one of a link that is gone is the link's."""
    if now is None:
        return ".conf." not in promised.name
    return not set(now.values) <= set(promised.values)


def _is_needed(case: Case, promised: Setting) -> bool:
    """Tell what a CNI cannot live without: forwarding on, its filter off, bridged packets seen."""
    name, values = promised.name, promised.values
    if values == ("1",) and any(fnmatchcase(name, pattern) for pattern in _FORWARDING):
        return True
    if values == ("1",) and fnmatchcase(name, _BRIDGED):
        return any(profile.sees_bridged for profile in case.profiles)
    devices = [d for profile in case.profiles for d in profile.reverse_path_off]
    names = [f"net.ipv4.conf.{device}.rp_filter" for device in devices]
    if values == ("0",) and devices and name == _EVERY_LINK:
        return True
    return values == ("0",) and any(fnmatchcase(name, pattern) for pattern in names)


# --- before and beside --------------------------------------------------------------------------


def missing_modules(contract: Contract, loaded: tuple[str, ...] | Unknown) -> tuple[str, ...]:
    """Name modules that carried the network and are not loaded now: evidence beside a failure."""
    if isinstance(loaded, Unknown):
        return ()
    return tuple(name for name in contract.modules if name not in set(loaded))


def healthy_check(network: Network) -> Check:
    """Ask, where nothing was learned yet, whether this network is worth learning from.

    The least that a node must have: a default route through a link that has carrier.
    """
    now = picture_of(network)
    for name in ("links", "routes", "rules", "roles"):
        part = getattr(now, name)
        if isinstance(part, Unknown):
            return check_of("healthy", undecided=[f"network: {name}: {part.why}"])
    links, routes = or_none(now.links), or_none(now.routes)
    up = {link.name for link in links}
    if not any(r.destination == "default" and r.link in up for r in routes):
        why = "there is no default route through a link with carrier to learn from"
        return check_of("healthy", undecided=[why])
    # The counts make two samples differ while the network is still being built.
    seen = (
        f"{len(or_none(now.roles))} eBPF roles, {len(links)} links, "
        f"{len(routes)} routes and {len(or_none(now.rules))} rules to learn from"
    )
    return check_of("healthy", notes=[seen], state=seen)
