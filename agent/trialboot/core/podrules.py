"""Policy routing rules that name one pod's address: they come and go with the pod.

AWS VPC CNI, and Cilium on ENIs, have them for each pod: `to 10.0.0.7/32 lookup main`. After a boot
the pods have other addresses, so these rules are judged by how many of the pods have theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Address, Route, Rule

_HOST: Final = ("/32", "/128")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodRules:
    """How many interfaces of a class of pods had a rule that names their address."""

    pods: str
    family: int
    carried: int


def is_the_nodes_rule(rule: Rule, addresses: tuple[Address, ...]) -> bool:
    """Tell a rule of the node's own configuration, whose addresses are networks or its own.

    One other address is a pod's, or was one's whose CNI left its rule behind.
    """
    own = {address.address.partition("/")[0] for address in addresses}
    return all(host in own for host in _hosts_of(rule))


def _hosts_of(rule: Rule) -> list[str]:
    prefixes = (rule.source, rule.destination)
    return [prefix.partition("/")[0] for prefix in prefixes if prefix.endswith(_HOST)]


def pod_rules_of(
    rules: tuple[Rule, ...], routes: tuple[Route, ...], pods: Callable[[str], str | None]
) -> tuple[PodRules, ...]:
    """Count interfaces that a rule names by the address of their route, by class of pods."""
    named = {host for rule in rules for host in _hosts_of(rule)}
    carriers: dict[tuple[str, int], set[str]] = {}
    for route in routes:
        name = pods(route.link)
        if name and route.destination.partition("/")[0] in named:
            carriers.setdefault((name, route.family), set()).add(route.link)
    return tuple(
        sorted(
            PodRules(pods=name, family=family, carried=len(links))
            for (name, family), links in carriers.items()
        )
    )
