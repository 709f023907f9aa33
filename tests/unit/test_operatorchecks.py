"""The operator's own checks run for real, whatever they do: each has a defined end."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.readers.test_checkfolders import REQUIRED, WANTED, folder
from tests.unit.workers.debian_host import BOOT, debian
from trialboot import operatorchecks
from trialboot.config import Config, Verify
from trialboot.core.facts import Unknown
from trialboot.core.operatorchecks import OperatorCheck, operator_check
from trialboot.core.verdict import Answer
from trialboot.errors import HostError
from trialboot.host import Host, Ran, run_check
from trialboot.readers.checkfolders import read_programs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="checks must belong to root")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Give a folder that looks like a host, whose programs are run for real."""
    return replace(debian(tmp_path).host, run_check=run_check)


def put(host: Host, script: str | bytes, name: str = "10-a", level: str = REQUIRED) -> None:
    path = folder(host.root, level) / name
    path.write_bytes(script if isinstance(script, bytes) else f"#!/bin/sh\n{script}\n".encode())
    path.chmod(0o755)


def run(host: Host, seconds: float = 20.0) -> tuple[OperatorCheck, ...]:
    config = Config(verify=Verify(check_seconds=seconds))
    return operatorchecks.run_checks(host, config, read_programs(host))


@pytest.mark.parametrize(
    ("script", "answer", "why"),
    [
        ("exit 0", Answer.PASS, ""),
        ("echo no gateway; exit 2", Answer.FAIL, "said «no gateway» (exit 2)"),
        ("echo slow >&2; exit 1", Answer.NO_VERDICT, "said «slow» (exit 1)"),
        ("echo $TRIALBOOT_BOOT; exit 3", Answer.NO_VERDICT, f"said «{BOOT}» (exit 3)"),
        ("exec >&- 2>&-; exit 2", Answer.FAIL, "said nothing (exit 2)"),
        ("kill -SEGV $$", Answer.NO_VERDICT, "said nothing (ended by signal 11)"),
        ("setsid sleep 3 & echo left; exit 2", Answer.FAIL, "said «left» (exit 2)"),
        ("yes | head -c 9000000; echo; echo end; exit 2", Answer.FAIL, "said «end» (exit 2)"),
        ("printf '\\377\\033[0m'; exit 2", Answer.FAIL, "said «\\xff?[0m» (exit 2)"),
        (b"\x7fELF", Answer.NO_VERDICT, "was not run: it cannot be started: Exec format error"),
        (
            b"#!/none\n",
            Answer.NO_VERDICT,
            "was not run: it cannot be started: No such file or directory",
        ),
    ],
)
def test_the_end_of_a_check_is_told(
    host: Host, script: str | bytes, answer: Answer, why: str
) -> None:
    put(host, script)
    (check,) = run(host)
    assert (check.answer, check.why) == (answer, why)


@pytest.mark.parametrize(
    "script",
    [
        "while :; do sleep 9; done",
        "trap '' TERM INT HUP; echo on; while :; do sleep 9; done",
        "yes",
        "(trap '' TERM; yes) & (trap '' TERM; sleep 60) & wait",
        "exec >&- 2>&-; sleep 60",
    ],
)
def test_a_check_without_end_costs_its_own_time_alone(host: Host, script: str) -> None:
    put(host, script)
    put(host, "echo next; exit 2", "20-b")
    endless, following = run(host, seconds=1.0)
    assert endless.answer is Answer.NO_VERDICT
    # It tells how long it was waited for, and a busy machine may kill it late.
    assert endless.why.endswith(f"(no end within {endless.seconds:.0f} s)")
    assert endless.seconds < 5
    assert following.why == "said «next» (exit 2)"


def test_what_must_not_be_run_is_not_run(host: Host, tmp_path: Path) -> None:
    put(host, f"touch {tmp_path}/ran")
    (folder(host.root) / "10-a").chmod(0o757)
    (check,) = run(host)
    assert check.why == "was not run: it can be written by others than root"
    assert not (tmp_path / "ran").exists()


def test_at_most_so_many_are_run(host: Host) -> None:
    for number in range(operatorchecks.MOST_CHECKS + 2):
        put(host, "exit 0", f"{number:03}")
    results = run(host)
    assert [check.why for check in results[-3:]] == [
        "",
        *["was not run: there are more than 64"] * 2,
    ]


def test_all_together_have_a_limit(host: Host) -> None:
    clock = iter([0.0, 0.0, 200.0, 241.0])
    asked: list[float] = []

    def take(_argv: list[str], *, seconds: float, **_: Any) -> Ran:
        asked.append(seconds)
        return Ran(code=0, output=b"", seconds=seconds)

    for name in ("a", "b", "c"):
        put(host, "exit 0", name)
    slow = replace(host, run_check=take, monotonic=lambda: next(clock))
    results = run(slow, seconds=100.0)
    assert asked == [100.0, 40.0]
    assert results[2].why == "was not run: all together they took more than 240 s"


def test_the_record_is_what_was_found(host: Host) -> None:
    put(host, "echo away; exit 2")
    put(host, "echo poor; exit 2", "10-b", WANTED)
    found = operatorchecks.gather(host)
    assert isinstance(found, tuple)
    check = operator_check(found)
    assert check.reasons == ("required.d/10-a said «away» (exit 2)",)
    assert check.notes == ("wanted.d/10-b said «poor» (exit 2)",)
    record = host.path(operatorchecks.RECORD)
    assert record.stat().st_mode & 0o777 == 0o600
    assert json.loads(record.read_text())["value"][0]["output"] == "away\n"


def test_a_host_without_checks_starts_nothing(tmp_path: Path) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    assert operatorchecks.gather(Host(root=tmp_path, call=never, run_check=never)) is None


def test_folders_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    place = tmp_path / "etc/trialboot/checks.d"
    place.mkdir(parents=True)
    (place / "required.d").touch()
    found = operatorchecks.gather(Host(root=tmp_path))
    assert found == Unknown("/etc/trialboot/checks.d/required.d: Not a directory")


def test_a_host_that_tells_no_boot_id_runs_nothing(host: Host) -> None:
    put(host, "exit 0")
    host.path("/proc/sys/kernel/random/boot_id").unlink()
    with pytest.raises(HostError, match="boot_id"):
        run(host)
