"""Healthy nodes to build stories from: one for each CNI, and what can happen to them.

A node is what a sample shows of it and nothing else. Names are as kernels show them: programs cut
to 15 characters, pods' interfaces with hashes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from tests.unit.core.samples import BIRD, DHCP, INET6, KERNEL, route
from trialboot.core.facts import (
    Address,
    Agent,
    Attachment,
    Cni,
    CniConfiguration,
    Link,
    Neighbour,
    Network,
    Process,
    Route,
    Rule,
    Sysctl,
    Unit,
    UnitState,
    Unknown,
)
from trialboot.core.verdict import Check

BOOT = 3


@dataclass(frozen=True, kw_only=True)
class Node:
    """Everything that the checks look at."""

    links: tuple[Link, ...] | Unknown
    attachments: tuple[Attachment, ...] | Unknown = ()
    routes: tuple[Route, ...] | Unknown = ()
    rules: tuple[Rule, ...] | Unknown = ()
    neighbours: tuple[Neighbour, ...] | Unknown = ()
    sysctls: tuple[Sysctl, ...] | Unknown = ()
    addresses: tuple[Address, ...] | Unknown = ()
    cni: Cni
    units: tuple[Unit, ...] | Unknown = (
        Unit(name="kubelet.service", state=UnitState.ACTIVE, restarts=0),
    )
    unit_refusals: tuple[str, ...] = ()
    processes: tuple[Process, ...] | Unknown = ()
    modules: tuple[str, ...] | Unknown = ()
    kernel_log: tuple[str, ...] = ()
    proof: tuple[Check, ...] = ()

    @property
    def network(self) -> Network:
        return Network(
            links=self.links,
            addresses=self.addresses,
            routes=self.routes,
            rules=self.rules,
            attachments=self.attachments,
            neighbours=self.neighbours,
            sysctls=self.sysctls,
        )

    # --- what happens to it -------------------------------------------------------------------

    def plus(self, **more: tuple[Any, ...]) -> "Node":
        """Add to parts: `plus(links=(eth1,))`."""
        after: dict[str, Any] = {p: (*getattr(self, p), *new) for p, new in more.items()}
        return replace(self, **after)

    def mapped(self, part: str, change: Callable[[Any], Any]) -> "Node":
        """Change each of a part; None drops it."""
        after = (change(one) for one in getattr(self, part))
        parts: dict[str, Any] = {part: tuple(a for a in after if a is not None)}
        return replace(self, **parts)

    def less(self, part: str, *patterns: str) -> "Node":
        """Take away what one of the patterns means, by the words of `words_of`."""

        def kept(one: object) -> object:
            there = words_of(one)
            return None if any(fnmatchcase(there, p) for p in patterns) else one

        return self.mapped(part, kept)

    def without_link(self, *names: str) -> "Node":
        """Take a link away with all that hangs on it."""
        node = self
        for name in names:
            node = node.less("links", name).less("attachments", f"dev:{name} *")
            node = node.less("routes", f"* dev {name} *").less("neighbours", f"{name} *")
            node = node.less("sysctls", f"net.*.conf.{name}.*")
        return node

    def with_sysctl(self, pattern: str, value: str) -> "Node":
        def change(one: Sysctl) -> Sysctl:
            return replace(one, value=value) if fnmatchcase(one.name, pattern) else one

        return self.mapped("sysctls", change)

    def with_agent(self, name: str = "*", **change: Any) -> "Node":
        agents = self.cni.agents
        assert not isinstance(agents, Unknown)
        after = tuple(replace(a, **change) if fnmatchcase(a.name, name) else a for a in agents)
        return replace(self, cni=replace(self.cni, agents=after))

    def with_configuration(self, **change: Any) -> "Node":
        now = self.cni.configuration
        assert isinstance(now, CniConfiguration)
        return replace(self, cni=replace(self.cni, configuration=replace(now, **change)))

    def via(self, skb: str, cgroup: str = "cgroup") -> "Node":
        ways = {"skb": skb, "cgroup": cgroup, "xdp": "xdp"}
        return self.mapped("attachments", lambda a: replace(a, via=ways[a.hook]))


def words_of(one: Any) -> str:
    """Name a fact, for patterns."""
    match one:
        case Attachment():
            return f"{one.place} {one.direction} {one.program}"
        case Route():
            return f"{one.destination} dev {one.link} via {one.gateway} proto {one.protocol}"
        case Rule():
            return f"from {one.source} to {one.destination} {one.mark} lookup {one.table}"
        case Neighbour():
            return f"{one.link} {one.address}"
        case _:
            return str(one.name)


# --- parts ------------------------------------------------------------------------------------


def link(name: str, kind: str = "", **more: Any) -> Link:
    plain = Link(name=name, kind=kind, mac="", mtu=1500, up=True, carrier=True)
    return replace(plain, **more)


def nic(name: str = "eth0", number: int = 1) -> Link:
    mac = f"02:00:00:00:00:{number:02x}"
    return link(name, mac=mac, permanent_mac=mac, bus=f"0000:00:0{number}.0")


def pod_links(names: tuple[str, ...], origin: str = "random") -> tuple[Link, ...]:
    """Make the host's ends of pods' veth pairs."""
    return tuple(
        link(name, "veth", mac=f"0a:00:00:00:00:{n:02x}", mac_origin=origin, elsewhere=True)
        for n, name in enumerate(names)
    )


def on(place: str, direction: str, program: str, via: str = "tc") -> Attachment:
    return Attachment(
        place=f"dev:{place}", hook="skb", direction=direction, program=program, via=via
    )


def on_cgroup(direction: str, program: str, via: str = "cgroup") -> Attachment:
    return Attachment(
        place="cgroup:root", hook="cgroup", direction=direction, program=program, via=via
    )


def on_xdp(place: str, program: str, via: str = "xdp") -> Attachment:
    return Attachment(place=f"dev:{place}", hook="xdp", direction="", program=program, via=via)


def rule(table: int, mark: str = "", priority: int = 100, **more: Any) -> Rule:
    made = Rule(
        family=2,
        priority=priority,
        source="",
        destination="",
        mark=mark,
        input_link="",
        table=table,
        action="lookup",
    )
    return replace(made, **more)


def sysctls(**values: str) -> tuple[Sysctl, ...]:
    """Name them with `__` for a dot."""
    return tuple(Sysctl(name=n.replace("__", "."), value=v) for n, v in values.items())


def agent(name: str, image: str = "", **more: Any) -> Agent:
    return replace(Agent(name=name, age=4000.0, restarts=0, image=image), **more)


def cni(plugin: str, *agents: Agent) -> Cni:
    configuration = CniConfiguration(
        path=f"/etc/cni/net.d/10-{plugin}.conflist", plugins=(plugin, "portmap"), digest="d1"
    )
    return Cni(configuration=configuration, agents=agents)


DEFAULT = route("default", gateway="10.0.0.1", protocol=DHCP)
CONNECTED = route("10.0.0.0/24", protocol=KERNEL)
LOCAL = route("10.0.0.5/32", protocol=KERNEL, table=255, kind="local")
ADDRESSES = (Address(link="eth0", address="10.0.0.5/24", scope=0),)
KERNEL_RULES = (rule(255, priority=0), rule(254, priority=32766), rule(253, priority=32767))
BASE: dict[str, Any] = {"addresses": ADDRESSES, "rules": KERNEL_RULES}


# --- Cilium -----------------------------------------------------------------------------------

LXC = ("lxc0a1b2c3d4e01", "lxc0a1b2c3d4e02", "lxc0a1b2c3d4e03")


def with_lxc(node: Node, names: tuple[str, ...], carried: int | None = None) -> Node:
    """Give a Cilium node these pods, the first `carried` of them with their program."""
    count = len(names) if carried is None else carried
    return node.without_link("lxc0*").plus(
        links=pod_links(names),
        attachments=tuple(on(name, "ingress", "cil_from_contai") for name in names[:count]),
        sysctls=tuple(Sysctl(name=f"net.ipv4.conf.{name}.rp_filter", value="0") for name in names),
    )


_CILIUM = Node(
    **BASE | {"rules": (*KERNEL_RULES[1:], rule(255), rule(2004, "0x200/0xf00", priority=9))},
    links=(
        link("lo"),
        nic(),
        link("cilium_host", "veth", mac="0c:00:00:00:00:01"),
        link("cilium_net", "veth", mac="0c:00:00:00:00:02"),
        link("cilium_vxlan", "vxlan", mac="0c:00:00:00:00:03"),
        link("lxc_health", "veth", mac="0c:00:00:00:00:04", elsewhere=True),
    ),
    attachments=(
        on("eth0", "ingress", "cil_from_netdev"),
        on("eth0", "egress", "cil_to_netdev"),
        on("cilium_host", "ingress", "cil_to_host"),
        on("cilium_host", "egress", "cil_from_host"),
        on("cilium_net", "ingress", "cil_to_host"),
        on("cilium_vxlan", "ingress", "cil_from_overla"),
        on("cilium_vxlan", "egress", "cil_to_overlay"),
        on("lxc_health", "ingress", "cil_from_contai"),
        on_cgroup("inet4_connect", "cil_sock4_conne"),
        on_cgroup("udp4_sendmsg", "cil_sock4_sendm"),
        on_cgroup("device", "sd_devices"),
    ),
    routes=(
        DEFAULT,
        CONNECTED,
        LOCAL,
        route("10.244.1.5/32", device="cilium_host", protocol=KERNEL),
        route("10.244.1.0/24", device="cilium_host", protocol=KERNEL, gateway="10.244.1.5"),
        route("10.244.2.0/24", device="cilium_host", protocol=KERNEL, gateway="10.244.1.5"),
        route("10.244.3.0/24", device="cilium_host", protocol=KERNEL, gateway="10.244.1.5"),
        route("fe80::/64", device="cilium_host", protocol=KERNEL, family=INET6),
    ),
    sysctls=sysctls(
        net__ipv4__ip_forward="1",
        net__ipv4__conf__all__rp_filter="0",
        net__ipv4__conf__default__rp_filter="0",
        net__ipv4__conf__eth0__rp_filter="2",
        net__ipv4__conf__cilium_host__rp_filter="0",
        net__ipv6__conf__all__forwarding="1",
    ),
    cni=cni("cilium-cni", agent("cilium-agent", "cilium:v1.15.3@sha256:aa")),
    modules=("vxlan", "cls_bpf", "sch_ingress"),
)
CILIUM = with_lxc(_CILIUM, LXC)
CILIUM_NEVER_STARTED = (
    with_lxc(CILIUM, ())
    .without_link("cilium_host", "cilium_net", "cilium_vxlan", "lxc_health")
    .less("attachments", "* cil_*")
    .less("rules", "*lookup 2004")
)


def cilium_1_12(node: Node) -> Node:
    """Show the filters of a Cilium by tc as 1.12 and older name them."""
    sections = {
        "cil_from_netdev": "bpf_netdev_eth0.o:[from-netdev]",
        "cil_to_netdev": "bpf_netdev_eth0.o:[to-netdev]",
        "cil_to_host": "bpf_host.o:[to-host]",
        "cil_from_host": "bpf_host.o:[from-host]",
        "cil_from_overla": "bpf_overlay.o:[from-overlay]",
        "cil_to_overlay": "bpf_overlay.o:[to-overlay]",
        "cil_from_contai": "bpf_lxc.o:[from-container]",
        "cil_sock4_conne": "sock4_connect",
        "cil_sock4_sendm": "sock4_sendmsg",
    }
    return node.mapped(
        "attachments", lambda a: replace(a, program=sections.get(a.program, a.program))
    )


# --- Calico -----------------------------------------------------------------------------------

CALI = ("cali0a1b2c3d4e1", "cali0a1b2c3d4e2")


def _cali_routes(names: tuple[str, ...]) -> tuple[Route, ...]:
    return tuple(
        route(f"10.244.1.{n}/32", device=name, protocol=BOOT) for n, name in enumerate(names, 10)
    )


CALICO = Node(
    **BASE,
    links=(link("lo"), nic(), *pod_links(CALI, "set")),
    routes=(
        DEFAULT,
        CONNECTED,
        route("10.244.2.0/26", protocol=BIRD, gateway="10.0.0.6"),
        route("10.244.3.0/26", protocol=BIRD, gateway="10.0.0.7"),
        route("10.244.1.0/26", device="", protocol=BIRD, kind="blackhole"),
        *_cali_routes(CALI),
    ),
    sysctls=sysctls(
        net__ipv4__ip_forward="1",
        net__ipv4__conf__eth0__rp_filter="1",
        net__ipv4__conf__cali0a1b2c3d4e1__rp_filter="1",
        net__ipv4__conf__cali0a1b2c3d4e2__rp_filter="1",
    ),
    cni=cni("calico", agent("calico-node", "calico:v3.30.4@sha256:aa"), agent("kube-proxy")),
    modules=("ip_tables", "ip_set", "xt_set", "xt_mark", "ip6_tables"),
)
CALICO_EBPF = CALICO.plus(
    attachments=(
        on("eth0", "ingress", "cali_tc_preambl"),
        on("eth0", "egress", "cali_tc_preambl"),
        on("lo", "ingress", "cali_tc_preambl"),
        *(on(name, way, "cali_tc_preambl") for name in CALI for way in ("ingress", "egress")),
        on_cgroup("inet4_connect", "calico_connect_"),
        on_cgroup("udp4_sendmsg", "calico_sendmsg_"),
        on_cgroup("udp4_recvmsg", "calico_recvmsg_"),
    ),
)
CALICO_EBPF = replace(
    CALICO_EBPF,
    cni=cni("calico", agent("calico-node", "calico:v3.30.4@sha256:aa")),
)


# --- the others -------------------------------------------------------------------------------

VETH = ("veth0a1b2c3d", "veth0a1b2c3e")

FLANNEL = Node(
    **BASE,
    links=(
        link("lo"),
        nic(),
        link("flannel.1", "vxlan", mac="0f:00:00:00:00:01", mtu=1450),
        link("cni0", "bridge", mac="0f:00:00:00:00:02", mtu=1450),
        *(replace(x, master="cni0") for x in pod_links(VETH)),
    ),
    routes=(
        DEFAULT,
        CONNECTED,
        route("10.244.1.0/24", device="cni0", protocol=KERNEL),
        route("10.244.2.0/24", device="flannel.1", protocol=BOOT, gateway="10.244.2.0"),
        route("10.244.3.0/24", device="flannel.1", protocol=BOOT, gateway="10.244.3.0"),
    ),
    neighbours=(
        Neighbour(link="flannel.1", address="10.244.2.0", mac="0f:00:00:00:02:00"),
        Neighbour(link="flannel.1", address="10.244.3.0", mac="0f:00:00:00:03:00"),
    ),
    sysctls=(
        Sysctl(name="net.ipv4.ip_forward", value="1"),
        Sysctl(name="net.bridge.bridge-nf-call-iptables", value="1"),
        Sysctl(name="net.ipv4.conf.all.rp_filter", value="2"),
    ),
    cni=cni("flannel", agent("flanneld", "flannel:v0.24@sha256:aa"), agent("kube-proxy")),
    modules=("vxlan", "br_netfilter", "ip_tables"),
)

ENI = ("eni0a1b2c3d4e5", "eni0a1b2c3d4e6", "eni0a1b2c3d4e7")


def aws_rules(*numbers: int) -> tuple[Rule, ...]:
    """Give the rules that the CNI makes for each pod: they name the pod's own address."""
    to = tuple(rule(254, priority=512, destination=f"10.0.0.{n}/32") for n in numbers)
    return (*to, *(rule(2, priority=1536, source=f"10.0.0.{n}/32") for n in numbers))


