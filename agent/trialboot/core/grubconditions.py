"""Conditions in a script for GRUB: which parts of it are run, as far as that can be told.

What only the boot decides is None; a loop is a condition that holds any number of times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from trialboot.core.grubwords import Command

USER_CFG_WORD: Final = "GRUB2_PASSWORD"
"""Set in RHEL's user.cfg, which 01_users sources before it asks for it."""
_BEGIN: Final = frozenset({"if", "for", "while", "until"})
_END: Final = frozenset({"fi", "done"})
_GUARDS: Final = frozenset({"then", "else", "do"})
_ASKS_FOR_ONCE: Final = (
    ("if", "[", "${next_entry}", "]"),
    ("if", "[", "-n", "${next_entry}", "]"),
)


@dataclass(slots=True)
class _Open:
    """A condition that is open, at one of its branches."""

    holds: bool | None
    """Whether this branch is run."""
    taken: bool | None
    """Whether this branch or one before it is run."""
    asks_for_once: bool


@dataclass(slots=True)
class Conditions:
    """The conditions and loops that are open at a place of a script."""

    variables: Mapping[str, str]
    """What the environment block and the script have set so far."""
    has_password: bool
    _open: list[_Open] = field(default_factory=list, init=False)

    @property
    def skip(self) -> bool:
        """Whether what stands here is not run."""
        return any(condition.holds is False for condition in self._open)

    @property
    def undecided(self) -> bool:
        """Whether only the boot decides if what stands here is run."""
        return any(condition.holds is None for condition in self._open)

    @property
    def undecided_without_once(self) -> bool:
        """Whether the boot decides it even where no one-shot is set."""
        return any(c.holds is None and not c.asks_for_once for c in self._open)

    def follow(self, command: Command) -> None:
        """Go on by one command."""
        verb = after_condition(command)[0]
        if self._open and command[0] in {"else", "elif"}:
            self._open[-1] = _next_branch(self._open[-1], command[0])
        if verb in _BEGIN:
            holds = self._holds(command)
            self._open.append(_Open(holds, holds, command in _ASKS_FOR_ONCE))
        elif verb in _END and self._open:
            self._open.pop()

    def _holds(self, condition: Command) -> bool | None:
        """Tell conditions that the environment block alone decides, or what is sourced.

        Fedora and RHEL write them in 10_linux, where kernelopts is missing, in
        08_fallback_counting, where an update of theirs counts boots, and in 01_users; Debian and
        Ubuntu in 00_header, which lengthens the menu after a boot that failed.
        """
        if condition[:5] == ("if", "[", "${recordfail}", "=", "1"):
            return self.variables.get("recordfail") == "1"
        if condition[:4] == ("if", "[", "-n", f"${{{USER_CFG_WORD}}}"):
            return self.has_password
        if condition[:4] == ("if", "[", "-z", "${kernelopts}"):
            return not self.variables.get("kernelopts")
        if condition[:4] == ("if", "[", "-n", "${boot_counter}"):
            return None if self.variables.get("boot_counter") else False
        return None


def after_condition(command: Command) -> Command:
    """Drop the word before a command that a condition or a loop guards."""
    return command[1:] if command[0] in _GUARDS and len(command) > 1 else command


def _next_branch(condition: _Open, word: str) -> _Open:
    """Go on to `elif` or `else`: not run where one before it is; else `elif` asks anew."""
    before = condition.taken
    if word == "else":
        holds = None if before is None else not before
        return _Open(holds, taken=True, asks_for_once=condition.asks_for_once)
    holds = False if before else None
    return _Open(holds, taken=before or None, asks_for_once=False)
