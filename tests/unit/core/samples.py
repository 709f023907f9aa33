"""Small facts to build tests from: a healthy node with Cilium, and its parts."""

from dataclasses import replace

from trialboot.core.bootset import BootSet
from trialboot.core.contract import Contract, learn
from trialboot.core.facts import (
    Attachment,
    Cni,
    Link,
    Network,
    Observation,
    Route,
    Rule,
    Sysctl,
    Unknown,
)

INET, INET6 = 2, 10
KERNEL, STATIC, BIRD, DHCP = 2, 4, 12, 16


def boot_set(name: str = "old") -> BootSet:
    return BootSet(
        release=f"6.1-{name}",
        kernel=name,
        initrd=name,
        modules=name,
        firmware=name,
        command_line="ro",
    )


def link(name: str, *, kind: str = "", up: bool = True, carrier: bool = True) -> Link:
    return Link(name=name, kind=kind, mac="02:00:00:00:00:01", mtu=1500, up=up, carrier=carrier)


def route(
    destination: str,
    *,
    device: str = "eth0",
    protocol: int = STATIC,
    table: int = 254,
    gateway: str = "",
    kind: str = "unicast",
    family: int = INET,
) -> Route:
    return Route(
        family=family,
        destination=destination,
        table=table,
        link=device,
        gateway=gateway,
        protocol=protocol,
        kind=kind,
    )


def rule(*, priority: int = 9, table: int = 2004, mark: str = "0x200/0xf00") -> Rule:
    return Rule(
        family=INET,
        priority=priority,
        source="",
        destination="",
        mark=mark,
        input_link="",
        table=table,
        action="lookup",
    )


def attachment(
    place: str, program: str, *, hook: str = "skb", direction: str = "ingress", via: str = "tc"
) -> Attachment:
    return Attachment(place=place, hook=hook, direction=direction, program=program, via=via)


def pods(*numbers: int) -> tuple[Link, ...]:
    return tuple(link(f"lxc{number:04x}", kind="veth") for number in numbers)


def on_pods(*numbers: int, via: str = "tc") -> tuple[Attachment, ...]:
    return tuple(
        attachment(f"dev:lxc{number:04x}", "cil_from_contai", via=via) for number in numbers
    )


ETH0 = link("eth0")
NETDEV = attachment("dev:eth0", "cil_from_netdev")
CONNECT = attachment(
    "cgroup:root", "cil_sock4_conne", hook="cgroup", direction="inet4_connect", via="cgroup"
)
SYSTEMD = attachment("cgroup:root", "sd_devices", hook="cgroup", direction="device", via="cgroup")
DEFAULT = route("default", gateway="10.0.0.1", protocol=DHCP)

NETWORK = Network(
    links=(ETH0, *pods(1, 2, 3, 4, 5)),
    addresses=(),
    routes=(DEFAULT, route("10.8.0.0/24", protocol=BIRD, gateway="10.0.0.8")),
    rules=(rule(),),
    attachments=(NETDEV, CONNECT, SYSTEMD, *on_pods(1, 2, 3, 4, 5)),
    neighbours=(),
    sysctls=(Sysctl(name="net.ipv4.ip_forward", value="1"),),
)


QUIET = Cni(configuration=None, agents=())


def observation(network: Network = NETWORK, cni: Cni = QUIET) -> Observation:
    return Observation(network=network, cni=cni, modules=("vxlan",))


def contract(network: Network = NETWORK) -> Contract:
    made = learn(network, at="2026-01-01T00:00:00Z", boot="boot-0", kernel="6.1-old")
    assert not isinstance(made, Unknown)
    return made


def without(network: Network, *gone: Attachment) -> Network:
    there = network.attachments
    assert not isinstance(there, Unknown)
    return replace(network, attachments=tuple(a for a in there if a not in gone))


def plus(network: Network, *new: Attachment) -> Network:
    there = network.attachments
    assert not isinstance(there, Unknown)
    return replace(network, attachments=(*there, *new))
