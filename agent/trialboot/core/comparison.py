"""What the checks of the network compare: one contract, one sample, and who is to blame.

A CNI that changed is not blamed for what it no longer attaches; an interface that was renamed is
compared under its new name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from trialboot.core.cni import PROFILES, Profile, owner_of, profile_of
from trialboot.core.contract import (
    NO_AMENDMENTS,
    Amendments,
    CniPromise,
    Contract,
    Item,
    amended,
    is_named,
    parse_line,
    subject_of,
)
from trialboot.core.facts import Network, Unknown
from trialboot.core.picture import (
    MAIN,
    TUNNEL,
    NodeLink,
    NodeRoute,
    NodeRule,
    Picture,
    PodRole,
    picture_of,
)
from trialboot.core.roles import Role, judged_owners
from trialboot.core.sysctls import renamed
from trialboot.core.verdict import Finding

CHANGED: Final = "the CNI itself was changed"
ITS_LINK: Final = "its link comes with pods, programs or other nodes"
_T = TypeVar("_T")
_Item = TypeVar("_Item", Role, NodeLink, NodeRoute, NodeRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a comparison depends on beside the contract and the sample."""

    amendments: Amendments = NO_AMENDMENTS
    young: frozenset[str] = frozenset()
    """Links that no earlier sample had: a CNI takes a moment to attach to a new pod."""
    cni: CniPromise | None = None
    """Which CNI runs now; None where that is not known, and then it is taken for the same."""
    on_trial: bool = True
    """This boot may be to blame; at rest nothing was changed but the cluster."""

    @property
    def pinned(self) -> tuple[str, ...]:
        """Lines that must hold whatever changed: pinned ones, and those the operator added."""
        added = (subject_of(parse_line(line)) for line in self.amendments.add)
        return (*self.amendments.pin, *added)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One contract, one sample, and who is to blame for what."""

    contract: Contract
    now: Picture
    pinned: tuple[str, ...]
    ignored: tuple[str, ...]
    owners: frozenset[str]
    """Whose programs make the pod network."""
    changed: bool
    """The CNI itself is another one, or another version, than when this was learned; at rest
    also one that was rolled out since."""
    on_trial: bool
    profiles: tuple[Profile, ...]
    renames: tuple[tuple[str, str], ...]


def case_of(contract: Contract, network: Network, terms: Terms) -> Case:
    """Put together what a comparison needs, with the operator's amendments.

    Raises `ValueError` that names an amendment which cannot be understood.
    """
    contract = amended(contract, terms.amendments)
    now = picture_of(network, terms.young)
    renames = {} if isinstance(now.links, Unknown) else _renames(contract.links, now.links)
    programs = [role.program for role in (*contract.roles, *(p.role for p in contract.pod_roles))]
    profile = profile_of(contract.cni.plugins)
    owners = judged_owners(programs, profile.name if profile else "")
    return Case(
        contract=_under_new_names(contract, renames),
        now=now,
        pinned=terms.pinned,
        ignored=terms.amendments.ignore,
        owners=owners,
        changed=is_changed(contract.cni, terms.cni) or _is_rolled_out(contract.cni, terms),
        on_trial=terms.on_trial,
        profiles=tuple(p for p in PROFILES if p.name in owners),
        renames=tuple(renames.items()),
    )


def is_changed(promised: CniPromise, now: CniPromise | None) -> bool:
    """Tell a CNI that was upgraded or configured anew; what is not known is no change."""
    if now is None:
        return False
    if promised.digest and now.digest and promised.digest != now.digest:
        return True
    before, after = dict(promised.images), dict(now.images)
    return any(after[name] != image for name, image in before.items() if name in after)


def _is_rolled_out(promised: CniPromise, terms: Terms) -> bool:
    """Tell at rest that an agent runs in other pods only: what its ConfigMap said may differ.

    On trial a new pod excuses nothing: a kubelet that shuts down gracefully (KEP-2000) ends its
    pods, so that each reboot makes new ones, and so does who deletes the pod of an ill agent.
    """
    if terms.on_trial or terms.cni is None:
        return False
    before, after = _pods_by_agent(promised), _pods_by_agent(terms.cni)
    return any(name in after and uids.isdisjoint(after[name]) for name, uids in before.items())


def _pods_by_agent(cni: CniPromise) -> dict[str, set[str]]:
    return {name: {uid for agent, uid in cni.pods if agent == name} for name, _ in cni.pods}


# --- interfaces that were renamed ---------------------------------------------------------------


def _renames(promised: tuple[NodeLink, ...], there: tuple[NodeLink, ...]) -> dict[str, str]:
    """Find devices that have another name now: the same MAC or bus address, and nothing else has.

    Only plain devices: what a bond or a VLAN has of a MAC is its device's.
    """
    names = {link.name for link in there}
    known = {link.name for link in promised}
    fresh = [link for link in there if not link.kind and link.name not in known]
    found = {}
    for link in promised:
        if link.name in names or link.kind:
            continue
        same = [other for other in fresh if _is_same_device(link, other)]
        if len(same) == 1:
            found[link.name] = same.pop().name
    return found


def _is_same_device(one: NodeLink, other: NodeLink) -> bool:
    if one.mac and other.mac:
        return one.mac == other.mac
    return bool(one.bus) and one.bus == other.bus


def _under_new_names(contract: Contract, names: Mapping[str, str]) -> Contract:
    """Write the contract as if its devices had had their new names all along."""
    places = {f"dev:{old}": f"dev:{new}" for old, new in names.items()}

    def moved(link: str) -> str:
        return names.get(link, link)

    return replace(
        contract,
        roles=tuple(replace(r, place=places.get(r.place, r.place)) for r in contract.roles),
        links=tuple(replace(x, name=moved(x.name)) for x in contract.links),
        routes=tuple(replace(r, link=moved(r.link)) for r in contract.routes),
        rules=tuple(replace(r, input_link=moved(r.input_link)) for r in contract.rules),
        neighbours=tuple(replace(n, link=moved(n.link)) for n in contract.neighbours),
        sysctls=tuple(replace(s, name=renamed(s.name, names)) for s in contract.sysctls),
    )


# --- for all checks ------------------------------------------------------------------------------


def sorted_out(
    case: Case, missing: Iterable[tuple[Item, str, str]]
) -> tuple[list[Finding], list[str]]:
    """Tell what fails from what is only to be told: (promise, its program, words) each."""
    failed, notes = [], []
    for item, program, words in missing:
        excuse = "" if is_named(item, case.pinned) else _excuse(case, item, program)
        if excuse:
            notes.append(f"{words} ({excuse})")
        else:
            failed.append(Finding(subject_of(item), words))
    return failed, notes


def _excuse(case: Case, item: Item, program: str) -> str:
    """Say why a missing program is not held against this boot; empty where it is."""
    owner = owner_of(program)
    if owner not in case.owners:
        return "not the CNI's"
    if isinstance(item, Role) and went_with_its_link(case, item.place.removeprefix("dev:")):
        return ITS_LINK
    if case.changed and _is_at_work(case, item, owner):
        return CHANGED
    return ""


def _is_at_work(case: Case, item: Item, owner: str) -> bool:
    """Tell whether the owner attaches other programs: a switched-off feature leaves the rest.

    Of pods, it leaves something on their own class, and itself on none of them.
    """
    on_pods = or_none(case.now.pod_roles)
    if isinstance(item, PodRole):
        there = [p.role for p in on_pods if p.pods == item.pods]
        if item.role in there:
            return False
    else:
        there = [*or_none(case.now.roles), *(p.role for p in on_pods)]
    return any(owner_of(role.program) == owner for role in there)


def unless_changed(
    case: Case, missing: Iterable[tuple[Item, str]]
) -> tuple[list[Finding], list[str]]:
    """Tell what fails from what a changed CNI is not blamed for: (promise, words) each."""
    failed, notes = [], []
    for item, words in missing:
        if case.changed and not is_named(item, case.pinned):
            notes.append(f"{words} ({CHANGED})")
        else:
            failed.append(Finding(subject_of(item), words))
    return failed, notes


def is_passing(case: Case, link: NodeLink) -> bool:
    """Tell a link that comes and goes while the node is healthy."""
    if not link.lasting:
        return True
    if link.kind or not any(profile.attaches_nics for profile in case.profiles):
        return False
    return not any(
        route.destination == "default" and route.link == link.name and route.table == MAIN
        for route in case.contract.routes
    )


def went_with_its_link(case: Case, name: str) -> bool:
    """Tell a link that has gone, with all that was on it; routes of a VPN go by themselves."""
    there = {link.name for link in or_none(case.now.links)}
    return any(
        link.name == name and is_passing(case, link) and (name not in there or link.kind == TUNNEL)
        for link in case.contract.links
    )


def told(case: Case, new: Sequence[_Item]) -> list[_Item]:
    """Leave out of what is new what the operator does not want to hear of."""
    return [item for item in new if not is_named(item, case.ignored)]


def or_none(part: tuple[_T, ...] | Unknown) -> tuple[_T, ...]:
    """Give what is known, for what is only told and never judged by."""
    return () if isinstance(part, Unknown) else part
