"""The operator's file is read strictly, and each error says what to write instead."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.amendments import PATH, parse_amendments, read_amendments
from trialboot.core.contract import Amendments
from trialboot.errors import ConfigError
from trialboot.host import Host


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_amendments(Host(root=tmp_path)) == Amendments()


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text('pin = ["role: *"]\nignore = ["link: usb*"]\nadd = ["link: wg0"]\n')
    assert read_amendments(Host(root=tmp_path)) == Amendments(
        pin=("role: *",), ignore=("link: usb*",), add=("link: wg0",)
    )


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / PATH.lstrip("/")).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"contract\.toml"):
        read_amendments(Host(root=tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pin = [", "contract.toml: "),
        ('pins = ["x"]', "unknown key: pins; known here: add, ignore, pin"),
        ('pin = "role: *"', "pin must be a list of lines in quotes"),
        ("ignore = [1]", "ignore must be a list of lines in quotes"),
        ('add = ["pods: lxc*"]', "«pods: lxc*» is none of: role: PLACE"),
        ('add = ["route: 10.0.0.0/8"]', "«route: 10.0.0.0/8» is none of: "),
    ],
)
def test_a_mistake_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_amendments(text)
    assert words in str(told.value)


@given(st.text())
def test_any_text_is_amendments_or_one_kind_of_error(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(parse_amendments(text), Amendments)
