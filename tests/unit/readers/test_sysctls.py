"""Kernel settings of the network."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers.sysctls import dotted, read_sysctls


def write(root: Path, path: str, value: str) -> None:
    place = root / "proc/sys" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(value)


def read(root: Path, *links: str) -> dict[str, str]:
    found = read_sysctls(Host(root=root), links)
    assert not isinstance(found, Unknown)
    assert list(found) == sorted(found)
    return {setting.name: setting.value for setting in found}


def test_settings_of_the_host_and_of_each_link_are_read(tmp_path: Path) -> None:
    write(tmp_path, "net/ipv4/ip_forward", "1\n")
    write(tmp_path, "net/ipv6/conf/all/forwarding", "1\n")
    write(tmp_path, "net/core/bpf_jit_enable", "2\n")
    for link in ("all", "default", "eth0", "lxc1"):
        write(tmp_path, f"net/ipv4/conf/{link}/rp_filter", "0\n")
        write(tmp_path, f"net/ipv4/conf/{link}/forwarding", "1\n")
    assert read(tmp_path, "eth0") == {
        "net.core.bpf_jit_enable": "2",
        "net.ipv4.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.forwarding": "1",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.conf.eth0.forwarding": "1",
        "net.ipv4.conf.eth0.rp_filter": "0",
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
    }


def test_without_br_netfilter_its_settings_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "net/ipv4/ip_forward", "0\n")
    assert read(tmp_path) == {"net.ipv4.ip_forward": "0"}
    write(tmp_path, "net/bridge/bridge-nf-call-iptables", "1\n")
    assert read(tmp_path)["net.bridge.bridge-nf-call-iptables"] == "1"


def test_a_dot_in_the_name_of_a_link_is_written_as_sysctl_does(tmp_path: Path) -> None:
    write(tmp_path, "net/ipv4/conf/eth0.100/rp_filter", "2\n")
    assert read(tmp_path, "eth0.100") == {"net.ipv4.conf.eth0/100.rp_filter": "2"}


def test_a_link_that_went_away_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "net/ipv4/ip_forward", "1\n")
    assert read(tmp_path, "gone0") == {"net.ipv4.ip_forward": "1"}


def test_a_host_without_settings_is_unknown(tmp_path: Path) -> None:
    assert read_sysctls(Host(root=tmp_path), ()) == Unknown("/proc/sys/net cannot be read")


def test_a_setting_that_cannot_be_read_makes_all_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/net/ipv4/ip_forward").mkdir(parents=True)
    found = read_sysctls(Host(root=tmp_path), ())
    assert isinstance(found, Unknown)
    assert found.why == f"/proc/sys/net/ipv4/ip_forward: {os.strerror(errno.EISDIR)}"


@pytest.mark.parametrize("link", ["", ".", "..", "../../../kernel", "a/b", "a\0b"])
def test_a_name_that_is_no_link_s_leads_nowhere(tmp_path: Path, link: str) -> None:
    write(tmp_path, "net/ipv4/ip_forward", "1\n")
    write(tmp_path, "kernel/rp_filter", "9\n")
    write(tmp_path, "net/ipv4/conf/rp_filter", "9\n")
    assert read(tmp_path, link) == {"net.ipv4.ip_forward": "1"}


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=15))
def test_the_name_of_a_setting_tells_its_path(link: str) -> None:
    name = dotted(f"net/ipv4/conf/{link}/rp_filter")
    assert name.count(".") == 4
    assert name.translate(str.maketrans("./", "/.")) == f"net/ipv4/conf/{link}/rp_filter"


def test_a_value_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, "net/ipv4/ip_forward", " 1\t2\n3\n" + " " * 9000)
    assert read(tmp_path) == {"net.ipv4.ip_forward": "1 2 3"}
