"""The boot menu: what the loader would boot next, and what the host itself asks for.

Defaults are followed as the loader of the menu follows them: GRUB (grub-core/normal/menu.c, and
that file as Fedora and RHEL patch it) or systemd-boot (`core/systemdboot.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from trialboot.core.bootset import Fingerprint, word_of
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.uki import UnifiedImage

KNOWN_GOOD: Final = EntryId("trialboot-known-good")
"""The entry of ours: the first of the menu, so that GRUB falls to it when all else is lost."""

GRUB: Final = "grub"
GRUB_BLS: Final = "grub-bls"
"""A GRUB whose menu comes from `loader/entries` (Fedora, RHEL): it looks names up first."""
SYSTEMD_BOOT: Final = "systemd-boot"

SAVED: Final = "saved"
"""GRUB_DEFAULT=saved: the environment block's `saved_entry` is the default."""

ADMIN_SAVED: Final = "trialboot_admin_saved"
"""Our key in the environment block: the `saved_entry` that stood there before ours."""

BOOT_WORD: Final = "trialboot.boot"
FIRMWARE_WORD: Final = "trialboot.firmware"
INSTEAD_WORD: Final = "trialboot.instead"
"""Added to the known-good's command line where a one-shot was consumed and not booted."""
KEXEC_WORD: Final = "trialboot.kexec"
"""Added to the command line of a candidate that kexec starts: a token, good for one start."""
MODULES_WORD: Final = "trialboot.modules"

BOOT_NEXT: Final = "boot-next"
"""A second copy of GRUB that only UEFI's BootNext starts carries the one-shot."""
OWN_BLOCK: Final = "own-block"
"""An environment block of ours, on a partition that GRUB can write, carries it."""
KEXEC: Final = "kexec"
"""Linux carries it: the reboot starts the candidate by kexec, and the loader is not asked."""

TWICE: Final = "an entry before it has the same id, and GRUB takes the first: rename one"
"""The doubt about an entry that its id does not lead to."""
_DOUBLED: Final = re.compile(r"\\\\(?=x[0-9A-Fa-f]{2})")
"""The backslash of `\\xHH`: GRUB 2.06 doubles it, newer ones do not (grub-core/lib/cmdline.c)."""
_ADDED_BY_GRUB: Final = ("BOOT_IMAGE=", "vt.handoff=")
_DIGITS: Final = 10
"""No index has so many: int() refuses numbers of some thousand digits."""
_PARTS: Final = re.compile(r"(?:>>|[^>])+")


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """One entry of the menu.

    Paths are as GRUB sees them: a separate /boot is not in them. Those of systemd-boot's entries
    are the host's.
    """

    entry: EntryId
    title: str
    place: tuple[int, ...]
    """Its index in each level of submenus, from the top."""
    kernel: str = ""
    """Empty where the entry starts no Linux kernel."""
    initrds: tuple[str, ...] = ()
    arguments: str = ""
    """What the kernel gets after `BOOT_IMAGE=`."""
    doubt: str = ""
    """Why what it boots cannot be told; empty where it can."""
    name: str = ""
    """What systemd-boot calls it now: its file, with the tries that are counted in the name."""
    image: UnifiedImage | None = None
    """What `kernel` holds where that is a unified kernel image: kernel, initrd, command line."""
    unrestricted: bool = False
    """GRUB boots it without a password, whoever the menu's superusers are."""
    perhaps: bool = False
    """Only the boot decides whether the menu has it: GRUB counts what is there."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """What holds a one-shot besides GRUB's own environment block."""

    kind: str
    """`boot-next`, `own-block` or `kexec`."""
    folder: str
    """Where this host has mounted the partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The whole menu, and what the loader keeps about the next boot.

    GRUB keeps it in its environment block, systemd-boot in EFI variables.
    """

    entries: tuple[MenuEntry, ...]
    submenus: tuple[MenuEntry, ...] = ()
    default_spec: str
    """`saved`, or the literal id, title or index that the generated file names.

    With systemd-boot the id that all its settings lead to; empty where none of them does.
    """
    saved: str = ""
    once: str = ""
    once_doubt: str = ""
    """Why it cannot be told whether something is booted once; empty where it can."""
    host_default: str = ""
    """GRUB_DEFAULT of the host itself; empty where we have no entry in this menu."""
    admin_saved: str = ""
    known_good: Fingerprint | str = ""
    """The fingerprint that our own entry boots; empty without one."""
    loader: str = GRUB
    """`grub`, `grub-bls` or `systemd-boot`."""
    booted: str = ""
    """The entry of the present boot, where the loader told (LoaderEntrySelected)."""
    carrier: Carrier | None = None
    """What this menu takes a one-shot from; None: the environment block, as `once` does."""
    asks_password: bool = False
    """GRUB has superusers: an entry that is not unrestricted waits for one of them."""
    waits: str = ""
    """Why GRUB does not boot by itself but waits at its menu; empty where it does."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The entry that a default leads to, and how."""

    entry: MenuEntry
    why: str
    fell_back: bool
    """The default named nothing: GRUB takes the first entry."""
    spec: str = ""
    """The name that was asked for; empty where none is set, which means the first entry too."""


