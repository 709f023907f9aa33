"""Sound needs two equal passing samples, worse a proof or the deadline, and nothing is hasty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.verdict import Answer, Check, Outcome, Patience, Sample, settle

PATIENCE = Patience(minimum_settle=60, settle=30, deadline=600)
PASS = Check(name="roles", answer=Answer.PASS)
NOTED = Check(name="roles", answer=Answer.PASS, notes=("new eBPF x",))
GROWN = Check(name="roles", answer=Answer.PASS, state="2 roles")
FAIL = Check(name="links", answer=Answer.FAIL, reasons=("link eth0 is gone",))
PROOF = Check(name="units", answer=Answer.FAIL, reasons=("refused",), proof=True)
MENDS = Check(name="agents", answer=Answer.FAIL, reasons=("does not stay up",), mends=True)
WAITS = Check(
    name="pods",
    answer=Answer.NO_VERDICT,
    reasons=("no pod interface lxc* now",),
    notes=("a pod of another class is bare",),
    waits=True,
)
OPEN = Check(name="network", answer=Answer.NO_VERDICT, reasons=("could not be read",))


def samples(*told: tuple[float, Check]) -> list[Sample]:
    return [Sample(at=at, checks=(check,)) for at, check in told]


STORIES: dict[str, tuple[list[Sample], Outcome | None]] = {
    "one passing sample is not enough": (samples((100, PASS)), None),
    "two equal passing samples are sound": (samples((70, PASS), (100, PASS)), Outcome.SOUND),
    "too close together": (samples((71, PASS), (100, PASS)), None),
    "both before the minimum": (samples((20, PASS), (59, PASS)), None),
    "the first may lie before the minimum": (samples((20, PASS), (60, PASS)), Outcome.SOUND),
    "what is only noted does not unsettle": (samples((70, NOTED), (100, PASS)), Outcome.SOUND),
    "what passes differently is not settled": (samples((70, GROWN), (100, PASS)), None),
    "a change between equal samples": (samples((40, PASS), (70, GROWN), (100, PASS)), None),
    "a failure between equal samples": (samples((40, PASS), (70, FAIL), (100, PASS)), None),
    "three samples": (samples((70, PASS), (90, PASS), (100, PASS)), Outcome.SOUND),
    "a failure waits for the deadline": (samples((599, FAIL)), None),
    "a failure at the deadline is worse": (samples((600, FAIL)), Outcome.WORSE),
    "a proof does not wait": (samples((60, PROOF)), Outcome.WORSE),
    "a proof waits for the minimum": (samples((59, PROOF)), None),
    "an earlier proof that is gone": (samples((60, PROOF), (100, PASS)), None),
    "no verdict waits": (samples((570, OPEN), (599, OPEN)), None),
    "no verdict at the deadline": (samples((560, OPEN), (600, OPEN)), Outcome.UNSURE),
    "what may still come is waited for": (samples((100, WAITS), (599, WAITS)), None),
    "what did not come by the deadline is no fault": (
        samples((570, WAITS), (600, WAITS)),
        Outcome.SOUND,
    ),
    "it went away shortly before the deadline": (
        samples((571, WAITS), (600, WAITS)),
        Outcome.UNSURE,
    ),
    "it came and stayed": (samples((60, WAITS), (70, PASS), (100, PASS)), Outcome.SOUND),
    "sound at the deadline": (samples((570, PASS), (600, PASS)), Outcome.SOUND),
    "what mends gets overtime": (samples((600, MENDS), (749, MENDS)), None),
    "and no more": (samples((700, MENDS), (750, MENDS)), Outcome.WORSE),
    "it has mended, and has yet to stay so": (samples((700, MENDS), (720, PASS)), None),
    "it has mended": (samples((690, MENDS), (700, PASS), (730, PASS)), Outcome.SOUND),
    "pods did not come, and what mends has mended": (
        samples((590, MENDS), (600, WAITS), (630, WAITS)),
        Outcome.SOUND,
    ),
    "it came to be broken": (samples((590, FAIL), (610, MENDS), (640, FAIL)), Outcome.UNSURE),
    "it is broken beside what mends": (
        [Sample(at=600, checks=(FAIL, MENDS))],
        Outcome.WORSE,
    ),
    "what was waited for did not come, and something mends": (
        [Sample(at=600, checks=(WAITS, MENDS))],
        None,
    ),
    "unsettled at the deadline": (samples((571, PASS), (600, PASS)), Outcome.UNSURE),
}


@pytest.mark.parametrize(("story", "outcome"), STORIES.values(), ids=STORIES)
def test_patience_ends_as_told(story: list[Sample], outcome: Outcome | None) -> None:
    verdict = settle(story, PATIENCE)
    assert (verdict.outcome if verdict else None) == outcome


def test_a_passing_check_marked_as_proof_proves_nothing() -> None:
    odd = Check(name="units", answer=Answer.PASS, proof=True)
    assert settle(samples((60, odd)), PATIENCE) is None


def test_sound_says_how_many_checks_passed_and_keeps_the_notes() -> None:
    story = [Sample(at=at, checks=(PASS, NOTED)) for at in (70, 100)]
    verdict = settle(story, PATIENCE)
    assert verdict is not None
    assert verdict.reasons == ("all 2 checks passed",)
    assert verdict.notes == ("new eBPF x",)
    assert verdict.checks == (PASS, NOTED)


def test_worse_gives_the_reasons_of_the_failed_checks_alone() -> None:
    verdict = settle([Sample(at=600, checks=(PASS, FAIL, OPEN, PROOF))], PATIENCE)
    assert verdict is not None
    assert verdict.reasons == ("refused", "link eth0 is gone"), "what is proven comes first"
    assert verdict.checks == (PASS, FAIL, OPEN, PROOF)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (OPEN, "could not be read"),
        (PASS, "the checks pass but did not stay the same long enough"),
    ],
)
def test_unsure_says_why(check: Check, reason: str) -> None:
    verdict = settle(samples((600, check)), PATIENCE)
    assert verdict is not None
    assert verdict.reasons == (reason,)
    assert verdict.checks == (check,)


TIMES = st.lists(st.floats(0, 700, allow_nan=False), min_size=1, max_size=6).map(sorted)
CHECKS = st.sampled_from([PASS, NOTED, FAIL, PROOF, OPEN])


@st.composite
def stories(draw: st.DrawFn) -> list[Sample]:
    return [Sample(at=at, checks=(draw(CHECKS),)) for at in draw(TIMES)]


@given(stories())
def test_a_verdict_is_never_hasty_and_never_late(story: list[Sample]) -> None:
    verdict, latest = settle(story, PATIENCE), story[-1]
    if latest.at < PATIENCE.minimum_settle:
        assert verdict is None
    if latest.at >= PATIENCE.deadline:
        assert verdict is not None


@given(stories())
def test_only_a_passing_sample_is_sound_and_only_a_failing_one_is_worse(
    story: list[Sample],
) -> None:
    verdict = settle(story, PATIENCE)
    answer = story[-1].checks[0].answer
    assert not (verdict and verdict.outcome is Outcome.SOUND and answer is not Answer.PASS)
    assert not (verdict and verdict.outcome is Outcome.WORSE and answer is not Answer.FAIL)


def test_a_word_prints_as_its_value() -> None:
    assert f"{Outcome.SOUND} {Answer.NO_VERDICT!s}" == "sound no_verdict"


def broken(what: str) -> Check:
    words = f"{what} is gone"
    return Check(name="links", answer=Answer.FAIL, reasons=(words,), broken=(what,))


def test_the_same_thing_must_have_been_broken_all_along() -> None:
    other = settle(samples((570, broken("link: a")), (600, broken("link: b"))), PATIENCE)
    same = settle(samples((570, broken("link: a")), (600, broken("link: a"))), PATIENCE)
    assert other is not None
    assert same is not None
    assert (other.outcome, other.reasons) == (Outcome.UNSURE, ("now and then: link: b is gone",))
    assert (same.outcome, same.reasons) == (Outcome.WORSE, ("link: a is gone",))


def test_what_did_not_come_is_told_as_a_note() -> None:
    found = settle(samples((570, WAITS), (600, WAITS)), PATIENCE)
    assert found is not None
    assert found.notes == ("a pod of another class is bare", "no pod interface lxc* now")
    assert (found.checks[0].answer, found.checks[0].waits) == (Answer.PASS, False)
