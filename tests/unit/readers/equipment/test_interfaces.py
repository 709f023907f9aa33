"""What drives an interface, and which interfaces a default route needs."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Interface, Unknown
from trialboot.host import Host
from trialboot.readers.equipment.interfaces import (
    DriverInfo,
    parse_driver_info,
    parse_ipv4_defaults,
    parse_ipv6_defaults,
    read_interfaces,
)

IPV4 = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT  \n"
    "bond0.7\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0   \n"
    "wlan0\t00000000\t010200C0\t0003\t0\t0\t-5\t00000000\t0\t0\t0   \n"
    "eth9\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0   \n"
    "eth8\t00000000\t010200C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0   \n"
    "eth7\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0   \n"
    "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0   \n"
)
ANY = "0" * 32
GATEWAY = "fd" + "0" * 29 + "1"
IPV6 = (
    f"{GATEWAY} 40 {ANY} 00 {ANY} 00000100 00000001 00000000 00000001     eth9\n"
    f"{ANY} 00 {ANY} 00 {GATEWAY} 00000400 00000002 00000000 00000003     br0\n"
    f"{ANY} 00 {GATEWAY} 40 {GATEWAY} 00000400 00000002 00000000 00000003     eth6\n"
    f"{ANY} 00 {ANY} 00 {ANY} ffffffff 00000001 00000000 00200200       lo\n"
)


def drvinfo(driver: str = "", firmware: str = "", bus: str = "") -> bytes:
    words = [word.encode() for word in (driver, "6.1.0", firmware, bus)]
    return struct.pack("=I32s32s32s32s84x", 3, *words)


def kernel(**answers: bytes | int) -> Callable[[str], bytes]:
    """Stand for the ioctl: what each interface tells, or the errno it ends with."""

    def ask(name: str) -> bytes:
        answer = answers.get(name, errno.EOPNOTSUPP)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    return ask


class Net:
    """A folder with /sys/class/net and the routes of /proc/net."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "sys/class/net"
        self.folder.mkdir(parents=True)
        (root / "proc/net").mkdir(parents=True)
        self.routes(IPV4)

    def routes(self, ipv4: str = "", ipv6: str = "") -> None:
        (self.root / "proc/net/route").write_text(ipv4)
        (self.root / "proc/net/ipv6_route").write_text(ipv6)

    def add(self, name: str, *, module: str = "", lower: tuple[str, ...] = ()) -> None:
        place = self.folder / name
        place.mkdir()
        for below in lower:
            (place / f"lower_{below}").symlink_to(f"../{below}")
        if module:
            (place / "device/driver").mkdir(parents=True)
            (place / "device/driver/module").symlink_to(f"../../../../../module/{module}")

    def read(self, ask: Callable[[str], bytes]) -> tuple[Interface, ...] | Unknown:
        return read_interfaces(Host(root=self.root), ask=ask)


def test_the_driver_tells_its_words() -> None:
    assert parse_driver_info(drvinfo("ice", "4.40 0x8001c967", "0000:3b:00.0")) == DriverInfo(
        driver="ice", firmware="4.40 0x8001c967", bus="0000:3b:00.0"
    )


@pytest.mark.parametrize("firmware", ["", "N/A", " ", "\x1b"])
def test_a_driver_without_firmware_tells_none(firmware: str) -> None:
    assert parse_driver_info(drvinfo("veth", firmware)).firmware == ""


@given(st.binary(max_size=220))
def test_any_bytes_of_a_driver_are_words_that_may_be_printed(raw: bytes) -> None:
    told = parse_driver_info(raw)
    assert (told.driver + told.firmware + told.bus).isprintable()


def test_default_routes_of_ipv4_name_their_links_whatever_their_metric() -> None:
    assert parse_ipv4_defaults(IPV4) == ("bond0.7", "wlan0")


def test_default_routes_of_ipv6_name_their_links_but_not_unreachable_ones() -> None:
    assert parse_ipv6_defaults(IPV6) == ("br0",)


@given(st.text(alphabet="0\t \nF12-eth/\0", max_size=200), st.text(max_size=100))
def test_any_route_table_names_links_or_none(lines: str, text: str) -> None:
    for table in (lines, text, IPV4 + lines, IPV6 + text):
        for names in (parse_ipv4_defaults(table), parse_ipv6_defaults(table)):
            assert all(name and not set(name) & set("/\0 \n") for name in names)


def test_the_module_comes_from_sys_and_the_rest_from_the_driver(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.add("eth0", module="virtio-net")
    net.add("vx0")
    net.add("lo")
    (net.folder / "bonding_masters").write_text("bond0\n")
    answers = kernel(eth0=drvinfo("virtio_pci", "1.0", "0000:00:03.0"), vx0=drvinfo("vxlan"))
    assert net.read(answers) == (
        Interface(name="eth0", driver="virtio_net", firmware="1.0", bus="0000:00:03.0"),
        Interface(name="lo", driver=""),
        Interface(name="vx0", driver="vxlan"),
    )


def test_what_a_default_route_is_built_on_counts_too(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.routes(IPV4, IPV6)
    net.add("bond0.7", lower=("bond0",))
    net.add("bond0", lower=("eth0", "eth1"))
    net.add("br0", lower=("eth2",))
    for name in ("eth0", "eth1", "eth2", "eth9"):
        net.add(name)
    found = net.read(kernel())
    assert not isinstance(found, Unknown)
    assert [row.name for row in found if row.default_route] == [
        "bond0",
        "bond0.7",
        "br0",
        "eth0",
        "eth1",
        "eth2",
    ]


def test_where_the_driver_tells_no_address_the_device_s_link_does(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.add("eth0")
    device = tmp_path / "sys/devices/pci0000:3a/0000:3b:00.0"
    (device / "driver").mkdir(parents=True)
    (device / "driver/module").symlink_to("../../../../module/bnxt-en")
    (tmp_path / "sys/class/net/eth0/device").symlink_to("../../../devices/pci0000:3a/0000:3b:00.0")
    found = net.read(kernel(eth0=errno.ENODEV))
    assert found == (Interface(name="eth0", driver="bnxt_en", bus="0000:3b:00.0"),)


def test_links_that_lie_on_each_other_are_followed_once(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.add("bond0.7", lower=("eth0",))
    net.add("eth0", lower=("bond0.7", "gone"))
    found = net.read(kernel())
    assert not isinstance(found, Unknown)
    assert [row.default_route for row in found] == [True, True]


def test_a_host_without_ipv6_is_read(tmp_path: Path) -> None:
    net = Net(tmp_path)
    (tmp_path / "proc/net/ipv6_route").unlink()
    assert net.read(kernel()) == ()


def test_an_interface_that_went_away_meanwhile_is_told_without_a_driver(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.add("veth1")
    assert net.read(kernel(veth1=errno.ENODEV)) == (Interface(name="veth1", driver=""),)


def test_a_driver_that_may_not_be_asked_makes_all_unknown(tmp_path: Path) -> None:
    net = Net(tmp_path)
    net.add("eth0")
    assert net.read(kernel(eth0=errno.EPERM)) == Unknown("driver of eth0: Operation not permitted")


def test_routes_or_links_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    net = Net(tmp_path)
    (tmp_path / "proc/net/route").unlink()
    assert net.read(kernel()) == Unknown("/proc/net/route: No such file or directory")
    net.routes(IPV4)
    net.folder.rmdir()
    assert net.read(kernel()) == Unknown(f"{net.folder}: No such file or directory")
