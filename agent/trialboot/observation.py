"""The network side asked at one moment: what a verdict is found from."""

from dataclasses import replace

from trialboot.core.carriers import is_of_networks
from trialboot.core.facts import Network, Observation, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers import ebpf, network, sysctls
from trialboot.readers.cni.inventory import read_cni


def observe(host: Host) -> Observation:
    """Take one sample; each part that cannot be read is Unknown by itself."""
    return Observation(
        network=take_network(host), cni=read_cni(host), modules=_network_modules(host)
    )


def take_network(host: Host) -> Network:
    """Sample what netlink, bpf(2) and /proc/sys show of the network."""
    seen = network.read_network(host, ebpf.read_attachments(host))
    if isinstance(seen.links, Unknown):
        return replace(seen, sysctls=seen.links)
    names = tuple(link.name for link in seen.links)
    return replace(seen, sysctls=sysctls.read_sysctls(host, names))


def _network_modules(host: Host) -> tuple[str, ...] | Unknown:
    if not host.exists("/proc/modules"):  # a kernel without CONFIG_MODULES
        return ()
    try:
        lines = host.read_text("/proc/modules").splitlines()
    except HostError as error:
        return Unknown(str(error))
    names = (line.partition(" ")[0] for line in lines)
    return tuple(sorted(name for name in names if is_of_networks(name)))
