"""Whether this host may be rebooted now, for people, scripts and reboot daemons such as kured."""

from collections.abc import Iterator
from dataclasses import replace

from trialboot.core.change import Area, Change, Risk
from trialboot.core.facts import Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.trial import Phase, Trial, against_trial


def against_reboot(
    trial: Trial, outlook: Outlook | None, *, package_run: str, unfinished: bool, stale: bool
) -> tuple[str, ...]:
    """Say what speaks against a reboot; nothing does where the answer is empty.

    `package_run` is the package manager that is at work, or empty; `unfinished` says that a
    decision is not performed yet, `stale` that something changed since the outlook. What is not
    known speaks against it.
    """
    return (
        *_moment(package_run, unfinished=unfinished, stale=stale),
        *_phase(trial),
        *_next(trial, outlook),
    )


def _moment(package_run: str, *, unfinished: bool, stale: bool) -> Iterator[str]:
    if package_run:
        yield f"a package run is under way ({package_run})"
    elif stale:
        yield "what changed last was not looked at yet: ask again in a moment"
    if unfinished:
        yield "the boot loader is not set as decided yet"


def _phase(trial: Trial) -> Iterator[str]:
    match trial.phase:
        case Phase.TRIAL:
            yield "this boot is on trial and not proven yet: a reboot counts against it"
        case Phase.CONDEMNED:
            yield "the trial failed and the known-good has not proven itself yet"
        case Phase.STRANDED:
            yield "no proven boot set is left: this node needs a human"
        case Phase.STEADY | Phase.ARMED | Phase.RECOVERED:
            return


def _next(trial: Trial, outlook: Outlook | None) -> Iterator[str]:
    if outlook is None:
        yield "what the next boot loads was not looked at yet"
        return
    if isinstance(outlook.wanted, Unknown):
        yield f"what the next boot loads is not known: {outlook.wanted.why}"
    else:
        # Also where the known-good boots instead: the change is not what the next boot brings.
        hinders = outlook.wanted.obstacles if trial.pinned else ()
        yield from against_trial(trial, replace(outlook.wanted, obstacles=hinders))
    yield from (f"the known-good is not whole: {why}" for why in outlook.damage)
    if not isinstance(outlook.changes, Unknown):
        yield from _elsewhere(outlook.changes)


def _elsewhere(rows: tuple[Change, ...]) -> Iterator[str]:
    for row in rows:
        if row.area is Area.LOADER and row.risk is Risk.DANGER:
            yield f"{row.subject}: {row.after}: {row.why}"
