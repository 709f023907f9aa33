"""GRUB's shell, as far as generated files need it: cut a line into words, and write words back.

The rules are those of grub-core/script/yylex.l and grub-core/lib/cmdline.c (GRUB 2.06).
"""

import re
from typing import Final

from trialboot.core.facts import Unknown

Command = tuple[str, ...]
"""The words of one command. A brace is a command of its own; a variable stays `${name}`."""

VARIABLE: Final = re.compile(r"\$\{\w+\}")

_TOKEN: Final = re.compile(
    r"""
      (?P<joined>\\\n)
    | (?P<blank>[ \t\r]+)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:\\[\s\S]|[^"\\])*)"
    | \\(?P<escaped>.)
    | \$\{?(?P<name>\w+|[?*@\#])\}?
    | (?P<brace>[{}])
    | (?P<end>[;&|<>\n])
    | (?P<comment>(?:^|(?<=[\s;]))\#.*)
    | (?P<plain>.)
    """,
    re.VERBOSE | re.MULTILINE,
)
_IN_DOUBLE: Final = re.compile(r"\\([$\"\\]|\n)|\$\{?(\w+)\}?")
_UNSAFE: Final = re.compile(r"[^\w@%+=:,./-]", re.ASCII)
_UNSAFE_IN_DOUBLE: Final = re.compile(r'["$\\]')
_ESCAPED: Final = re.compile(r"[\\'\"]")
_HANDED_OVER: Final = re.compile(r'"(?:\\.|[^"\\])*"|(?:\\[^ ]|[^ "\\])+')
_UNESCAPED: Final = re.compile(r"\\([\\'\"])")


def commands_of(text: str) -> list[Command]:
    """Cut text into commands, each into its words, without quotes."""
    return [command for _, command in numbered_commands(text)]


def numbered_commands(text: str) -> list[tuple[int, Command]]:
    """Cut text into commands, each with the line on which it ends, counted from 1."""
    commands: list[tuple[int, Command]] = []
    words: list[str] = []
    word: str | None = None
    line = 1
    for token in _TOKEN.finditer(text):
        piece = _piece(token)
        if token["joined"] is not None:
            pass  # the line goes on, and so does the word
        elif piece is not None:
            word = (word or "") + piece
        else:
            if word is not None:
                words.append(word)
                word = None
            if token["blank"] is None:
                commands += ((line, command) for command in _ended(words, token["brace"]))
                words = []
        line += token[0].count("\n")
    last = words if word is None else [*words, word]
    return [*commands, *((line, command) for command in _ended(last, None))]


def loaded(arguments: Command) -> str:
    r"""Write a kernel's arguments as GRUB 2.06 hands them over (grub_create_loader_cmdline).

    Newer ones do not double the backslash of `\xHH`: `menu.entry_of` knows both. A variable is
    taken as unset: GRUB then drops the word.
    """
    plain = (VARIABLE.sub("", word) for word in arguments)
    escaped = (_ESCAPED.sub(r"\\\g<0>", word) for word in plain if word)
    return " ".join(f'"{word}"' if " " in word else word for word in escaped)


def as_script(command_line: str) -> str | Unknown:
    """Write a kernel command line so that GRUB hands over the very same one.

    Unknown for one that GRUB cannot have handed over, and never hands over.
    """
    script = " ".join(_written(word) for word in _HANDED_OVER.findall(command_line))
    if [loaded(words[1:]) for words in commands_of(f"linux {script}")] != [command_line]:
        return Unknown(f"GRUB cannot hand over this command line: {command_line}")
    return script


def _written(handed_over: str) -> str:
    quoted = handed_over.startswith('"')
    word = _UNESCAPED.sub(r"\1", handed_over[1:-1] if quoted else handed_over)
    if " " in word:
        return '"' + _UNSAFE_IN_DOUBLE.sub(r"\\\g<0>", word) + '"'
    return _UNSAFE.sub(r"\\\g<0>", word)


def _piece(token: re.Match[str]) -> str | None:
    """Give what a token adds to a word; None where the word ends."""
    if token["name"] is not None:
        return f"${{{token['name']}}}"
    if token["double"] is not None:
        return _IN_DOUBLE.sub(_in_double, token["double"])
    for kind in ("single", "escaped", "plain"):
        if token[kind] is not None:
            return token[kind]
    return None


def _in_double(match: re.Match[str]) -> str:
    escaped, name = match.groups()
    return f"${{{name}}}" if name else escaped.strip("\n")


def _ended(words: list[str], brace: str | None) -> list[Command]:
    ended = [tuple(words)] if words else []
    return [*ended, (brace,)] if brace else ended
