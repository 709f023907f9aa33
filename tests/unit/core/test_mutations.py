"""A mutation of any rule of comparison must be noticed by the tables of this folder.

Each function of the law is changed in one place at a time (`mutants.py`), and the tables are asked
again until one of their rows is no longer told as it should be. A mutant that lives is a missing
row. By default every tenth is tried; TRIALBOOT_MUTATIONS=all tries each one (`make test-long`).
"""

import inspect
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from tests.unit.core import (
    test_amendments,
    test_false_alarms,
    test_incidents,
    test_running,
    test_verdict,
)
from tests.unit.core.mutants import Mutant, mutants_of
from tests.unit.core.samples import NETDEV, NETWORK, contract, without
from tests.unit.core.stories import Story, expected, told
from trialboot.core import (
    checks,
    comparison,
    datapath,
    picture,
    podrules,
    running,
    sysctls,
    verdict,
)
from trialboot.core import contract as contracts
from trialboot.core.comparison import Terms
from trialboot.core.verdict import Answer

LAW = (
    checks, comparison, contracts, datapath, picture, podrules, running, sysctls, verdict
)  # fmt: skip
STRIDE = 1 if os.environ.get("TRIALBOOT_MUTATIONS") == "all" else 10
LEAST = 1300
"""Fewer mutants than that are no proof: the law has not become so short."""

Row = Callable[[], None]

EQUIVALENT: dict[str, str] = {
    "datapath.roles: ', ' -> ''": "the state is compared with itself and not shown",
    "datapath._uncovered: 0 -> -1": "a class of which there is none is bare with neither",
    "contract.cni_promise: 60 -> 61": "seconds are told in whole minutes",
    "contract.cni_promise: 60 -> 59": "as above",
    "datapath._routing: '' -> 'mutant'": "nobody asks for the program of a route",
    "picture._pod_rules: return rules -> return ()": "where rules cannot be read, their check "
    "ends before it asks which pods they name",
}


def _same(story: Story) -> None:
    assert told(story) == expected(story)


def _no_terms() -> None:
    """Ask without terms, as where it is not known which CNI runs: nothing is excused then."""
    for terms in (None, Terms(on_trial=False)):
        found = checks.network_checks(contract(), without(NETWORK, NETDEV), terms)
        assert [c.name for c in found if c.answer is Answer.FAIL] == ["roles"]


def rows() -> Iterator[tuple[str, Row]]:
    """Give every row of every table: it fails by raising anything."""
    stories = {
        **test_false_alarms.HARMLESS,
        **test_false_alarms.WORSE_STILL,
        **test_false_alarms.OPEN,
        **test_incidents.STORIES,
    }
    yield from ((name, partial(_same, story)) for name, story in stories.items())
    yield "no terms", _no_terms
    first = test_running.test_the_agent_of_a_known_cni_is_waited_for_where_nothing_was_learned
    yield from ((f"first agents: {name}", partial(first, name)) for name in test_running.FIRST)
    yield "broken all along", test_verdict.test_the_same_thing_must_have_been_broken_all_along
    yield "a note for what did not come", test_verdict.test_what_did_not_come_is_told_as_a_note
    yield from _rows_of_contracts()
    for name, (story, outcome) in test_verdict.STORIES.items():
        yield name, partial(test_verdict.test_patience_ends_as_told, story, outcome)
    yield "proof that passes", test_verdict.test_a_passing_check_marked_as_proof_proves_nothing
    for name, (units, refusals, found) in test_running.UNITS.items():
        yield name, partial(test_running.test_services_are_judged, units, refusals, found)
    yield "ill", test_running.test_every_state_of_a_service_is_well_or_ill


def _rows_of_contracts() -> Iterator[tuple[str, Row]]:
    t = test_amendments
    tables: tuple[tuple[Callable[..., None], Iterable[Any]], ...] = (
        (t.test_a_healthy_node_promises_these_lines, t.LEARNED),
        (t.test_a_blind_spot_is_no_model, t.UNLEARNED),
        (t.test_a_cni_is_a_model_once_it_has_run_for_a_while, t.PROMISED),
        (t.test_a_line_to_add_is_understood, t.PARSED),
        (t.test_what_is_no_promise_is_refused_with_what_may_be, t.REFUSED),
        (t.test_the_operators_file_changes_these_lines, t.AMENDED),
        (t.test_a_setting_follows_its_interface, t.RENAMED),
        (t.test_lines_are_named_without_their_amounts, [()]),
        (t.test_several_values_and_origins_stand_in_one_line, [()]),
        (t.test_how_roles_are_attached_is_kept_beside_them, [()]),
        (t.test_what_a_picture_could_not_show_has_no_line, [()]),
        (t.test_a_contract_without_a_cni_promises_no_agent, [()]),
        (t.test_which_cni_runs_shows_also_while_it_starts, [()]),
    )
    for test, table in tables:
        for given in table:
            arguments = (given,) if isinstance(given, str) else given
            yield f"{test.__name__} {given}", partial(test, *arguments)


class Court:
    """All rows: first those that found out mutants of the same place, then the last of any."""

    def __init__(self) -> None:
        self.rows = OrderedDict(rows())
        self.found_out: dict[str, dict[str, None]] = {}

    def who_notices(self, mutant: Mutant) -> str | None:
        known = self.found_out.setdefault(mutant.place, {})
        with mutant.alive():
            for name in dict.fromkeys((*known, *self.rows)):
                if not _holds(self.rows[name]):
                    self.found_out[mutant.place] = {name: None, **known}
                    self.rows.move_to_end(name, last=False)
                    return name
        return None


def _holds(row: Row) -> bool:
    try:
        row()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  a mutant may break in any way
        return False
    return True


def _all_mutants(law: tuple[ModuleType, ...] = LAW) -> list[Mutant]:
    return [mutant for module in law for mutant in mutants_of(module)]


def test_every_mutant_of_the_law_is_noticed() -> None:
    court, mutants = Court(), _all_mutants()
    assert len(mutants) >= LEAST
    tried = [m for m in mutants[::STRIDE] if m.name not in EQUIVALENT]
    alive = [mutant.name for mutant in tried if court.who_notices(mutant) is None]
    print(f"{len(tried)} of {len(mutants)} mutants tried, {len(alive)} live")
    assert not alive, "no row notices:\n" + "\n".join(alive)


def test_what_is_called_equivalent_is_a_mutant_and_lives() -> None:
    court, named = Court(), {mutant.name: mutant for mutant in _all_mutants()}
    assert named.keys() >= EQUIVALENT.keys()
    noticed = [name for name in EQUIVALENT if court.who_notices(named[name]) is not None]
    assert not noticed


def _law_of(module: ModuleType) -> dict[str, object]:
    """Give all that a mutant may change: constants by value, functions by their code."""
    found: dict[str, object] = {}
    for name, value in vars(module).items():
        members = vars(value) if isinstance(value, type) else {"": value}
        for part, member in members.items():
            plain = inspect.unwrap(getattr(member, "fget", None) or member)
            found[f"{name}.{part}"] = getattr(plain, "__code__", plain)
    return found


@pytest.mark.parametrize("module", LAW, ids=lambda m: m.__name__.rpartition(".")[2])
def test_the_law_is_right_again_after_its_mutants(module: ModuleType) -> None:
    before = _law_of(module)
    for mutant in _all_mutants((module,))[::50]:
        with mutant.alive():
            pass
    assert _law_of(module) == before
    _no_terms()
