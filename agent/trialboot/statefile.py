"""The files of the state in /run/trialboot: for tools, the login screen and package managers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trialboot.errors import HostError
from trialboot.host import Host, write_durably
from trialboot.report import FORMAT
from trialboot.screens import notice_lines
from trialboot.writers.store import RUN, STATE_FILE

MESSAGE_OF_THE_DAY: Final = f"{RUN}/motd"
NOTICE: Final = f"{RUN}/notice"
"""What packaging/dpkg/package-notice prints at the end of a package run."""


def write_state(host: Host, state: Mapping[str, Any]) -> None:
    """Replace the state file; everybody may read it, there is no secret in it."""
    target = host.path(STATE_FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(state, ensure_ascii=False, indent=1)
    write_durably(target, f"{text}\n".encode("utf-8", "backslashreplace"), mode=0o644)
    _write_lines(host, MESSAGE_OF_THE_DAY, notice_lines(state))


def write_notice(host: Host, state: Mapping[str, Any]) -> None:
    """Leave what whoever ended a package run must know."""
    lines = notice_lines(state) or [f"trialboot: {state['next']['sentence']}"]
    _write_lines(host, NOTICE, lines)


def _write_lines(host: Host, path: str, lines: Sequence[str]) -> None:
    target = host.path(path)
    text = "".join(f"{line}\n" for line in lines)
    write_durably(target, text.encode("utf-8", "backslashreplace"), mode=0o644)


def read_state(host: Host) -> dict[str, Any]:
    """Read the state file. Raises `HostError` that says what to do."""
    try:
        state = json.loads(host.read_text(STATE_FILE))
    except HostError as error:
        raise HostError(
            f"{error}; has trialbootd run since the last boot? (systemctl status trialbootd)"
        ) from error
    except ValueError as error:
        raise HostError(f"{STATE_FILE} is not JSON: restart trialbootd to renew it") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise HostError(f"{STATE_FILE} is of another version: restart trialbootd to renew it")
    return state
