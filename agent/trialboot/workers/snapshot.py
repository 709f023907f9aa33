"""trialboot-snapshot.service: reads the host, and what the next boot will change."""

import sys

from trialboot import snapshot
from trialboot.host import Host
from trialboot.workers import oneshot
from trialboot.writers import store

SNAPSHOT = f"{store.STATE}/snapshot.json"


def work(host: Host) -> None:
    """Leave the outlook for the daemon, and the whole snapshot for people."""
    decision = store.load_decision(host)
    store.save(host, store.OUTLOOK, snapshot.look_ahead(host, decision.trial), mode=0o644)
    store.save(host, SNAPSHOT, snapshot.take(host))


if __name__ == "__main__":
    sys.exit(oneshot.run("snapshot", work))
