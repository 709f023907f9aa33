"""The 19 incidents of ebpf.md, section 6: what the node would have shown, and what is said of it.

Incident 15 is a panic: no verdict is ever asked for, and the machine's answer stands at the end.
"""

from dataclasses import replace

import pytest

from tests.unit.core.nodes import (
    AWS,
    CALI,
    CALICO,
    CALICO_EBPF,
    CILIUM,
    CILIUM_NEVER_STARTED,
    FLANNEL,
    KUBE_ROUTER,
    LXC,
    Node,
    agent,
    cilium_1_12,
    with_lxc,
)
from tests.unit.core.samples import boot_set
from tests.unit.core.stories import SOUND, WORSE, Story, expected, told
from trialboot.core.actions import Reboot, Tell
from trialboot.core.facts import BootId, EntryId
from trialboot.core.machine import step
from trialboot.core.proof import Proof, Reach, proof_check
from trialboot.core.trial import Booted, Choice, Decision, Phase, Policy, Trial

TOO_LARGE = 'level=fatal msg="BPF program is too large. Processed 1000001 insn"'
SET_RETVAL = 'msg="detaching tracing program: bpf_set_retval#187: R1 is not a scalar"'
SENDMSG = "libbpf: prog 'calico_sendmsg_v46': BPF program load failed: Invalid argument"
MARK_V6 = 'ip6tables-restore v1.8.8: unknown option "--set-mark"'
MARK_REVISION = "Warning: Extension MARK revision 0 not supported, missing kernel module?"

_BARE = "eBPF cil_from_container is on 0 of 3 pod interfaces lxc* ingress, was on 3 of 3"


def looping(node: Node, name: str, *refusals: str, restarts: int = 5) -> Node:
    """Show an agent that its container runtime starts again and again."""
    return node.with_agent(name, age=20.0, restarts=restarts, refusals=refusals)


def loop_words(name: str, restarts: int = 5) -> str:
    return f"{name} does not stay up, its container was restarted {restarts} times in this boot"


def not_proven(node: Node, target: str, *pods: str) -> Node:
    """Show a node whose pods do not reach what they reached on the last sound boot."""
    reach = Reach(target=target, reached=False, why="timed out")
    return replace(node, proof=(proof_check(Proof(pods=pods, reaches=(reach,)), (target,)),))


_LXC_BARE = with_lxc(CILIUM, LXC, carried=0)
_NO_CILIUM = (
    "eBPF cil_sock4_connect is missing at cgroup:root inet4_connect (cgroup)",
    "eBPF cil_sock4_sendmsg is missing at cgroup:root udp4_sendmsg (cgroup)",
    "eBPF cil_from_host is missing at dev:cilium_host egress (skb)",
    "eBPF cil_to_host is missing at dev:cilium_host ingress (skb)",
    "eBPF cil_to_host is missing at dev:cilium_net ingress (skb)",
    "eBPF cil_to_overlay is missing at dev:cilium_vxlan egress (skb)",
    "eBPF cil_from_overlay is missing at dev:cilium_vxlan ingress (skb)",
    "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
    "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)",
    "eBPF cil_from_container is missing at dev:lxc_health ingress (skb)",
    "link cilium_host (veth) is gone or has no carrier",
    "link cilium_net (veth) is gone or has no carrier",
    "link cilium_vxlan (vxlan) is gone or has no carrier",
    "link lxc_health (veth) is gone or has no carrier",
    "route 10.244.1.5/32 dev cilium_host table 254 is gone",
    "no IPv4 route of protocol 2 is left, 3 before",
    "rule from all fwmark 0x200/0xf00 lookup 2004 is gone",
)
_CTLB = (
    "eBPF calico_connect_ is missing at cgroup:root inet4_connect (cgroup)",
    "eBPF calico_recvmsg_ is missing at cgroup:root udp4_recvmsg (cgroup)",
    "eBPF calico_sendmsg_ is missing at cgroup:root udp4_sendmsg (cgroup)",
)
_NO_BIRD = "no IPv4 route of protocol 12 is left, 2 before"
_REMOTE_FLANNEL = (
    "link flannel.1 (vxlan) is gone or has no carrier",
    "no IPv4 route of protocol 3 is left, 2 before",
    "no permanent neighbour of flannel.1 is left, 2 before",
)
_WITH_PROXY = replace(
    CILIUM, cni=replace(CILIUM.cni, agents=(agent("cilium-agent"), agent("kube-proxy")))
)
_BLACKHOLE_ONLY = CALICO.less("routes", "10.244.[23].* proto 12")

