"""All that this host shows of who makes its pod network."""

from trialboot.core.facts import Cni
from trialboot.host import Host
from trialboot.readers.cni.agents import read_agents
from trialboot.readers.cni.configuration import read_configuration


def read_cni(host: Host) -> Cni:
    """Read what is cheap enough for each sample: all but the kernel's log (`read_splats`)."""
    return Cni(configuration=read_configuration(host), agents=read_agents(host))
