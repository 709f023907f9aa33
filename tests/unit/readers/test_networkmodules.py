"""Modules that networks are made with are told by name; a list that cannot be read is unknown."""

from pathlib import Path

import pytest

from trialboot.core.carriers import is_of_networks
from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers.networkmodules import read_network_modules

LOADED = """\
vxlan 155648 0 - Live 0x0000000000000000
udp_tunnel 28672 1 vxlan, Live 0x0000000000000000
i2c_core 90112 0 - Live 0x0000000000000000
xt_mark 16384 3 - Live 0x0000000000000000
"""


@pytest.mark.parametrize(
    ("module", "counts"),
    [("vxlan", True), ("xt_mark", True), ("cls_bpf", True), ("i2c_core", False), ("ext4", False)],
)
def test_modules_that_networks_are_made_with_are_told_by_name(
    module: str, *, counts: bool
) -> None:
    assert is_of_networks(module) is counts


def test_only_modules_of_networks_are_part_of_a_sample(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text(LOADED)
    assert read_network_modules(Host(root=tmp_path)) == ("udp_tunnel", "vxlan", "xt_mark")


def test_a_kernel_without_modules_has_none(tmp_path: Path) -> None:
    assert read_network_modules(Host(root=tmp_path)) == ()


def test_a_list_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/modules").mkdir(parents=True)
    found = read_network_modules(Host(root=tmp_path))
    assert isinstance(found, Unknown)
    assert found.why.startswith("/proc/modules: ")
