"""What people read: golden texts for each phase, and the keys that tools rely on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot import __version__, report, screens, statefile
from trialboot.core.bootset import shown
from trialboot.core.change import Area, Change, Risk
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Level, Protection
from trialboot.core.transaction import State, Transaction
from trialboot.core.trial import Choice, Condemned, Moment, Phase, Refused, Trial
from trialboot.core.verdict import Answer, Check, Outcome, Verdict
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers.store import Delivered

AT: Final = "2026-01-01T00:00:00Z"
GOOD, NEW = (
    Choice(entry=EntryId(f"entry-{name}"), boot_set=boot_set(name)) for name in ("good", "new")
)
GOOD_SHOWN, NEW_SHOWN = (
    f"{choice.boot_set.release} ({shown(choice.boot_set.fingerprint)})" for choice in (GOOD, NEW)
)
SENTENCE: Final = "The next boot switches the kernel 6.1-good → 6.1-new."
PROVEN: Final = Verdict(
    outcome=Outcome.SOUND,
    reasons=("all 2 checks passed",),
    checks=(
        Check(name="roles", answer=Answer.PASS),
        Check(name="pods", answer=Answer.NO_VERDICT),
    ),
    notes=("new link eth1",),
)
WORSE: Final = Verdict(outcome=Outcome.WORSE, reasons=("eBPF a is missing", "route b is gone"))
WISH: Final = Wish(cordoned=True, reason="R", message="m", condition="False", boot="b", at=AT)


def outlook(*rows: Change, **other: Any) -> Outlook:
    parts: dict[str, Any] = {
        "taken_at": AT,
        "boot": BootId("boot-1"),
        "running": GOOD,
        "wanted": replace(NEW, summary=SENTENCE),
        "next_entry": EntryId("trialboot-known-good"),
        "once_pending": False,
        "changes": rows or (change(Area.KERNEL, "release", "6.1-good", "6.1-new"),),
        "sentence": SENTENCE,
        "protection": Protection(level=Level.PANIC_ONLY, reasons=("no watchdog",), notes=("n",)),
    }
    return Outlook(**{**parts, **other})


def change(  # noqa: PLR0917  the columns of a row have one order
    area: Area, subject: str, before: str, after: str, risk: Risk = Risk.CAUTION, why: str = ""
) -> Change:
    return Change(area=area, subject=subject, before=before, after=after, risk=risk, why=why)


DANGER, LOOK, KNOW = (
    "danger: what this host uses will not be there, or something else boots:",
    "look at: what this host uses will be another one:",
    "to know: nothing that this host is known to use:",
)
REFUSED: Final = Refused(
    fingerprint=NEW.boot_set.fingerprint,
    release="6.1-new",
    objections=("ice is missing", "vxlan is missing"),
    at=AT,
)


def trial(phase: Phase, **other: Any) -> Trial:
    parts: dict[str, Any] = {
        "phase": phase,
        "known_good": GOOD.boot_set,
        "pinned": True,
        "boot": BootId("boot-1"),
        "running": GOOD,
        "story": told("armed: a new kernel"),
    }
    return Trial(**{**parts, **other})


def told(*texts: str) -> tuple[Moment, ...]:
    return tuple(Moment(at=AT, boot=BootId("boot-1"), text=text) for text in texts)


def condemned(*reasons: str) -> tuple[Condemned, ...]:
    print_of = NEW.boot_set.fingerprint
    why = "verdict worse: eBPF a is missing"
    return (Condemned(fingerprint=print_of, release="6.1-new", why=why, at=AT, reasons=reasons),)


def view(made: Trial, **other: Any) -> report.View:
    parts: dict[str, Any] = {
        "at": AT,
        "mode": "armed",
        "trial": made,
        "outlook": outlook(),
        "wished_cordon": False,
        "delivered": None,
        "waiting": False,
        "trouble": (),
        "counters": {"blessed": 1},
    }
    return report.View(**{**parts, **other})


def state(made: Trial, **other: Any) -> dict[str, Any]:
    """Give the state as a reader of the file has it."""
    found: dict[str, Any] = json.loads(json.dumps(report.state_of(view(made, **other))))
    return found


NEXT: Final = [
    f"next boot: {SENTENCE}",
    "protection: panic-only",
    "  - no watchdog",
]


STAYS: Final = f"The next boot stays on the known-good {GOOD_SHOWN}"
CONDEMNED: Final = f"{STAYS}: 6.1-new was condemned and is not booted again."
LOST: Final = f"{STAYS}: nothing else is tried until somebody has looked at this node."


# --- status -------------------------------------------------------------------------------------


def test_status_of_a_fresh_host() -> None:
    found = state(Trial(), outlook=None, mode="observe")
    assert screens.status_lines(found) == [
        "steady: no trial runs",
        "mode: observe",
        "running: not known",
        "known-good: none yet; a boot set earns it by a sound verdict",
        "verdict: none on this boot yet",
        "next boot: not looked at yet",
    ]


def test_status_of_a_host_at_rest() -> None:
    delivered = Delivered(wish=WISH, cordoned=False, foreign=False)
    found = state(trial(Phase.STEADY, judged=PROVEN), delivered=delivered)
    assert screens.status_lines(found) == [
        "steady: no trial runs",
        "mode: armed",
        f"running: {GOOD_SHOWN}",
        f"known-good: {GOOD_SHOWN}, kept, and the loader's default",
        "verdict: sound",
        "  - all 2 checks passed",
        *NEXT,
        "cluster: not cordoned by us",
    ]


def test_status_of_an_armed_host() -> None:
    found = state(trial(Phase.ARMED, candidate=NEW))
    assert screens.status_lines(found) == [
        "armed: the next boot is a trial",
        "mode: armed",
        f"running: {GOOD_SHOWN}",
        f"known-good: {GOOD_SHOWN}, kept, and the loader's default",
        f"candidate: {NEW_SHOWN}",
        "verdict: none on this boot yet",
        *NEXT,
    ]


def test_status_of_a_trial() -> None:
    made = trial(Phase.TRIAL, candidate=NEW, running=NEW)
    assert screens.status_lines(state(made, waiting=True, wished_cordon=True)) == [
        "trial: this boot is on trial",
        "mode: armed",
        f"running: {NEW_SHOWN}",
        f"known-good: {GOOD_SHOWN}, kept, and the loader's default",
        f"candidate: {NEW_SHOWN}",
        "verdict: none on this boot yet",
        f"next boot: {STAYS}: this boot is on trial, and not proven yet.",
        *NEXT[1:],
        "cluster: wants to cordon; the API server has not taken it yet",
    ]


@pytest.mark.parametrize(
    ("phase", "first", "following"),
    [
        (
            Phase.CONDEMNED,
            "condemned: the trial failed; the known-good has to prove itself",
            CONDEMNED,
        ),
        (
            Phase.RECOVERED,
            "recovered: rolled back and proven; the failed boot set is not tried again",
            CONDEMNED,
        ),
        (Phase.STRANDED, "stranded: no proven boot set is left: this node needs a human", LOST),
    ],
)
def test_status_after_a_failed_trial(phase: Phase, first: str, following: str) -> None:
    delivered = Delivered(wish=WISH, cordoned=True, foreign=False)
    made = trial(phase, condemned=condemned(), candidate=NEW, judged=WORSE)
    assert screens.status_lines(state(made, delivered=delivered, trouble=("pin: no room",))) == [
        first,
        "mode: armed",
        f"running: {GOOD_SHOWN}",
        f"known-good: {GOOD_SHOWN}, kept, and the loader's default",
        f"candidate: {NEW_SHOWN}",
        "condemned: 6.1-new: verdict worse: eBPF a is missing",
        "verdict: worse",
        "  - eBPF a is missing",
        "  - route b is gone",
        f"next boot: {following}",
        *NEXT[1:],
        "cluster: cordoned by trialboot",
        "trouble: pin: no room",
    ]


def test_status_says_first_that_only_reports_are_made() -> None:
    lines = screens.status_lines(state(Trial(report_only="the record was set aside")))
    assert lines[2] == "only reports are made: the record was set aside"


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (
            {"waiting": True},
            "cluster: wants to uncordon; the API server has not taken it yet",
        ),
        (
            {"delivered": Delivered(wish=WISH, cordoned=True, foreign=True)},
            "cluster: cordoned by somebody else; left alone",
        ),
    ],
)
def test_status_tells_how_the_cluster_stands(other: dict[str, Any], line: str) -> None:
    assert screens.status_lines(state(trial(Phase.STEADY), **other))[-1] == line


def test_a_known_good_that_is_not_pinned_is_said_to_be_so() -> None:
    lines = screens.status_lines(state(trial(Phase.STEADY, pinned=False)))
    assert f"known-good: {GOOD_SHOWN}, not pinned" in lines


# --- next ---------------------------------------------------------------------------------------


def test_next_before_the_first_snapshot() -> None:
    assert screens.next_lines(state(Trial(), outlook=None)) == [
        "What the next boot changes is not known yet: no snapshot was taken in this boot."
    ]


def test_next_of_an_armed_host_says_that_it_is_a_trial() -> None:
    assert screens.next_lines(state(trial(Phase.ARMED, candidate=NEW))) == [
        SENTENCE,
        f"It is a trial, booted once: the default stays on the known-good {GOOD_SHOWN}.",
        "Protection is panic-only: no watchdog.",
        LOOK,
        "  kernel: release: 6.1-good → 6.1-new",
    ]


def test_next_of_a_recovered_host_says_what_is_booted_instead() -> None:
    found = state(trial(Phase.RECOVERED, condemned=condemned()))
    assert screens.next_lines(found)[:2] == [
        (
            f"The next boot stays on the known-good {GOOD_SHOWN}: "
            "6.1-new was condemned and is not booted again."
        ),
        "Held back is a boot set that switches the kernel 6.1-good → 6.1-new.",
    ]
    assert screens.notice_lines(found)[1] == f"trialboot: {screens.next_lines(found)[0]}"
    assert f"next boot: {screens.next_lines(found)[0]}" in screens.status_lines(found)


def test_next_of_a_held_back_boot_set_whose_changes_are_not_known_says_so() -> None:
    seen = outlook(changes=Unknown("no menu"), sentence="It is not known.")
    found = state(trial(Phase.RECOVERED, condemned=condemned()), outlook=seen)
    assert screens.next_lines(found)[1] == "It is not known."


def test_nothing_is_held_back_where_no_known_good_is_pinned() -> None:
    found = state(trial(Phase.STEADY, refused=REFUSED, pinned=False))
    assert screens.next_lines(found)[:2] == [
        SENTENCE,
        "A pre-check failed, and nothing holds it back here:",
    ]
    assert screens.notice_lines(found)[1] == (
        "trialboot: A pre-check failed, and nothing holds it back here: ice is missing"
    )


def test_next_in_observe_mode_says_that_nothing_is_pinned() -> None:
    assert screens.next_lines(state(trial(Phase.STEADY), mode="observe"))[1] == (
        "Observe mode: nothing is pinned and no boot is a trial (trialboot arm)."
    )


@pytest.mark.parametrize(
    ("phase", "first"),
    [
        (Phase.TRIAL, f"{STAYS}: this boot is on trial, and not proven yet."),
        (Phase.STRANDED, LOST),
    ],
)
def test_next_says_that_the_known_good_boots_while_no_candidate_is_armed(
    phase: Phase, first: str
) -> None:
    assert screens.next_lines(state(trial(phase)))[:2] == [
        first,
        "Held back is a boot set that switches the kernel 6.1-good → 6.1-new.",
    ]
    calm = state(trial(phase), outlook=outlook(changes=(), sentence="It changes nothing."))
    assert screens.next_lines(calm) == ["It changes nothing."]


def test_a_known_good_that_is_not_in_the_vault_yet_is_not_said_to_be_pinned() -> None:
    assert state(trial(Phase.STEADY), being_kept=True)["pinned"] is False


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.CONDEMNED])
def test_next_of_the_other_phases_tells_only_the_changes(phase: Phase) -> None:
    assert screens.next_lines(state(trial(phase))) == [
        SENTENCE,
        LOOK,
        "  kernel: release: 6.1-good → 6.1-new",
    ]


def test_next_lists_the_changes_by_risk_with_what_makes_them_dangerous() -> None:
    rows = [
        change(Area.MODULES, "ice", "loaded", "missing", Risk.DANGER, "drives eth0"),
        change(Area.COMMAND_LINE, "command line", "ro", "rw"),
        change(Area.FIRMWARE, "x.bin", "absent", "new", Risk.NOTICE),
    ]
    assert screens.next_lines(state(trial(Phase.STEADY), outlook=outlook(*rows)))[1:] == [
        DANGER,
        "  modules: ice: loaded → missing (drives eth0)",
        LOOK,
        "  command line: command line: ro → rw",
        KNOW,
        "  firmware: x.bin: absent → new",
    ]


@pytest.mark.parametrize(
    ("alias", "told"),
    [
        ("pci:v00008086d00001592sv00008086sd00000002bc02sc00i00", "PCI 8086:1592"),
        ("usb:v1D6Bp0002d0606dc09dsc00dp01ic09isc00ip00in00", "USB 1d6b:0002"),
        ("acpi:PNP0A08:PNP0A03:", "acpi:PNP0A08:PNP0A03:"),
    ],
)
def test_next_names_devices_as_lspci_does(alias: str, told: str) -> None:
    seen = outlook(change(Area.DRIVERS, alias, "ice", "no driver"))
    lines = screens.next_lines(state(trial(Phase.STEADY), outlook=seen))
    assert lines[-1] == f"  drivers: {told}: ice → no driver"


def test_next_shows_ten_of_many_and_says_where_the_others_are() -> None:
    rows = [change(Area.FIRMWARE, f"file-{n:02}", "a", "b") for n in range(13)]
    lines = screens.next_lines(state(trial(Phase.STEADY), outlook=outlook(*rows)))
    assert lines[1:4] == [LOOK, "  firmware: file-00: a → b", "  firmware: file-01: a → b"]
    assert lines[-1] == "  … and 3 more: trialboot next --json"
    assert len(lines) == 13


def test_next_says_what_is_not_known_and_what_others_say() -> None:
    seen = outlook(
        changes=Unknown("no menu"),
        running=Unknown("no entry"),
        wanted=Unknown("no menu"),
        not_seen=("drivers: no libkmod",),
        evidence=("/run/reboot-required is there: linux-base",),
    )
    assert screens.next_lines(state(trial(Phase.STEADY), outlook=seen)) == [
        SENTENCE,
        "not known:",
        "  no entry",
        "  no menu",
        "  drivers: no libkmod",
        "others say:",
        "  /run/reboot-required is there: linux-base",
    ]


def test_next_of_what_a_pre_check_refuses_says_why_and_how_to_try_it() -> None:
    found = state(trial(Phase.STEADY, refused=REFUSED))
    assert screens.next_lines(found)[:6] == [
        f"The next boot stays on the known-good {GOOD_SHOWN}: a pre-check speaks against 6.1-new.",
        "Held back is a boot set that switches the kernel 6.1-good → 6.1-new.",
        "It is not tried, for a pre-check failed:",
        "  ice is missing",
        "  vxlan is missing",
        "  «trialboot allow» has it tried all the same.",
    ]


def test_next_of_what_this_host_cannot_try_offers_no_leave() -> None:
    hindered = replace(REFUSED, objections=(), obstacles=("no one-shot reaches it",))
    found = state(trial(Phase.STEADY, refused=hindered))
    assert screens.next_lines(found)[:4] == [
        f"The next boot stays on the known-good {GOOD_SHOWN}: this host cannot try 6.1-new.",
        "Held back is a boot set that switches the kernel 6.1-good → 6.1-new.",
        "It is not tried, for this host cannot try it:",
        "  no one-shot reaches it",
    ]
    assert screens.notice_lines(found)[1] == "trialboot: It is not tried: no one-shot reaches it"
    both = state(trial(Phase.STEADY, refused=replace(hindered, objections=("ice is missing",))))
    assert screens.next_lines(both)[4:6] == [
        "It is not tried, for a pre-check failed:",
        "  ice is missing",
    ]
    assert not any("allow" in line for line in screens.next_lines(both))


def test_next_says_loudly_that_the_known_good_is_damaged() -> None:
    seen = outlook(damage=("/lib/modules/6.1-good is gone",))
    lines = screens.next_lines(state(trial(Phase.STEADY), outlook=seen))
    assert lines[1] == "The known-good is not whole: /lib/modules/6.1-good is gone."


# --- may it be rebooted, and what everybody should know -----------------------------------------


def test_nothing_speaks_against_a_reboot() -> None:
    assert screens.reboot_lines(state(trial(Phase.STEADY))) == [
        "yes: nothing speaks against a reboot"
    ]


def test_what_speaks_against_a_reboot_is_told() -> None:
    found = state(trial(Phase.STEADY), against_reboot=("apt is at work", "ice is missing"))
    assert found["may_reboot"] == {
        "answer": False,
        "reasons": ["apt is at work", "ice is missing"],
    }
    assert screens.reboot_lines(found) == ["no:", "  apt is at work", "  ice is missing"]


def test_nothing_to_tell_is_no_notice() -> None:
    calm = outlook(changes=())
    assert screens.notice_lines(state(trial(Phase.STEADY), outlook=calm)) == []
    assert screens.notice_lines(state(trial(Phase.STEADY), outlook=None)) == []


def test_a_notice_tells_the_sentence_and_where_there_is_more() -> None:
    assert screens.notice_lines(state(trial(Phase.ARMED))) == [
        f"trialboot: {SENTENCE}",
        "trialboot: Protection is panic-only: no watchdog.",
        "trialboot: more: trialboot next",
    ]


def test_before_a_trial_it_is_told_what_would_not_be_undone() -> None:
    armed = state(trial(Phase.ARMED), outlook=outlook(protection=Protection(level=Level.FULL)))
    assert screens.reboot_lines(armed) == ["yes: nothing speaks against a reboot"]
    assert not any("Protection" in line for line in screens.next_lines(armed))
    weak = state(trial(Phase.ARMED))
    assert screens.reboot_lines(weak)[1:] == ["Protection is panic-only: no watchdog."]
    two = Protection(level=Level.USERSPACE_ONLY, reasons=("no panic=", "no watchdog"))
    weaker = state(trial(Phase.ARMED), outlook=outlook(protection=two))
    assert screens.reboot_lines(weaker)[1:] == [
        "Protection is userspace-only: no panic= (and 1 more: trialboot doctor)."
    ]
    assert screens.reboot_lines(state(trial(Phase.STEADY)))[1:] == []
    assert screens.reboot_lines(state(trial(Phase.ARMED), outlook=None))[1:] == []
    unknown = outlook(changes=Unknown("no menu"), sentence="It is not known.")
    assert screens.notice_lines(state(trial(Phase.STEADY), outlook=unknown))[0] == (
        "trialboot: It is not known."
    )


def test_a_notice_has_five_lines_at_most_and_the_worst_comes_first() -> None:
    seen = outlook(damage=("a is gone", "b is gone", "c is gone"))
    found = state(trial(Phase.RECOVERED, refused=REFUSED), outlook=seen)
    lines = screens.notice_lines(found)
    assert len(lines) == 5
    assert lines[0].startswith("trialboot: this node is recovered: rolled back and proven")
    assert lines[2] == "trialboot: It is not tried: ice is missing"


# --- why ----------------------------------------------------------------------------------------


def test_why_without_a_trial() -> None:
    assert screens.why_lines(state(Trial())) == ["No trial has run on this host yet."]


def test_why_of_a_rollback_tells_story_reasons_and_what_to_do() -> None:
    made = trial(
        Phase.RECOVERED,
        condemned=condemned("eBPF a is missing", "route b is gone"),
        story=told("armed: x", "trial: x has booted", "condemned: worse", "recovered: y"),
    )
    assert screens.why_lines(state(made)) == [
        "recovered: rolled back and proven; the failed boot set is not tried again",
        f"{AT}  armed: x",
        f"{AT}  trial: x has booted",
        f"{AT}  condemned: worse",
        f"{AT}  recovered: y",
        "  reason: eBPF a is missing",
        "  reason: route b is gone",
        "to do: mend or remove the condemned update; «trialboot retry» tries it again",
    ]


@pytest.mark.parametrize(
    ("phase", "advice"),
    [
        (Phase.STEADY, "to do: nothing"),
        (Phase.ARMED, "to do: reboot when it suits you; the trial goes back by itself"),
        (Phase.TRIAL, "to do: nothing yet; the verdict is being found"),
        (Phase.CONDEMNED, "to do: nothing yet; the verdict is being found"),
        (Phase.STRANDED, "to do: look at this node by hand; then «trialboot retry»"),
    ],
)
def test_why_ends_with_what_to_do(phase: Phase, advice: str) -> None:
    assert screens.why_lines(state(trial(phase))) == [
        f"{phase}: {state(trial(phase))['meaning']}",
        f"{AT}  armed: a new kernel",
        advice,
    ]


def test_a_trial_that_cannot_be_armed_yet_is_not_called_the_next_boot() -> None:
    stuck = state(
        trial(Phase.ARMED), unfinished=True, against_reboot=("the boot loader is not set",)
    )
    assert screens.status_lines(stuck)[0] == (
        "armed: a trial is being armed; the boot loader is not set yet"
    )
    assert screens.why_lines(stuck)[-1] == "to do: no reboot yet: the boot loader is not set"


def test_why_of_a_long_story_tells_its_end() -> None:
    made = trial(Phase.ARMED, story=told(*(f"moment {n}" for n in range(20))))
    lines = screens.why_lines(state(made))
    assert len(lines) == 10
    assert lines[1:-1] == [f"{AT}  moment {n}" for n in range(12, 20)]


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.from_type(Trial))
def test_why_never_takes_more_than_ten_lines(made: Trial) -> None:
    assert 1 <= len(screens.why_lines(state(made, outlook=None))) <= 10


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.from_type(Trial), st.from_type(Outlook), st.sampled_from(["observe", "armed"]))
def test_whatever_is_known_can_be_told(made: Trial, seen: Outlook, mode: str) -> None:
    found = state(made, outlook=seen, mode=mode)
    assert screens.status_lines(found)[0].startswith(f"{made.phase}: ")
    held = "The next boot stays on the known-good"
    first = screens.next_lines(found)[0]
    assert first == seen.sentence or (made.pinned and first.startswith(held))


# --- the file -----------------------------------------------------------------------------------

BOOT_SET_KEYS: Final = ["fingerprint", "release"]
CHOICE_KEYS: Final = ["entry", "fingerprint", "release", "summary"]
KEYS: Final[dict[str, list[str]]] = {
    "": [
        "at",
        "boot",
        "candidate",
        "cluster",
        "condemned",
        "counters",
        "format",
        "known_good",
        "may_reboot",
        "meaning",
        "mode",
        "next",
        "phase",
        "pinned",
        "refused",
        "report_only",
        "running",
        "story",
        "transactions",
        "trouble",
        "verdict",
        "version",
    ],
    "known_good": BOOT_SET_KEYS,
    "running": CHOICE_KEYS,
    "candidate": CHOICE_KEYS,
    "condemned": ["at", "fingerprint", "reasons", "release", "why"],
    "verdict": ["checks", "evidence", "headroom", "notes", "outcome", "reasons"],
    "refused": ["at", "fingerprint", "objections", "obstacles", "release"],
    "may_reboot": ["answer", "reasons"],
    "transactions": [
        "changed",
        "command",
        "manager",
        "state",
        "text",
        "time",
        "user",
        "why",
    ],
    "next": [
        "at",
        "changes",
        "damage",
        "evidence",
        "loads",
        "not_seen",
        "once",
        "protection",
        "sentence",
        "unknown",
        "wanted",
    ],
    "next.wanted": CHOICE_KEYS,
    "next.changes": ["after", "area", "before", "risk", "subject", "why"],
    "next.protection": ["level", "notes", "reasons"],
    "story": ["at", "boot", "text"],
    "cluster": ["cordon_wished", "cordoned", "foreign_cordon", "waiting"],
}
"""What tools rely on. To change one is a decision: it needs a new `format`."""


def full_state() -> dict[str, Any]:
    made = trial(
        Phase.RECOVERED,
        candidate=NEW,
        condemned=condemned("r"),
        judged=PROVEN,
        refused=REFUSED,
    )
    run = Transaction(key="k", manager="apt", boot="b", opened_at=1.0, state=State.CLOSED)
    return state(made, transactions=(run,))


@pytest.mark.parametrize("place", KEYS)
def test_the_keys_of_the_state_are_stable(place: str) -> None:
    found: Any = full_state()
    for step in place.split(".") if place else ():
        found = found[step]
        found = found[0] if isinstance(found, list) else found
    assert sorted(found) == KEYS[place]


def test_the_format_is_one_and_the_version_is_ours() -> None:
    assert (full_state()["format"], full_state()["version"]) == (1, __version__)


def test_values_are_plain_words() -> None:
    found = full_state()
    assert found["phase"] == "recovered"
    assert found["verdict"]["checks"] == {"roles": "pass", "pods": "no_verdict"}
    assert found["next"]["changes"][0]["area"] == "kernel"
    assert found["transactions"][0]["text"] == "apt: 0 packages changed, closed"
    assert found["cluster"] == {
        "cordon_wished": False,
        "cordoned": None,
        "foreign_cordon": None,
        "waiting": False,
    }


def test_a_transaction_whose_changes_are_not_known_has_no_number() -> None:
    run = Transaction(key="k", manager="apt", boot="b", opened_at=1.0, changes=Unknown("x"))
    assert state(Trial(), transactions=(run,))["transactions"][0]["changed"] is None


def test_what_is_not_known_is_null_with_its_reason_beside_it() -> None:
    seen = outlook(
        next_entry=Unknown("no menu"), wanted=Unknown("why"), protection=Unknown("no mounts")
    )
    found = state(Trial(), outlook=seen)["next"]
    assert (found["loads"], found["wanted"]) == (None, None)
    assert found["unknown"] == ["why", "no menu"]
    assert found["protection"] == {"level": "unknown", "reasons": ["no mounts"], "notes": []}


def test_a_written_state_is_read_back_by_everybody(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    statefile.write_state(host, full_state())
    assert statefile.read_state(host) == full_state()
    assert (tmp_path / "run/trialboot/state.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (None, "has trialbootd run since the last boot? (systemctl status trialbootd)"),
        ("", "state.json is not JSON: restart trialbootd to renew it"),
        ("{", "state.json is not JSON: restart trialbootd to renew it"),
        ("[]", "state.json is of another version: restart trialbootd to renew it"),
        ("{}", "state.json is of another version: restart trialbootd to renew it"),
        ('{"format": 2}', "state.json is of another version: restart trialbootd to renew it"),
    ],
)
def test_a_state_that_cannot_be_read_says_what_to_do(
    tmp_path: Path, content: str | None, advice: str
) -> None:
    if content is not None:
        (tmp_path / "run/trialboot").mkdir(parents=True)
        (tmp_path / "run/trialboot/state.json").write_text(content)
    with pytest.raises(HostError) as error:
        statefile.read_state(Host(root=tmp_path))
    assert str(error.value).startswith("/run/trialboot/state.json")
    assert str(error.value).endswith(advice)
