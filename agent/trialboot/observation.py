"""The network side asked at one moment: what a verdict is found from."""

from dataclasses import replace

from trialboot.core.facts import Network, Observation, Unknown
from trialboot.host import Host
from trialboot.readers import ebpf, network, sysctls
from trialboot.readers.cni.inventory import read_cni
from trialboot.readers.networkmodules import read_network_modules


def observe(host: Host) -> Observation:
    """Take one sample; each part that cannot be read is Unknown by itself."""
    return Observation(
        network=take_network(host), cni=read_cni(host), modules=read_network_modules(host)
    )


def take_network(host: Host) -> Network:
    """Sample what netlink, bpf(2) and /proc/sys show of the network."""
    seen = network.read_network(host, ebpf.read_attachments(host))
    if isinstance(seen.links, Unknown):
        return replace(seen, sysctls=seen.links)
    names = tuple(link.name for link in seen.links)
    return replace(seen, sysctls=sysctls.read_sysctls(host, names))
