"""What is remembered, on disk: the decision, the wish for the cluster, contracts, results.

Every file is JSON with a format number, replaced durably (`host.write_durably`). A file that
cannot be read is set aside under a name that tells when, never deleted; what it held is unknown.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from trialboot.core.facts import Unknown
from trialboot.core.node import Notice, Wish
from trialboot.core.record import parse, plain
from trialboot.core.trial import Decision, Trial
from trialboot.errors import StoreError
from trialboot.host import Host, sync_folder, write_durably

FORMAT: Final = 1
STATE: Final = "/var/lib/trialboot"
RUN: Final = "/run/trialboot"
SPOOL: Final = f"{STATE}/spool"

STATE_FILE: Final = f"{RUN}/state.json"
"""For people and tools (`statefile`)."""
OUTLOOK: Final = f"{RUN}/outlook.json"
JUDGEMENT: Final = f"{RUN}/judgement.json"
CONTRACTS: Final = f"{STATE}/contracts.json"
COUNTERS: Final = f"{STATE}/counters.json"
PACKAGES: Final = f"{STATE}/packages.json"
"""The package list that the journal of transactions has reached."""
PACKAGES_SEEN: Final = f"{STATE}/packages-seen.json"
"""The one that the last snapshot found."""

_DECISION: Final = f"{STATE}/decision.json"
_HELD: Final = f"{RUN}/decision.json"
WISH: Final = f"{STATE}/wish.json"
_DELIVERED: Final = f"{STATE}/delivered.json"
CONTRACTS_KEPT: Final = 3
NOTICES_REMEMBERED: Final = 64
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What the API server is known to have taken."""

    wish: Wish
    cordoned: bool
    foreign: bool
    ready: bool | None = None
    """The Ready condition of the Node at that moment; None where it had none."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a worker failed: the name of the error's class, and its text."""

    kind: str
    why: str


def save(host: Host, path: str, value: object, *, mode: int = 0o600) -> None:
    """Store any record durably. Raises `StoreError` that says what to do."""
    text = json.dumps({"format": FORMAT, "value": plain(value)}, ensure_ascii=False, indent=1)
    target = host.path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # What of a name is no UTF-8 becomes JSON's own escape, and is read back as it was.
        content = f"{text}\n".encode("utf-8", "backslashreplace")
        write_durably(target, content, mode=mode)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}; nothing was decided or done: "
            "make room or mend the file system"
        ) from error


def load(host: Host, path: str, kind: type[_T]) -> _T | Unknown | None:
    """Read a record; None if there is none, Unknown if it cannot be understood."""
    target = host.path(path)
    try:
        raw = target.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return Unknown(f"{path}: {error}")
    try:
        return parse(kind, _unwrapped(json.loads(raw)), path)
    except (ValueError, RecursionError) as error:
        return Unknown(f"{path}: {error}")


def _unwrapped(whole: Any) -> Any:
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or "value" not in whole:
        raise ValueError(f"not a record of format {FORMAT}")
    return whole["value"]


def save_decision(host: Host, decision: Decision) -> None:
    """Remember a decision before its first effect."""
    save(host, _DECISION, decision)
    host.path(_HELD).unlink(missing_ok=True)


def hold_decision(host: Host, decision: Decision) -> None:
    """Remember for this boot alone a decision that the disk does not take."""
    save(host, _HELD, decision)


def read_decision(host: Host) -> Decision | Unknown | None:
    """Look at the last decision, and change nothing: for who is not the daemon."""
    held = load(host, _HELD, Decision)
    if isinstance(held, Decision):
        return held
    return load(host, _DECISION, Decision)


def load_decision(host: Host) -> Decision:
    """Recall the last decision.

    None on disk is a fresh start. One that cannot be understood is set aside and the host is
    treated as having no known-good: nothing but reports until the operator says «retry».
    """
    found = read_decision(host)
    if isinstance(found, Decision):
        return found
    if found is None:
        return Decision(trial=Trial())
    aside = set_aside(host, _DECISION)
    why = f"{found.why}; it was set aside as {aside}"
    unread = Decision(trial=Trial(report_only=why))
    # A record that is not there is a fresh start: the next one of the daemon shall be none.
    with suppress(StoreError):
        save_decision(host, unread)
    return unread


def read_trial(host: Host) -> Trial:
    """Look at the record, and change nothing; one that cannot be understood is no known-good."""
    found = read_decision(host)
    if isinstance(found, Unknown):
        return Trial(report_only=found.why)
    return found.trial if found else Trial()


def set_aside(host: Host, path: str) -> str:
    """Rename a file that cannot be understood, so that nothing is lost; give its new path."""
    stamp = host.now().strftime("%Y%m%dT%H%M%SZ")
    target = host.path(path)
    aside = target.with_name(f"{target.name}.unreadable-{stamp}")
    try:
        target.rename(aside)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"{path} cannot be set aside: {error.strerror}") from error
    return str(Path(path).with_name(aside.name))


def save_wish(host: Host, wish: Wish) -> None:
    """Remember what the Node shall say; Events that are not delivered yet are carried along."""
    waiting = {n.key: n for n in pending_notices(host)}
    waiting.update({n.key: n for n in wish.notices})
    save(host, WISH, replace(wish, notices=tuple(waiting.values())))


def load_wish(host: Host) -> Wish | Unknown | None:
    """Recall the wish."""
    return load(host, WISH, Wish)


def pending_notices(host: Host) -> tuple[Notice, ...]:
    """Give the Events that are wished and not known to be delivered."""
    wish, done = load_wish(host), load_delivered(host)
    if not isinstance(wish, Wish):
        return ()
    keys = frozenset(done.notices) if isinstance(done, Delivered) else frozenset()
    return tuple(notice for notice in wish.notices if notice.key not in keys)


def save_delivered(host: Host, delivered: Delivered) -> None:
    """Remember what the API server took."""
    save(host, _DELIVERED, delivered)


def save_notices(host: Host, notices: tuple[str, ...]) -> None:
    """Remember which Events were taken, where the rest of the wish was not."""
    before = load_delivered(host)
    if isinstance(before, Delivered):
        save_delivered(host, replace(before, notices=notices))


def load_delivered(host: Host) -> Delivered | Unknown | None:
    """Recall what the API server took."""
    return load(host, _DELIVERED, Delivered)


def is_delivered(host: Host) -> bool:
    """Tell whether the Node says what is wished, as far as the API server told us."""
    wish, done = load_wish(host), load_delivered(host)
    if wish is None:
        return True
    return isinstance(done, Delivered) and done.wish == wish


def accept_packages(host: Host) -> None:
    """Let the package list that was seen last be what the next one is held against."""
    seen = host.path(PACKAGES_SEEN)
    try:
        seen.replace(host.path(PACKAGES))
        sync_folder(seen.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{PACKAGES}: {error.strerror}") from error


def forget_trouble(host: Host, worker: str) -> None:
    """Let what ends a worker the next time not be told by why it failed before."""
    host.path(trouble_of(worker)).unlink(missing_ok=True)


def forget_judgement(host: Host) -> None:
    """Let nobody go by a judgement that is not to count."""
    host.path(JUDGEMENT).unlink(missing_ok=True)


def trouble_of(worker: str) -> str:
    """Name the file in which a worker leaves why it failed."""
    return f"{RUN}/{worker}.trouble"
