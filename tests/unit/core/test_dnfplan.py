"""The plan of a transaction as dnf5 tells it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.dnfplan import parse_reply

# As dnf5 5.4.6 gave it.
REPLY = (
    '{ "op": "reply", "requested_op": "get", "domain": "trans_packages", "return": '
    '{ "trans_packages": [ { "direction": "OUT", "action": "O", "full_nevra": '
    '"toy-a-0:1.0-1.noarch" }, { "direction": "IN", "action": "U", "full_nevra": '
    '"kernel-core-7:6.12.0-55.el10.x86_64" } ] }, "status": "OK" }'
)
REFUSED = (
    '{"op":"reply","requested_op":"get","domain":"trans_packages","status":"ERROR",'
    '"message":"Domain \\"trans_packages\\" used outside the hooks"}'
)


def reply(*packages: object) -> str:
    return json.dumps({"return": {"trans_packages": list(packages)}})


def test_each_package_is_a_step_of_the_plan() -> None:
    assert parse_reply(REPLY) == (
        "replaced toy-a 0:1.0-1.noarch",
        "upgrade kernel-core 7:6.12.0-55.el10.x86_64",
    )


@pytest.mark.parametrize(
    ("letter", "word"),
    [
        *(("I", "install"), ("U", "upgrade"), ("D", "downgrade"), ("R", "reinstall")),
        *(("E", "remove"), ("O", "replaced"), ("C", "reason-change"), ("Z", "z")),
    ],
)
def test_letters_are_words_as_the_plugin_of_dnf4_has_them(letter: str, word: str) -> None:
    assert parse_reply(reply({"action": letter, "full_nevra": "a-0:1-1.noarch"})) == (
        f"{word} a 0:1-1.noarch",
    )


@pytest.mark.parametrize(
    "package",
    [
        *(7, None, [], {}, {"action": "I"}, {"full_nevra": "a-0:1-1.noarch"}),
        *({"action": 1, "full_nevra": "a-0:1-1.x"}, {"action": "I", "full_nevra": ["a"]}),
        *({"action": "I", "full_nevra": ""}, {"action": "I", "full_nevra": "one-dash"}),
    ],
)
def test_a_package_that_is_none_is_left_out(package: object) -> None:
    whole = {"action": "I", "full_nevra": "b-0:1-1.noarch"}
    assert parse_reply(reply(package, whole)) == ("install b 0:1-1.noarch",)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", REFUSED, REPLY[:-1], "[]", "7", '{"return": 7}', "[" * 100_000),
        *('{"return": {"trans_packages": 7}}', '{"return": {"trans_packages": "ab"}}'),
    ],
)
def test_what_is_no_plan_has_no_steps(text: str) -> None:
    assert parse_reply(text) == ()


@given(st.data())
def test_a_damaged_reply_never_stops_the_reading(data: st.DataObject) -> None:
    letters = list(REPLY)
    for place in data.draw(st.lists(st.integers(0, len(letters) - 1), max_size=8)):
        letters[place] = data.draw(st.characters())
    text = "".join(letters[: data.draw(st.integers(0, len(letters)))])
    assert all(line.count(" ") >= 2 for line in parse_reply(text))
