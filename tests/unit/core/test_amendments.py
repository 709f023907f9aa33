"""What is learned, line by line; what the operator may say of it; which moment is no model."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.nodes import ALL, AWS, CALICO, CILIUM, FLANNEL, agent, cni
from tests.unit.core.samples import INET, INET6
from tests.unit.core.stories import promise
from trialboot.core.contract import (
    FORMAT,
    Amendments,
    CniPromise,
    Contract,
    Item,
    amended,
    cni_promise,
    cni_seen,
    is_line_named,
    items_of,
    learn,
    line_of,
    lines_of,
    parse_line,
    subject_of,
)
from trialboot.core.facts import Cni, Unknown
from trialboot.core.picture import NodeLink, NodeRoute, picture_of
from trialboot.core.record import parse
from trialboot.core.roles import Role
from trialboot.core.sysctls import Setting, renamed, settings_of

# --- what is learned --------------------------------------------------------------------------

KERNEL_RULES = [
    "rule: from all lookup 253",
    "rule: from all lookup 254",
    "rule: from all lookup 255",
]
OWN_ROUTES = ["route: 10.0.0.0/24 dev eth0 table 254"]
LEARNED: dict[str, list[str]] = {
    "cilium": [
        "role: cgroup:root|cgroup|inet4_connect|cil_sock4_connect",
        "role: cgroup:root|cgroup|udp4_sendmsg|cil_sock4_sendmsg",
        "role: dev:cilium_host|skb|egress|cil_from_host",
        "role: dev:cilium_host|skb|ingress|cil_to_host",
        "role: dev:cilium_net|skb|ingress|cil_to_host",
        "role: dev:cilium_vxlan|skb|egress|cil_to_overlay",
        "role: dev:cilium_vxlan|skb|ingress|cil_from_overlay",
        "role: dev:eth0|skb|egress|cil_to_netdev",
        "role: dev:eth0|skb|ingress|cil_from_netdev",
        "role: dev:lxc_health|skb|ingress|cil_from_container",
        "pods: lxc*|skb|ingress|cil_from_container: on 3",
        "link: cilium_host",
        "link: cilium_net",
        "link: cilium_vxlan",
        "link: eth0",
        "link: lo",
        "link: lxc_health",
        "pod macs: lxc*: random",
        *OWN_ROUTES,
        "route: 10.244.1.5/32 dev cilium_host table 254",
        "route: default via 10.0.0.1 dev eth0 table 254",
        "remote routes: IPv4 protocol 2: 3",
        *KERNEL_RULES,
        "rule: from all fwmark 0x200/0xf00 lookup 2004",
        "sysctl: net.ipv4.conf.all.rp_filter = 0",
        "sysctl: net.ipv4.conf.cilium_host.rp_filter = 0",
        "sysctl: net.ipv4.conf.default.rp_filter = 0",
        "sysctl: net.ipv4.conf.eth0.rp_filter = 2",
        "sysctl: net.ipv4.conf.lxc*.rp_filter = 0",
        "sysctl: net.ipv4.ip_forward = 1",
        "sysctl: net.ipv6.conf.all.forwarding = 1",
        "agent: cilium-agent",
    ],
    "flannel": [
        "link: cni0",
        "link: eth0",
        "link: flannel.1",
        "link: lo",
        "pod macs: veth*: random",
        *OWN_ROUTES,
        "route: 10.244.1.0/24 dev cni0 table 254",
        "route: default via 10.0.0.1 dev eth0 table 254",
        "remote routes: IPv4 protocol 3: 2",
        *KERNEL_RULES,
        "neighbours: flannel.1: 2",
        "sysctl: net.bridge.bridge-nf-call-iptables = 1",
        "sysctl: net.ipv4.conf.all.rp_filter = 2",
        "sysctl: net.ipv4.ip_forward = 1",
        "agent: flanneld",
        "agent: kube-proxy",
    ],
    "aws": [
        "pods: eni*|skb|egress|handle_ingress: on 1",
        "pods: eni*|skb|ingress|handle_egress: on 1",
        "link: eth0",
        "link: eth1",
        "link: lo",
        "pod macs: eni*: set",
        *OWN_ROUTES,
        "route: default via 10.0.0.1 dev eth1 table 2",
        "route: default via 10.0.0.1 dev eth0 table 254",
        "pod routes: eni* IPv4: on 3",
        *KERNEL_RULES,
        "rule: from all fwmark 0x80/0x80 lookup 254",
        "pod rules: eni* IPv4: on 3",
        "sysctl: net.ipv4.conf.eth0.rp_filter = 2",
        "sysctl: net.ipv4.ip_forward = 1",
        "agent: aws-k8s-agent",
        "agent: kube-proxy",
    ],
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_healthy_node_promises_these_lines(name: str) -> None:
    assert [line for _, line in lines_of(promise(ALL[name]))] == LEARNED[name]


def test_lines_are_named_without_their_amounts() -> None:
    named = dict(lines_of(promise(CILIUM)))
    assert named["pods: lxc*|skb|ingress|cil_from_container"].endswith(": on 3")
    assert named["sysctl: net.ipv4.ip_forward"].endswith(" = 1")
    assert named["agent: cilium-agent"] == "agent: cilium-agent"


def test_several_values_and_origins_stand_in_one_line() -> None:
    mixed = promise(
        CALICO.with_sysctl("net.ipv4.conf.cali0a1b2c3d4e1.rp_filter", "0").mapped(
            "links", lambda x: replace(x, mac_origin="random") if x.name.endswith("e1") else x
        )
    )
    lines = [line_of(item) for item in items_of(mixed)]
    assert "sysctl: net.ipv4.conf.cali*.rp_filter = 0 or 1" in lines
    assert "pod macs: cali*: random, set" in lines


def test_how_roles_are_attached_is_kept_beside_them() -> None:
    ways = dict(promise(CILIUM).ways)
    assert ways["dev:eth0|skb|ingress|cil_from_netdev"] == "tc"
    assert ways["pod:lxc*|skb|ingress|cil_from_container"] == "tc"
    assert [str(p.role) for p in promise(CILIUM).pod_roles] == [
        "pod:lxc*|skb|ingress|cil_from_container"
    ]


def test_what_a_picture_could_not_show_has_no_line() -> None:
    blind = picture_of(replace(CILIUM, rules=Unknown("EPERM"), links=Unknown("EPERM")).network)
    kinds = {line_of(item).partition(":")[0] for item in items_of(blind)}
    assert kinds == {"role", "pods", "route", "remote routes", "sysctl"}


UNLEARNED = {
    "links": "links: EPERM",
    "routes": "routes: EPERM",
    "rules": "rules: EPERM",
    "addresses": "rules: addresses: EPERM",
    "attachments": "eBPF attachments: EPERM",
    "neighbours": "neighbours: EPERM",
    "sysctls": "sysctls: EPERM",
}


@pytest.mark.parametrize("part", UNLEARNED)
def test_a_blind_spot_is_no_model(part: str) -> None:
    blind: Any = replace(CILIUM, **{part: Unknown("EPERM")})  # type: ignore[arg-type]
    made = learn(blind.network, at="", boot="", kernel="")
    # Pods are told by the links: it is the first part that is missed.
    assert made == Unknown(UNLEARNED[part])


def test_a_contract_without_a_cni_promises_no_agent() -> None:
    made = learn(CILIUM.network, at="", boot="", kernel="")
    assert isinstance(made, Contract)
    assert (made.format, made.cni, made.modules) == (FORMAT, CniPromise(), ())


# --- which CNI --------------------------------------------------------------------------------

PROMISED: list[tuple[Cni, CniPromise | Unknown]] = [
    (
        cni(
            "calico",
            agent("calico-node", "c:1", age=300.0, pod="u2"),
            agent("calico-node", "c:1", pod="u1"),
            agent("kube-proxy"),
        ),
        CniPromise(
            plugins=("calico", "portmap"),
            digest="d1",
            agents=("calico-node", "kube-proxy"),
            images=(("calico-node", "c:1"),),
            pods=(("calico-node", "u1"), ("calico-node", "u2")),
        ),
    ),
    (
        Cni(configuration=None, agents=(agent("kube-proxy"), agent("kube-proxy"))),
        CniPromise(agents=("kube-proxy",)),
    ),
    (Cni(configuration=Unknown("EPERM"), agents=()), CniPromise()),
    (Cni(configuration=None, agents=Unknown("EPERM")), Unknown("CNI agents: EPERM")),
    (
        cni("calico", agent("calico-node", age=299.9), agent("kube-proxy")),
        Unknown("calico-node has run for less than 5 minutes"),
    ),
    (
        cni("calico", agent("kube-proxy", age=1.0), agent("b", age=2.0), agent("b", age=3.0)),
        Unknown("b, kube-proxy has run for less than 5 minutes"),
    ),
]


@pytest.mark.parametrize(("there", "promised"), PROMISED)
def test_a_cni_is_a_model_once_it_has_run_for_a_while(
    there: Cni, promised: CniPromise | Unknown
) -> None:
    assert cni_promise(there) == promised


def test_which_cni_runs_shows_also_while_it_starts() -> None:
    young = cni("calico", agent("calico-node", "c:1", age=1.0))
    assert cni_seen(young).images == (("calico-node", "c:1"),)
    blind = replace(young, agents=Unknown("EPERM"))
    assert cni_seen(blind) == CniPromise(plugins=("calico", "portmap"), digest="d1")


# --- what the operator may say ----------------------------------------------------------------


def route(destination: str, **more: Any) -> NodeRoute:
    made = NodeRoute(
        family=INET, destination=destination, table=254, link="eth0", gateway="", kind="unicast"
    )
    return replace(made, **more)


PARSED: list[tuple[str, Item]] = [
    (
        "role: dev:eth0|skb|ingress|cil_x",
        Role(place="dev:eth0", hook="skb", direction="ingress", program="cil_x"),
    ),
    ("role: dev:eth0|xdp||x", Role(place="dev:eth0", hook="xdp", direction="", program="x")),
    ("link: eth0", NodeLink(name="eth0", kind="")),
    ("route: 10.1.0.0/16 dev eth0", route("10.1.0.0/16")),
    (
        "route: default via 10.0.0.1 dev eth0 table 7",
        route("default", gateway="10.0.0.1", table=7),
    ),
    ("route: fd00::/64 dev eth0", route("fd00::/64", family=INET6)),
    ("route: default dev eth0 via fe80::1", route("default", gateway="fe80::1", family=INET6)),
    ("sysctl: net.ipv4.ip_forward = 1", Setting(name="net.ipv4.ip_forward", values=("1",))),
]


@pytest.mark.parametrize(("line", "item"), PARSED)
def test_a_line_to_add_is_understood(line: str, item: Item) -> None:
    assert parse_line(line) == item


REFUSED = [
    "",
    "eth0",
    "link:",
    "link: ",
    "link: a b",
    "role: x",
    "role: a|b|c",
    "role: a|b|c|d|e",
    "route: ",
    "route: 10.1.0.0/16",
    "route: 10.1.0.0/16 via 10.0.0.1",
    "route: 10.1.0.0/16 dev",
    "route: 10.1.0.0/16 dev eth0 table",
    "route: 10.1.0.0/16 dev eth0 table main",
    "route: 10.1.0.0/16 dev eth0 metric 3",
    "route: 10.1.0.0/16 dev eth0 dev eth1",
    "sysctl: net.ipv4.ip_forward",
    "sysctl: net.ipv4.ip_forward 1",
    "sysctl: net.ipv4.ip_forward is 1",
    "sysctl: net.ipv4.ip_forward =",
    "sysctl: net.ipv4.ip_local_port_range = 1 2",
    "rule: from all lookup 7",
    "pods: lxc*|skb|ingress|x",
    "agent: x",
]
FORMS = (
    "role: PLACE|HOOK|DIRECTION|PROGRAM, link: NAME, "
    "route: DESTINATION [via GATEWAY] dev LINK [table N], sysctl: NAME = VALUE"
)


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_no_promise_is_refused_with_what_may_be(line: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_line(line)
    assert str(error.value) == f"«{line}» is none of: {FORMS}"


WORD = st.text("abz019.:/*?[!|]", min_size=1, max_size=8)
NAMES = st.text("abz019_", min_size=1, max_size=8)
ADDABLE = st.one_of(
    st.builds(Role, place=NAMES, hook=NAMES, direction=NAMES, program=NAMES),
    st.builds(NodeLink, name=NAMES, kind=st.just("")),
    st.builds(
        NodeRoute,
        family=st.just(INET),
        destination=NAMES,
        table=st.integers(0, 1 << 32),
        link=NAMES,
        gateway=st.one_of(st.just(""), NAMES),
        kind=st.just("unicast"),
    ),
    st.builds(Setting, name=NAMES, values=st.tuples(NAMES)),
)


@given(ADDABLE)
def test_a_line_that_is_printed_may_be_added(item: Item) -> None:
    assert parse_line(line_of(item)) == item


@given(st.text())
def test_no_line_does_worse_than_be_refused(line: str) -> None:
    try:
        item = parse_line(line)
    except ValueError as error:
        assert line in str(error)  # noqa: PT017  either is right
    else:
        assert subject_of(item)


@given(WORD, st.lists(WORD).map(tuple))
def test_no_pattern_ever_raises_and_a_line_names_itself(
    line: str, patterns: tuple[str, ...]
) -> None:
    assert is_line_named(line, (*patterns, line))
    assert is_line_named(line, ("*",))
    assert not is_line_named(line, ())
    assert is_line_named(line, patterns) in {True, False}


AMENDED: list[tuple[Amendments, set[str], set[str]]] = [
    (Amendments(), set(), set()),
    (Amendments(pin=("*",)), set(), set()),
    (
        Amendments(ignore=("link: *",)),
        {"link: cni0", "link: eth0", "link: flannel.1", "link: lo"},
        set(),
    ),
    (Amendments(ignore=("agent: kube-proxy",)), {"agent: kube-proxy"}, set()),
    (Amendments(ignore=("nothing: like this",)), set(), set()),
    (Amendments(add=("link: eth0",)), set(), set()),
    (
        Amendments(add=("link: eth5", "sysctl: net.ipv4.ip_forward = 0")),
        {"sysctl: net.ipv4.ip_forward = 1"},
        {"link: eth5", "sysctl: net.ipv4.ip_forward = 0"},
    ),
    (
        Amendments(add=("role: dev:eth0|skb|ingress|x", "route: 10.9.0.0/16 dev eth0")),
        set(),
        {"role: dev:eth0|skb|ingress|x", "route: 10.9.0.0/16 dev eth0 table 254"},
    ),
    (
        Amendments(ignore=("sysctl: *forward",), add=("sysctl: net.ipv4.ip_forward = 0",)),
        {"sysctl: net.ipv4.ip_forward = 1"},
        {"sysctl: net.ipv4.ip_forward = 0"},
    ),
]


@pytest.mark.parametrize(("amendments", "gone", "new"), AMENDED)
def test_the_operators_file_changes_these_lines(
    amendments: Amendments, gone: set[str], new: set[str]
) -> None:
    before = {line for _, line in lines_of(promise(FLANNEL))}
    after = {line for _, line in lines_of(amended(promise(FLANNEL), amendments))}
    assert (before - after, after - before) == (gone, new)


def test_an_added_line_that_nobody_understands_is_named() -> None:
    with pytest.raises(ValueError, match=r"^«mtu: 9000» is none of: role: "):
        amended(promise(FLANNEL), Amendments(add=("link: eth0", "mtu: 9000")))


# --- sysctls by their interface ---------------------------------------------------------------

RENAMED = [
    ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.ens3.rp_filter"),
    ("net.ipv6.conf.eth0.forwarding", "net.ipv6.conf.ens3.forwarding"),
    ("net.ipv4.conf.eth1.rp_filter", "net.ipv4.conf.eth1.rp_filter"),
    ("net.ipv4.neigh.eth0.app_solicit", "net.ipv4.neigh.eth0.app_solicit"),
    ("net.ipv4.conf.eth0.a.b", "net.ipv4.conf.eth0.a.b"),
    ("net.ipv4.conf.eth0", "net.ipv4.conf.eth0"),
    ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
    ("", ""),
]


@pytest.mark.parametrize(("name", "after"), RENAMED)
def test_a_setting_follows_its_interface(name: str, after: str) -> None:
    assert renamed(name, {"eth0": "ens3", "": "wrong"}) == after


@given(st.text(), st.text())
def test_any_name_of_a_setting_is_a_name(name: str, other: str) -> None:
    assert renamed(renamed(name, {}), {}) == name
    assert isinstance(renamed(name, {name: other}), str)
    assert settings_of((), lambda _: None, frozenset()) == ()


# --- files of older versions ------------------------------------------------------------------

FIRST_FORMAT: dict[str, Any] = {
    "is": "Contract",
    "format": 1,
    "learned_at": "2025-01-01T00:00:00Z",
    "boot": "b",
    "kernel": "6.1",
    "roles": [
        {
            "is": "Role",
            "place": "dev:eth0",
            "hook": "skb",
            "direction": "ingress",
            "program": "cil_from_netdev",
        }
    ],
    "pods": [["lxc*", 1]],
    "pod_roles": [],
    "links": [{"is": "NodeLink", "name": "eth0", "kind": ""}],
    "routes": [],
    "remote_routes": [{"is": "RemoteRoutes", "family": 2, "protocol": 12, "count": 2}],
    "rules": [],
}


def test_a_cni_that_was_learned_without_its_pods_is_still_understood() -> None:
    old = {"plugins": ["cilium-cni"], "digest": "d1", "agents": ["a"], "images": [["a", "i:1"]]}
    assert parse(CniPromise, old) == CniPromise(
        plugins=("cilium-cni",), digest="d1", agents=("a",), images=(("a", "i:1"),)
    )


def test_a_contract_of_the_first_format_is_still_understood() -> None:
    old = parse(Contract, FIRST_FORMAT)
    assert (old.format, old.cni, old.sysctls, old.pod_rules) == (1, CniPromise(), (), ())
    assert [line_of(item) for item in items_of(old)] == [
        "role: dev:eth0|skb|ingress|cil_from_netdev",
        "link: eth0",
        "remote routes: IPv4 protocol 12: 2",
    ]
    assert AWS.cni.configuration is not None
