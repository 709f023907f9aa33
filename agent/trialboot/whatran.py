"""What this boot loaded: by what the loader left on the command line, or by what was remembered.

The first snapshot of a boot decides it. Later ones would hold files against it that packages have
replaced since.
"""

from contextlib import suppress
from typing import Final

from trialboot.bootdetail import BootSide, module_files, read_detail, read_kept
from trialboot.bootonce import is_kexec_trial
from trialboot.core.bootset import Fingerprint, without_word, word_of
from trialboot.core.change import BootDetail
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import BOOT_WORD, KEXEC_WORD, KNOWN_GOOD, MenuEntry, entry_of
from trialboot.core.outlook import Ran
from trialboot.core.trial import Phase, Trial
from trialboot.errors import StoreError
from trialboot.readers import bootmenu
from trialboot.snapshot import guarded
from trialboot.writers import store
from trialboot.writers.vault import bootsets

_RAN: Final = f"{store.STATE}/ran.json"


def what_ran(side: BootSide, trial: Trial, *, remember: bool) -> Ran | Unknown:
    """Give what this boot loaded, and remember it if asked to."""
    remembered = _remembered(side)
    ran = remembered or _read_ran(side, trial)
    if remember and isinstance(ran, Ran) and ran is not remembered:
        # On a full disk it is read anew each time, as long as no file changes under it.
        with suppress(StoreError):
            store.save(side.host, _RAN, ran)
    return ran


def _remembered(side: BootSide) -> Ran | None:
    """Give what this boot loaded as its first snapshot found it; None where that is not there."""
    stored = store.load(side.host, _RAN, Ran)
    return stored if isinstance(stored, Ran) and stored.boot == side.kernel.boot else None


def _read_ran(side: BootSide, trial: Trial) -> Ran | Unknown:
    line = _told_by_loader(side)
    if isinstance(line, Unknown):
        return line
    fingerprint = word_of(line, BOOT_WORD)
    if isinstance(fingerprint, str):
        return _ran_kept(side, Fingerprint(fingerprint))
    return _ran_entry(side, line, trial)


def _told_by_loader(side: BootSide) -> str | Unknown:
    """Give the command line as its entry has it; kexec's only where it started a trial of ours.

    That of another kexec may be that of an entry, or of the known-good, and all else another's.
    """
    line = side.kernel.command_line
    if not side.kernel.by_kexec:
        return line
    ours = is_kexec_trial(side.host, side.kernel)
    if isinstance(ours, Unknown):
        return ours
    elsewhere = Unknown("it was started by kexec, not by the boot loader: no trial")
    return without_word(line, KEXEC_WORD) if ours else elsewhere


def _ran_entry(side: BootSide, line: str, trial: Trial) -> Ran | Unknown:
    if isinstance(side.menu, Unknown):
        return side.menu
    entry = entry_of(side.menu, line)
    if isinstance(entry, Unknown):
        return entry
    menu_entry = next(e for e in side.menu.entries if e.entry == entry)
    detail = read_detail(side, menu_entry)
    late = (
        detail.why
        if isinstance(detail, Unknown)
        else _changed_since_boot(side, menu_entry, detail)
    )
    if isinstance(detail, Unknown) or late:
        return _ran_armed(side, entry, trial) or Unknown(late)
    return _ran_as(side, entry, detail)


def _ran_armed(side: BootSide, entry: EntryId, trial: Trial) -> Ran | None:
    """Give the candidate that was armed, where its files have changed since it was booted.

    It is kept as it was armed, and has to be judged: a trial that is not known ends never.
    """
    candidate = trial.candidate
    if trial.phase is not Phase.ARMED or candidate is None or candidate.entry != entry:
        return None
    if candidate.boot_set.release != side.kernel.release:
        return None
    detail = read_kept(side, candidate.boot_set)
    return None if isinstance(detail, Unknown) else _ran_as(side, entry, detail)


def _ran_as(side: BootSide, entry: EntryId, detail: BootDetail) -> Ran:
    return Ran(boot=side.kernel.boot, entry=entry, detail=detail, settings=side.snapshot.settings)


def _ran_kept(side: BootSide, fingerprint: Fingerprint) -> Ran | Unknown:
    kept = bootsets.load(side.host, fingerprint)
    if isinstance(kept, Unknown):
        return kept
    detail = read_kept(side, kept)
    return detail if isinstance(detail, Unknown) else _ran_as(side, KNOWN_GOOD, detail)


def _changed_since_boot(side: BootSide, entry: MenuEntry, detail: BootDetail) -> str:
    """Name the file that is no longer what this boot loaded, by ctime; empty if all still are."""
    if detail.boot_set.release != side.kernel.release:
        return f"{entry.kernel} is {detail.boot_set.release}, but {side.kernel.release} runs"
    for path in (entry.kernel, *entry.initrds):
        place = bootmenu.host_path(side.host, path)
        if isinstance(place, Unknown):
            return place.why
        if side.host.path(place).stat().st_ctime > side.kernel.boot_time:
            return f"{place} has changed since this boot; the next boot will tell"
    modules_now = guarded(lambda: module_files(side, side.kernel.release))
    for name, tree in (("firmware", detail.firmware), ("module", modules_now)):
        if isinstance(tree, Unknown):
            return tree.why
        if tree.newest_change > side.kernel.boot_time:
            return f"the {name} tree has changed since this boot; the next boot will tell"
    return ""
