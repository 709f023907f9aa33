"""Processes by name."""

from pathlib import Path

from trialboot.core.facts import Process, Unknown
from trialboot.host import Host
from trialboot.readers.processes import count_processes, read_processes


def process(name: str, count: int) -> Process:
    return Process(name=name, count=count)


def test_names_are_counted_in_the_operators_order_and_those_that_do_not_run_too() -> None:
    seen = ["bird", "felix", "bird", "other"]
    assert count_processes(("felix", "bird", "agent"), seen) == (
        process("felix", 1),
        process("bird", 2),
        process("agent", 0),
    )


def test_a_name_longer_than_the_kernel_keeps_is_found_by_what_it_keeps() -> None:
    names = ("kube-controller-manager", "kube-controller")
    assert count_processes(names, ["kube-controller"]) == tuple(process(n, 1) for n in names)


def test_without_names_nothing_is_read(tmp_path: Path) -> None:
    assert read_processes(Host(root=tmp_path / "gone"), ()) == ()


def test_this_very_process_is_found() -> None:
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    found = read_processes(Host(), (name, "no-such-process"))
    assert not isinstance(found, Unknown)
    assert found[0].count >= 1
    assert found[1].count == 0


def test_a_host_without_proc_is_unknown(tmp_path: Path) -> None:
    found = read_processes(Host(root=tmp_path), ("a",))
    assert isinstance(found, Unknown)
    assert found.why.startswith("/proc: ")