def next_entry(menu: Menu) -> Resolved | Unknown:
    """Say what the loader would boot now."""
    if menu.once_doubt:
        return Unknown(menu.once_doubt)
    if menu.once:
        return _resolve(menu, menu.once, "one-shot")
    if menu.default_spec == SAVED:
        return _resolve(menu, menu.saved, "saved default")
    return _resolve(menu, menu.default_spec, "default")


def without_once(menu: Menu) -> Menu:
    """Give the menu as it is when nothing is booted once."""
    return replace(menu, once="", once_doubt="")


def against_default(menu: Menu) -> str | Unknown:
    """Say what is wrong with the default, whatever boots once; empty where it is our entry."""
    default = next_entry(without_once(menu))
    if isinstance(default, Unknown):
        return default
    if default.entry.entry != KNOWN_GOOD:
        return "the boot loader's default is no longer the known-good"
    # Our entry is the first, until somebody puts another before it.
    by_chance = default.fell_back or not default.spec
    return "the boot loader has no default, and takes the first of its menu" if by_chance else ""


def wanted_entry(menu: Menu) -> Resolved | Unknown:
    """Say what the host's own configuration boots by default, as if we were not there.

    A one-shot is left out. Where the host's default is `saved`, an operator who saved another
    entry after us (grub-set-default) is believed; else what was saved before us counts.
    """
    spec, asks = menu.host_default or menu.default_spec, "the host's own default"
    if spec == SAVED:
        spec = menu.admin_saved if menu.saved == KNOWN_GOOD else menu.saved
        asks = "the host's own saved default"
    return _resolve(_without_ours(menu), spec, asks)


def entry_of(menu: Menu, command_line: str) -> EntryId | Unknown:
    """Find the entry that a running kernel was booted from; the first of equal ones."""
    found = entries_of(menu, command_line)
    return found if isinstance(found, Unknown) else found[0]


def entries_of(menu: Menu, command_line: str) -> tuple[EntryId, ...] | Unknown:
    """Find the entries that a running kernel may have been booted from: GRUB tells no initrd."""
    kept = word_of(command_line, BOOT_WORD)
    if isinstance(kept, str):
        if kept == menu.known_good:
            return (KNOWN_GOOD,)
        return Unknown(f"no entry boots the kept boot set {kept} any more")
    if menu.loader == SYSTEMD_BOOT:
        booted = _booted_by_systemd_boot(menu, command_line)
        return booted if isinstance(booted, Unknown) else (booted,)
    image = word_of(command_line, "BOOT_IMAGE")
    return image if isinstance(image, Unknown) else _booted_by_grub(menu, image, command_line)


def _booted_by_grub(menu: Menu, image: str, command_line: str) -> tuple[EntryId, ...] | Unknown:
    kernel = re.sub(r"^\([^)]*\)", "", image)
    arguments = _told_words(command_line)
    fitting = [
        entry
        for entry in menu.entries
        if entry.kernel == kernel and _told_words(entry.arguments) == arguments
    ]
    if not fitting:
        return Unknown(f"no entry of the menu boots {kernel} with these arguments")
    named = tuple(entry.entry for entry in fitting if entry.doubt != TWICE)
    return named or Unknown(f"«{fitting[0].title}»: {TWICE}")


def _told_words(line: str) -> list[str]:
    """Give a line's words without those that GRUB adds: Ubuntu's is a variable in its menu."""
    words = _DOUBLED.sub(r"\\", line).split()
    return [word for word in words if not word.startswith(_ADDED_BY_GRUB)]


def _booted_by_systemd_boot(menu: Menu, command_line: str) -> EntryId | Unknown:
    """Find what fits the arguments; of several the one that the loader says it took.

    systemd-boot adds `initrd=` words of its own, no BOOT_IMAGE.
    """
    words = [word for word in command_line.split() if not word.startswith("initrd=")]
    fitting = [e for e in menu.entries if e.kernel and _plain_words(e.arguments) == words]
    told = [e for e in fitting if e.entry == menu.booted]
    if told or len(fitting) == 1:
        return (told or fitting)[0].entry
    many = "more than one entry" if fitting else "no entry"
    return Unknown(f"{many} of the menu boots a kernel with these arguments")


