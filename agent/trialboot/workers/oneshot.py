"""How every worker begins and ends: one piece of work, its trouble in a file, its exit code."""

import sys
from collections.abc import Callable

from trialboot.errors import StoreError, TrialbootError
from trialboot.host import Host
from trialboot.writers import store


def run(worker: str, work: Callable[[Host], None]) -> int:
    """Do one worker's work on this host; leave why it failed where the daemon reads it."""
    host = Host()
    # What ends this one in another way, such as its time limit, shall not be told by old words.
    store.forget_trouble(host, worker)
    try:
        work(host)
    except TrialbootError as error:
        sys.stderr.write(f"{error}\n")
        _leave(host, worker, error)
        return error.exit_code
    return 0


def spare(remember: Callable[[], object]) -> None:
    """Remember what only people, or speed, would miss: a full disk must not cost the answer."""
    try:
        remember()
    except StoreError as full:
        sys.stderr.write(f"{full}\n")


def _leave(host: Host, worker: str, error: TrialbootError) -> None:
    trouble = store.Trouble(kind=type(error).__name__, why=str(error))
    spare(lambda: store.save(host, store.trouble_of(worker), trouble, mode=0o644))
