"""Small rpm packages, a repository of them, and a Debian root that is run by dnf and rpm."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system.packages import Installed
from tests.vm import command
from tests.vm.image import cache

# dnf4 and dnf5 by the suite that has it, each with a place that distributions keep rpm's database.
DNF: Final[Mapping[str, str]] = {"bookworm": "dnf", "sid": "dnf5"}
DATABASE: Final[Mapping[str, str]] = {"bookworm": "/usr/lib/sysimage/rpm", "sid": "/var/lib/rpm"}
VERSIONS: Final = ("1.0", "2.0", "3.0", "4.0")
PLACE: Final = "/srv/rpms"
# Files that decide what the scriptlets of a toy do, made and removed by a test.
FAIL: Final = "/var/lib/toy-fails"
KILL: Final = "/var/lib/toy-kills"
TRIGGERED: Final = "/var/log/toy-triggers"
_REPOSITORY = f"[toys]\nname=toys\nbaseurl=file://{PLACE}\ngpgcheck=0\n"
# What Debian's packages give, told to rpm: its database knows nothing of them.
_GIVEN = (
    *("/bin/sh", "/usr/bin/sh", "/usr/bin/python3", "dbus", "systemd = 300", "python3 = 3.14"),
    *("kmod-libs = 34", "libzstd = 1.5"),
    *("python3-dbus = 9", "python3-prometheus_client = 9", "python3-psutil = 99"),
    *("python3-pyroute2 = 9", "python3-pyyaml = 9", "python3-systemd = 999"),
)


@dataclass(frozen=True)
class Toy:
    """One package: its files, its tags and scriptlets as in a spec; VERSION is replaced."""

    name: str
    tags: Sequence[str] = ()
    files: Sequence[str] = ()
    scriptlets: Sequence[str] = ()


class RpmHost(Installed):
    """A private root that dnf and rpm run, with the toys at hand."""

    def __init__(self, place: Path, suite: str) -> None:
        super().__init__(place)
        self.suite = suite

    def words(self, *words: str) -> Sequence[str]:
        """Give the words of a dnf that asks nothing."""
        return (DNF[self.suite], "-y", "--releasever=1", *words)

    def dnf(self, *words: str) -> str:
        """Let dnf do something; it has to succeed."""
        return self.run(*self.words(*words))

    def try_dnf(self, *words: str) -> tuple[int, str]:
        """Let dnf do something that may fail; give its code and what it said."""
        return self.try_run(*self.words(*words))

    def rpm(self, *words: str) -> str:
        """Let rpm do something; it has to succeed."""
        return self.run("rpm", "--nosignature", *words)

    def actions(self) -> list[str]:
        """Take the notes and give what each says of its cause."""
        names = sorted((self.place / "var/lib/trialboot/spool").glob("*.ev"))
        lines = [line for name in names for line in name.read_text().splitlines()]
        self.notes()
        return [line.partition("=")[2] for line in lines if line.startswith("action=")]


def toys() -> tuple[Toy, ...]:
    """List all packages. Each is there in all versions."""
    log = f"echo VERSION >>{TRIGGERED}"
    return (
        Toy("toy-system", tags=[f"Provides: {', '.join(_GIVEN)}"]),
        Toy("toy-plain", files=["/usr/share/toy/plain"]),
        Toy(
            "kernel-core",
            tags=["Provides: installonlypkg(kernel)"],
            files=["/usr/lib/modules/VERSION-toy/modules.dep", "/boot/vmlinuz-VERSION-toy"],
        ),
        Toy("linux-firmware", tags=["Epoch: 2"], files=["/usr/lib/firmware/toy/nic.bin"]),
        Toy("kmod-toy", files=["/lib/modules/toy/extra/toy.ko"]),
        Toy("toy-app", tags=["Requires: kernel-core, linux-firmware = 2:VERSION"]),
        Toy(
            "toy-triggers",
            scriptlets=[f"%transfiletriggerin -n toy-triggers -- /usr/lib/firmware\n{log}"],
        ),
        Toy("toy-fails", scriptlets=[f"%pre -n toy-fails\n[ ! -e {FAIL} ] || exit 1"]),
        Toy(
            "toy-kills",
            scriptlets=[f'%post -n toy-kills\n[ ! -e {KILL} ] || kill -9 "$PPID"'],
        ),
    )


def file_name(name: str, version: str) -> str:
    """Give the path of a package's file, as a root sees it."""
    return f"{PLACE}/noarch/{name}-{version}-1.noarch.rpm"


def lay(place: Path, suite: str, package: Path) -> None:
    """Put the toys and our package into a root, as the only repository that its dnf knows."""
    shutil.copytree(_packages(), place / PLACE[1:])
    shutil.copy(package, place / PLACE[1:])
    command.output("createrepo_c", "--quiet", place / PLACE[1:])
    host = RpmHost(place, suite)
    host.write("/etc/rpm/macros", f"%_dbpath {DATABASE[suite]}\n")
    host.write("/etc/yum.repos.d/toys.repo", _REPOSITORY)
    # Debian's dnf5 has it enabled and fails after each transaction without createrepo_c.
    host.write("/etc/dnf/libdnf5-plugins/local.conf", "[main]\nname=local\nenabled=0\n")


def _packages() -> Path:
    """Return a folder with all toys, built where the cache has none."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = cache() / f"rpms-{key}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "rpms.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in cache().glob("*rpms-*"):
                shutil.rmtree(old)
            draft = folder.with_name(f"draft-{folder.name}")
            for version in VERSIONS:
                _build(version, draft)
            draft.rename(folder)
    return folder


def _build(version: str, into: Path) -> None:
    with tempfile.TemporaryDirectory() as top:
        spec = Path(top, "toys.spec")
        spec.write_text(_spec().replace("VERSION", version))
        defines = (f"_topdir {top}", f"_rpmdir {into}")
        words = [word for define in defines for word in ("--define", define)]
        command.output("rpmbuild", "-bb", "--quiet", *words, spec)


def _spec() -> str:
    head = "Name: toys\nVersion: VERSION\nRelease: 1\nSummary: toys\nLicense: none"
    parts = [head, "BuildArch: noarch", "%description\nToys", "%install"]
    for toy in toys():
        for path in toy.files:
            parts.append(f"install -D /dev/null %{{buildroot}}{path}")
            parts.append(f"echo VERSION >%{{buildroot}}{path}")
    for toy in toys():
        tags = "\n".join(toy.tags)
        parts.append(f"%package -n {toy.name}\nSummary: a toy\nAutoReqProv: no\n{tags}")
        parts.append(f"%description -n {toy.name}\nA toy")
        parts.extend(toy.scriptlets)
        parts.append("\n".join((f"%files -n {toy.name}", *toy.files)))
    return "\n".join(parts) + "\n"