def _plain_words(arguments: str) -> list[str]:
    return [word for word in arguments.split() if not word.startswith("initrd=")]


def _without_ours(menu: Menu) -> Menu:
    """Take our entry out and number the first level again: hosts count without us."""
    ours = [entry.place[0] for entry in menu.entries if entry.entry == KNOWN_GOOD]
    if not ours:
        return menu
    return replace(
        menu,
        entries=tuple(_moved(e, ours[0]) for e in menu.entries if e.entry != KNOWN_GOOD),
        submenus=tuple(_moved(submenu, ours[0]) for submenu in menu.submenus),
    )


def _moved(entry: MenuEntry, gone: int) -> MenuEntry:
    first, *rest = entry.place
    return replace(entry, place=(first - (first > gone), *rest))


def _resolve(menu: Menu, spec: str, asks: str) -> Resolved | Unknown:
    """Walk down the submenus as GRUB does: number, else id or title, else the first entry.

    systemd-boot has no submenus and no numbers.
    """
    names = [spec] if menu.loader == SYSTEMD_BOOT else _PARTS.findall(spec)
    parts: list[str] = [name for name in names if name]
    odd = [part for part in parts if _is_number(part[0]) and not _is_number(part)]
    if odd and menu.loader == GRUB:
        return Unknown(f"{asks} «{spec}»: GRUB versions differ over names that start with a digit")
    place: tuple[int, ...] = ()
    fell_back = not parts
    while level := _level(menu, place):
        part = parts.pop(0) if parts else ""
        found = _LOOK_UP[menu.loader](level, part)
        fell_back = fell_back or (found is None and bool(part))
        node = found or level[0]
        unsure = _unsure(level, node, part)
        if unsure is not None:
            told = f"whether the menu has «{unsure.title}» is decided by the boot"
            return Unknown(f"{asks} «{spec}»: {told}")
        if node not in menu.submenus:
            return _told(node, spec, asks, fell_back=fell_back)
        place = node.place
    return Unknown(f"{asks} «{spec}» leads to an empty menu")


def _unsure(level: list[MenuEntry], node: MenuEntry, part: str) -> MenuEntry | None:
    """Find what may be missing and then leads elsewhere: it is meant, or counted on the way."""
    counted = level[: level.index(node) + 1] if _is_number(part) else [node]
    return next((known for known in counted if known.perhaps), None)


def _told(entry: MenuEntry, spec: str, asks: str, *, fell_back: bool) -> Resolved | Unknown:
    if entry.doubt:
        return Unknown(f"{asks} «{spec}» leads to «{entry.entry}»: {entry.doubt}")
    why = f"{asks} «{spec}»"
    if fell_back:
        why += " names nothing: the first entry"
    return Resolved(entry, why, fell_back, spec)


def _level(menu: Menu, place: tuple[int, ...]) -> list[MenuEntry]:
    depth = len(place)
    nodes = (*menu.entries, *menu.submenus)
    here = [n for n in nodes if len(n.place) == depth + 1 and n.place[:depth] == place]
    return sorted(here, key=lambda node: node.place)


def _numbered_first(level: list[MenuEntry], part: str) -> MenuEntry | None:
    return _numbered(level, part) if _is_number(part) else _named(level, part)


def _named_first(level: list[MenuEntry], part: str) -> MenuEntry | None:
    """Look up as GRUB of Fedora and RHEL does (`get_entry_number_helper`).

    An id that begins with the digits of a machine id is a name to it, not a bad number.
    """
    return _named(level, part) or _numbered(level, part)


def _exactly(level: list[MenuEntry], part: str) -> MenuEntry | None:
    return next((node for node in level if node.entry == part), None)


def _numbered(level: list[MenuEntry], part: str) -> MenuEntry | None:
    index = int(part) if _is_number(part) and len(part) < _DIGITS else len(level)
    return level[index] if index < len(level) else None


def _named(level: list[MenuEntry], part: str) -> MenuEntry | None:
    """Find an id, else a title."""
    names = [(node, (_PARTS.findall(node.entry) or [""])[-1]) for node in level]
    wanted = part.replace(">>", ">")
    return next((n for n, own in names if part == own or wanted == n.title), None)


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit()


_LOOK_UP: Final[dict[str, Callable[[list[MenuEntry], str], MenuEntry | None]]] = {
    GRUB: _numbered_first,
    GRUB_BLS: _named_first,
    SYSTEMD_BOOT: _exactly,
}
