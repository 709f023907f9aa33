"""The entries that GRUB's `blscfg` command makes from `loader/entries` (Fedora, RHEL and others).

As grub-core/commands/blscfg.c of https://github.com/rhboot/grub2 reads, sorts and writes them: by
file name with rpm's comparison, and from the first line of each key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from itertools import groupby
from typing import Final

from trialboot.core.bls import EntryFile
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grubwords import VARIABLE, commands_of, loaded
from trialboot.core.menu import MenuEntry

_ENDING: Final = ".conf"
_PIECES: Final = re.compile(r"[~+]|[0-9]+|[A-Za-z]+")
_LOWEST_FIRST: Final = ("~", "", "+")
_REFERENCE: Final = re.compile(r"(\\?)\$(\w*) ?", re.ASCII)
_ROOT: Final = "(${root})"
_MAY_BE_UNSET: Final = frozenset({"tuned_params", "tuned_initrd"})
"""RHEL's kernel packages name them whether or not tuned is installed; GRUB drops an unset one."""


def blscfg_entries(
    files: Sequence[EntryFile], variables: Mapping[str, str]
) -> tuple[MenuEntry, ...]:
    """Make the entries in GRUB's order, each with its place among them.

    `variables` are GRUB's at that moment: from the environment block and from `set`.
    """
    names = {_id(file): file for file in files if _is_entry(file.name)}
    found: list[MenuEntry] = []
    for _, same in groupby(sorted(names, key=_NEWEST_FIRST), key=_NEWEST_FIRST):
        first, *others = same
        made = _Reading(variables).entry(first, names[first].text, len(found))
        if made and others:
            doubt = f"to GRUB «{first}» and «{others[0]}» are one name, and it takes either"
            made = replace(made, doubt=doubt)
        found += [made] if made else []
    return tuple(found)


def compare_names(left: str, right: str) -> int:
    """Compare two names without `.conf` as NAME-VERSION-RELEASE: below, at or above 0."""
    pairs = zip(_package(left), _package(right), strict=True)
    return next((order for mine, other in pairs if (order := _compare(mine, other))), 0)


def _newest_first(left: str, right: str) -> int:
    return compare_names(right, left)


_NEWEST_FIRST: Final = cmp_to_key(_newest_first)


def _is_entry(name: str) -> bool:
    return name.endswith(_ENDING) and len(name) > len(_ENDING) and not name.startswith(".")


def _id(file: EntryFile) -> str:
    return file.name.removesuffix(_ENDING)


def _package(name: str) -> list[str]:
    return [*name.rsplit("-", 2), "", ""][:3]


def _compare(left: str, right: str) -> int:
    """Compare as `vercmp` of blscfg.c: rpm's rpmvercmp, and a `+` after a base version."""
    one, two = _PIECES.findall(left)[::-1], _PIECES.findall(right)[::-1]
    while one or two:
        order = _piece_order(one.pop() if one else "", two.pop() if two else "")
        if order:
            return order
    return 0


def _piece_order(mine: str, other: str) -> int:
    for mark in _LOWEST_FIRST:
        if mark in {mine, other}:
            return (mine != mark) - (other != mark)
    ranks = [_rank(piece) for piece in (mine, other)]
    return (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])


def _rank(piece: str) -> tuple[bool, int, str]:
    """Give what sorts as GRUB compares: numbers above letters, numbers by their size."""
    if not piece.isdigit():
        return False, 0, piece
    digits = piece.lstrip("0")
    return True, len(digits), digits


def _keys(text: str) -> list[tuple[str, str]]:
    """Cut lines as blscfg.c does: it stops at the first line without a value, also an empty one.

    A blank cuts off the key where the line has one, a tab only where it has none.
    """
    found = []
    for line in text.replace("\r", "").split("\n"):
        stripped = line.lstrip(" \t")
        if stripped.startswith("#"):
            continue
        key, blank, value = stripped.partition(" " if " " in stripped else "\t")
        if not blank or not value:
            break
        found.append((key, value.lstrip(" \t")))
    return found


@dataclass(slots=True)
class _Reading:
    """One entry while it is made: GRUB's variables, and why its outcome is in doubt."""

    variables: Mapping[str, str]
    doubts: list[str] = field(default_factory=list)

    def entry(self, name: str, text: str | Unknown, place: int) -> MenuEntry | None:
        """Make the menu entry; None where GRUB shows none: it needs a `linux`."""
        entry = EntryId(name.replace(">", ">>"))
        if isinstance(text, Unknown):
            return MenuEntry(entry=entry, title=name, place=(place,), doubt=text.why)
        pairs = _keys(text)
        first = dict(reversed(pairs))
        if "linux" not in first:
            return None
        options = first.get("options") or self.variables.get("default_kernelopts", "")
        words = self._words(f"{first['linux']} {self._expanded(options)}")
        initrds = self._initrds(first["linux"], [value for key, value in pairs if key == "initrd"])
        return MenuEntry(
            entry=entry,
            title=first.get("title") or first["linux"],
            place=(place,),
            kernel="".join(words[:1]),
            initrds=initrds,
            arguments=loaded(tuple(words[1:])),
            doubt="; ".join(self.doubts),
        )

    def _expanded(self, value: str) -> str:
        """Put values in for `$name`, each with a blank behind it (`expand_val`)."""
        return _REFERENCE.sub(self._value, value)

    def _value(self, reference: re.Match[str]) -> str:
        escaped, name = reference.groups()
        if escaped or not name:
            self._doubt(f"versions of GRUB differ over «{reference[0].strip()}» in its options")
            return ""
        value = self._variable(name)
        return f"{value} " if value else ""

    def _variable(self, name: str) -> str:
        if name not in self.variables and name not in _MAY_BE_UNSET:
            self._doubt(f"«${name}» is set nowhere that we can see")
        return self.variables.get(name, "")

    def _initrds(self, kernel: str, listed: list[str]) -> tuple[str, ...]:
        """Name the initrds in the order of loading: the early ones lie beside the first."""
        beside = (listed[0] if listed else kernel).rpartition("/")[0]
        early = [f"{beside}/{name}" for name in self.variables.get("early_initrd", "").split()]
        return tuple(self._words(" ".join([*early, *listed])))

    def _words(self, source: str) -> list[str]:
        """Cut as GRUB's shell does when the entry is started."""
        commands = commands_of(source) or [()]
        if len(commands) > 1:
            self._doubt(f"GRUB's shell takes «{source}» for several commands")
        found = []
        for word in commands[0]:
            value = VARIABLE.sub(lambda name: self._variable(name[0][2:-1]), word)
            if "$" in value.replace(_ROOT, ""):
                self._doubt(f"«{word}» depends on the boot")
            found.append(value.replace(_ROOT, ""))
        return [word for word in found if word]

    def _doubt(self, why: str) -> None:
        if why not in self.doubts:
            self.doubts.append(why)
