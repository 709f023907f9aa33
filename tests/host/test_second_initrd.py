"""The script of the second initrd, with real mounts, in a mount namespace of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.conftest import Inside, sh

pytestmark = pytest.mark.host

INITRAMFS = Path(__file__).parents[2] / "packaging/initramfs"
SCRIPT = INITRAMFS / "scripts/trialboot"
HOOK = INITRAMFS / "usr/lib/dracut/hooks/pre-pivot/99-trialboot.sh"
RELEASE = os.uname().release
KEPT = "usr/lib/trialboot/kept/ab"
FIRMWARE = f"trialboot.firmware=/{KEPT}/firmware"
MODULES = f"trialboot.modules=/{KEPT}/modules/{RELEASE}"
TREE = f"lib/modules/{RELEASE}"
FILES = {
    f"{TREE}/kernel/net/nic.ko": "good",
    f"{TREE}/kernel/fs/ext4.ko.xz": "good",
    f"{TREE}/modules.dep": "kernel/net/nic.ko:\n",
    "lib/firmware/nic/fw.bin": "good",
}
SHELLS = [
    pytest.param(
        words, marks=pytest.mark.skipif(not shutil.which(words[0]), reason=f"no {words[0]}")
    )
    for words in (["dash"], ["bash"], ["busybox", "sh"])
]
"""Those of initrds: of initramfs-tools without and with busybox, and of dracut."""


class Root:
    """A real root as the initrd finds it, with all its files kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, content in FILES.items():
            self.write(name, content)
            kept = folder / KEPT / name.removeprefix("lib/")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.hardlink_to(folder / name)
        (folder / TREE / "build").symlink_to("/usr/src/linux-headers")

    def write(self, name: str, content: str) -> None:
        """Replace a file as dpkg does."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.dpkg-new")
        draft.write_text(content)
        draft.replace(place)

    def boot(self, shell: list[str], script: Path, line: str) -> dict[str, str]:
        """Run the script; give what the host then sees of files, and what is said in /run."""
        (self.folder / "cmdline").write_text(f"root=x {line} quiet\n")
        sh(
            f"""
            mount --bind {self.folder} {self.folder}
            mount --bind {self.folder}/cmdline /proc/cmdline
            mount --bind /dev/null /dev/kmsg
            mount -t tmpfs tmpfs /run
            mount --make-rshared /
            """
        )
        copy = self.folder / "script"
        copy.write_text(script.read_text().replace("/scripts/trialboot", str(SCRIPT)))
        # initramfs-tools tells the one where the root is, dracut the other.
        told = {"rootmnt" if script == SCRIPT else "NEWROOT": str(self.folder)}
        done = subprocess.run(
            [*shell, str(copy)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **told},
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return self.seen()

    def seen(self) -> dict[str, str]:
        packaged = Path("/run/trialboot")
        files = {f"host:{p.relative_to(self.folder)}": p for p in self._files("lib")}
        flags = {f"flag:{p.name}": p for p in packaged.glob("kept-*")}
        under = {
            f"packaged:{p.relative_to(packaged)}": p
            for p in packaged.rglob("*")
            if p.is_file() and p.parent != packaged
        }
        found = {**files, **flags, **under}
        return {name: path.read_text() for name, path in found.items()}

    def _files(self, below: str) -> list[Path]:
        return [path for path in (self.folder / below).rglob("*") if path.is_file()]


def boot(
    inside: Inside,
    root: Root,
    line: str,
    *,
    shell: list[str] | None = None,
    script: Path = SCRIPT,
) -> dict[str, str]:
    seen: dict[str, str] = inside(lambda: root.boot(shell or ["dash"], script, line))
    return seen


@pytest.mark.parametrize("script", [SCRIPT, HOOK], ids=lambda p: p.name)
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_modules_that_were_replaced_in_place_are_those_of_the_known_good(
    inside: Inside, tmp_path: Path, shell: list[str], script: Path
) -> None:
    root = Root(tmp_path)
    root.write(f"{TREE}/kernel/net/nic.ko", "rebuilt")
    root.write("lib/firmware/nic/fw.bin", "new")
    seen = boot(inside, root, f"{FIRMWARE} {MODULES}", shell=shell, script=script)
    assert seen[f"host:{TREE}/kernel/net/nic.ko"] == "good"
    assert seen["host:lib/firmware/nic/fw.bin"] == "good"
    assert seen[f"packaged:packaged-modules/{RELEASE}/kernel/net/nic.ko"] == "rebuilt"
    assert seen["packaged:packaged-firmware/nic/fw.bin"] == "new"
    assert {"flag:kept-firmware-mounted", "flag:kept-modules-mounted"} <= seen.keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.write(f"{TREE}/updates/dkms/own.ko.zst", "built here"),
        lambda root: (root.folder / TREE / "kernel/fs/ext4.ko.xz").unlink(),
        lambda root: (root.folder / TREE / "modules.dep").unlink(),
        lambda root: shutil.rmtree(root.folder / TREE / "kernel"),
    ],
    ids=["added", "removed", "no-index", "kernel-removed"],
)
def test_a_tree_that_differs_is_covered(inside: Inside, tmp_path: Path, change: object) -> None:
    root = Root(tmp_path)
    assert callable(change)
    change(root)
    seen = boot(inside, root, MODULES)
    modules = {name for name in seen if name.startswith(f"host:{TREE}")}
    assert modules == {f"host:{name}" for name in FILES if name.startswith(TREE)}
    assert "flag:kept-modules-mounted" in seen


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_a_tree_that_is_what_was_kept_is_left_to_the_packages(
    inside: Inside, tmp_path: Path, shell: list[str]
) -> None:
    root = Root(tmp_path)
    root.write(f"{TREE}/modules.dep", "made anew by depmod\n")
    (tmp_path / TREE / "updates").mkdir()
    seen = boot(inside, root, MODULES, shell=shell)
    assert "flag:kept-modules-mounted" not in seen
    assert not [name for name in seen if name.startswith("packaged:")]


def test_a_tree_that_was_purged_is_there_all_the_same(inside: Inside, tmp_path: Path) -> None:
    root = Root(tmp_path)
    shutil.rmtree(tmp_path / TREE)
    seen = boot(inside, root, MODULES)
    assert seen[f"host:{TREE}/kernel/net/nic.ko"] == "good"


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("", set()),
        (f"trialboot.modules=/{KEPT}/modules/5.0.0-other", {"modules"}),
        (
            "trialboot.modules=/gone/modules trialboot.firmware=/gone/firmware",
            {"firmware", "modules"},
        ),
        ("trialboot.modules= trialboot.firmware=relative", set()),
    ],
)
def test_what_is_not_there_is_not_bound_and_that_is_left_for_the_daemon(
    inside: Inside, tmp_path: Path, line: str, left: set[str]
) -> None:
    root = Root(tmp_path)
    root.write(f"{TREE}/kernel/net/nic.ko", "rebuilt")
    seen = boot(inside, root, line)
    assert seen[f"host:{TREE}/kernel/net/nic.ko"] == "rebuilt"
    flags = {name for name in seen if name.startswith("flag:")}
    assert flags == {f"flag:kept-{kind}-left" for kind in left}


def test_a_firmware_folder_that_is_a_link_is_left(inside: Inside, tmp_path: Path) -> None:
    root = Root(tmp_path)
    (tmp_path / "lib/firmware").rename(tmp_path / "lib/elsewhere")
    (tmp_path / "lib/firmware").symlink_to("elsewhere")
    seen = boot(inside, root, FIRMWARE)
    assert [name for name in seen if name.startswith("flag:")] == ["flag:kept-firmware-left"]


def test_what_is_bound_cannot_be_written(inside: Inside, tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.write("lib/firmware/nic/fw.bin", "new")

    def write() -> str:
        root.boot(["dash"], SCRIPT, FIRMWARE)
        try:
            (tmp_path / "lib/firmware/nic/fw.bin").write_text("in place")
        except OSError as error:
            return str(error.strerror)
        return "written"

    assert inside(write) == "Read-only file system"
