"""A small real CNI for the test machines: bridge, pods, routes and eBPF, built anew at every boot.

Run as `python3 -I /usr/local/lib/testcni`, as root. Like Cilium it first probes the kernel with a
program that hands its context to bpf_set_retval. Debian's 6.1 and 6.12 accept that, 7.2 refuses it
with EINVAL (https://github.com/cilium/cilium/issues/48016): then this CNI exits and attaches
nothing, and systemd starts it again, and again. When stopped it leaves its attachments in place.

Pods come and go as on a living node: slowly, in any order, with other interfaces each time, where
the environment asks for it (see settings.py).
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import bpf
from settings import Settings, read_settings

BRIDGE: Final = "cni0"
BRIDGE_ADDRESS: Final = "10.244.0.1"
POD: Final = "tcni-pod"
MOST_PODS: Final = 240  # addresses from .11 on
OTHER_NODES: Final = ("10.244.1.0/24", "10.244.2.0/24")
USUAL_GATEWAY: Final = "10.0.2.2"  # of QEMU's user network
ROUTE_PROTOCOL: Final = "80"
PROXY_TABLE: Final = "2004"
PROXY_RULE: Final = ("pref", "9", "fwmark", "0x200/0xf00", "lookup", PROXY_TABLE)

NEVER_A_FAMILY: Final = 0xFFFF
SET_RETVAL: Final = 187


def _ask(*, scalar: bool) -> bytes:
    """Call bpf_set_retval; R1 is the context when a program starts."""
    return (bpf.move(bpf.R1, 0) if scalar else b"") + bpf.call(SET_RETVAL)


def _probe(*, scalar: bool) -> bytes:
    return _ask(scalar=scalar) + bpf.move(bpf.R0, 1) + bpf.EXIT


def _set_retval_never(*, scalar: bool) -> bytes:
    """Make the call for the verifier's eyes: no socket has that family, nobody's connect fails."""
    skipped = len(_ask(scalar=scalar)) // len(bpf.EXIT)
    return (
        bpf.load_word(bpf.R2, bpf.R1, 0)  # ctx->user_family
        + bpf.jump_unless_equal(bpf.R2, NEVER_A_FAMILY, skipped)
        + _probe(scalar=scalar)
    )


ALLOW: Final = bpf.TINY[bpf.ProgType.CGROUP_SOCK_ADDR]
CGROUP_HOOKS: Final = {
    "tcni_connect4": bpf.Attach.CGROUP_INET4_CONNECT,
    "tcni_connect6": bpf.Attach.CGROUP_INET6_CONNECT,
    "tcni_sendmsg4": bpf.Attach.CGROUP_UDP4_SENDMSG,
    "tcni_setret4": bpf.Attach.CGROUP_INET4_CONNECT,
}
OURS: Final = "tcni_"
CILIUM_STATE: Final = Path("/var/run/cilium/state")

Thing = TypeVar("Thing")


class TestcniError(Exception):
    """The CNI cannot do its work on this machine."""


@dataclass(frozen=True)
class Uplink:
    """The way out of this node."""

    nic: str
    gateway: str


@dataclass(frozen=True)
class Hooks:
    """Attaches programs by links where the kernel knows them, the old way where not."""

    pins: Path
    legacy: bool

    def attach_skb(self, device: str, name: str, *, ingress: bool) -> str:
        """Attach to what enters or leaves a device; return how."""
        ifindex = socket.if_nametoindex(device)
        program = bpf.prog_load(bpf.ProgType.SCHED_CLS, bpf.TINY[bpf.ProgType.SCHED_CLS], name)
        try:
            tcx = bpf.Attach.TCX_INGRESS if ingress else bpf.Attach.TCX_EGRESS
            folder = device.replace(".", "-")  # a bpffs takes no dots
            if self._link(program, ifindex, tcx, Path("devices", folder, name)):
                return "tcx"
            bpf.tc_clsact(ifindex)
            parent = bpf.TcParent.INGRESS if ingress else bpf.TcParent.EGRESS
            bpf.tc_attach(ifindex, parent, program, name)
        finally:
            os.close(program)
        return "tc"

    def attach_cgroup(self, cgroup: int, hook: bpf.Attach, name: str, program: bytes) -> str:
        """Attach to a hook of a cgroup; return how."""
        loaded = bpf.prog_load(bpf.ProgType.CGROUP_SOCK_ADDR, program, name, hook)
        try:
            if self._link(loaded, cgroup, hook, Path("cgroup", name)):
                return "link"
            bpf.prog_attach(cgroup, loaded, hook)
        finally:
            os.close(loaded)
        return "attach"

    def forget(self, device: str) -> None:
        """Let go of the links of a device that is about to vanish."""
        shutil.rmtree(self.pins / "devices" / device.replace(".", "-"), ignore_errors=True)

    def _link(self, program: int, target: int, hook: bpf.Attach, pin: Path) -> bool:
        if self.legacy:
            return False
        try:
            link = bpf.link_create(program, target, hook)
        except OSError as error:
            if error.errno == errno.EINVAL:  # this kernel knows no such links
                return False
            raise
        try:
            (self.pins / pin).parent.mkdir(parents=True, exist_ok=True)
            bpf.obj_pin(link, self.pins / pin)
        finally:
            os.close(link)
        return True


@dataclass(frozen=True)
class Pod:
    """A network namespace, cabled to the bridge by an interface with another name each time."""

    name: str
    veth: str


def add_pod(number: int, hooks: Hooks) -> Pod:
    """Add a pod, and then its program, as CNIs do."""
    pod = Pod(f"{POD}{number}", f"veth{secrets.token_hex(4)}")
    _cable(pod.name, pod.veth, f"10.244.0.{10 + number}")
    hooks.attach_skb(pod.veth, "tcni_from_pod", ingress=True)
    log("info", "pod is up", pod=pod.name, veth=pod.veth)
    return pod


def remove_pod(pod: Pod, hooks: Hooks) -> None:
    """Take a pod away, with its cable."""
    hooks.forget(pod.veth)
    ip("netns", "delete", pod.name)
    log("info", "pod is gone", pod=pod.name, veth=pod.veth)


def main() -> int:
    """Set the node up, say so, then live with its pods until the end."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        run(read_settings(os.environ))
    except (TestcniError, OSError, ValueError) as error:
        log("fatal", str(error))
        return 1
    while True:
        signal.pause()


