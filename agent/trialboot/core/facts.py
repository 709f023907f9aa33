"""What can be known of a host at one moment. A part that could not be read is `Unknown(why)`."""

from dataclasses import dataclass
from typing import NewType

from trialboot.core.language import Word

BootId = NewType("BootId", str)
"""`/proc/sys/kernel/random/boot_id`: new at each kernel start, the same over a soft-reboot."""

EntryId = NewType("EntryId", str)
"""A boot menu entry as the loader names it; GRUB joins the levels of submenus with `>`."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """We looked and could not see. Never the same as «nothing there»."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel that runs: uname(2), /proc/version, /proc/cmdline and its boot id."""

    release: str
    version: str
    command_line: str
    boot: BootId
    taint: int = 0
    boot_time: int = 0
    """Unix time in seconds at which this kernel started (btime of /proc/stat)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One loaded module and the firmware files that its file says it may ask for."""

    name: str
    firmware: tuple[str, ...] | Unknown = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A folder of files by content: relative path -> SHA-256 of the bytes, sorted by path."""

    files: tuple[tuple[str, str], ...]
    newest_change: int = 0
    """The latest ctime in the tree, Unix seconds: dpkg keeps the mtime from inside a package."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One installed package of the package database."""

    name: str
    architecture: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """One network interface of the host's own network namespace."""

    name: str
    kind: str
    """IFLA_INFO_KIND: `veth`, `bridge`, ...; empty for a plain device."""
    mac: str
    mtu: int
    up: bool
    """IFF_UP: the administrator's wish."""
    carrier: bool
    """operstate is `up` or `unknown` (devices without one, such as tun, say `unknown`)."""
    master: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Address:
    """One address of a link, with its prefix length."""

    link: str
    address: str
    scope: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Route:
    """One unicast (or local, in a table that is not `local`) route."""

    family: int
    destination: str
    """CIDR, or `default`."""
    table: int
    link: str
    gateway: str
    protocol: int
    """rtm_protocol: 2 kernel, 3 boot, 4 static, 12 bird, 16 dhcp, 80 cilium ... (rtnetlink.h)."""
    kind: str
    """rtm_type by name: `unicast`, `local`, `blackhole` ..."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rule:
    """One policy routing rule (fib_rules)."""

    family: int
    priority: int
    source: str
    destination: str
    mark: str
    """`VALUE/MASK` in hex, or empty."""
    input_link: str
    table: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Attachment:
    """One eBPF program at one place of the datapath, without anything that a reboot renumbers."""

    place: str
    """`dev:NAME`, `cgroup:root`, `netns:self`."""
    hook: str
    """`skb`, `xdp`, `cgroup`, `netns`: one word for tc, tcx and netkit, which CNIs interchange."""
    direction: str
    """`ingress`, `egress`, a cgroup attach type such as `inet4_connect`, or empty."""
    program: str
    """The program's name, cut by the kernel to 15 characters, or the filter's."""
    via: str
    """How it is attached (`tc`, `tcx`, `netkit`, `cgroup` ...): a note, never judged."""


class UnitState(Word):
    """ActiveState of a systemd unit, as its D-Bus interface names it."""

    ACTIVE = "active"
    RELOADING = "reloading"
    INACTIVE = "inactive"
    FAILED = "failed"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    MAINTENANCE = "maintenance"
    REFRESHING = "refreshing"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Unit:
    """One systemd service that the operator or the contract names."""

    name: str
    state: UnitState
    restarts: int
    """NRestarts: automatic restarts since the unit was started by hand or at boot."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Process:
    """How many processes of one name run (comm, 15 characters at most)."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Everything of the network that one sample holds; each part fails by itself."""

    links: tuple[Link, ...] | Unknown
    addresses: tuple[Address, ...] | Unknown
    routes: tuple[Route, ...] | Unknown
    rules: tuple[Rule, ...] | Unknown
    attachments: tuple[Attachment, ...] | Unknown
