"""Stories of one boot each: what a node promised, what it shows, and what must be said of it.

The tables of the incidents and of the false alarms are made of these; the mutation test runs them
all again for each way in which the law of comparison could be wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.unit.core.nodes import Node
from trialboot.core.checks import healthy_check, missing_modules, network_checks
from trialboot.core.cni import SPLAT
from trialboot.core.comparison import Terms
from trialboot.core.contract import (
    NO_AMENDMENTS,
    Amendments,
    Contract,
    amended,
    cni_promise,
    cni_seen,
    learn,
    renewed,
)
from trialboot.core.facts import Unknown
from trialboot.core.running import agent_check, process_check, unit_check
from trialboot.core.verdict import Check, Outcome, Patience, Sample, Verdict, settle

PATIENCE = Patience(minimum_settle=60, settle=30, deadline=600)
TIMES = (10, 40, 59, 60, 100, 130, 570, 590, 599, 600, 720, 750)
"""Seconds at which a sample is taken."""
SOUND, WORSE, UNSURE = Outcome.SOUND, Outcome.WORSE, Outcome.UNSURE
USUAL = {SOUND: 60, WORSE: 600, UNSURE: 600}
"""When a boot that shows the same all along is judged."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """One boot, and all that must be said of it: every word of the reasons and of the notes."""

    learned: Node | None
    """The healthy node; None for a first boot."""
    shows: tuple[Node, ...]
    """The node at each of TIMES; the last one stays."""
    outcome: Outcome
    at: int = 0
    """When the verdict comes; 0 for the usual time of its outcome."""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Modules that are told beside it."""
    splats: tuple[str, ...] = ()
    amendments: Amendments = NO_AMENDMENTS
    on_trial: bool = True
    earlier: Node | None = None
    """A healthy node from which something was learned before `learned` renewed it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was said of a boot."""

    outcome: Outcome | None
    at: int
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    splats: tuple[str, ...] = ()


def expected(story: Story) -> Told:
    return Told(
        outcome=story.outcome,
        at=story.at or USUAL[story.outcome],
        reasons=story.reasons,
        notes=story.notes,
        missing=story.missing,
        splats=story.splats,
    )


def promise(node: Node) -> Contract:
    """Learn from a healthy node, as after a sound verdict."""
    cni = cni_promise(node.cni)
    assert not isinstance(cni, Unknown), cni
    made = learn(
        node.network,
        at="2026-01-01T00:00:00Z",
        boot="b0",
        kernel="6.1",
        cni=cni,
        modules=() if isinstance(node.modules, Unknown) else node.modules,
    )
    assert not isinstance(made, Unknown), made
    return made


def contract_of(story: Story) -> Contract | None:
    if story.learned is None:
        return None
    fresh = promise(story.learned)
    return renewed(promise(story.earlier), fresh, story.amendments.pin) if story.earlier else fresh


def checks_of(
    contract: Contract | None, node: Node, story: Story, young: frozenset[str]
) -> tuple[Check, ...]:
    """Ask everything that a sample is asked."""
    running = (
        unit_check(node.units, node.unit_refusals),
        process_check(node.processes),
        *node.proof,
    )
    if contract is None:
        agents = agent_check(cni_seen(node.cni), node.cni)
        return (healthy_check(node.network), agents, *running)
    amendments = story.amendments
    terms = Terms(
        amendments=amendments, young=young, cni=cni_seen(node.cni), on_trial=story.on_trial
    )
    promised = amended(contract, amendments).cni
    agents = agent_check(promised, node.cni, amendments.pin)
    return (*network_checks(contract, node.network, terms), agents, *running)


def _samples(story: Story, contract: Contract | None) -> Iterator[Sample]:
    before, known, shown = frozenset[str](), None, None
    checks: tuple[Check, ...] = ()
    for number, at in enumerate(TIMES):
        node = story.shows[min(number, len(story.shows) - 1)]
        names = frozenset(() if isinstance(node.links, Unknown) else (x.name for x in node.links))
        young = names - before if number else frozenset[str]()
        before |= names
        if node is not shown or young != known:
            checks = checks_of(contract, node, story, young)
        shown, known = node, young
        yield Sample(at=at, checks=checks)


def told(story: Story) -> Told:
    """Let the boot pass, sample by sample, until something is said."""
    contract = contract_of(story)
    samples: list[Sample] = []
    for sample in _samples(story, contract):
        samples.append(sample)
        verdict = settle(samples, PATIENCE)
        if verdict is not None:
            return _told(story, contract, verdict, int(sample.at))
    return Told(outcome=None, at=0)


NETWORK_CHECKS = ("roles", "pods", "links", "routes", "rules", "neighbours", "sysctls", "agents")


def _names(contract: Contract | None, node: Node) -> tuple[str, ...]:
    network = NETWORK_CHECKS if contract else ("healthy", "agents")
    return (*network, "units", "processes", *(check.name for check in node.proof))


def _told(story: Story, contract: Contract | None, verdict: Verdict, at: int) -> Told:
    last = story.shows[-1]
    assert tuple(check.name for check in verdict.checks) == _names(contract, last)
    reasons = verdict.reasons
    if verdict.outcome is SOUND:
        assert reasons == (f"all {len(verdict.checks)} checks passed",), reasons
        reasons = ()
    return Told(
        outcome=verdict.outcome,
        at=at,
        reasons=reasons,
        notes=tuple(note for check in verdict.checks for note in check.notes),
        missing=missing_modules(contract, last.modules) if contract else (),
        splats=tuple(line for line in last.kernel_log if SPLAT.search(line)),
    )
