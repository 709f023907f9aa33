"""Running processes by name, in folders that look like /proc."""

from pathlib import Path

import pytest

from tests.unit.readers.cni.nodes import Node
from trialboot.errors import HostError
from trialboot.processes import Running, running

GROUP = "0::/\n"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_processes_are_found_by_the_name_that_the_kernel_keeps(node: Node) -> None:
    node.process(7, "kube-controller", GROUP, age=1.5)
    node.process(8, "bird", GROUP, age=20.0)
    node.process(9, "bird", GROUP, age=30.0)
    node.process(10, "birdie", GROUP)
    assert running(node.host, ("kube-controller-manager", "bird")) == (
        Running(pid=7, name="kube-controller", age=1.5),
        Running(pid=8, name="bird", age=20.0),
        Running(pid=9, name="bird", age=30.0),
    )


def test_a_zombie_does_not_run(node: Node) -> None:
    node.process(7, "bird", GROUP, state="Z")
    assert running(node.host, ("bird",)) == ()


def test_a_process_that_ends_while_we_look_is_left_out(node: Node) -> None:
    node.process(7, "bird", GROUP)
    node.process(8, "bird", GROUP)
    (node.root / "proc/7/stat").unlink()
    (node.root / "proc/8/comm").unlink()
    assert running(node.host, ("bird",)) == ()


def test_names_of_any_bytes_harm_nothing(node: Node) -> None:
    node.process(7, "bird", GROUP)
    node.write("/proc/7/comm", b"\xff\xfe\x1b[2J\n")
    assert running(node.host, ("bird",)) == ()


def test_a_start_after_now_is_no_negative_age(node: Node) -> None:
    node.process(7, "bird", GROUP, age=-5.0)
    assert running(node.host, ("bird",)) == (Running(pid=7, name="bird", age=0.0),)


def test_without_names_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc").write_bytes(b"")
    assert running(Node(tmp_path / "other").host, ()) == ()


@pytest.mark.parametrize("uptime", ["", "soon"])
def test_an_uptime_that_is_no_time_is_said(node: Node, uptime: str) -> None:
    node.write("/proc/uptime", uptime)
    with pytest.raises(HostError, match="/proc/uptime"):
        running(node.host, ("systemd",))


def test_a_folder_without_processes_is_said(node: Node) -> None:
    (node.root / "proc/1").rename(node.root / "proc/self")
    with pytest.raises(HostError, match="/proc shows no processes"):
        running(node.host, ("systemd",))
