"""What a healthy reboot changes must not be called worse; what lies beside it must.

The cases of ebpf.md, sections 1.4 and 3, and of what clusters do between two boots. `HARMLESS`
pass, `OPEN` stay undecided, `WORSE_STILL` are their neighbours in the dangerous direction.
"""

from dataclasses import replace

import pytest

from tests.unit.core.nodes import (
    ALL,
    AWS,
    BOOT,
    CALI,
    CALICO,
    CALICO_EBPF,
    CILIUM,
    CILIUM_NEVER_STARTED,
    ENI,
    FLANNEL,
    KUBE_ROUTER,
    LXC,
    ODD,
    OVN,
    UNKNOWN_CNI,
    VETH,
    Node,
    agent,
    aws_routes,
    aws_rules,
    cilium_1_12,
    link,
    nic,
    on,
    on_xdp,
    pod_links,
    rule,
    with_lxc,
)
from tests.unit.core.samples import BIRD, INET6, KERNEL, STATIC, route
from tests.unit.core.stories import SOUND, UNSURE, WORSE, Story, expected, told
from trialboot.core.contract import Amendments
from trialboot.core.facts import (
    Attachment,
    Neighbour,
    Process,
    Sysctl,
    Unit,
    UnitState,
    Unknown,
)

NO_LXC = "no pod interface lxc* now, 3 before"
BARE_LXC = "eBPF cil_from_container is on {} of {} pod interfaces lxc* ingress, was on 3 of 3"
NEW_POD = "lxc0ff"
RA = 9
FIRST = ("10 eBPF roles, 6 links, 3 routes and 4 rules to learn from",)
ETH0_GONE = (
    "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
    "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)",
    "link eth0 (device) is gone or has no carrier",
    "route 10.0.0.0/24 dev eth0 table 254 is gone",
    "route default via 10.0.0.1 dev eth0 table 254 is gone",
)
NEW_ENS3 = (
    "new eBPF cil_to_netdev at dev:ens3 egress",
    "new eBPF cil_from_netdev at dev:ens3 ingress",
    "new link ens3 (device)",
    "new route 10.0.0.0/24 dev ens3 table 254",
    "new route default via 10.0.0.1 dev ens3 table 254",
)
CHANGED = "(the CNI itself was changed)"
OTHER_NODE = "the only other node may be gone"
PASSING = "(it comes with pods, programs or other nodes)"
ITS_LINK = "(its link comes with pods, programs or other nodes)"
IMAGE = "cilium:v1.15.3@sha256:aa"
SOCKET_LB_GONE = tuple(
    f"eBPF cil_sock4_{call} is missing at cgroup:root {hook} (cgroup)"
    for call, hook in (("connect", "inet4_connect"), ("sendmsg", "udp4_sendmsg"))
)


def upgraded(node: Node) -> Node:
    """Show the same CNI in another version."""
    return node.with_agent(image="cni:v2@sha256:bb", age=90.0)


def in_pods(node: Node, *uids: str) -> Node:
    """Show an agent in each of these pods."""
    agents = tuple(agent("cilium-agent", IMAGE, pod=uid) for uid in uids)
    return replace(node, cni=replace(node.cni, agents=agents))


def without_socket_lb(node: Node) -> Node:
    return node.less("attachments", "cgroup:root * cil_*")


def reconfigured(node: Node) -> Node:
    return node.with_configuration(digest="d2")


def renamed(node: Node, old: str, new: str) -> Node:
    """Show a network device under another name, with all that hangs on it."""
    node = node.mapped("links", lambda x: replace(x, name=new) if x.name == old else x)
    node = node.mapped("routes", lambda r: replace(r, link=new) if r.link == old else r)
    node = node.mapped("rules", lambda r: replace(r, input_link=new) if r.input_link == old else r)
    node = node.mapped("neighbours", lambda n: replace(n, link=new) if n.link == old else n)
    node = node.mapped(
        "sysctls", lambda s: replace(s, name=s.name.replace(f".conf.{old}.", f".conf.{new}."))
    )
    return node.mapped(
        "attachments",
        lambda a: replace(a, place=f"dev:{new}") if a.place == f"dev:{old}" else a,
    )


def with_new_pod(node: Node, name: str = NEW_POD, *, carried: bool, value: str = "0") -> Node:
    """Show one pod more, as it is being made: without a program, its filter not yet off."""
    return node.plus(
        links=pod_links((name,)),
        attachments=(on(name, "ingress", "cil_from_contai"),) if carried else (),
        sysctls=(Sysctl(name=f"net.ipv4.conf.{name}.rp_filter", value=value),),
    )


# --- nodes with more on them -------------------------------------------------------------------

RICH = CILIUM.plus(
    attachments=(on_xdp("eth0", "cil_xdp_entry"),),
    rules=(rule(77, input_link="eth0"),),
    neighbours=(
        Neighbour(link="eth0", address="10.0.0.1", mac="02:ff:00:00:00:01"),
        Neighbour(link="eth0", address="10.0.0.2", mac="02:ff:00:00:00:02"),
    ),
    sysctls=(Sysctl(name="net.ipv6.conf.eth0.forwarding", value="1"),),
)
"""A node with something of every kind on its network device."""
COMPOSE = CILIUM.plus(
    links=(
        link("docker0", "bridge", mac="02:42:00:00:00:01"),
        link("br-0a1b2c3d4e5f", "bridge", mac="02:42:00:00:00:02"),
        *(replace(x, master="br-0a1b2c3d4e5f") for x in pod_links(("veth0a1b2c3", "veth0a1b2c4"))),
    ),
    routes=(
        route("172.17.0.0/16", device="docker0", protocol=KERNEL),
        route("172.18.0.0/16", device="br-0a1b2c3d4e5f", protocol=KERNEL),
    ),
    sysctls=(
        Sysctl(name="net.ipv4.conf.br-0a1b2c3d4e5f.rp_filter", value="2"),
        Sysctl(name="net.ipv4.conf.veth0a1b2c3.rp_filter", value="2"),
    ),
)
WITHOUT_COMPOSE = COMPOSE.without_link("br-0a1b2c3d4e5f", "veth0a1b2c3", "veth0a1b2c4").mapped(
    "links", lambda x: replace(x, carrier=False) if x.name == "docker0" else x
)
WITH_VPN = CILIUM.plus(
    links=(link("tun0", "tun"),),
    routes=(route("10.9.0.0/24", device="tun0", protocol=BOOT),),
    sysctls=(Sysctl(name="net.ipv4.conf.tun0.rp_filter", value="2"),),
)
BRIDGED = FLANNEL.plus(links=(link("br0", "bridge"), replace(nic("eth1", 2), master="br0")))
"""A bridge of the node's own: it has a network device as port."""
VIRTUAL_MACHINES = FLANNEL.plus(
    links=(link("virbr0", "bridge"), link("vnet0", "tun", master="virbr0"))
)
ADVERTISED = CILIUM.plus(
    routes=(route("default", protocol=RA, gateway="fe80::1", family=INET6),),
)
CHAINED_AWS = AWS.plus(attachments=(on("eth0", "ingress", "cil_from_netdev"),))
CHAINED_FLANNEL = FLANNEL.plus(attachments=(on("eth0", "ingress", "cil_from_netdev"),))
ONLY_ON_PODS = CILIUM.less("attachments", "dev:eth0 *", "cgroup:*", "dev:cil*", "dev:lxc_h*")
ONLY_ON_NODE = with_lxc(CILIUM, LXC, carried=0)
UNCONFIGURED = replace(CILIUM, cni=replace(CILIUM.cni, configuration=None))
HALF = with_lxc(CILIUM, ("lxc01", "lxc02", "lxc03", "lxc04"), carried=2)
NETKIT_CNI = UNKNOWN_CNI.mapped("links", lambda x: replace(x, kind="netkit") if x.elsewhere else x)
DOTTED = UNKNOWN_CNI.plus(
    links=pod_links(("odd.1", "odd.2")),
    attachments=(on("odd.1", "ingress", "odd_pod"), on("odd.2", "ingress", "odd_pod")),
    sysctls=(
        Sysctl(name="net.ipv4.conf.odd/1.rp_filter", value="0"),
        Sysctl(name="net.ipv4.conf.odd/2.rp_filter", value="1"),
    ),
)
AWS_V6 = AWS.plus(
    routes=(route("fd00::1", device=ENI[0], protocol=BOOT, family=INET6),),
    rules=(rule(254, destination="fd00::1/128", family=INET6),),
)
AZURE = CILIUM.plus(links=(replace(nic("enP1s1", 1), bus="1-2-3", master="eth0"),))
"""The device that speeds eth0 up has its MAC, and is its port."""
BRANCHED = AWS.plus(
    links=(link("vlan.eth.1", "vlan"), *pod_links(("vlan0a1b2c3d4e5",), "set")),
    rules=(rule(101, input_link="vlan0a1b2c3d4e5"),),
)
"""A pod of AWS with a security group of its own."""
TWO_NODES = FLANNEL.less("routes", "10.244.3.0/24 *").less("neighbours", "* 10.244.3.0")
TWO_CALICO_NODES = CALICO.less("routes", "10.244.3.0/26 *")
NO_POLICY = AWS.less("attachments", "dev:eni*")
WATCHED = CILIUM.plus(
    attachments=(
        on("eth0", "ingress", "tg_tc_ingress"),
        on("eth0", "ingress", "falco_x"),
        on("eth0", "egress", "sd_fw_egress"),
        on("eth0", "egress", "bpftrace_probe"),
        on(LXC[0], "egress", "tg_tc_egress"),
        on(LXC[0], "egress", "bpftrace_pod"),
    )
)
WITH_PROXY = replace(
    CILIUM, cni=replace(CILIUM.cni, agents=(agent("cilium-agent"), agent("kube-proxy")))
)
ADDED = Amendments(
    add=(
        "role: dev:eth0|skb|ingress|cil_from_netdev",
        "link: lo",
        "link: eth0",
        "link: cilium_vxlan",
        "route: 10.0.0.0/24 dev eth0",
        "sysctl: net.ipv4.ip_forward = 1",
    )
)


def pinned(*lines: str) -> Amendments:
    return Amendments(pin=lines)


def ignored(*lines: str) -> Amendments:
    return Amendments(ignore=lines)


def added(*lines: str) -> Amendments:
    return Amendments(add=lines)


def same(learned: Node, *shows: Node, **more: object) -> Story:
    """Expect that this reboot is sound, without a word unless one is given."""
    return Story(learned=learned, shows=shows, outcome=SOUND, **more)  # type: ignore[arg-type]


def worse(learned: Node | None, shows: Node, *reasons: str, **more: object) -> Story:
    return Story(learned=learned, shows=(shows,), outcome=WORSE, reasons=reasons, **more)  # type: ignore[arg-type]


def unsure(learned: Node | None, shows: Node, *reasons: str, **more: object) -> Story:
    return Story(learned=learned, shows=(shows,), outcome=UNSURE, reasons=reasons, **more)  # type: ignore[arg-type]