def aws_routes(names: tuple[str, ...], first: int) -> tuple[Route, ...]:
    return tuple(
        route(f"10.0.0.{n}/32", device=name, protocol=BOOT) for n, name in enumerate(names, first)
    )


AWS = Node(
    **BASE
    | {"rules": (*KERNEL_RULES, rule(254, "0x80/0x80", priority=1024), *aws_rules(10, 11, 12))},
    links=(link("lo"), nic(), nic("eth1", 2), *pod_links(ENI, "set")),
    attachments=(
        on(ENI[0], "ingress", "handle_egress"),
        on(ENI[0], "egress", "handle_ingress"),
    ),
    routes=(
        DEFAULT,
        CONNECTED,
        route("default", device="eth1", table=2, protocol=BOOT, gateway="10.0.0.1"),
        *aws_routes(ENI, 10),
    ),
    sysctls=sysctls(net__ipv4__ip_forward="1", net__ipv4__conf__eth0__rp_filter="2"),
    cni=cni("aws-cni", agent("aws-k8s-agent", "aws:v1.18@sha256:aa"), agent("kube-proxy")),
    modules=("cls_bpf", "sch_ingress", "xt_mark"),
)

KUBE_ROUTER = Node(
    **BASE | {"rules": (*KERNEL_RULES, rule(77, source="10.244.1.0/24", priority=32764))},
    links=(
        link("lo"),
        nic(),
        link("kube-bridge", "bridge", mac="0b:00:00:00:00:01"),
        link("tun-1000006", "ipip"),
        link("kube-dummy-if", "dummy", mac="0b:00:00:00:00:02"),
        *(replace(x, master="kube-bridge") for x in pod_links(VETH)),
    ),
    routes=(
        DEFAULT,
        CONNECTED,
        route("10.244.1.0/24", device="kube-bridge", protocol=KERNEL),
        route("10.244.2.0/24", device="eth0", protocol=17, gateway="10.0.0.6"),
        route("10.244.3.0/24", device="tun-1000006", protocol=17),
    ),
    sysctls=(
        Sysctl(name="net.ipv4.ip_forward", value="1"),
        Sysctl(name="net.bridge.bridge-nf-call-iptables", value="1"),
    ),
    cni=cni("bridge", agent("kube-router")),
    modules=("ip_set", "ip_vs", "ipip", "br_netfilter"),
)

