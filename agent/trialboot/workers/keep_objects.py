"""trialboot-keep-objects.service: keeps the CNI's compiled programs, tried on this kernel."""

import sys

from trialboot import loadtest
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Outcome
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.workers import oneshot
from trialboot.writers import store

_SECONDS = 240.0
"""Well within TimeoutStartSec of the unit."""


def work(host: Host) -> None:
    """Keep what there is, if this boot is judged sound: only then it says what works."""
    found = store.load(host, store.JUDGEMENT, Judgement)
    if not isinstance(found, Judgement) or found.boot != kernel.read_boot_id(host):
        sys.stdout.write("this boot has no verdict: nothing is kept\n")
        return
    if found.verdict.outcome is not Outcome.SOUND:
        sys.stdout.write(f"this boot is {found.verdict.outcome}: nothing is kept\n")
        return
    manifest = loadtest.keep(host, seconds=_SECONDS)
    if manifest is not None:
        told = f"{len(manifest.objects)} objects are kept, tried on {manifest.release}\n"
        sys.stdout.write(told)


if __name__ == "__main__":
    sys.exit(oneshot.run("keep-objects", work))
