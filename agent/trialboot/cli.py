"""The command `trialboot`: data goes to stdout, everything else to stderr.

Reading commands read the state file and work when the daemon is down; those that act go over the
bus. Exit codes are the errors' own (trialboot.errors), and for `verify` and `next --exit-code`
what the command found.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trialboot import __version__, report, snapshot, verification
from trialboot.config import PATH, Mode, parse_config, read_config
from trialboot.core.change import Change
from trialboot.core.facts import Unknown
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.record import plain
from trialboot.core.trial import Trial
from trialboot.core.verdict import Outcome
from trialboot.errors import ConfigError, HostError, TrialbootError
from trialboot.foreground import serve_page
from trialboot.host import Host, write_durably
from trialboot.metrics import render

_BUS: Final = ("org.trialboot1", "/org/trialboot1", "org.trialboot1.Manager")
_MODE: Final = re.compile(
    r"""^([ \t]*mode[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*'|[^#\n]*)""", re.MULTILINE
)
_OUTCOME_CODES: Final[Mapping[Outcome, int]] = {
    Outcome.SOUND: 0,
    Outcome.WORSE: 1,
    Outcome.UNSURE: 2,
}

Command = Callable[[Host, argparse.Namespace], int]


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run one command; print one line and give the error's code where it fails."""
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        return command(host or Host(), options)
    except TrialbootError as error:
        sys.stderr.write(f"trialboot: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trialboot", description="Every changed boot is a trial that goes back by itself."
    )
    parser.add_argument("--version", action="version", version=f"trialboot {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    _reading(verbs, "status", _status, "where this host stands")
    following = _reading(verbs, "next", _next, "what the next boot will change")
    following.add_argument(
        "--exit-code",
        action="store_true",
        help="end with 1 if the next boot changes something, 2 if that is not known",
    )
    _reading(verbs, "verify", _verify, "judge this boot now; ends with 0 sound, 1 worse, 2 unsure")
    _reading(verbs, "why", _why, "the last trial, told in ten lines")
    _verb(verbs, "arm", _arm, "let trialboot act: changed boots become trials")
    _verb(verbs, "observe", _observe, "read, judge and report only")
    _verb(verbs, "retry", _retry, "let condemned boot sets be tried again")
    running = _verb(verbs, "run", _run, "everything in the foreground, in observe mode")
    running.add_argument("--port", type=int, default=9477, help="for the metrics (default 9477)")
    running.add_argument("--once", action="store_true", help="do not stay to serve the metrics")
    return parser


def _verb(verbs: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    return parser


def _reading(verbs: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, command, text)
    parser.add_argument("--json", action="store_true", help="JSON, with a format number")
    return parser


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines))


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _status(host: Host, options: argparse.Namespace) -> int:
    state = report.read_state(host)
    if options.json:
        _print_json(state)
    else:
        _print(report.status_lines(state))
    return 0


def _next(host: Host, options: argparse.Namespace) -> int:
    state = report.read_state(host)
    if options.json:
        _print_json({"format": report.FORMAT, "phase": state["phase"], "next": state["next"]})
    else:
        _print(report.next_lines(state))
    return _change_code(state["next"]) if options.exit_code else 0


def _change_code(following: Mapping[str, Any] | None) -> int:
    """0 nothing changes, 1 something does, 2 it is not known: as grep(1) has it."""
    if not following or following["changes"] is None:
        return 2
    return int(bool(following["changes"]))


def _why(host: Host, options: argparse.Namespace) -> int:
    state = report.read_state(host)
    if options.json:
        keys = ("phase", "story", "condemned", "verdict")
        _print_json({"format": report.FORMAT, **{key: state[key] for key in keys}})
    else:
        _print(report.why_lines(state))
    return 0


def _verify(host: Host, options: argparse.Namespace) -> int:
    judgement, _ = verification.verify(host, read_config(host), _tell)
    if options.json:
        _print_json({"format": report.FORMAT, **_bare(plain(judgement))})
    else:
        _print(_judgement_lines(judgement))
    return _OUTCOME_CODES[judgement.verdict.outcome]


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "is"}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _judgement_lines(judgement: Judgement) -> list[str]:
    verdict = judgement.verdict
    return [
        f"{verdict.outcome}",
        *(f"  - {reason}" for reason in verdict.reasons),
        *(f"  note: {note}" for note in verdict.notes),
    ]


# --- acting -----------------------------------------------------------------------------------


def _arm(host: Host, _options: argparse.Namespace) -> int:
    return _set_mode(host, Mode.ARMED)


def _observe(host: Host, _options: argparse.Namespace) -> int:
    return _set_mode(host, Mode.OBSERVE)


def _set_mode(host: Host, mode: Mode) -> int:
    """Write one line of the operator's file and have the daemon read it again."""
    text = host.read_text(PATH) if host.exists(PATH) else ""
    line = f'mode = "{mode}"'
    # A key above the first section is what TOML takes as ours.
    changed, found = _MODE.subn(rf'\1"{mode}"', text, count=1)
    if not found:
        changed = f"{line}\n{text}"
    if parse_config(changed).mode is not mode:
        raise ConfigError(f"{PATH}: write {line} above the first section by hand")
    try:
        host.path(PATH).parent.mkdir(parents=True, exist_ok=True)
        write_durably(host.path(PATH), changed.encode(), mode=0o644)
    except OSError as error:
        raise HostError(f"{PATH}: {error.strerror}; are you root?") from error
    host.call(*_BUS, "Reload")
    _tell(f"mode {mode}; «trialboot status» shows what follows")
    return 0


def _retry(host: Host, _options: argparse.Namespace) -> int:
    host.call(*_BUS, "Retry")
    _tell("condemned boot sets may be tried again; «trialboot next» shows what the next boot does")
    return 0


# --- the foreground ---------------------------------------------------------------------------


def _run(host: Host, options: argparse.Namespace) -> int:
    """Play daemon and workers in this process, without changing anything."""
    _tell("observe mode: nothing of this host is changed")
    outlook = _outlook(host)
    _print(_outlook_lines(outlook))
    judgement, _ = verification.verify(host, read_config(host), _tell)
    _print(["", "verdict on this boot:", *_judgement_lines(judgement)])
    state = report.state_of(
        report.View(
            at=judgement.at,
            mode=str(Mode.OBSERVE),
            trial=Trial(boot=judgement.boot, judged=judgement.verdict),
            outlook=outlook if isinstance(outlook, Outlook) else None,
            wished_cordon=False,
            delivered=None,
            waiting=False,
            trouble=(),
            counters={},
        )
    )
    if not options.once:
        _tell(f"metrics at http://127.0.0.1:{options.port}/metrics (end with Ctrl-C)")
        serve_page(options.port, lambda: render(state, host.now().timestamp()))
    return 0


def _outlook(host: Host) -> Outlook | Unknown:
    try:
        return snapshot.look_ahead(host, Trial(), snapshot.take(host).modules, remember=False)
    except TrialbootError as error:
        return Unknown(str(error))


def _outlook_lines(outlook: Outlook | Unknown) -> list[str]:
    if isinstance(outlook, Unknown):
        return [f"What the next boot changes is not known: {outlook.why}"]
    rows: tuple[Change, ...] = () if isinstance(outlook.changes, Unknown) else outlook.changes
    parts = {
        "what runs": outlook.running,
        "what would boot": outlook.wanted,
        "what the loader loads": outlook.next_entry,
        "protection": outlook.protection,
    }
    unknown = [f"  not known: {n}: {p.why}" for n, p in parts.items() if isinstance(p, Unknown)]
    return [outlook.sentence, *report.changes_lines(rows), *unknown]
