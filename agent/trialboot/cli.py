"""The command `trialboot`: data goes to stdout, everything else to stderr.

Reading commands read the state file and work when the daemon is down; those that act go over the
bus. Exit codes are the errors' own (trialboot.errors), and for `verify` and `next --exit-code`
what the command found.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trialboot import __version__, report, screens, statefile
from trialboot.config import Least
from trialboot.errors import HostError, TrialbootError
from trialboot.host import Host
from trialboot.terminal import print_json, print_lines, tell
from trialboot.writers.dropins import Setting

_BUS: Final = ("org.trialboot1", "/org/trialboot1", "org.trialboot1.Manager")
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
    _protecting(verbs)
    _verb(verbs, "retry", _retry, "let condemned boot sets be tried again")
    _verb(verbs, "allow", _allow, "let what a failed pre-check refuses be tried all the same")
    running = _verb(verbs, "run", _run, "everything in the foreground, in observe mode")
    running.add_argument("--port", type=int, default=9477, help="for the metrics (default 9477)")
    running.add_argument("--once", action="store_true", help="do not stay to serve the metrics")
    return parser


def _protecting(verbs: Any) -> None:
    judging = _reading(verbs, "doctor", _doctor, "what this host can survive, and what to do")
    judging.add_argument(
        "--exit-code",
        action="store_true",
        help="end with 1 if no change would be tried on this host, 2 if that is not known",
    )
    settings = [str(setting) for setting in Setting]
    change = judging.add_mutually_exclusive_group()
    change.add_argument("--set", choices=settings, help="write this setting, in a file of its own")
    change.add_argument("--unset", choices=settings, help="remove that file again")
    arming = _verb(verbs, "arm", _arm, "let trialboot act: changed boots become trials")
    arming.add_argument(
        "--accept-protection",
        choices=[str(least) for least in Least],
        metavar="LEVEL",
        help="arm a host that survives no more than this, and lower boot.least_protection to it",
    )
    text = "read, judge and report only; the boot loader is the host's own again"
    _verb(verbs, "disarm", _disarm, text, aliases=["observe"])


def _verb(
    verbs: Any, name: str, command: Command, text: str, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, aliases=aliases, help=text, description=text
    )
    parser.set_defaults(command=command)
    return parser


def _reading(verbs: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, command, text)
    parser.add_argument("--json", action="store_true", help="JSON, with a format number")
    return parser


def _status(host: Host, options: argparse.Namespace) -> int:
    state = statefile.read_state(host)
    if options.json:
        print_json(state)
    else:
        print_lines(screens.status_lines(state))
    return 0


def _next(host: Host, options: argparse.Namespace) -> int:
    state = _looked_now(host) if options.now else statefile.read_state(host)
    if options.json:
        keys = ("phase", "refused", "next")
        print_json({"format": report.FORMAT, **{key: state[key] for key in keys}})
    else:
        print_lines(screens.next_lines(state))
    return _change_code(state["next"]) if options.exit_code else 0


def _looked_now(host: Host) -> dict[str, Any]:
    from trialboot import byhand  # noqa: PLC0415  0.3 s that the other commands do without

    return byhand.state_now(host)


def _may_reboot(host: Host, options: argparse.Namespace) -> int:
    # Not from the state file: one that a dead daemon left would say yes for ever.
    try:
        state = json.loads(host.call(*_BUS, "Status"))
    except HostError as error:
        raise HostError(f"{error}; only the running daemon knows (trialbootd.service)") from error
    if options.json:
        print_json({"format": report.FORMAT, **state["may_reboot"]})
    else:
        print_lines(screens.reboot_lines(state))
    return 0 if state["may_reboot"]["answer"] else 1


def _change_code(following: Mapping[str, Any] | None) -> int:
    """0 nothing changes, 1 something does, as git-diff(1) has it; 2 it is not known."""
    if not following or following["changes"] is None:
        return 2
    return int(bool(following["changes"]))


def _why(host: Host, options: argparse.Namespace) -> int:
    state = statefile.read_state(host)
    if options.json:
        keys = ("phase", "story", "condemned", "verdict")
        print_json({"format": report.FORMAT, **{key: state[key] for key in keys}})
    else:
        print_lines(screens.why_lines(state))
    return 0


def _verify(host: Host, options: argparse.Namespace) -> int:
    from trialboot import byhand  # noqa: PLC0415  0.3 s that the other commands do without

    return byhand.verify(host, as_json=options.json)


def _contract(host: Host, options: argparse.Namespace) -> int:
    from trialboot import byhand  # noqa: PLC0415  0.3 s that the other commands do without

    if options.forget:
        return byhand.forget(host)
    return byhand.contract(host, as_json=options.json)


def _doctor(host: Host, options: argparse.Namespace) -> int:
    from trialboot import arming, settingup  # noqa: PLC0415  0.3 s, see _contract

    if options.set:
        return settingup.set_up(host, Setting(options.set))
    if options.unset:
        return settingup.take_back(host, Setting(options.unset))
    return arming.doctor(host, json=options.json, exit_code=options.exit_code)


def _run(host: Host, options: argparse.Namespace) -> int:
    from trialboot import byhand  # noqa: PLC0415  0.3 s that the other commands do without

    return byhand.run(host, port=None if options.once else options.port)


# --- acting -----------------------------------------------------------------------------------


def _arm(host: Host, options: argparse.Namespace) -> int:
    from trialboot import arming  # noqa: PLC0415  0.3 s that the other commands do without

    return arming.arm(host, options.accept_protection)


def _disarm(host: Host, _options: argparse.Namespace) -> int:
    from trialboot import arming  # noqa: PLC0415  see above

    return arming.disarm(host)


def _retry(host: Host, _options: argparse.Namespace) -> int:
    host.call(*_BUS, "Retry")
    tell("condemned boot sets may be tried again; «trialboot next» shows what the next boot does")
    return 0


def _allow(host: Host, _options: argparse.Namespace) -> int:
    refused = statefile.read_state(host)["refused"]
    if not refused:
        raise HostError("no pre-check speaks against what would boot: there is nothing to allow")
    if refused["obstacles"]:
        raise HostError(f"this host cannot try it, whatever is allowed: {refused['obstacles'][0]}")
    host.call(*_BUS, "Allow")
    tell("what a pre-check refused is tried all the same; «trialboot next» shows what follows")
    return 0
