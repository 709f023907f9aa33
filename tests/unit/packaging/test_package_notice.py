"""The notice at the end of a run: said once, waited for a moment, and in nobody's way."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

NOTICE = Path(__file__).parents[3] / "packaging/dpkg/package-notice"
DASH = shutil.which("dash") or "/bin/sh"
WITHOUT_ANSWER = (
    "trialboot: this run touched what boots; «trialboot next» tells what the next boot will "
    "change.\n"
)
SAID = "The next boot switches the kernel 6.1.0-56 → 6.12.117.\n"


class Place:
    """A copy of the script below a test's own folder, whose `sleep` moves the clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = folder / "plan-touches-boot"
        self.notice = folder / "notice"
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.clock = folder / "uptime"
        self.clock.write_text("1009.95 7\n")
        self.slept = folder / "slept"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.script = folder / "package-notice"
        text = NOTICE.read_text(encoding="utf-8")
        for name, value in (
            ("plan_touches_boot", str(self.mark)),
            ("notice", str(self.notice)),
            ("spool", str(self.spool)),
            ("clock", str(self.clock)),
            ("PATH", f"{self.bin}:/usr/bin:/bin"),
        ):
            text, found = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
            assert found == 1
        self.script.write_text(text, encoding="utf-8")

    def on_sleep(self, *clocks: str, then: str = ":") -> None:
        """Have each `sleep` set the clock; at the last one something else happens too."""
        times = " ".join(clocks)
        self.tool(
            "sleep",
            f'echo "$1" >>{self.slept}; set -- {times}; shift $(($(wc -l <{self.slept}) - 1)); '
            f'[ $# = 0 ] || echo "$1 7" >{self.clock}; [ $# != 1 ] || {{ {then}; }}',
        )

    def tool(self, name: str, body: str) -> None:
        tool = self.bin / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)

    def answer(self, text: str | bytes = SAID, *, newer: bool = True) -> None:
        """Let the daemon have written its notice, after the mark or before."""
        self.mark.touch()
        self.notice.write_bytes(text if isinstance(text, bytes) else text.encode())
        moment = self.mark.stat().st_mtime_ns + (10**7 if newer else -(10**7))
        os.utime(self.notice, ns=(moment, moment))

    def run(self) -> str:
        done = subprocess.run(
            [DASH, str(self.script)],
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not self.mark.exists(), "the next run starts without it"
        return done.stdout

    def turns(self) -> int:
        return len(self.slept.read_text().splitlines()) if self.slept.exists() else 0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_is_silent_where_nothing_of_the_boot_was_touched(place: Place) -> None:
    place.answer()
    place.mark.unlink()
    assert place.run() == ""


def test_an_answer_that_is_there_is_said_at_once(place: Place) -> None:
    place.answer()
    place.on_sleep("1010.05")
    assert place.run() == SAID
    assert place.turns() == 0


def test_an_answer_that_says_nothing_is_no_answer_missing(place: Place) -> None:
    place.answer("")
    assert place.run() == ""


def test_an_answer_is_waited_for(place: Place) -> None:
    place.mark.touch()
    place.on_sleep(
        "1010.05", "1010.15", "1010.95", then=f"printf 'It changes.\\n' >{place.notice}"
    )
    assert place.run() == "It changes.\n"
    assert place.turns() == 3
    assert place.slept.read_text() == "0.1\n" * 3


def test_an_old_answer_is_none(place: Place) -> None:
    place.answer(newer=False)
    place.on_sleep("1011.45")
    assert place.run() == WITHOUT_ANSWER


@pytest.mark.parametrize(
    ("clocks", "turns"),
    [
        (["1010.08", "1010.09", "1011.44", "1011.45", "1012.00"], 4),
        (["1011.45"], 1),
        (["1099.00"], 1),
        ([f"1010.{n:02}" for n in range(30)], 15),
    ],
)
def test_it_waits_for_a_second_and_a_half_at_most(
    place: Place, clocks: list[str], turns: int
) -> None:
    place.mark.touch()
    place.on_sleep(*clocks)
    assert place.run() == WITHOUT_ANSWER
    assert place.turns() == turns


def test_where_no_daemon_takes_the_note_it_waits_less(place: Place) -> None:
    place.mark.touch()
    (place.spool / "1-end.ev").touch()
    place.on_sleep("1010.05", "1010.24", "1010.25", "1010.35")
    assert place.run() == WITHOUT_ANSWER
    assert place.turns() == 3


def test_drafts_in_the_spool_are_no_notes(place: Place) -> None:
    place.mark.touch()
    (place.spool / "1-end.tmp").touch()
    place.on_sleep("1010.25", "1011.45")
    assert place.run() == WITHOUT_ANSWER
    assert place.turns() == 2


@pytest.mark.parametrize(
    "clock", ["", "soon\n", "x" * 5000, "\0\1", "9.9.99", "-1.00", f"{'9' * 99}.00"]
)
def test_a_clock_that_is_none_ends_the_waiting_all_the_same(place: Place, clock: str) -> None:
    place.mark.touch()
    place.clock.write_text(clock)
    place.tool("sleep", f"echo >>{place.slept}")
    place.run()
    assert place.turns() <= 15


def test_without_a_sleep_it_ends_too(place: Place) -> None:
    place.mark.touch()
    place.tool("sleep", "exit 127")
    assert place.run() == WITHOUT_ANSWER


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n5\n"),
        (b"a\x1b[31mred\x07\x00\x7f\tb\r\n", "a[31mredb\n"),
        ("«6.1» → …\n".encode(), "«6.1» → …\n"),
        (b"x" * 5000, "x" * 2000),
        (b"-n\n%s\\n$(id)\n", "-n\n%s\\n$(id)\n"),
    ],
)
def test_an_answer_is_said_in_five_plain_lines(place: Place, answer: bytes, said: str) -> None:
    place.answer(answer)
    assert place.run() == said


