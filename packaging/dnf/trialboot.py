# noqa: INP001  dnf loads it by its path
"""dnf4 plugin: tells trialboot when a transaction begins, with its plan, and when it has ended.

It leaves the notes that apt's hook leaves, through that hook. No trouble of ours reaches dnf.
For the distribution's own Python (3.6 and later): dnf and the standard library alone.
"""

import atexit
import os
import subprocess  # noqa: TID251  a plugin of dnf, not part of the agent
import tempfile
from contextlib import suppress
from pathlib import Path

import dnf

HOOK = "/usr/lib/trialboot/package-hook"
NOTICE = "/usr/lib/trialboot/package-notice"
SPOOL = Path("/var/lib/trialboot/spool")
PATIENCE = 10
"""Seconds for one program of ours; the hook takes milliseconds."""

ACTIONS = {
    "Removed": "remove",
    "Upgraded": "replaced",
    "Downgraded": "replaced",
    "Obsoleted": "replaced",
    "Reinstalled": "replaced",
}


class Trialboot(dnf.Plugin):
    """Begin and end of dnf's transactions on this host; silent below another root."""

    name = "trialboot"

    def __init__(self, base, cli):
        super().__init__(base, cli)
        self._running = False

    def pre_transaction(self):
        """Leave the plan before the first package is touched."""
        with suppress(Exception):
            self._begin()

    def transaction(self):
        """Leave a note that all is done."""
        with suppress(Exception):
            self._end()

    def _begin(self):
        if self.base.conf.installroot != "/" or not SPOOL.is_dir():
            return
        # A changed reason («mark install») changes no package.
        items = [item for item in self.base.transaction if item.action_name != "Reason Change"]
        if not items:
            return
        # dnf does not call transaction() after a transaction that failed.
        self._running = True
        atexit.register(self.transaction)
        leave_note("begin", "".join(map(plan_line, items)))

    def _end(self):
        if self._running:
            self._running = False
            leave_note("end")
            if os.access(NOTICE, os.X_OK):
                run([NOTICE], stdin=subprocess.DEVNULL, stdout=2)


def plan_line(item):
    """Give one step of the plan; as in apt's, the name comes first."""
    action = ACTIONS.get(item.action_name, item.action_name.lower())
    version = f"{item.epoch or 0}:{item.version}-{item.release}"
    return f"{item.name} {action} {version}.{item.arch}\n"


def leave_note(event, plan=""):
    """Let the hook write a note; it takes a plan behind the first empty line, as from apt.

    The plan is handed over as a file: dnf runs with SIGPIPE at its default, and a hook that ended
    before it has read a pipe would take dnf with it.
    """
    with tempfile.TemporaryFile() as told:
        told.write(f"\n{plan}".encode("utf-8", "replace"))
        told.seek(0)
        run(
            [HOOK, event],
            stdin=told,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, DPKG_HOOK_ACTION="dnf", DPKG_ROOT=""),
        )


def run(argv, **options):
    """Run a program of ours to its end, whatever its end is."""
    subprocess.run(argv, check=False, timeout=PATIENCE, **options)
