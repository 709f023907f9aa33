"""GRUB's saved default is taken over and given back; what would replace it at a boot is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import EntryId
from trialboot.core.menu import ADMIN_SAVED, KNOWN_GOOD
from trialboot.core.savedentry import PREVIOUS, with_default, without_ours

THEIRS = {"theirs": "a"}
ADMIN_OURS = (ADMIN_SAVED, KNOWN_GOOD)
"""We never write it: what is remembered is what was there before ours."""
VALUES = st.dictionaries(
    st.sampled_from(["saved_entry", PREVIOUS, ADMIN_SAVED, "next_entry", "theirs"]),
    st.sampled_from(["", "a", "b", KNOWN_GOOD]),
)


@pytest.mark.parametrize(
    ("before", "admin"),
    [
        ({}, {ADMIN_SAVED: ""}),
        ({"saved_entry": "a"}, {ADMIN_SAVED: "a"}),
        ({"saved_entry": KNOWN_GOOD}, {}),
        ({"saved_entry": KNOWN_GOOD, ADMIN_SAVED: "a"}, {ADMIN_SAVED: "a"}),
        ({"saved_entry": "a", PREVIOUS: "b"}, {ADMIN_SAVED: "b"}),
        ({"saved_entry": "a", PREVIOUS: ""}, {ADMIN_SAVED: "a"}),
        ({"saved_entry": KNOWN_GOOD, PREVIOUS: "b", ADMIN_SAVED: "a"}, {ADMIN_SAVED: "b"}),
        ({"saved_entry": "a", PREVIOUS: KNOWN_GOOD, ADMIN_SAVED: "b"}, {ADMIN_SAVED: "b"}),
    ],
)
def test_the_known_good_is_the_default_and_nothing_replaces_it_at_the_next_boot(
    before: dict[str, str], admin: dict[str, str]
) -> None:
    assert with_default({**THEIRS, **before}, KNOWN_GOOD) == {
        **THEIRS,
        **admin,
        "saved_entry": KNOWN_GOOD,
    }


def test_another_default_forgets_nothing_of_the_hosts() -> None:
    before = {"saved_entry": KNOWN_GOOD, ADMIN_SAVED: "a", PREVIOUS: "b"}
    assert with_default(before, EntryId("c")) == {"saved_entry": "c", ADMIN_SAVED: "a"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"saved_entry": KNOWN_GOOD, ADMIN_SAVED: "a", "next_entry": "b"},
            {"saved_entry": "a", "next_entry": "b"},
        ),
        (
            {"saved_entry": KNOWN_GOOD, ADMIN_SAVED: "a", "next_entry": KNOWN_GOOD},
            {"saved_entry": "a"},
        ),
        ({"saved_entry": "c", "next_entry": KNOWN_GOOD}, {"saved_entry": "c"}),
        ({"saved_entry": KNOWN_GOOD, ADMIN_SAVED: ""}, {}),
        ({"saved_entry": KNOWN_GOOD}, {}),
        ({"saved_entry": "c", ADMIN_SAVED: "a"}, {"saved_entry": "c"}),
        ({"saved_entry": "c", "next_entry": "b"}, {"saved_entry": "c", "next_entry": "b"}),
        (
            {"saved_entry": "c", PREVIOUS: KNOWN_GOOD, ADMIN_SAVED: "a"},
            {"saved_entry": "c", PREVIOUS: "a"},
        ),
        ({"saved_entry": "c", PREVIOUS: KNOWN_GOOD}, {"saved_entry": "c"}),
    ],
)
def test_the_host_gets_its_own_back(before: dict[str, str], after: dict[str, str]) -> None:
    assert without_ours({**THEIRS, **before}) == {**THEIRS, **after}


@given(VALUES)
def test_after_us_nothing_leads_to_an_entry_that_is_gone(values: dict[str, str]) -> None:
    values = {name: value for name, value in values.items() if (name, value) != ADMIN_OURS}
    left = without_ours(with_default(values, KNOWN_GOOD))
    followed = ("saved_entry", PREVIOUS, "next_entry")
    assert KNOWN_GOOD not in {left.get(name) for name in followed}
    assert ADMIN_SAVED not in left


@given(VALUES)
def test_a_one_shot_of_somebody_elses_is_none_of_ours(values: dict[str, str]) -> None:
    once = {name: value for name, value in values.items() if name == "next_entry"}
    left = without_ours(with_default(values, KNOWN_GOOD))
    kept = {} if KNOWN_GOOD in once.values() else once
    assert {name: value for name, value in left.items() if name == "next_entry"} == kept
