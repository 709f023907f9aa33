"""The command `trialboot`: data goes to stdout, everything else to stderr.

Reading commands read the state file and work when the daemon is down; those that act go over the
bus. Exit codes are the errors' own (trialboot.errors), and for `verify` and `next --exit-code`
what the command found.
"""

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trialboot import __version__, lookahead, report, snapshot, verification
from trialboot.amendments import read_amendments
from trialboot.bootfiles import read_menu
from trialboot.config import PATH, Config, Mode, parse_config, read_config
from trialboot.core.facts import Unknown
from trialboot.core.menu import GRUB, Menu
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.reboot import against_reboot
from trialboot.core.record import plain
from trialboot.core.trial import Trial
from trialboot.core.verdict import Outcome
from trialboot.errors import ConfigError, HostError, LoaderError, TrialbootError
from trialboot.foreground import serve_page
from trialboot.host import Host, write_durably
from trialboot.metrics import render
from trialboot.readers.ebpf_objects import read_objects
from trialboot.verdictreport import contract_lines, verdict_lines
from trialboot.writers import contentcache, store

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8, or a file name without it, is no reason to say nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
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
        "--now",
        action="store_true",
        help="look at this host now, without the daemon; as root, and nothing is remembered",
    )
    following.add_argument(
        "--exit-code",
        action="store_true",
        help="end with 1 if the next boot changes something, 2 if that is not known",
    )
    _reading(verbs, "verify", _verify, "judge this boot now; ends with 0 sound, 1 worse, 2 unsure")
    promised = _reading(verbs, "contract", _contract, "what this node's network promises")
    promised.add_argument(
        "--forget",
        action="store_true",
        help="set what was learned aside; the next sound verdict learns anew",
    )
    _reading(verbs, "why", _why, "the last trial, told in ten lines")
    _reading(
        verbs,
        "may-reboot",
        _may_reboot,
        "whether a reboot is safe now; ends with 0 yes, 1 no",
    )
    _verb(verbs, "arm", _arm, "let trialboot act: changed boots become trials")
    _verb(verbs, "observe", _observe, "read, judge and report only")
    _verb(verbs, "retry", _retry, "let condemned boot sets be tried again")
    _verb(verbs, "allow", _allow, "let what a failed pre-check refuses be tried all the same")
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
    state = _state_now(host, read_config(host)) if options.now else report.read_state(host)
    if options.json:
        keys = ("phase", "refused", "next")
        _print_json({"format": report.FORMAT, **{key: state[key] for key in keys}})
    else:
        _print(report.next_lines(state))
    return _change_code(state["next"]) if options.exit_code else 0


def _state_now(host: Host, config: Config) -> dict[str, Any]:
    """Look at the host in this process: as true as it gets, and nothing is remembered."""
    cache = contentcache.load(host)
    trial = store.load_decision(host).trial
    outlook = lookahead.look_ahead(host, trial, snapshot.take(host, cache), cache, remember=False)
    return _state_of(host, str(config.mode), trial, outlook)


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


def _may_reboot(host: Host, options: argparse.Namespace) -> int:
    # Not from the state file: one that a dead daemon left would say yes for ever.
    try:
        state = json.loads(host.call(*_BUS, "Status"))
    except HostError as error:
        raise HostError(f"{error}; only the running daemon knows (trialbootd.service)") from error
    if options.json:
        _print_json({"format": report.FORMAT, **state["may_reboot"]})
    else:
        _print(report.reboot_lines(state))
    return 0 if state["may_reboot"]["answer"] else 1


def _change_code(following: Mapping[str, Any] | None) -> int:
    """0 nothing changes, 1 something does, as git-diff(1) has it; 2 it is not known."""
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
    judgement = _judged_now(host)
    if options.json:
        _print_json({"format": report.FORMAT, **_bare(plain(judgement))})
    else:
        _print(verdict_lines(judgement.verdict))
    return _OUTCOME_CODES[judgement.verdict.outcome]


def _judged_now(host: Host) -> Judgement:
    judgement, _ = verification.verify(host, read_config(host), _tell)
    return verification.with_headroom(judgement, read_objects(host))


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "is"}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _contract(host: Host, options: argparse.Namespace) -> int:
    if options.forget:
        return _forget(host)
    found = verification.newest_contract(host)
    if options.json:
        known = None if isinstance(found, Unknown) else found
        why = found.why if isinstance(found, Unknown) else ""
        _print_json({"format": report.FORMAT, "why": why, "contract": _bare(plain(known))})
    else:
        _print(contract_lines(found, read_amendments(host)))
    return 2 if isinstance(found, Unknown) else 0


def _forget(host: Host) -> int:
    """Set what was learned aside: the way out when the node is meant to be another one now."""
    if verification.contracts(host) is None:
        raise HostError("nothing was learned yet: there is nothing to forget")
    aside = store.set_aside(host, store.CONTRACTS)
    _tell(f"set aside as {aside}; the next sound verdict outside a trial learns anew")
    return 0


# --- acting -----------------------------------------------------------------------------------


def _arm(host: Host, _options: argparse.Namespace) -> int:
    menu = read_menu(host)
    if isinstance(menu, Menu) and menu.loader != GRUB:
        raise LoaderError(
            f"the boot loader is {menu.loader}: its menu is read and not controlled yet, "
            "so this host stays in observe mode"
        )
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


def _allow(host: Host, _options: argparse.Namespace) -> int:
    if not report.read_state(host)["refused"]:
        raise HostError("no pre-check speaks against what would boot: there is nothing to allow")
    host.call(*_BUS, "Allow")
    _tell("what a pre-check refused is tried all the same; «trialboot next» shows what follows")
    return 0


# --- the foreground ---------------------------------------------------------------------------


def _run(host: Host, options: argparse.Namespace) -> int:
    """Play daemon and workers in this process, without changing anything."""
    _tell("observe mode: nothing of this host is changed")
    outlook = _outlook(host)
    _print(report.next_lines(_state_of(host, Mode.OBSERVE, Trial(), outlook)))
    judgement = _judged_now(host)
    _print(["", "verdict on this boot:", *verdict_lines(judgement.verdict)])
    trial = Trial(boot=judgement.boot, judged=judgement.verdict)
    state = _state_of(host, Mode.OBSERVE, trial, outlook)
    if not options.once:
        _tell(f"metrics at http://127.0.0.1:{options.port}/metrics (end with Ctrl-C)")
        serve_page(options.port, lambda: render(state, host.now().timestamp()))
    return 0


def _outlook(host: Host) -> Outlook | None:
    cache = contentcache.load(host)
    try:
        taken = snapshot.take(host, cache)
        return lookahead.look_ahead(host, Trial(), taken, cache, remember=False)
    except TrialbootError as error:
        _tell(f"what the next boot changes is not known: {error}")
        return None