HARMLESS: dict[str, Story] = {
    **{f"{name}: nothing changed": same(node, node) for name, node in ALL.items()},
    # --- mechanisms
    "tc becomes tcx, PROG_ATTACH becomes a link": same(
        CILIUM,
        CILIUM.via("tcx", "cgroup link"),
        notes=(
            "2 eBPF roles are attached by cgroup link, were by cgroup",
            "9 eBPF roles are attached by tcx, were by tc",
        ),
    ),
    "tc becomes netkit": same(
        CILIUM,
        CILIUM.via("netkit"),
        notes=("9 eBPF roles are attached by netkit, were by tc",),
    ),
    "Calico's tc becomes tcx": same(
        CALICO_EBPF,
        CALICO_EBPF.via("tcx"),
        notes=("5 eBPF roles are attached by tcx, were by tc",),
    ),
    "a program by tc and by tcx at once": same(
        CILIUM,
        CILIUM.plus(attachments=(on("eth0", "ingress", "cil_from_netdev", via="tcx"),)),
        notes=("1 eBPF roles are attached by tc+tcx, were by tc",),
    ),
    "XDP in the driver becomes generic": same(
        RICH,
        RICH.mapped(
            "attachments", lambda a: replace(a, via="xdp generic") if a.hook == "xdp" else a
        ),
        notes=("1 eBPF roles are attached by xdp generic, were by xdp",),
    ),
    "filter names of 1.12 become those of 1.14": same(cilium_1_12(CILIUM), CILIUM),
    "and the other way round": same(CILIUM, cilium_1_12(CILIUM)),
    "filter names of 1.14 carry their device": same(
        CILIUM,
        CILIUM.mapped(
            "attachments",
            lambda a: (
                replace(a, program=f"{a.program}-eth0")
                if a.program.startswith("cil_from_netdev")
                else a
            ),
        ),
    ),
    "filter names of 1.12 with another image": same(cilium_1_12(CILIUM), upgraded(CILIUM)),
    # --- the CNI was changed before the reboot
    "the CNI was upgraded and attaches one program less": same(
        CILIUM,
        upgraded(CILIUM).less("attachments", "dev:eth0 egress *"),
        notes=(
            "eBPF cil_to_netdev is missing at dev:eth0 egress (skb) (the CNI itself was changed)",
        ),
    ),
    "the upgraded CNI has other rules, neighbours and MACs, and routes by another protocol": same(
        FLANNEL.plus(rules=(rule(7),), attachments=(on("eth0", "ingress", "cil_from_netdev"),)),
        upgraded(FLANNEL)
        .plus(attachments=(on("eth0", "ingress", "cil_from_netdev"),))
        .less("neighbours", "*")
        .mapped("links", lambda x: replace(x, mac_origin="set") if x.mac_origin else x)
        .mapped("routes", lambda r: replace(r, protocol=80) if r.protocol == BOOT else r),
        notes=(
            (
                "MACs of pod interfaces veth* are set now, were random: "
                f"something else names or sets them {CHANGED}"
            ),
            f"no IPv4 route of protocol 3 is left, 2 before {CHANGED}",
            f"rule from all lookup 7 is gone {CHANGED}",
            f"no permanent neighbour of flannel.1 is left, 2 before {CHANGED}",
        ),
    ),
    "the socket load balancer was switched off": same(
        CILIUM,
        without_socket_lb(reconfigured(CILIUM)),
        notes=tuple(f"{words} {CHANGED}" for words in SOCKET_LB_GONE),
    ),
    **{
        f"at rest, the socket load balancer was switched off by ConfigMap, {name}": same(
            before,
            without_socket_lb(after),
            notes=tuple(f"{words} {CHANGED}" for words in SOCKET_LB_GONE),
            on_trial=False,
        )
        for name, before, after in (
            ("and the agent rolled out", in_pods(CILIUM, "u1"), in_pods(CILIUM, "u2")),
            (
                "and one of two agents rolled out",
                WITH_PROXY.with_agent(pod="u1"),
                WITH_PROXY.with_agent("kube-proxy", pod="u1").with_agent("cilium-agent", pod="u2"),
            ),
            (
                "and the agent's only pod of several is a new one",
                in_pods(CILIUM, "u1", "u2"),
                in_pods(CILIUM, "u3"),
            ),
        )
    },
    "pods carry another program of the upgraded CNI": same(
        CILIUM.plus(attachments=tuple(on(n, "egress", "cil_to_containe") for n in LXC)),
        upgraded(CILIUM),
        notes=(
            (
                "eBPF cil_to_container is on 0 of 3 pod interfaces lxc* egress, was on 3 of 3 "
                "(the CNI itself was changed)"
            ),
        ),
    ),
    "programs are all that routes for the pods of the upgraded CNI": same(
        CALICO_EBPF,
        upgraded(CALICO_EBPF).less("routes", "* dev cali*"),
        notes=(
            (
                "a route of IPv4 is on 0 of 2 pod interfaces cali*, was on 2 of 2 "
                "(the CNI itself was changed)"
            ),
        ),
    ),
    "the host shows no image now": same(CILIUM, CILIUM.with_agent(image="")),
    "the host shows an image now, and did not before": same(CILIUM.with_agent(image=""), CILIUM),
    "another CNI is configured, its agent is another one": same(
        replace(OVN, cni=replace(OVN.cni, agents=(agent("ovnkube"),))),
        replace(OVN, cni=replace(CILIUM.cni, agents=())),
        notes=("ovnkube does not run, it did before (another CNI is configured now)",),
    ),
    # --- pods
    "another CNI is configured, and the agent of the old one does not stay up": same(
        replace(OVN, cni=replace(OVN.cni, agents=(agent("ovnkube"),))),
        replace(OVN, cni=replace(CILIUM.cni, agents=(agent("ovnkube", age=20.0, restarts=4),))),
        notes=(
            (
                "ovnkube does not stay up, its container was restarted 4 times in this boot "
                "(another CNI is configured now)"
            ),
        ),
    ),
    "pods have other names, in another order": same(
        CILIUM, with_lxc(CILIUM, ("lxc0f3", "lxc0f1", "lxc0f2"))
    ),
    "the node is drained": same(CILIUM, with_lxc(CILIUM, ()), notes=(NO_LXC,), at=600),
    "the node is scaled down": same(CILIUM, with_lxc(CILIUM, LXC[:1])),
    "there are more pods": same(CILIUM, with_lxc(CILIUM, (*LXC, "lxc0f1", "lxc0f2"))),
    "a drained node of flannel has no bridge": same(
        FLANNEL,
        FLANNEL.without_link("cni0", *VETH),
        notes=(
            f"link cni0 (bridge) is gone or has no carrier {PASSING}",
            f"route 10.244.1.0/24 dev cni0 table 254 is gone {ITS_LINK}",
        ),
    ),
    "a drained node of flannel has a bridge without carrier": same(
        FLANNEL,
        FLANNEL.less("links", *VETH).mapped(
            "links", lambda x: replace(x, carrier=False) if x.name == "cni0" else x
        ),
        notes=(f"link cni0 (bridge) is gone or has no carrier {PASSING}",),
    ),
    "a drained node of AWS": same(
        AWS,
        AWS.without_link(*ENI).less("rules", "*10.0.0.1[0-2]/32*"),
        notes=("no pod interface eni* now, 3 before",),
        at=600,
    ),
    "a drained node of Calico, whose pods were promised routes alone": same(
        CALICO,
        CALICO.without_link(*CALI),
        notes=("no pod interface cali* now, 2 before",),
        at=600,
    ),
    "hooks that may be a pod's own": same(
        CILIUM.plus(
            attachments=tuple(
                Attachment(place=p, hook=h, direction="", program="cil_pods_own", via=h)
                for p, h in (("netns:self", "netfilter"), ("map:cil_socks", "sockmap"))
            )
        ),
        CILIUM,
    ),
    "no pod of AWS has a policy now": same(AWS, AWS.less("attachments", "dev:eni*")),
    "more pods of AWS have a policy now": same(
        AWS,
        AWS.plus(attachments=tuple(on(n, "ingress", "handle_egress") for n in ENI[1:])),
    ),
    "pods of AWS have other addresses": same(
        AWS,
        AWS.less("routes", "* dev eni*")
        .less("rules", "*10.0.0.1[0-2]/32*")
        .plus(routes=aws_routes(ENI, 40), rules=aws_rules(40, 41, 42)),
    ),
    "the CNI left a rule of a pod behind": same(
        AWS.plus(rules=aws_rules(99)), AWS.plus(rules=aws_rules(98))
    ),
    "pods of AWS are on the first device, and have one rule each": same(
        AWS, AWS.less("rules", "from 10.0.0.1?/32 *")
    ),
    "half of the pods had the program, and half have it": same(
        with_lxc(CILIUM, ("lxc01", "lxc02", "lxc03", "lxc04"), carried=2),
        with_lxc(CILIUM, ("lxc05", "lxc06"), carried=1),
    ),
    "no pod had the program": same(with_lxc(CILIUM, LXC, carried=0), CILIUM),
    "pods come slowly, each with its program a sample late": Story(
        learned=CILIUM,
        shows=(
            with_lxc(CILIUM, ()),
            with_new_pod(with_lxc(CILIUM, ()), "lxc01", carried=False, value="2"),
            with_new_pod(with_lxc(CILIUM, ("lxc01",)), "lxc02", carried=False, value="2"),
            with_lxc(CILIUM, ("lxc01", "lxc02")),
        ),
        outcome=SOUND,
        at=100,
    ),
    "a pod is being made in every sample": same(
        CILIUM,
        *(with_new_pod(CILIUM, f"lxc0f{n}", carried=False, value="2") for n in range(10)),
        at=100,
    ),
    "a pod of AWS is being made in every sample": same(
        AWS,
        *(AWS.plus(links=pod_links((f"eni0a1b2c3d4f{n}",), "set")) for n in range(10)),
        at=100,
    ),
    "a pod gets its route and its rule before its end is seen as old": same(
        AWS,
        *(
            AWS.plus(
                links=pod_links((f"eni0a1b2c3d4f{n}",), "random"),
                routes=aws_routes((f"eni0a1b2c3d4f{n}",), 50 + n),
                rules=aws_rules(50 + n),
                attachments=(on(f"eni0a1b2c3d4f{n}", "ingress", "handle_egress"),),
            )
            for n in range(10)
        ),
        at=100,
    ),
    "Cilium is there late": Story(
        learned=CILIUM,
        shows=(CILIUM_NEVER_STARTED,) * 4 + (CILIUM,),
        outcome=SOUND,
        at=570,
    ),
    "Cilium waited for the API server until shortly before the deadline": Story(
        learned=CILIUM,
        shows=(
            *(CILIUM_NEVER_STARTED.with_agent(restarts=6, age=0.0),) * 7,
            *(CILIUM.with_agent(restarts=6, age=20.0),) * 3,
            CILIUM.with_agent(restarts=6, age=140.0),
        ),
        outcome=SOUND,
        at=750,
    ),
    "a class of pods that nobody knew has its MACs set": same(
        with_lxc(CILIUM, ()), CILIUM.mapped("links", lambda x: replace(x, mac_origin="set"))
    ),
    "flannel does not mind who sets the pods' MACs": same(
        FLANNEL,
        FLANNEL.mapped("links", lambda x: replace(x, mac_origin="set") if x.mac_origin else x),
    ),
    "where a pod's MAC came from cannot be read": same(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, mac_origin="") if x.name == LXC[0] else x),
    ),
    "routes of a routing daemon lead to pods, and the node is drained": same(
        CALICO_EBPF.mapped(
            "routes", lambda r: replace(r, protocol=80) if r.link.startswith("cali") else r
        ),
        CALICO_EBPF.without_link(*CALI),
        notes=("no pod interface cali* now, 2 before",),
        at=600,
    ),
    "a prefix that came with the pods' links": same(
        CALICO.plus(routes=(route("fe80::/64", device=CALI[0], protocol=KERNEL, family=INET6),)),
        CALICO,
    ),
    "permanent neighbours of pods go with them": same(
        CILIUM.plus(
            neighbours=tuple(Neighbour(link=n, address="10.244.1.9", mac="0a") for n in LXC)
        ),
        with_lxc(CILIUM, ()),
        notes=(NO_LXC,),
        at=600,
    ),
    "pods of IPv6 have other addresses": same(
        AWS_V6,
        AWS_V6.less("routes", "fd00::1 dev *")
        .less("rules", "from  to fd00::1/128 *")
        .plus(
            routes=(route("fd00::2", device=ENI[0], protocol=BOOT, family=INET6),),
            rules=(rule(254, destination="fd00::2/128", family=INET6),),
        ),
    ),
    "the CNI has a rule for an address that is no pod's": same(
        AWS.plus(routes=(route("10.0.0.99/32"),), rules=aws_rules(99)),
        AWS.plus(routes=(route("10.0.0.99/32"),)),
    ),
    "the upgraded CNI of AWS has programs in place of rules": same(
        AWS,
        upgraded(AWS).less("rules", "*10.0.0.1[0-2]/32*"),
        notes=(
            (
                "a rule of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3 "
                "(the CNI itself was changed)"
            ),
        ),
    ),
    "settings of a pod whose name has a dot": same(
        DOTTED, DOTTED.with_sysctl("net.ipv4.conf.odd/1.rp_filter", "1")
    ),
    # --- links
    "the network device has another name and the same MAC": same(
        RICH,
        renamed(RICH, "eth0", "ens3").mapped(
            "links", lambda x: replace(x, bus="0000:07:00.0") if x.name == "ens3" else x
        ),
        notes=("link eth0 is now ens3",),
    ),
    "the network device has another name, no MAC of its own, and the same bus address": same(
        RICH.mapped("links", lambda x: replace(x, mac="", permanent_mac="")),
        renamed(RICH, "eth0", "ens3").mapped(
            "links", lambda x: replace(x, mac="", permanent_mac="")
        ),
        notes=("link eth0 is now ens3",),
    ),
    "another MAC is given to the device by hand": same(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, mac="02:aa:00:00:00:01") if x.bus else x),
    ),
    "the device itself was replaced under its name": same(
        CILIUM,
        CILIUM.mapped(
            "links", lambda x: replace(x, permanent_mac="02:aa:00:00:00:01") if x.bus else x
        ),
        notes=("MAC of eth0 is 02:aa:00:00:00:01, was 02:00:00:00:00:01",),
    ),
    "the MTU is higher": same(CILIUM, CILIUM.mapped("links", lambda x: replace(x, mtu=9000))),
    "the MTU is lower": same(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, mtu=1499) if x.name == "eth0" else x),
        notes=("MTU of eth0 is 1499, was 1500",),
    ),
    "the containers of compose are gone": same(
        COMPOSE,
        WITHOUT_COMPOSE,
        notes=(
            f"link br-0a1b2c3d4e5f (bridge) is gone or has no carrier {PASSING}",
            f"link docker0 (bridge) is gone or has no carrier {PASSING}",
            f"route 172.18.0.0/16 dev br-0a1b2c3d4e5f table 254 is gone {ITS_LINK}",
        ),
    ),
    "the containers of compose have come": same(
        WITHOUT_COMPOSE,
        COMPOSE,
        notes=(
            "new link br-0a1b2c3d4e5f (bridge)",
            "new link docker0 (bridge)",
            "new route 172.18.0.0/16 dev br-0a1b2c3d4e5f table 254",
        ),
    ),
    "the VPN is down": same(
        WITH_VPN,
        CILIUM,
        notes=(
            f"link tun0 (tun) is gone or has no carrier {PASSING}",
            f"route 10.9.0.0/24 dev tun0 table 254 is gone {ITS_LINK}",
        ),
    ),
    "the virtual machines are off": same(
        VIRTUAL_MACHINES,
        FLANNEL,
        notes=(
            f"link virbr0 (bridge) is gone or has no carrier {PASSING}",
            f"link vnet0 (tun) is gone or has no carrier {PASSING}",
        ),
    ),
    "Azure has taken away what speeds a device up": same(
        AZURE, CILIUM, notes=(f"link enP1s1 (device) is gone or has no carrier {PASSING}",)
    ),
    "a virtual machine with a device of its own is off": same(
        CILIUM.plus(links=(link("macvtap0", "macvtap"), link("ipvtap0", "ipvtap"))),
        CILIUM,
        notes=(
            f"link ipvtap0 (ipvtap) is gone or has no carrier {PASSING}",
            f"link macvtap0 (macvtap) is gone or has no carrier {PASSING}",
        ),
    ),
    "AWS has taken a further device away, and the kernel tells no bus addresses": same(
        AWS.mapped("links", lambda x: replace(x, bus="")),
        AWS.without_link("eth1"),
        notes=(
            f"link eth1 (device) is gone or has no carrier {PASSING}",
            f"route default via 10.0.0.1 dev eth1 table 2 is gone {ITS_LINK}",
        ),
    ),
    "AWS has taken a further device away, with a program on it": same(
        CHAINED_AWS.plus(attachments=(on("eth1", "ingress", "cil_from_netdev"),)),
        CHAINED_AWS.without_link("eth1"),
        notes=(
            f"eBPF cil_from_netdev is missing at dev:eth1 ingress (skb) {ITS_LINK}",
            f"link eth1 (device) is gone or has no carrier {PASSING}",
            f"route default via 10.0.0.1 dev eth1 table 2 is gone {ITS_LINK}",
        ),
    ),
    "a VPN leads elsewhere": same(
        WITH_VPN,
        WITH_VPN.less("routes", "10.9.*"),
        notes=(f"route 10.9.0.0/24 dev tun0 table 254 is gone {ITS_LINK}",),
    ),
    "AWS has taken a further device away": same(
        AWS,
        AWS.without_link("eth1"),
        notes=(
            f"link eth1 (device) is gone or has no carrier {PASSING}",
            f"route default via 10.0.0.1 dev eth1 table 2 is gone {ITS_LINK}",
        ),
    ),
    "a device that was down is gone": same(
        CILIUM.plus(links=(link("eth7", up=False), link("eth8", carrier=False))), CILIUM
    ),
    "Calico's start probes its kernel": same(
        CALICO_EBPF.plus(
            links=tuple(link(n, "veth") for n in ("testTcx", "testTcxb", "cali_nk_probe")),
            attachments=(on("testTcx", "ingress", "cali_tc_preambl"),),
        ),
        CALICO_EBPF,
    ),
    "a tunnel of a program is as the operator wants it, whatever its kind": same(
        CILIUM, WITH_VPN, amendments=added("link: tun0", "route: 10.9.0.0/24 dev tun0")
    ),
    "the MAC of what is made by software is nobody's": same(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, mac="0c:ff") if x.kind == "vxlan" else x),
    ),
    "the MAC of a device could not be read before": same(
        CILIUM.mapped("links", lambda x: replace(x, mac="", permanent_mac="")), CILIUM
    ),
    "the MAC of a device cannot be read now": same(
        CILIUM, CILIUM.mapped("links", lambda x: replace(x, mac="", permanent_mac=""))
    ),
    "a new device has the MAC of one that is there": same(
        CILIUM,
        CILIUM.plus(links=(replace(nic(), name="eth9", bus="0000:09:00.0"),)),
        notes=("new link eth9 (device)",),
    ),
    "a renamed device whose MAC could not be read before": same(
        CILIUM.mapped("links", lambda x: replace(x, mac="", permanent_mac="")),
        renamed(CILIUM, "eth0", "ens3"),
        notes=("link eth0 is now ens3",),
    ),
    "a renamed device whose MAC cannot be read now": same(
        CILIUM,
        renamed(CILIUM, "eth0", "ens3").mapped(
            "links", lambda x: replace(x, mac="", permanent_mac="") if x.bus else x
        ),
        notes=("link eth0 is now ens3",),
    ),
    "a renamed device that has no MAC burnt into it, and no bus address": same(
        CILIUM.mapped("links", lambda x: replace(x, permanent_mac="", bus="")),
        renamed(CILIUM, "eth0", "ens3").mapped(
            "links", lambda x: replace(x, permanent_mac="", bus="")
        ),
        notes=("link eth0 is now ens3",),
    ),
    "a further device of AWS had a network of its own": same(
        AWS.plus(routes=(route("10.0.9.0/24", device="eth1", protocol=KERNEL),)),
        AWS.without_link("eth1"),
        notes=(
            f"link eth1 (device) is gone or has no carrier {PASSING}",
            f"route 10.0.9.0/24 dev eth1 table 254 is gone {ITS_LINK}",
            f"route default via 10.0.0.1 dev eth1 table 2 is gone {ITS_LINK}",
        ),
    ),
    "Cilium is chained to AWS, and a further device is taken away": same(
        CHAINED_AWS,
        CHAINED_AWS.without_link("eth1"),
        notes=(
            f"link eth1 (device) is gone or has no carrier {PASSING}",
            f"route default via 10.0.0.1 dev eth1 table 2 is gone {ITS_LINK}",
        ),
    ),
    "Calico's start probes a node whose pods are told by their other end": same(
        UNKNOWN_CNI,
        UNKNOWN_CNI.plus(links=(link("cali_nk_probe", "veth", elsewhere=True),)),
    ),
    # --- routes, rules, neighbours
    "one of several other nodes has left": same(
        FLANNEL, FLANNEL.less("routes", "10.244.3.0/24 *").less("neighbours", "* 10.244.3.0")
    ),
    "one of several other nodes of Calico has left": same(
        CALICO, CALICO.less("routes", "10.244.3.0/26 *")
    ),
    "one of several other nodes of kube-router has left, with its tunnel": same(
        KUBE_ROUTER,
        KUBE_ROUTER.without_link("tun-1000006"),
        notes=(f"link tun-1000006 (ipip) is gone or has no carrier {PASSING}",),
    ),
    "another node has come": same(
        FLANNEL,
        FLANNEL.plus(
            routes=(
                route("10.244.4.0/24", device="flannel.1", protocol=BOOT, gateway="10.244.4.0"),
            ),
            neighbours=(Neighbour(link="flannel.1", address="10.244.4.0", mac="0f"),),
        ),
    ),
    "a block of the node's own addresses was given back": same(
        CALICO, CALICO.less("routes", "10.244.1.0/26 *")
    ),
    **{
        f"at rest, the only other node of {name} has left": same(
            node, shows, notes=notes, on_trial=False
        )
        for name, node, shows, notes in (
            (
                "flannel",
                TWO_NODES,
                TWO_NODES.less("routes", "10.244.2.0/24 *").less("neighbours", "*"),
                (
                    "no IPv4 route of protocol 3 is left, 1 before: the only other node is gone",
                    (
                        "no permanent neighbour of flannel.1 is left, 1 before: "
                        "the only other node is gone"
                    ),
                ),
            ),
            (
                "Calico",
                TWO_CALICO_NODES,
                TWO_CALICO_NODES.less("routes", "10.244.2.0/26 *"),
                ("no IPv4 route of protocol 12 is left, 1 before: the only other node is gone",),
            ),
        )
    },
    "another router of a routing daemon leads out": same(
        CALICO.plus(routes=(route("default", protocol=186, gateway="10.0.0.8", table=7),)),
        CALICO.plus(routes=(route("default", protocol=186, gateway="10.0.0.9", table=7),)),
    ),
    "a pod of AWS with a security group of its own is gone": same(
        BRANCHED, AWS, notes=(f"link vlan.eth.1 (vlan) is gone or has no carrier {PASSING}",)
    ),
    "a pod's own rule goes with it": same(
        UNKNOWN_CNI.plus(rules=(rule(101, input_link=ODD[0]),)), UNKNOWN_CNI
    ),
    "another router advertises itself": same(
        ADVERTISED,
        ADVERTISED.mapped(
            "routes", lambda r: replace(r, gateway="fe80::2") if r.protocol == RA else r
        ),
    ),
    "a router told to pass by, and does no longer": same(
        CILIUM.plus(routes=(route("10.3.0.1/32", protocol=1, gateway="10.0.0.2"),)), CILIUM
    ),
    "prefixes that come with each link": same(
        CILIUM.plus(
            routes=(
                route("fe80::/64", protocol=KERNEL, family=INET6),
                route("ff00::/8", protocol=KERNEL, family=INET6),
                route("10.0.0.255/32", protocol=KERNEL, kind="broadcast", table=7),
                route("10.0.0.7/32", protocol=KERNEL, kind="local", table=7),
                route("fd00::", protocol=KERNEL, kind="anycast", table=7, family=INET6),
                route("239.0.0.0/8", protocol=KERNEL, kind="multicast", table=7),
                route("10.0.0.8/32", protocol=STATIC, table=255),
            )
        ),
        CILIUM,
    ),
    "Cilium moved the first rule to 100": same(
        CILIUM,
        CILIUM.mapped("rules", lambda r: replace(r, priority=0) if r.table == 255 else r),
    ),
    # --- sysctls
    "settings of a link that is gone": same(
        CILIUM.plus(
            sysctls=(
                Sysctl(name="net.ipv4.conf.br-x.rp_filter", value="2"),
                Sysctl(name="net.ipv4.conf.br-x.forwarding", value="1"),
            )
        ),
        CILIUM,
    ),
    "a filter that no CNI needs off": same(
        CALICO,
        CALICO.with_sysctl("net.ipv4.conf.*.rp_filter", "2"),
        notes=(
            "sysctl net.ipv4.conf.cali*.rp_filter is 2, was 1",
            "sysctl net.ipv4.conf.eth0.rp_filter is 2, was 1",
        ),
    ),
    "the filter of all links is off, and flannel does not care": same(
        FLANNEL,
        FLANNEL.with_sysctl("net.ipv4.conf.all.rp_filter", "0"),
        notes=("sysctl net.ipv4.conf.all.rp_filter is 0, was 2",),
    ),
    "the filter of all links is on, and flannel does not care": same(
        FLANNEL.with_sysctl("net.ipv4.conf.all.rp_filter", "0"),
        FLANNEL,
        notes=("sysctl net.ipv4.conf.all.rp_filter is 2, was 0",),
    ),
    "Cilium's node is more open than before": same(
        CILIUM.with_sysctl("net.ipv4.conf.all.rp_filter", "1"),
        CILIUM,
        notes=("sysctl net.ipv4.conf.all.rp_filter is 0, was 1",),
    ),
    "forwarding was off, and is on": same(
        CILIUM.with_sysctl("net.ipv4.ip_forward", "0"),
        CILIUM,
        notes=("sysctl net.ipv4.ip_forward is 1, was 0",),
    ),
    "the filter of the node's own device": same(
        CILIUM,
        CILIUM.with_sysctl("net.ipv4.conf.eth0.rp_filter", "1"),
        notes=("sysctl net.ipv4.conf.eth0.rp_filter is 1, was 2",),
    ),
    "the filter was on for a device of Cilium": same(
        CILIUM.with_sysctl("net.ipv4.conf.cilium_host.rp_filter", "1"),
        CILIUM,
        notes=("sysctl net.ipv4.conf.cilium_host.rp_filter is 0, was 1",),
    ),
    "pods differed before, and some of it is left": same(
        CILIUM.with_sysctl(f"net.ipv4.conf.{LXC[0]}.rp_filter", "2"),
        CILIUM.with_sysctl("net.ipv4.conf.lxc0*.rp_filter", "2"),
    ),
    "pods differed, and now all have what none had": same(
        CALICO.with_sysctl(f"net.ipv4.conf.{CALI[0]}.rp_filter", "0"),
        CALICO.with_sysctl("net.ipv4.conf.cali*.rp_filter", "2"),
        notes=("sysctl net.ipv4.conf.cali*.rp_filter is 2, was 0 or 1",),
    ),
    "a setting that is 1, and is neither forwarding nor a bridge's": same(
        FLANNEL.with_sysctl("net.ipv4.conf.all.rp_filter", "1"),
        FLANNEL,
        notes=("sysctl net.ipv4.conf.all.rp_filter is 2, was 1",),
    ),
    "another setting of Cilium's devices": same(
        CILIUM.plus(sysctls=(Sysctl(name="net.ipv4.conf.cilium_host.accept_local", value="0"),)),
        CILIUM.plus(sysctls=(Sysctl(name="net.ipv4.conf.cilium_host.accept_local", value="1"),)),
        notes=("sysctl net.ipv4.conf.cilium_host.accept_local is 1, was 0",),
    ),
    "bridged packets are nothing to Cilium": same(
        CILIUM.plus(sysctls=(Sysctl(name="net.bridge.bridge-nf-call-iptables", value="1"),)),
        CILIUM.plus(sysctls=(Sysctl(name="net.bridge.bridge-nf-call-iptables", value="0"),)),
        notes=("sysctl net.bridge.bridge-nf-call-iptables is 0, was 1",),
    ),
    "bridged packets were not seen before": same(
        FLANNEL.with_sysctl("net.bridge.*", "0"),
        FLANNEL,
        notes=("sysctl net.bridge.bridge-nf-call-iptables is 1, was 0",),
    ),
    # --- other programs
    "programs of tools and of systemd come": same(
        CILIUM, WATCHED, notes=("new eBPF bpftrace_probe at dev:eth0 egress",)
    ),
    "programs of tools and of systemd go": same(
        WATCHED,
        CILIUM,
        notes=(
            "eBPF bpftrace_probe is missing at dev:eth0 egress (skb) (not the CNI's)",
            (
                "eBPF bpftrace_pod is on 0 of 3 pod interfaces lxc* egress, was on 1 of 3 "
                "(not the CNI's)"
            ),
        ),
    ),
    "an observability agent leaves a node whose CNI is known, and has no programs": same(
        CALICO.plus(
            attachments=(
                on("eth0", "ingress", "tcx_ingress_flo"),
                *(on(name, "egress", "tcx_egress_flow") for name in CALI),
            )
        ),
        CALICO,
        notes=(
            "eBPF tcx_ingress_flo is missing at dev:eth0 ingress (skb) (not the CNI's)",
            (
                "eBPF tcx_egress_flow is on 0 of 2 pod interfaces cali* egress, was on 2 of 2 "
                "(not the CNI's)"
            ),
        ),
    ),
    "somebody's programs come and go from sample to sample": Story(
        learned=CILIUM,
        shows=tuple(
            CILIUM.plus(attachments=(on("eth0", "egress", f"odd_{n % 2}"),)) for n in range(10)
        ),
        outcome=SOUND,
        at=60,
        notes=("new eBPF odd_1 at dev:eth0 egress",),
    ),
    "somebody's program on the node goes, where the CNI has its own on pods": same(
        ONLY_ON_PODS.plus(attachments=(on("eth0", "ingress", "bpftrace_probe"),)),
        ONLY_ON_PODS,
        notes=("eBPF bpftrace_probe is missing at dev:eth0 ingress (skb) (not the CNI's)",),
    ),
    "the same, and it is Cilium by its programs on pods alone": same(
        replace(ONLY_ON_PODS, cni=UNCONFIGURED.cni).plus(
            attachments=(on("eth0", "ingress", "bpftrace_probe"),)
        ),
        replace(ONLY_ON_PODS, cni=UNCONFIGURED.cni),
        notes=("eBPF bpftrace_probe is missing at dev:eth0 ingress (skb) (not the CNI's)",),
    ),
    "somebody's program on pods goes, where the CNI has its own on the node": same(
        ONLY_ON_NODE.plus(attachments=(on(LXC[0], "ingress", "bpftrace_pod"),)),
        ONLY_ON_NODE,
        notes=(
            (
                "eBPF bpftrace_pod is on 0 of 3 pod interfaces lxc* ingress, was on 1 of 3 "
                "(not the CNI's)"
            ),
        ),
    ),
    "the upgraded CNI has programs on pods alone": same(
        ONLY_ON_PODS.plus(attachments=(on("eth0", "ingress", "cil_from_netdev"),)),
        upgraded(ONLY_ON_PODS),
        notes=(
            (
                "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb) "
                "(the CNI itself was changed)"
            ),
        ),
    ),
    "the upgraded CNI has programs on the node alone": same(
        ONLY_ON_NODE.plus(attachments=(on("eth0", "egress", "cil_to_netdev"),)),
        upgraded(ONLY_ON_NODE).less("attachments", "dev:eth0 egress *"),
        notes=(
            "eBPF cil_to_netdev is missing at dev:eth0 egress (skb) (the CNI itself was changed)",
        ),
    ),
    # --- new things
    "new things are told": same(
        CILIUM,
        CILIUM.plus(
            links=(link("bond0", "bond"), nic("eth1", 2)),
            attachments=(
                on("eth1", "ingress", "cil_from_netdev"),
                on(LXC[0], "egress", "cil_to_containe"),
            ),
            routes=(route("10.7.0.0/16", gateway="10.0.0.9"),),
            rules=(rule(7, destination="10.7.0.0/16"),),
            sysctls=(Sysctl(name="net.ipv4.conf.eth1.rp_filter", value="1"),),
            neighbours=(Neighbour(link="eth1", address="10.7.0.1", mac="02"),),
        ),
        notes=(
            "new eBPF cil_from_netdev at dev:eth1 ingress",
            "new link bond0 (bond)",
            "new link eth1 (device)",
            "new route 10.7.0.0/16 via 10.0.0.9 dev eth0 table 254",
            "new rule from all to 10.7.0.0/16 lookup 7",
        ),
    ),
    # --- agents, services
    "another CNI is configured, and the agent of the old one still runs": same(
        OVN, replace(OVN, cni=replace(OVN.cni, configuration=CILIUM.cni.configuration))
    ),
    "an agent was started again twice": same(CILIUM, CILIUM.with_agent(restarts=2, age=30.0)),
    "an agent was started again often, and stays up": same(
        CILIUM, CILIUM.with_agent(restarts=9, age=120.0)
    ),
    "an agent has just been started": same(CILIUM, CILIUM.with_agent(restarts=0, age=1.0)),
    "one of two processes of an agent is young": same(
        CILIUM,
        replace(
            CILIUM,
            cni=replace(
                CILIUM.cni,
                agents=(
                    agent("cilium-agent", age=10.0, restarts=3),
                    agent("cilium-agent", age=500.0, restarts=3),
                ),
            ),
        ),
    ),
    "an agent once met a refusal, and runs": same(
        CILIUM,
        CILIUM.with_agent(restarts=2, refusals=("load program: invalid argument",)),
        notes=("cilium-agent once said: load program: invalid argument",),
    ),
    "an agent was refused three times and stays up without what it wanted": same(
        CILIUM,
        CILIUM.with_agent(restarts=3, age=500.0, refusals=("Verifier error",)),
        notes=("cilium-agent once said: Verifier error",),
    ),
    "an agent is there that was not": same(
        CILIUM,
        WITH_PROXY,
    ),
    "kubelet was started again": same(
        CILIUM,
        replace(
            CILIUM,
            units=(Unit(name="kubelet.service", state=UnitState.ACTIVE, restarts=9),),
            unit_refusals=("Verifier error",),
        ),
    ),
    "the operator's process runs": same(
        CILIUM, replace(CILIUM, processes=(Process(name="bird", count=1),))
    ),
    # --- the operator's word
    "what the operator ignores may go, of every kind": same(
        RICH,
        CILIUM_NEVER_STARTED.less("links", "eth0")
        .less("routes", "default *")
        .with_sysctl("net.ipv4.ip_forward", "0"),
        amendments=ignored(
            "role: *",
            "pods: *",
            "link: *",
            "pod macs: *",
            "route: *",
            "remote routes: *",
            "rule: *",
            "neighbours: *",
            "sysctl: net.ipv4.ip_forward",
        ),
        notes=(),
    ),
    "an ignored agent may go": same(
        WITH_PROXY,
        CILIUM,
        amendments=ignored("agent: kube-proxy"),
    ),
    "a line with a bracket names itself": same(
        CILIUM.plus(attachments=(on("eth0", "ingress", "cil_[x]"),)),
        CILIUM,
        amendments=ignored("role: dev:eth0|skb|ingress|cil_[x]"),
    ),
    "nothing new is told of what the operator ignores": same(
        CILIUM,
        CILIUM.plus(
            links=(nic("eth1", 2),),
            attachments=(on("eth1", "ingress", "cil_from_netdev"),),
            routes=(route("10.7.0.0/16"),),
            rules=(rule(7),),
        ),
        amendments=ignored("role: dev:eth1*", "link: eth1", "route: 10.7.*", "rule: *lookup 7"),
    ),
    "what the operator added is there": same(CILIUM, CILIUM, amendments=ADDED),
    "the operator's value is the right one": same(
        CILIUM.with_sysctl("net.ipv4.conf.eth0.rp_filter", "1"),
        CILIUM,
        amendments=added("sysctl: net.ipv4.conf.eth0.rp_filter = 2"),
    ),
    "a link was learned with more than its name": same(
        CILIUM,
        renamed(CILIUM, "eth0", "ens3"),
        amendments=added("link: eth0"),
        notes=("link eth0 is now ens3",),
    ),
    # --- renewed
    "a newer healthy sample has fewer promises": Story(
        learned=CILIUM.less("attachments", "dev:eth0 egress *"),
        earlier=CILIUM.plus(links=(nic("eth1", 2),)),
        shows=(CILIUM.less("attachments", "dev:eth0 egress *"),),
        outcome=SOUND,
    ),
    "a newer healthy sample has more pods": Story(
        learned=CILIUM,
        earlier=with_lxc(CILIUM, LXC[:1]),
        shows=(with_lxc(CILIUM, ()),),
        outcome=SOUND,
        notes=(NO_LXC,),
        at=600,
    ),
    "a newer healthy sample has another coverage": Story(
        learned=HALF,
        earlier=with_lxc(CILIUM, ("lxc01", "lxc02", "lxc03", "lxc04", "lxc05")),
        shows=(with_lxc(CILIUM, ("lxc05", "lxc06"), carried=1),),
        outcome=SOUND,
    ),
    # --- what nothing was promised of may be unreadable
    "neighbours that nobody promised cannot be read": same(
        CILIUM, replace(CILIUM, neighbours=Unknown("EPERM"))
    ),
    "settings that nobody promised cannot be read": same(
        replace(CILIUM, sysctls=()), replace(CILIUM, sysctls=Unknown("EPERM"))
    ),
    "agents that nobody promised cannot be listed": same(
        replace(CILIUM, cni=replace(CILIUM.cni, agents=())),
        replace(CILIUM, cni=replace(CILIUM.cni, agents=Unknown("EPERM"))),
    ),
    # --- the first boot
    "nothing was learned yet, and the node is worth learning from": Story(
        learned=None,
        shows=(CILIUM,),
        outcome=SOUND,
        notes=FIRST,
    ),
}


