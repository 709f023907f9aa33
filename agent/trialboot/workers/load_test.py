"""trialboot-load-test.service: asks a new kernel, before the kubelet, for the CNI's programs."""

import sys

from trialboot import loadtest
from trialboot.host import Host
from trialboot.workers import oneshot
from trialboot.writers import store

_SECONDS = 40.0
"""Well within TimeoutStartSec of the unit: what is not loaded by then has no verdict."""


def work(host: Host) -> None:
    """Leave the result for the verdict. Nothing waits for it but the order of the boot."""
    store.save(host, loadtest.RESULT, loadtest.run(host, seconds=_SECONDS), mode=0o644)


if __name__ == "__main__":
    sys.exit(oneshot.run("load-test", work))
