"""Checks become a verdict: sound, worse or unsure, and not before the node had time to settle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from trialboot.core.facts import ProgramSize
from trialboot.core.language import Word

OVERTIME: Final = 150.0
"""Seconds past the deadline for what may mend until then: an agent that was just restarted."""
MOST_REASONS: Final = 12
"""Sentences of one check that a person reads; the rest is a number."""


class Answer(Word):
    """What one check says. `no_verdict` is neither good nor bad: it could not be told."""

    PASS = "pass"  # noqa: S105  an answer, not a password
    FAIL = "fail"
    NO_VERDICT = "no_verdict"


class Outcome(Word):
    """What all checks together say of this boot."""

    SOUND = "sound"
    WORSE = "worse"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about the booted system, with its answer and what the answer stands on."""

    name: str
    answer: Answer
    reasons: tuple[str, ...] = ()
    """Sentences for the operator: place, role, before, now. They travel unchanged."""
    notes: tuple[str, ...] = ()
    """What is different and harmless."""
    broken: tuple[str, ...] = ()
    """Promises that do not hold, as the contract names them; empty for checks beside it."""
    state: str = ""
    """What must stay the same for the node to have settled, where passing says too little."""
    waits: bool = False
    """Undecided because something may still come; at the deadline its absence is no fault."""
    proof: bool = False
    """A failure that waiting cannot mend, such as the kernel's own refusal of a program."""
    mends: bool = False
    """A failure that is over, or is another one, before `OVERTIME` has passed."""


class Finding(NamedTuple):
    """One thing that fails: what it is, as the contract names it, and the sentence about it."""

    subject: str
    words: str


def check_of(
    name: str,
    failed: Sequence[Finding] = (),
    notes: Sequence[str] = (),
    undecided: Sequence[str] = (),
    *,
    state: str = "",
    waits: bool = False,
    proof: bool = False,
) -> Check:
    """Answer one question: what failed makes it fail, what could not be told leaves it open."""
    words = [finding.words for finding in failed]
    if len(words) > MOST_REASONS:
        left = len(words) - MOST_REASONS
        words = [*words[:MOST_REASONS], f"... and {left} more of the check «{name}»"]
    answer = Answer.FAIL if words else Answer.NO_VERDICT if undecided else Answer.PASS
    return Check(
        name=name,
        answer=answer,
        reasons=(*words, *undecided),
        notes=tuple(notes),
        broken=tuple(finding.subject for finding in failed),
        state=state,
        waits=waits and answer is Answer.NO_VERDICT,
        proof=proof,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one boot."""

    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    """What was found beside the checks and explains them: log lines, missing modules."""
    headroom: tuple[ProgramSize, ...] = ()
    """The programs that cost the verifier most, the dearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All checks at one moment; `at` is in seconds since the kernel started."""

    at: float
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a node may take, in seconds since the kernel started (or since the run began)."""

    minimum_settle: float = 60.0
    """Nothing passes or fails a node before."""
    settle: float = 30.0
    """Two equal passing samples must lie this far apart."""
    deadline: float = 600.0
    """What is not proven by then fails, or stays unsure."""


def settle(samples: Sequence[Sample], patience: Patience) -> Verdict | None:
    """Judge the samples so far, oldest first; None while the node deserves more time.

    Sound needs passing samples that did not change over `settle` seconds. Worse needs a proof, or
    at the deadline something that was broken for as long. What was waited for and did not come by
    then is no fault. What mends gets `OVERTIME` to do so; all else at the deadline is unsure.
    """
    latest = samples[-1]
    if latest.at < patience.minimum_settle:
        return None
    if any(check.answer is Answer.FAIL and check.proof for check in latest.checks):
        return _worse(latest)
    if _steady_pass(samples, patience):
        return _sound(latest)
    if latest.at < patience.deadline:
        return None
    found = _at_the_deadline(samples, patience)
    overtime = latest.at < patience.deadline + OVERTIME and _is_mending(samples)
    return None if overtime and found.outcome is not Outcome.SOUND else found


def _is_mending(samples: Sequence[Sample]) -> bool:
    """Tell a node of which nothing is broken but what mends, or did a moment ago."""
    well = all(c.answer is Answer.PASS or c.waits or c.mends for c in samples[-1].checks)
    return well and any(check.mends for sample in samples for check in sample.checks)


def _at_the_deadline(samples: Sequence[Sample], patience: Patience) -> Verdict:
    """Judge what has not settled: worse only where one thing was broken all along.

    A node whose pods come and go shows one that is being made in any single sample.
    """
    latest = samples[-1]
    if _steady_pass([_without_waiting(sample) for sample in samples], patience):
        return _sound(_without_waiting(latest))
    window = [sample for sample in samples if latest.at - sample.at <= patience.settle]
    lasting = set.intersection(*(_failing(sample) for sample in window))
    if lasting:
        return _worse(latest)
    reasons = _unsure_reasons(latest)
    return Verdict(outcome=Outcome.UNSURE, reasons=reasons, checks=latest.checks)


def _without_waiting(sample: Sample) -> Sample:
    """Take what was waited for until the deadline, and did not come, for a note."""
    checks = tuple(
        replace(c, answer=Answer.PASS, reasons=(), notes=(*c.notes, *c.reasons), waits=False)
        if c.waits
        else c
        for c in sample.checks
    )
    return replace(sample, checks=checks)


def _sound(sample: Sample) -> Verdict:
    return Verdict(
        outcome=Outcome.SOUND,
        reasons=(f"all {len(sample.checks)} checks passed",),
        checks=sample.checks,
        notes=tuple(note for check in sample.checks for note in check.notes),
    )


def _failing(sample: Sample) -> set[str]:
    failed = [check for check in sample.checks if check.answer is Answer.FAIL]
    return {what for check in failed for what in check.broken or (check.name,)}


def _worse(sample: Sample) -> Verdict:
    failed = [check for check in sample.checks if check.answer is Answer.FAIL]
    failed.sort(key=lambda check: not check.proof)  # what explains the rest comes first
    return Verdict(
        outcome=Outcome.WORSE,
        reasons=tuple(reason for check in failed for reason in check.reasons),
        checks=sample.checks,
    )


def _unsure_reasons(sample: Sample) -> tuple[str, ...]:
    open_checks = [check for check in sample.checks if check.answer is Answer.NO_VERDICT]
    told = tuple(reason for check in open_checks for reason in check.reasons)
    now_and_then = [check for check in sample.checks if check.answer is Answer.FAIL]
    told += tuple(f"now and then: {r}" for check in now_and_then for r in check.reasons)
    return told or ("the checks pass but did not stay the same long enough",)


def _steady_pass(samples: Sequence[Sample], patience: Patience) -> bool:
    latest = samples[-1]
    for sample in reversed(samples):
        if not _passes(sample) or _state(sample) != _state(latest):
            return False
        if latest.at - sample.at >= patience.settle:
            return True
    return False


def _state(sample: Sample) -> dict[str, str]:
    """Give what must not change; notes may: pods and programs of others come and go."""
    return {check.name: check.state for check in sample.checks}


def _passes(sample: Sample) -> bool:
    return all(check.answer is Answer.PASS for check in sample.checks)
