"""The operator's own checks: what the end of one means, and what all of them together say.

The folders are greenboot's, the exit codes those of monitoring plugins (Nagios).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.language import Word
from trialboot.core.verdict import MOST_REASONS, Answer, Check

_NAME: Final = "operator"
_ANSWERS: Final = {0: Answer.PASS, 2: Answer.FAIL}
_LONGEST_LINE: Final = 200


class Level(Word):
    """How much a check counts: the name of its folder, without `.d`."""

    REQUIRED = "required"
    WANTED = "wanted"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCheck:
    """One check that was to be run, and what came of it."""

    name: str
    """Its folder and file, such as `required.d/10-gateway`, fit to be printed."""
    level: Level
    answer: Answer
    why: str = ""
    """What stands behind the answer; empty where it passed."""
    output: str = ""
    """The end of what it wrote, fit to be printed."""
    seconds: float = 0.0


def judged(
    name: str, level: Level, *, code: int | None, output: bytes, seconds: float
) -> OperatorCheck:
    """Tell what the end of a check means; `code` is None for one whose time was over.

    Only 2 (CRITICAL) fails. With 1 (WARNING) a plugin says that a thing works and has come near a
    limit, and a shell or Python says that the script itself is broken: no reason to send a node
    back, and none to trust it. All else is trouble of the check's own.
    """
    answer = Answer.NO_VERDICT if code is None else _ANSWERS.get(code, Answer.NO_VERDICT)
    text = shown(output)
    why = "" if answer is Answer.PASS else f"said {_last_line(text)} ({_end(code, seconds)})"
    return OperatorCheck(
        name=name, level=level, answer=answer, why=why, output=text, seconds=seconds
    )


def not_run(name: str, level: Level, why: str) -> OperatorCheck:
    """Tell of a check that could not be run: nothing is known."""
    return OperatorCheck(
        name=name, level=level, answer=Answer.NO_VERDICT, why=f"was not run: {why}"
    )


def shown(raw: bytes) -> str:
    """Turn what somebody else wrote into lines that can be printed and kept."""
    text = raw.decode("utf-8", "backslashreplace").replace("\r", "\n").expandtabs(1)
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def operator_check(results: tuple[OperatorCheck, ...] | Unknown | None) -> Check:
    """Judge a boot by the required checks; what the wanted ones say are notes.

    A failure is no proof: it counts at the deadline, if it lasts. None is a host without checks of
    its own.
    """
    if isinstance(results, Unknown):
        why = f"the checks of your own have no result: {results.why}"
        return Check(name=_NAME, answer=Answer.NO_VERDICT, reasons=(why,))
    results = results or ()
    required = [check for check in results if check.level is Level.REQUIRED]
    answer = _worst(check.answer for check in required)
    is_reason = {check for check in required if check.answer is answer}
    return Check(
        name=_NAME,
        answer=answer,
        reasons=_sentences(check for check in results if check in is_reason),
        notes=_sentences(check for check in results if check not in is_reason),
    )


def _worst(answers: Iterable[Answer]) -> Answer:
    found = frozenset(answers)
    ordered = (Answer.FAIL, Answer.NO_VERDICT)
    return next((answer for answer in ordered if answer in found), Answer.PASS)


def _sentences(checks: Iterable[OperatorCheck]) -> tuple[str, ...]:
    told = tuple(f"{check.name} {check.why}" for check in checks if check.why)
    if len(told) <= MOST_REASONS:
        return told
    left = len(told) - MOST_REASONS
    return (*told[:MOST_REASONS], f"... and {left} more of the checks of your own")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "nothing"
    last = lines[-1]
    cut = last if len(last) <= _LONGEST_LINE else f"{last[:_LONGEST_LINE]}..."
    return f"«{cut}»"


def _end(code: int | None, seconds: float) -> str:
    if code is None:
        return f"no end within {seconds:.0f} s"
    return f"ended by signal {-code}" if code < 0 else f"exit {code}"
