"""The metrics page: what a Prometheus reads from it."""

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.core.samples import boot_set
from trialboot import __version__, report
from trialboot.core.change import Area, Change
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Level, Protection
from trialboot.core.transaction import State, Transaction
from trialboot.core.trial import Choice, Phase, Refused, Trial
from trialboot.core.verdict import Answer, Check, Outcome, Verdict
from trialboot.metrics import render
from trialboot.writers.store import Delivered

AT: Final = "2026-01-01T00:00:00Z"
GOOD: Final = Choice(entry=EntryId("a"), boot_set=boot_set("good"))
Samples = dict[tuple[str, tuple[str, ...]], float]


def state(trial: Trial | None = None, **other: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "at": AT,
        "mode": "armed",
        "trial": trial or Trial(),
        "outlook": None,
        "wished_cordon": False,
        "delivered": None,
        "waiting": False,
        "trouble": (),
        "counters": {},
    }
    return report.state_of(report.View(**{**parts, **other}))


def samples(made: dict[str, Any]) -> Samples:
    """Read the page as Prometheus does: (name, label values) -> value."""
    page = render(made, 1700000000.5).decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def of(found: Samples, name: str) -> dict[str, float]:
    return {"/".join(labels): value for (known, labels), value in found.items() if known == name}


OUTLOOK: Final = Outlook(
    taken_at=AT,
    boot=BootId("b"),
    running=GOOD,
    wanted=GOOD,
    next_entry=EntryId("a"),
    once_pending=False,
    changes=tuple(
        Change(area=Area.FIRMWARE, subject=name, before="x", after="y") for name in "abc"
    ),
    sentence="s",
    protection=Protection(level=Level.FULL),
)

FULL: Final = state(
    Trial(
        phase=Phase.TRIAL,
        boot=BootId("b"),
        known_good=GOOD.boot_set,
        pinned=True,
        running=GOOD,
        judged=Verdict(
            outcome=Outcome.WORSE,
            reasons=("r",),
            checks=(
                Check(name="roles", answer=Answer.FAIL),
                Check(name="pods", answer=Answer.PASS),
                Check(name="links", answer=Answer.NO_VERDICT),
                Check(name="healthy", answer=Answer.PASS),
            ),
        ),
    ),
    outlook=OUTLOOK,
    delivered=Delivered(
        wish=Wish(cordoned=True, reason="R", message="m", condition="False", boot="b", at=AT),
        cordoned=True,
        foreign=False,
    ),
    waiting=True,
    trouble=("pin: no room", "node: away"),
    against_reboot=("this boot is on trial",),
    transactions=(
        Transaction(key="1", manager="apt", boot="b", opened_at=1.0, state=State.CLOSED),
        Transaction(key="2", manager="apt", boot="b", opened_at=2.0, state=State.INTERRUPTED),
    ),
    counters={"condemned": 2, "reboots": 3, "transactions": 7},
)


def test_the_phase_is_one_of_all() -> None:
    found = of(samples(FULL), "trialboot_phase")
    assert found == {str(phase): float(phase is Phase.TRIAL) for phase in Phase}


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_there_and_one_is_set(phase: Phase) -> None:
    found = of(samples(state(Trial(phase=phase))), "trialboot_phase")
    assert (len(found), sum(found.values()), found[phase]) == (len(Phase), 1, 1)


def test_the_rest_of_the_page() -> None:
    found = samples(FULL)
    assert of(found, "trialboot_info") == {f"6.1-good/armed/6.1-good/{__version__}": 1}
    assert of(found, "trialboot_verdict") == {"sound": 0, "worse": 1, "unsure": 0}
    assert of(found, "trialboot_protection")["full"] == 1
    assert of(found, "trialboot_next_boot_changes") == {"": 3}
    risks = {"danger": 0, "caution": 3, "notice": 0}
    assert of(found, "trialboot_next_boot_risks") == risks
    assert of(found, "trialboot_known_good_whole") == {"": 1}
    assert of(found, "trialboot_candidate_refused") == {"": 0}
    assert of(found, "trialboot_may_reboot") == {"": 0}
    ended = of(found, "trialboot_last_package_transaction")
    assert (ended["interrupted"], sum(ended.values())) == (1, 1)
    assert of(found, "trialboot_known_good_pinned") == {"": 1}
    assert of(found, "trialboot_node_cordoned") == {"": 1}
    assert of(found, "trialboot_cluster_waiting") == {"": 1}
    assert of(found, "trialboot_trouble") == {"": 2}
    assert of(found, "trialboot_rendered_timestamp_seconds") == {"": 1700000000.5}


