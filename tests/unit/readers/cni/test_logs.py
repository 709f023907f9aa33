"""Lines that tell of a refusal, and of a broken verifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.readers.cni.nodes import BEGAN, NOW
from trialboot.core.cni import REFUSAL
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers.cni.boot import ThisBoot
from trialboot.readers.cni.logs import parse_refusals, read_splats

BOOT = ThisBoot(began=BEGAN, now=NOW.timestamp())
"""2024-05-01, 09:50 to 10:00 UTC."""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2024-05-01T09:55:00.123456789Z stderr F failed to probe", "failed to probe"),
        ("2024-05-01T11:55:00.1+02:00 stdout P failed to probe", "failed to probe"),
        ("2024-05-01T09:40:00Z stderr F failed to probe", None),
        ("2024-05-01T09:55:00-02:00 stderr F failed to probe", "failed to probe"),
        ("2024-05-01T10:55:00+02:00 stderr F failed to probe", None),
        ("2024-99-01T10:55:00Z stderr F failed to probe", "failed to probe"),
        ('{"log":"failed to probe\\n","time":"2024-05-01T09:55:00Z"}', "failed to probe"),
        ('{"log":"failed to probe","time":"2024-05-01T09:40:00Z"}', None),
        ('{"log":["failed to probe"]}', '{"log":["failed to probe"]}'),
        ("failed to probe", "failed to probe"),
        ("2024-05-01T09:55:00Z stderr F all is well", None),
    ],
)
def test_a_line_is_told_without_the_runtimes_marks_if_it_is_of_this_boot(
    line: str, told: str | None
) -> None:
    assert parse_refusals(line, BOOT) == ([told] if told else [])


def test_the_newest_comes_first() -> None:
    assert parse_refusals("failed to probe 1\nx\nfailed to probe 2\n", BOOT) == [
        "failed to probe 2",
        "failed to probe 1",
    ]


@given(st.lists(st.text(max_size=40) | st.sampled_from(["failed to probe", "\x1b[2J", "{"])))
def test_any_text_gives_lines_that_can_be_shown(parts: list[str]) -> None:
    for line in parse_refusals("".join(parts), BOOT):
        assert line.isprintable()
        assert len(line) <= 300


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_what_a_runtime_marks_is_found_again(text: str) -> None:
    words = f"{text} bpf_set_retval"
    assert REFUSAL.search(words)
    assert parse_refusals(f"2024-05-01T09:55:00.1Z stderr F {words}", BOOT) == [words]


class Journal:
    """A door behind which journalctl answers."""

    def __init__(self, answer: str | HostError) -> None:
        self.answer = answer
        self.asked: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], **_: Any) -> str:
        self.asked.append(argv)
        if isinstance(self.answer, HostError):
            raise self.answer
        return self.answer

    def host(self, root: Path) -> Host:
        return Host(root=root, run=self.run)


def test_the_newest_lines_of_a_broken_verifier_are_told_once(tmp_path: Path) -> None:
    warning = "WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:2731 reg_bounds_sanity_check+0x1"
    lines = ["a", warning, "verifier bug: REG INVARIANTS VIOLATION (true_reg1)", warning, "b"]
    journal = Journal("\n".join(lines))
    assert read_splats(journal.host(tmp_path)) == (warning, lines[2])
    assert len(journal.asked) == 1
    assert {"--dmesg", "--boot"} <= set(journal.asked[0])


def test_a_journal_that_cannot_be_read_is_no_evidence(tmp_path: Path) -> None:
    assert read_splats(Journal(HostError("no journal")).host(tmp_path)) == ()
