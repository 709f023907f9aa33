"""All eBPF of a host told by names: what costs the verifier, maps, links, pins."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bpf_kernel import FakeKernel
from trialboot import bpf
from trialboot.core.facts import BpfObjects, ProgramSize, Unknown
from trialboot.host import Host
from trialboot.readers.ebpf_objects import MOST_PINS, pin_class, read_objects

Read = Callable[[FakeKernel], BpfObjects]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reading(kernel: FakeKernel) -> BpfObjects:
        found = read_objects(Host(root=tmp_path), syscall=kernel.syscall)
        assert isinstance(found, BpfObjects), found
        return found

    return reading


def pinned(root: Path, *paths: str) -> None:
    for path in paths:
        place = root / "sys/fs/bpf" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def test_everything_is_told_by_name(read: Read, tmp_path: Path) -> None:
    kernel = FakeKernel(
        {1: "cil_from_netdev", 2: "tail_ipv4"},
        costs={1: 99_814, 2: 7},
        maps={1: (1, "cilium_policy_0"), 2: (1, "cilium_policy_1"), 3: (3, "cilium_calls")},
        bpf_links={1: link(11), 2: link(3), 3: link(11), 4: link(99)},
    )
    pinned(tmp_path, "tc/globals/cilium_policy_00123", "tc/globals/cilium_policy_00124", "a")

    assert read(kernel) == BpfObjects(
        programs=2,
        largest=(
            ProgramSize(program="cil_from_netdev", verified_instructions=99_814),
            ProgramSize(program="tail_ipv4", verified_instructions=7),
        ),
        maps=(("cilium_calls", 1), ("cilium_policy", 2)),
        links=(("cgroup", 1), ("tcx", 2), ("type 99", 1)),
        pins=("/sys/fs/bpf/a", "/sys/fs/bpf/tc/globals/cilium_policy_*"),
    )


def link(kind: int) -> bytes:
    return struct.pack("=I60x", kind)


def test_nothing_is_nothing_and_not_unknown(read: Read) -> None:
    assert read(FakeKernel()) == BpfObjects(programs=0, largest=(), maps=(), links=(), pins=())


def test_the_ten_dearest_names_are_told_each_by_its_dearest(read: Read) -> None:
    programs = {id_: f"p{id_ % 20:02}" for id_ in range(1, 101)}

    found = read(FakeKernel(programs, costs={id_: id_ for id_ in programs}))

    assert found.programs == 100
    assert [one.verified_instructions for one in found.largest] == list(range(100, 90, -1))


def test_an_old_kernel_tells_no_cost(read: Read) -> None:
    assert read(FakeKernel({1: "one"})).largest == (
        ProgramSize(program="one", verified_instructions=0),
    )


def test_what_went_away_is_passed_over(read: Read) -> None:
    kernel = FakeKernel({1: "one", 2: "two"}, maps={1: (1, "m")}, bpf_links={1: link(3)}, gone={1})

    found = read(kernel)

    assert (found.programs, found.maps, found.links) == (1, (), ())


@pytest.mark.parametrize(
    "command", [bpf.PROG_GET_NEXT_ID, bpf.MAP_GET_FD_BY_ID, bpf.OBJ_GET_INFO_BY_FD]
)
def test_not_being_allowed_is_unknown(tmp_path: Path, command: int) -> None:
    kernel = FakeKernel({1: "one"}, maps={1: (1, "m")}, refused={-command: errno.EPERM})

    found = read_objects(Host(root=tmp_path), syscall=kernel.syscall)

    assert isinstance(found, Unknown)
    assert found.why.endswith("Operation not permitted")


def test_a_loop_is_not_followed(read: Read, tmp_path: Path) -> None:
    pinned(tmp_path, "file")
    (tmp_path / "sys/fs/bpf/loop").symlink_to(tmp_path / "sys/fs/bpf")

    assert read(FakeKernel()).pins == ("/sys/fs/bpf/file", "/sys/fs/bpf/loop")


def test_pins_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "sys").touch()  # root may read any folder, but not what is none

    found = read_objects(Host(root=tmp_path), syscall=FakeKernel().syscall)

    assert found == Unknown(f"{tmp_path}/sys/fs/bpf: Not a directory")


def test_pins_have_names_of_any_bytes(read: Read, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/sys/fs/bpf"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    Path(os.fsdecode(folder + b"/\xff\x01")).touch()

    assert read(FakeKernel()).pins == ("/sys/fs/bpf/\ufffd\x01",)


def test_a_bpffs_beyond_all_measure_is_read_in_part(read: Read, tmp_path: Path) -> None:
    pinned(tmp_path, "first")
    folder = os.open(tmp_path / "sys/fs/bpf", os.O_RDONLY)
    for n in range(MOST_PINS):
        os.mknod(f"pin_{n}_x", dir_fd=folder)
    os.close(folder)

    pins = read(FakeKernel()).pins

    assert pins[0] == f"... and what is beyond {MOST_PINS} entries"
    assert pins[-1] == "/sys/fs/bpf/pin_*_x"


def test_a_deep_bpffs_is_read(read: Read, tmp_path: Path) -> None:
    pinned(tmp_path, "first")
    folder = tmp_path / "sys/fs/bpf"
    for _ in range(1200):
        folder /= "d"
        folder.mkdir()

    try:
        assert read(FakeKernel()).pins == ("/sys/fs/bpf/first",)
    finally:  # deeper than what pytest can take away
        while folder.name == "d":
            folder.rmdir()
            folder = folder.parent


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("cilium/endpoints/123/links/cil_to_x", "cilium/endpoints/*/links/cil_to_x"),
        ("cilium/devices/lxc1a2b3c4d/links/x", "cilium/devices/lxc*/links/x"),
        ("tcx/cali1a2b3c4d5e6_ingress", "tcx/cali*_ingress"),
        ("tc/3f2a9b1c4d/map", "tc/*/map"),
        ("tc/globals/cilium_calls_netdev_00002", "tc/globals/cilium_calls_netdev_*"),
        ("tc/globals/cali_v4_ct3", "tc/globals/cali_v*_ct*"),
    ],
)  # fmt: skip
def test_a_pin_is_told_without_what_a_reboot_renumbers(path: str, told: str) -> None:
    assert pin_class(path) == told
