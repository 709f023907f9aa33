"""The hook puts the known-good's modules back at the end of a run, before anybody can reboot."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "packaging/dpkg/package-hook"
DASH = shutil.which("dash") or "/bin/sh"
RELEASE = "6.12.117+deb12-cloud-amd64"
FINGERPRINT = "ab" * 32
ENDS = ("end", "dpkg-end")
FILES = {
    "modules.dep": "kernel/a.ko:\nkernel/net/b.ko: kernel/a.ko\n",
    "modules.builtin": "kernel/ext4.ko\n",
    "kernel/a.ko": "module a",
    "kernel/net/b.ko": "module b",
}


class Place:
    """A copy of the hook whose folders lie below a test's own, with a kept known-good."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.spool = folder / "spool"
        self.known_good = folder / "known-good.sh"
        self.trees = folder / "modules"
        self.tree = self.trees / RELEASE
        self.kept = folder / "kept" / FINGERPRINT / "modules" / RELEASE
        self.bin = folder / "bin"
        self.firmware = folder / "firmware"
        for made in (self.spool, self.trees, self.bin, self.firmware):
            made.mkdir()
        for name, content in FILES.items():
            for tree in (self.kept, self.tree):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).write_text(content)
            (self.kept / name).hardlink_to(self.tree / name)
        (self.kept / "build").symlink_to("/usr/src/linux-headers")
        self.pin(f"RELEASE={RELEASE}\nFINGERPRINT={FINGERPRINT}\n")
        self.hook = folder / "package-hook"
        self.write()

    def pin(self, lines: str) -> None:
        self.known_good.write_text(
            f"# Written by trialboot\n{lines}KERNEL=/boot/x\nCOMMAND_LINE='root=x \"y z\"'\n"
        )

    def write(self, path: str = "/usr/bin:/bin") -> None:
        text = HOOK.read_text(encoding="utf-8")
        for name, value in (
            ("spool", str(self.spool)),
            ("kept_firmware_mounted", str(self.root / "no-flag")),
            ("kept_modules_mounted", str(self.root / "no-flag")),
            ("known_good", str(self.known_good)),
            ("kept_sets", str(self.root / "kept")),
            ("module_trees", str(self.trees)),
            ("firmware", str(self.firmware)),
            ("PATH", path),
        ):
            text, found = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
            assert found == 1
        self.hook.write_text(text, encoding="utf-8")

    def run(self, event: str, env: Mapping[str, str] | None = None) -> None:
        """Run it as apt would; whatever happens it must be silent and end with 0."""
        done = subprocess.run(
            [DASH, str(self.hook), event],
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", **(env or {})},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def has(self) -> dict[str, str]:
        files = (path for path in self.tree.rglob("*") if path.is_file())
        return {path.relative_to(self.tree).as_posix(): path.read_text() for path in files}

    def count_processes(self, event: str) -> int:
        """Run it with a PATH on which each command leaves a line before it is started."""
        said = self.root / "said"
        for name in ("mv", "cp", "rm"):
            command = self.bin / name
            command.write_text(f'#!/bin/sh\necho {name} >>{said}\nexec /bin/{name} "$@"\n')
            command.chmod(0o755)
        self.write(str(self.bin))
        self.run(event)
        return len(said.read_text().splitlines()) if said.exists() else 0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("event", ENDS)
def test_after_a_purge_the_whole_tree_is_put_back_as_links(place: Place, event: str) -> None:
    place.kept.chmod(0o755)
    shutil.rmtree(place.tree)
    place.run(event)
    assert place.has() == FILES
    assert (place.tree / "kernel/net/b.ko").samefile(place.kept / "kernel/net/b.ko")
    assert str((place.tree / "build").readlink()) == "/usr/src/linux-headers"
    assert place.tree.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in place.trees.iterdir()] == [RELEASE]
    assert (place.root / "kept" / FINGERPRINT / "modules-restored").exists()
    assert len(list(place.spool.glob("*.ev"))) == 1


@pytest.mark.parametrize("event", ENDS)
def test_after_a_removal_modules_dep_stands_alone_and_is_filled_up(
    place: Place, event: str
) -> None:
    shutil.rmtree(place.tree / "kernel")
    (place.tree / "updates").mkdir()
    (place.tree / "updates/dkms.ko").write_text("built here")
    place.run(event)
    assert place.has() == {**FILES, "updates/dkms.ko": "built here"}


def test_what_is_there_is_never_written_over(place: Place) -> None:
    (place.tree / "modules.dep").unlink()
    newer = place.tree / "kernel/a.ko.dpkg-new"
    newer.write_text("a newer build")
    newer.replace(place.tree / "kernel/a.ko")
    place.run("end")
    assert place.has() == {**FILES, "kernel/a.ko": "a newer build"}
    assert (place.kept / "kernel/a.ko").read_text() == "module a"


@pytest.mark.parametrize("event", ENDS)
def test_where_nothing_is_missing_no_process_is_started_for_it(place: Place, event: str) -> None:
    assert place.count_processes(event) == 1  # the mv of the note
    assert not (place.root / "kept" / FINGERPRINT / "modules-restored").exists()


@pytest.mark.parametrize(
    ("event", "action"),
    [
        ("begin", ""),
        ("dpkg-begin", "remove"),
        ("dpkg-end", "trigger"),
        ("dpkg-end", "kernel:postrm.d/zzz-trialboot:6.1.0-56-amd64"),
    ],
)
def test_it_waits_for_the_end_of_the_run(place: Place, event: str, action: str) -> None:
    shutil.rmtree(place.tree)
    place.run(event, {"DPKG_HOOK_ACTION": action})
    assert not place.tree.exists()


