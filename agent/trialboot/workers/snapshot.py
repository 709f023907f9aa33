"""trialboot-snapshot.service: reads the host, and what the next boot will change."""

import signal
import sys
from dataclasses import replace

from trialboot import lookahead, snapshot
from trialboot.core.facts import Package, Unknown
from trialboot.core.outlook import Outlook, Snapshot
from trialboot.core.packagechange import PackageChange, difference
from trialboot.errors import StoreError
from trialboot.host import Host
from trialboot.workers import oneshot
from trialboot.writers import contentcache, store

SNAPSHOT = f"{store.STATE}/snapshot.json"


def work(host: Host) -> None:
    """Leave the outlook for the daemon, and the whole snapshot for people."""
    trial = store.read_trial(host)
    cache = contentcache.load(host)
    try:
        taken = snapshot.take(host, cache)
        outlook = lookahead.look_ahead(host, trial, taken, cache)
    finally:
        # Where a slow disk takes longer than the unit may, the next one goes on from here.
        oneshot.spare(lambda: contentcache.save(host, cache))
    store.save(host, store.OUTLOOK, _with_packages(host, outlook, taken), mode=0o644)
    oneshot.spare(lambda: store.save(host, SNAPSHOT, taken))


def stop_in_order() -> None:
    """Have SIGTERM, which the unit's time limit sends, end this process as an error would."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped before its end"))


def _with_packages(host: Host, outlook: Outlook, taken: Snapshot) -> Outlook:
    """Add what came and went since the list that the daemon accepted last."""
    if isinstance(taken.packages, Unknown):
        return replace(outlook, packages=taken.packages, condition=taken.condition)
    try:
        store.save(host, store.PACKAGES_SEEN, taken.packages)
    except StoreError as full:
        return replace(outlook, packages=Unknown(str(full)), condition=taken.condition)
    changed = _difference(host, taken.packages)
    return replace(outlook, packages=changed, condition=taken.condition)


def _difference(host: Host, now: tuple[Package, ...]) -> tuple[PackageChange, ...] | Unknown:
    before = store.load(host, store.PACKAGES, tuple[Package, ...])
    if before is None:
        return Unknown("there is no package list from before")
    return before if isinstance(before, Unknown) else difference(before, now)


if __name__ == "__main__":
    stop_in_order()
    sys.exit(oneshot.run("snapshot", work))
