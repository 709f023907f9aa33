"""Each rule of the comparison, and each false alarm that it must not give (ebpf.md, section 3)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.samples import (
    BIRD,
    CONNECT,
    DEFAULT,
    ETH0,
    INET6,
    NETDEV,
    NETWORK,
    SYSTEMD,
    attachment,
    contract,
    link,
    on_pods,
    plus,
    pods,
    route,
    rule,
    without,
)
from trialboot.core.checks import healthy_check, network_checks
from trialboot.core.facts import Network, Unknown
from trialboot.core.verdict import MOST_REASONS, Answer, Check

NAMES = ["roles", "pods", "links", "routes", "rules", "neighbours", "sysctls"]


def check(name: str, network: Network, learned: Network = NETWORK) -> Check:
    found = {check.name: check for check in network_checks(contract(learned), network)}
    assert list(found) == NAMES
    return found[name]


def failing(network: Network, learned: Network = NETWORK) -> list[str]:
    checks = network_checks(contract(learned), network)
    return [c.name for c in checks if c.answer is not Answer.PASS]


# --- what must pass ---------------------------------------------------------------------------


def test_a_network_keeps_its_own_promise_without_a_word() -> None:
    checks = network_checks(contract(), NETWORK)
    assert [(c.name, c.answer, c.reasons, c.notes) for c in checks] == [
        (name, Answer.PASS, (), ()) for name in NAMES
    ]


def test_pods_with_other_names_are_the_same_promise() -> None:
    after = replace(
        NETWORK,
        links=(ETH0, *pods(21, 22, 23, 24, 25)),
        attachments=(NETDEV, CONNECT, *on_pods(21, 22, 23, 24, 25)),
    )
    assert failing(after) == []


def test_tcx_in_place_of_tc_with_two_of_five_pods_back_passes() -> None:
    after = replace(
        NETWORK,
        links=(ETH0, *pods(7, 8)),
        attachments=(replace(NETDEV, via="tcx"), CONNECT, *on_pods(7, 8, via="tcx")),
    )
    assert failing(after) == []


def test_no_pods_yet_is_waited_for_and_never_a_failure() -> None:
    after = replace(NETWORK, links=(ETH0,), attachments=(NETDEV, CONNECT))
    found = check("pods", after)
    assert (found.answer, found.waits) == (Answer.NO_VERDICT, True)
    assert found.reasons == ("no pod interface lxc* now, 5 before",)


def test_a_new_role_is_a_note() -> None:
    after = plus(NETWORK, attachment("dev:eth0", "cil_to_netdev", direction="egress"))
    found = check("roles", after)
    assert (found.answer, found.notes) == (
        Answer.PASS,
        ("new eBPF cil_to_netdev at dev:eth0 egress",),
    )


@pytest.mark.parametrize("program", ["sd_devices", "sd_fw_egress"])
def test_programs_of_systemd_may_come_and_go(program: str) -> None:
    assert failing(without(NETWORK, SYSTEMD)) == []
    came = plus(without(NETWORK, SYSTEMD), replace(SYSTEMD, program=program))
    assert check("roles", came).notes == ()


def test_a_rule_that_moved_to_another_priority_is_no_news() -> None:
    after = replace(NETWORK, rules=(rule(priority=100),))
    found = check("rules", after)
    assert (found.answer, found.notes) == (Answer.PASS, ())


def test_some_routes_of_the_routing_protocol_are_enough() -> None:
    many = [route(f"10.{n}.0.0/24", protocol=BIRD) for n in range(9)]
    learned = replace(NETWORK, routes=(DEFAULT, *many))
    after = replace(NETWORK, routes=(DEFAULT, many[3]))
    assert failing(after, learned) == []


@pytest.mark.parametrize(
    ("name", "after", "note"),
    [
        ("links", {"links": (ETH0, link("eth1", kind="bond"))}, "new link eth1 (bond)"),
        (
            "routes",
            {"routes": (*NETWORK.routes, route("10.7.0.0/16"))},  # type: ignore[misc]
            "new route 10.7.0.0/16 dev eth0 table 254",
        ),
        (
            "rules",
            {"rules": (rule(), rule(mark="", table=7))},
            "new rule from all lookup 7",
        ),
    ],
)
def test_what_is_new_is_a_note(name: str, after: dict[str, tuple[object, ...]], note: str) -> None:
    changed: Network = replace(NETWORK, **after)  # type: ignore[arg-type]
    found = check(name, changed)
    assert (found.answer, found.notes) == (Answer.PASS, (note,))


# --- what must fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (NETDEV, "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)"),
        (CONNECT, "eBPF cil_sock4_connect is missing at cgroup:root inet4_connect (cgroup)"),
    ],
)
def test_a_missing_role_fails_with_its_place(gone: object, reason: str) -> None:
    assert isinstance(NETWORK.attachments, tuple)
    after = without(NETWORK, *(a for a in NETWORK.attachments if a == gone))
    found = check("roles", after)
    assert (found.answer, found.reasons) == (Answer.FAIL, (reason,))
    assert failing(after) == ["roles"]


@pytest.mark.parametrize(
    "moved",
    [
        replace(NETDEV, place="dev:eth1"),
        replace(NETDEV, direction="egress"),
        replace(NETDEV, hook="xdp"),
        replace(NETDEV, program="cil_from_host"),
    ],
)
def test_a_role_elsewhere_is_not_the_promised_role(moved: object) -> None:
    assert isinstance(moved, type(NETDEV))
    assert failing(plus(without(NETWORK, NETDEV), moved)) == ["roles"]


def test_pod_programs_that_the_kernel_refused_fail() -> None:
    after = without(NETWORK, *on_pods(1, 2, 3, 4, 5))
    found = check("pods", after)
    assert found.answer is Answer.FAIL
    assert found.reasons == (
        "eBPF cil_from_container is on 0 of 5 pod interfaces lxc* ingress, was on 5 of 5",
    )


def test_one_bare_pod_among_carriers_fails() -> None:
    assert failing(without(NETWORK, *on_pods(3))) == ["pods"]


def half_covered() -> Network:
    return without(NETWORK, *on_pods(1, 2, 3))  # 2 of 5 carry it


@pytest.mark.parametrize(
    ("present", "carrying", "fails"),
    [(5, 2, False), (5, 1, True), (2, 1, False), (3, 1, True), (2, 0, True), (10, 4, False)],
)
def test_pods_must_be_covered_as_much_as_before(
    present: int, carrying: int, *, fails: bool
) -> None:
    after = replace(
        NETWORK,
        links=(ETH0, *pods(*range(present))),
        attachments=(NETDEV, CONNECT, *on_pods(*range(carrying))),
    )
    assert failing(after, half_covered()) == (["pods"] if fails else [])


def test_a_pod_that_came_between_two_reads_asks_nothing_impossible() -> None:
    # Six programs were seen and only five interfaces: the coverage is 1 at most.
    learned = plus(NETWORK, *on_pods(6))
    assert failing(NETWORK, learned) == []


def test_pods_that_came_after_the_links_were_read_do_not_break_the_check() -> None:
    learned = replace(NETWORK, links=(ETH0,))
    assert failing(NETWORK, learned) == []
    assert failing(replace(NETWORK, links=(ETH0,)), learned) == []


@pytest.mark.parametrize(
    ("name", "after", "reason"),
    [
        ("links", {"links": pods(1, 2, 3, 4, 5)}, "link eth0 (device) is gone or has no carrier"),
        (
            "links",
            {"links": (link("eth0", carrier=False), *pods(1, 2, 3, 4, 5))},
            "link eth0 (device) is gone or has no carrier",
        ),
        (
            "links",
            {"links": (link("eth0", kind="dummy"), *pods(1, 2, 3, 4, 5))},
            "link eth0 (device) is gone or has no carrier",
        ),
        (
            "routes",
            {"routes": (route("10.8.0.0/24", protocol=BIRD), route("10.1.0.0/16"))},
            "route default via 10.0.0.1 dev eth0 table 254 is gone",
        ),
        ("rules", {"rules": ()}, "rule from all fwmark 0x200/0xf00 lookup 2004 is gone"),
    ],
)
def test_what_is_gone_fails_with_its_name(
    name: str, after: dict[str, tuple[object, ...]], reason: str
) -> None:
    changed: Network = replace(NETWORK, **after)  # type: ignore[arg-type]
    found = check(name, changed)
    assert (found.answer, found.reasons) == (Answer.FAIL, (reason,))
    assert not found.proof
    assert failing(changed) == [name]


def test_lost_routes_of_ipv6_are_told_apart_from_those_of_ipv4() -> None:
    both = (
        DEFAULT,
        route("10.8.0.0/24", protocol=BIRD),
        route("fd00::/64", protocol=BIRD, family=INET6),
        route("fd01::/64", protocol=BIRD, family=INET6),
    )
    found = check("routes", replace(NETWORK, routes=both[:2]), replace(NETWORK, routes=both))
    assert found.reasons == ("no IPv6 route of protocol 12 is left, 2 before",)


def test_a_rule_with_a_source_is_told_with_it() -> None:
    sourced = replace(rule(), source="10.0.0.0/8", mark="")
    learned = replace(NETWORK, rules=(sourced,))
    found = check("rules", replace(NETWORK, rules=()), learned)
    assert found.reasons == ("rule from 10.0.0.0/8 lookup 2004 is gone",)


@pytest.mark.parametrize("extra", [0, 1, 8])
def test_reasons_stop_where_nobody_reads_on(extra: int) -> None:
    lost = tuple(rule(table=n) for n in range(MOST_REASONS + extra))
    found = check("rules", replace(NETWORK, rules=()), replace(NETWORK, rules=lost))
    told = (f"... and {extra} more of the check «rules»",) if extra else ()
    assert found.reasons[MOST_REASONS:] == told
    assert len(set(found.reasons)) == MOST_REASONS + len(told)


@pytest.mark.parametrize(
    ("part", "undecided", "why"),
    [
        ("links", ["pods", "links"], "links: EPERM"),
        ("routes", ["routes"], "routes: EPERM"),
        ("rules", ["rules"], "rules: EPERM"),
        ("attachments", ["roles", "pods"], "eBPF attachments: EPERM"),
        ("sysctls", ["sysctls"], "sysctls: EPERM"),
    ],
)
def test_a_part_that_cannot_be_read_leaves_its_own_checks_undecided(
    part: str, undecided: list[str], why: str
) -> None:
    blind: Network = replace(NETWORK, **{part: Unknown("EPERM")})
    checks = network_checks(contract(), blind)
    found = [c for c in checks if c.answer is Answer.NO_VERDICT]
    assert [(c.name, c.reasons) for c in found] == [(name, (why,)) for name in undecided]
    assert all(c.answer is Answer.PASS for c in checks if c not in found)


ATTACHMENTS = st.frozensets(
    st.sampled_from([NETDEV, CONNECT, SYSTEMD, *on_pods(1, 2), *on_pods(1, 2, via="tcx")])
)


def some(attachments: frozenset[object]) -> Network:
    there = tuple(a for a in attachments if isinstance(a, type(NETDEV)))
    return replace(NETWORK, links=(ETH0, *pods(1, 2)), attachments=there)


@given(ATTACHMENTS, ATTACHMENTS)
def test_a_network_that_has_more_than_was_promised_never_fails(
    promised: frozenset[object], more: frozenset[object]
) -> None:
    assert failing(some(promised | more), some(promised)) == []


# --- nothing learned yet ----------------------------------------------------------------------


def test_a_default_route_through_a_working_link_is_worth_learning_from() -> None:
    assert healthy_check(NETWORK).answer is Answer.PASS


def test_two_samples_of_a_growing_network_are_not_equal() -> None:
    assert healthy_check(NETWORK) != healthy_check(without(NETWORK, NETDEV))
    assert healthy_check(NETWORK) == healthy_check(NETWORK)


@pytest.mark.parametrize(
    "sick",
    [
        replace(NETWORK, links=(link("eth0", carrier=False), link("eth1"))),
        replace(NETWORK, routes=(route("10.1.0.0/16"),)),
        replace(NETWORK, routes=()),
    ],
)
def test_a_node_without_a_way_out_is_no_model(sick: Network) -> None:
    found = healthy_check(sick)
    assert found.answer is Answer.NO_VERDICT
    assert found.reasons == (
        "there is no default route through a link with carrier to learn from",
    )


def test_a_network_that_cannot_be_read_is_no_model() -> None:
    found = healthy_check(replace(NETWORK, links=Unknown("EPERM")))
    assert (found.name, found.answer) == ("healthy", Answer.NO_VERDICT)
    assert found.reasons == ("network: links: EPERM",)
