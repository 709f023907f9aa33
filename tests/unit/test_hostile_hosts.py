"""A whole good host with one or two files spoiled: an answer or a typed error, never a traceback.

Held are `trialboot next --now --json`, the snapshot worker and the journal of package runs, each
over the same folder. What is read without an end or waited for would show here too.
"""

import atexit
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.boot_hosts import FEDORA_NEW, MACHINE
from tests.unit.scenarios.node import ICE, LOADED, NEW, OLD, Node
from tests.unit.scenarios.test_scenarios import STORIES, pytestmark
from trialboot import cli
from trialboot.core.facts import BootId
from trialboot.core.systemdboot import LOADER_VENDOR
from trialboot.errors import TrialbootError
from trialboot.packageruns import PackageRuns
from trialboot.workers import snapshot

__all__ = ["pytestmark"]

STATE: Final = "/var/lib/trialboot"
HUGE: Final = 5 << 20
MOST_MEMORY: Final = 64 << 20
CODES: Final = frozenset({0, 1, 69, 74, 75, 77, 78})
"""Exit codes of trialboot(1)."""

Harm = Callable[[Path], None]
ESP: Final = f"/boot/efi/{MACHINE}/{NEW}"
EFI: Final = "/sys/firmware/efi/efivars"
NEXT_MODULES: Final = f"/lib/modules/{NEW}"
ICE_FILE: Final = f"{NEXT_MODULES}/{LOADED['ice'].folder}/ice.ko"
TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "armed_for_a_trial": (
        *("/boot/grub/grub.cfg", "/boot/grub/grubenv", "/boot/grub/custom.cfg"),
        *(f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}", f"/boot/config-{NEW}"),
        *("/boot/trialboot", NEXT_MODULES, ICE_FILE, f"/lib/modules/{OLD}/modules.dep"),
        *(
            f"{NEXT_MODULES}/modules.{name}"
            for name in (
                *("dep", "builtin", "dep.bin", "alias.bin", "builtin.bin", "builtin.alias.bin"),
                "symbols.bin",
            )
        ),
        *(f"/lib/firmware/{ICE}", "/lib/firmware/updates", "/lib/firmware"),
        *("/var/lib/dpkg/status", "/var/lib/dpkg/info", "/var/lib/dpkg/updates"),
        *("/var/lib/dpkg/info/linux-firmware.list", "/var/log/apt/history.log"),
        *("/var/lib/dkms", "/var/lib/dkms/zfs/2.1/x/y", "/var/lib/dnf/history.sqlite"),
        *("/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/libdnf5/transaction_history.sqlite"),
        *("/proc/modules", "/proc/cmdline", "/proc/version", "/proc/stat", "/proc/uptime"),
        *("/proc/self/mountinfo", "/proc/net/route", "/proc/net/ipv6_route", "/proc/cpuinfo"),
        *("/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/tainted"),
        *("/sys/kernel/notes", "/sys/kernel/kexec_loaded", "/sys/class/dmi/id/bios_version"),
        *("/sys/class/net/xnic0np0/device", "/sys/devices/pci0000:00/0000:3b:00.0/modalias"),
        *("/sys/module/ice/notes/.note.gnu.build-id", "/sys/module/megaraid_sas/version"),
        f"{EFI}/BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        *("/etc/sysctl.d/90-kubelet.conf", "/etc/sysctl.d", "/etc/modprobe.d/blacklist.conf"),
        *("/etc/modules-load.d/k8s.conf", "/etc/fstab", "/etc/initramfs-tools/initramfs.conf"),
        *("/etc/cni/net.d/10-cni.conflist", "/etc/trialboot/trialboot.toml"),
        *("/run/reboot-required", "/run/reboot-required.pkgs", "/run/trialboot/outlook.json"),
        *(
            f"{STATE}/{name}"
            for name in (
                *("ran.json", "decision.json", "content-cache.json", "packages.json"),
                *("packages-seen.json", "transactions.json", "snapshot.json", "spool"),
                "spool/0000000001.00-7-begin.ev",
            )
        ),
    ),
    "fedora": (
        *("/boot/grub2/grub.cfg", "/boot/grub2/grubenv", f"/boot/vmlinuz-{FEDORA_NEW}"),
        *(f"/boot/loader/entries/{MACHINE}-{FEDORA_NEW}.conf", "/boot/loader/entries"),
        f"/boot/initramfs-{FEDORA_NEW}.img",
    ),
    "systemd_boot": (
        *(f"/boot/efi/loader/entries/{MACHINE}-{NEW}.conf", "/boot/efi/loader/loader.conf"),
        *(f"{ESP}/linux", f"{ESP}/initrd.img-{NEW}", "/boot/efi/loader/entries"),
        *(f"{EFI}/{name}-{LOADER_VENDOR}" for name in ("LoaderInfo", "LoaderEntrySelected")),
    ),
}
"""Which host, and which of its files are spoiled: all that a reader opens."""


