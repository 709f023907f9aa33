"""trialboot-boot-check.service: holds boot-complete.target until this boot is judged sound.

Only hosts whose boot counting asks for boot-complete.target wait for it; nobody else does.
"""

import sys

from trialboot.config import Mode, read_config
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Outcome
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.workers import oneshot
from trialboot.writers import store

_PAUSE = 2.0


def work(host: Host) -> None:
    """Wait for the verdict on this boot; systemd's time limit on the unit ends the wait.

    Observe mode changes nothing, so it holds nothing up either.
    """
    if read_config(host).mode is Mode.OBSERVE:
        return
    boot = kernel.read_boot_id(host)
    while True:
        found = store.load(host, store.JUDGEMENT, Judgement)
        if isinstance(found, Judgement) and found.boot == boot:
            break
        host.sleep(_PAUSE)
    if found.verdict.outcome is not Outcome.SOUND:
        raise HostError(f"this boot is {found.verdict.outcome}: {found.verdict.reasons[0]}")


if __name__ == "__main__":
    sys.exit(oneshot.run("boot-check", work))
