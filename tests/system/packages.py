"""A Debian root with trialboot and the toy repository in it, and what a test asks of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.fakes.spooled import take_notes
from tests.system import roots, terminal
from trialboot.core.packagenote import Note
from trialboot.host import Host

SPOOL = "var/lib/trialboot/spool"

STARTED_BY_BOOT = {
    "trialboot-before-reboot.service",
    "trialboot-boot-check.service",
    "trialboot-kexec.service",
    "trialboot-late-start.timer",
    "trialboot-load-test.service",
    "trialboot-metrics.socket",
    "trialboot-standstill.service",
    "trialbootd.service",
}
STARTED_BY_OTHERS = {
    "trialboot-keep-objects.service",
    "trialboot-late-start.service",
    "trialboot-metrics.service",
    "trialboot-node.service",
    "trialboot-operator-checks.service",
    "trialboot-pin.service",
    "trialboot-prove.service",
    "trialboot-render.service",
    "trialboot-snapshot.service",
    "trialboot-verify.service",
}


class Installed:
    """One private root in which trialboot is installed. No systemd runs in it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, *argv: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command that has to succeed."""
        return roots.chroot_run(self.place, argv, environment=environment)

    def try_run(self, *argv: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command that may fail; give its code and what it said."""
        return roots.chroot_try(self.place, argv, environment=environment)

    def apt(self, *words: str) -> str:
        """Let apt-get do something; it has to succeed."""
        return self.run(*apt(*words))

    def at_terminal(self, script: str) -> AbstractContextManager[terminal.Terminal]:
        """Run a line of shell at a terminal."""
        words = roots.chroot_words(self.place, ("sh", "-c", script))
        return terminal.Terminal(words, roots.ENVIRONMENT)

    def state(self, name: str) -> str:
        """Say what dpkg has written down about a package, as «installed 1.0», or «absent»."""
        form = "${db:Status-Status} ${Version}"
        code, said = self.try_run("dpkg-query", "--show", "--showformat", form, name)
        return said.strip() if code == 0 else "absent"

    def audit(self) -> str:
        """Say what dpkg finds half-done."""
        return self.run("dpkg", "--audit")

    def notes(self) -> list[Note]:
        """Take the notes that the hook has left, in their order."""
        return list(take_notes(Host(root=self.place)))

    def events(self) -> list[str]:
        """Take the notes and give their events alone; a torn note fails the test."""
        notes = self.notes()
        assert all(note.whole for note in notes)
        return [note.event for note in notes]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the root, with the folders above it."""
        file = self.place / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def exists(self, path: str) -> bool:
        """Tell whether the root has a file, a broken link included."""
        file = self.place / path.lstrip("/")
        return file.is_symlink() or file.exists()

    def traces(self) -> list[str]:
        """List all files with our name, but for dpkg's and apt's own records of the past."""
        found = (path.relative_to(self.place) for path in self.place.rglob("*trialboot*"))
        return sorted(str(path) for path in found if not re.match(r"srv/|var/log/", str(path)))


def units(host: Installed) -> dict[str, set[str]]:
    """Give our units by what `systemctl is-enabled` says of them."""
    _, said = host.try_run("systemctl", "list-unit-files", "--no-legend", "trialboot*")
    found: dict[str, set[str]] = {}
    for name, state, *_ in map(str.split, said.splitlines()):
        found.setdefault(state, set()).add(name)
    return found


def apt(*words: str) -> Sequence[str]:
    """Give the words of an apt-get that asks nothing."""
    return ("apt-get", "-q", "-y", *words)


def steps(note: Note) -> dict[str, str]:
    """Read a plan: the package of each step, and what happens to it: install, remove, ..."""
    found = {}
    for line in note.packages:
        name, old, _, _, direction, new, _, _, what = line.split(" ", 8)
        if what == "**CONFIGURE**":
            continue
        found[name] = f"{old} {direction} {new}"
    return found
