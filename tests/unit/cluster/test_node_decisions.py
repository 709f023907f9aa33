"""What is decided about cordon, condition and Event names, as tables."""

import json
from dataclasses import replace
from typing import Any

import pytest

from trialboot.cluster.node import (
    CONDITION,
    RECEIPT,
    decide_condition,
    decide_cordon,
    event_name,
)
from trialboot.core.node import Wish

AT = "2026-11-22T12:00:00Z"
TRIAL = Wish(
    cordoned=True,
    reason="TrialRunning",
    message="The boot of today is on trial.",
    condition="Unknown",
    boot="6f1c",
    at=AT,
)
PROVEN = replace(TRIAL, cordoned=False, reason="BootProven", condition="True", message="All well.")
OURS = json.dumps({"by": "trialboot", "boot": "6f1c", "at": AT, "reason": "TrialRunning"})
MARK_ONLY = {"metadata": {"resourceVersion": "7", "annotations": {RECEIPT: None}}}
UNCORDON = {**MARK_ONLY, "spec": {"unschedulable": None}}
CORDON = {
    "metadata": {"resourceVersion": "7", "annotations": {RECEIPT: OURS.replace(" ", "")}},
    "spec": {"unschedulable": True},
}
RENEW = {"metadata": CORDON["metadata"]}


def _object(receipt: str | None, cordoned: object, *owners: str) -> dict[str, Any]:
    field: dict[str, Any] = {"f:spec": {"f:unschedulable": {}}}
    return {
        "metadata": {
            "resourceVersion": "7",
            "annotations": {} if receipt is None else {RECEIPT: receipt},
            "managedFields": [{"manager": owner, "fieldsV1": field} for owner in owners],
        },
        "spec": {"unschedulable": True} if cordoned else {},
    }


@pytest.mark.parametrize(
    ("node", "wish", "patch"),
    [
        (_object(None, False), TRIAL, CORDON),
        (_object(None, True, "kubectl-cordon"), TRIAL, None),
        (_object(None, True, "trialboot"), TRIAL, None),
        (_object(OURS, True, "trialboot"), TRIAL, None),
        (_object(OURS, True), TRIAL, None),
        (_object(OURS, True, "kubectl-cordon"), TRIAL, None),
        (_object(OURS.replace("6f1c", "old"), True, "trialboot"), TRIAL, RENEW),
        (_object(OURS.replace("6f1c", "old"), False), TRIAL, CORDON),
        (_object("scribble", True, "trialboot"), TRIAL, RENEW),
        (_object("[]", False), TRIAL, CORDON),
        (_object(None, False), PROVEN, None),
        (_object(None, True, "kubectl-cordon"), PROVEN, None),
        (_object(None, True, "trialboot"), PROVEN, None),
        (_object(OURS, True, "trialboot"), PROVEN, UNCORDON),
        (_object(OURS, True), PROVEN, UNCORDON),
        (_object("scribble", True, "trialboot"), PROVEN, UNCORDON),
        (_object(OURS, True, "kubectl-cordon"), PROVEN, MARK_ONLY),
        (_object(OURS, True, "trialboot", "other"), PROVEN, MARK_ONLY),
        (_object(OURS, False), PROVEN, MARK_ONLY),
    ],
)
def test_the_cordon_is_decided(node: Any, wish: Wish, patch: Any) -> None:
    assert decide_cordon(node, wish) == patch


def _saying(**old: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready"}, {"type": CONDITION, **old}]}}


@pytest.mark.parametrize(
    ("old", "since"),
    [
        ({"status": "Unknown", "reason": "Other", "lastTransitionTime": "then"}, "then"),
        ({"status": "True", "reason": "TrialRunning", "lastTransitionTime": "then"}, AT),
        ({"status": "Unknown"}, AT),
        ({}, AT),
    ],
)
def test_a_condition_keeps_its_time_while_its_status_stays(
    old: dict[str, str], since: str
) -> None:
    patch = decide_condition(_saying(**old), TRIAL)
    assert patch is not None
    assert patch["status"]["conditions"][0]["lastTransitionTime"] == since


def test_a_condition_that_says_it_already_is_not_written() -> None:
    same = {"status": "Unknown", "reason": TRIAL.reason, "message": TRIAL.message}
    assert decide_condition(_saying(**same), TRIAL) is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("1f3a-condemned", "n.trialboot-1f3a-condemned"),
        ("Boot_1/Failed!", "n.trialboot-boot-1-failed"),
        ("../..", "n.trialboot-notice"),
        ("x" * 300, "n.trialboot-" + "x" * 241),
    ],
)
def test_an_events_name_is_a_dns_name(key: str, name: str) -> None:
    assert event_name("n", key) == name
