"""What is known of the CNIs that clusters run, declared once, as data.

Nothing here is needed for a verdict: a CNI that is in no row is judged by what was learned alone.
A row makes names stable over versions, tells which agent to look at, and which settings that CNI
cannot live without. Sources: the CNIs' own code, as cited in each row.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """How the host's ends of pod interfaces are named, and the class that they are told by."""

    pattern: re.Pattern[str]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One CNI."""

    name: str
    plugins: tuple[str, ...]
    """`type` values of its CNI configuration (/etc/cni/net.d), by which it is recognised."""
    agents: tuple[str, ...] = ()
    """Processes without which it cannot work, as /proc/PID/comm has them (15 characters)."""
    containers: tuple[tuple[str, str], ...] = ()
    """Containers that those agents run in, each with its agent: all there is of a crash loop."""
    pods: tuple[Pods, ...] = ()
    node_devices: tuple[str, ...] = ()
    """Devices of its own that look like a pod's and are the node's."""
    temporary: re.Pattern[str] | None = None
    """Devices that it makes and removes again while it starts."""
    peers: re.Pattern[str] | None = None
    """Devices that it makes for each other node, or for a pod, and removes when that leaves."""
    prefixes: tuple[str, ...] = ()
    """How the names of its programs begin."""
    programs: tuple[str, ...] = ()
    """Full names of its programs; the kernel keeps 15 characters of each."""
    partial: bool = False
    """Only some pods carry its programs, such as those with a policy: coverage is not judged."""
    attaches_nics: bool = False
    """It attaches further network devices to the node while there are many pods, and detaches
    them."""
    sets_macs: bool = False
    """It holds the MAC of the host's end in the pod's static neighbour: nobody else may set it."""
    reverse_path_off: tuple[str, ...] = ()
    """Devices (fnmatch patterns) whose rp_filter must be 0: it routes pods asymmetrically."""
    sees_bridged: bool = False
    """Its pods hang on a bridge, and its rules must see what crosses it (br_netfilter)."""
    host_objects: tuple[str, ...] = ()
    """Where its compiled programs lie on the host (glob patterns)."""
    agent_objects: tuple[str, ...] = ()
    """The same below /proc/PID/root of its first agent."""


def _pods(pattern: str, name: str) -> Pods:
    return Pods(pattern=re.compile(pattern), name=name)


_VETH: Final = _pods(r"veth[0-9a-f]{8}", "veth*")

PROFILES: Final = (
    Profile(
        # cilium/cilium: pkg/datapath/loader/{loader,host,tc,tcx,netkit,xdp,paths}.go, pkg/socketlb
        name="cilium",
        plugins=("cilium-cni",),
        agents=("cilium-agent",),
        containers=(("cilium-agent", "cilium-agent"),),
        pods=(
            _pods(r"lxc[0-9a-f]+", "lxc*"),
            _pods(r"gke[0-9a-f]{11}", "gke*"),
            _pods(r"azv[0-9a-f]+", "azv*"),
        ),
        node_devices=("lxc_health",),
        prefixes=("cil_",),
        programs=(
            "cil_from_container", "cil_to_container", "cil_from_netdev", "cil_to_netdev",
            "cil_from_host", "cil_to_host", "cil_from_overlay", "cil_to_overlay",
            "cil_from_network", "cil_from_wireguard", "cil_to_wireguard", "cil_xdp_entry",
            "cil_lxc_policy", "cil_lxc_policy_egress", "cil_host_policy",
            "cil_sock4_connect", "cil_sock6_connect", "cil_sock4_sendmsg", "cil_sock6_sendmsg",
            "cil_sock4_recvmsg", "cil_sock6_recvmsg", "cil_sock4_getpeername",
            "cil_sock6_getpeername", "cil_sock4_post_bind", "cil_sock6_post_bind",
            "cil_sock4_pre_bind", "cil_sock6_pre_bind", "cil_sock_release",
        ),
        sets_macs=True,
        reverse_path_off=("lxc*", "cilium_*"),
        host_objects=("/var/run/cilium/state/*.o", "/var/run/cilium/state/templates/*/*.o"),
    ),
    Profile(
        # projectcalico/calico: felix/bpf/{tc,xdp,nat,bpfdefs}, felix/config/config_params.go
        name="calico",
        plugins=("calico",),
        agents=("calico-node",),
        containers=(("calico-node", "calico-node"),),
        pods=(_pods(r"cali[0-9a-z]+", "cali*"),),
        temporary=re.compile(r"testTcxb?|cali_nk_probe"),
        prefixes=("cali_", "calico_"),
        programs=(
            "cali_tc_preamble", "cali_xdp_preamble", "calico_connect_v4", "calico_connect_v46",
            "calico_connect_v6", "calico_sendmsg_v4", "calico_sendmsg_v46", "calico_sendmsg_v6",
            "calico_recvmsg_v4", "calico_recvmsg_v46", "calico_recvmsg_v6",
        ),
        agent_objects=("/usr/lib/calico/bpf/*.o",),
    ),
    Profile(
        # flannel-io/flannel: pkg/backend/vxlan; k3s and k0s run it inside their own process
        name="flannel",
        plugins=("flannel",),
        agents=("flanneld",),
        containers=(("kube-flannel", "flanneld"),),
        pods=(_VETH,),
        sees_bridged=True,
    ),
    Profile(
        # aws/amazon-vpc-cni-k8s, aws/aws-ebpf-sdk-go: pkg/tc/tc.go
        name="aws",
        plugins=("aws-cni",),
        agents=("aws-k8s-agent",),
        containers=(("aws-node", "aws-k8s-agent"),),
        pods=(_pods(r"eni[0-9a-f]{11}", "eni*"),),
        prefixes=("handle_ingress", "handle_egress"),
        programs=("handle_ingress", "handle_egress"),
        partial=True,
        peers=re.compile(r"vlan\.eth\.\d+"),  # of a pod with a security group of its own
        attaches_nics=True,
        sets_macs=True,
    ),
    Profile(
        # cloudnativelabs/kube-router: pkg/controllers/routing
        name="kube-router",
        plugins=("bridge",),
        agents=("kube-router",),
        containers=(("kube-router", "kube-router"),),
        pods=(_VETH,),
        peers=re.compile(r"tun-[0-9a-z]{1,11}"),
        sees_bridged=True,
    ),
    Profile(
        # ovn-org/ovn-kubernetes: go-controller/pkg/cni; the host's end is named by the sandbox
        name="ovn-kubernetes",
        plugins=("ovn-k8s-cni-overlay",),
        agents=("ovnkube", "ovn-controller", "ovs-vswitchd"),
        containers=(
            ("ovnkube-controller", "ovnkube"), ("ovnkube-node", "ovnkube"),
            ("ovn-controller", "ovn-controller"), ("ovs-daemons", "ovs-vswitchd"),
        ),
        pods=(_pods(r"[0-9a-f]{15}", "sandbox*"),),
    ),
)  # fmt: skip

SERVICE_PROXIES: Final = ("kube-proxy",)
"""Agents that no profile has: they make Services reachable beside most CNIs."""
HOLDERS: Final = ("kubelite", "k3s-server", "k3s-agent")
"""Processes that hold a CNI's agent inside them."""
KUBELETS: Final = ("kubelet", "kubelite", "k3s-server", "k3s-agent")
"""Without one there are no pods; those of k3s and microk8s hold flannel and kube-proxy, too."""

