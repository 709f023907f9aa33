"""Which loaded modules carry this node's network, and why: the ones no boot may miss.

Names are those that CNIs, kube-proxy and their tools use (Cilium's system requirements, the
Kubernetes documents of kube-proxy's modes, `modprobe` calls of k3s and Calico).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from trialboot.core.facts import Interface, Module

_NETWORK: Final = re.compile(
    r"bridge|br_netfilter|overlay|vxlan|geneve|ipip|sit|ip6_tunnel|tunnel4|ip_gre|gre|wireguard"
    r"|veth|dummy|macvlan|macvtap|ipvlan|ipvtap|vrf|tun|tap|bonding|team|8021q|netkit"
    r"|ip_vs\w*|nf_\w+|nft_\w+|nfnetlink\w*|ip6?_tables|ip6?table_\w+|ip6?t_\w+|arp_?tables|xt_\w+|x_tables"
    r"|ebtables?\w*|ebt_\w+|ip_set\w*|cls_\w+|act_\w+|sch_\w+|esp[46]\w*|xfrm_\w+|af_packet\w*"
    r"|openvswitch|vport_\w+|udp_tunnel|ip6_udp_tunnel|sctp"
)
# Modules that became part of another one: no file, no alias and no line in modules.builtin tells.
# Linux commits 023223dfbfb3 (nft_counter), d037abc2414b (nft_objref), c42ba4290b21 (flow tables).
MERGED: Final[Mapping[str, str]] = {
    "nft_counter": "nf_tables",
    "nft_objref": "nf_tables",
    "nf_tables_set": "nf_tables",
    "nf_log_common": "nf_log_syslog",
    "nf_log_ipv4": "nf_log_syslog",
    "nf_log_ipv6": "nf_log_syslog",
    "nf_log_netdev": "nf_log_syslog",
    "nf_log_bridge": "nf_log_syslog",
    "nf_flow_table_ipv4": "nf_flow_table_inet",
    "nf_flow_table_ipv6": "nf_flow_table_inet",
}
# What ETHTOOL_GDRVINFO calls a kind of interface, where its module has another name.
_KINDS: Final[Mapping[str, str]] = {
    "802.1Q VLAN Support": "8021q",
    "gre": "ip_gre",
    "gretap": "ip_gre",
    "erspan": "ip_gre",
    "ip6gre": "ip6_gre",
    "ip6tnl": "ip6_tunnel",
    "vti": "ip_vti",
    "vti6": "ip6_vti",
    "xfrm": "xfrm_interface",
}
# Somebody loaded it on purpose and no count tells that it is used.
_ALWAYS: Final = frozenset({"br_netfilter"})


def carriers(
    loaded: Iterable[Module], interfaces: Iterable[Interface]
) -> Mapping[str, tuple[str, bool]]:
    """Name the loaded modules that the network hangs on.

    Gives name -> (why, whether it is the CNI's or the default route's). The driver of a device
    without default route is told, and is not what this node's network needs.
    """
    found: dict[str, tuple[str, bool]] = {}
    names = {module.name for module in loaded}
    for interface in sorted(interfaces, key=lambda i: (not i.default_route, i.name)):
        driver = _KINDS.get(interface.driver, interface.driver)
        if driver in names and driver not in found:
            found[driver] = _drives(interface)
    for module in loaded:
        used = module.references > 0 or module.name in _ALWAYS
        if used and module.name not in found and _NETWORK.fullmatch(module.name):
            found[module.name] = ("in use by the network", True)
    return found


def is_of_networks(module: str) -> bool:
    """Tell a module that networks are made with: by a CNI, kube-proxy or their tools."""
    return _NETWORK.fullmatch(module) is not None


def _drives(interface: Interface) -> tuple[str, bool]:
    if interface.default_route:
        return f"drives {interface.name}, which the default route needs", True
    return f"drives {interface.name}", not interface.bus
