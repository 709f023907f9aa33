"""The real daemon on a host that is a folder: `python resident.py ROOT`, ended as its entry is.

Its clock runs ahead by the seconds in ROOT/ahead, so that nobody waits for its timers.
"""

import ctypes
import logging
import signal
import sys
import time
from pathlib import Path

from trialboot.bus import Bus
from trialboot.daemon import Daemon
from trialboot.errors import TrialbootError
from trialboot.host import Host

_PR_SET_PDEATHSIG = 1


def main(root: Path) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    def monotonic() -> float:
        return time.monotonic() + float((root / "ahead").read_text())

    try:
        Daemon(Host(root=root, monotonic=monotonic), Bus()).run()
    except TrialbootError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
