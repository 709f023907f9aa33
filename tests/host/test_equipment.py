"""This kernel's own answers: drivers of links made with ip(8), default routes, devlink."""

import subprocess

import pytest

from tests.host.conftest import Inside, sh
from trialboot.core.facts import Interface, Kernel
from trialboot.host import Host
from trialboot.readers.equipment.devlink import read_devlink
from trialboot.readers.equipment.interfaces import read_interfaces
from trialboot.readers.kernel import read_kernel

pytestmark = pytest.mark.host

_KINDS = {
    "veth": "add a0 type veth peer name a1",
    "bridge": "add a0 type bridge",
    "vxlan": "add a0 type vxlan id 7 dstport 4789",
    "dummy": "add a0 type dummy",
}


def _read() -> dict[str, Interface]:
    # /sys shows the network namespace of whoever mounted it.
    sh("mount -t sysfs sysfs /sys")
    found = read_interfaces(Host())
    assert isinstance(found, tuple), found
    return {row.name: row for row in found}


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_a_link_names_its_driver(inside: Inside, kind: str) -> None:
    def read() -> dict[str, Interface]:
        words = ["ip", "link", *_KINDS[kind].split()]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            pytest.skip(f"this kernel has no {kind}")
        return _read()

    found = inside(read)
    assert found["a0"] == Interface(name="a0", driver=kind)
    assert found["lo"] == Interface(name="lo", driver="")


def test_the_ports_below_a_default_route_are_found(inside: Inside) -> None:
    def read() -> dict[str, Interface]:
        sh(
            """
            ip link add eth0 type veth peer name eth1
            ip link add br0 type bridge
            ip link set eth0 master br0
            ip link set eth0 up
            ip link set eth1 up
            ip link set br0 up
            ip addr add 10.1.0.1/24 dev br0
            ip route add default via 10.1.0.2
            """
        )
        return _read()

    found = inside(read)
    assert sorted(row.name for row in found.values() if row.default_route) == ["br0", "eth0"]


@pytest.mark.parametrize(
    ("route", "through"), [("default via fd00::2", ["eth0"]), ("unreachable default", [])]
)
def test_a_default_route_of_ipv6_is_found_and_an_unreachable_one_is_not(
    inside: Inside, route: str, through: list[str]
) -> None:
    def read() -> dict[str, Interface]:
        sh(
            f"""
            ip link add eth0 type veth peer name eth1
            ip link set eth0 up
            ip link set eth1 up
            ip addr add fd00::1/64 dev eth0 nodad
            ip -6 route add {route}
            """
        )
        return _read()

    found = inside(read)
    assert sorted(row.name for row in found.values() if row.default_route) == through


def test_devlink_answers_or_is_not_there(inside: Inside) -> None:
    found, unread = inside(read_devlink)
    assert unread == ()
    assert all(row.kind == "devlink" for row in found)


def test_this_kernel_shows_its_build_id() -> None:
    found = read_kernel(Host())
    assert isinstance(found, Kernel), found
    if not found.build_id:
        pytest.skip("this kernel was linked without a build-id")
    assert len(bytes.fromhex(found.build_id)) >= 8
