"""Which loaded modules carry the network, and why."""

import pytest

from trialboot.core.carriers import carriers, is_of_networks
from trialboot.core.facts import Interface, Module

ETH0 = Interface(name="eth0", driver="ice", bus="0000:3b:00.0", default_route=True)
ETH1 = Interface(name="eth1", driver="igb", bus="0000:5e:00.0")
BOTH = Interface(name="eth2", driver="ice", bus="0000:3b:00.1")
POD = Interface(name="cali1", driver="veth")


def loaded(*names: str, references: int = 0) -> list[Module]:
    return [Module(name=name, references=references) for name in names]


def test_drivers_of_interfaces_carry_it() -> None:
    assert carriers(loaded("ice", "igb", "veth"), [ETH1, BOTH, POD, ETH0]) == {
        "ice": ("drives eth0, which the default route needs", True),
        "veth": ("drives cali1", True),
        "igb": ("drives eth1", False),
    }


def test_kinds_of_interfaces_whose_module_has_another_name_are_known() -> None:
    vlan = Interface(name="eth0.7", driver="802.1Q VLAN Support", default_route=True)
    tunnel = Interface(name="gre1", driver="gre")
    assert carriers(loaded("8021q", "ip_gre"), [vlan, tunnel]) == {
        "8021q": ("drives eth0.7, which the default route needs", True),
        "ip_gre": ("drives gre1", True),
    }


def test_a_driver_that_is_built_in_is_no_loaded_module() -> None:
    assert carriers([], [ETH0]) == {}


@pytest.mark.parametrize(
    "name", ["xt_MARK", "nf_tables", "ip_vs_rr", "cls_bpf", "sch_fq", "wireguard", "ip6t_REJECT"]
)
def test_modules_of_the_network_count_where_something_refers_to_them(name: str) -> None:
    assert carriers(loaded(name, references=2), []) == {name: ("in use by the network", True)}
    assert carriers(loaded(name), []) == {}


def test_br_netfilter_counts_always_for_nothing_ever_refers_to_it() -> None:
    assert "br_netfilter" in carriers(loaded("br_netfilter"), [])


@pytest.mark.parametrize("name", ["snd", "ext4", "nvme", "xt", "kvm", "my_xt_MARK"])
def test_other_modules_do_not_count_however_much_they_are_used(name: str) -> None:
    assert carriers(loaded(name, references=9), []) == {}


def test_what_networks_are_made_with_is_known_by_its_name() -> None:
    assert is_of_networks("xt_MARK")
    assert not is_of_networks("ext4")
