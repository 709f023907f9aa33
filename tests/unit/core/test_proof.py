"""Active proof: targets understood, and what was reached held against what was before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.core.proof import (
    Means,
    Proof,
    Reach,
    Target,
    Way,
    parse_target,
    proof_check,
    remembered,
    with_service,
)
from trialboot.core.verdict import Answer, Check

TCP, PING, GATEWAY, SERVICE = Means.TCP, Means.PING, Means.GATEWAY, Means.SERVICE


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("gateway", (Way(means=GATEWAY),)),
        ("service", (Way(means=SERVICE),)),
        ("tcp://10.43.0.1:443", (Way(means=TCP, address="10.43.0.1", port=443),)),
        ("tcp://[fd00::1]:443", (Way(means=TCP, address="fd00::1", port=443),)),
        ("ping://10.0.0.1", (Way(means=PING, address="10.0.0.1"),)),
        ("ping://[fd00::1]", (Way(means=PING, address="fd00::1"),)),
        ("ping://[fd00:0::1]", (Way(means=PING, address="fd00::1"),)),
        (
            "  tcp://10.0.0.1:4240   ping://10.0.0.2 ",
            (Way(means=TCP, address="10.0.0.1", port=4240), Way(means=PING, address="10.0.0.2")),
        ),
    ],
)
def test_a_target_is_understood(text: str, ways: tuple[Way, ...]) -> None:
    assert parse_target(text) == Target(text=" ".join(text.split()), ways=ways)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is nothing in it"),
        ("  ", "there is nothing in it"),
        ("tcp", "'tcp' is not «gateway»"),
        ("tcp://node-2:443", "'tcp://node-2:443' is not «gateway»"),
        ("TCP://10.0.0.1:1", "is not «gateway»"),
        ("udp://10.0.0.1:53", "is not «gateway»"),
        ("tcp://10.0.0.1", "tcp takes a port from 1 to 65535"),
        ("tcp://10.0.0.1:0", "tcp takes a port"),
        ("tcp://10.0.0.1:65536", "tcp takes a port"),
        ("tcp://10.0.0.1:443/", "is not «gateway»"),
        ("ping://10.0.0.1:1", "ping takes none"),
        ("ping://10.0.0.256", "10.0.0.256"),
        ("ping://fd00::1", "'ping://fd00::1' is not"),
        ("tcp://10.0.0:1", "10.0.0"),
        ("gateway ping://x", "'ping://x' is not"),
    ],
)
def test_a_target_that_is_none_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_target(text)
    assert told in str(error.value)


@given(st.text())
def test_any_text_is_a_target_or_a_value_error(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert target.ways


def test_the_service_is_remembered_by_its_address() -> None:
    told = Way(means=TCP, address="10.43.0.1", port=443)
    target = parse_target("service ping://10.0.0.9")
    assert with_service(target, told) == Target(
        text="service ping://10.0.0.9 (10.43.0.1:443)",
        ways=(told, Way(means=PING, address="10.0.0.9")),
    )
    assert with_service(target, None) == target
    assert with_service(parse_target("gateway"), told) == parse_target("gateway")


def proof(*pods: str, **reached: str) -> Proof:
    """Make a round: a target, and why it was not reached; empty where it was."""
    reaches = tuple(Reach(target=t, reached=not why, why=why) for t, why in reached.items())
    return Proof(pods=pods, reaches=reaches)


def check(answer: Answer, reasons: tuple[str, ...] = (), notes: tuple[str, ...] = ()) -> Check:
    return Check(name="proof", answer=answer, reasons=reasons, notes=notes)


FROM_HEALTH = "a is not reached from 2 pods (lxc_health, lxc*)"
NOT_NOW = "b is not reached from 2 pods (lxc*): no answer"


@pytest.mark.parametrize(
    ("now", "before", "wanted"),
    [
        (None, ("a",), check(Answer.PASS)),
        (proof("lxc*", a=""), ("a",), check(Answer.PASS)),
        (proof("lxc*", a=""), None, check(Answer.PASS)),
        (proof(), ("a",), check(Answer.PASS, notes=("not proven: there is no pod here",))),
        (
            proof("lxc*", "lxc*", a="", b="no answer"),
            ("a", "b"),
            check(Answer.FAIL, (f"{NOT_NOW}; it was on the last sound boot",)),
        ),
        (
            proof("lxc*", "lxc*", a="", b="no answer"),
            ("a",),
            check(Answer.PASS, notes=(f"{NOT_NOW}; and was not before",)),
        ),
        (
            proof("lxc*", "lxc*", b="no answer"),
            None,
            check(Answer.PASS, notes=(f"{NOT_NOW}; and was not before",)),
        ),
        (proof("lxc*", a=""), Unknown("torn"), check(Answer.PASS)),
        (
            proof("lxc*", "lxc*", b="no answer"),
            Unknown("torn"),
            check(Answer.NO_VERDICT, (f"{NOT_NOW}; whether it was before is not known: torn",)),
        ),
        (
            Unknown("killed"),
            ("a",),
            check(Answer.NO_VERDICT, ("the active proof has no result: killed",)),
        ),
        (
            proof("lxc_health", "lxc*", a="No route to host"),
            ("a",),
            check(
                Answer.FAIL,
                (f"{FROM_HEALTH}: No route to host; it was on the last sound boot",),
            ),
        ),
    ],
)
def test_only_what_was_reached_before_can_fail(
    now: Proof | Unknown | None, before: tuple[str, ...] | Unknown | None, wanted: Check
) -> None:
    assert proof_check(now, before) == wanted


NODE = "tcp://10.0.1.7:4240"
SOUND = Proof(
    pods=("lxc_health", "lxc*", "lxc*"),
    reaches=(
        Reach(target="gateway", reached=True),
        Reach(target="service (10.43.0.1:443)", reached=True),
        Reach(target=NODE, reached=True),
    ),
)
INCIDENTS = {
    # k3s-io/k3s#2013: the kernel's checksums of VXLAN are wrong. A Service whose answer comes from
    # another node goes with it; the gateway is on this one.
    "16, VXLAN checksums": (
        {"service (10.43.0.1:443)": "no answer", NODE: "no answer"},
        ("service (10.43.0.1:443)", NODE),
    ),
    # projectcalico/calico#13960: from a pod to another node nothing arrives, from the host all.
    "17, pod to other node": ({NODE: "no answer"}, (NODE,)),
}


@pytest.mark.parametrize("incident", INCIDENTS)
def test_what_no_inventory_sees_is_a_failure_at_the_deadline(incident: str) -> None:
    silent, named = INCIDENTS[incident]
    now = Proof(
        pods=SOUND.pods,
        reaches=tuple(
            Reach(target=r.target, reached=r.target not in silent, why=silent.get(r.target, ""))
            for r in SOUND.reaches
        ),
    )
    found = proof_check(now, remembered(SOUND, ()))
    assert (found.answer, found.proof) == (Answer.FAIL, False)
    assert found.reasons == tuple(
        f"{target} is not reached from 3 pods (lxc_health, lxc*): no answer; "
        "it was on the last sound boot"
        for target in named
    )


def test_what_was_reached_is_remembered_and_nothing_is_forgotten_for_want_of_a_pod() -> None:
    assert remembered(proof("lxc*", b="", a="", c="no answer"), ("old",)) == ("a", "b")
    assert remembered(proof(), ("old",)) == ("old",)
    assert proof_check(SOUND, remembered(SOUND, ())) == check(Answer.PASS)
