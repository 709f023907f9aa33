"""trialboot-render.service: writes the metrics page from the state file."""

import sys

from trialboot.errors import HostError
from trialboot.host import Host, write_durably
from trialboot.metrics import render
from trialboot.statefile import read_state
from trialboot.workers import oneshot
from trialboot.writers.store import RUN

PAGE = f"{RUN}/metrics.prom"


def work(host: Host) -> None:
    """Render the page; the responder, another user, must be able to read it."""
    page = render(read_state(host), host.now().timestamp())
    try:
        write_durably(host.path(PAGE), page, mode=0o644)
    except OSError as error:
        raise HostError(f"{PAGE}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(oneshot.run("render", work))