def test_dpkg_below_apt_leaves_it_to_apts_own_end(place: Place) -> None:
    shutil.rmtree(place.tree)
    place.run("dpkg-end", {"DPKG_FRONTEND_LOCKED": "true", "DPKG_HOOK_ACTION": "purge"})
    assert not place.tree.exists()


def test_it_needs_no_spool(place: Place) -> None:
    shutil.rmtree(place.tree)
    place.spool.rmdir()
    place.run("end")
    assert place.has() == FILES


@pytest.mark.parametrize(
    "lines",
    [
        "",
        f"RELEASE={RELEASE}\n",
        f"FINGERPRINT={FINGERPRINT}\n",
        f"RELEASE='../evil'\nFINGERPRINT='{FINGERPRINT}'\n",
        f"RELEASE=..\nFINGERPRINT={FINGERPRINT}\n",
        f"RELEASE=\nFINGERPRINT={FINGERPRINT}\n",
        f"RELEASE='a b'\nFINGERPRINT={FINGERPRINT}\n",
        f"RELEASE='$(touch {{}}/ran)'\nFINGERPRINT={FINGERPRINT}\n",
        f"RELEASE={RELEASE}\nFINGERPRINT=../{FINGERPRINT}\n",
        f"RELEASE={RELEASE}\nFINGERPRINT={'0' * 64}\n",
        f"RELEASE={RELEASE}\nFINGERPRINT='; touch {{}}/ran'\n",
        "\x00\xff\n" * 5,
    ],
)
def test_what_is_not_understood_is_left_alone(place: Place, lines: str) -> None:
    shutil.rmtree(place.tree)
    place.pin(lines.format(place.root))
    before = sorted(place.root.rglob("*"))
    place.run("end")
    after = sorted(path for path in place.root.rglob("*") if path.suffix != ".ev")
    assert after == before


@pytest.mark.parametrize("quoted", [RELEASE, f"'{RELEASE}'"])
def test_the_values_may_stand_in_quotes(place: Place, quoted: str) -> None:
    shutil.rmtree(place.tree)
    place.pin(f"RELEASE={quoted}\nFINGERPRINT='{FINGERPRINT}'\n")
    place.run("end")
    assert place.has() == FILES


def test_a_host_without_a_known_good_is_left_alone(place: Place) -> None:
    shutil.rmtree(place.tree)
    place.firmware.rmdir()
    place.known_good.unlink()
    place.run("end")
    assert not place.tree.exists()
    assert not place.firmware.exists()


@pytest.mark.parametrize("event", ENDS)
def test_the_folder_that_kept_firmware_is_bound_on_comes_back(place: Place, event: str) -> None:
    """dpkg removes it with the last package that has a file in it."""
    place.firmware.rmdir()
    place.run(event)
    assert list(place.firmware.iterdir()) == []
    assert place.firmware.stat().st_mode & 0o777 == 0o755


def test_a_boot_set_kept_without_modules_is_left_alone(place: Place) -> None:
    shutil.rmtree(place.tree)
    shutil.rmtree(place.kept)
    place.run("end")
    assert not place.tree.exists()


def test_an_interrupted_restore_is_begun_anew(place: Place) -> None:
    shutil.rmtree(place.tree)
    draft = place.trees / f".{RELEASE}.package-hook"
    (draft / "kernel").mkdir(parents=True)
    (draft / "kernel/half.ko").write_text("half")
    place.run("end")
    assert place.has() == FILES
    assert not draft.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_drafts_of_those_who_were_killed_are_swept(place: Place, *, whole: bool) -> None:
    drafts = [place.trees / f".{RELEASE}{end}" for end in (".package-hook", ".draft")]
    for draft in drafts:
        (draft / "kernel").mkdir(parents=True)
    if not whole:
        shutil.rmtree(place.tree)
    place.run("end")
    assert place.has() == FILES
    assert [path.name for path in place.trees.iterdir()] == [RELEASE]


STOPS = {
    "cp": 'for last; do :; done; mkdir -p "$last/kernel"; exit 1',
    "mv": "case $1 in -T) exit 1 ;; esac",
}
"""How far each comes on a full disk; the mv of the note still works."""


@pytest.mark.parametrize("fails", STOPS)
def test_a_restore_that_a_full_disk_cuts_short_leaves_no_draft(place: Place, fails: str) -> None:
    shutil.rmtree(place.tree)
    for name in ("cp", "mv", "rm"):
        command = place.bin / name
        stop = STOPS[name] if name == fails else ""
        command.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\n{stop}\nexec {name} "$@"\n')
        command.chmod(0o755)
    place.write(str(place.bin))
    place.run("end")
    assert list(place.trees.iterdir()) == []
    assert len(list(place.spool.glob("*.ev"))) == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_it_copies_where_links_are_refused(place: Place) -> None:
    far = Path(f"/dev/shm/trialboot-hook-{os.getpid()}")
    if far.parent.stat().st_dev == place.kept.stat().st_dev:
        pytest.skip("no second file system at hand")
    try:
        shutil.move(place.root / "kept", far)
        (place.root / "kept").symlink_to(far)
        for gone in (place.tree, place.tree / "kernel"):
            shutil.rmtree(gone)
            place.run("end")
            assert place.has() == FILES
    finally:
        shutil.rmtree(far)


@pytest.mark.parametrize("name", ["known_good", "kept_sets", "module_trees", "release"])
def test_the_callers_environment_moves_nothing(place: Place, tmp_path: Path, name: str) -> None:
    shutil.rmtree(place.tree)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.run("end", {name: str(elsewhere)})
    assert list(elsewhere.iterdir()) == []
    assert place.has() == FILES