def test_what_is_not_known_of_the_next_boot_is_absent_not_zero() -> None:
    found = samples(state())
    for name in ("changes", "risks"):
        assert of(found, f"trialboot_next_boot_{name}") == {}
    assert of(found, "trialboot_known_good_whole") == {}
    assert set(of(found, "trialboot_last_package_transaction").values()) == {0}
    assert of(found, "trialboot_may_reboot") == {"": 1}


def test_damage_and_refusal_can_be_alerted_on() -> None:
    damaged = replace(OUTLOOK, damage=("/lib/modules/6.1 is gone",))
    refused = Refused(
        fingerprint=GOOD.boot_set.fingerprint, release="6.1", objections=("ice",), at=AT
    )
    trial = Trial(known_good=GOOD.boot_set, pinned=True, refused=refused)
    found = samples(state(trial, outlook=damaged))
    assert of(found, "trialboot_known_good_whole") == {"": 0}
    assert of(found, "trialboot_candidate_refused") == {"": 1}


def test_a_check_that_could_not_be_told_is_absent_not_failed() -> None:
    assert of(samples(FULL), "trialboot_check_success") == {"roles": 0, "pods": 1}


def test_counters_have_their_zero_from_the_start() -> None:
    found = samples(state())
    assert of(found, "trialboot_trials_total") == {
        "blessed": 0,
        "condemned": 0,
        "recovered": 0,
        "stranded": 0,
    }
    assert of(found, "trialboot_rollback_reboots_total") == {"": 0}
    assert of(found, "trialboot_package_transactions_total") == {"": 0}


def test_counters_count() -> None:
    found = samples(FULL)
    assert of(found, "trialboot_trials_total")["condemned"] == 2
    assert of(found, "trialboot_rollback_reboots_total") == {"": 3}
    assert of(found, "trialboot_package_transactions_total") == {"": 7}


def test_every_counter_and_nothing_else_is_named_total() -> None:
    page = render(FULL, 1.0).decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert sample.name.startswith("trialboot_")
        assert family.documentation


def test_a_host_that_knows_nothing_yet_has_a_whole_page() -> None:
    found = samples(state())
    assert {name for name, _ in found} == {name for name, _ in samples(FULL)} - {
        "trialboot_check_success",
        "trialboot_next_boot_changes",
        "trialboot_next_boot_risks",
        "trialboot_known_good_whole",
    }
    assert set(of(found, "trialboot_verdict").values()) == {0}
    assert set(of(found, "trialboot_protection").values()) == {0}
    assert of(found, "trialboot_node_cordoned") == {"": 0}


def test_a_protection_that_is_not_known_is_no_level() -> None:
    seen = Outlook(
        taken_at=AT,
        boot=BootId("b"),
        running=Unknown("w"),
        wanted=Unknown("w"),
        next_entry=Unknown("w"),
        once_pending=False,
        changes=Unknown("w"),
        sentence="s",
        protection=Unknown("no mounts"),
    )
    assert set(of(samples(state(outlook=seen)), "trialboot_protection").values()) == {0}


def test_the_same_state_gives_the_same_page() -> None:
    assert render(FULL, 5.0) == render(FULL, 5.0)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.from_type(Trial), st.from_type(Outlook))
def test_whatever_the_state_the_page_parses(trial: Trial, outlook: Outlook) -> None:
    assert sum(of(samples(state(trial, outlook=outlook)), "trialboot_phase").values()) == 1
