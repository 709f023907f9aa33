"""The operator's own checks: exit codes in, one check of the verdict out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.core.operatorchecks import (
    Level,
    OperatorCheck,
    judged,
    not_run,
    operator_check,
    shown,
)
from trialboot.core.verdict import Answer, Check

REQUIRED, WANTED = Level.REQUIRED, Level.WANTED


def ended(
    code: int | None, output: bytes = b"", name: str = "required.d/10-a", level: Level = REQUIRED
) -> OperatorCheck:
    return judged(name, level, code=code, output=output, seconds=30.04)


@pytest.mark.parametrize(
    ("code", "output", "answer", "why"),
    [
        (0, b"all well\n", Answer.PASS, ""),
        (2, b"first\nno route\n\n", Answer.FAIL, "said «no route» (exit 2)"),
        (2, b"", Answer.FAIL, "said nothing (exit 2)"),
        (2, b" \n\t\n", Answer.FAIL, "said nothing (exit 2)"),
        (1, b"slow\n", Answer.NO_VERDICT, "said «slow» (exit 1)"),
        (3, b"?", Answer.NO_VERDICT, "said «?» (exit 3)"),
        (4, b"", Answer.NO_VERDICT, "said nothing (exit 4)"),
        (127, b"x: not found", Answer.NO_VERDICT, "said «x: not found» (exit 127)"),
        (-9, b"", Answer.NO_VERDICT, "said nothing (ended by signal 9)"),
        (None, b"a\rb\r", Answer.NO_VERDICT, "said «b» (no end within 30 s)"),
        (2, b"\x1b[31mred\xff\0", Answer.FAIL, "said «?[31mred\\xff?» (exit 2)"),
        (2, b"y" * 999, Answer.FAIL, f"said «{'y' * 200}...» (exit 2)"),
    ],
)
def test_only_two_fails_and_only_zero_passes(
    code: int | None, output: bytes, answer: Answer, why: str
) -> None:
    check = ended(code, output)
    assert (check.answer, check.why) == (answer, why)


def said(results: tuple[OperatorCheck, ...]) -> tuple[Answer, tuple[str, ...], tuple[str, ...]]:
    check = operator_check(results)
    assert (check.name, check.proof) == ("operator", False)
    return check.answer, check.reasons, check.notes


PASSES = ended(0, b"ok")
FAILS = ended(2, b"away", "required.d/20-b")
UNCLEAR = ended(1, b"slow", "required.d/30-c")
REFUSED = not_run("required.d/40-d", REQUIRED, "it is not executable")
WANTED_FAILS = ended(2, b"poor", "wanted.d/10-e", WANTED)
WANTED_UNCLEAR = ended(None, b"", "wanted.d/20-f", WANTED)


@pytest.mark.parametrize(
    ("results", "answer", "reasons", "notes"),
    [
        ((), Answer.PASS, (), ()),
        ((PASSES,), Answer.PASS, (), ()),
        ((PASSES, FAILS), Answer.FAIL, ("required.d/20-b said «away» (exit 2)",), ()),
        ((UNCLEAR,), Answer.NO_VERDICT, ("required.d/30-c said «slow» (exit 1)",), ()),
        (
            (REFUSED,),
            Answer.NO_VERDICT,
            ("required.d/40-d was not run: it is not executable",),
            (),
        ),
        (
            (UNCLEAR, FAILS),
            Answer.FAIL,
            ("required.d/20-b said «away» (exit 2)",),
            ("required.d/30-c said «slow» (exit 1)",),
        ),
        (
            (PASSES, WANTED_FAILS, WANTED_UNCLEAR),
            Answer.PASS,
            (),
            (
                "wanted.d/10-e said «poor» (exit 2)",
                "wanted.d/20-f said nothing (no end within 30 s)",
            ),
        ),
        ((WANTED_FAILS,), Answer.PASS, (), ("wanted.d/10-e said «poor» (exit 2)",)),
        (
            (FAILS, WANTED_FAILS),
            Answer.FAIL,
            ("required.d/20-b said «away» (exit 2)",),
            ("wanted.d/10-e said «poor» (exit 2)",),
        ),
    ],
)
def test_required_checks_judge_and_wanted_ones_are_noted(
    results: tuple[OperatorCheck, ...],
    answer: Answer,
    reasons: tuple[str, ...],
    notes: tuple[str, ...],
) -> None:
    assert said(results) == (answer, reasons, notes)


def test_a_host_without_checks_of_its_own_passes() -> None:
    assert operator_check(None) == Check(name="operator", answer=Answer.PASS)


def test_checks_that_have_no_result_are_no_verdict() -> None:
    check = operator_check(Unknown("the unit was killed"))
    assert check.answer is Answer.NO_VERDICT
    assert check.reasons == ("the checks of your own have no result: the unit was killed",)


def test_reasons_do_not_grow_without_end() -> None:
    results = tuple(ended(2, b"", f"required.d/{number}") for number in range(64))
    reasons = operator_check(results).reasons
    assert len(reasons) == 13
    assert reasons[-1] == "... and 52 more of the checks of your own"


@given(st.binary(), st.one_of(st.none(), st.integers(-64, 255)))
def test_whatever_a_check_writes_makes_one_line_that_can_be_printed(
    output: bytes, code: int | None
) -> None:
    check = ended(code, output)
    assert check.why.isprintable()
    assert all(line.isprintable() for line in check.output.split("\n"))
    assert (check.answer is Answer.PASS) == (code == 0)
    assert (check.answer is Answer.FAIL) == (code == 2)


@given(st.text(st.characters(categories=("L", "N", "P"))))
def test_what_can_be_printed_is_shown_as_it_is(text: str) -> None:
    assert shown(text.encode()) == text
