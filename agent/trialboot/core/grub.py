"""GRUB's own files: the environment block, and the menu that grub-mkconfig generates.

What a generated file decides only at boot (a condition, a sourced file) makes the answer
`Unknown`, never a guess.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from trialboot.core.bls import EntryFile
from trialboot.core.blscfg import blscfg_entries
from trialboot.core.bootset import word_of
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.grubconditions import USER_CFG_WORD, Conditions, after_condition
from trialboot.core.grubwords import (
    VARIABLE,
    Command,
    commands_of,
    loaded,
    numbered_commands,
)
from trialboot.core.menu import (
    ADMIN_SAVED,
    BOOT_NEXT,
    BOOT_WORD,
    GRUB,
    GRUB_BLS,
    KEXEC,
    KNOWN_GOOD,
    OWN_BLOCK,
    SAVED,
    TWICE,
    Carrier,
    Menu,
    MenuEntry,
)
from trialboot.core.savedentry import PREVIOUS
from trialboot.errors import LoaderError

BLOCK_SIZE: Final = 1024
"""Bytes of an environment block (GRUB_ENVBLK_DEFAULT_SIZE, grub-core/lib/envblk.c)."""
_HEADER: Final = b"# GRUB Environment Block\n"
_LINUX: Final = frozenset({"linux", "linuxefi", "linux16"})
_INITRD: Final = frozenset({"initrd", "initrdefi", "initrd16"})
_SOURCES: Final = frozenset({"source", "configfile", ".", "blscfg", "extract_entries_source"})
_READ_TOO: Final = ("/custom.cfg", "/user.cfg")
"""What generated files source and the caller appends. RHEL keeps a password in user.cfg."""
_BLS_FOLDERS: Final = frozenset({"", "/loader/entries", "/boot/loader/entries"})
_ID_WORDS: Final = frozenset({"${menuentry_id_option}", "--id"})
_WITH_VALUE: Final = frozenset({"--class", "--users", "--hotkey", "--source"})
_CARRIERS: Final = frozenset({BOOT_NEXT, OWN_BLOCK, KEXEC})
_SECONDS: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_NODES: Final = frozenset({"menuentry", "submenu"})


@dataclass(frozen=True, slots=True)
class Script:
    """A file that GRUB reads as a script."""

    name: str
    text: str


def parse_environment(content: bytes) -> dict[str, str] | Unknown:
    """Read an environment block as GRUB does."""
    if not content.startswith(_HEADER):
        return Unknown("not a GRUB environment block" if content else "the block is empty")
    text = content.decode("utf-8", "surrogateescape")
    found = {}
    for line in re.findall(r"(?:\\[\s\S]|[^\\\n])+", text):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = re.sub(r"\\([\s\S])", r"\1", value)
    return found


def format_environment(values: Mapping[str, str]) -> bytes:
    """Write an environment block. Raises `LoaderError` where 1,024 bytes do not hold it."""
    lines = (f"{name}={_escaped(value)}\n" for name, value in sorted(values.items()))
    content = _HEADER + "".join(lines).encode("utf-8", "surrogateescape")
    if len(content) > BLOCK_SIZE:
        raise LoaderError(
            f"GRUB's environment block is full: {len(content)} of {BLOCK_SIZE} bytes"
        )
    return content.ljust(BLOCK_SIZE, b"#")


def names_boot_entries(text: str) -> bool:
    """Tell whether a grub.cfg takes entries from `loader/entries`: parse_menu needs them then."""
    return "blscfg" in text and any(command[0] == "blscfg" for command in commands_of(text))


def parse_menu(
    text: str | Sequence[Script],
    environment: Mapping[str, str],
    boot_entries: Sequence[EntryFile] | None = None,
) -> Menu | Unknown:
    """Read a generated grub.cfg, and what it sources, with the environment block beside it.

    `boot_entries` are the files of `loader/entries`; without them a menu that is made from such
    files is Unknown. What is not understood is told with its file and line.
    """
    if environment.get("env_block"):
        return Unknown("GRUB keeps its environment in a second block, which is not read yet")
    scripts = [Script("grub.cfg", text)] if isinstance(text, str) else text
    commands = [(s.name, *found) for s in scripts for found in numbered_commands(s.text)]
    has_password = any(_sets(command, USER_CFG_WORD) for *_, command in commands)
    variables = dict(environment)
    reading = _Reading(environment, variables, boot_entries, Conditions(variables, has_password))
    for name, line, command in commands:
        reading.place = f"{name}, line {line}"
        reading.take(command)
    if reading.trouble:
        return Unknown(f"unevaluable {reading.trouble}")
    entries = tuple(reading.told(entry) for entry in reading.entries)
    saved, once = _choices(environment, reading)
    return Menu(
        entries=entries,
        submenus=tuple(reading.submenus),
        default_spec=reading.default or "0",
        saved=saved,
        once=once,
        host_default=reading.host_default,
        admin_saved=environment.get(ADMIN_SAVED, ""),
        known_good=_kept_in(entries),
        loader=GRUB_BLS if reading.uses_boot_entries else GRUB,
        carrier=reading.carrier,
        asks_password=reading.asks_password,
        waits=_why_it_waits(reading.timeouts),
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\\n")


def _choices(environment: Mapping[str, str], reading: "_Reading") -> tuple[str, str]:
    """Give the saved default and the one-shot, as the next boot takes them out of the block."""
    saved, once = (environment.get(name, "") for name in ("saved_entry", "next_entry"))
    previous = environment.get(PREVIOUS, "") if reading.takes_previous else ""
    if not previous:
        return saved, once
    return previous, once or (saved if reading.default == SAVED else "")


def _why_it_waits(timeouts: Sequence[str]) -> str:
    """Say why the menu may wait for a key: without a timeout, or with a negative one, it does."""
    if not timeouts:
        return "the menu sets no timeout: it waits for a key"
    odd = [value for value in timeouts if not _SECONDS.fullmatch(value)]
    if odd:
        return f"how long the menu waits is not known: timeout={odd[0]}"
    below = [value for value in timeouts if value.startswith("-")]
    return f"timeout={below[0]}: the menu waits for a key" if below else ""


def _kept_in(entries: tuple[MenuEntry, ...]) -> str:
    ours = (entry for entry in entries if entry.entry == KNOWN_GOOD)
    kept = (word_of(entry.arguments, BOOT_WORD) for entry in ours)
    return next((word for word in kept if isinstance(word, str)), "")


_NOT_THE_DEFAULT: Final = frozenset({KNOWN_GOOD, "${next_entry}", "${trialboot_wanted}"})
"""What 00_header and 09_trialboot make the default of one boot only."""
_LEFT_OUT: Final = frozenset({"${vt_handoff}", "${trialboot_instead}"})
"""Variables whose words make no other boot set, or none of which a boot is known by."""


@dataclass(slots=True)
class _Reading:
    """A grub.cfg as far as it was read: which blocks are open, and what was found."""

    environment: Mapping[str, str]
    variables: dict[str, str]
    boot_entries: Sequence[EntryFile] | None
    conditions: Conditions
    place: str = ""
    uses_boot_entries: bool = False
    entries: list[MenuEntry] = field(default_factory=list)
    submenus: list[MenuEntry] = field(default_factory=list)
    default: str = ""
    host_default: str = ""
    carrier: Carrier | None = None
    asks_password: bool = False
    takes_previous: bool = False
    """It lets `prev_saved_entry` replace the saved default."""
    timeouts: list[str] = field(default_factory=list)
    """What `timeout` may be at the end: the last value that is set, or one of several."""
    trouble: str = ""
    names: set[EntryId] = field(default_factory=set)
    """The ids of entries and submenus so far."""
    assigned: set[str] = field(default_factory=set)
    """The variables that are ever given a value."""
    loading: dict[tuple[int, ...], set[str]] = field(default_factory=dict)
    """The variables on the lines that load a kernel, by the place of the entry."""
    opening: Command = ()
    blocks: list[str] = field(default_factory=list)
    path: list[MenuEntry] = field(default_factory=list)
    counts: list[int] = field(default_factory=lambda: [0])

    def take(self, command: Command) -> None:
        """Go on by one command."""
        self.conditions.follow(command)
        if self.conditions.skip:
            return
        if command == ("{",):
            self._open()
        elif command == ("}",):
            self._close()
        elif self.blocks and self.blocks[-1] == "menuentry":
            self._boot(command)
        else:
            self._set(command)
            self._source(after_condition(command))
            self.opening = command

    def _open(self) -> None:
        opening = after_condition(self.opening) if self.opening else ("",)
        if opening[0] in _NODES:
            self.path.append(self._node(opening))
            self.counts[-1] += 1
            self.counts.append(0)
        self.blocks.append(opening[0])
        self.opening = ()

    def _close(self) -> None:
        kind = self.blocks.pop() if self.blocks else ""
        if kind in _NODES:
            self.counts.pop()
            (self.entries if kind == "menuentry" else self.submenus).append(self.path.pop())

    def _node(self, opening: Command) -> MenuEntry:
        title, entry = _names(opening)
        parent = self.path[-1] if self.path else None
        own = entry.replace(">", ">>")
        name = EntryId(f"{parent.entry}>{own}" if parent else own)
        doubt = TWICE if name in self.names else ""
        self.names.add(name)
        return MenuEntry(
            entry=name,
            title=title,
            doubt=parent.doubt if parent and parent.doubt else doubt,
            place=(*(parent.place if parent else ()), self.counts[-1]),
            unrestricted="--unrestricted" in opening,
            perhaps=self.conditions.undecided or not _NODES.issuperset(self.blocks),
        )

    def _boot(self, command: Command) -> None:
        verb, *words = after_condition(command)
        self._note_values(command)
        if verb in _LINUX and words:
            self.path[-1] = _with_kernel(self.path[-1], words)
            used = self.loading.setdefault(self.path[-1].place, set())
            used.update(*map(VARIABLE.findall, words))
        elif verb in _INITRD:
            self.path[-1] = _with_initrds(self.path[-1], words)

    def _note_values(self, command: Command) -> None:
        self.assigned |= {f"${{{name}}}" for name, value in _assignments(command) if value}

    def told(self, entry: MenuEntry) -> MenuEntry:
        """Doubt an entry whose arguments hold a variable that the menu or the block sets."""
        kept = {f"${{{name}}}" for name, value in self.environment.items() if value}
        names = self.loading.get(entry.place, set()) & (self.assigned | kept) - _LEFT_OUT
        doubt = f"what {min(names)} holds among its arguments is not known" if names else ""
        return replace(entry, doubt=entry.doubt or doubt)

    def _set(self, command: Command) -> None:
        self._note_values(command)
        known = not self.blocks and not self.conditions.undecided
        for name, value in _assignments(command):
            self.variables[name] = value if known else f"${{{name}}}"
            if name == "trialboot_host_default":
                self.host_default = value
            elif name == "trialboot_carrier":
                self._take_carrier(value)
            elif name == "timeout":
                self.timeouts = [*([] if known else self.timeouts), value]
            elif name == "saved_entry" and value == f"${{{PREVIOUS}}}":
                self.takes_previous = True
            elif name == "superusers":
                self.asks_password = True
            elif name == "default" and value not in _NOT_THE_DEFAULT:
                self._take_default(value)

    def _source(self, command: Command) -> None:
        if command[0] == "blscfg" and self.boot_entries is not None:
            self._add_boot_entries(command, self.boot_entries)
        elif command[0] in _SOURCES and not command[-1].endswith(_READ_TOO):
            self._give_up(f"it goes on in another file: «{' '.join(command)}»")

    def _add_boot_entries(self, command: Command, files: Sequence[EntryFile]) -> None:
        folder = self.variables.get("blsdir", "")
        if len(command) > 1 or self.conditions.undecided or folder not in _BLS_FOLDERS:
            self._give_up(f"which boot entries it takes is not known: «{' '.join(command)}»")
        if self.uses_boot_entries:
            return
        self.uses_boot_entries = True
        parent = self.path[-1] if self.path else None
        for entry in blscfg_entries(files, self.variables):
            name = f"{parent.entry}>{entry.entry}" if parent else entry.entry
            place = (*(parent.place if parent else ()), self.counts[-1])
            self.entries.append(replace(entry, entry=EntryId(name), place=place))
            self.counts[-1] += 1

    def _take_default(self, value: str) -> None:
        spec = SAVED if value == "${saved_entry}" else value
        perhaps = bool(self.blocks) or self.conditions.undecided_without_once
        if self.default or perhaps or VARIABLE.search(spec):
            self._give_up(f"what sets its default depends on the boot: «{value}»")
        self.default = spec

    def _take_carrier(self, value: str) -> None:
        kind, _, folder = value.partition(":")
        if kind not in _CARRIERS or not folder.startswith("/"):
            self._give_up(f"what carries its one-shots is not known: «{value}»")
        self.carrier = Carrier(kind, folder)

    def _give_up(self, why: str) -> None:
        """Keep the first thing that is not understood, with its place."""
        self.trouble = self.trouble or f"{self.place}: {why}"


def _assignments(command: Command) -> Iterator[tuple[str, str]]:
    """Give what `set a=b` and `a=b` assign.

    10_linux writes `then default=...` to correct old titles; what it compares is never true.
    """
    guarded = after_condition(command)
    words = guarded[1:] if guarded[0] == "set" else command[:1]
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            yield name, value


def _sets(command: Command, name: str) -> bool:
    # Most commands are soon seen not to: a menu has thousands, and is asked for one name or two.
    if not any(word.startswith(f"{name}=") for word in command):
        return False
    return any(known == name for known, _ in _assignments(command))


def _names(opening: Command) -> tuple[str, str]:
    """Give title and id of a menu entry; GRUB takes the title for a missing id."""
    words = iter(opening[1:])
    title = entry = ""
    for word in words:
        if word in _ID_WORDS:
            entry = next(words, "")
        elif word.startswith("--id="):
            entry = word.partition("=")[2]
        elif word in _WITH_VALUE:
            next(words, "")
        elif not word.startswith("--"):
            title = title or word
    return title, entry or title


def _with_kernel(entry: MenuEntry, words: list[str]) -> MenuEntry:
    kernel, *arguments = words
    line = loaded(tuple(arguments))
    doubt = ""
    if VARIABLE.search(kernel):
        doubt = f"its kernel is named by a variable: {kernel}"
    elif entry.kernel and (entry.kernel, entry.arguments) != (kernel, line):
        doubt = "it names more than one kernel"
    return replace(entry, kernel=kernel, arguments=line, doubt=entry.doubt or doubt)


def _with_initrds(entry: MenuEntry, words: list[str]) -> MenuEntry:
    initrds = tuple(words)
    other = entry.initrds and entry.initrds != initrds
    doubt = "it names more than one initrd" if other else ""
    return replace(entry, initrds=initrds, doubt=entry.doubt or doubt)