def each_sample(node: Node, *parts: str) -> tuple[Node, ...]:
    """Show in each sample one pod more, which has what `parts` say: all that others lack."""
    return tuple(
        node.plus(links=pod_links((name,), "set" if name.startswith("eni") else "random")).plus(
            **{part: _of_young(part, name, 60 + n) for part in parts}
        )
        for n in range(10)
        for name in (f"eni0a1b2c3d4f{n}" if node.cni == AWS.cni else f"lxc0f{n}",)
    )


def _of_young(part: str, name: str, number: int) -> tuple[object, ...]:
    made: dict[str, tuple[object, ...]] = {
        "attachments": (on(name, "ingress", "cil_from_contai"),),
        "routes": aws_routes((name,), number),
        "rules": aws_rules(number),
    }
    return made[part]


OPEN: dict[str, Story] = {
    "two nodes, the other one left": unsure(
        TWO_NODES,
        TWO_NODES.less("routes", "10.244.2.0/24 *").less("neighbours", "*"),
        f"no IPv4 route of protocol 3 is left, 1 before: {OTHER_NODE}",
        f"no permanent neighbour of flannel.1 is left, 1 before: {OTHER_NODE}",
    ),
    "two nodes of Calico, the other one left": unsure(
        TWO_CALICO_NODES,
        TWO_CALICO_NODES.less("routes", "10.244.2.0/26 *"),
        f"no IPv4 route of protocol 12 is left, 1 before: {OTHER_NODE}",
    ),
    "a pod is bare now and then": Story(
        learned=CILIUM,
        shows=(
            *(with_lxc(CILIUM, LXC, carried=2),) * 6,
            CILIUM,
            with_lxc(CILIUM, LXC, carried=2),
        ),
        outcome=UNSURE,
        reasons=(f"now and then: {BARE_LXC.format(2, 3)}",),
    ),
    "the only other node is gone from an upgraded CNI of AWS": unsure(
        AWS.plus(routes=(route("10.9.0.0/16", protocol=BIRD, gateway="10.0.0.9"),)),
        upgraded(AWS),
        f"no IPv4 route of protocol 12 is left, 1 before: {OTHER_NODE}",
    ),
    "the programs change from sample to sample": Story(
        learned=CILIUM,
        shows=tuple(
            CILIUM.plus(attachments=(on("eth0", "egress", f"cil_odd_{n % 2}"),)) for n in range(10)
        ),
        outcome=UNSURE,
        reasons=("the checks pass but did not stay the same long enough",),
        notes=("new eBPF cil_odd_1 at dev:eth0 egress",),
    ),
    **{
        f"{part} cannot be read": unsure(RICH, replace(RICH, **{part: Unknown("EPERM")}), *why)  # type: ignore[arg-type]
        for part, why in {
            "links": ("links: EPERM", "links: EPERM"),
            "attachments": ("eBPF attachments: EPERM", "eBPF attachments: EPERM"),
            "routes": ("routes: EPERM",),
            "rules": ("rules: EPERM",),
            "addresses": ("rules: addresses: EPERM",),
            "neighbours": ("neighbours: EPERM",),
            "sysctls": ("sysctls: EPERM",),
            "units": ("services: EPERM",),
            "processes": ("processes: EPERM",),
        }.items()
    },
    "AWS's routes cannot be read": unsure(
        AWS, replace(AWS, routes=Unknown("EPERM")), "routes: EPERM"
    ),
    "the agents cannot be listed": unsure(
        CILIUM,
        replace(CILIUM, cni=replace(CILIUM.cni, agents=Unknown("EPERM"))),
        "CNI agents: EPERM",
    ),
    "the modules cannot be listed, and nothing is said of them": Story(
        learned=CILIUM,
        shows=(replace(CILIUM, modules=Unknown("EPERM"), rules=Unknown("EPERM")),),
        outcome=UNSURE,
        reasons=("rules: EPERM",),
    ),
    **{
        f"nothing was learned yet, {name}": unsure(None, node, why)
        for name, node, why in (
            (
                "and there is no default route",
                CILIUM.less("routes", "default *"),
                "there is no default route through a link with carrier to learn from",
            ),
            (
                "and its link has no carrier",
                CILIUM.mapped("links", lambda x: replace(x, carrier=not x.bus)),
                "there is no default route through a link with carrier to learn from",
            ),
            *(
                (
                    f"and {part} cannot be read",
                    replace(CILIUM, **{part: Unknown("EPERM")}),  # type: ignore[arg-type]
                    f"network: {name}: EPERM",
                )
                for part, name in (
                    ("links", "links"),
                    ("routes", "routes"),
                    ("rules", "rules"),
                    ("attachments", "roles"),
                )
            ),
        )
    },
}