def run(settings: Settings) -> None:
    """Do all that the settings ask for; return when nothing is left to do."""
    time.sleep(settings.start_delay)
    probe(settings)
    leave_objects(settings.objects)
    uplink = find_uplink(settings.nic)
    cgroup = settings.cgroup or find_cgroup(Path("/proc/self/mounts").read_text())
    clean(uplink.nic, cgroup, settings.pins)
    set_up_network(uplink)
    hooks = Hooks(settings.pins, settings.legacy)
    attach(hooks, settings, uplink.nic, cgroup)
    if settings.pod_delay:
        get_ready(uplink)
    pods = []
    for number in shuffled(range(1, settings.pods + 1), settings):
        time.sleep(settings.pod_delay)
        pods.append(add_pod(number, hooks))
    if not settings.pod_delay:
        get_ready(uplink)
    if settings.churn:
        replace_pods(pods, hooks, settings.churn)


def replace_pods(pods: list[Pod], hooks: Hooks, every: float) -> None:
    """Let a pod go and another come, every so many seconds, for ever."""
    for number in itertools.cycle(range(len(pods) + 1, MOST_PODS + 1)):
        time.sleep(every)
        remove_pod(pods.pop(0), hooks)
        pods.append(add_pod(number, hooks))


def get_ready(uplink: Uplink) -> None:
    """Say that the node may have pods."""
    log("info", "node is ready", nic=uplink.nic)
    notify("READY=1")


def probe(settings: Settings) -> None:
    """Find out whether this kernel takes our call of bpf_set_retval."""
    try:
        os.close(_load_probe(settings))
    except bpf.RefusedError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        said = " | ".join(line for line in error.log.splitlines()[-6:] if line)
        problem = f"failed to probe bpf_set_retval: load program: {name}: {said}"
        raise TestcniError(problem) from error
    log("info", "kernel accepts bpf_set_retval", kernel=os.uname().release)


def _load_probe(settings: Settings) -> int:
    if settings.fail:
        raise bpf.RefusedError(errno.EINVAL, "tcni_probe", "asked to fail by FAIL=1")
    hook, program = bpf.Attach.CGROUP_INET4_CONNECT, _probe(scalar=settings.scalar)
    return bpf.prog_load(bpf.ProgType.CGROUP_SOCK_ADDR, program, "tcni_probe", hook)


def leave_objects(objects: Path | None) -> None:
    """Leave compiled objects where Cilium leaves its own: on a tmpfs, so anew at each boot."""
    if objects:
        CILIUM_STATE.mkdir(parents=True, exist_ok=True)
        for compiled in objects.glob("*.o"):
            shutil.copy(compiled, CILIUM_STATE)


def find_uplink(nic: str | None) -> Uplink:
    """Take the default route, or what it says about the wanted device."""
    routes = json.loads(ip("-j", "-4", "route", "show", "default"))
    for route in routes:
        if "gateway" in route and nic in {None, route["dev"]}:
            return Uplink(route["dev"], route["gateway"])
    if nic is None:
        raise TestcniError("no default route yet")
    return Uplink(nic, USUAL_GATEWAY)


def find_cgroup(mounts: str) -> Path:
    """Find the root of the cgroup v2 hierarchy in the table of mounts."""
    for line in mounts.splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise TestcniError("no cgroup v2 hierarchy is mounted")


