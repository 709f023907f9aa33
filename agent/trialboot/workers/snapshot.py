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
    taken = snapshot.take(host)
    outlook = snapshot.look_ahead(host, decision.trial, taken.modules)
    store.save(host, store.OUTLOOK, outlook, mode=0o644)
    store.save(host, SNAPSHOT, taken)


if __name__ == "__main__":
    sys.exit(oneshot.run("snapshot", work))
