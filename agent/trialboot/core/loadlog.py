"""What libbpf says when it cannot load an object: a refusal by the kernel, or no verdict."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.loadtest import Refused

LINES_KEPT: Final = 6
"""Lines of the verifier's log that are remembered, its last."""

REFUSALS: Final = frozenset(
    {"E2BIG", "EINVAL", "EACCES", "EPERM", "EOPNOTSUPP", "ENOTSUPP", "EFAULT"}
)
"""Errors of PROG_LOAD, beside a verifier's log, that waiting or memory would not change."""

# libbpf 1, then 0.5; from 1.6 on it writes the errno itself.
_FAILED: Final = (
    re.compile(r"libbpf: prog '(?P<program>.*)': BPF program load failed: (?P<error>.+)"),
    re.compile(r"libbpf: load bpf program failed: (?P<error>.+)"),
)
_PROGRAM: Final = re.compile(r"libbpf: failed to load program '(?P<program>.*)'")
_UNRESOLVED: Final = "<invalid CO-RE relocation>"
_LONGEST: Final = 400


def parse_failure(messages: Sequence[str], names: Mapping[str, str]) -> Refused | Unknown:
    """Tell what the lines of a failed load mean.

    `names` turns the words of strerror(3) into an errno's name. Without the verifier's own log
    nothing counts as refused: a security module or a lack of memory says EPERM too.
    """
    lines = [line[:_LONGEST] for line in messages if "Retrying" not in line]
    failed = _last_failure(lines)
    if failed is None:
        return Unknown(_last_word(lines))
    program, words = failed
    error = words.lstrip("-") if words.lstrip("-") in REFUSALS else names.get(words, words)
    log = tuple(_log(lines))
    if error not in REFUSALS:
        return Unknown(f"{program} was not loaded: {words}")
    if not log:
        return Unknown(f"{program} was not loaded: {words}, and the verifier said nothing")
    if any(_UNRESOLVED in line for line in log):
        return Unknown(f"{program} was not loaded: a type of the kernel's was not found")
    return Refused(program=program, error=error, log=log[-LINES_KEPT:])


def _last_failure(lines: Sequence[str]) -> tuple[str, str] | None:
    found = None
    for line in lines:
        for pattern in _FAILED:
            match = pattern.match(line)
            if match:
                found = (match.groupdict().get("program", ""), match["error"].strip())
    if found is None or found[0]:
        return found
    named = [match["program"] for match in map(_PROGRAM.match, lines) if match]
    return (named[-1] if named else "a program", found[1])


def _log(lines: Sequence[str]) -> list[str]:
    """Give the verifier's lines: those between the marks, of the last log there is."""
    log: list[str] = []
    inside = False
    for line in lines:
        if "-- BEGIN " in line and line.startswith("libbpf: "):
            inside, log = True, []
        elif "-- END " in line and inside:
            inside = False
        elif inside and line.removeprefix("libbpf: ").strip():
            log.append(line.removeprefix("libbpf: ").rstrip())
    return log


def _last_word(lines: Sequence[str]) -> str:
    told = [line.removeprefix("libbpf: ").strip() for line in lines]
    telling = [line for line in told if line and not line.startswith("failed to load object")]
    return f"libbpf: {telling[-1]}" if telling else "libbpf did not say why"
