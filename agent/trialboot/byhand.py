"""What a command does by itself, without the daemon: look, judge, show what was learned.

Apart from the other commands, which read a file or ask the daemon and are to be quick.
"""

from collections.abc import Mapping
from typing import Any, Final

from trialboot import lookahead, report, screens, snapshot, verification
from trialboot.amendments import read_amendments
from trialboot.config import Mode, read_config
from trialboot.core.facts import Unknown
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.reboot import against_reboot
from trialboot.core.record import plain
from trialboot.core.trial import Trial
from trialboot.core.verdict import Outcome
from trialboot.errors import HostError, TrialbootError
from trialboot.foreground import serve_page
from trialboot.host import Host
from trialboot.metrics import render
from trialboot.readers.ebpf_objects import read_objects
from trialboot.terminal import print_json, print_lines, tell
from trialboot.verdictreport import contract_lines, verdict_lines
from trialboot.writers import contentcache, store

OUTCOME_CODES: Final[Mapping[Outcome, int]] = {
    Outcome.SOUND: 0,
    Outcome.WORSE: 1,
    Outcome.UNSURE: 2,
}
UNKNOWN_CONTRACT: Final = 2


def verify(host: Host, *, as_json: bool) -> int:
    """Judge this boot now; nothing is learned or remembered. Raises `TrialbootError`."""
    judgement = _judged_now(host)
    if as_json:
        print_json({"format": report.FORMAT, **_bare(plain(judgement))})
    else:
        print_lines(verdict_lines(judgement.verdict))
    return OUTCOME_CODES[judgement.verdict.outcome]


def _judged_now(host: Host) -> Judgement:
    judgement, _ = verification.verify(host, read_config(host), tell)
    return verification.with_headroom(judgement, read_objects(host))


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "is"}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def contract(host: Host, *, as_json: bool) -> int:
    """Show what this node's network promises, with the operator's amendments."""
    found = verification.newest_contract(host)
    if as_json:
        known = None if isinstance(found, Unknown) else found
        why = found.why if isinstance(found, Unknown) else ""
        print_json({"format": report.FORMAT, "why": why, "contract": _bare(plain(known))})
    else:
        print_lines(contract_lines(found, read_amendments(host)))
    return UNKNOWN_CONTRACT if isinstance(found, Unknown) else 0


def forget(host: Host) -> int:
    """Set what was learned aside: the way out when the node is meant to be another one now."""
    if verification.contracts(host) is None:
        raise HostError("nothing was learned yet: there is nothing to forget")
    aside = store.set_aside(host, store.CONTRACTS)
    tell(f"set aside as {aside}; the next sound verdict outside a trial learns anew")
    return 0


def run(host: Host, *, port: int | None) -> int:
    """Play daemon and workers in this process, without changing anything.

    `port` is where the metrics are served until somebody interrupts; None serves none.
    """
    tell("observe mode: nothing of this host is changed")
    outlook = _outlook(host)
    print_lines(screens.next_lines(_state_of(host, Mode.OBSERVE, Trial(), outlook)))
    judgement = _judged_now(host)
    print_lines(["", "verdict on this boot:", *verdict_lines(judgement.verdict)])
    trial = Trial(boot=judgement.boot, judged=judgement.verdict)
    state = _state_of(host, Mode.OBSERVE, trial, outlook)
    if port is not None:
        tell(f"metrics at http://127.0.0.1:{port}/metrics (end with Ctrl-C)")
        serve_page(port, lambda: render(state, host.now().timestamp()))
    return 0


def _outlook(host: Host) -> Outlook | None:
    cache = contentcache.load(host)
    try:
        taken = snapshot.take(host, cache)
        return lookahead.look_ahead(host, Trial(), taken, cache, remember=False)
    except TrialbootError as error:
        tell(f"what the next boot changes is not known: {error}")
        return None


def state_now(host: Host) -> dict[str, Any]:
    """Look at the host in this process: as true as it gets, and nothing is remembered."""
    cache = contentcache.load(host)
    trial = store.read_trial(host)
    outlook = lookahead.look_ahead(host, trial, snapshot.take(host, cache), cache, remember=False)
    return _state_of(host, str(read_config(host).mode), trial, outlook)


def _state_of(host: Host, mode: str, trial: Trial, outlook: Outlook | None) -> dict[str, Any]:
    return report.state_of(
        report.View(
            at=host.moment(),
            mode=mode,
            trial=trial,
            outlook=outlook,
            wished_cordon=False,
            delivered=None,
            waiting=False,
            trouble=(),
            counters={},
            against_reboot=against_reboot(
                trial, outlook, package_run="", unfinished=False, stale=False
            ),
        )
    )
