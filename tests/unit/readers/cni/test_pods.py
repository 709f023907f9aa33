"""How often a container was restarted in this boot."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.readers.cni.nodes import BEGAN, CILIUM, NOW, Node
from trialboot.readers.cni.boot import ThisBoot, read_this_boot
from trialboot.readers.cni.pods import (
    Log,
    Pod,
    read_logs,
    read_pods,
    read_starts,
    restarts_of,
)

BOOT = ThisBoot(began=BEGAN, now=NOW.timestamp())


def log(attempt: int, *, this_boot: bool = True) -> Log:
    return Log(attempt=attempt, this_boot=this_boot, path="")


def before(attempt: int) -> Log:
    return log(attempt, this_boot=False)


@pytest.mark.parametrize(
    ("told", "logs", "starts", "restarts"),
    [
        ("nothing at all", [], None, None),
        ("nothing of this boot", [before(4)], None, None),
        ("no start in this boot", [before(4)], 0, None),
        ("starts alone", [], 4, 3),
        ("one run", [log(0)], 1, 0),
        ("one run after a reboot", [before(4), log(5)], 1, 0),
        ("logs alone tell the least", [log(7), log(8)], None, 1),
        ("the last of the boot before is there", [before(4), log(5), log(8)], 9, 3),
        ("the pod is of this boot", [log(0), log(1), log(2)], 9, 2),
        ("logs are gone, starts are there", [log(7), log(8)], 5, 4),
        ("logs are gone, old ones were left behind", [before(2), log(7), log(8)], 5, 4),
        ("fewer starts than logs", [log(7), log(9)], 1, 2),
        ("more starts than runs ever", [log(1), log(2)], 40, 2),
    ],
)
def test_restarts_in_this_boot(
    told: str, logs: list[Log], starts: int | None, restarts: int | None
) -> None:
    assert restarts_of(logs, starts) == restarts, told


@given(
    first=st.integers(0, 50),
    runs=st.integers(1, 30),
    kept=st.integers(1, 30),
    refused=st.integers(0, 5),
)
def test_what_really_happened_is_never_exaggerated_by_logs(
    first: int, runs: int, kept: int, refused: int
) -> None:
    """`first` is the attempt that this boot begins with; the newest `kept` logs are left."""
    attempts = range(max(0, first - 1), first + runs)[-kept:]
    logs = [log(attempt, this_boot=attempt >= first) for attempt in attempts]
    truth = runs - 1
    least = restarts_of(logs, None)
    assert least is not None
    assert least <= truth
    with_starts = restarts_of(logs, runs)
    assert with_starts == truth
    wasted = restarts_of(logs, runs + refused)
    assert wasted is not None
    assert truth <= wasted <= truth + refused


def test_logs_are_parted_by_the_boot_that_wrote_them(tmp_path: Path) -> None:
    node = Node(tmp_path)
    pod = f"kube-system_cilium-1_{CILIUM}"
    node.log(pod, "agent", 10, at=BEGAN + 5)
    node.log(pod, "agent", 9, at=BEGAN - 5)
    node.log(pod, "agent", 11, at=NOW.timestamp() + 300)
    node.write(f"/var/log/pods/{pod}/agent/x.log", "")
    found = read_logs(read_pods(node.host)[CILIUM], "agent", BOOT)
    assert [(log.attempt, log.this_boot) for log in found] == [
        (9, False),
        (10, True),
        (11, False),
    ]


def test_pods_are_known_by_the_uid_at_the_end(tmp_path: Path) -> None:
    node = Node(tmp_path)
    static = "0123456789abcdef" * 2
    node.log(f"kube-system_kube-proxy-node.example_{static}", "kube-proxy", 0)
    (tmp_path / "var/log/pods/kube-system_file_abc").write_bytes(b"")
    assert read_pods(node.host) == {
        static: Pod(
            namespace="kube-system",
            uid=static,
            folder=f"{tmp_path}/var/log/pods/kube-system_kube-proxy-node.example_{static}",
        )
    }


def test_without_logs_there_are_no_pods(tmp_path: Path) -> None:
    assert read_pods(Node(tmp_path).host) == {}


@pytest.mark.parametrize(
    "root",
    ["/var/lib/kubelet", "/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet"],
)
def test_starts_are_counted_wherever_the_kubelet_lives(tmp_path: Path, root: str) -> None:
    node = Node(tmp_path)
    for number, at in enumerate((BEGAN - 50, BEGAN + 50, BEGAN + 90)):
        node.start(CILIUM, "agent", number, at, root)
    pod = Pod(namespace="kube-system", uid=CILIUM, folder="")
    assert read_starts(node.host, pod, "agent", BOOT) == 2
    assert read_starts(node.host, pod, "other", BOOT) is None


def test_a_folder_with_too_many_starts_tells_none(tmp_path: Path) -> None:
    folder = tmp_path / f"var/lib/kubelet/pods/{CILIUM}/containers/agent"
    folder.mkdir(parents=True)
    for number in range(10_000):
        os.mknod(folder / str(number))
    pod = Pod(namespace="kube-system", uid=CILIUM, folder="")
    assert read_starts(Node(tmp_path).host, pod, "agent", BOOT) is None


def test_this_boot_lasts_from_the_kernels_start_until_now(tmp_path: Path) -> None:
    assert read_this_boot(Node(tmp_path).host) == BOOT
    assert [BOOT.holds(BEGAN + at) for at in (-1, 0, 600, 629, 700)] == [
        False,
        True,
        True,
        True,
        False,
    ]
