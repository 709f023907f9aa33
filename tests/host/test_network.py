"""Links, addresses, routes, rules and neighbours made with ip(8) are read back."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.host.conftest import Inside, own_sysfs, sh
from trialboot.core.facts import Address, Neighbour, Network, Route, Rule, Unknown
from trialboot.host import Host
from trialboot.readers.network import read_network

pytestmark = pytest.mark.host

_NOT_ASKED = Unknown("not asked")
_HOST = Host()


def _read(commands: str) -> Network:
    sh(commands)
    return read_network(_HOST, _NOT_ASKED)


_PAIR = """
ip link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name eth1
ip addr add 10.1.0.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
until ip link show up dev eth0 | grep -q "state UP"; do sleep 0.01; done  # carrier comes later
"""


def test_links_are_read_back(inside: Inside) -> None:
    network = inside(
        lambda: _read(_PAIR + "ip link add br0 type bridge\nip link set eth1 master br0")
    )

    links = {link.name: link for link in network.links}
    assert sorted(links) == ["br0", "eth0", "eth1", "lo"]
    assert links["eth0"].mac == "02:00:00:00:00:01"
    assert links["eth0"].mtu == 1400
    assert (links["eth0"].kind, links["br0"].kind, links["lo"].kind) == ("veth", "bridge", "")
    assert (links["eth0"].up, links["br0"].up) == (True, False)
    assert (links["eth0"].carrier, links["br0"].carrier, links["lo"].carrier) == (
        True,
        False,
        True,
    )
    assert (links["eth1"].master, links["eth0"].master) == ("br0", "")


def test_addresses_are_read_back(inside: Inside) -> None:
    network = inside(
        lambda: _read(
            _PAIR
            + """
            ip addr add 10.2.0.1 peer 10.2.0.2/32 dev eth0
            ip addr add fd00::1/64 dev eth0 nodad
            """
        )
    )

    assert {address for address in network.addresses if address.scope == 0} == {
        Address(link="eth0", address="10.1.0.1/24", scope=0),
        Address(link="eth0", address="10.2.0.1/32", scope=0),
        Address(link="eth0", address="fd00::1/64", scope=0),
    }
    assert {address.link for address in network.addresses if address.scope == 253} == {
        "eth0",
        "eth1",
    }


def _route(destination: str, **fields: object) -> Route:
    usual = {"family": 2, "table": 254, "link": "eth0", "gateway": "", "protocol": 3}
    values: dict[str, object] = {**usual, "kind": "unicast", **fields}
    return Route(destination=destination, **values)  # type: ignore[arg-type]


def test_routes_are_read_back(inside: Inside) -> None:
    network = inside(
        lambda: _read(
            _PAIR
            + """
            ip route add default via 10.1.0.2
            ip route add 10.9.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3
            ip route add 10.7.0.0/16 dev eth0 table 500 proto 80
            ip route add blackhole 10.8.0.0/26 proto 80
            ip route add local 10.6.0.0/16 dev lo
            ip route add 10.5.0.0/16 via inet6 fe80::2 dev eth0
            """
        )
    )

    assert [route for route in network.routes if route.family == 2] == [
        _route("10.1.0.0/24", protocol=2),
        _route("10.5.0.0/16", gateway="fe80::2"),
        _route("10.6.0.0/16", link="lo", table=255, kind="local"),
        _route("10.7.0.0/16", table=500, protocol=80),
        _route("10.8.0.0/26", link="", protocol=80, kind="blackhole"),
        _route("10.9.0.0/16", gateway="10.1.0.2"),
        _route("10.9.0.0/16", gateway="10.1.0.3"),
        _route("default", gateway="10.1.0.2"),
    ]


def test_ipv6_routes_are_read_back(inside: Inside) -> None:
    network = inside(
        lambda: _read(
            _PAIR
            + """
            ip addr add fd00::1/64 dev eth0 nodad
            ip route add default via fd00::2
            ip route add fd01::/64 nexthop via fd00::2 nexthop via fd00::3
            """
        )
    )

    routes = [route for route in network.routes if route.family == 10]
    assert [route for route in routes if not route.destination.startswith("fe80")] == [
        _route("default", family=10, gateway="fd00::2"),
        _route("fd00::/64", family=10, protocol=2),
        _route("fd01::/64", family=10, gateway="fd00::2"),
        _route("fd01::/64", family=10, gateway="fd00::3"),
    ]


def test_rules_are_read_back(inside: Inside) -> None:
    network = inside(
        lambda: _read(
            _PAIR
            + """
            ip rule add from 10.1.0.0/24 to 10.2.0.0/16 fwmark 0x200/0xf00 iif eth0 \\
                table 500 pref 9
            ip rule add pref 200 goto 32766
            ip -6 rule add from fd00::/8 table 7 pref 77
            """
        )
    )

    rules = {(rule.family, rule.priority): rule for rule in network.rules}
    assert sorted(rules) == [
        (2, 0), (2, 9), (2, 200), (2, 32766), (2, 32767), (10, 0), (10, 77), (10, 32766),
    ]  # fmt: skip
    assert rules[2, 0].table == 255
    assert rules[2, 9] == Rule(
        family=2,
        priority=9,
        source="10.1.0.0/24",
        destination="10.2.0.0/16",
        mark="0x200/0xf00",
        input_link="eth0",
        table=500,
        action="lookup",
    )
    assert rules[2, 200].action == "goto 32766"
    assert rules[10, 77].source == "fd00::/8"


def test_an_address_of_zeros_is_read_back(inside: Inside) -> None:
    network = inside(lambda: _read(_PAIR + "ip addr add 0.0.0.0/8 dev eth0"))

    assert isinstance(network.addresses, tuple), network.addresses


def test_permanent_neighbours_are_read_back_and_no_others(inside: Inside) -> None:
    network = inside(
        lambda: _read(
            _PAIR
            + """
            ip link add br0 type bridge
            ip link set eth1 master br0
            ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent
            ip neigh add fd00::7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent
            ip neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 dev eth0 nud reachable
            bridge fdb add 02:00:00:00:00:09 dev eth1 master static
            """
        )
    )

    assert network.neighbours == (
        Neighbour(link="eth0", address="10.1.0.7", mac="02:00:00:00:00:07"),
        Neighbour(link="eth0", address="fd00::7", mac="02:00:00:00:00:07"),
    )


def test_the_origin_of_a_mac_is_read_back(inside: Inside) -> None:
    def read() -> Network:
        own_sysfs()
        return _read(
            """
            ip link add veth0 type veth peer name veth1
            ip link set veth1 address 02:00:00:00:00:09
            """
        )

    links = {link.name: link.mac_origin for link in inside(read).links}
    assert links == {"lo": "permanent", "veth0": "random", "veth1": "set"}


def test_a_link_whose_other_end_is_in_a_pod_is_told(inside: Inside) -> None:
    def read() -> Network:
        pod = subprocess.Popen(["unshare", "--net", "sleep", "60"])  # noqa: S607
        try:
            while Path(f"/proc/{pod.pid}/ns/net").samefile("/proc/self/ns/net"):
                time.sleep(0.01)
            peer = f"type veth peer name eth0 netns {pod.pid}"
            return _read(f"ip link add lxc1 {peer}\nip link add veth0 type veth peer name veth1")
        finally:
            pod.kill()
            pod.wait()

    links = {link.name: link.elsewhere for link in inside(read).links}
    assert links == {"lo": False, "lxc1": True, "veth0": False, "veth1": False}


def test_a_name_of_any_bytes_is_read_back(inside: Inside) -> None:
    name = b"v\xff\x01"

    def read() -> Network:
        own_sysfs()
        make = [b"ip", b"link", b"add", name, b"type", b"veth", b"peer", b"name", b"peer0"]
        subprocess.run(make, check=True)
        return read_network(_HOST, _NOT_ASKED)

    links = {link.name: link.mac_origin for link in inside(read).links}
    assert links["v\ufffd\x01"] == "random"


def test_a_thousand_links_are_read_back(inside: Inside) -> None:
    def read() -> int:
        lines = "".join(f"link add a{n} type veth peer name b{n}\n" for n in range(500))
        sh(f"ip -batch - <<'END'\n{lines}END\n")
        links = read_network(_HOST, _NOT_ASKED).links
        assert isinstance(links, tuple), links
        return len(links)

    assert inside(read) == 1001


def test_ten_thousand_routes_are_all_read(inside: Inside) -> None:
    def read() -> int:
        lines = "".join(
            f"route add 10.{2 + n // 256}.{n % 256}.0/24 dev eth0\n" for n in range(10_000)
        )
        sh(_PAIR + f"ip -batch - <<'END'\n{lines}END\n")
        routes = read_network(_HOST, _NOT_ASKED).routes
        assert isinstance(routes, tuple), routes
        return len([route for route in routes if route.protocol == 3])

    assert inside(read) == 10_000
