"""The one door: files below a root, commands to their end, records whole, folders watched."""

import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import PowerCutError, power_for
from trialboot.errors import HostError
from trialboot.host import (
    IN_MOVED_TO,
    Host,
    Ran,
    run_check,
    run_command,
    utc_now,
    watch_folders,
    write_durably,
)


def test_absolute_paths_lie_below_the_root(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    assert host.path("/etc/x") == tmp_path / "etc/x"
    assert host.path("//etc/x") == tmp_path / "etc/x"
    assert Host().path("/etc/x") == Path("/etc/x")


def test_text_is_read_and_bytes_that_are_none_do_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"caf\xc3\xa9 \xff")
    assert Host(root=tmp_path).read_text("/a") == "café \ufffd"


def test_a_file_that_cannot_be_read_is_named_as_the_host_knows_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^/proc/none: No such file or directory$") as error:
        Host(root=tmp_path).read_text("/proc/none")
    assert error.value.exit_code == 74


def test_a_dangling_link_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert not Host(root=tmp_path).exists("/link")


# --- commands -----------------------------------------------------------------------------------


def test_a_command_gives_its_output() -> None:
    assert run_command(["printf", "a b\\n"]) == "a b\n"


def test_a_failing_command_is_told_as_typed_with_its_last_words() -> None:
    with pytest.raises(HostError) as error:
        run_command(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    assert str(error.value).endswith("exit 3» ended with 3: last")


def test_a_silent_failing_command_is_told_by_its_code() -> None:
    with pytest.raises(HostError, match=r"^«false» ended with 1$"):
        run_command(["false"])


def test_a_command_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match=r"^«sleep 30» took more than 0 s$"):
        run_command(["sleep", "30"], timeout=0.2)
    assert time.monotonic() - began < 10


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(HostError, match="cannot be started: No such file"):
        run_command(["no-such-command-here"])


def test_a_command_gets_no_input_and_a_plain_environment() -> None:
    assert run_command(["cat"]) == ""
    names = {line.partition("=")[0] for line in run_command(["env"]).splitlines()}
    assert names == {"PATH", "LC_ALL", "HOME"}


# --- programs of somebody else ------------------------------------------------------------------


def checked(script: str, seconds: float = 20.0, most_bytes: int = 64) -> Ran:
    ran = run_check(
        ["/bin/sh", "-c", script],
        seconds=seconds,
        most_bytes=most_bytes,
        environment={"TRIALBOOT_BOOT": "b"},
    )
    assert ran.seconds < 15
    return ran


def is_alive(pid: int) -> bool:
    """Tell a process that runs from a dead one that nobody has reaped yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("exit 0", 0, b""),
        ("echo well; echo told >&2; exit 3", 3, b"well\ntold\n"),
        ("kill -9 $$", -9, b""),
        ("printf '\\000\\377'; exit 200", 200, b"\0\xff"),
        ("cat; env | grep -c .; echo $TRIALBOOT_BOOT; pwd", 0, b"5\nb\n/\n"),
        ("exec >&- 2>&-; sleep 0.3; exit 2", 2, b""),
        ("trap '' TERM HUP INT; echo stays; exit 1", 1, b"stays\n"),
        ("seq 100000; echo end; exit 2", 2, b"end\n"),
    ],
)
def test_a_check_is_run_to_its_end(script: str, code: int, output: bytes) -> None:
    ran = checked(script)
    assert ran.code == code
    assert ran.output.endswith(output)
    assert len(ran.output) <= 64


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 9; done"])
def test_a_check_that_never_ends_is_ended(script: str) -> None:
    ran = checked(f"echo began; {script}", seconds=0.3)
    assert (ran.code, ran.output) == (None, b"began\n")
    assert ran.seconds < 3


def test_a_check_that_prints_without_end_costs_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = checked("head -c 1000000000 /dev/zero; echo done", seconds=14)
    assert ran.output in {b"\0" * 59 + b"done\n", b"\0" * 64}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def test_children_that_outlive_a_check_are_killed_and_not_waited_for() -> None:
    ran = checked("sleep 60 & echo $!; (trap '' TERM; sleep 61) & echo $!; exit 0")
    assert (ran.code, ran.seconds < 3) == (0, True)
    pids = [int(word) for word in ran.output.split()]
    assert len(pids) == 2
    until = time.monotonic() + 5
    while any(is_alive(pid) for pid in pids):  # a signal takes its time
        assert time.monotonic() < until


def test_a_child_in_a_session_of_its_own_is_not_waited_for() -> None:
    ran = checked("setsid sleep 5 & echo $!; exit 2")
    assert (ran.code, ran.seconds < 3) == (2, True)


def test_a_child_that_prints_on_and_on_is_not_listened_to() -> None:
    ran = checked("setsid timeout 4 yes & exit 2")
    assert (ran.code, ran.seconds < 3) == (2, True)


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (None, 0, "No such file or directory"),
        (b"#!/bin/sh\n", 0o600, "Permission denied"),
        (b"#!/no/such/interpreter\n", 0o700, "No such file or directory"),
        (b"no program\n", 0o700, "Exec format error"),
        (b"", 0o700, "Exec format error"),
    ],
)
def test_a_check_that_cannot_be_started_is_told(
    tmp_path: Path, content: bytes | None, mode: int, told: str
) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(mode)
    with pytest.raises(HostError, match=f"^cannot be started: {told}$"):
        run_check([str(program)], seconds=1, most_bytes=1, environment={})


def test_the_clock_is_utc() -> None:
    assert utc_now().utcoffset() is not None
    assert not utc_now().utcoffset()


# --- records ------------------------------------------------------------------------------------


def test_a_record_is_replaced_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_durably(tmp_path / "a", b"1", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    write_durably(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("effects", range(4))
def test_a_power_cut_leaves_the_old_record_or_the_new_one(tmp_path: Path, effects: int) -> None:
    file = tmp_path / "a"
    write_durably(file, b"old")
    try:
        with power_for(effects, tmp_path):
            write_durably(file, b"new" * 1000)
    except PowerCutError:
        pass
    assert file.read_bytes() in {b"old", b"new" * 1000}
    write_durably(file, b"later")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_draft_that_a_power_cut_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".a.draft").write_bytes(b"half of something longer")
    write_durably(tmp_path / "a", b"x")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"x"}


# --- watching -----------------------------------------------------------------------------------


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.2)[0])


def test_a_watched_folder_tells_of_what_is_renamed_into_it(tmp_path: Path) -> None:
    watched, other = tmp_path / "spool", tmp_path / "other"
    watched.mkdir()
    other.write_text("x")
    descriptor = watch_folders({watched: IN_MOVED_TO, tmp_path / "gone": IN_MOVED_TO})
    try:
        (watched / ".draft").write_text("x")
        assert not readable(descriptor)
        other.rename(watched / "1.ev")
        assert readable(descriptor)
    finally:
        os.close(descriptor)


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="gone cannot be watched: No such file or directory"):
        watch_folders({tmp_path / "gone": IN_MOVED_TO})


# --- the bus ------------------------------------------------------------------------------------


def test_only_who_calls_the_bus_pays_for_its_library() -> None:
    program = "import sys, trialboot.host; sys.exit('dbus' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], check=False, env=environment)
    assert done.returncode == 0


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    assert not host.exists(f"/boot/vmlinuz-{'6' * 300}")
    (tmp_path / "loop").symlink_to("loop")
    assert not host.exists("/loop")