@lru_cache
def good(story: str) -> Node:
    """Make a good host, once a run: each example spoils a copy of it."""
    root = Path(tempfile.mkdtemp(prefix="good-host-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    host = STORIES[story](root)
    host.write(f"{STATE}/packages.json", '{"format": 1, "value": []}')
    host.write(f"{STATE}/transactions.json", '{"format": 1, "value": []}')
    host.write(f"{STATE}/spool/0000000001.00-7-begin.ev", "v=1\nevent=begin\nup=1.0\nend\n")
    host.write("/boot/grub/custom.cfg", "")
    return host


@contextmanager
def spoiled(story: str, *harms: tuple[str, Harm]) -> Iterator[Node]:
    """Give a copy of a good host with some files spoiled: links to its files, so nothing moves."""
    base = good(story)
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        root = Path(folder) / "root"
        shutil.copytree(base.root, root, symlinks=True, copy_function=os.link)
        for path, harm in harms:
            place = root / path.lstrip("/")
            with suppress(FileExistsError, NotADirectoryError):
                place.parent.mkdir(parents=True, exist_ok=True)
                harm(place)
        yield Node(root)


def look(host: Node) -> int:
    """Look in all three ways; give the exit code of the first."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(screen), redirect_stderr(io.StringIO()):
        code = cli.main(["next", "--now", "--json"], host.host)
    screen.flush()
    if code == 0:
        screen.seek(0)
        assert json.load(screen)["format"] == 1
    with suppress(TrialbootError):
        snapshot.work(host.host)
    with suppress(TrialbootError):
        PackageRuns(host.host, BootId("b")).take_notes()
    return code


# --- the harms ----------------------------------------------------------------------------------


def content_of(place: Path) -> bytes:
    return place.read_bytes() if place.is_file() else b""


def gone(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def holds(raw: bytes) -> Harm:
    def harm(place: Path) -> None:
        gone(place)
        place.write_bytes(raw)

    return harm


def halved(place: Path) -> None:
    raw = content_of(place)
    holds(raw[: len(raw) // 2])(place)


def huge(place: Path) -> None:
    holds(b"")(place)
    os.truncate(place, HUGE)


def huge_text(place: Path) -> None:
    raw = content_of(place) or b"a=b\n"
    holds(raw * (HUGE // len(raw)))(place)


def not_utf8(place: Path) -> None:
    """Put a byte that is no UTF-8 into every word."""
    holds(content_of(place).replace(b"e", b"\xe9"))(place)


def long_release(place: Path) -> None:
    raw = content_of(place)
    for release in (OLD, NEW):
        raw = raw.replace(release.encode(), b"6" * 300)
    holds(raw)(place)


def folder(place: Path) -> None:
    gone(place)
    place.mkdir()
    (place / "inside").write_bytes(b"x")


def dangling(place: Path) -> None:
    gone(place)
    place.symlink_to("nowhere")


def loop(place: Path) -> None:
    gone(place)
    place.symlink_to(place.name)


def odd_names(place: Path) -> None:
    """Put files beside it whose names are no UTF-8, or hold a line break."""
    parent = os.fsencode(place if place.is_dir() else place.parent)
    for name in (b"\xff\xfe.conf", b"a\nb.list", b"\xe9.ko"):
        Path(os.fsdecode(parent + b"/" + name)).write_bytes(b"x")


HARMS: Final[dict[str, Harm]] = {
    "gone": gone,
    "empty": holds(b""),
    "halved": halved,
    "nul bytes": holds(b"\0" * 3000),
    "binary": holds(bytes(range(256)) * 20),
    "one long line": holds(b"x" * 70_000),
    "huge": huge,
    "huge text": huge_text,
    "not UTF-8": not_utf8,
    "a long release": long_release,
    "a folder": folder,
    "a dangling link": dangling,
    "a loop of links": loop,
    "odd names": odd_names,
    "deep JSON": holds(b"[" * 100_000),
    "other JSON": holds(b'{"format": 1, "value": {"is": "Decision", "trial": 7}}'),
}


# --- any of it ----------------------------------------------------------------------------------

PLACES: Final = [(story, path) for story, paths in TARGETS.items() for path in paths]


def cut_at(share: float) -> Harm:
    def harm(place: Path) -> None:
        raw = content_of(place)
        holds(raw[: int(len(raw) * share)])(place)

    return harm


def with_other_bytes(changes: list[tuple[int, int]]) -> Harm:
    def harm(place: Path) -> None:
        raw = bytearray(content_of(place) or b"x")
        for at, value in changes:
            raw[at % len(raw)] = value
        holds(bytes(raw))(place)

    return harm


ANY_HARM: Final = st.one_of(
    st.sampled_from([HARMS[name] for name in HARMS if not name.startswith("huge")]),
    st.binary(max_size=200).map(holds),
    st.floats(0, 1, exclude_max=True).map(cut_at),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=8).map(
        with_other_bytes
    ),
)


@pytest.mark.parametrize("story", TARGETS)
def test_the_hosts_that_are_spoiled_below_are_good_before(story: str) -> None:
    with spoiled(story) as host:
        assert look(host) == 0


@pytest.mark.parametrize("name", HARMS)
def test_a_host_of_which_all_files_are_spoiled_in_one_way_is_told_in_words(name: str) -> None:
    for story, paths in TARGETS.items():
        for path in paths[:: 1 + len(paths) // 5]:
            with spoiled(story, (path, HARMS[name])) as host:
                assert look(host) in CODES


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from(PLACES), harm=ANY_HARM, data=st.data())
def test_one_or_two_spoiled_files_give_an_answer_or_a_typed_error(
    place: tuple[str, str], harm: Harm, data: st.DataObject
) -> None:
    story, path = place
    other = data.draw(st.none() | st.tuples(st.sampled_from(TARGETS[story]), ANY_HARM))
    with spoiled(story, (path, harm), *([other] if other else [])) as host:
        assert look(host) in CODES


LOOKS: Final = """
import resource, sys
from pathlib import Path
from tests.unit.scenarios.node import Node
from tests.unit.test_hostile_hosts import look
look(Node(Path(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(host: Node) -> int:
    """Look in a process of its own; give the most memory that it had, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", LOOKS, str(host.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return int(done.stdout) << 10


WORST: Final = (
    *("/proc/sys/kernel/random/boot_id", "/proc/cmdline", "/proc/modules", "/sys/kernel/notes"),
    *("/boot/grub/grub.cfg", f"{NEXT_MODULES}/modules.dep", f"{NEXT_MODULES}/modules.alias.bin"),
    *("/var/lib/dpkg/status", "/var/log/apt/history.log", "/proc/self/mountinfo"),
    *(f"{STATE}/content-cache.json", f"{STATE}/decision.json", f"{STATE}/packages.json"),
)


def test_five_mebibytes_in_any_file_cost_less_than_64() -> None:
    with spoiled("armed_for_a_trial") as host:
        least = memory(host)
    for path in WORST:
        for name in ("huge", "huge text"):
            with spoiled("armed_for_a_trial", (path, HARMS[name])) as host:
                used = memory(host) - least
            assert used < MOST_MEMORY, f"{path}: {name}: {used >> 20} MiB"
