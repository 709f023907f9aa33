"""The hook stands in the way of every package manager run: silent, quick, never failing."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from trialboot.core.facts import BootId
from trialboot.core.packagechange import BOOT_PACKAGES, touches_boot
from trialboot.core.transaction import State
from trialboot.core.transactions import suspects, take
from trialboot.host import Host
from trialboot.readers.spool import FOLDER, read_alive, read_notes

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
32 22 254:2 /usr/lib/modules /run/trialboot/packaged-modules ro - ext4 /dev/vda2 rw
33 22 254:2 /usr/lib/trialboot/kept/f261/modules/6.1 /usr/lib/modules/6.1 ro - ext4 /dev/vda2 rw
34 22 254:2 /usr/lib/trialboot/kept/f261/modules /usr/lib/modules ro - ext4 /dev/vda2 rw
40 22 0:33 /kept/lib/firmware /lib/firmware rw - tmpfs somebody-elses rw
"""


class Place:
    """A copy of the hook whose folders lie below a test's own: nothing else can move them."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir(mode=0o700)
        self.flag = folder / "kept-firmware-mounted"
        self.modules_flag = folder / "kept-modules-mounted"
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(MOUNTS)
        self.mark = folder / "run/plan-touches-boot"
        self.mark.parent.mkdir()
        self.processes = Path("/proc")
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.hook = folder / "package-hook"
        self.write()

    def write(self) -> None:
        text = HOOK.read_text(encoding="utf-8")
        for name, value in (
            ("spool", str(self.spool)),
            ("kept_firmware_mounted", str(self.flag)),
            ("kept_modules_mounted", str(self.modules_flag)),
            ("mounts", str(self.mounts)),
            ("plan_touches_boot", str(self.mark)),
            ("processes", str(self.processes)),
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
    assert list(values) == [
        *("v", "event", "up", "boot", "pid", "ppid"),
        *("chain", "action", "sudo_user"),
    ]
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
    assert place.note()[-2] == f"pkg={LINE.format(4999, 4999).strip()}"
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
    assert done.stdout == "", "nor one that counts against the spool's limit"


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


MOVED = [
    "spool",
    "kept_firmware_mounted",
    "kept_modules_mounted",
    "most_notes",
    "hook",
    "plan_touches_boot",
    "processes",
]


@pytest.mark.parametrize("name", MOVED)
def test_the_callers_environment_moves_nothing(place: Place, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.run("end", env={name: str(elsewhere)})
    assert list(elsewhere.iterdir()) == []
    assert len(place.names()) == 1


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", ["flag", "modules_flag"])
def test_kept_trees_are_uncovered_before_anything_is_unpacked(
    place: Place, tmp_path: Path, event: str, kind: str
) -> None:
    said = tmp_path / "said"
    umount = place.bin / "umount"
    umount.write_text(f'#!/bin/sh\necho "$@" >>{said}\nls {place.spool} >>{said}\nexit 32\n')
    umount.chmod(0o755)
    flag: Path = getattr(place, kind)
    flag.touch()
    place.run(event, CONFIGURATION + ACT)
    place.run(event, CONFIGURATION + ACT)
    begins = event.endswith("begin")
    assert flag.exists() is not begins
    told = said.read_text() if said.exists() else ""
    places = ("firmware", "modules/6.1", "modules")
    assert told == ("".join(f"-l /usr/lib/{p}\n" for p in places) if begins else "")
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


# --- who called ---------------------------------------------------------------------------------


def chain(place: Place) -> str:
    (line,) = (line for line in place.note() if line.startswith("chain="))
    return line.removeprefix("chain=")


def processes(place: Place, folder: Path, **said: str) -> None:
    """Let the hook see other processes: ours is its parent, whatever it is called there."""
    place.processes = folder / "proc"
    for name, status in said.items():
        pid = str(os.getpid()) if name == "parent" else name.removeprefix("p")
        (place.processes / pid).mkdir(parents=True)
        (place.processes / pid / "status").write_text(status)
    place.write()


def status(name: str, parent: object) -> str:
    return f"Name:\t{name}\nUmask:\t0022\nState:\tS (sleeping)\nPPid:\t{parent}\nUid:\t0\n"


def test_the_ancestors_are_told_from_the_parent_up(place: Place) -> None:
    place.run("end")
    found = chain(place).split()
    own = Path("/proc/self/comm").read_text().strip()
    assert found[0] == f"{os.getpid()}:{re.sub('[^A-Za-z0-9._+-]', '', own)}"
    assert 1 <= len(found) <= 8
    if len(found) > 1:
        assert found[1].startswith(f"{os.getppid()}:")
    assert not any(each.startswith(("0:", "1:")) for each in found)


def test_the_chain_ends_below_the_first_process(place: Place, tmp_path: Path) -> None:
    apt = status("apt-get", 1)
    processes(place, tmp_path, parent=status("sh", 40), p40=apt, p1=status("init", 0))
    place.run("end")
    assert chain(place) == f"{os.getpid()}:sh 40:apt-get"


@pytest.mark.parametrize(
    "name",
    [
        "apt\\npkg=evil 1 2",
        "a b=c:d",
        "$(reboot)`reboot`",
        "*?[a-z]",
        "\x1b[31mred",
        "-n",
        "%s%n",
        "\u00e4\u2028",
        "end",
        "",
    ],
)
def test_a_hostile_name_makes_no_word_of_its_own(place: Place, tmp_path: Path, name: str) -> None:
    processes(place, tmp_path, parent=status(name, 40), p40=status("sudo", 1))
    place.run("begin", CONFIGURATION + ACT)
    assert re.fullmatch(rf"{os.getpid()}:[A-Za-z0-9._+-]* 40:sudo", chain(place))
    assert sum(line.startswith("pkg=") for line in place.note()) == 1


@pytest.mark.parametrize("parent", ["", "x", "-1", "0", "99999999999999999999999", "a b", "40;ls"])
def test_a_parent_that_is_none_ends_the_chain(place: Place, tmp_path: Path, parent: str) -> None:
    processes(place, tmp_path, parent=status("sh", parent))
    place.run("end")
    assert chain(place).split()[0] == f"{os.getpid()}:sh"
    assert len(chain(place).split()) <= 3


def test_a_ring_of_parents_is_climbed_only_so_far(place: Place, tmp_path: Path) -> None:
    processes(place, tmp_path, parent=status("sh", os.getpid()))
    place.run("end")
    assert chain(place).split() == [f"{os.getpid()}:sh"] * 8


def test_without_proc_the_note_is_whole_all_the_same(place: Place, tmp_path: Path) -> None:
    place.processes = tmp_path / "nothing"
    place.write()
    place.run("begin", CONFIGURATION + ACT)
    assert chain(place) == f"{os.getpid()}:"
    assert place.note()[-1] == "end"


def test_all_cycles_of_one_run_are_one_transaction(place: Place, tmp_path: Path) -> None:
    """A shell that calls itself apt-get plays it, as deep as apt calls its hooks."""
    spool = tmp_path / FOLDER.lstrip("/")
    spool.mkdir(parents=True)
    place.spool = spool
    place.write()
    manager = tmp_path / "apt-get"
    shutil.copy(DASH, manager)
    plan = tmp_path / "plan"
    plan.write_text(CONFIGURATION + ACT)
    cycle = f"(sh -c '{place.hook} begin'; true) <{plan}; (sh -c '{place.hook} end'; true); "
    subprocess.run([manager, "-c", cycle * 3 + ":"], check=True, timeout=20)
    host = Host(root=tmp_path)
    notes = read_notes(host).notes
    boot = BootId(notes[0].boot)
    alive = read_alive(Host(), suspects((), notes))
    (only,) = take((), notes, boot=boot, uptime=0.0, alive=alive, locked=False)
    assert (only.manager, only.leader.name, only.cycles) == ("apt", "apt-get", 3)
    assert (only.state, only.planned) == (State.CLOSED, ("libfoo1",))


# --- what it starts, and what it leaves for the notice ------------------------------------------


def test_it_starts_one_awk_and_one_mv_and_asks_nobody(place: Place, tmp_path: Path) -> None:
    """A shell opens no socket by itself: without another process it reaches no daemon."""
    said = tmp_path / "said"
    text = place.hook.read_text()
    path = f"PATH={place.bin}:/usr/bin:/bin"
    assert path in text
    place.hook.write_text(text.replace(path, f"PATH={place.bin}"))
    for name in ("awk", "mv"):
        tool = place.bin / name
        tool.write_text(f'#!/bin/sh\necho {name} >>{said}\nexec /usr/bin/{name} "$@"\n')
        tool.chmod(0o755)
    place.run("begin", CONFIGURATION + ACT)
    assert said.read_text().split() == ["awk", "mv"]
    assert place.note()[-2:] == [f"pkg={ACT.strip()}", "end"]
    place.run("end")
    assert said.read_text().split() == ["awk", "mv", "mv"]


def test_without_awk_only_the_plan_is_missing(place: Place) -> None:
    text = place.hook.read_text()
    place.hook.write_text(text.replace(":/usr/bin:/bin", ""))
    (place.bin / "mv").symlink_to("/bin/mv")
    place.run("begin", CONFIGURATION + ACT)
    assert place.note()[-1] == "end"
    assert "pkg=" not in "\n".join(place.note())


def test_the_hook_and_the_daemon_know_the_same_packages() -> None:
    (told,) = re.findall(r"(?ms)^boot_packages=.*?'$", HOOK.read_text(encoding="utf-8"))
    said = subprocess.run(
        [DASH, "-c", f'{told}\nprintf %s "$boot_packages"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == BOOT_PACKAGES


@pytest.mark.parametrize(
    "name",
    [
        *("linux-image-6.1.0-56-amd64", "firmware-misc-nonfree", "linux-firmware", "kernel-core"),
        *("intel-microcode", "grub2-common", "zfs-dkms", "dracut", "systemd-boot", "shim-signed"),
        *("linux-headers-amd64", "kernel-devel", "libc6", "systemd", "a-firmwares", "kmod", "*"),
        *(
            "xlinux-image-6.1",
            "linux-imagex",
            "grub",
            "linux-image-$(id)",
            "\u00e4-firmware",
            "^(",
        ),
    ],
)
def test_a_plan_that_touches_what_boots_is_marked(place: Place, name: str) -> None:
    plan = f"{CONFIGURATION}{ACT}{name} 1 amd64 same < 2 amd64 same /l.deb\n{ACT}"
    place.run("begin", plan)
    assert place.mark.exists() is touches_boot([name])
    assert len(place.note()) == 9 + 3 + 1


def test_only_the_name_counts(place: Place) -> None:
    place.run("begin", f"{CONFIGURATION}libc6 1 amd64 same < 2 amd64 same /linux-image-6.1.deb\n")
    assert not place.mark.exists()


def test_a_mark_of_a_run_that_was_aborted_is_taken_back_by_the_next(place: Place) -> None:
    place.mark.touch()
    place.run("begin", CONFIGURATION + ACT)
    assert not place.mark.exists()


def test_the_mark_is_made_again_at_the_end(place: Place) -> None:
    place.run("end")
    assert not place.mark.exists()
    place.mark.touch()
    os.utime(place.mark, (1, 1))
    for event in ("dpkg-begin", "dpkg-end"):
        place.run(event)
        assert place.mark.stat().st_mtime == 1
    place.run("end")
    assert place.mark.stat().st_mtime > 1


@pytest.mark.parametrize("event", EVENTS)
def test_without_a_place_for_the_mark_there_is_none(place: Place, event: str) -> None:
    place.mark.parent.rmdir()
    place.run(event, CONFIGURATION + "linux-image-1 1 a s < 2 a s /l.deb\n")
    assert len(place.names()) == 1
    assert not place.mark.parent.exists()