STORIES: dict[str, Story] = {
    # 1: cilium/cilium#25500, Ubuntu 5.15.0-72
    "1 program too large, the log says so: proof": Story(
        learned=cilium_1_12(CILIUM),
        shows=(looping(_LXC_BARE, "cilium-agent", TOO_LARGE),),
        outcome=WORSE,
        at=60,
        reasons=(
            loop_words("cilium-agent"),
            f"the kernel refused cilium-agent: {TOO_LARGE}",
            _BARE,
        ),
    ),
    "1 program too large, the host shows no log: at the deadline": Story(
        learned=CILIUM,
        shows=(_LXC_BARE.with_agent(restarts=None),),
        outcome=WORSE,
        reasons=(_BARE,),
    ),
    # 2: cilium/cilium#48016, kernel 7.2
    "2 the probe for bpf_set_retval is refused, nothing of Cilium is there": Story(
        learned=CILIUM,
        shows=(looping(CILIUM_NEVER_STARTED, "cilium-agent", SET_RETVAL, restarts=3),),
        outcome=WORSE,
        at=60,
        reasons=(
            loop_words("cilium-agent", 3),
            f"the kernel refused cilium-agent: {SET_RETVAL}",
            *_NO_CILIUM,
        ),
    ),
    # 3: cilium/cilium#44216, kernel 6.18.5
    "3 the verifier itself is broken, and the kernel's log shows it": Story(
        learned=CILIUM,
        shows=(
            replace(
                looping(CILIUM_NEVER_STARTED, "cilium-agent"),
                kernel_log=("usb 1-1: new device", "verifier bug: REG INVARIANTS VIOLATION (3)"),
            ),
        ),
        outcome=WORSE,
        reasons=(*_NO_CILIUM, loop_words("cilium-agent")),
        splats=("verifier bug: REG INVARIANTS VIOLATION (3)",),
    ),
    # 4: projectcalico/calico#11302, kernel 6.17.5
    "4 Calico's connect-time programs are refused": Story(
        learned=CALICO_EBPF,
        shows=(looping(CALICO_EBPF.less("attachments", "cgroup:root *"), "calico-node", SENDMSG),),
        outcome=WORSE,
        at=60,
        reasons=(
            loop_words("calico-node"),
            f"the kernel refused calico-node: {SENDMSG}",
            *_CTLB,
        ),
    ),
    "4 the same, and calico-node stays up without them": Story(
        learned=CALICO_EBPF,
        shows=(CALICO_EBPF.less("attachments", "cgroup:root *").with_agent(refusals=(SENDMSG,)),),
        outcome=WORSE,
        reasons=_CTLB,
        notes=(f"calico-node once said: {SENDMSG}",),
    ),
    # 5: Calico 3810dfb1c7, 6.8.0-1063-gcp
    "5 the program for the host's own interface is too large": Story(
        learned=CALICO_EBPF,
        shows=(CALICO_EBPF.less("attachments", "dev:eth0 ingress *"),),
        outcome=WORSE,
        reasons=("eBPF cali_tc_preamble is missing at dev:eth0 ingress (skb)",),
    ),
    # 6: rancher/rke2#7438, Ubuntu 5.15.0-127
    "6 xt_MARK has no IPv6: kube-proxy loops beside a whole datapath": Story(
        learned=_WITH_PROXY,
        shows=(looping(_WITH_PROXY, "kube-proxy", MARK_V6),),
        outcome=WORSE,
        at=60,
        reasons=(loop_words("kube-proxy"), f"the kernel refused kube-proxy: {MARK_V6}"),
    ),
    # 7: canonical/microk8s#4961, Ubuntu 6.8.0-56
    "7 the same bug again under Calico": Story(
        learned=CALICO,
        shows=(
            looping(looping(_BLACKHOLE_ONLY, "calico-node", MARK_REVISION), "kube-proxy", MARK_V6),
        ),
        outcome=WORSE,
        at=60,
        reasons=(
            loop_words("calico-node"),
            f"the kernel refused calico-node: {MARK_REVISION}",
            loop_words("kube-proxy"),
            f"the kernel refused kube-proxy: {MARK_V6}",
            _NO_BIRD,
        ),
    ),
    # 8: flannel-io/flannel#1502, raspi kernels without linux-modules-extra
    "8 the kernel has no vxlan: flannel.1 is not made": Story(
        learned=FLANNEL,
        shows=(
            replace(
                looping(FLANNEL.without_link("flannel.1"), "flanneld"),
                modules=("br_netfilter", "ip_tables"),
            ),
        ),
        outcome=WORSE,
        reasons=(*_REMOTE_FLANNEL, loop_words("flanneld")),
        missing=("vxlan",),
    ),
    "8 the same under k3s, where flannel has no process of its own": Story(
        learned=replace(FLANNEL, cni=replace(FLANNEL.cni, agents=())),
        shows=(replace(FLANNEL.without_link("flannel.1"), modules=("br_netfilter",)),),
        outcome=WORSE,
        reasons=_REMOTE_FLANNEL,
        missing=("vxlan", "ip_tables"),
    ),
    # 9: cilium/cilium#10645, systemd 245
    "9 the reverse path filter is on where pods are": Story(
        learned=CILIUM,
        shows=(
            CILIUM.with_sysctl("net.ipv4.conf.lxc0*.rp_filter", "2").with_sysctl(
                "net.ipv4.conf.cilium_host.rp_filter", "2"
            ),
        ),
        outcome=WORSE,
        reasons=(
            "sysctl net.ipv4.conf.cilium_host.rp_filter is 2, was 0",
            "sysctl net.ipv4.conf.lxc*.rp_filter is 2, was 0",
        ),
    ),
    "9 and where it is on for every link, which is the same": Story(
        learned=CILIUM,
        shows=(CILIUM.with_sysctl("net.ipv4.conf.all.rp_filter", "1"),),
        outcome=WORSE,
        reasons=("sysctl net.ipv4.conf.all.rp_filter is 1, was 0",),
    ),
    # 10: cilium/cilium#18706, networkd's ManageForeign*
    "10 networkd deletes Cilium's rules, and the local one that Cilium moved": Story(
        learned=CILIUM,
        shows=(CILIUM.less("rules", "*lookup 255", "*lookup 2004"),),
        outcome=WORSE,
        reasons=(
            "rule from all lookup 255 is gone",
            "rule from all fwmark 0x200/0xf00 lookup 2004 is gone",
        ),
    ),
    "10 networkd deletes Cilium's routes": Story(
        learned=CILIUM,
        shows=(CILIUM.less("routes", "10.244.* dev cilium_host *"),),
        outcome=WORSE,
        reasons=(
            "route 10.244.1.5/32 dev cilium_host table 254 is gone",
            "no IPv4 route of protocol 2 is left, 3 before",
        ),
    ),
    "10 networkd deletes the routes and rules of AWS's pods": Story(
        learned=AWS,
        shows=(AWS.less("routes", "* dev eni*").less("rules", "*10.0.0.1[0-2]/32*"),),
        outcome=WORSE,
        reasons=(
            "a route of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3",
            "a rule of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3",
        ),
    ),
    "10 networkd deletes the rules of AWS's pods alone": Story(
        learned=AWS,
        shows=(AWS.less("rules", "*10.0.0.1[0-2]/32*"),),
        outcome=WORSE,
        reasons=("a rule of IPv4 is on 0 of 3 pod interfaces eni*, was on 3 of 3",),
    ),
    "10 networkd deletes the rule of kube-router": Story(
        learned=KUBE_ROUTER,
        shows=(KUBE_ROUTER.less("rules", "*lookup 77"),),
        outcome=WORSE,
        reasons=("rule from 10.244.1.0/24 lookup 77 is gone",),
    ),
    # 11: flatcar/Flatcar#278, systemd's MACAddressPolicy=persistent
    "11 systemd gives the pods' host ends other MACs": Story(
        learned=CILIUM,
        shows=(
            CILIUM.mapped("links", lambda x: replace(x, mac_origin="set") if x.mac_origin else x),
        ),
        outcome=WORSE,
        reasons=(
            (
                "MACs of pod interfaces lxc* are set now, were random: "
                "something else names or sets them"
            ),
        ),
    ),
    # 12: flatcar/Flatcar#455, networkd takes cilium_vxlan
    "12 networkd takes cilium_vxlan, and Cilium does not start": Story(
        learned=CILIUM,
        shows=(CILIUM.without_link("cilium_vxlan").with_agent(age=0.0, restarts=1),),
        outcome=WORSE,
        reasons=(
            "eBPF cil_to_overlay is missing at dev:cilium_vxlan egress (skb)",
            "eBPF cil_from_overlay is missing at dev:cilium_vxlan ingress (skb)",
            "link cilium_vxlan (vxlan) is gone or has no carrier",
            (
                "cilium-agent does not run, it did before, "
                "its container was restarted 1 times in this boot"
            ),
        ),
    ),
    # 13: flatcar/Flatcar#626, xfrm in 5.10.94
    "13 IPsec is fatal to Cilium, in words that are no refusal we know": Story(
        learned=CILIUM,
        shows=(looping(CILIUM, "cilium-agent"),),
        outcome=WORSE,
        at=750,
        reasons=(loop_words("cilium-agent"),),
    ),
    # 14: cilium/cilium#18591 (5.16), #17647 (4.19.207), #14964 (5.10)
    "14 the program for the node's interface is too large": Story(
        learned=CILIUM,
        shows=(
            looping(CILIUM.less("attachments", "dev:eth0 * cil_*"), "cilium-agent", TOO_LARGE),
        ),
        outcome=WORSE,
        at=60,
        reasons=(
            loop_words("cilium-agent"),
            f"the kernel refused cilium-agent: {TOO_LARGE}",
            "eBPF cil_to_netdev is missing at dev:eth0 egress (skb)",
            "eBPF cil_from_netdev is missing at dev:eth0 ingress (skb)",
        ),
    ),
    # 16: k3s-io/k3s#2013. Everything is attached: the known blind spot of an inventory.
    "16 vxlan checksums are wrong: no inventory sees it": Story(
        learned=FLANNEL, shows=(FLANNEL,), outcome=SOUND
    ),
    "16 the active proof sees it": Story(
        learned=FLANNEL,
        shows=(not_proven(FLANNEL, "tcp://10.244.2.7:4240", "veth*", "veth*"),),
        outcome=WORSE,
        reasons=(
            (
                "tcp://10.244.2.7:4240 is not reached from 2 pods (veth*): timed out; "
                "it was on the last sound boot"
            ),
        ),
    ),
    # 17: projectcalico/calico#13960, Ubuntu 26.04
    "17 what pods send to other nodes is dropped: no inventory sees it": Story(
        learned=CALICO, shows=(CALICO,), outcome=SOUND
    ),
    "17 the active proof sees it": Story(
        learned=CALICO,
        shows=(not_proven(CALICO, "ping://10.244.3.1", "cali*"),),
        outcome=WORSE,
        reasons=(
            (
                "ping://10.244.3.1 is not reached from 1 pod (cali*): timed out; "
                "it was on the last sound boot"
            ),
        ),
    ),
    # 18: projectcalico/calico#13499, Fedora's modprobe
    "18 ip_tables is not loaded, Calico does not become ready": Story(
        learned=CALICO,
        shows=(
            replace(
                looping(_BLACKHOLE_ONLY, "calico-node"), modules=("ip_set", "xt_set", "xt_mark")
            ),
        ),
        outcome=WORSE,
        reasons=(_NO_BIRD, loop_words("calico-node")),
        missing=("ip_tables", "ip6_tables"),
    ),
    # 19: cilium/cilium#48778, Cilium 1.20.2 on a kernel without BTF
    "19 old pods have their programs, new ones get none": Story(
        learned=CILIUM,
        shows=(with_lxc(CILIUM, (*LXC, "lxc0f", "lxc0e"), carried=3),),
        outcome=WORSE,
        reasons=(
            "eBPF cil_from_container is on 3 of 5 pod interfaces lxc* ingress, was on 3 of 3",
        ),
    ),
    "19 after a reboot all pods are new": Story(
        learned=CILIUM,
        shows=(with_lxc(CILIUM, ("lxc0f", "lxc0e"), carried=0),),
        outcome=WORSE,
        reasons=(
            "eBPF cil_from_container is on 0 of 2 pod interfaces lxc* ingress, was on 3 of 3",
        ),
    ),
    "19 the same with Calico": Story(
        learned=CALICO_EBPF,
        shows=(CALICO_EBPF.less("attachments", f"dev:{CALI[0]} ingress *"),),
        outcome=WORSE,
        reasons=(
            "eBPF cali_tc_preamble is on 1 of 2 pod interfaces cali* ingress, was on 2 of 2",
        ),
    ),
}
SEEN_BY_THE_MACHINE = {15}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_each_incident_is_told_with_its_reasons(story: Story) -> None:
    assert told(story) == expected(story)


