"""Active proof: what its service does, its errand, and what a sound boot leaves behind."""

from collections.abc import Sequence
from typing import Final

from trialboot.config import Config, read_config
from trialboot.core.facts import Unknown
from trialboot.core.proof import Proof, Reach, Target, remembered, with_service
from trialboot.errands import Errand, run_errand
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.netns import inside
from trialboot.readers.podnetworks import Pod, read_pods
from trialboot.readers.reachability import SILENCE, Door, reach
from trialboot.writers import store

RECORD: Final = f"{store.RUN}/proof.json"
REACHED: Final = f"{store.STATE}/reached.json"
"""What was reached on the last sound boot."""
MOST_PODS: Final = 3
ROUNDS: Final = 2
"""An answer may be lost once; with each pod, at most 6 times `prove.seconds`, 180 s."""


def gather(host: Host, config: Config) -> Proof | Unknown | None:
    """Have the targets tried by their service; None where the operator asks for no proof."""
    if not config.prove.enabled:
        return None
    return run_errand(host, _ERRAND)


def reached_before(host: Host) -> tuple[str, ...] | Unknown | None:
    """Give what was reached on the last sound boot; None on a first one."""
    return store.load(host, REACHED, tuple[str, ...])


def remember(host: Host, proof: Proof) -> None:
    """Keep what a sound boot has shown to be reachable. Raises `StoreError`."""
    before = reached_before(host)
    if isinstance(before, Unknown):
        store.set_aside(host, REACHED)
    known = before if isinstance(before, tuple) else ()
    store.save(host, REACHED, remembered(proof, known))


def work(host: Host) -> None:
    """Try the targets and leave the record. Raises `HostError`, `ConfigError`, `StoreError`."""
    store.save(host, RECORD, prove(host, read_config(host)))


def prove(host: Host, config: Config) -> Proof:
    """Try each target from one pod after the other, until one reaches it. Raises `HostError`."""
    found = read_pods(host)
    if isinstance(found, Unknown):
        raise HostError(found.why)
    pods = found[:MOST_PODS]
    if not pods:
        return Proof(pods=())
    service = next((pod.service for pod in found if pod.service), None)
    targets = tuple(with_service(target, service) for target in config.prove.parsed)
    told = dict.fromkeys(targets, SILENCE)
    for pod in pods * ROUNDS:
        waiting = [target for target in targets if told[target]]
        if waiting:
            answers = _try(host, pod, waiting, config.prove.seconds)
            told |= {target: _clearer(told[target], why) for target, why in answers.items()}
    return Proof(
        pods=tuple(pod.kind for pod in pods),
        reaches=tuple(Reach(target=t.text, reached=not why, why=why) for t, why in told.items()),
    )


def _clearer(before: str, now: str) -> str:
    """Keep the words that a router sends once a second for the silence that follows them."""
    return before if now == SILENCE else now


def _try(host: Host, pod: Pod, targets: Sequence[Target], seconds: float) -> dict[Target, str]:
    """Try all ways of all targets from one pod; empty for a target that was reached."""
    ways = tuple(dict.fromkeys(way for target in targets for way in target.ways))
    try:
        with inside(host, pod.namespace):
            told = reach(host, ways, Door(index=pod.index, gateway=pod.gateway), seconds)
    except OSError as error:  # it ended meanwhile: another one may reach them
        return dict.fromkeys(targets, f"{pod.kind}: {error.strerror or error}")
    return {target: _why([told[way] for way in target.ways]) for target in targets}


def _why(answers: Sequence[str]) -> str:
    return "" if "" in answers else "; ".join(dict.fromkeys(answers))


_ERRAND: Final = Errand(worker="prove", record=RECORD, kind=Proof, work=work, limit=4 * 60 + 10)