WORSE_STILL: dict[str, Story] = {
    # --- the CNI was changed
    "all programs of the CNI are gone, though it was upgraded": worse(
        UNKNOWN_CNI,
        reconfigured(UNKNOWN_CNI).less("attachments", "*"),
        "eBPF odd_in is missing at dev:eth0 ingress (skb)",
        "eBPF odd_gate is missing at dev:odd-gate ingress (skb)",
        "eBPF odd_pod is on 0 of 2 pod interfaces veth* ingress, was on 2 of 2",
    ),
    "all programs of the CNI are gone, though it was rolled out at rest": worse(
        UNKNOWN_CNI.with_agent(pod="u1"),
        UNKNOWN_CNI.with_agent(pod="u2").less("attachments", "*"),
        "eBPF odd_in is missing at dev:eth0 ingress (skb)",
        "eBPF odd_gate is missing at dev:odd-gate ingress (skb)",
        "eBPF odd_pod is on 0 of 2 pod interfaces veth* ingress, was on 2 of 2",
        on_trial=False,
    ),
    "on trial, the agent is in a new pod: a graceful shutdown makes one": worse(
        in_pods(CILIUM, "u1"), without_socket_lb(in_pods(CILIUM, "u2")), *SOCKET_LB_GONE
    ),
    "on trial, the agent is in the pod of before": worse(
        in_pods(CILIUM, "u1"), without_socket_lb(in_pods(CILIUM, "u1")), *SOCKET_LB_GONE
    ),
    **{
        f"at rest, programs are missing, and {name}": worse(
            before, without_socket_lb(after), *SOCKET_LB_GONE, on_trial=False
        )
        for name, before, after in (
            ("the agent is in the pod of before", in_pods(CILIUM, "u1"), in_pods(CILIUM, "u1")),
            (
                "one of the agent's pods is of before",
                in_pods(CILIUM, "u1", "u2"),
                in_pods(CILIUM, "u2", "u3"),
            ),
            ("the agent's pod was not known", CILIUM, in_pods(CILIUM, "u1")),
            ("the agent's pod is not known now", in_pods(CILIUM, "u1"), CILIUM),
            (
                "an agent changed places with another one's pod that is not known",
                WITH_PROXY.with_agent("cilium-agent", pod="u1"),
                WITH_PROXY.with_agent("kube-proxy", pod="u2"),
            ),
        )
    },
    "the upgraded CNI is refused on the pods alone": worse(
        CILIUM,
        upgraded(with_lxc(CILIUM, LXC, carried=0)),
        BARE_LXC.format(0, 3),
    ),
    "the upgraded CNI has its program on some of the pods": worse(
        CILIUM,
        upgraded(with_lxc(CILIUM, LXC, carried=2)),
        BARE_LXC.format(2, 3),
    ),
    "pods of the upgraded CNI carry somebody else's program": worse(
        CILIUM,
        upgraded(with_lxc(CILIUM, LXC, carried=0)).plus(
            attachments=(on(LXC[0], "ingress", "bpftrace_pod"),)
        ),
        BARE_LXC.format(0, 3),
    ),
    "pods of the upgraded CNI have neither routes nor programs": worse(
        CALICO,
        upgraded(CALICO).less("routes", "* dev cali*"),
        "a route of IPv4 is on 0 of 2 pod interfaces cali*, was on 2 of 2",
    ),
    "a pinned program is missing, though the CNI was upgraded": worse(
        CILIUM,
        upgraded(CILIUM).less("attachments", "dev:eth0 egress *"),
        "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
        amendments=pinned("role: dev:eth0|skb|*|cil_to_netdev"),
    ),
    "an added program is missing, though the CNI was upgraded": worse(
        CILIUM,
        upgraded(CILIUM),
        "eBPF cil_wanted is missing at dev:eth0 egress (skb)",
        amendments=added("role: dev:eth0|skb|egress|cil_wanted"),
    ),
    "a pinned program of somebody else is missing": worse(
        WATCHED,
        WATCHED.less("attachments", "dev:eth0 * bpftrace_probe"),
        "eBPF bpftrace_probe is missing at dev:eth0 egress (skb)",
        amendments=pinned("role: *bpftrace*"),
    ),
    "a pinned route of pods is missing, though the CNI was upgraded": worse(
        CALICO_EBPF,
        upgraded(CALICO_EBPF).less("routes", "* dev cali*"),
        "a route of IPv4 is on 0 of 2 pod interfaces cali*, was on 2 of 2",
        amendments=pinned("pod routes: cali* *"),
    ),
    "a pinned program of policies is on no pod of AWS": worse(
        AWS,
        NO_POLICY,
        "eBPF handle_egress is on 0 of 3 pod interfaces eni* ingress, was on 1 of 3",
        amendments=pinned("pods: eni*|skb|ingress|handle_egress"),
    ),
    "an agent is gone, and the CNI is the same": worse(
        WITH_PROXY, CILIUM, "kube-proxy does not run, it did before"
    ),
    "an agent is gone, and which CNI is configured cannot be read": worse(
        WITH_PROXY,
        replace(CILIUM, cni=replace(CILIUM.cni, configuration=Unknown("EPERM"))),
        "kube-proxy does not run, it did before",
    ),
    "a pinned agent is gone with its CNI": worse(
        replace(OVN, cni=replace(OVN.cni, agents=(agent("ovnkube"),))),
        replace(OVN, cni=replace(CILIUM.cni, agents=())),
        "ovnkube does not run, it did before",
        amendments=pinned("agent: ovnkube"),
    ),
    "an agent is gone that no configuration ever named": worse(
        replace(FLANNEL, cni=replace(FLANNEL.cni, configuration=None)),
        FLANNEL.with_agent("flanneld", age=0.0),
        "flanneld does not run, it did before",
    ),
    "the upgraded CNI has its programs on pods of another class": worse(
        CILIUM.plus(
            links=pod_links(("azv01",)), attachments=(on("azv01", "ingress", "cil_from_contai"),)
        ),
        upgraded(with_lxc(CILIUM, LXC, carried=0)).plus(
            links=pod_links(("azv01",)), attachments=(on("azv01", "ingress", "cil_from_contai"),)
        ),
        BARE_LXC.format(0, 3),
    ),
    **{
        f"a program is missing, and {words} is no upgrade": worse(
            learned,
            shows.less("attachments", "dev:eth0 egress *"),
            "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
        )
        for words, learned, shows in (
            ("an image that shows only now", CILIUM.with_agent(image=""), CILIUM),
            ("an image that shows no longer", CILIUM, CILIUM.with_agent(image="")),
            ("a configuration that shows only now", UNCONFIGURED, CILIUM),
            ("a configuration that shows no longer", CILIUM, UNCONFIGURED),
            ("another agent", CILIUM, WITH_PROXY),
        )
    },
    # --- places
    "the renamed device has no program": worse(
        CILIUM,
        renamed(CILIUM, "eth0", "ens3").less("attachments", "dev:ens3 ingress *"),
        "eBPF cil_from_netdev is missing at dev:ens3 ingress (skb)",
        notes=("link eth0 is now ens3",),
    ),
    "another device came in place of the old one": worse(
        CILIUM,
        renamed(CILIUM, "eth0", "ens3").mapped(
            "links", lambda x: replace(nic("ens3", 7)) if x.name == "ens3" else x
        ),
        *ETH0_GONE,
        notes=NEW_ENS3,
    ),
    "a device without MAC and bus address came in place of the old one": worse(
        CILIUM.mapped("links", lambda x: replace(x, mac="", permanent_mac="", bus="")),
        renamed(CILIUM, "eth0", "ens3").mapped(
            "links", lambda x: replace(x, mac="", permanent_mac="", bus="")
        ),
        *ETH0_GONE,
        notes=NEW_ENS3,
    ),
    "two devices could be the old one": worse(
        CILIUM,
        CILIUM.less("links", "eth0").plus(
            links=(
                replace(nic(), name="ens3", bus=""),
                replace(nic(), name="ens4", bus="0000:09:00.0"),
            )
        ),
        "link eth0 (device) is gone or has no carrier",
        notes=("new link ens3 (device)", "new link ens4 (device)"),
    ),
    "a bond has the MAC of the device that is gone": worse(
        CILIUM,
        CILIUM.less("links", "eth0").plus(links=(link("bond0", "bond", mac=nic().mac),)),
        "link eth0 (device) is gone or has no carrier",
        notes=("new link bond0 (bond)",),
    ),
    "a VLAN is gone, and a device has its MAC": worse(
        CILIUM.plus(links=(link("eth0.7", "vlan", mac="02:00:00:00:00:07"),)),
        CILIUM.plus(links=(nic("eth7", 7),)),
        "link eth0.7 (vlan) is gone or has no carrier",
        notes=("new link eth7 (device)",),
    ),
    "the device that is gone had the MAC of one that was there": worse(
        CILIUM.plus(links=(replace(nic(), name="eth9", bus="0000:09:00.0"),)),
        CILIUM,
        "link eth9 (device) is gone or has no carrier",
    ),
    "devices without MAC, at different bus addresses": worse(
        CILIUM.mapped("links", lambda x: replace(x, mac="", permanent_mac="")),
        renamed(CILIUM, "eth0", "ens3").mapped(
            "links",
            lambda x: replace(x, mac="", permanent_mac="", bus=x.bus and "0000:07:00.0"),
        ),
        *ETH0_GONE,
        notes=NEW_ENS3,
    ),
    "the renamed device forwards nothing": worse(
        RICH,
        renamed(RICH, "eth0", "ens3").with_sysctl("net.ipv6.conf.ens3.forwarding", "0"),
        "sysctl net.ipv6.conf.ens3.forwarding is 0, was 1",
        notes=("link eth0 is now ens3",),
    ),
    "a link without MTU is of another kind": worse(
        CILIUM.plus(links=(link("odd0", "can", mtu=0),)),
        CILIUM.plus(links=(link("odd0", "vcan", mtu=0),)),
        "link odd0 (can) is gone or has no carrier",
    ),
    "a tunnel whose other end is elsewhere is the node's": worse(
        CILIUM.plus(links=(link("wg0", "wireguard", elsewhere=True),)),
        CILIUM,
        "link wg0 (wireguard) is gone or has no carrier",
    ),
    "the device has no carrier": worse(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, carrier=not x.bus)),
        "link eth0 (device) is gone or has no carrier",
    ),
    "the device is down": worse(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, up=not x.bus)),
        "link eth0 (device) is gone or has no carrier",
    ),
    "the device is of another kind": worse(
        CILIUM,
        CILIUM.mapped("links", lambda x: replace(x, kind="dummy") if x.bus else x),
        "link eth0 (device) is gone or has no carrier",
    ),
    "a second device is gone": worse(
        CILIUM.plus(links=(nic("eth1", 2),)),
        CILIUM,
        "link eth1 (device) is gone or has no carrier",
    ),
    "the device of AWS is there, and its program is not": worse(
        CHAINED_AWS.plus(attachments=(on("eth1", "ingress", "cil_from_netdev"),)),
        CHAINED_AWS,
        "eBPF cil_from_netdev is missing at dev:eth1 ingress (skb)",
    ),
    "the bridge of pods is there, and its route is not": worse(
        FLANNEL,
        FLANNEL.less("routes", "10.244.1.0/24 *"),
        "route 10.244.1.0/24 dev cni0 table 254 is gone",
    ),
    "a device is gone that a bond had": worse(
        CILIUM.plus(links=(link("bond0", "bond"), replace(nic("eth1", 2), master="bond0"))),
        CILIUM.plus(links=(link("bond0", "bond"),)),
        "link eth1 (device) is gone or has no carrier",
    ),
    "a bridge of the node is gone": worse(
        BRIDGED,
        BRIDGED.less("links", "br0"),
        "link br0 (bridge) is gone or has no carrier",
    ),
    "the first device of AWS is gone": worse(
        AWS,
        AWS.less("links", "eth0"),
        "link eth0 (device) is gone or has no carrier",
    ),
    "a tunnel of AWS's node is gone": worse(
        AWS.plus(links=(link("wg0", "wireguard"),)),
        AWS,
        "link wg0 (wireguard) is gone or has no carrier",
    ),
    "a device is gone with its route, beside a bridge of pods": worse(
        FLANNEL.plus(links=(nic("eth1", 2),), routes=(route("10.1.0.0/16", device="eth1"),)),
        FLANNEL,
        "link eth1 (device) is gone or has no carrier",
        "route 10.1.0.0/16 dev eth1 table 254 is gone",
    ),
    "a pinned bridge of pods is gone": worse(
        FLANNEL,
        FLANNEL.without_link("cni0", *VETH),
        "link cni0 (bridge) is gone or has no carrier",
        "route 10.244.1.0/24 dev cni0 table 254 is gone",
        amendments=pinned("link: cni0", "route: 10.244.1.0/24*"),
    ),
    # --- programs
    **{
        f"a program is {where}": worse(
            RICH,
            RICH.less("attachments", "dev:eth0 ingress *").plus(attachments=(moved,)),
            "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)",
            notes=(f"new eBPF {moved.program} at {moved.place} {moved.direction}",),
        )
        for where, moved in {
            "on another device": on("lo", "ingress", "cil_from_netdev"),
            "in the other direction": on("eth0", "egress", "cil_from_netdev"),
            "at another hook": replace(on("eth0", "ingress", "cil_from_netdev"), hook="xdp"),
            "another one": on("eth0", "ingress", "cil_from_host"),
        }.items()
    },
    "the program at XDP is gone": worse(
        RICH,
        RICH.less("attachments", "* cil_xdp_entry"),
        "eBPF cil_xdp_entry is missing at dev:eth0  (xdp)",
    ),
    "a program of an unknown CNI is gone": worse(
        UNKNOWN_CNI,
        UNKNOWN_CNI.less("attachments", "dev:odd-gate *"),
        "eBPF odd_gate is missing at dev:odd-gate ingress (skb)",
    ),
    "a program of a CNI without configuration is gone": worse(
        replace(UNKNOWN_CNI, cni=replace(UNKNOWN_CNI.cni, configuration=None)),
        UNKNOWN_CNI.less("attachments", "dev:odd-gate *"),
        "eBPF odd_gate is missing at dev:odd-gate ingress (skb)",
    ),
    "a pod of an unknown CNI is bare": worse(
        UNKNOWN_CNI,
        UNKNOWN_CNI.less("attachments", f"dev:{ODD[0]} *"),
        "eBPF odd_pod is on 1 of 2 pod interfaces veth* ingress, was on 2 of 2",
    ),
    "a pod by netkit of an unknown CNI is bare": worse(
        NETKIT_CNI,
        NETKIT_CNI.less("attachments", f"dev:{ODD[0]} *"),
        "eBPF odd_pod is on 1 of 2 pod interfaces netkit* ingress, was on 2 of 2",
    ),
    "young pods do not make up for a bare one": Story(
        learned=CILIUM,
        shows=each_sample(with_lxc(CILIUM, LXC, carried=2), "attachments"),
        outcome=WORSE,
        reasons=(BARE_LXC.format(2, 3),),
    ),
    "young pods do not make up for a route": Story(
        learned=AWS,
        shows=each_sample(AWS.less("routes", f"* dev {ENI[0]} *"), "routes"),
        outcome=WORSE,
        reasons=(
            "a route of IPv4 is on 2 of 3 pod interfaces eni*, was on 3 of 3",
            "a rule of IPv4 is on 2 of 3 pod interfaces eni*, was on 3 of 3",
        ),
    ),
    "young pods do not make up for a rule": Story(
        learned=AWS,
        shows=each_sample(AWS.less("rules", "*10.0.0.10/32*"), "routes", "rules"),
        outcome=WORSE,
        reasons=("a rule of IPv4 is on 2 of 3 pod interfaces eni*, was on 3 of 3",),
    ),
    "fewer than half of the pods have the program that half had": worse(
        with_lxc(CILIUM, ("lxc01", "lxc02", "lxc03", "lxc04"), carried=2),
        with_lxc(CILIUM, ("lxc05", "lxc06", "lxc07"), carried=1),
        "eBPF cil_from_container is on 1 of 3 pod interfaces lxc* ingress, was on 2 of 4",
    ),
    "the health endpoint of Cilium is bare": worse(
        CILIUM,
        CILIUM.less("attachments", "dev:lxc_health *"),
        "eBPF cil_from_container is missing at dev:lxc_health ingress (skb)",
    ),
    "a pod that came between the reads is one pod": worse(
        CILIUM.less("links", LXC[0]),
        with_lxc(CILIUM, LXC, carried=2),
        "eBPF cil_from_container is on 2 of 3 pod interfaces lxc* ingress, was on 3 of 3",
    ),
    "the MACs of AWS's pods are random": worse(
        AWS,
        AWS.mapped("links", lambda x: replace(x, mac_origin="random") if x.kind else x),
        "MACs of pod interfaces eni* are random now, were set: something else names or sets them",
    ),
    "the MACs of some pods are set": worse(
        CILIUM.mapped(
            "links", lambda x: replace(x, mac_origin="stolen") if x.name == LXC[0] else x
        ),
        CILIUM.mapped(
            "links",
            lambda x: (
                replace(x, mac_origin={LXC[0]: "set", LXC[1]: "permanent"}[x.name])
                if x.name in LXC[:2]
                else x
            ),
        ),
        "MACs of pod interfaces lxc* are permanent and set now, were random and stolen: "
        "something else names or sets them",
    ),
    "the MACs of pods are set, and Cilium is chained to flannel": worse(
        CHAINED_FLANNEL,
        CHAINED_FLANNEL.mapped(
            "links", lambda x: replace(x, mac_origin="set") if x.mac_origin else x
        ),
        "MACs of pod interfaces veth* are set now, were random: something else names or sets them",
    ),
    # --- routes, rules, neighbours
    **{
        f"a route of the node is gone: {words}": worse(
            CILIUM.plus(routes=(gone,)), CILIUM, f"route {words} is gone"
        )
        for words, gone in {
            "10.1.0.0/16 via 10.0.0.9 dev eth0 table 254": route(
                "10.1.0.0/16", protocol=STATIC, gateway="10.0.0.9"
            ),
            "10.2.0.0/16 via 10.0.0.9 dev eth0 table 254": route(
                "10.2.0.0/16", protocol=0, gateway="10.0.0.9"
            ),
            "10.3.0.0/16 via 10.0.0.9 dev eth0 table 254": route(
                "10.3.0.0/16", protocol=16, gateway="10.0.0.9"
            ),
            "10.4.0.0/16 dev eth0 table 254": route("10.4.0.0/16", protocol=KERNEL),
            "10.5.0.0/16 dev eth0 table 254": route("10.5.0.0/16", protocol=BOOT),
            "fd00::/64 dev eth0 table 254 (IPv6)": route("fd00::/64", protocol=RA, family=INET6),
            "default dev eth0 table 7": route(
                "default", protocol=BIRD, gateway="10.0.0.9", table=7
            ),
            "default via 10.0.0.9 dev eth0 table 8": route(
                "default", protocol=BOOT, gateway="10.0.0.9", table=8
            ),
            "default via 10.0.0.9 dev eth0 table 9": route(
                "default", protocol=KERNEL, gateway="10.0.0.9", table=9
            ),
            "blackhole 10.6.0.0/16 table 254": route("10.6.0.0/16", device="", kind="blackhole"),
            "local 0.0.0.0/0 dev lo table 7": route(
                "0.0.0.0/0", device="lo", kind="local", table=7
            ),
        }.items()
    },
    "another gateway is not the gateway": worse(
        CILIUM,
        CILIUM.mapped(
            "routes",
            lambda r: replace(r, gateway="10.0.0.2") if r.destination == "default" else r,
        ),
        "route default via 10.0.0.1 dev eth0 table 254 is gone",
        notes=("new route default via 10.0.0.2 dev eth0 table 254",),
    ),
    "no router advertises itself": worse(
        ADVERTISED, CILIUM, "route default dev eth0 table 254 (IPv6) is gone"
    ),
    "a route through the VPN is pinned": worse(
        WITH_VPN,
        CILIUM,
        "route 10.9.0.0/24 dev tun0 table 254 is gone",
        amendments=pinned("route: 10.9.*"),
        notes=(f"link tun0 (tun) is gone or has no carrier {PASSING}",),
    ),
    "an added route is not there": worse(
        CILIUM,
        CILIUM,
        "route 10.77.0.0/16 via 10.0.0.9 dev eth0 table 254 is gone",
        amendments=added("route: 10.77.0.0/16 via 10.0.0.9 dev eth0"),
    ),
    "an added link is not there": worse(
        CILIUM,
        CILIUM,
        "link eth5 (device) is gone or has no carrier",
        amendments=added("link: eth5"),
    ),
    "the routes to other nodes are gone": worse(
        FLANNEL,
        FLANNEL.less("routes", "* dev flannel.1 *"),
        "no IPv4 route of protocol 3 is left, 2 before",
    ),
    "the routes to other nodes are gone, a block of the node's own is left": worse(
        CALICO,
        CALICO.less("routes", "10.244.[23].* proto 12"),
        "no IPv4 route of protocol 12 is left, 2 before",
    ),
    "the upgraded CNI has no route to other nodes, and no neighbour's link": worse(
        FLANNEL,
        upgraded(FLANNEL.without_link("flannel.1")),
        "link flannel.1 (vxlan) is gone or has no carrier",
        "no IPv4 route of protocol 3 is left, 2 before",
        "no permanent neighbour of flannel.1 is left, 2 before",
    ),
    "at rest, all routes to other nodes are gone": worse(
        FLANNEL,
        FLANNEL.less("routes", "* dev flannel.1 *"),
        "no IPv4 route of protocol 3 is left, 2 before",
        on_trial=False,
    ),
    "what the upgraded CNI does without is pinned": worse(
        CILIUM.plus(routes=(route("10.9.0.0/16", protocol=BIRD, gateway="10.0.0.9"),)),
        upgraded(CILIUM).less("rules", "*lookup 2004"),
        "no IPv4 route of protocol 12 is left, 1 before",
        "rule from all fwmark 0x200/0xf00 lookup 2004 is gone",
        amendments=pinned("rule: *", "remote routes: *"),
    ),
    "the routes of one of two families are gone": worse(
        CALICO.plus(
            routes=tuple(
                route(f"fd0{n}::/64", protocol=BIRD, family=INET6, gateway="fe80::1")
                for n in range(2)
            )
        ),
        CALICO,
        "no IPv6 route of protocol 12 is left, 2 before",
    ),
    "the routes of one of two protocols are gone": worse(
        KUBE_ROUTER.plus(routes=tuple(route(f"10.8{n}.0.0/24", protocol=BIRD) for n in range(2))),
        KUBE_ROUTER,
        "no IPv4 route of protocol 12 is left, 2 before",
    ),
    "the only other node is pinned": worse(
        TWO_NODES,
        TWO_NODES.less("routes", "10.244.2.0/24 *").less("neighbours", "*"),
        "no IPv4 route of protocol 3 is left, 1 before",
        "no permanent neighbour of flannel.1 is left, 1 before",
        amendments=pinned("remote routes: *", "neighbours: flannel.1"),
    ),
    "one pod has no route": worse(
        CALICO,
        CALICO.less("routes", f"* dev {CALI[0]} *"),
        "a route of IPv4 is on 1 of 2 pod interfaces cali*, was on 2 of 2",
    ),
    "pods have no IPv6": worse(
        CALICO.plus(
            routes=tuple(
                route(f"fd00::{n}/128", device=name, protocol=BOOT, family=INET6)
                for n, name in enumerate(CALI)
            )
        ),
        CALICO,
        "a route of IPv6 is on 0 of 2 pod interfaces cali*, was on 2 of 2",
    ),
    "one pod has no rule": worse(
        AWS,
        AWS.less("rules", "*10.0.0.10/32*"),
        "a rule of IPv4 is on 2 of 3 pod interfaces eni*, was on 3 of 3",
    ),
    "the permanent neighbours are gone": worse(
        FLANNEL,
        FLANNEL.less("neighbours", "*"),
        "no permanent neighbour of flannel.1 is left, 2 before",
    ),
    "the permanent neighbours of another link are there": worse(
        RICH,
        RICH.mapped("neighbours", lambda n: replace(n, link="cilium_host")),
        "no permanent neighbour of eth0 is left, 2 before",
    ),
    **{
        f"a rule is gone: {words}": worse(
            CILIUM.plus(rules=(gone,)), CILIUM, f"rule {words} is gone"
        )
        for words, gone in {
            "from all iif eth0 lookup 77": rule(77, input_link="eth0"),
            "from 10.5.0.0/16 lookup 77": rule(77, source="10.5.0.0/16"),
            "from all to 10.5.0.0/16 lookup 77": rule(77, destination="10.5.0.0/16"),
            "from 10.0.0.5/32 lookup 77": rule(77, source="10.0.0.5/32"),
            "from all fwmark 0x1/0xf lookup 77": rule(77, "0x1/0xf"),
            "from all lookup 254 (IPv6)": rule(254, family=INET6),
            "from all blackhole 0": rule(0, action="blackhole"),
        }.items()
    },
    # --- sysctls
    "packets are not forwarded": worse(
        CALICO,
        CALICO.with_sysctl("net.ipv4.ip_forward", "0"),
        "sysctl net.ipv4.ip_forward is 0, was 1",
    ),
    "packets of one family, or of one device, are not forwarded": worse(
        RICH,
        RICH.with_sysctl("net.ipv6.*", "0"),
        "sysctl net.ipv6.conf.all.forwarding is 0, was 1",
        "sysctl net.ipv6.conf.eth0.forwarding is 0, was 1",
    ),
    "bridged packets are not seen": worse(
        FLANNEL,
        FLANNEL.with_sysctl("net.bridge.*", "0"),
        "sysctl net.bridge.bridge-nf-call-iptables is 0, was 1",
    ),
    "there is no module that sees bridged packets": worse(
        KUBE_ROUTER,
        KUBE_ROUTER.less("sysctls", "net.bridge.*"),
        "sysctl net.bridge.bridge-nf-call-iptables is not there, was 1",
    ),
    "bridged packets are not seen, and Cilium is chained to flannel": worse(
        CHAINED_FLANNEL,
        CHAINED_FLANNEL.with_sysctl("net.bridge.*", "0"),
        "sysctl net.bridge.bridge-nf-call-iptables is 0, was 1",
    ),
    "the filter is on, and it is Cilium by its programs alone": worse(
        UNCONFIGURED,
        UNCONFIGURED.with_sysctl("net.ipv4.conf.all.rp_filter", "2"),
        "sysctl net.ipv4.conf.all.rp_filter is 2, was 0",
    ),
    "the filter is on for one of the pods": worse(
        CILIUM,
        CILIUM.with_sysctl(f"net.ipv4.conf.{LXC[0]}.rp_filter", "2"),
        "sysctl net.ipv4.conf.lxc*.rp_filter is 0 or 2, was 0",
    ),
    "a pinned setting has another value": worse(
        CILIUM,
        CILIUM.with_sysctl("net.ipv4.conf.eth0.rp_filter", "1"),
        "sysctl net.ipv4.conf.eth0.rp_filter is 1, was 2",
        amendments=pinned("sysctl: net.ipv4.conf.eth0.*"),
    ),
    "an added setting has another value": worse(
        CILIUM,
        CILIUM,
        "sysctl net.ipv4.conf.eth0.rp_filter is 2, was 1",
        amendments=added("sysctl: net.ipv4.conf.eth0.rp_filter = 1"),
    ),
    # --- services and agents
    "kubelet does not run": worse(
        CILIUM,
        replace(CILIUM, units=(Unit(name="kubelet.service", state=UnitState.FAILED, restarts=5),)),
        "kubelet.service is failed, restarted 5 times in this boot",
    ),
    "a service loops and was refused, that is proof": worse(
        CILIUM,
        replace(
            CILIUM,
            units=(Unit(name="flanneld.service", state=UnitState.ACTIVATING, restarts=3),),
            unit_refusals=("program x: load program: EINVAL",),
        ),
        "flanneld.service is activating, restarted 3 times in this boot",
        "the kernel refused it: program x: load program: EINVAL",
        at=60,
    ),
    "the operator's process does not run": worse(
        CILIUM,
        replace(CILIUM, processes=(Process(name="bird", count=0), Process(name="frr", count=1))),
        "no process bird runs",
    ),
    "an agent waits for the API server, and does without a feature: no proof": worse(
        CILIUM,
        CILIUM.with_agent(restarts=3, age=20.0, refusals=("failed to probe",)),
        "cilium-agent does not stay up, its container was restarted 3 times in this boot",
        "the kernel refused cilium-agent: failed to probe",
        at=750,
    ),
    "one of two processes of an agent was refused": worse(
        CILIUM,
        replace(
            CILIUM,
            cni=replace(
                CILIUM.cni,
                agents=(
                    agent("cilium-agent", age=50.0, restarts=1),
                    agent("cilium-agent", age=0.0, restarts=4, refusals=("Verifier error", "x")),
                ),
            ),
        ),
        "cilium-agent does not stay up, its container was restarted 4 times in this boot",
        "the kernel refused cilium-agent: Verifier error",
        "the kernel refused cilium-agent: x",
        at=60,
    ),
    "an agent has just been started for the fourth time": worse(
        CILIUM,
        CILIUM.with_agent(restarts=3, age=1.0),
        "cilium-agent does not stay up, its container was restarted 3 times in this boot",
        at=750,
    ),
    "one agent is refused, and another one says nothing decisive": worse(
        WITH_PROXY,
        WITH_PROXY.with_agent(
            "cilium-agent", restarts=3, age=0.0, refusals=("Verifier error",)
        ).with_agent("kube-proxy", restarts=3, age=0.0, refusals=("failed to probe",)),
        "cilium-agent does not run, it did before, "
        "its container was restarted 3 times in this boot",
        "the kernel refused cilium-agent: Verifier error",
        "kube-proxy does not run, it did before, its container was restarted 3 times in this boot",
        "the kernel refused kube-proxy: failed to probe",
        at=60,
    ),
    "one agent has just been started again, and another one does not run": worse(
        WITH_PROXY,
        WITH_PROXY.with_agent("cilium-agent", restarts=3, age=20.0).with_agent(
            "kube-proxy", age=0.0
        ),
        "cilium-agent does not stay up, its container was restarted 3 times in this boot",
        "kube-proxy does not run, it did before",
    ),
    "an agent is down and was refused, not often enough to prove it": worse(
        CILIUM,
        CILIUM.with_agent(restarts=2, age=0.0, refusals=("Verifier error",)),
        "cilium-agent does not run, it did before, "
        "its container was restarted 2 times in this boot",
        notes=("cilium-agent once said: Verifier error",),
    ),
    "k3s does not run, and its only node has nothing that outlives a drain": worse(
        replace(
            FLANNEL.without_link("flannel.1"),
            cni=replace(FLANNEL.cni, agents=(agent("k3s-server"),)),
        ),
        replace(
            FLANNEL.without_link("flannel.1", "cni0", *VETH), cni=replace(FLANNEL.cni, agents=())
        ),
        "k3s-server does not run, it did before",
        notes=(
            f"link cni0 (bridge) is gone or has no carrier {PASSING}",
            f"route 10.244.1.0/24 dev cni0 table 254 is gone {ITS_LINK}",
        ),
    ),
    "an agent is between two starts": worse(
        CILIUM,
        CILIUM.with_agent(restarts=None, age=0.0),
        "cilium-agent does not run, it did before",
    ),
    "an agent does not stay up for two minutes": worse(
        CILIUM,
        CILIUM.with_agent(restarts=3, age=119.0),
        "cilium-agent does not stay up, its container was restarted 3 times in this boot",
        at=750,
    ),
    "the first boot, and the CNI's agent does not stay up": worse(
        None,
        CILIUM_NEVER_STARTED.with_agent(age=0.0, restarts=5),
        "cilium-agent does not run, it did before, "
        "its container was restarted 5 times in this boot",
        notes=("0 eBPF roles, 2 links, 2 routes and 3 rules to learn from",),
    ),
    "the first boot, and kubelet does not run": worse(
        None,
        replace(
            CILIUM, units=(Unit(name="kubelet.service", state=UnitState.INACTIVE, restarts=0),)
        ),
        "kubelet.service is inactive, restarted 0 times in this boot",
        notes=FIRST,
    ),
    # --- renewed
    "a drained node keeps what its pods were promised": worse(
        with_lxc(CILIUM, ()),
        with_lxc(CILIUM, LXC, carried=0),
        BARE_LXC.format(0, 3),
        earlier=CILIUM,
    ),
    "a drained node of AWS keeps routes, rules and MACs of its pods": worse(
        AWS.without_link(*ENI).less("rules", "*10.0.0.1[0-2]/32*"),
        AWS.less("routes", "* dev eni*")
        .less("rules", "*10.0.0.1[0-2]/32*")
        .mapped("links", lambda x: replace(x, mac_origin="random") if x.kind else x),
        "MACs of pod interfaces eni* are random now, were set: something else names or sets them",
        "a route of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3",
        "a rule of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3",
        earlier=AWS,
    ),
    "a drained node keeps how many pods had the program": worse(
        with_lxc(CILIUM, ()),
        with_lxc(CILIUM, ("lxc05", "lxc06", "lxc07"), carried=1),
        "eBPF cil_from_container is on 1 of 3 pod interfaces lxc* ingress, was on 2 of 4",
        earlier=HALF,
    ),
    "a newer sample has another number of pods": worse(
        HALF,
        with_lxc(CILIUM, ("lxc05", "lxc06", "lxc07"), carried=1),
        "eBPF cil_from_container is on 1 of 3 pod interfaces lxc* ingress, was on 2 of 4",
        earlier=with_lxc(CILIUM, ("lxc01", "lxc02", "lxc03", "lxc04", "lxc05")),
    ),
    "what the operator pinned outlives a healthy sample without it": worse(
        CILIUM.less("attachments", "dev:eth0 egress *"),
        CILIUM.less("attachments", "dev:eth0 egress *"),
        "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
        earlier=CILIUM,
        amendments=pinned("role: dev:eth0|skb|egress|cil_to_netdev"),
    ),
    # --- words, and when they are said
    "what fails at the end was not known before": Story(
        learned=CILIUM,
        shows=(
            *(replace(CILIUM, rules=Unknown("EPERM")),) * 6,
            CILIUM.less("rules", "*lookup 2004"),
        ),
        outcome=WORSE,
        reasons=("rule from all fwmark 0x200/0xf00 lookup 2004 is gone",),
    ),
    "what cannot be read is no reason beside what fails": worse(
        CILIUM,
        replace(CILIUM.less("links", "cilium_net"), rules=Unknown("EPERM")),
        "link cilium_net (veth) is gone or has no carrier",
    ),
    "twelve things are gone": worse(
        CILIUM.plus(rules=tuple(rule(n) for n in range(300, 312))),
        CILIUM,
        *(f"rule from all lookup {n} is gone" for n in range(300, 312)),
    ),
    "a hundred things are gone, and twelve are told": worse(
        CILIUM.plus(rules=tuple(rule(n) for n in range(300, 400))),
        CILIUM,
        *(f"rule from all lookup {n} is gone" for n in range(300, 312)),
        "... and 88 more of the check «rules»",
    ),
    "what fails is told, and what cannot be read is not lost": worse(
        TWO_NODES.plus(routes=(route("10.1.0.0/16"),)),
        TWO_NODES.less("routes", "10.244.2.0/24 *"),
        "route 10.1.0.0/16 dev eth0 table 254 is gone",
        f"no IPv4 route of protocol 3 is left, 1 before: {OTHER_NODE}",
    ),
}


@pytest.mark.parametrize("story", HARMLESS.values(), ids=HARMLESS)
def test_a_healthy_reboot_is_no_alarm(story: Story) -> None:
    assert told(story) == expected(story)


@pytest.mark.parametrize("story", OPEN.values(), ids=OPEN)
def test_what_cannot_be_told_stays_open(story: Story) -> None:
    assert told(story) == expected(story)


@pytest.mark.parametrize("story", WORSE_STILL.values(), ids=WORSE_STILL)
def test_beside_each_false_alarm_lies_a_true_one(story: Story) -> None:
    assert told(story) == expected(story)