def test_no_incident_is_left_out() -> None:
    numbers = {int(name.split()[0]) for name in STORIES}
    assert numbers | SEEN_BY_THE_MACHINE == set(range(1, 20))


@pytest.mark.parametrize(
    "story", [s for s in STORIES.values() if s.outcome is WORSE], ids=lambda _: ""
)
def test_the_node_that_was_learned_from_is_sound_by_itself(story: Story) -> None:
    assert story.learned is not None
    healthy = Story(learned=story.learned, shows=(story.learned,), outcome=SOUND)
    assert told(healthy) == expected(healthy)


# --- 15: cilium/cilium#26756, 5.15.120 panics -------------------------------------------------


def choice(name: str) -> Choice:
    return Choice(boot_set=boot_set(name), entry=EntryId(name))


def back_after_a_panic() -> Decision:
    good, new = choice("good"), choice("new")
    waiting = Trial(
        phase=Phase.ARMED,
        boot=BootId("before"),
        running=good,
        known_good=good.boot_set,
        pinned=True,
        candidate=new,
    )
    event = Booted(
        at="2026-01-01T00:00:00Z", boot=BootId("after"), running=good, once_pending=False
    )
    return step(waiting, event, Policy(armed=True))


def test_a_kernel_that_panics_is_condemned_when_the_loader_comes_back_from_it() -> None:
    # The panic itself, with a real loader and kernel, is a story of tests/vm.
    decision = back_after_a_panic()
    assert decision.trial.phase is Phase.CONDEMNED
    assert decision.trial.story[-1].text == (
        "condemned: 6.1-new never came up: "
        "a panic, a hang, emergency mode or a power cut came before trialboot ran in it"
    )
    assert [c.release for c in decision.trial.condemned] == ["6.1-new"]
    assert not any(isinstance(action, Reboot) for action in decision.todo)
    assert any(isinstance(action, Tell) and action.wish.cordoned for action in decision.todo)
