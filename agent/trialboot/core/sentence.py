"""What the next boot will change, in one sentence that a tired admin understands."""

from collections.abc import Sequence
from typing import Final

from trialboot.core.change import Area, Change, Risk
from trialboot.core.compare import KEXEC, MISSING, NOT_KNOWN, ONE_SHOT, SIGNED_ONLY, USED

NOTHING: Final = "The next boot changes nothing."
NOTHING_SEEN: Final = "The next boot changes nothing that could be seen."
"""Where a part could not be read that might have told of a change."""
_MOST_NAMED: Final = 3


def sentence(rows: Sequence[Change]) -> str:
    """Say it: first what is switched, then, behind a semicolon, what will be missed."""
    if not rows:
        return NOTHING
    parts = [part for part in _parts(rows) if part]
    behind = [part for part in _behind(rows) if part]
    only_loader = all(row.area is Area.LOADER for row in rows)
    parts = parts or ["changes nothing" if only_loader else "changes what is told below"]
    head = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    told = "; ".join([f"The next boot {head}", *behind])
    return told if told.endswith("…") else f"{told}."


def _parts(rows: Sequence[Change]) -> list[str]:
    by_area = {area: [r for r in rows if r.area is area] for area in Area}
    return [
        *(_kernel_words(row) for row in by_area[Area.KERNEL]),
        _module_words(by_area[Area.MODULES]),
        _driver_words(by_area[Area.DRIVERS]),
        _firmware_words(by_area[Area.FIRMWARE]),
        _initrd_words(by_area[Area.INITRD]),
        "loads other CPU microcode" if by_area[Area.MICROCODE] else "",
        "changes the kernel command line" if by_area[Area.COMMAND_LINE] else "",
        _option_words(by_area[Area.OPTIONS]),
        _counted_words(by_area[Area.DEVICES], "activates firmware that waits in", "device"),
        _counted_words(by_area[Area.SETTINGS], "changes", "setting"),
    ]


def _behind(rows: Sequence[Change]) -> list[str]:
    """Say what will be missed, and what may boot instead."""
    missing = [r.subject for r in rows if r.area is Area.MODULES and r.after == MISSING]
    loader = [r for r in rows if r.area is Area.LOADER and r.risk is Risk.DANGER]
    unbuilt = [r.subject for r in rows if r.area is Area.DKMS and r.after == "not built"]
    return [
        *(f"{_loader_words(row)}" for row in loader),
        f"dkms has not built {', '.join(unbuilt)} for it" if unbuilt else "",
        _missing_words(missing),
        _unsigned_words([r.subject.split()[0] for r in rows if r.why == SIGNED_ONLY]),
    ]


def _loader_words(row: Change) -> str:
    if row.subject == KEXEC:
        return "but a kernel is staged for kexec, and a reboot may start that one"
    if row.subject == ONE_SHOT:
        return f"but {row.after} boots once before that"
    return f"but UEFI starts {row.after} first, not this loader"


def _missing_words(missing: list[str]) -> str:
    if not missing:
        return ""
    are = "module is" if len(missing) == 1 else "modules are"
    return f"{len(missing)} loaded {are} missing from it: {_named(missing)}"


def _unsigned_words(unsigned: list[str]) -> str:
    if not unsigned:
        return ""
    are = "module is" if len(unsigned) == 1 else "modules are"
    return f"{len(unsigned)} loaded {are} not signed as it demands: {_named(unsigned)}"


def _named(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")


def _kernel_words(row: Change) -> str:
    if row.subject == "release":
        return f"switches the kernel {row.before} → {row.after}"
    return f"loads a rebuilt {row.subject}"


def _module_words(rows: list[Change]) -> str:
    if any(row.subject == "modules in use" for row in rows):
        return "may lack modules that are loaded now (not known)"
    if any(row.after in {"other files", "rebuilt"} for row in rows):
        return "loads other module files"
    newer = [row.subject.split()[0] for row in rows if row.subject.endswith(" version")]
    return f"loads another version of {_named(newer)}" if newer else ""


def _driver_words(rows: list[Change]) -> str:
    lost = sum(row.after == "no driver" for row in rows)
    if lost:
        return f"has no driver for {_count(lost, 'device')}"
    return f"switches the driver of {_count(len(rows), 'device')}" if rows else ""


def _firmware_words(rows: list[Change]) -> str:
    if not rows:
        return ""
    used = [row.subject for row in rows if row.why == USED]
    total = f"changes {_count(len(rows), 'firmware file')}"
    if any(row.why == NOT_KNOWN for row in rows):
        return f"{total} (which of them this host uses is not known)"
    if not used:
        return f"{total} (none that a loaded module names)"
    if len(used) == len(rows):
        return f"{total} ({_named(used)}) that this host uses"
    return f"{total}, of which this host uses {_count(len(used), 'file')} ({_named(used)})"


def _initrd_words(rows: list[Change]) -> str:
    if any(row.after == "rebuilt" for row in rows):
        return "loads a rebuilt initrd"
    return "loads an initrd that is older than its parts" if rows else ""


def _option_words(rows: list[Change]) -> str:
    lost = [row.subject for row in rows if row.risk is Risk.CAUTION]
    if not lost:
        return ""  # what is new or built in now is told below
    return f"lacks {_count(len(lost), 'kernel option')} that a CNI may need ({_named(lost)})"


def _counted_words(rows: list[Change], verb: str, thing: str) -> str:
    return f"{verb} {_count(len(rows), thing)}" if rows else ""


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
