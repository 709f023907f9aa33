"""What goes to disk comes back the same, or is refused with the place of the culprit."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.samples import NETWORK, boot_set, contract
from trialboot.core.actions import Action, BootOnce, ForgetOnce, Reboot, Unpin
from trialboot.core.contract import Contract
from trialboot.core.facts import BootId, EntryId, Network, Unit, Unknown
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.record import parse, plain
from trialboot.core.trial import Choice, Decision, Phase, Trial
from trialboot.core.verdict import Outcome, Patience


def through_json(value: object) -> Any:
    return json.loads(json.dumps(plain(value)))


def refused(kind: type, value: object) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        parse(kind, value)
    return str(error.value)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.from_type(Decision))
def test_every_decision_survives_the_disk(decision: Decision) -> None:
    assert parse(Decision, through_json(decision)) == decision


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@pytest.mark.parametrize("kind", [Contract, Judgement, Outlook, Network])
@given(st.data())
def test_every_other_record_survives_the_disk(kind: type, data: st.DataObject) -> None:
    value: object = data.draw(st.from_type(kind))
    assert parse(kind, through_json(value)) == value


def test_a_learned_contract_survives_the_disk() -> None:
    assert parse(Contract, through_json(contract())) == contract()
    assert parse(Network, through_json(NETWORK)) == NETWORK


def test_a_decision_on_disk_looks_as_documented() -> None:
    decision = Decision(trial=Trial(), todo=(BootOnce(EntryId("a>b")), Reboot("why", BootId("1"))))
    record = plain(decision)
    assert record["is"] == "Decision"
    assert record["trial"]["phase"] == "steady"
    assert record["trial"]["known_good"] is None
    assert record["todo"] == [
        {"is": "BootOnce", "entry": "a>b"},
        {"is": "Reboot", "why": "why", "leaving": "1"},
    ]


def test_a_frozenset_is_written_as_a_list() -> None:
    assert plain(frozenset({Phase.ARMED})) == ["armed"]


def test_what_json_has_already_stays_as_it_is() -> None:
    assert plain((1, None, {"a": [True]})) == [1, None, {"a": [True]}]


def test_a_key_that_may_be_absent_gets_its_default() -> None:
    assert parse(Decision, {"trial": {}}) == Decision(trial=Trial())


def test_a_whole_number_may_stand_for_a_float() -> None:
    patience = parse(Patience, {"settle": 5})
    assert patience == Patience(settle=5.0)
    assert type(patience.settle) is float


def test_a_switch_is_not_a_number() -> None:
    unit = {"name": "kubelet.service", "state": "active", "restarts": True}
    assert refused(Unit, unit) == "record.restarts: int expected, found bool"


@dataclass(frozen=True)
class Pair:
    both: tuple[str, int]


def test_items_of_a_pair_are_counted_and_checked_one_by_one() -> None:
    assert parse(Pair, {"both": ["a", 1]}) == Pair(both=("a", 1))
    assert refused(Pair, {"both": ["a"]}) == "record.both: 2 items expected, found 1"
    assert refused(Pair, {"both": ["a", "b"]}) == "record.both[1]: int expected, found str"
    assert refused(Pair, {"both": "ab"}) == "record.both: list expected, found str"


@dataclass(frozen=True)
class Series:
    pairs: tuple[tuple[str, str], ...] = ()
    numbers: tuple[float, ...] = ()


def test_the_wrong_item_of_a_series_is_named() -> None:
    right = Series(pairs=(("a", "b"), ("c", "d")), numbers=(0.5, 1.0))
    assert parse(Series, {"pairs": [["a", "b"], ["c", "d"]], "numbers": [0.5, 1]}) == right
    assert refused(Series, {"numbers": [0.5, 1, True, 2]}).startswith("record.numbers[2]: ")
    assert refused(Series, {"pairs": [["a", "b"], ["c", 1]]}).startswith("record.pairs[1][1]: ")


CHOICE = through_json(Choice(entry=EntryId("a"), boot_set=boot_set()))
BROKEN: dict[str, tuple[object, str]] = {
    "an unknown key": (
        {"trial": {}, "zeal": 1, "haste": 2},
        "record: unknown key: haste, zeal",
    ),
    "an unknown key below": (
        {"trial": {"fase": "armed"}},
        "record.trial: unknown key: fase",
    ),
    "a missing key": ({}, "record: missing key: trial"),
    "a list for an object": ([], "record: object expected, found list"),
    "nothing": (None, "record: object expected, found NoneType"),
    "an object for a list": (
        {"trial": {}, "todo": {}},
        "record.todo: list expected, found dict",
    ),
    "a number for a word": (
        {"trial": {"boot": 7}},
        "record.trial.boot: str expected, found int",
    ),
    "a number for a switch": (
        {"trial": {"pinned": 1}},
        "record.trial.pinned: bool expected, found int",
    ),
    "an action that we do not know": (
        {"trial": {}, "todo": [{"is": "Unpin"}, {"is": "Explode"}]},
        "record.todo[1]: fits none of ",
    ),
    "an action without a name": ({"trial": {}, "todo": [{}]}, "record.todo[0]: fits none of "),
    "a switch for a candidate": (
        {"trial": {"candidate": True}},
        "record.trial.candidate: fits none of ",
    ),
    "half a candidate": (
        {"trial": {"candidate": {"is": "Choice", "entry": "a"}}},
        "record.trial.candidate: missing key: boot_set",
    ),
    "a wrong word deep below": (
        {"trial": {"candidate": {**CHOICE, "entry": 5}}},
        "record.trial.candidate.entry: str expected, found int",
    ),
    "a phase that we do not know": ({"trial": {"phase": "happy"}}, "record.trial.phase: "),
    "a phase that is no word": ({"trial": {"phase": ["armed"]}}, "record.trial.phase: "),
}


@pytest.mark.parametrize(("value", "told"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_named_with_its_place(value: object, told: str) -> None:
    assert refused(Decision, value).startswith(told)


def test_an_object_that_says_it_is_something_else_is_refused() -> None:
    assert "Unpin" in refused(ForgetOnce, plain(Unpin()))


def test_the_reader_may_name_the_file() -> None:
    with pytest.raises(ValueError, match=r"^trial\.json: missing key: trial$"):
        parse(Decision, {}, "trial.json")


def test_unknown_is_read_back_as_unknown_and_never_as_empty() -> None:
    blind = Network(
        links=Unknown("EPERM"), addresses=(), routes=(), rules=(), attachments=Unknown("")
    )
    back = parse(Network, through_json(blind))
    assert back.links == Unknown("EPERM")
    assert back.attachments == Unknown("")
    assert back.addresses == ()


@given(st.from_type(Decision), st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_file_cut_short_is_a_value_error(decision: Decision, part: float) -> None:
    text = json.dumps(plain(decision))
    with pytest.raises(ValueError, match=r"."):
        parse(Decision, json.loads(text[: int(len(text) * part)]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["is", "trial", "todo", "phase", "candidate", "entry"]), inner
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_json_breaks_the_reader_other_than_by_a_value_error(value: object) -> None:
    try:
        decision = parse(Decision, value)
    except ValueError as error:
        assert str(error)  # noqa: PT017  any JSON may also be right
    else:
        assert parse(Decision, through_json(decision)) == decision


@pytest.mark.parametrize("outcome", Outcome)
def test_a_word_is_written_as_its_value(outcome: Outcome) -> None:
    assert parse(Outcome, through_json(outcome)) is outcome


def test_every_action_has_a_name_of_its_own() -> None:
    names = [kind.__name__ for kind in Action.__args__]
    assert len(names) == len(set(names))
