"""A small real CNI for the test machines: bridge, pods, routes and eBPF, built anew at every boot.

Run as `python3 -I /usr/local/lib/testcni`, as root. Like Cilium it first probes the kernel with a
program that hands its context to bpf_set_retval. Debian's 6.1 and 6.12 accept that, 7.2 refuses it
with EINVAL (https://github.com/cilium/cilium/issues/48016): then this CNI exits and attaches
nothing, and systemd starts it again, and again. When stopped it leaves its attachments in place.

The environment may set (see Settings): NIC, FAIL=1, LEGACY=1, CGROUP, BPFFS.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import bpf

BRIDGE: Final = "cni0"
BRIDGE_ADDRESS: Final = "10.244.0.1"
PODS: Final = {"tcni-pod1": "10.244.0.11", "tcni-pod2": "10.244.0.12", "tcni-pod3": "10.244.0.13"}
OTHER_NODES: Final = ("10.244.1.0/24", "10.244.2.0/24")
USUAL_GATEWAY: Final = "10.0.2.2"  # of QEMU's user network
ROUTE_PROTOCOL: Final = "80"
PROXY_TABLE: Final = "2004"
PROXY_RULE: Final = ("pref", "9", "fwmark", "0x200/0xf00", "lookup", PROXY_TABLE)

NEVER_A_FAMILY: Final = 0xFFFF
SET_RETVAL: Final = 187
# R1 is the context when a program starts, so this is bpf_set_retval(ctx).
PROBE: Final = bpf.call(SET_RETVAL) + bpf.move(bpf.R0, 1) + bpf.EXIT
# The same call for the verifier's eyes only: no socket has that family, so nobody's connect fails.
SET_RETVAL_NEVER: Final = (
    bpf.load_word(bpf.R2, bpf.R1, 0)  # ctx->user_family
    + bpf.jump_unless_equal(bpf.R2, NEVER_A_FAMILY, 1)
    + PROBE
)
ALLOW: Final = bpf.TINY[bpf.ProgType.CGROUP_SOCK_ADDR]
CGROUP_HOOKS: Final = (
    ("tcni_connect4", bpf.Attach.CGROUP_INET4_CONNECT, ALLOW),
    ("tcni_connect6", bpf.Attach.CGROUP_INET6_CONNECT, ALLOW),
    ("tcni_sendmsg4", bpf.Attach.CGROUP_UDP4_SENDMSG, ALLOW),
    ("tcni_setret4", bpf.Attach.CGROUP_INET4_CONNECT, SET_RETVAL_NEVER),
)
OURS: Final = "tcni_"


class TestcniError(Exception):
    """The CNI cannot do its work on this machine."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment asks for; a real node needs none of it."""

    nic: str | None  # instead of the device of the default route
    fail: bool  # behave as if the kernel refused the probe
    legacy: bool  # tc filters and PROG_ATTACH, even where links would do
    cgroup: Path | None  # instead of the root of the cgroup v2 hierarchy
    pins: Path  # the folder of this CNI in the bpffs


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


def main() -> int:
    """Set the node up, say so, then wait for the end."""
    signal.signal(signal.SIGTERM, _stop)
    settings = read_settings(os.environ)
    try:
        probe(fail=settings.fail)
        uplink = find_uplink(settings.nic)
        cgroup = settings.cgroup or find_cgroup(Path("/proc/self/mounts").read_text())
        clean(uplink.nic, cgroup, settings.pins)
        veths = set_up_network(uplink)
        attach(Hooks(settings.pins, settings.legacy), uplink.nic, veths, cgroup)
    except (TestcniError, OSError) as error:
        log("fatal", str(error))
        return 1
    log("info", "node is ready", nic=uplink.nic, pods=len(veths))
    notify("READY=1")
    while True:
        signal.pause()


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Understand the environment."""
    cgroup = environment.get("CGROUP")
    return Settings(
        nic=environment.get("NIC") or None,
        fail=environment.get("FAIL") == "1",
        legacy=environment.get("LEGACY") == "1",
        cgroup=Path(cgroup) if cgroup else None,
        pins=Path(environment.get("BPFFS") or "/sys/fs/bpf") / "testcni",
    )


def probe(*, fail: bool) -> None:
    """Find out whether this kernel lets a program hand its context to bpf_set_retval."""
    try:
        os.close(_load_probe(fail=fail))
    except bpf.RefusedError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        said = " | ".join(line for line in error.log.splitlines()[-6:] if line)
        problem = f"failed to probe bpf_set_retval: load program: {name}: {said}"
        raise TestcniError(problem) from error
    log("info", "kernel accepts bpf_set_retval", kernel=os.uname().release)


def _load_probe(*, fail: bool) -> int:
    if fail:
        raise bpf.RefusedError(errno.EINVAL, "tcni_probe", "asked to fail by FAIL=1")
    hook = bpf.Attach.CGROUP_INET4_CONNECT
    return bpf.prog_load(bpf.ProgType.CGROUP_SOCK_ADDR, PROBE, "tcni_probe", hook)


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
    for pod in present & set(PODS):
        ip("netns", "delete", pod)


def _clean_cgroup(cgroup: Path) -> None:
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for hook in {hook for _, hook, _ in CGROUP_HOOKS}:
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


def set_up_network(uplink: Uplink) -> list[str]:
    """Build bridge, pods, routes and rules; return the host ends of the pods' cables."""
    override = Path("/run/sysctl.d/99-zz-testcni.conf")  # or udev's sysctl run sets it back
    override.parent.mkdir(parents=True, exist_ok=True)
    override.write_text(f"net.ipv4.conf.{BRIDGE}.rp_filter = 0\n")
    if BRIDGE not in {link["ifname"] for link in _links()}:
        ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "replace", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    veths = [_add_pod(pod, address) for pod, address in PODS.items()]
    for network in OTHER_NODES:
        way = ("via", uplink.gateway, "dev", uplink.nic, "proto", ROUTE_PROTOCOL)
        ip("route", "replace", network, *way)
    ip("route", "replace", "local", "default", "dev", "lo", "table", PROXY_TABLE)
    if not json.loads(ip("-j", "rule", "show", *PROXY_RULE[:4]) or "[]"):
        ip("rule", "add", *PROXY_RULE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/rp_filter").write_text("0\n")
    log("info", "network is up", bridge=BRIDGE, gateway=uplink.gateway)
    return veths


def _add_pod(pod: str, address: str) -> str:
    veth = f"veth{secrets.token_hex(4)}"
    ip("netns", "add", pod)
    ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pod)
    ip("link", "set", veth, "master", BRIDGE, "up")
    ip("-n", pod, "link", "set", "lo", "up")
    ip("-n", pod, "link", "set", "eth0", "up")
    ip("-n", pod, "address", "add", f"{address}/24", "dev", "eth0")
    ip("-n", pod, "route", "add", "default", "via", BRIDGE_ADDRESS)
    return veth


def attach(hooks: Hooks, nic: str, veths: Sequence[str], cgroup: Path) -> None:
    """Load every program and attach it to its place."""
    attached = hooks.attach_skb(nic, "tcni_from_nic", ingress=True)
    hooks.attach_skb(nic, "tcni_to_nic", ingress=False)
    for veth in veths:
        hooks.attach_skb(veth, "tcni_from_pod", ingress=True)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ways = {
            hooks.attach_cgroup(directory, hook, name, program)
            for name, hook, program in CGROUP_HOOKS
        }
    finally:
        os.close(directory)
    log("info", "programs are attached", skb=attached, cgroup=",".join(sorted(ways)))


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
