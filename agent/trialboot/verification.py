"""One boot verified: sample the network until it has settled, judge it, learn from it if sound."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from trialboot import loadtest, operatorchecks, proving
from trialboot.amendments import read_amendments
from trialboot.config import Config
from trialboot.core.checks import healthy_check, missing_modules, network_checks
from trialboot.core.cni import REFUSAL
from trialboot.core.comparison import Terms, is_changed
from trialboot.core.contract import (
    Amendments,
    Contract,
    amended,
    cni_promise,
    cni_seen,
    learn,
    renewed,
)
from trialboot.core.facts import BpfObjects, Observation, Unknown
from trialboot.core.headroom import headroom_note
from trialboot.core.loadtest import excused
from trialboot.core.operatorchecks import operator_check
from trialboot.core.outlook import Judgement
from trialboot.core.proof import Proof, proof_check
from trialboot.core.running import (
    agent_check,
    first_agents_check,
    is_ill,
    process_check,
    unit_check,
)
from trialboot.core.trial import Phase
from trialboot.core.verdict import Answer, Check, Outcome, Sample, Verdict, check_of, settle
from trialboot.host import Host
from trialboot.observation import observe
from trialboot.readers import kernel, processes, units
from trialboot.readers.cni.logs import read_splats
from trialboot.writers import store

MOST_HEADROOM: Final = 3
"""Programs whose head-room is told."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """What a boot is held against."""

    contract: Contract | Unknown | None
    """Unknown where a trial cannot be judged; None where nothing was learned yet."""
    amendments: Amendments
    on_trial: bool = True


def verify(host: Host, config: Config, progress: Progress) -> tuple[Judgement, Observation]:
    """Sample until the verdict is found, at most until the deadline. Raises `HostError`.

    Gives the last sample with it: what a sound boot is learned from.
    """
    boot = kernel.read_boot_id(host)
    on_trial = _is_on_trial(host)
    promise = _Promise(
        contract=_contract_of(host, on_trial=on_trial),
        amendments=read_amendments(host),
        on_trial=on_trial,
    )
    verdict, seen = _watch(host, config, promise, progress)
    explained = _explained(host, promise, verdict, seen)
    return Judgement(boot=boot, at=host.moment(), verdict=explained), seen


def _is_on_trial(host: Host) -> bool:
    """Tell whether a verdict may end a trial; where that is not known, it may."""
    found = store.read_decision(host)
    if isinstance(found, Unknown):
        return True
    return found is not None and found.trial.phase in {Phase.TRIAL, Phase.CONDEMNED}


def _contract_of(host: Host, *, on_trial: bool) -> Contract | Unknown | None:
    """Give the contract; one that cannot be read is learned anew, but not by a trial."""
    found = newest_contract(host)
    return None if isinstance(found, Unknown) and not on_trial else found


def _watch(
    host: Host, config: Config, promise: _Promise, progress: Progress
) -> tuple[Verdict, Observation]:
    patience = config.patience
    began = host.monotonic()
    # What the machine has been up already counts towards settling, never towards the deadline: a
    # run in the middle of a boot is as patient as the first.
    credit = min(kernel.read_uptime(host), patience.minimum_settle)
    samples: list[Sample] = []
    known: set[str] = set()
    beside = _Beside(host, config)
    while True:
        seen = observe(host)
        young, known = _young(seen, known)
        seen = replace(seen, young=young)
        checks = _ask(host, config, promise, seen)
        checks += beside.ask(checks)
        samples.append(Sample(at=host.monotonic() - began + credit, checks=checks))
        verdict = settle(samples, patience)
        if verdict is not None:
            return verdict, seen
        progress(_progress_words(samples[-1], patience.deadline))
        samples = samples[-_samples_kept(config) :]
        host.sleep(config.verify.interval_seconds)


class _Beside:
    """The operator's checks and the active proof: dear, so asked once nothing else is in the way.

    What only waits for pods is not: on a drained node none may come before the deadline. An answer
    that is not a pass is asked for again with the next sample.
    """

    def __init__(self, host: Host, config: Config) -> None:
        self._host = host
        self._config = config
        self._last: tuple[Check, ...] = ()

    def ask(self, others: tuple[Check, ...]) -> tuple[Check, ...]:
        """Give their answers, or the last ones while something else still fails."""
        due = all(check.answer is Answer.PASS or check.waits for check in others)
        if due and not (self._last and _all_pass(self._last)):
            self._last = (self._operator(), self._proof())
        return self._last

    def _operator(self) -> Check:
        return operator_check(operatorchecks.gather(self._host))

    def _proof(self) -> Check:
        proof = proving.gather(self._host, self._config)
        return proof_check(proof, proving.reached_before(self._host))


def _all_pass(checks: tuple[Check, ...]) -> bool:
    return all(check.answer is Answer.PASS for check in checks)


def _samples_kept(config: Config) -> int:
    return int(config.verify.settle_seconds / max(config.verify.interval_seconds, 0.1)) + 2


def _ask(
    host: Host,
    config: Config,
    promise: _Promise,
    seen: Observation,
) -> tuple[Check, ...]:
    contract = promise.contract
    if isinstance(contract, Contract):
        terms = Terms(
            amendments=promise.amendments,
            young=seen.young,
            cni=cni_seen(seen.cni),
            on_trial=promise.on_trial,
        )
        learned = network_checks(contract, seen.network, terms)
        promised = amended(contract, promise.amendments).cni
        agents = agent_check(promised, seen.cni, promise.amendments.pin)
        changed = is_changed(contract.cni, terms.cni)
        load = excused(loadtest.answer(host), (*learned, agents), changed=changed)
        return (*learned, agents, *_running(host, config), load)
    if isinstance(contract, Unknown):
        why = f"the contract cannot be read: {contract.why}"
        return (
            check_of("contract", undecided=[why]),
            *_running(host, config),
            loadtest.answer(host),
        )
    # Nothing was learned yet, but an agent that has run in this boot is to stay up.
    agents = agent_check(cni_seen(seen.cni), seen.cni)
    if promise.on_trial and agents.answer is Answer.PASS:
        agents = first_agents_check(seen.cni)
    load = loadtest.answer(host)
    return (healthy_check(seen.network), agents, *_running(host, config), load)


def _running(host: Host, config: Config) -> tuple[Check, ...]:
    """Ask for what the operator named."""
    names = config.verify.units
    there = units.read_units(host, names)
    # A log is only read where a service is in trouble: reading it starts a process.
    ill = [] if isinstance(there, Unknown) else [u.name for u in there if is_ill(u)]
    return (
        unit_check(there, units.read_refusals(host, ill, REFUSAL)),
        process_check(processes.read_processes(host, config.verify.processes)),
    )


def _young(seen: Observation, known: set[str]) -> tuple[frozenset[str], set[str]]:
    """Name the links that no sample before had, and all that are known now.

    Of the first sample none is young: a node may have been up for long.
    """
    links = seen.network.links
    names = set() if isinstance(links, Unknown) else {link.name for link in links}
    return frozenset(names - known) if known else frozenset(), known | names


def _explained(host: Host, promise: _Promise, verdict: Verdict, seen: Observation) -> Verdict:
    """Add to a verdict that is not sound what this host shows beside its checks."""
    if verdict.outcome is Outcome.SOUND:
        return verdict
    contract = promise.contract
    gone = missing_modules(contract, seen.modules) if isinstance(contract, Contract) else ()
    modules = (f"module {name} was loaded and is not" for name in gone)
    splats = (f"the kernel wrote: {line}" for line in read_splats(host))
    return replace(verdict, evidence=(*verdict.evidence, *modules, *splats))


def with_headroom(judgement: Judgement, objects: BpfObjects | Unknown) -> Judgement:
    """Add to a judgement how near this node's programs are to the verifier's limit."""
    if isinstance(objects, Unknown):
        return judgement
    verdict, largest = judgement.verdict, objects.largest[:MOST_HEADROOM]
    told = tuple(filter(None, map(headroom_note, largest)))
    fuller = replace(verdict, notes=(*verdict.notes, *told), headroom=largest)
    return replace(judgement, verdict=fuller)


def _progress_words(sample: Sample, deadline: float) -> str:
    open_checks = [c.name for c in sample.checks if c.answer is not Answer.PASS]
    state = f"waiting for {', '.join(open_checks)}" if open_checks else "passing, settling"
    return f"{sample.at:.0f} s of {deadline:.0f} s: {state}"


def learn_from(host: Host, judgement: Judgement, seen: Observation) -> Contract | Unknown:
    """Renew the contract from a sound boot of a node that is Ready and calm, and remember it."""
    fresh = _learned(host, judgement, seen)
    if isinstance(fresh, Unknown):
        return fresh
    old = newest_contract(host)
    pin = read_amendments(host).pin
    contract = renewed(old, fresh, pin) if isinstance(old, Contract) else fresh
    _keep_contract(host, contract)
    return contract


def remember_proof(host: Host, judgement: Judgement) -> None:
    """Keep what a sound boot reached from its pods: what later ones are held against."""
    proof = store.load(host, proving.RECORD, Proof)
    if judgement.verdict.outcome is Outcome.SOUND and isinstance(proof, Proof):
        proving.remember(host, proof)


def _learned(host: Host, judgement: Judgement, seen: Observation) -> Contract | Unknown:
    if judgement.verdict.outcome is not Outcome.SOUND:
        return Unknown(f"the verdict is {judgement.verdict.outcome}")
    told = store.load_delivered(host)
    if isinstance(told, store.Delivered) and told.ready is False:
        return Unknown("the cluster says that this node is not Ready")
    runs = kernel.read_kernel(host)
    cni = cni_promise(seen.cni)
    if isinstance(runs, Unknown):
        return runs
    if isinstance(cni, Unknown):
        return cni
    if isinstance(seen.modules, Unknown):
        return seen.modules
    return learn(
        seen.network,
        at=judgement.at,
        boot=judgement.boot,
        kernel=runs.release,
        cni=cni,
        modules=seen.modules,
        young=seen.young,
    )


def contracts(host: Host) -> tuple[Contract, ...] | Unknown | None:
    """Give the contracts that are kept, newest first."""
    return store.load(host, store.CONTRACTS, tuple[Contract, ...])


def newest_contract(host: Host) -> Contract | Unknown | None:
    """Give the contract that boots are held against; None where nothing was learned yet."""
    found = contracts(host)
    return found[0] if isinstance(found, tuple) and found else _none_or_unknown(found)


def _none_or_unknown(found: tuple[Contract, ...] | Unknown | None) -> Unknown | None:
    return found if isinstance(found, Unknown) else None


def _keep_contract(host: Host, contract: Contract) -> None:
    found = contracts(host)
    if isinstance(found, Unknown):
        store.set_aside(host, store.CONTRACTS)
    older = found if isinstance(found, tuple) else ()
    store.save(host, store.CONTRACTS, (contract, *older)[: store.CONTRACTS_KEPT])
