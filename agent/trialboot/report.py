"""All that is known as plain JSON values, for people and their tools.

The JSON carries a format number; a reader of format 1 finds every key told in `trialboot(1)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trialboot import __version__
from trialboot.core.bootset import BootSet
from trialboot.core.facts import Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Protection
from trialboot.core.record import plain
from trialboot.core.transaction import Transaction, changed_count, words
from trialboot.core.trial import Choice, Phase, Trial
from trialboot.core.verdict import Verdict
from trialboot.writers.store import Delivered

FORMAT: Final = 1
MOST_TRANSACTIONS: Final = 10

_PHASES: Final[Mapping[Phase, str]] = {
    Phase.STEADY: "no trial runs",
    Phase.ARMED: "the next boot is a trial",
    Phase.TRIAL: "this boot is on trial",
    Phase.CONDEMNED: "the trial failed; the known-good has to prove itself",
    Phase.RECOVERED: "rolled back and proven; the failed boot set is not tried again",
    Phase.STRANDED: "no proven boot set is left: this node needs a human",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the state file is made from."""

    at: str
    mode: str
    trial: Trial
    outlook: Outlook | None
    wished_cordon: bool
    delivered: Delivered | None
    waiting: bool
    """The cluster has not taken the wish yet."""
    trouble: tuple[str, ...]
    counters: Mapping[str, int]
    against_reboot: tuple[str, ...] = ()
    being_kept: bool = False
    """The known-good is not in the vault yet."""
    unfinished: bool = False
    """What was decided is not performed yet."""
    transactions: tuple[Transaction, ...] = ()
    """Package transactions, newest last."""


def state_of(view: View) -> dict[str, Any]:
    """Put all that is known into plain JSON values."""
    trial = view.trial
    return {
        "format": FORMAT,
        "version": __version__,
        "at": view.at,
        "mode": view.mode,
        "phase": str(trial.phase),
        "meaning": _meaning(view),
        "boot": trial.boot,
        "report_only": trial.report_only,
        "trouble": list(view.trouble),
        "pinned": trial.pinned and not view.being_kept,
        "known_good": _boot_set(trial.known_good),
        "running": _choice(trial.running),
        "candidate": _choice(trial.candidate),
        "condemned": [_plain(item) for item in trial.condemned],
        "refused": _plain(trial.refused) if trial.refused else None,
        "verdict": _verdict(trial.judged),
        "next": next_of(view.outlook),
        "may_reboot": {
            "answer": not view.against_reboot,
            "reasons": list(view.against_reboot),
        },
        "transactions": [_transaction(item) for item in view.transactions[-MOST_TRANSACTIONS:]],
        "story": [_plain(moment) for moment in trial.story],
        "cluster": {
            "cordon_wished": view.wished_cordon,
            "cordoned": view.delivered.cordoned if view.delivered else None,
            "foreign_cordon": view.delivered.foreign if view.delivered else None,
            "waiting": view.waiting,
        },
        "counters": dict(view.counters),
    }


def _meaning(view: View) -> str:
    if view.trial.phase is Phase.ARMED and view.unfinished:
        return "a trial is being armed; the boot loader is not set yet"
    return _PHASES[view.trial.phase]


def _plain(value: object) -> Any:
    made = plain(value)
    made.pop("is", None)
    return made


def _transaction(item: Transaction) -> dict[str, Any]:
    return {
        "time": item.time,
        "manager": item.manager,
        "state": str(item.state),
        "why": item.why,
        "command": item.command,
        "user": item.user,
        "changed": changed_count(item),
        "text": words(item),
    }


def _boot_set(boot_set: BootSet | None) -> dict[str, str] | None:
    if boot_set is None:
        return None
    return {"release": boot_set.release, "fingerprint": boot_set.fingerprint}


def _choice(choice: Choice | None) -> dict[str, str] | None:
    if choice is None:
        return None
    return {**(_boot_set(choice.boot_set) or {}), "entry": choice.entry, "summary": choice.summary}


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "outcome": str(verdict.outcome),
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "evidence": list(verdict.evidence),
        "headroom": [_plain(size) for size in verdict.headroom],
        "checks": {check.name: str(check.answer) for check in verdict.checks},
    }


def next_of(outlook: Outlook | None) -> dict[str, Any] | None:
    """Put what the next boot changes into plain JSON values."""
    if outlook is None:
        return None
    return {
        "at": outlook.taken_at,
        "sentence": outlook.sentence,
        "loads": _or_why(outlook.next_entry),
        "once": outlook.once_pending,
        "wanted": _choice(outlook.wanted) if isinstance(outlook.wanted, Choice) else None,
        "unknown": _reasons_not_known(outlook),
        "changes": (
            None if isinstance(outlook.changes, Unknown) else [_plain(c) for c in outlook.changes]
        ),
        "protection": _protection(outlook.protection),
        "evidence": list(outlook.evidence),
        "damage": list(outlook.damage),
        "not_seen": list(outlook.not_seen),
    }


def _reasons_not_known(outlook: Outlook) -> list[str]:
    """Say each reason once: one unreadable file may hide several parts."""
    parts = (outlook.running, outlook.wanted, outlook.changes, outlook.next_entry)
    return list(dict.fromkeys(part.why for part in parts if isinstance(part, Unknown)))


def _protection(protection: Protection | Unknown) -> dict[str, Any]:
    if isinstance(protection, Unknown):
        return {"level": "unknown", "reasons": [protection.why], "notes": []}
    return {
        "level": str(protection.level),
        "reasons": list(protection.reasons),
        "notes": list(protection.notes),
    }


def _or_why(value: str | Unknown) -> str | None:
    return None if isinstance(value, Unknown) else value
