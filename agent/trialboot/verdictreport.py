"""For people: a verdict with what it stands on, and the contract that it was held against."""

from collections.abc import Iterable
from typing import Final

from trialboot.core.contract import (
    Amendments,
    Contract,
    amended,
    is_line_named,
    items_of,
    line_of,
    lines_of,
    subject_of,
)
from trialboot.core.facts import Unknown
from trialboot.core.verdict import Answer, Check, Verdict

_ANSWERS: Final = {
    Answer.PASS: "pass",
    Answer.FAIL: "FAIL",
    Answer.NO_VERDICT: "not known",
}


def verdict_lines(verdict: Verdict) -> list[str]:
    """Say the outcome, then each check with its reasons, then what explains them."""
    noted = {note for check in verdict.checks for note in check.notes}
    checked = {reason for check in verdict.checks for reason in check.reasons}
    return [
        f"{verdict.outcome}",
        *(f"  - {reason}" for reason in verdict.reasons if reason not in checked),
        *(line for check in verdict.checks for line in _check_lines(check)),
        *(f"  evidence: {line}" for line in verdict.evidence),
        *(f"  note: {note}" for note in verdict.notes if note not in noted),
    ]


def _check_lines(check: Check) -> Iterable[str]:
    yield f"  {check.name:<12}{_ANSWERS[check.answer]}"
    yield from (f"    - {reason}" for reason in check.reasons)
    yield from (f"    note: {note}" for note in check.notes)


def contract_lines(contract: Contract | Unknown | None, amendments: Amendments) -> list[str]:
    """Say what this node's network promises, a line each, as the operator's file names them."""
    if contract is None:
        return ["Nothing was learned yet: a contract is learned from the first sound verdict."]
    if isinstance(contract, Unknown):
        return [
            f"The contract cannot be read: {contract.why}.",
            "«trialboot contract --forget» sets it aside; the next sound verdict learns anew.",
        ]
    cni = contract.cni
    known = {subject_of(item) for item in items_of(contract)}
    added = [i for i in items_of(amended(contract, amendments)) if subject_of(i) not in known]
    images = (f"image: {agent} {image}" for agent, image in cni.images)
    return [
        f"learned {contract.learned_at} in boot {contract.boot}, kernel {contract.kernel}",
        f"CNI: {', '.join(cni.plugins) or 'no configuration seen'}",
        *images,
        *(f"{line}{_said(subject, amendments)}" for subject, line in lines_of(contract)),
        *(f"{line_of(item)}  (added)" for item in added),
    ]


def _said(subject: str, amendments: Amendments) -> str:
    """Tell what the operator's file says of one promise."""
    if is_line_named(subject, amendments.ignore):
        return "  (ignored)"
    return "  (pinned)" if is_line_named(subject, amendments.pin) else ""
