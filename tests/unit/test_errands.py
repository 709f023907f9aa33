"""One worker sent by another brings back a record of this very run, or why there is none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trialboot.core.facts import Unknown
from trialboot.errands import Errand, run_errand
from trialboot.errors import ConfigError, HostError
from trialboot.host import Host
from trialboot.writers import store

RECORD = "/run/trialboot/numbers.json"


def leave(host: Host) -> None:
    store.save(host, RECORD, (1, 2))


def leave_nothing(_host: Host) -> None:
    return


def errand(work: Callable[[Host], None]) -> Errand[tuple[int, ...]]:
    return Errand(worker="numbers", record=RECORD, kind=tuple[int, ...], work=work, limit=10.0)


def with_systemd(root: Path, work: Callable[[Host], None], result: str) -> Host:
    """Make a host whose systemd does the work as a service of its own."""
    (root / "run/systemd/system").mkdir(parents=True)
    host = Host(root=root)

    def call(_name: str, _path: str, _interface: str, member: str, *words: Any) -> Any:
        if member == "StartUnit":
            assert words == ("trialboot-numbers.service", "replace")
            work(host)
        return {"Job": (0, "/"), "Result": result}.get(words[-1], "/unit")

    return replace(host, call=call)


def never(_host: Host) -> None:
    raise AssertionError


def test_the_service_does_the_work_and_its_record_is_given(tmp_path: Path) -> None:
    host = with_systemd(tmp_path, leave, "success")
    assert run_errand(host, errand(never)) == (1, 2)


def test_without_systemd_the_work_is_done_here(tmp_path: Path) -> None:
    assert run_errand(Host(root=tmp_path), errand(leave)) == (1, 2)


def test_a_record_counts_however_the_service_ended(tmp_path: Path) -> None:
    assert run_errand(with_systemd(tmp_path, leave, "timeout"), errand(never)) == (1, 2)


def test_the_record_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    leave(Host(root=tmp_path))
    host = with_systemd(tmp_path, leave_nothing, "oom-kill")
    assert run_errand(host, errand(never)) == Unknown(
        "trialboot-numbers.service: no result, it ended with «oom-kill»"
    )


def test_what_the_worker_said_of_its_trouble_is_given(tmp_path: Path) -> None:
    host = with_systemd(tmp_path, leave_nothing, "exit-code")
    trouble = store.Trouble(kind="HostError", why="pods: no rights")
    store.save(host, store.trouble_of("numbers"), trouble)
    assert run_errand(host, errand(never)) == Unknown("trialboot-numbers.service: pods: no rights")


@pytest.mark.parametrize("error", [HostError("no bus"), ConfigError("wrong key")])
def test_work_that_fails_here_is_not_known(tmp_path: Path, error: Exception) -> None:
    def fail(_host: Host) -> None:
        raise error

    assert run_errand(Host(root=tmp_path), errand(fail)) == Unknown(str(error))


def test_a_record_that_cannot_be_understood_is_not_known(tmp_path: Path) -> None:
    def scribble(host: Host) -> None:
        host.path(RECORD).write_text("{")

    (tmp_path / "run/trialboot").mkdir(parents=True)
    found = run_errand(Host(root=tmp_path), errand(scribble))
    assert isinstance(found, Unknown)
