"""Is what makes the network running: services, processes, the CNI's own agents."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from trialboot.core.cni import DECISIVE, HOLDERS, profile_of
from trialboot.core.contract import CniPromise, is_line_named
from trialboot.core.facts import Agent, Cni, CniConfiguration, Process, Unit, UnitState, Unknown
from trialboot.core.verdict import Answer, Check, Finding, check_of

RESTARTS_THAT_PROVE: Final = 3
LOOPING_SECONDS: Final = 120.0
"""An agent that was restarted that often and has run for less is in a crash loop."""


def is_ill(unit: Unit) -> bool:
    """Tell a service that does not run, or does not stay up."""
    return unit.state is not UnitState.ACTIVE or unit.restarts > 0


def unit_check(units: tuple[Unit, ...] | Unknown, refusals: Sequence[str]) -> Check:
    """Ask whether the services that make the network run, and whether the kernel refused them.

    `refusals` are the lines of their logs, of this boot, that match `REFUSAL`. A decisive one is
    proof beside restarts of a service that is down; one that is merely not up yet fails without
    proof, and so only at the deadline. What runs has got over what it once said.
    """
    if isinstance(units, Unknown):
        return Check(name="units", answer=Answer.NO_VERDICT, reasons=(f"services: {units.why}",))
    down = [unit for unit in units if unit.state is not UnitState.ACTIVE]
    reasons = [
        f"{unit.name} is {unit.state}, restarted {unit.restarts} times in this boot"
        for unit in down
    ]
    looping = any(unit.restarts >= RESTARTS_THAT_PROVE for unit in down)
    if looping:
        reasons += [f"the kernel refused it: {line}" for line in refusals]
    return Check(
        name="units",
        answer=Answer.FAIL if reasons else Answer.PASS,
        reasons=tuple(reasons),
        proof=looping and _is_decisive(refusals),
    )


def _is_decisive(refusals: Sequence[str]) -> bool:
    return any(DECISIVE.search(line) for line in refusals)


def process_check(processes: tuple[Process, ...] | Unknown) -> Check:
    """Ask whether the processes that the operator named run, a CNI's agent in its pod for one."""
    if isinstance(processes, Unknown):
        return Check(
            name="processes",
            answer=Answer.NO_VERDICT,
            reasons=(f"processes: {processes.why}",),
        )
    missing = [f"no process {process.name} runs" for process in processes if not process.count]
    return check_of("processes", [Finding(line, line) for line in missing])


def agent_check(promise: CniPromise, cni: Cni, pin: tuple[str, ...] = ()) -> Check:
    """Ask whether the CNI's agents run and stay up, and whether the kernel refused them.

    A decisive refusal of one that was restarted again and again and is not up is proof (ebpf.md,
    section 3.2 rule 6). What merely is not up yet fails without proof, and so only at the
    deadline; what is up, and was started again often, has yet to stay up: that shows a little
    later.
    """
    if isinstance(cni.agents, Unknown):
        return check_of(
            "agents", undecided=[f"CNI agents: {cni.agents.why}"] if promise.agents else []
        )
    replaced = _is_replaced(promise, cni)
    failed, notes, proven = [], [], False
    for name in promise.agents:
        seen = [agent for agent in cni.agents if agent.name == name]
        ill = _ill_words(name, seen)
        refused = [line for agent in seen for line in agent.refusals]
        if ill and refused and _most_restarts(seen) >= RESTARTS_THAT_PROVE:
            proven = proven or _is_decisive(refused)
            told = [ill, *(f"the kernel refused {name}: {line}" for line in refused)]
            failed += [Finding(f"agent: {name}", words) for words in told]
            continue
        if ill and replaced and not is_line_named(f"agent: {name}", pin):
            notes.append(f"{ill} (another CNI is configured now)")
        elif ill:
            failed.append(Finding(f"agent: {name}", ill))
        notes += [f"{name} once said: {line}" for line in refused]
    up = {f"agent: {agent.name}" for agent in cni.agents if agent.age > 0}
    mends = bool(failed) and all(finding.subject in up for finding in failed)
    return replace(check_of("agents", failed, notes, proof=proven), mends=mends)


def first_agents_check(cni: Cni) -> Check:
    """Ask, on a trial before which nothing was learned, whether the CNI has come up at all.

    A default route alone is soon there; the agent of a CNI that we know is waited for.
    """
    configured, agents = cni.configuration, cni.agents
    if not isinstance(configured, CniConfiguration) or isinstance(agents, Unknown):
        return check_of("agents")
    profile, names = profile_of(configured.plugins), {agent.name for agent in agents}
    wanted = profile.agents if profile else ()
    if not wanted or names & {*wanted, *HOLDERS}:
        return check_of("agents")
    why = f"no agent of {configured.plugins[0]} runs yet, and nothing was learned before"
    return check_of("agents", undecided=[why], waits=True)


def _ill_words(name: str, seen: Sequence[Agent]) -> str:
    up = [agent for agent in seen if agent.age > 0]
    restarts = _most_restarts(seen)
    told = f", its container was restarted {restarts} times in this boot" if restarts else ""
    if not up:
        return f"{name} does not run, it did before{told}"
    if restarts >= RESTARTS_THAT_PROVE and max(agent.age for agent in up) < LOOPING_SECONDS:
        return f"{name} does not stay up{told}"
    return ""


def _most_restarts(seen: Sequence[Agent]) -> int:
    return max((agent.restarts or 0 for agent in seen), default=0)


def _is_replaced(promise: CniPromise, cni: Cni) -> bool:
    """Tell another CNI from the same one: the first plugin is it, others are chained by many."""
    now = cni.configuration
    return (
        isinstance(now, CniConfiguration)
        and bool(promise.plugins)
        and now.plugins[:1] != promise.plugins[:1]
    )
