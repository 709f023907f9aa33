"""systemd's ears: the journal, and the supervisor that waits for «ready» and for signs of life.

One event, one record, all its fields; logs are never read back as state. People and log shippers
find the records by MESSAGE_ID (journalctl MESSAGE_ID=...), which docs/operations.md lists.
"""

import logging
import sys
from typing import Final

from trialboot.core.transaction import Transaction, words
from trialboot.core.trial import Trial

STEPPED: Final = "4b7f2a5c0d6e4c1f9a3e8b1d2c5f7a60"
JUDGED: Final = "9d1c3e5f7a2b4c6d8e0f1a3b5c7d9e20"
TROUBLE: Final = "c2e4a6b8d0f24135b7d9e1f3a5c7092b"
TRANSACTED: Final = "e5b0c1d2f3a447968b5c6d7e8f90a1b2"

_log = logging.getLogger("trialboot")


def open_journal() -> None:
    """Send log records to the journal with their fields, or to stderr where there is none."""
    _log.setLevel(logging.INFO)
    _log.addHandler(_handler())


def _handler() -> logging.Handler:
    try:
        from systemd.journal import JournalHandler  # noqa: PLC0415  absent on a developer's host

        return JournalHandler(SYSLOG_IDENTIFIER="trialboot")  # type: ignore[no-any-return]  # systemd-python has no types
    except (ImportError, OSError):
        return logging.StreamHandler(sys.stderr)


def stepped(before: Trial, after: Trial) -> None:
    """Log a move between phases."""
    fields = {
        "MESSAGE_ID": STEPPED,
        "TRIALBOOT_PHASE": str(after.phase),
        "TRIALBOOT_KNOWN_GOOD": after.known_good.release if after.known_good else "",
        "TRIALBOOT_CANDIDATE": after.candidate.boot_set.release if after.candidate else "",
    }
    told = after.story[-1].text if after.story else ""
    _log.warning("%s", told or f"{before.phase} → {after.phase}", extra=fields)


def judged(trial: Trial) -> None:
    """Log a verdict with its reasons."""
    if trial.judged is None:
        return
    fields = {"MESSAGE_ID": JUDGED, "TRIALBOOT_OUTCOME": str(trial.judged.outcome)}
    reasons = "; ".join(trial.judged.reasons)
    _log.info("verdict %s: %s", trial.judged.outcome, reasons, extra=fields)


def transacted(transaction: Transaction, sentence: str) -> None:
    """Log a package transaction that has ended, and what the next boot will change now."""
    fields = {
        "MESSAGE_ID": TRANSACTED,
        "TRIALBOOT_TRANSACTION": transaction.key,
        "TRIALBOOT_STATE": str(transaction.state),
    }
    _log.info("%s. %s", words(transaction), sentence, extra=fields)


def noted(text: str) -> None:
    """Log something an operator may want to follow."""
    _log.info("%s", text)


def trouble(text: str) -> None:
    """Log what went wrong, in words that say what to do."""
    _log.error("%s", text, extra={"MESSAGE_ID": TROUBLE})


def tell_supervisor(message: str) -> None:
    """Send one sd_notify(3) message; nobody listening is no error."""
    try:
        from systemd.daemon import notify  # noqa: PLC0415  absent on a developer's host
    except ImportError:
        return
    notify(message)
