"""Active proof: what is to be reached from the pod network, and what it means if it is not.

Inventories see what is attached, not what flows. A kernel that miscounts checksums of VXLAN, or
drops what goes from a pod to another node, shows in nothing but this (ebpf.md, incidents 16, 17).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.language import Word
from trialboot.core.verdict import Answer, Check

_NAME: Final = "proof"
_WAY: Final = re.compile(r"(tcp|ping)://(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?")
_MOST_PORT: Final = 65535


class Means(Word):
    """How a target is reached."""

    TCP = "tcp"
    """A connection that is accepted or refused: either way it came there and back."""
    PING = "ping"
    GATEWAY = "gateway"
    """The pod's own gateway: by ping, or by ARP, which all that is left may be of one."""
    SERVICE = "service"
    """The API server's Service, as Kubernetes tells each pod in its environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One address, and how it is to be reached."""

    means: Means
    address: str = ""
    """IPv4 or IPv6, no name: names are looked up elsewhere. Empty for what a pod tells."""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of the operator's: reached if one of its ways leads there."""

    text: str
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether one target was reached from the pods that were tried."""

    target: str
    reached: bool
    why: str = ""
    """What the last attempt met; empty where it was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One round of attempts."""

    pods: tuple[str, ...]
    """From which kinds of pod it was tried: `lxc*`, or the health endpoint's own link."""
    reaches: tuple[Reach, ...] = ()


def parse_target(text: str) -> Target:
    """Understand one target, or several with blanks between. Raises `ValueError` that says why.

    `gateway`, `service`, `tcp://ADDRESS:PORT`, `ping://ADDRESS`.
    """
    ways = tuple(_way(word) for word in text.split())
    if not ways:
        raise ValueError("there is nothing in it")
    return Target(text=" ".join(text.split()), ways=ways)


def _way(word: str) -> Way:
    if word in (Means.GATEWAY, Means.SERVICE):
        return Way(means=Means(word))
    found = _WAY.fullmatch(word)
    if not found:
        raise ValueError(
            f"{word!r} is not «gateway», «service», «tcp://ADDRESS:PORT» or «ping://ADDRESS»"
        )
    from ipaddress import ip_address  # noqa: PLC0415  the daemon, which reads targets too, goes without

    means, bracketed, bare, digits = found.groups()
    address = str(ip_address(bracketed or bare))  # its ValueError tells enough
    port = int(digits or 0)
    if (means == Means.TCP) != (0 < port <= _MOST_PORT):
        raise ValueError(f"{word!r}: tcp takes a port from 1 to {_MOST_PORT}, ping takes none")
    return Way(means=Means(means), address=address, port=port)


def with_service(target: Target, service: Way | None) -> Target:
    """Put the address that a pod tells in place of `service`; it is remembered by address."""
    if service is None or all(way.means is not Means.SERVICE for way in target.ways):
        return target
    ways = tuple(service if way.means is Means.SERVICE else way for way in target.ways)
    return replace(target, ways=ways, text=f"{target.text} ({service.address}:{service.port})")


def proof_check(proof: Proof | Unknown | None, before: tuple[str, ...] | Unknown | None) -> Check:
    """Judge what was reached now by what was reached on the last sound boot (`remembered`).

    Only what was reached before can fail, and is no proof: it counts at the deadline, if it lasts.
    None as `proof` is a host that asks for none, None as `before` a first boot.
    """
    if proof is None:
        return Check(name=_NAME, answer=Answer.PASS)
    if isinstance(proof, Unknown):
        why = f"the active proof has no result: {proof.why}"
        return Check(name=_NAME, answer=Answer.NO_VERDICT, reasons=(why,))
    if not proof.pods:
        return Check(name=_NAME, answer=Answer.PASS, notes=("not proven: there is no pod here",))
    away = [reach for reach in proof.reaches if not reach.reached]
    if isinstance(before, Unknown):
        return _blind(proof, away, before)
    return _held_against(proof, away, before or ())


def _held_against(proof: Proof, away: Iterable[Reach], before: tuple[str, ...]) -> Check:
    lost: list[str] = []
    never: list[str] = []
    for reach in away:
        known = reach.target in before
        since = "it was on the last sound boot" if known else "and was not before"
        (lost if known else never).append(f"{_words(reach, proof)}; {since}")
    answer = Answer.FAIL if lost else Answer.PASS
    return Check(name=_NAME, answer=answer, reasons=tuple(lost), notes=tuple(never))


def _blind(proof: Proof, away: Iterable[Reach], before: Unknown) -> Check:
    reasons = tuple(
        f"{_words(reach, proof)}; whether it was before is not known: {before.why}"
        for reach in away
    )
    answer = Answer.NO_VERDICT if reasons else Answer.PASS
    return Check(name=_NAME, answer=answer, reasons=reasons)


def _words(reach: Reach, proof: Proof) -> str:
    pods = "1 pod" if len(proof.pods) == 1 else f"{len(proof.pods)} pods"
    kinds = ", ".join(dict.fromkeys(proof.pods))
    return f"{reach.target} is not reached from {pods} ({kinds}): {reach.why}"


def remembered(proof: Proof, before: tuple[str, ...]) -> tuple[str, ...]:
    """Give what a sound boot has shown to be reachable; without a pod, what was known before."""
    if not proof.pods:
        return before
    return tuple(sorted(reach.target for reach in proof.reaches if reach.reached))