def clean(nic: str, cgroup: Path, pins: Path) -> None:
    """Remove what an earlier instance left."""
    for pin in [path for path in pins.rglob("*") if path.is_file()]:
        link = bpf.obj_get(pin)
        bpf.link_detach(link)
        os.close(link)
    if pins.exists():
        shutil.rmtree(pins)
    for parent in bpf.TcParent:
        bpf.tc_detach(socket.if_nametoindex(nic), parent)
    _clean_cgroup(cgroup)
    for port in [link for link in _links() if link.get("master") == BRIDGE]:
        ip("link", "delete", port["ifname"])
    present = {space["name"] for space in json.loads(ip("-j", "netns", "list") or "[]")}
    for pod in [name for name in present if name.startswith(POD)]:
        ip("netns", "delete", pod)


def _clean_cgroup(cgroup: Path) -> None:
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for hook in set(CGROUP_HOOKS.values()):
            for prog_id in bpf.prog_query(directory, hook):
                if bpf.prog_name(prog_id).startswith(OURS):
                    _detach(directory, prog_id, hook)
    finally:
        os.close(directory)


def _detach(directory: int, prog_id: int, hook: bpf.Attach) -> None:
    program = bpf.prog_by_id(prog_id)
    try:
        bpf.prog_detach(directory, program, hook)
    finally:
        os.close(program)


def set_up_network(uplink: Uplink) -> None:
    """Build bridge, routes and rules."""
    override = Path("/run/sysctl.d/99-zz-testcni.conf")  # or udev's sysctl run sets it back
    override.parent.mkdir(parents=True, exist_ok=True)
    override.write_text(f"net.ipv4.conf.{BRIDGE}.rp_filter = 0\n")
    if BRIDGE not in {link["ifname"] for link in _links()}:
        ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "replace", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    for network in OTHER_NODES:
        way = ("via", uplink.gateway, "dev", uplink.nic, "proto", ROUTE_PROTOCOL)
        ip("route", "replace", network, *way)
    ip("route", "replace", "local", "default", "dev", "lo", "table", PROXY_TABLE)
    if not json.loads(ip("-j", "rule", "show", *PROXY_RULE[:4]) or "[]"):
        ip("rule", "add", *PROXY_RULE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/rp_filter").write_text("0\n")
    log("info", "network is up", bridge=BRIDGE, gateway=uplink.gateway)


def _cable(pod: str, veth: str, address: str) -> None:
    ip("netns", "add", pod)
    ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pod)
    ip("link", "set", veth, "master", BRIDGE, "up")
    ip("-n", pod, "link", "set", "lo", "up")
    ip("-n", pod, "link", "set", "eth0", "up")
    ip("-n", pod, "address", "add", f"{address}/24", "dev", "eth0")
    ip("-n", pod, "route", "add", "default", "via", BRIDGE_ADDRESS)


def attach(hooks: Hooks, settings: Settings, nic: str, cgroup: Path) -> None:
    """Load the programs of the node and attach each to its place."""
    attached = {
        hooks.attach_skb(nic, name, ingress=ingress)
        for name, ingress in shuffled([("tcni_from_nic", True), ("tcni_to_nic", False)], settings)
    }
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ways = {
            hooks.attach_cgroup(directory, CGROUP_HOOKS[name], name, _sock_addr(name, settings))
            for name in shuffled([*CGROUP_HOOKS], settings)
        }
    finally:
        os.close(directory)
    log("info", "programs are attached", skb=",".join(attached), cgroup=",".join(ways))


def _sock_addr(name: str, settings: Settings) -> bytes:
    return _set_retval_never(scalar=settings.scalar) if name == "tcni_setret4" else ALLOW


def shuffled(things: Sequence[Thing], settings: Settings) -> list[Thing]:
    """Give them in the order of this boot."""
    order = list(things)
    if settings.dice:
        settings.dice.shuffle(order)
    return order


def ip(*words: str) -> str:
    """Run ip(8); what it writes is the answer or the error."""
    done = subprocess.run(["/usr/sbin/ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestcniError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def log(level: str, message: str, **fields: object) -> None:
    """Write one line, as the journal of a CNI looks."""
    words = [f"level={level}", f"msg={json.dumps(message)}"]
    words += [f"{key}={value}" for key, value in fields.items()]
    print(" ".join(words), file=sys.stderr, flush=True)


def notify(state: str) -> None:
    """Tell systemd; see sd_notify(3)."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect(where.replace("@", "\0", 1) if where.startswith("@") else where)
        manager.send(state.encode())


def _links() -> list[dict[str, str]]:
    links: list[dict[str, str]] = json.loads(ip("-j", "link", "show"))
    return links


def _stop(_number: int, _frame: object) -> NoReturn:
    log("info", "stopping; attachments stay")
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
