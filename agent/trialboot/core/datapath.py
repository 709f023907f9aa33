"""Checks of the datapath: eBPF programs at the node's places, and on the pods present now."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from trialboot.core.cni import PROFILES, owner_of
from trialboot.core.comparison import CHANGED, Case, or_none, sorted_out, told
from trialboot.core.contract import Item, is_named, subject_of, version_of
from trialboot.core.facts import Unknown
from trialboot.core.picture import PodRoutes
from trialboot.core.podrules import PodRules
from trialboot.core.roles import Role
from trialboot.core.verdict import Check, Finding, check_of


class _Covered(NamedTuple):
    """A promise about a class of pods, and on how many of them it holds."""

    item: Item
    program: str
    """Empty for a route or a rule."""
    pods: str
    what: str
    where: str
    had: int
    has: int


def roles(case: Case) -> Check:
    """Ask whether every program is where it was on the node itself."""
    now = case.now.roles
    if isinstance(now, Unknown):
        return check_of("roles", undecided=[f"eBPF attachments: {now.why}"])
    there = set(now)
    missing = [role for role in case.contract.roles if role not in there]
    failed, notes = sorted_out(
        case,
        [(role, role.program, _missing_words(role)) for role in missing],
    )
    new = [role for role in now if role not in set(case.contract.roles)]
    notes += [
        f"new eBPF {role.program} at {role.place} {role.direction}" for role in told(case, new)
    ]
    # A CNI that still attaches and detaches has not settled, whatever is promised.
    state = ", ".join(str(role) for role in new if owner_of(role.program) in case.owners)
    return check_of("roles", failed, [*notes, *_other_ways(case)], state=state)


def _missing_words(role: Role) -> str:
    return f"eBPF {role.program} is missing at {role.place} {role.direction} ({role.hook})"


def _other_ways(case: Case) -> list[str]:
    """Note, once each, that roles are attached by another mechanism: healthy over kernels."""
    before = dict(case.contract.ways)
    changed = Counter((before[r], now) for r, now in case.now.ways if before.get(r, now) != now)
    return [f"{n} eBPF roles are attached by {now}, were by {old}" for (old, now), n in
            sorted(changed.items())]  # fmt: skip


def pods(case: Case) -> Check:
    """Ask whether the pods present now are covered as those were that were there before."""
    now, present = case.now.pod_roles, case.now.pods
    if isinstance(now, Unknown):
        return check_of("pods", undecided=[f"eBPF attachments: {now.why}"])
    if isinstance(present, Unknown):
        return check_of("pods", undecided=[f"links: {present.why}"])
    carried = {(p.pods, p.role): p.carried for p in now}
    bare = _uncovered(
        case,
        [
            _Covered(
                item=promise,
                program=promise.role.program,
                pods=promise.pods,
                what=f"eBPF {promise.role.program}",
                where=f"{promise.pods} {promise.role.direction}",
                had=promise.carried,
                has=carried.get((promise.pods, promise.role), 0),
            )
            for promise in case.contract.pod_roles
        ],
    )
    failed, excused = sorted_out(
        case,
        [
            (covered.item, covered.program, words)
            for covered, words in bare
            if not _is_partial(covered.program) or is_named(covered.item, case.pinned)
        ],
    )
    # A node that was drained, or where no pod has started yet, shows nothing of its pods.
    return check_of("pods", failed, excused, _absent(case), waits=True)


def _absent(case: Case) -> list[str]:
    """Name the classes of pods that were promised something and have no interface now."""
    contract, present = case.contract, dict(or_none(case.now.pods))
    # Rules of pods are found by their routes: who has those has these.
    promised = {p.pods for p in contract.pod_roles} | {p.pods for p in contract.pod_routes}
    return [
        f"no pod interface {name} now, {had} before"
        for name, had in contract.pods
        if name in promised and not present.get(name)
    ]


def pod_routes(case: Case) -> tuple[list[Finding], list[str]]:
    """Tell which pods have no route of their own where they had one: findings, and notes."""
    return _routing(case, "a route", case.contract.pod_routes, case.now.pod_routes)


def pod_rules(case: Case) -> tuple[list[Finding], list[str]]:
    """Tell which pods no rule names where one did: findings, and notes."""
    there = case.now.pod_rules
    if isinstance(there, Unknown):
        return [], []  # it is the routes that tell whose address a rule names
    return _routing(case, "a rule", case.contract.pod_rules, there)


def _routing(
    case: Case,
    what: str,
    promised: Iterable[PodRoutes | PodRules],
    there: Iterable[PodRoutes | PodRules],
) -> tuple[list[Finding], list[str]]:
    now = {(r.pods, r.family): r.carried for r in there}
    bare = _uncovered(
        case,
        [
            _Covered(
                item=promise,
                program="",
                pods=promise.pods,
                what=f"{what} of {version_of(promise.family)}",
                where=promise.pods,
                had=promise.carried,
                has=now.get((promise.pods, promise.family), 0),
            )
            for promise in promised
        ],
    )
    # A CNI that was changed may route by its programs now.
    programmed = {p.pods for p in or_none(case.now.pod_roles)} if case.changed else set()
    failed, notes = [], []
    for covered, words in bare:
        if covered.pods in programmed and not is_named(covered.item, case.pinned):
            notes.append(f"{words} ({CHANGED})")
        else:
            failed.append(Finding(subject_of(covered.item), words))
    return failed, notes


def _uncovered(case: Case, promises: Iterable[_Covered]) -> list[tuple[_Covered, str]]:
    """Judge coverage over the interfaces present now."""
    present, had = dict(or_none(case.now.pods)), dict(case.contract.pods)
    bare = []
    for promise in promises:
        there = present.get(promise.pods, 0)
        # A pod that comes between the reads of links and programs is in one of them alone.
        base = max(had.get(promise.pods, promise.had), promise.had)
        if promise.has * base < promise.had * there:
            words = (
                f"{promise.what} is on {promise.has} of {there} pod interfaces {promise.where}, "
                f"was on {promise.had} of {base}"
            )
            bare.append((promise, words))
    return bare


def _is_partial(program: str) -> bool:
    return any(p.partial and p.name == owner_of(program) for p in PROFILES)
