"""One boot verified: sample the network until it has settled, judge it, learn from it if sound."""

from collections.abc import Callable

from trialboot.config import Config
from trialboot.core.checks import (
    REFUSAL,
    healthy_check,
    is_ill,
    network_checks,
    process_check,
    unit_check,
)
from trialboot.core.contract import Contract, learn, renewed
from trialboot.core.facts import Network, Unknown
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Answer, Check, Outcome, Sample, Verdict, settle
from trialboot.host import Host
from trialboot.readers import kernel, processes, units
from trialboot.snapshot import moment, take_network
from trialboot.writers import store

Progress = Callable[[str], None]


def verify(host: Host, config: Config, progress: Progress) -> tuple[Judgement, Network]:
    """Sample until the verdict is found, at most until the deadline. Raises `HostError`.

    Gives the network of the last sample with it: what a sound boot is learned from.
    """
    boot = kernel.read_boot_id(host)
    verdict, network = _watch(host, config, newest_contract(host), progress)
    return Judgement(boot=boot, at=moment(host), verdict=verdict), network


def _watch(
    host: Host, config: Config, contract: Contract | Unknown | None, progress: Progress
) -> tuple[Verdict, Network]:
    patience = config.patience
    began = host.monotonic()
    # What the machine has been up already counts towards settling, never towards the deadline: a
    # run in the middle of a boot is as patient as the first.
    credit = min(kernel.read_uptime(host), patience.minimum_settle)
    samples: list[Sample] = []
    while True:
        network = take_network(host)
        at = host.monotonic() - began + credit
        samples.append(Sample(at=at, checks=_ask(host, config, contract, network)))
        verdict = settle(samples, patience)
        if verdict is not None:
            return verdict, network
        progress(_progress_words(samples[-1], patience.deadline))
        samples = samples[-_samples_kept(config) :]
        host.sleep(config.verify.interval_seconds)


def _samples_kept(config: Config) -> int:
    return int(config.verify.settle_seconds / max(config.verify.interval_seconds, 0.1)) + 2


def _ask(
    host: Host, config: Config, contract: Contract | Unknown | None, network: Network
) -> tuple[Check, ...]:
    names = config.verify.units
    seen = units.read_units(host, names)
    # A log is only read where a service is in trouble: reading it starts a process.
    ill = [] if isinstance(seen, Unknown) else [u.name for u in seen if is_ill(u)]
    running = (
        unit_check(seen, units.read_refusals(host, ill, REFUSAL)),
        process_check(processes.read_processes(host, config.verify.processes)),
    )
    if isinstance(contract, Contract):
        return (*network_checks(contract, network), *running)
    if isinstance(contract, Unknown):
        return (_no_contract(contract), *running)
    return (healthy_check(network), *running)


def _no_contract(contract: Unknown) -> Check:
    return Check(
        name="contract",
        answer=Answer.NO_VERDICT,
        reasons=(f"the contract cannot be read: {contract.why}",),
    )


def _progress_words(sample: Sample, deadline: float) -> str:
    open_checks = [c.name for c in sample.checks if c.answer is not Answer.PASS]
    state = f"waiting for {', '.join(open_checks)}" if open_checks else "passing, settling"
    return f"{sample.at:.0f} s of {deadline:.0f} s: {state}"


def learn_from(host: Host, judgement: Judgement, network: Network) -> Contract | Unknown:
    """Renew the contract from a sound boot, and remember it."""
    if judgement.verdict.outcome is not Outcome.SOUND:
        return Unknown(f"the verdict is {judgement.verdict.outcome}")
    runs = kernel.read_kernel(host)
    if isinstance(runs, Unknown):
        return runs
    fresh = learn(network, at=judgement.at, boot=judgement.boot, kernel=runs.release)
    if isinstance(fresh, Unknown):
        return fresh
    old = newest_contract(host)
    contract = renewed(old, fresh) if isinstance(old, Contract) else fresh
    _keep_contract(host, contract)
    return contract


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
