"""Notes of the package manager's hooks: read once, in order, then gone."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.host import Host
from trialboot.readers.spool import FOLDER, Note, parse_note, take_notes

WHOLE = "event=begin\nboot=abc\npkg=linux-image 1 < 2\npkg=firmware - < 1\nend\n"


def left(root: Path, **notes: str) -> Host:
    folder = root / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    for name, text in notes.items():
        (folder / f"{name}.ev").write_text(text, encoding="utf-8")
    return Host(root=root)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER.lstrip("/")).iterdir())


def test_a_note_is_read_with_all_its_steps() -> None:
    assert parse_note(WHOLE) == Note(
        event="begin",
        boot="abc",
        packages=("linux-image 1 < 2", "firmware - < 1"),
        whole=True,
    )


@pytest.mark.parametrize(
    "text", ["", "\n", "event=begin\n", "event=begin\nboot=a\npkg=linux-im", "end\nevent=begin\n"]
)
def test_a_note_without_its_end_is_torn(text: str) -> None:
    assert not parse_note(text).whole


def test_unknown_keys_are_left_out() -> None:
    assert parse_note("event=end\nmood=good\nboot=b\nend\n") == Note(
        event="end", boot="b", packages=(), whole=True
    )


@given(st.text())
def test_any_text_is_a_note(text: str) -> None:
    assert isinstance(parse_note(text), Note)


def test_notes_are_taken_in_their_order_and_only_once(tmp_path: Path) -> None:
    host = left(tmp_path, b="event=end\nend\n", a="event=begin\nend\n", c="event=dpkg-end\n")
    assert [note.event for note in take_notes(host)] == ["begin", "end", "dpkg-end"]
    assert take_notes(host) == ()
    assert names(tmp_path) == []


def test_drafts_and_other_files_are_left_alone(tmp_path: Path) -> None:
    host = left(tmp_path)
    (tmp_path / FOLDER.lstrip("/") / ".draft").write_text("event=begin")
    (tmp_path / FOLDER.lstrip("/") / "README").write_text("not a note")
    assert take_notes(host) == ()
    assert names(tmp_path) == [".draft", "README"]


def test_a_note_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    host = left(tmp_path, b="event=end\nend\n")
    (tmp_path / FOLDER.lstrip("/") / "a.ev").mkdir()
    assert [note.event for note in take_notes(host)] == ["end"]
    assert names(tmp_path) == ["a.ev"]


def test_bytes_that_are_no_text_are_still_a_note(tmp_path: Path) -> None:
    host = left(tmp_path)
    place = tmp_path / FOLDER.lstrip("/") / "a.ev"
    place.write_bytes(b"event=end\npkg=" + os.urandom(3).replace(b"\n", b"x") + b"\xff\nend\n")
    assert [note.event for note in take_notes(host)] == ["end"]


def test_without_a_spool_there_are_no_notes(tmp_path: Path) -> None:
    assert take_notes(Host(root=tmp_path)) == ()
