"""The hook stands in the way of every package manager run: silent, quick, never failing."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "packaging/dpkg/package-hook"
DASH = shutil.which("dash") or "/bin/sh"
EVENTS = ("begin", "end", "dpkg-begin", "dpkg-end")
CONFIGURATION = 'VERSION 3\nAcquire::http::Proxy=http://user:secret@proxy\nDir="/"\n\n'
LINE = "libfoo{} 1.0 amd64 same < 1.1 amd64 same /var/cache/apt/archives/libfoo{}_1.1_amd64.deb\n"
ACT = LINE.format(1, 1)


MOUNTS = """\
22 1 254:2 / / rw,relatime - ext4 /dev/vda2 rw
30 22 254:2 /usr/lib/firmware /run/trialboot/packaged-firmware ro - ext4 /dev/vda2 rw
31 22 254:2 /usr/lib/trialboot/kept/f261/firmware /usr/lib/firmware ro - ext4 /dev/vda2 rw
40 22 0:33 /kept/lib/firmware /lib/firmware rw - tmpfs somebody-elses rw
"""


class Place:
    """A copy of the hook whose folders lie below a test's own: nothing else can move them."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir(mode=0o700)
        self.flag = folder / "kept-firmware-mounted"
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(MOUNTS)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.hook = folder / "package-hook"
        self.write()

    def write(self) -> None:
        text = HOOK.read_text(encoding="utf-8")
        for name, value in (
            ("spool", str(self.spool)),
            ("kept_firmware_mounted", str(self.flag)),
            ("mounts", str(self.mounts)),
            ("PATH", f"{self.bin}:/usr/bin:/bin"),
        ):
            text, found = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
            assert found == 1
        self.hook.write_text(text, encoding="utf-8")
        self.hook.chmod(0o755)

    def run(self, event: str, plan: str = "", env: Mapping[str, str] | None = None) -> None:
        """Run it as apt would; whatever happens it must be silent and end with 0."""
        done = subprocess.run(
            [DASH, str(self.hook), event],
            input=plan,
            env={"PATH": "/usr/bin:/bin", **(env or {})},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def names(self) -> list[str]:
        return sorted(path.name for path in self.spool.iterdir())

    def note(self) -> list[str]:
        (path,) = self.spool.glob("*.ev")
        assert path.stat().st_mode & 0o777 == 0o600
        return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_note_says_what_when_and_who(place: Place) -> None:
    place.run("end", env={"SUDO_USER": "ann", "DPKG_HOOK_ACTION": "install"})
    note = place.note()
    values = dict(line.split("=", 1) for line in note[:-1])
    assert note[-1] == "end"
    assert list(values) == ["v", "event", "up", "boot", "pid", "ppid", "action", "sudo_user"]
    assert values["event"] == "end"
    assert values["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert values["ppid"] == str(os.getpid())
    assert (values["action"], values["sudo_user"]) == ("install", "ann")
    name = f"{float(values['up']):013.2f}-{values['pid']}-end.ev"
    assert place.names() == [name]


def test_the_plan_is_kept_and_the_configuration_is_not(place: Place) -> None:
    place.run("begin", CONFIGURATION + ACT + "\n" + ACT)
    assert place.note().count(f"pkg={ACT.strip()}") == 2
    assert "secret" not in "".join(place.note())
    assert "Acquire" not in "".join(place.note())


def test_an_older_protocol_without_an_empty_line_stores_nothing_of_it(place: Place) -> None:
    place.run("begin", "/var/cache/apt/archives/secret.deb\n" * 3)
    assert place.note()[-2].startswith("sudo_user=")


@pytest.mark.parametrize("event", ["end", "dpkg-begin", "dpkg-end"])
def test_only_begin_reads_what_it_is_given(place: Place, event: str) -> None:
    place.run(event, CONFIGURATION + ACT)
    assert "pkg=" not in "\n".join(place.note())


def test_a_long_plan_is_kept_whole_and_quickly(place: Place) -> None:
    plan = CONFIGURATION + "".join(LINE.format(n, n) for n in range(5000))
    started = time.monotonic()
    place.run("begin", plan)
    assert time.monotonic() - started < 5
    assert sum(line.startswith("pkg=libfoo") for line in place.note()) == 5000
    assert place.note()[-1] == "end"


def test_an_endless_plan_is_cut_and_says_so(place: Place) -> None:
    place.run("begin", CONFIGURATION + "a\n" * 10_050)
    assert place.note()[-2:] == ["cut=10000", "end"]
    assert len(place.note()) < 10_020


@pytest.mark.parametrize("event", EVENTS)
def test_without_a_spool_it_is_silent(place: Place, event: str) -> None:
    place.spool.rmdir()
    place.run(event, CONFIGURATION + ACT)
    assert not place.spool.exists()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("spool", ["/proc/sys", "/sys/kernel", "/dev/null"])
def test_a_spool_that_takes_no_file_is_no_trouble(place: Place, event: str, spool: str) -> None:
    place.spool = Path(spool)  # refuses a new file to root as well
    place.write()
    place.run(event, CONFIGURATION + ACT)


def test_a_full_disk_leaves_no_note_that_looks_whole(place: Place, tmp_path: Path) -> None:
    mounted = 'mount -t tmpfs -o size=8k tmpfs "$0" && dash "$1" begin && ls "$0"'
    own = ["/usr/bin/unshare", "--mount", "--map-root-user", "/bin/sh", "-c", mounted]
    done = subprocess.run(
        [*own, str(place.spool), str(place.hook)],
        input=CONFIGURATION + ACT * 1000,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ermission" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("this machine lets us make no mount namespace")
    assert (done.returncode, done.stderr) == (0, "")
    assert [name[-10:] for name in done.stdout.split()] == ["-begin.tmp"]


def test_a_spool_that_nobody_reads_stops_growing(place: Place) -> None:
    for number in range(1999):
        (place.spool / f"{number}.ev").touch()
    place.run("end")
    place.run("end")
    place.run("begin", CONFIGURATION + ACT)
    assert len(place.names()) == 2000


@pytest.mark.parametrize("event", EVENTS)
def test_an_image_below_another_root_is_not_this_host(place: Place, event: str) -> None:
    place.flag.touch()
    place.run(event, CONFIGURATION + ACT, {"DPKG_ROOT": "/target"})
    assert place.names() == []
    assert place.flag.exists()


def test_dpkg_below_apt_is_silent_because_apt_tells(place: Place) -> None:
    for event in ("dpkg-begin", "dpkg-end"):
        place.run(event, env={"DPKG_FRONTEND_LOCKED": "true"})
    assert place.names() == []
    place.run("begin", CONFIGURATION, {"DPKG_FRONTEND_LOCKED": "true"})
    assert len(place.names()) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_closed_descriptors_do_not_matter(place: Place, event: str) -> None:
    closed = 'exec dash "$0" "$1" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", closed, place.hook, event], check=False, timeout=20)
    assert done.returncode == 0
    assert place.note()[-1] == "end"


def test_a_value_with_a_line_break_makes_no_line_of_its_own(place: Place) -> None:
    place.run("end", env={"DPKG_HOOK_ACTION": "a\npkg=evil", "SUDO_USER": "b\nend"})
    assert place.note()[-3:] == ["action=", "sudo_user=", "end"]


@pytest.mark.parametrize("words", [[], ["nonsense"], ["../../etc/x"], [""]])
def test_unknown_events_are_nothing(place: Place, words: list[str]) -> None:
    done = subprocess.run(
        [DASH, str(place.hook), *words], capture_output=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert place.names() == []


@pytest.mark.parametrize("name", ["spool", "kept_firmware_mounted", "most_notes", "hook"])
def test_the_callers_environment_moves_nothing(place: Place, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.run("end", env={name: str(elsewhere)})
    assert list(elsewhere.iterdir()) == []
    assert len(place.names()) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_kept_firmware_is_uncovered_before_anything_is_unpacked(
    place: Place, tmp_path: Path, event: str
) -> None:
    said = tmp_path / "said"
    umount = place.bin / "umount"
    umount.write_text(f'#!/bin/sh\necho "$@" >>{said}\nls {place.spool} >>{said}\nexit 32\n')
    umount.chmod(0o755)
    place.flag.touch()
    place.run(event, CONFIGURATION + ACT)
    place.run(event, CONFIGURATION + ACT)
    begins = event.endswith("begin")
    assert place.flag.exists() is not begins
    told = said.read_text() if said.exists() else ""
    assert told == ("-l /usr/lib/firmware\n" if begins else "")
    assert len(place.names()) == 2


@pytest.mark.parametrize("gone", ["spool", "locked"])
def test_it_is_uncovered_even_where_no_note_is_left(
    place: Place, tmp_path: Path, gone: str
) -> None:
    (place.bin / "umount").symlink_to("/bin/true")
    place.flag.touch()
    if gone == "spool":
        place.spool.rename(tmp_path / "moved")
    place.run("dpkg-begin", env={"DPKG_FRONTEND_LOCKED": "true"} if gone == "locked" else {})
    assert not place.flag.exists()
