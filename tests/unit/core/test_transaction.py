"""A package transaction is said in one line, whatever is known of it."""

from dataclasses import replace
from typing import Any

import pytest

from trialboot.core.facts import Unknown
from trialboot.core.packagechange import PackageChange
from trialboot.core.transaction import State, Transaction, words


def change(name: str) -> PackageChange:
    return PackageChange(name=name, architecture="amd64", before="1", after="2")


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (
            {"command": "apt-get install linux-image-6.1", "user": "ann", "changes": 3},
            "apt (apt-get install linux-image-6.1, by ann): 3 packages changed, closed",
        ),
        ({"changes": 1}, "apt: 1 package changed, closed"),
        ({"user": "ann", "changes": 0}, "apt (by ann): 0 packages changed, closed"),
        (
            {"state": State.FAILED, "why": "postfix is unpacked", "changes": 2},
            "apt: 2 packages changed, failed: postfix is unpacked",
        ),
        ({"state": State.OPEN, "planned": ("a",)}, "apt: 1 package planned, open"),
        (
            {"changes": Unknown("no list")},
            "apt: what it changed is not known (no list), closed",
        ),
        ({"command": "x" * 130}, f"apt ({'x' * 120}…): 0 packages changed, closed"),
        ({"command": "a\nb\x1b[1m"}, "apt (a b [1m): 0 packages changed, closed"),
    ],
)
def test_a_transaction_is_said_in_one_line(given_: dict[str, Any], said: str) -> None:
    number = given_.get("changes")
    if isinstance(number, int):
        given_ = {**given_, "changes": tuple(change(str(n)) for n in range(number))}
    base = Transaction(key="k", manager="apt", boot="boot", opened_at=1, state=State.CLOSED)
    assert words(replace(base, **given_)) == said
