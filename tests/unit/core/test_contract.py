"""A contract holds what a healthy reboot keeps, and nothing that it renumbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.samples import (
    BIRD,
    CONNECT,
    DEFAULT,
    ETH0,
    INET,
    INET6,
    KERNEL,
    NETDEV,
    NETWORK,
    attachment,
    contract,
    link,
    on_pods,
    plus,
    pods,
    route,
    rule,
)
from trialboot.core.cni import pod_class
from trialboot.core.contract import FORMAT, Contract, learn, renewed
from trialboot.core.facts import Link, Network, Route, Unknown
from trialboot.core.picture import NodeLink, PodRole, RemoteRoutes
from trialboot.core.roles import Role


@pytest.mark.parametrize(
    ("name", "pod"),
    [
        ("lxc1a2b", "lxc*"),
        ("cali0a1b2c3d4e5", "cali*"),
        ("eni0123456789a", "eni*"),
        ("veth0123abcd", "veth*"),
        ("gke0123456789a", "gke*"),
        ("azv0123456789a", "azv*"),
        ("lxc_health", None),
        ("eth0", None),
        ("eni0", None),
        ("veth0", None),
        ("veth0123abcde", None),
        ("cali_nk_probe", None),
        ("xlxc1a2b", None),
        ("cilium_host", None),
    ],
)
def test_a_pod_interface_is_known_by_its_name(name: str, pod: str | None) -> None:
    assert pod_class(name) == pod


def test_a_contract_says_when_and_where_it_was_learned() -> None:
    made = contract()
    assert (made.format, made.learned_at) == (FORMAT, "2026-01-01T00:00:00Z")
    assert (made.boot, made.kernel) == ("boot-0", "6.1-old")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("links", "links"),
        ("routes", "routes"),
        ("rules", "rules"),
        ("attachments", "eBPF attachments"),
    ],
)
def test_nothing_is_learned_from_a_sample_with_a_blind_spot(part: str, named: str) -> None:
    blind: Network = replace(NETWORK, **{part: Unknown("EPERM")})
    made = learn(blind, at="", boot="", kernel="")
    assert made == Unknown(f"{named}: EPERM")


def test_roles_of_the_node_are_programs_at_their_places() -> None:
    assert [str(role) for role in contract().roles] == [
        "cgroup:root|cgroup|inet4_connect|cil_sock4_connect",
        "dev:eth0|skb|ingress|cil_from_netdev",
    ]


def test_how_a_program_is_attached_is_no_part_of_its_role() -> None:
    attachments = (replace(NETDEV, via="tcx"), replace(CONNECT, via="link"))
    assert contract(replace(NETWORK, attachments=attachments)).roles == contract().roles


def test_programs_on_pods_are_counted_by_class_and_not_by_interface() -> None:
    role = Role(place="pod:lxc*", hook="skb", direction="ingress", program="cil_from_container")
    assert contract().pods == (("lxc*", 5),)
    assert contract().pod_roles == (PodRole(pods="lxc*", role=role, carried=5),)


def test_a_program_twice_on_one_pod_is_carried_once() -> None:
    doubled = plus(NETWORK, *on_pods(1, via="tcx"))
    assert contract(doubled).pod_roles == contract().pod_roles


def test_the_health_endpoint_of_cilium_belongs_to_the_node() -> None:
    health = attachment("dev:lxc_health", "cil_from_contai")
    there = contract(plus(NETWORK, health))
    assert "dev:lxc_health|skb|ingress|cil_from_container" in map(str, there.roles)


def test_programs_of_systemd_are_nobodys_promise() -> None:
    sd = attachment("cgroup:root", "sd_fw_ingress", hook="cgroup", direction="ingress")
    on_pod = attachment("dev:lxc0001", "sd_x")
    assert contract(plus(NETWORK, sd, on_pod)) == contract()


@pytest.mark.parametrize("name", ["testTcx", "testTcxb", "cali_nk_probe"])
def test_devices_that_calico_makes_for_a_moment_are_no_promise(name: str) -> None:
    assert isinstance(NETWORK.links, tuple)
    probed = plus(NETWORK, attachment(f"dev:{name}", "probe"))
    assert contract(replace(probed, links=(*NETWORK.links, link(name)))) == contract()


def node_link(name: str, *, kind: str = "", lasting: bool = True) -> NodeLink:
    return NodeLink(name=name, kind=kind, mac=ETH0.mac, mtu=1500, lasting=lasting)


@pytest.mark.parametrize(
    ("there", "promised"),
    [
        (ETH0, (node_link("eth0"),)),
        (link("cilium_host", kind="veth"), (node_link("cilium_host", kind="veth"),)),
        (link("tap0", kind="tun"), (node_link("tap0", kind="tun", lasting=False),)),
        (link("cni0", kind="bridge"), (node_link("cni0", kind="bridge", lasting=False),)),
        (link("eth1", up=False), ()),
        (link("eth1", carrier=False), ()),
        (link("lxc1a2b", kind="veth"), ()),
    ],
)
def test_links_of_the_node_that_work_are_promised(
    there: Link, promised: tuple[NodeLink, ...]
) -> None:
    assert contract(replace(NETWORK, links=(there,))).links == promised


@pytest.mark.parametrize(
    "unpromised",
    [
        route("10.0.0.5/32", table=255, kind="unicast"),
        route("10.0.0.5/32", protocol=KERNEL, kind="local", table=2005),
        route("10.0.0.255/32", protocol=KERNEL, kind="broadcast"),
        route("ff02::1/128", protocol=KERNEL, kind="multicast", family=INET6),
        route("fe80::/64", protocol=KERNEL, family=INET6),
        route("ff00::/8", protocol=KERNEL, family=INET6),
        route("10.8.0.9/32", device="lxc1a2b"),
        route("10.8.0.0/24", protocol=BIRD),
    ],
    ids=str,
)
def test_routes_that_come_by_themselves_are_no_nodes_promise(unpromised: Route) -> None:
    assert contract(replace(NETWORK, routes=(unpromised,))).routes == ()


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 9, 16])
def test_routes_of_the_nodes_own_configuration_are_promised_exactly(protocol: int) -> None:
    made = contract(replace(NETWORK, routes=(route("10.1.0.0/16", protocol=protocol),)))
    assert [r.destination for r in made.routes] == ["10.1.0.0/16"]
    assert made.remote_routes == ()


def test_a_local_route_that_a_cni_put_in_is_promised() -> None:
    ours = route("0.0.0.0/0", device="lo", kind="local", table=2004)
    assert len(contract(replace(NETWORK, routes=(ours,))).routes) == 1


def test_routes_of_a_routing_protocol_are_a_number() -> None:
    others = (
        route("10.8.0.0/24", protocol=BIRD),
        route("10.9.0.0/24", protocol=BIRD),
        route("fd00::/64", protocol=BIRD, family=INET6),
        route("10.9.0.7/32", protocol=BIRD, device="cali0a1b"),
    )
    assert contract(replace(NETWORK, routes=others)).remote_routes == (
        RemoteRoutes(family=INET, protocol=BIRD, count=2),
        RemoteRoutes(family=INET6, protocol=BIRD, count=1),
    )


def test_the_priority_of_a_rule_is_no_promise() -> None:
    moved = replace(NETWORK, rules=(rule(priority=100), rule(priority=9)))
    assert contract(moved).rules == contract().rules


@given(st.permutations(range(4)))
def test_the_order_in_which_things_are_read_does_not_matter(order: list[int]) -> None:
    assert isinstance(NETWORK.attachments, tuple)
    attachments = tuple(NETWORK.attachments[i] for i in order)
    rules = tuple((rule(), rule(table=1), rule(table=2), rule(table=3))[i] for i in order)
    routes = tuple(
        (DEFAULT, route("10.1.0.0/16"), route("10.2.0.0/16"), route("10.3.0.0/16"))[i]
        for i in order
    )
    links = tuple((ETH0, link("eth1"), *pods(1, 2))[i] for i in order)
    mixed = replace(NETWORK, links=links, routes=routes, rules=rules, attachments=attachments)
    straight = replace(
        NETWORK,
        links=tuple(sorted(links)),
        routes=tuple(sorted(routes)),
        rules=tuple(sorted(rules)),
        attachments=tuple(sorted(attachments)),
    )
    assert contract(mixed) == contract(straight)


def test_a_drained_node_keeps_what_its_pods_were_promised() -> None:
    old = contract()
    drained = contract(replace(NETWORK, links=(ETH0,), attachments=(NETDEV,)))
    kept = renewed(old, drained)
    assert (kept.pods, kept.pod_roles) == (old.pods, old.pod_roles)
    assert kept.roles == drained.roles


def test_pods_that_are_there_renew_their_promise() -> None:
    fewer = contract(replace(NETWORK, links=(ETH0, *pods(1)), attachments=(NETDEV, *on_pods(1))))
    assert renewed(contract(), fewer) == fewer


def test_each_class_of_pods_is_renewed_by_itself() -> None:
    calico = replace(
        NETWORK,
        links=(ETH0, link("cali1")),
        attachments=(attachment("dev:cali1", "cali_from_wep"),),
    )
    kept: Contract = renewed(contract(), contract(calico))
    assert kept.pods == (("cali*", 1), ("lxc*", 5))
    assert [role.pods for role in kept.pod_roles] == ["cali*", "lxc*"]
