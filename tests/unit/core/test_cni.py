"""What is known of CNIs: each name as its own code has it, cut as the kernel cuts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.cni import (
    AGENTS,
    PROFILES,
    PROGRAMS,
    SPLAT,
    Profile,
    is_for_a_peer,
    is_temporary,
    owner_of,
    pod_class,
    profile_of,
)
from trialboot.core.roles import KERNEL_KEEPS, judged_owners, role_name

CUT = {
    "cil_from_contai": "cil_from_container",
    "cil_to_containe": "cil_to_container",
    "cil_from_netdev": "cil_from_netdev",
    "cil_to_netdev": "cil_to_netdev",
    "cil_from_host": "cil_from_host",
    "cil_to_host": "cil_to_host",
    "cil_from_overla": "cil_from_overlay",
    "cil_to_overlay": "cil_to_overlay",
    "cil_from_networ": "cil_from_network",
    "cil_from_wiregu": "cil_from_wireguard",
    "cil_to_wireguar": "cil_to_wireguard",
    "cil_xdp_entry": "cil_xdp_entry",
    "cil_lxc_policy": "cil_lxc_policy",
    "cil_lxc_policy_": "cil_lxc_policy_egress",
    "cil_host_policy": "cil_host_policy",
    "cil_sock4_conne": "cil_sock4_connect",
    "cil_sock6_conne": "cil_sock6_connect",
    "cil_sock4_sendm": "cil_sock4_sendmsg",
    "cil_sock6_sendm": "cil_sock6_sendmsg",
    "cil_sock4_recvm": "cil_sock4_recvmsg",
    "cil_sock6_recvm": "cil_sock6_recvmsg",
    "cil_sock4_getpe": "cil_sock4_getpeername",
    "cil_sock6_getpe": "cil_sock6_getpeername",
    "cil_sock4_post_": "cil_sock4_post_bind",
    "cil_sock6_post_": "cil_sock6_post_bind",
    "cil_sock4_pre_b": "cil_sock4_pre_bind",
    "cil_sock6_pre_b": "cil_sock6_pre_bind",
    "cil_sock_releas": "cil_sock_release",
    "cali_tc_preambl": "cali_tc_preamble",
    "cali_xdp_preamb": "cali_xdp_preamble",
    # v4, v46 and v6 are cut to the same: the attach type tells the family.
    "calico_connect_": "calico_connect_",
    "calico_sendmsg_": "calico_sendmsg_",
    "calico_recvmsg_": "calico_recvmsg_",
    "handle_ingress": "handle_ingress",
    "handle_egress": "handle_egress",
}


@pytest.mark.parametrize(("shown", "name"), CUT.items())
def test_a_name_that_the_kernel_cut_is_known(shown: str, name: str) -> None:
    assert role_name(shown) == name


def test_every_known_program_has_its_row() -> None:
    assert {name[:KERNEL_KEEPS] for name in PROGRAMS} == set(CUT)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_name_is_its_own(name: str) -> None:
    assert role_name(name) == name
    assert role_name(f"{name}-eth0") == name
    assert role_name(f"{name}-lxc0a1b") == name


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("bpf_lxc.o:[from-container]", "cil_from_container"),
        ("bpf_lxc.o:[to-container]", "cil_to_container"),
        ("bpf_netdev_eth0.o:[from-netdev]", "cil_from_netdev"),
        ("bpf_netdev_eth0.o:[to-netdev]", "cil_to_netdev"),
        ("bpf_host.o:[from-host]", "cil_from_host"),
        ("bpf_host.o:[to-host]", "cil_to_host"),
        ("bpf_overlay.o:[from-overlay]", "cil_from_overlay"),
        ("bpf_overlay.o:[to-overlay]", "cil_to_overlay"),
        ("sock4_connect", "cil_sock4_connect"),
        ("sock6_post_bind", "cil_sock6_post_bind"),
        ("calico_connect_v46", "calico_connect_v46"),
        ("calico_connect_v4", "calico_connect_v4"),
        ("calico_from_workload_ep", "calico_from_workload_ep"),
        ("cil_from_host_x", "cil_from_host_x"),
        ("cil_from_cont", "cil_from_cont"),
        ("cilium-eth0", "cilium-eth0"),
        ("sd_devices", "sd_devices"),
        ("", ""),
        ("[from-]", "[from-]"),
    ],
)
def test_other_names_of_programs(shown: str, name: str) -> None:
    assert role_name(shown) == name


@given(st.text())
def test_any_bytes_have_a_name_that_is_stable(program: str) -> None:
    name = role_name(program)
    assert role_name(name) == name
    assert owner_of(name) in {*(p.name for p in PROFILES), "systemd", "tools", "other"}


OWNERS = {
    "cil_from_container": "cilium",
    "cali_tc_preamble": "calico",
    "calico_connect_v4": "calico",
    "handle_ingress": "aws",
    "sd_fw_egress": "systemd",
    "tg_tc": "tools",
    "falco_x": "tools",
    "": "other",
    "xcil_": "other",
    "\0": "other",
}


@pytest.mark.parametrize(("program", "owner"), OWNERS.items())
def test_a_program_has_an_owner(program: str, owner: str) -> None:
    assert owner_of(program) == owner


@pytest.mark.parametrize(
    ("programs", "owners"),
    [
        ((), set()),
        (("sd_x", "tg_x"), set()),
        (("odd", "sd_x"), {"other"}),
        (("odd", "cil_x"), {"cilium"}),
        (("handle_ingress", "cil_x", "odd"), {"cilium", "aws"}),
    ],
)
def test_what_others_attach_counts_only_where_no_cni_is_known(
    programs: tuple[str, ...], owners: set[str]
) -> None:
    assert judged_owners(programs) == owners


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_a_profile_is_found_by_its_plugin(profile: Profile) -> None:
    assert profile_of(("portmap", *profile.plugins)) is profile
    assert set(profile.agents) <= set(AGENTS)
    assert all(len(name) <= KERNEL_KEEPS for name in profile.agents)


def test_an_unknown_cni_has_no_profile() -> None:
    assert profile_of(("odd", "portmap")) is None
    assert profile_of(()) is None


@pytest.mark.parametrize(
    ("name", "pods", "temporary", "peer"),
    [
        ("lxc0a1b", "lxc*", False, False),
        ("lxc_health", None, False, False),
        ("cali_nk_probe", None, True, False),
        ("testTcx", None, True, False),
        ("testTcxb", None, True, False),
        ("testTcxbb", None, False, False),
        ("tun-1000006", None, False, True),
        ("tun-0a1b2c3d4e5", None, False, True),
        ("tun0", None, False, False),
        ("tun-", None, False, False),
        ("0a1b2c3d4e5f601", "sandbox*", False, False),
        ("0a1b2c3d4e5f60", None, False, False),
        ("", None, False, False),
    ],
)
def test_what_a_name_of_a_device_tells(
    name: str, pods: str | None, *, temporary: bool, peer: bool
) -> None:
    assert (pod_class(name), is_temporary(name), is_for_a_peer(name)) == (pods, temporary, peer)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("verifier bug: REG INVARIANTS VIOLATION (1)", True),
        ("BPF program is too large. Processed 1000001 insn", True),
        ("WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1 bpf_check", True),
        ("BUG: unable to handle page fault in bpf_prog_run", True),
        ("WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:1", False),
        ("bpfilter: Loaded", False),
    ],
)
def test_a_broken_verifier_is_told_by_the_kernels_log(line: str, *, found: bool) -> None:
    assert bool(SPLAT.search(line)) is found
