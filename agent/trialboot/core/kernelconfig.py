"""Which options of a kernel's configuration a CNI needs, and what a configuration says of them."""

import re
from typing import Final

# Cilium's system requirements (https://docs.cilium.io, Operations, System Requirements), and what
# kube-proxy and the other CNIs use besides: ip_set, ip_vs, xt_*, nf_tables, overlay networks and
# their encryption. The last line is what decides whether a module or a BTF-built program loads.
CNI_OPTIONS: Final[tuple[str, ...]] = (
    *("BPF", "BPF_SYSCALL", "BPF_JIT", "NET_CLS_BPF", "NET_CLS_ACT", "NET_SCH_INGRESS"),
    *("CGROUP_BPF", "PERF_EVENTS", "VXLAN", "GENEVE", "FIB_RULES", "NET_SCH_FQ", "NETKIT"),
    *("NETFILTER_XT_SET", "IP_SET", "IP_SET_HASH_IP", "NETFILTER_XT_MATCH_COMMENT"),
    *("NETFILTER_XT_MATCH_MARK", "NETFILTER_XT_MATCH_SOCKET", "NETFILTER_XT_TARGET_TPROXY"),
    *("NETFILTER_XT_TARGET_MARK", "NETFILTER_XT_TARGET_CT", "IP_VS", "IP_VS_RR", "NF_TABLES"),
    *("NFT_COMPAT", "BRIDGE_NETFILTER", "WIREGUARD", "NET_IPIP", "IPVLAN", "MACVLAN"),
    *("XDP_SOCKETS", "INET_ESP", "XFRM_USER", "CRYPTO_GCM", "OVERLAY_FS", "CGROUPS", "MEMCG"),
    *("UNPRIVILEGED_USERNS_CLONE", "MODULE_SIG", "MODULE_SIG_FORCE", "MODVERSIONS"),
    "DEBUG_INFO_BTF",
)
"""Names of the options, without `CONFIG_`."""

_LINE: Final = re.compile(
    r"^(?:CONFIG_(\w{1,64})=(.{0,256})|# CONFIG_(\w{1,64}) is not set)\s*$",
    re.ASCII | re.MULTILINE,
)


def parse_options(text: str) -> dict[str, str]:
    """Give those of `CNI_OPTIONS` that a configuration names: `y`, `m`, a value, or `n`.

    The format is that of Documentation/kbuild/kconfig.rst. An option that the kernel does not
    have, or whose dependencies are off, is not named at all and is left out here too.
    """
    rows = (match.groups() for match in _LINE.finditer(text))
    said = {name or off: "n" if off else value.strip() for name, value, off in rows}
    return {name: said[name] for name in CNI_OPTIONS if name in said}
