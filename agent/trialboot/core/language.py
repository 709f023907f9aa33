"""What Python 3.10 lacks: an enum that prints as its value, and `assert_never`."""

from enum import Enum
from typing import NoReturn


class Word(str, Enum):
    """An enum written as its value: in text, in JSON, in the journal."""

    __str__ = str.__str__


def assert_never(value: NoReturn) -> NoReturn:
    """Type-check that no case was forgotten."""
    raise AssertionError(f"no case for {value!r}")