DEFAULT_PODS: Final = tuple(pods for profile in PROFILES for pods in profile.pods)
"""All classes of pod interface: names tell them apart, whichever CNI runs."""
TEMPORARY: Final = tuple(p.temporary for p in PROFILES if p.temporary)
PEERS: Final = tuple(p.peers for p in PROFILES if p.peers)
NODE_DEVICES: Final = frozenset(name for p in PROFILES for name in p.node_devices)
PROGRAMS: Final = tuple(name for p in PROFILES for name in p.programs)
AGENTS: Final = tuple(
    dict.fromkeys((*(a for p in PROFILES for a in p.agents), *SERVICE_PROXIES, *KUBELETS))
)
"""Process names of all agents (comm)."""
AGENT_OF: Final = dict(
    (c for p in PROFILES for c in p.containers), **{p: p for p in SERVICE_PROXIES}
)
"""The agent that runs in a container of this name."""

NAMESPACES: Final = re.compile(
    r"kube-[-a-z0-9]+|(?:cilium|calico|tigera|openshift|ovn|flannel)(?:-[-a-z0-9]+)?"
)
"""Namespaces that an agent's pod may be in.

A tenant may call a container, and a process in it, as it likes; its crash loop is no agent's.
"""

_TOOLS: Final = ("tg_", "falco", "pwru", "hubble")
"""How programs of tools begin that watch a node and carry nothing of its network."""

REFUSAL: Final = re.compile(
    r"BPF program is too large|BPF program load failed|Verifier error|load program:"
    r"|failed to probe|Argument list too long"
    r"|unknown option \"--set-mark\"|Extension MARK revision \d+ not supported"
    r"|missing kernel module|is not a scalar|bpf_set_retval"
)
"""What CNIs and their agents write when the kernel refused what they asked (ebpf.md, rule 6)."""
DECISIVE: Final = re.compile(
    r"BPF program is too large|BPF program load failed|Verifier error|program \S+: load program:"
    r"|unknown option \"--set-mark\"|Extension MARK revision \d+ not supported|is not a scalar"
)
"""Those of them that no agent writes of a feature that it can do without, and goes on."""
SPLAT: Final = re.compile(
    r"verifier bug|REG INVARIANTS VIOLATION|BPF program is too large|BUG: .*bpf|WARNING: .*bpf"
)
"""What a kernel writes to its own log when its eBPF verifier or runtime is broken."""


def pod_class(link: str) -> str | None:
    """Name the class of pod interface that a link's name shows; None for a node's own link.

    `lxc_health` is Cilium's own endpoint and a node device.
    """
    if link in NODE_DEVICES or is_temporary(link):
        return None
    return next((pods.name for pods in DEFAULT_PODS if pods.pattern.fullmatch(link)), None)


def is_temporary(link: str) -> bool:
    """Tell a device that a CNI's start-up probes make and remove again."""
    return any(pattern.fullmatch(link) for pattern in TEMPORARY)


def is_for_a_peer(link: str) -> bool:
    """Tell a device that is for one other node, or one pod, alone."""
    return any(pattern.fullmatch(link) for pattern in PEERS)


def owner_of(program: str) -> str:
    """Name who attaches a program of this name: a profile, `systemd`, `tools` or `other`."""
    if program.startswith("sd_"):
        return "systemd"
    if program.startswith(_TOOLS):
        return "tools"
    for profile in PROFILES:
        if program.startswith(profile.prefixes):
            return profile.name
    return "other"


def profile_of(plugins: tuple[str, ...]) -> Profile | None:
    """Give the profile of a CNI configuration's plugin types; None for a CNI in no row."""
    for profile in PROFILES:
        if set(profile.plugins) & set(plugins):
            return profile
    return None