SANDBOX = ("0a1b2c3d4e5f601", "0a1b2c3d4e5f602")

OVN = Node(
    **BASE,
    links=(
        link("lo"),
        nic(),
        link("br-ex", "openvswitch", mac="0e:00:00:00:00:01"),
        link("ovn-k8s-mp0", "openvswitch", mac="0e:00:00:00:00:02", mtu=1400),
        link("genev_sys_6081", "geneve", mac="0e:00:00:00:00:03", mtu=65000),
        *(replace(x, master="ovs-system") for x in pod_links(SANDBOX)),
    ),
    routes=(
        DEFAULT,
        CONNECTED,
        route("10.244.1.0/24", device="ovn-k8s-mp0", protocol=KERNEL),
        route("10.244.0.0/16", device="ovn-k8s-mp0", protocol=BOOT, gateway="10.244.1.1"),
    ),
    sysctls=sysctls(net__ipv4__ip_forward="1"),
    cni=cni(
        "ovn-k8s-cni-overlay", agent("ovnkube"), agent("ovn-controller"), agent("ovs-vswitchd")
    ),
    modules=("openvswitch", "geneve"),
)

ODD = ("odd-a1", "odd-b2")

UNKNOWN_CNI = Node(
    **BASE,
    links=(
        link("lo"),
        nic(),
        link("odd-gate", "dummy", mac="0d:00:00:00:00:01"),
        *pod_links(ODD),
    ),
    attachments=(
        on("eth0", "ingress", "odd_in"),
        on("odd-gate", "ingress", "odd_gate"),
        *(on(name, "ingress", "odd_pod") for name in ODD),
    ),
    routes=(DEFAULT, CONNECTED),
    sysctls=sysctls(net__ipv4__ip_forward="1"),
    cni=cni("odd-cni"),
)

ALL = {
    "cilium": CILIUM,
    "calico": CALICO,
    "calico-ebpf": CALICO_EBPF,
    "flannel": FLANNEL,
    "aws": AWS,
    "kube-router": KUBE_ROUTER,
    "ovn-kubernetes": OVN,
    "unknown": UNKNOWN_CNI,
}
