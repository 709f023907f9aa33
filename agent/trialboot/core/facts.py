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
    build_id: str = ""
    """GNU build-id in hex (`/sys/kernel/notes`); empty where the kernel shows none."""
    kexec_staged: bool = False
    """`/sys/kernel/kexec_loaded`: a reboot may start that kernel instead of the loader's."""
    by_kexec: bool = False
    """Another kernel started this one, and no boot loader. Told on x86 only; elsewhere false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One loaded module, as the running kernel shows it, and what its file may ask for."""

    name: str
    firmware: tuple[str, ...] | Unknown = ()
    """`firmware=` values of its file: paths below /lib/firmware, without compression ending."""
    references: int = 0
    """Third column of /proc/modules. 0 does not mean unused: network drivers show 0."""
    version: str = ""
    """`/sys/module/NAME/version`; empty where the module has none."""
    srcversion: str = ""
    """`/sys/module/NAME/srcversion`; empty on Debian, whose kernels have none."""
    build_id: str = ""
    """GNU build-id in hex (`/sys/module/NAME/notes/.note.gnu.build-id`); empty if not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFile:
    """What the file of a module says, in the tree of one kernel (`.modinfo`, elf(5))."""

    name: str
    path: str
    """Relative to the tree of its kernel."""
    version: str = ""
    srcversion: str = ""
    build_id: str = ""
    signed: bool = False
    """It ends with an appended signature (Documentation/admin-guide/module-signing.rst)."""
    firmware: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Driver:
    """Which modules of a kernel answer to one device's modalias; none where no module does."""

    alias: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTree:
    """The modules of one kernel release: all by name, those in use here by their files."""

    release: str
    names: tuple[str, ...]
    """Modules that have a file, with `_` for `-`, sorted."""
    builtin: tuple[str, ...]
    """Modules that are built into the kernel (modules.builtin), sorted."""
    used: tuple[ModuleFile, ...] = ()
    """Files of the modules that this host has loaded, sorted by name."""
    unread: tuple[str, ...] = ()
    """Files among them that could not be understood: a sentence each."""
    drivers: tuple[Driver, ...] | Unknown = Unknown("drivers were not looked up")
    """For each device of this host, by alias, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Dkms:
    """One module package that this host builds itself, for one kernel (/var/lib/dkms)."""

    name: str
    version: str
    release: str
    """The kernel that it was built for."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Interface:
    """What drives one network interface (ETHTOOL_GDRVINFO), and what hangs on it."""

    name: str
    driver: str
    """The driver's module or kind: `ice`, `veth`, `vxlan`; empty where the kernel names none."""
    firmware: str = ""
    """Firmware version that the device runs; empty where it tells none."""
    bus: str = ""
    """Bus address, such as `0000:3b:00.0`."""
    default_route: bool = False
    """A default route of this host leads through it, or through what is built on it."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Device:
    """Firmware inside a device: what it runs, and what waits in it for the next start."""

    kind: str
    """`bios`, `microcode`, `nvme`, `disk`, `devlink`, `infiniband`, `gpu`, `fwupd`."""
    name: str
    running: str
    stored: str = ""
    """What becomes active at the next start; empty where nothing waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What this host is made of, as far as a boot may change how it behaves."""

    interfaces: tuple[Interface, ...] | Unknown
    devices: tuple[Device, ...]
    unread: tuple[str, ...] = ()
    """Sources that could not be read: a sentence each. A source that is not there is none."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setting:
    """One thing that the next boot will set, from a file of the host's configuration."""

    kind: str
    """`sysctl`, `blacklist`, `modprobe option`, `load at boot`, `file`."""
    subject: str
    value: str
    source: str = ""
    """The file that says so; the last one that does."""


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
    permanent_mac: str = ""
    """IFLA_PERM_ADDRESS: burnt into the device; empty for virtual ones and old kernels."""
    bus: str = ""
    """IFLA_PARENT_DEV_NAME: bus address such as `0000:3b:00.0`; empty for virtual ones."""
    mac_origin: str = ""
    """`/sys/class/net/NAME/addr_assign_type` in a word: permanent, random, stolen or set."""
    elsewhere: bool = False
    """Its other end lies in another network namespace (IFLA_LINK_NETNSID): a pod's or container's.
    """


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Neighbour:
    """One permanent neighbour entry: overlays put one in for each remote node (NUD_PERMANENT)."""

    link: str
    address: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sysctl:
    """One kernel setting of the network, by its dotted name (`net.ipv4.ip_forward`)."""

    name: str
    value: str


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
    """`dev:NAME`, `cgroup:root`, `netns:self`, `map:NAME` without a number at its end."""
    hook: str
    """`xdp`, `cgroup`, `netns`, `netfilter`, `sockmap`, or `skb`: one word for tc, tcx and netkit,
    which CNIs interchange."""
    direction: str
    """`ingress`, `egress`, a cgroup attach type such as `inet4_connect`, a netfilter hook such as
    `ipv4/input`, or empty."""
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
    neighbours: tuple[Neighbour, ...] | Unknown = Unknown("neighbours were not read")
    sysctls: tuple[Sysctl, ...] | Unknown = Unknown("sysctls were not read")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ProgramSize:
    """How much work the verifier had with a program: its head-room below a million."""

    program: str
    verified_instructions: int
    """`bpf_prog_info.verified_insns` (kernel 5.16 and newer); 0 where the kernel shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BpfObjects:
    """What is loaded and kept of eBPF, for people and metrics: never judged."""

    programs: int
    largest: tuple[ProgramSize, ...]
    """The ten programs that cost the verifier most, the dearest first."""
    maps: tuple[tuple[str, int], ...]
    """Maps by name, without the endpoint ids and interface indexes in it, and how many."""
    links: tuple[tuple[str, int], ...]
    """BPF links by type, and how many."""
    pins: tuple[str, ...]
    """Paths in the bpffs, `*` for digits and hashes, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CniConfiguration:
    """The CNI configuration that the container runtime uses: the first file of /etc/cni/net.d."""

    path: str
    plugins: tuple[str, ...]
    """`type` of each plugin, in order."""
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Agent:
    """One process of a CNI, or kube-proxy, as far as this host shows it."""

    name: str
    """/proc/PID/comm."""
    age: float
    """Seconds for which it has run."""
    restarts: int | None
    """How often its container or unit was restarted in this boot; None if the host tells none."""
    image: str
    """Image with digest where the container runtime shows it; else empty."""
    refusals: tuple[str, ...] = ()
    """Lines of its log, of this boot, that tell of a refusal by the kernel; the newest first."""
    pod: str = ""
    """UID of its pod, as the kubelet names it; empty where it is in none, or none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cni:
    """Who makes this node's pod network."""

    configuration: CniConfiguration | Unknown | None
    """None where there is no CNI configuration: not a cluster node, or a node not joined yet."""
    agents: tuple[Agent, ...] | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that one sample of a verification holds."""

    network: Network
    cni: Cni
    modules: tuple[str, ...] | Unknown
    """Names of the loaded modules that networks are made with."""
    young: frozenset[str] = frozenset()
    """Links that no sample before had: their CNI may still be at work on them."""
