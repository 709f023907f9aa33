"""This machine's own settings and processes, read in a network namespace of our own."""

import os
from pathlib import Path

import pytest

from tests.host.conftest import Inside, sh
from trialboot.core.facts import Cni, Unknown
from trialboot.host import Host
from trialboot.processes import running
from trialboot.readers.cni.inventory import read_cni
from trialboot.readers.sysctls import read_sysctls

pytestmark = pytest.mark.host


def _read() -> tuple[dict[str, str], Cni, list[int]]:
    sh(
        """
        ip link add lxc1 type veth peer name eth0.100
        echo 2 >/proc/sys/net/ipv4/conf/lxc1/rp_filter
        echo 1 >/proc/sys/net/ipv4/conf/eth0.100/rp_filter
        echo 1 >/proc/sys/net/ipv4/ip_forward
        """
    )
    settings = read_sysctls(Host(), ("lxc1", "eth0.100"))
    assert not isinstance(settings, Unknown)
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    ours = [p.pid for p in running(Host(), (name,)) if p.pid == os.getpid() and p.age < 3600]
    return (
        {s.name: s.value for s in settings},
        read_cni(Host()),
        [os.getpid() - pid for pid in ours],
    )


def test_what_was_set_is_read_back_and_this_process_is_found(inside: Inside) -> None:
    settings, cni, ours = inside(_read)

    assert settings["net.ipv4.conf.lxc1.rp_filter"] == "2"
    assert settings["net.ipv4.conf.eth0/100.rp_filter"] == "1"
    assert settings["net.ipv4.ip_forward"] == "1"
    assert settings["net.ipv4.conf.lxc1.forwarding"] == "1"
    assert "net.ipv4.conf.eth0.rp_filter" not in settings
    assert not isinstance(cni.agents, Unknown), cni.agents
    assert ours == [0]
