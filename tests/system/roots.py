"""Debian roots: made once and kept outside the repository, lent to each test as a copy of its own.

``python3 -m tests.system.roots`` makes those of all suites and says how it goes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

import pytest

from tests.system import mirror
from tests.vm import command
from tests.vm.command import Progress
from tests.vm.errors import CommandFailed, InfrastructureError
from tests.vm.image import cache

SUITES: Final = ("bookworm", "trixie", "sid")
# What the package depends on, so that it is installed without a network, what it uses where it is
# there, and a bootable systemd.
_BASE = (
    *("libbpf1", "libkmod2", "libzstd1"),
    *("systemd-sysv", "dbus", "iproute2", "procps", "python3", "python3-dbus", "python3-systemd"),
    *("python3-prometheus-client", "python3-psutil", "python3-pyroute2", "python3-yaml"),
    *("grub2-common", "iptables"),
)
_MORE: Final[Mapping[str, tuple[str, ...]]] = {
    "bookworm": (
        *("aptitude", "unattended-upgrades", "packagekit", "packagekit-tools"),
        *("lintian", "autopkgtest", "dnf", "rpm"),
    ),
    "trixie": ("lintian",),
    "sid": ("dnf5", "rpm"),
}
_RECIPE = (
    *("--variant=minbase", "--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
    # From here on there is no network: apt shall know what is installed, and nothing else.
    '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
)
_OLD_ROOTS = 2
ENVIRONMENT: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}
# The shell stays: it is PID 1 in there, and PID 1 cannot be killed by what it runs.
_ENTER = """
set -e
cd "$0"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
mkdir -p run/lock
ip link set lo up
set +e
chroot "$0" "$@"
exit $?
"""


def root(suite: str, packages: Sequence[str] | None = None) -> Path:
    """Return a Debian root with these packages, made first where the cache has none.

    Without packages it is the one that all tests of a suite share. Never write to it: see
    :func:`copy`. Skips the test where this machine cannot make one.
    """
    require()
    chosen = (*_BASE, *_MORE[suite]) if packages is None else tuple(packages)
    cache().mkdir(parents=True, exist_ok=True)
    folder = cache() / f"root-{suite}-{_key(suite, chosen)}"
    with (cache() / f"root-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(suite, chosen, folder)
            _prune(folder)
    return folder


def require() -> None:
    """Skip the test, saying why, where no root can be made or entered."""
    if os.geteuid() != 0:
        pytest.skip("Debian roots need root rights")
    for program in ("mmdebstrap", "unshare", "chroot", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: packaging/set-up installs it")
    if why := _why_no_namespaces():
        pytest.skip(f"no namespaces of our own here: {why}")


@lru_cache
def _why_no_namespaces() -> str:
    words = ("unshare", "--mount", "--pid", "--net", "--fork", "true")
    return subprocess.run(words, capture_output=True, text=True, check=False).stderr.strip()


@contextmanager
def copy(original: Path, into: Path) -> Iterator[Path]:
    """Lend a private copy of a root, below a folder; what is changed goes with that folder.

    The original may be a copy too, as long as nobody writes to it any more. An overlay: it takes
    3 ms, where copying the files takes 2 s.
    """
    for name in ("changed", "work", "root"):
        (into / name).mkdir(parents=True)
    place = into / "root"
    # The kernel stacks two overlays and no more, but takes any number of layers in one.
    stack = original.with_name("layers")
    below = stack.read_text() if stack.exists() else str(original)
    place.with_name("layers").write_text(f"{into}/changed:{below}")
    options = f"lowerdir={below},upperdir={into}/changed,workdir={into}/work"
    command.output("mount", "-t", "overlay", "overlay", "-o", options, place)
    try:
        yield place
    finally:
        command.output("umount", "--lazy", place)


def chroot_run(
    place: Path,
    argv: Sequence[str],
    *,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    fine: Sequence[int] = (0,),
) -> str:
    """Run a command in a root and return what it said on both streams.

    It has mounts, processes and a network of its own, `/run` is empty, and all that it started
    ends with it. Raises CommandFailed if it ends with another code than those that are fine, or
    takes more seconds than given.
    """
    code, said = chroot_try(place, argv, timeout=timeout, environment=environment, stdin=stdin)
    if code not in fine:
        raise CommandFailed(f"{' '.join(argv)} ended with {code}:\n{said}")
    return said


def chroot_try(
    place: Path,
    argv: Sequence[str],
    *,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> tuple[int, str]:
    """Do as :func:`chroot_run` does, but give the exit code whatever it is, and what was said."""
    try:
        done = subprocess.run(
            chroot_words(place, argv),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**ENVIRONMENT, **(environment or {})},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as slow:
        said = (slow.stdout or b"").decode(errors="replace")
        raise CommandFailed(f"{' '.join(argv)} took more than {timeout:.0f} s:\n{said}") from slow
    return done.returncode, done.stdout


def chroot_words(place: Path, argv: Sequence[str]) -> list[str]:
    """Give the words that run a command in a root; whoever kills the first ends all of it."""
    return [
        *("unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child=KILL"),
        *("sh", "-c", _ENTER, str(place), *argv),
    ]


def _key(suite: str, packages: Sequence[str]) -> str:
    words = "\0".join((suite, *_RECIPE, *sorted(packages)))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _make(suite: str, packages: Sequence[str], folder: Path) -> None:
    log = cache() / f"root-{suite}.log"
    log.unlink(missing_ok=True)
    progress = Progress(log)
    progress.say(f"making a root of Debian {suite}; everything said goes to {log}")
    # It gets its own name only when it is whole.
    draft = folder.with_name(f"draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    include = "--include=" + ",".join(packages)
    words = (*_RECIPE, *mirror.options(), include, suite, str(draft), *mirror.sources(suite))
    progress.run("mmdebstrap", *words)
    draft.rename(folder)
    progress.say(f"the root of Debian {suite} is ready")


def _prune(newest: Path) -> None:
    """Forget roots of old recipes; a few stay for whoever switches between branches."""
    kin = "-".join(newest.name.split("-")[:2])
    others = (path for path in cache().glob(f"{kin}-*") if path != newest)
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-_OLD_ROOTS]:
        shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    """Make the roots of all suites."""
    try:
        for suite in SUITES:
            print(root(suite))
    except InfrastructureError as error:
        print(f"tests.system.roots: {error}", file=sys.stderr)
        return 1
    except pytest.skip.Exception as skipped:
        print(f"tests.system.roots: {skipped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