def test_an_answer_that_is_no_file_is_no_trouble(place: Place) -> None:
    place.answer()
    place.notice.unlink()
    place.notice.mkdir()
    later = place.mark.stat().st_mtime + 1
    os.utime(place.notice, (later, later))
    assert place.run() == ""


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("end", ["", ">/dev/full", ">&-", "<&- >&- 2>&-", "| true"])
def test_where_nobody_listens_it_ends_well(place: Place, end: str, *, answered: bool) -> None:
    place.answer(newer=answered)
    place.on_sleep("1099.00")
    line = f"{{ {DASH} {place.script}; echo $? >{place.folder}/code; }} {end}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=False, timeout=20)
    assert done.stderr == b""
    assert (place.folder / "code").read_text() == "0\n"
    assert not place.mark.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_ctrl_c_ends_the_waiting_and_not_the_run(place: Place, number: signal.Signals) -> None:
    place.mark.touch()
    sent = place.slept.with_name("sent")
    # However slow this machine is: the wait goes on until the signal is there.
    waits = f"while [ ! -e {sent} ]; do /bin/sleep 0.01; done"
    place.tool("sleep", f"echo >>{place.slept}; {waits}")
    running = subprocess.Popen(
        # In the background both are ignored, and a shell cannot trap what was ignored before it.
        ["/usr/bin/env", "--default-signal=HUP,INT", DASH, str(place.script)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + 10
    while place.turns() < 1 and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(number)
    sent.touch()
    said = running.communicate(timeout=20)[0]
    assert (running.returncode, said) == (0, b"")
    assert not place.mark.exists()
    assert place.turns() < 15


@pytest.mark.parametrize("name", ["plan_touches_boot", "notice", "spool", "clock", "most_turns"])
def test_the_callers_environment_moves_nothing(place: Place, name: str) -> None:
    place.answer()
    done = subprocess.run(
        [DASH, str(place.script)],
        env={"PATH": "/nowhere", name: "/nowhere", "IFS": "x"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")
