"""The questions that are put to a booted system: its network against the contract, its units."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from trialboot.core.contract import (
    Contract,
    NodeLink,
    NodeRoute,
    NodeRule,
    Picture,
    PodRole,
    picture_of,
)
from trialboot.core.facts import Network, Process, Unit, UnitState, Unknown
from trialboot.core.verdict import Answer, Check

# What CNIs and their agents write when the kernel refused their programs (ebpf.md, section 3.2
# rule 6). Together with restarts it is proof: waiting does not change a verifier's mind.
REFUSAL: Final = re.compile(
    r"BPF program is too large|Verifier error|load program:|failed to probe|Argument list too long"
    r"|unknown option \"--set-mark\"|missing kernel module|is not a scalar|bpf_set_retval"
)
RESTARTS_THAT_PROVE: Final = 3
MOST_REASONS: Final = 12

_Thing = TypeVar("_Thing", NodeLink, NodeRoute, NodeRule)


def network_checks(contract: Contract, network: Network) -> tuple[Check, ...]:
    """Hold one sample against the contract: one check each for roles, pods, links, routes, rules.

    A part of the sample that could not be read makes every check `no_verdict`.
    """
    picture = picture_of(network)
    if isinstance(picture, Unknown):
        return (
            Check(
                name="network",
                answer=Answer.NO_VERDICT,
                reasons=(f"the network could not be read: {picture.why}",),
            ),
        )
    return (
        _roles(contract, picture),
        _pods(contract, picture),
        _things("links", "link", contract.links, picture.links),
        _routes(contract, picture),
        _things("rules", "rule", contract.rules, picture.rules),
    )


def _roles(contract: Contract, picture: Picture) -> Check:
    missing = sorted(set(contract.roles) - set(picture.roles))
    new = sorted(set(picture.roles) - set(contract.roles))
    return _answer(
        "roles",
        [
            f"eBPF {role.program} is missing at {role.place} {role.direction} ({role.hook})"
            for role in missing
        ],
        [f"new eBPF {role.program} at {role.place} {role.direction}" for role in new],
    )


def _pods(contract: Contract, picture: Picture) -> Check:
    present, had = dict(picture.pods), dict(contract.pods)
    carried = {(p.pods, p.role): p.carried for p in picture.pod_roles}
    reasons, notes = [], []
    for promise in contract.pod_roles:
        there = present.get(promise.pods, 0)
        # A pod that comes between the reads of links and programs is in one of them alone.
        base = max(had.get(promise.pods, 0), promise.carried)
        now = carried.get((promise.pods, promise.role), 0)
        if not there:
            notes.append(f"no pod interface {promise.pods} now, {base} before")
        elif now * base < promise.carried * there:
            reasons.append(_coverage(promise, now, there, base))
    return _answer("pods", reasons, notes)


def _coverage(promise: PodRole, now: int, there: int, had: int) -> str:
    return (
        f"eBPF {promise.role.program} is on {now} of {there} pod interfaces {promise.pods} "
        f"{promise.role.direction}, was on {promise.carried} of {had}"
    )


def _routes(contract: Contract, picture: Picture) -> Check:
    node = _things("routes", "route", contract.routes, picture.routes)
    now = {(r.family, r.protocol): r.count for r in picture.remote_routes}
    lost = [
        f"no route of protocol {r.protocol} (IPv{4 if r.family == 2 else 6}) is left, "  # noqa: PLR2004  AF_INET
        f"{r.count} before"
        for r in contract.remote_routes
        if not now.get((r.family, r.protocol))
    ]
    return _answer("routes", [*node.reasons, *lost], node.notes)


def _things(name: str, word: str, promised: Sequence[_Thing], there: Sequence[_Thing]) -> Check:
    missing = sorted(set(promised) - set(there))
    new = sorted(set(there) - set(promised))
    return _answer(
        name,
        [f"{word} {_words(thing)} is gone" for thing in missing],
        [f"new {word} {_words(thing)}" for thing in new],
    )


def _words(thing: NodeLink | NodeRoute | NodeRule) -> str:
    match thing:
        case NodeLink(name=name, kind=kind):
            return f"{name} ({kind or 'device'})"
        case NodeRoute():
            via = f" via {thing.gateway}" if thing.gateway else ""
            return f"{thing.destination}{via} dev {thing.link} table {thing.table}"
        case NodeRule():
            mark = f" fwmark {thing.mark}" if thing.mark else ""
            return f"from {thing.source or 'all'}{mark} {thing.action} {thing.table}"


def _answer(name: str, reasons: Iterable[str], notes: Iterable[str]) -> Check:
    failed = tuple(reasons)
    if len(failed) > MOST_REASONS:
        left = len(failed) - MOST_REASONS
        failed = (*failed[:MOST_REASONS], f"... and {left} more of the check «{name}»")
    answer = Answer.FAIL if failed else Answer.PASS
    return Check(name=name, answer=answer, reasons=failed, notes=tuple(notes))


def is_ill(unit: Unit) -> bool:
    """Tell a service that does not run, or does not stay up."""
    return unit.state is not UnitState.ACTIVE or unit.restarts > 0


def unit_check(units: tuple[Unit, ...] | Unknown, refusals: Sequence[str]) -> Check:
    """Ask whether the services that make the network run, and whether the kernel refused them.

    `refusals` are the lines of their logs, of this boot, that match `REFUSAL`. Refusal together
    with restarts is proof; a service that is merely not up yet fails without proof, and so only at
    the deadline.
    """
    if isinstance(units, Unknown):
        return Check(name="units", answer=Answer.NO_VERDICT, reasons=(f"services: {units.why}",))
    reasons = [
        f"{unit.name} is {unit.state}, restarted {unit.restarts} times in this boot"
        for unit in units
        if unit.state is not UnitState.ACTIVE
    ]
    # A crash loop is "active" for a moment after each restart.
    looping = [unit for unit in units if unit.restarts >= RESTARTS_THAT_PROVE]
    if refusals and looping:
        reasons += [f"the kernel refused it: {line}" for line in refusals]
    return Check(
        name="units",
        answer=Answer.FAIL if reasons else Answer.PASS,
        reasons=tuple(reasons),
        proof=bool(refusals and looping),
    )


def process_check(processes: tuple[Process, ...] | Unknown) -> Check:
    """Ask whether the processes that the operator named run, a CNI's agent in its pod for one."""
    if isinstance(processes, Unknown):
        return Check(
            name="processes",
            answer=Answer.NO_VERDICT,
            reasons=(f"processes: {processes.why}",),
        )
    missing = [f"no process {process.name} runs" for process in processes if not process.count]
    return _answer("processes", missing, ())


def healthy_check(network: Network) -> Check:
    """Ask, where nothing was learned yet, whether this network is worth learning from.

    The least that a node must have: a default route through a link that has carrier.
    """
    picture = picture_of(network)
    if isinstance(picture, Unknown):
        return Check(
            name="healthy", answer=Answer.NO_VERDICT, reasons=(f"network: {picture.why}",)
        )
    up = {link.name for link in picture.links}
    if any(r.destination == "default" and r.link in up for r in picture.routes):
        # The counts make two samples differ while the network is still being built.
        seen = (
            f"{len(picture.roles)} eBPF roles, {len(picture.links)} links, "
            f"{len(picture.routes)} routes and {len(picture.rules)} rules to learn from"
        )
        return Check(name="healthy", answer=Answer.PASS, notes=(seen,))
    return Check(
        name="healthy",
        answer=Answer.NO_VERDICT,
        reasons=("there is no default route through a link with carrier to learn from",),
    )
