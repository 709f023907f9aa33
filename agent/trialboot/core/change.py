"""What differs between two boot sets, in words: what the next boot will change."""

from collections.abc import Sequence
from dataclasses import dataclass

from trialboot.core.bootset import BootSet
from trialboot.core.facts import Module, Tree, Unknown
from trialboot.core.language import Word

_COMPRESSIONS = (".zst", ".xz", ".gz")
_MOST_NAMED = 3


class Area(Word):
    """The part of a boot set that a change is in; also its order of danger on the screen."""

    KERNEL = "kernel"
    MODULES = "modules"
    FIRMWARE = "firmware"
    INITRD = "initrd"
    COMMAND_LINE = "command_line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: where, what, before and after."""

    area: Area
    subject: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootDetail:
    """A boot set with what a person wants to know of it beyond its identities."""

    boot_set: BootSet
    firmware: Tree
    modules: tuple[str, ...]
    """Names of the modules in its tree and built in, with `_` for `-`."""


def changes(
    before: BootDetail, after: BootDetail, loaded: tuple[Module, ...] | Unknown
) -> tuple[Change, ...]:
    """List what booting `after` instead of `before` changes, most dangerous first.

    `loaded` are the modules in use now: they tell which missing module and which firmware file
    this host would feel.
    """
    old, new = before.boot_set, after.boot_set
    found: list[Change] = []
    if old.release != new.release:
        found.append(_change(Area.KERNEL, "release", old.release, new.release))
    elif old.kernel != new.kernel:
        found.append(_change(Area.KERNEL, f"image of {new.release}", "as before", "rebuilt"))
    found += _modules(before, after, loaded)
    found += _firmware(before.firmware, after.firmware)
    if old.release == new.release and old.initrd != new.initrd:
        found.append(_change(Area.INITRD, f"initrd of {new.release}", "as before", "rebuilt"))
    if old.command_line != new.command_line:
        found.append(
            _change(Area.COMMAND_LINE, "command line", old.command_line, new.command_line)
        )
    return tuple(found)


def _change(area: Area, subject: str, before: str, after: str) -> Change:
    return Change(area=area, subject=subject, before=before, after=after)


def _modules(
    before: BootDetail, after: BootDetail, loaded: tuple[Module, ...] | Unknown
) -> list[Change]:
    if before.boot_set.modules == after.boot_set.modules:
        return []
    if isinstance(loaded, Unknown):
        return [_change(Area.MODULES, "modules in use", "loaded", f"not known: {loaded.why}")]
    there = set(after.modules)
    gone = [m.name for m in loaded if m.name not in there]
    rows = [_change(Area.MODULES, name, "loaded", "missing") for name in gone]
    if not rows and before.boot_set.release == after.boot_set.release:
        rows.append(_change(Area.MODULES, "module tree", "as before", "other files"))
    return rows


def _firmware(before: Tree, after: Tree) -> list[Change]:
    old, new = dict(before.files), dict(after.files)
    rows = []
    for path in sorted({*old, *new}):
        if path not in new:
            rows.append(_change(Area.FIRMWARE, path, "there", "gone"))
        elif path not in old:
            rows.append(_change(Area.FIRMWARE, path, "absent", "new"))
        elif old[path] != new[path]:
            rows.append(_change(Area.FIRMWARE, path, old[path][:12], new[path][:12]))
    return rows


def firmware_in_use(
    rows: Sequence[Change], loaded: tuple[Module, ...] | Unknown
) -> tuple[str, ...] | Unknown:
    """Name the changed firmware files that a loaded module says it may ask for."""
    if isinstance(loaded, Unknown):
        return loaded
    asked: set[str] = set()
    for module in loaded:
        if isinstance(module.firmware, Unknown):
            return Unknown(f"{module.name}: {module.firmware.why}")
        asked.update(module.firmware)
    changed = [row.subject for row in rows if row.area is Area.FIRMWARE]
    return tuple(path for path in changed if _plain(path) in asked)


def _plain(path: str) -> str:
    for ending in _COMPRESSIONS:
        if path.endswith(ending):
            return path.removesuffix(ending)
    return path


def sentence(rows: Sequence[Change], loaded: tuple[Module, ...] | Unknown) -> str:
    """Say in one sentence what the next boot will change; a tired admin must understand it."""
    if not rows:
        return "The next boot changes nothing."
    parts = [part for part in _parts(rows, loaded) if part]
    head = "The next boot "
    if len(parts) == 1:
        return f"{head}{parts[0]}."
    return f"{head}{', '.join(parts[:-1])} and {parts[-1]}."


def _parts(rows: Sequence[Change], loaded: tuple[Module, ...] | Unknown) -> list[str]:
    by_area = {area: [r for r in rows if r.area is area] for area in Area}
    return [
        *(_kernel_words(row) for row in by_area[Area.KERNEL]),
        _module_words(by_area[Area.MODULES]),
        _firmware_words(by_area[Area.FIRMWARE], loaded),
        "loads a rebuilt initrd" if by_area[Area.INITRD] else "",
        "changes the kernel command line" if by_area[Area.COMMAND_LINE] else "",
    ]


def _kernel_words(row: Change) -> str:
    if row.subject == "release":
        return f"switches the kernel {row.before} → {row.after}"
    return f"loads a rebuilt {row.subject}"


def _module_words(rows: list[Change]) -> str:
    missing = [row.subject for row in rows if row.after == "missing"]
    if missing:
        return f"lacks {_count(missing, 'module')} that {_are(missing)} loaded now"
    if rows and rows[0].subject == "module tree":
        return "loads other module files"
    return "may lack modules that are loaded now (not known)" if rows else ""


def _firmware_words(rows: list[Change], loaded: tuple[Module, ...] | Unknown) -> str:
    if not rows:
        return ""
    used = firmware_in_use(rows, loaded)
    total = f"changes {len(rows)} firmware file{'s' if len(rows) > 1 else ''}"
    if isinstance(used, Unknown):
        return f"{total} (which of them this host uses is not known)"
    if not used:
        return f"{total} (none that a loaded module names)"
    if len(used) == len(rows):
        return f"changes {_count(list(used), 'firmware file')} that this host uses"
    return f"{total}, of which this host uses {_count(list(used), 'file')}"


def _are(things: list[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _count(things: list[str], word: str) -> str:
    named = ", ".join(things[:_MOST_NAMED]) + (", …" if len(things) > _MOST_NAMED else "")
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'} ({named})"
