"""The metrics page, rendered from the state file. A scrape reads a file, never the host.

Counters are the daemon's own and outlive it; every label value of a fixed set is there from the
start, so that `increase()` has its zero.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from trialboot.core.change import Risk
from trialboot.core.protection import Level
from trialboot.core.transaction import State
from trialboot.core.trial import Phase
from trialboot.core.verdict import Answer, Outcome

CHECKS: Final = (
    "roles", "pods", "links", "routes", "rules", "neighbours", "sysctls", "agents", "units",
    "processes", "load", "operator", "proof",
)  # fmt: skip
_ANSWERS: Final = {str(Answer.PASS): 1.0, str(Answer.FAIL): 0.0}


class _Page:
    """A collector as every version from 0.9 on takes it: any object with `collect`."""

    def __init__(self, state: Mapping[str, Any], now: float) -> None:
        self._state = state
        self._now = now

    def collect(self) -> Iterable[Any]:
        state = self._state
        yield _info(state)
        yield _set(
            "trialboot_phase",
            "Phase of the trial, 1 for the one it is in",
            "phase",
            [str(p) for p in Phase],
            state["phase"],
        )
        yield _set(
            "trialboot_verdict",
            "Verdict on this boot, all 0 while there is none",
            "outcome",
            [str(o) for o in Outcome],
            (state["verdict"] or {}).get("outcome"),
        )
        yield _set(
            "trialboot_protection",
            "What this host can survive",
            "level",
            [str(level) for level in Level],
            ((state["next"] or {}).get("protection") or {}).get("level"),
        )
        yield _checks(state["verdict"])
        yield _set(
            "trialboot_last_package_transaction",
            "State of the newest package transaction, all 0 while there is none",
            "state",
            [str(word) for word in State],
            (state["transactions"] or [{}])[-1].get("state"),
        )
        yield _headroom(state["verdict"])
        yield from _boot_gauges(state)
        yield from _gauges(state)
        yield from _counters(state["counters"])
        yield GaugeMetricFamily(
            "trialboot_rendered_timestamp_seconds", "When this page was written", value=self._now
        )


def render(state: Mapping[str, Any], now: float) -> bytes:
    """Write the page in the text format; `now` is Unix time in seconds."""
    registry = CollectorRegistry()
    registry.register(_Page(state, now))
    page: bytes = generate_latest(registry)
    return page


def _info(state: Mapping[str, Any]) -> Any:
    labels = {
        "version": state["version"],
        "mode": state["mode"],
        "running": (state["running"] or {}).get("release", ""),
        "known_good": (state["known_good"] or {}).get("release", ""),
    }
    family = GaugeMetricFamily(
        "trialboot_info", "What runs and what it would go back to", labels=list(labels)
    )
    family.add_metric(list(labels.values()), 1)
    return family


def _set(name: str, text: str, label: str, words: list[str], now: str | None) -> Any:
    family = GaugeMetricFamily(name, text, labels=[label])
    for word in words:
        family.add_metric([word], word == now)
    return family


def _checks(verdict: Mapping[str, Any] | None) -> Any:
    family = GaugeMetricFamily(
        "trialboot_check_success",
        "Last answer of a check on this boot: 1 pass, 0 fail; absent where it could not be told",
        labels=["check"],
    )
    answers = verdict["checks"] if verdict else {}
    for check in CHECKS:
        if answers.get(check) in _ANSWERS:
            family.add_metric([check], _ANSWERS[answers[check]])
    return family


def _headroom(verdict: Mapping[str, Any] | None) -> Any:
    family = GaugeMetricFamily(
        "trialboot_ebpf_verified_instructions",
        "Instructions that the verifier walked for the dearest programs; 1,000,000 is the end",
        labels=["program"],
    )
    for size in verdict["headroom"] if verdict else ():
        family.add_metric([size["program"]], size["verified_instructions"])
    return family


def _boot_gauges(state: Mapping[str, Any]) -> Iterable[Any]:
    """Tell of the next boot; what is not known is absent, never 0."""
    outlook = state["next"] or {}
    changes = GaugeMetricFamily(
        "trialboot_next_boot_changes",
        "Differences between the known-good and what the host would boot; absent if not known",
    )
    by_risk = GaugeMetricFamily(
        "trialboot_next_boot_risks", "The same by risk; absent if not known", labels=["risk"]
    )
    rows = outlook.get("changes")
    if rows is not None:
        changes.add_metric([], len(rows))
        for risk in Risk:
            by_risk.add_metric([str(risk)], sum(row["risk"] == risk for row in rows))
    yield changes
    yield by_risk
    whole = GaugeMetricFamily(
        "trialboot_known_good_whole",
        "1 if the pinned known-good is whole on disk, 0 if damaged; absent if none is pinned",
    )
    if state["pinned"] and outlook:
        whole.add_metric([], not outlook["damage"])
    yield whole
    yield GaugeMetricFamily(
        "trialboot_candidate_refused",
        "1 if a failed pre-check keeps a changed boot set from being tried",
        value=bool(state["refused"]),
    )
    yield GaugeMetricFamily(
        "trialboot_may_reboot",
        "1 if nothing speaks against a reboot now",
        value=bool(state["may_reboot"]["answer"]),
    )


def _gauges(state: Mapping[str, Any]) -> Iterable[Any]:
    yield GaugeMetricFamily(
        "trialboot_known_good_pinned",
        "1 if the loader's default is the kept known-good",
        value=bool(state["pinned"]),
    )
    yield GaugeMetricFamily(
        "trialboot_node_cordoned",
        "1 if the API server has the node cordoned, whoever did it",
        value=bool(state["cluster"]["cordoned"]),
    )
    yield GaugeMetricFamily(
        "trialboot_cluster_waiting",
        "1 while the API server has not taken what the node wishes",
        value=bool(state["cluster"]["waiting"]),
    )
    yield GaugeMetricFamily(
        "trialboot_trouble", "Things that went wrong and need a look", value=len(state["trouble"])
    )


def _counters(counters: Mapping[str, int]) -> Iterable[Any]:
    trials = CounterMetricFamily("trialboot_trials", "Trials by their end", labels=["end"])
    for end in ("blessed", "condemned", "recovered", "stranded"):
        trials.add_metric([end], counters.get(end, 0))
    yield trials
    yield CounterMetricFamily(
        "trialboot_rollback_reboots",
        "Reboots that trialboot asked for to leave a candidate",
        value=counters.get("reboots", 0),
    )
    yield CounterMetricFamily(
        "trialboot_package_transactions",
        "Package manager runs that a hook told of",
        value=counters.get("transactions", 0),
    )
