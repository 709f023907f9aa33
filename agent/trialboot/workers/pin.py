"""trialboot-pin.service: the only process that writes to the boot loader and the vault.

It performs the leading loader and vault actions of the decision on disk, and nothing else; run
again, it performs them again.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from typing import Final

from trialboot import covered
from trialboot.bootfiles import host_path, read_menu, secure_boot
from trialboot.content import Cache, copy_part
from trialboot.core.actions import (
    PIN_ACTIONS,
    Action,
    BootOnce,
    ForgetOnce,
    GiveUp,
    Keep,
    Mend,
    PinKnownGood,
    Secure,
    Unpin,
)
from trialboot.core.bootset import BootSet, shown
from trialboot.core.facts import Unknown
from trialboot.core.menu import (
    KNOWN_GOOD,
    Menu,
    MenuEntry,
    next_entry,
    wanted_entry,
    without_once,
)
from trialboot.core.trial import Choice, Decision, Phase, Trial
from trialboot.core.uki import UnifiedImage
from trialboot.errors import HostError, LoaderError, StoreError, VaultError, VaultRoomError
from trialboot.host import Host
from trialboot.loaders.choice import loader_of
from trialboot.loaders.entries import check_bootable
from trialboot.loaders.interface import Loader
from trialboot.workers import oneshot
from trialboot.writers import aptprotection, contentcache, store
from trialboot.writers.vault import bootsets, covers, moduletrees, ownfiles, parts, remains
from trialboot.writers.vault.bootsets import Sources

_UNPACKED: Final = f"{store.STATE}/unpacked"


def work(host: Host) -> None:
    """Perform what the decision has for this worker."""
    decision = store.read_decision(host)
    if not isinstance(decision, Decision):
        # Without it nothing says what is needed, and all would be tidied away.
        raise StoreError(decision.why if decision else "there is no record of what to do")
    loader = loader_of(host, read_menu(host))
    if isinstance(loader, Unknown):
        raise LoaderError(loader.why)
    cache = contentcache.load(host)
    known = dict(cache)
    _own_initrds(host, decision.trial)
    for action in takewhile(lambda action: isinstance(action, PIN_ACTIONS), decision.todo):
        _perform_decided(host, loader, decision.trial, action, cache)
    _forget_old_sets(host, decision.trial, cache)
    if cache != known:
        # Only speed is lost without it.
        with suppress(StoreError):
            contentcache.save(host, cache)


def _forget_old_sets(host: Host, trial: Trial, cache: Cache) -> None:
    """Bound the vault: the known-good, the one before it and the candidate stay."""
    candidate = trial.candidate.boot_set if trial.candidate else None
    named = (trial.known_good, trial.previous, candidate)
    needed = {boot_set.fingerprint for boot_set in named if boot_set is not None}
    for fingerprint in bootsets.kept(host):
        if fingerprint not in needed:
            # Tidying never fails the work: what is left over now goes the next time.
            with suppress(VaultError):
                bootsets.drop(host, fingerprint, cache)


def _own_initrds(host: Host, trial: Trial) -> None:
    """Take kept initrds off the files of a dracut that is new here, as long as they are whole."""
    good = trial.known_good.fingerprint if trial.known_good else ""
    # The known-good first: there may be room for one.
    for fingerprint in sorted(bootsets.kept(host), key=lambda kept: kept != good):
        # Nothing waits for it: what is no longer whole is told by whoever needs it.
        with suppress(VaultError):
            ownfiles.own_initrds(host, fingerprint)


def _perform_decided(
    host: Host, loader: Loader, trial: Trial, action: Action, cache: Cache
) -> None:
    """Perform one action; where no trial is on, a default that is lost for good is given back."""
    try:
        perform(host, loader, action, cache)
    except VaultError as error:
        # Else the host's own default may be what failed here, or what is being tried.
        at_rest = trial.phase is Phase.STEADY and not trial.condemned
        if not isinstance(action, Mend) or not at_rest:
            raise
        raise VaultError(f"{error}{_give_back(host, loader)}") from error


def perform(host: Host, loader: Loader, action: Action, cache: Cache) -> None:
    """Perform one action; each may be done twice. What files hold is kept in the cache."""
    match action:
        case Keep(boot_set, entry):
            _keep(host, loader, Choice(entry=entry, boot_set=boot_set), cache)
        case PinKnownGood(boot_set):
            _pin(host, loader, boot_set)
        case Mend(boot_set):
            _mend(host, loader, boot_set, cache)
        case Secure(boot_set):
            _secure(host, loader, boot_set)
        case GiveUp(boot_set):
            # What cannot go now goes with the next run, as all that the record does not name.
            with suppress(VaultError):
                bootsets.drop(host, boot_set.fingerprint, cache)
        case _:
            _perform_on_loader(host, loader, action)


def _perform_on_loader(host: Host, loader: Loader, action: Action) -> None:
    match action:
        case BootOnce(entry):
            loader.boot_once(entry)
        case ForgetOnce(spent=spent):
            _tidy(loader) if spent else loader.forget_once()
        case Unpin():
            loader.remove()
            _unprotect(host)
        case _:
            raise LoaderError(f"{type(action).__name__} is not the pin worker's")


def _keep(host: Host, loader: Loader, wanted: Choice, cache: Cache) -> None:
    boot_set = wanted.boot_set
    if boot_set.fingerprint in bootsets.kept(host):
        with suppress(VaultError):  # a damaged one is kept anew, from the entry's files
            bootsets.verify(host, boot_set.fingerprint)
            return
    found = [known for known in loader.state().entries if known.entry == wanted.entry]
    if not found:
        raise VaultError(f"the boot menu has no entry «{wanted.entry}» any more: nothing to keep")
    try:
        with _files_of(host, found[0]) as files:
            sources = _sources(host, files, boot_set.release)
            _keep_with_room(host, loader, boot_set, sources, cache)
    except OSError as error:
        raise VaultError(f"{error.filename}: {error.strerror}") from error


def _keep_with_room(
    host: Host, loader: Loader, boot_set: BootSet, sources: Sources, cache: Cache
) -> None:
    """Keep a boot set; where room lacks, older ones go first, never what the menu boots."""
    try:
        bootsets.keep(host, boot_set, sources, cache)
    except VaultRoomError as error:
        needed = (boot_set.fingerprint, loader.state().known_good)
        older = [known for known in bootsets.kept(host) if known not in needed]
        if not older:
            raise
        sys.stderr.write(f"{error}; the boot set {shown(older[0])} goes\n")
        bootsets.drop(host, older[0], cache)
        _keep_with_room(host, loader, boot_set, sources, cache)


@contextmanager
def _files_of(host: Host, entry: MenuEntry) -> Iterator[list[str]]:
    """Give kernel and initrds as files: those of a unified image are unpacked for so long.

    Their content is what tells boot sets apart, so what is kept of them is the same boot set.
    """
    places = [host_path(host, path) for path in (entry.kernel, *entry.initrds)]
    for place in places:
        if isinstance(place, Unknown):
            raise VaultError(place.why)
    files = [place for place in places if isinstance(place, str)]
    if entry.image is None:
        yield files
        return
    if secure_boot(host):
        raise VaultError(
            f"«{entry.entry}» is a unified image, and Secure Boot is on: its kernel need not boot "
            "apart from it, so it is not kept"
        )
    folder = host.path(_UNPACKED)
    try:
        yield _unpack(host, files[0], entry.image)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(host: Host, path: str, image: UnifiedImage) -> list[str]:
    shutil.rmtree(host.path(_UNPACKED), ignore_errors=True)  # what a power cut left
    host.path(_UNPACKED).mkdir(parents=True, mode=0o700)
    named = (("linux", image.linux), ("initrd", image.initrd))
    parts = [(f"{_UNPACKED}/{name}", part) for name, part in named if part is not None]
    for target, part in parts:
        copy_part(host.path(path), part.offset, part.size, host.path(target))
    return [target for target, _ in parts]


def _sources(host: Host, files: list[str], release: str) -> Sources:
    bare = covers.uncover(host)
    modules = f"{covered.MODULES}/{release}" if bare else covered.modules_folder(host, release)
    return Sources(
        kernel=files[0],
        initrds=tuple(files[1:]),
        firmware=covered.FIRMWARE if bare else covered.firmware_folder(host),
        modules=modules if host.exists(modules) else "",
    )


def _pin(host: Host, loader: Loader, boot_set: BootSet) -> None:
    """Make a kept boot set entry and default; checked by hash first, each time."""
    bootsets.verify(host, boot_set.fingerprint)
    _boot_kept(host, loader, boot_set)


def _mend(host: Host, loader: Loader, boot_set: BootSet, cache: Cache) -> None:
    """Put back what the known-good has lost; what is kept of it is checked by hash first."""
    _make_whole(host, loader, boot_set, cache)
    with ExitStack() as each:
        # One does not wait for the other: a known-good without its modules still has its initrd.
        each.callback(_boot_kept, host, loader, boot_set)
        each.callback(ownfiles.own_initrds, host, boot_set.fingerprint)
        told = moduletrees.restore_modules(host, boot_set, cache)
        if told:
            sys.stderr.write(f"{told}\n")


def _make_whole(host: Host, loader: Loader, boot_set: BootSet, cache: Cache) -> None:
    """Make sure that a boot set is kept whole; a damaged one is kept anew."""
    bootsets.settle(host)
    try:
        bootsets.verify(host, boot_set.fingerprint)
    except VaultError as error:
        sys.stderr.write(f"{error}: the boot set {shown(boot_set.fingerprint)} is kept anew\n")
        _keep_anew(host, loader, boot_set, cache, str(error))
        bootsets.verify(host, boot_set.fingerprint)


def _keep_anew(host: Host, loader: Loader, boot_set: BootSet, cache: Cache, why: str) -> None:
    """Keep a boot set anew: of each part what the vault still has, else what the host has of it.

    Raises `VaultError`; then what there is of it stays.
    """
    read: Cache = {}
    lost = _keep_remains(host, loader, boot_set, None, read)
    for entry in loader.state().entries if lost else ():
        if not _keep_remains(host, loader, boot_set, entry, read):
            lost = ""
            break
    if lost:
        raise VaultError(
            f"the boot set {shown(boot_set.fingerprint)} cannot be mended: {why}, and this host "
            f"has its {lost} no more: «trialboot observe», and «trialboot arm» once the host's "
            "own entry runs"
        )
    cache.update(read)


def _keep_remains(
    host: Host, loader: Loader, boot_set: BootSet, entry: MenuEntry | None, read: Cache
) -> str:
    """Keep a boot set anew with the files of an entry; say what is in none of both, else empty."""
    with ExitStack() as unpacked:
        try:
            files = unpacked.enter_context(_files_of(host, entry)) if entry else [""]
        except (VaultError, OSError) as error:
            return str(error)
        places = (
            remains.kept_sources(host, boot_set),
            _sources(host, files, boot_set.release),
        )
        sources = remains.remaining(host, boot_set, places, read)
        if isinstance(sources, Unknown):
            return sources.why
        _keep_with_room(host, loader, boot_set, sources, read)
    return ""


def _give_back(host: Host, loader: Loader) -> str:
    """Give the host its own default back where ours names a file that is gone; say what is so.

    A menu that waits for somebody is worse than a boot without a trial; but only a default that
    is on disk is any better.
    """
    try:
        menu = without_once(loader.state())
        if not _defaults_to_nothing(host, menu):
            return ""
        own = _own_default(host, menu)
        loader.forget_once()
        loader.remove()
    except LoaderError as error:
        return f"; the default names a file that is gone, and stays: {error}"
    return f"; until then the boot loader is the host's own again, with «{own.entry}»"


def _defaults_to_nothing(host: Host, menu: Menu) -> bool:
    default = next_entry(menu)
    if isinstance(default, Unknown) or default.entry.entry != KNOWN_GOOD:
        return False
    places = [host_path(host, file) for file in (default.entry.kernel, *default.entry.initrds)]
    return any(isinstance(place, Unknown) for place in places)


def _own_default(host: Host, menu: Menu) -> MenuEntry:
    """Give what the host boots without us, if all its files are there. Raises `LoaderError`."""
    own = wanted_entry(menu)
    if isinstance(own, Unknown):
        raise LoaderError(own.why)
    check_bootable(host, own.entry)
    return own.entry


def _tidy(loader: Loader) -> None:
    """Take away what is left of a one-shot that has booted; one that waits is somebody else's."""
    try:
        if not loader.state().once:
            loader.forget_once()
    except LoaderError as error:
        # It leads to the default, and the next one-shot takes its place: no verdict waits for it.
        sys.stderr.write(f"something is left of the one-shot: {error}\n")


def _secure(host: Host, loader: Loader, boot_set: BootSet) -> None:
    """Make sure, before an automatic reboot, that it ends on this kept boot set.

    Damaged files (`VaultError`) are never left out: what would boot has not proven itself. A
    write that fails (a full or read-only /boot, a broken environment block) is,
    where what is on disk leads there all the same: the default was set and read back when the
    trial was armed, and the loader itself has consumed the one-shot. Where it leads elsewhere, or
    is not understood, there is no reboot: it might end nowhere, the daemon asks again.
    """
    bootsets.verify(host, boot_set.fingerprint)
    try:
        loader.forget_once()
        _boot_kept(host, loader, boot_set)
    except (LoaderError, OSError) as error:
        sys.stderr.write(f"before the rollback: {error}\n")
    _check_way_back(host, loader.state(), boot_set)


def _check_way_back(host: Host, menu: Menu, boot_set: BootSet) -> None:
    reached = next_entry(menu)
    if isinstance(reached, Unknown):
        raise LoaderError(f"a restart may not end on the known-good: {reached.why}")
    if reached.entry.entry != KNOWN_GOOD or menu.known_good != boot_set.fingerprint:
        raise LoaderError(f"a restart would end on «{reached.entry.entry}»: {reached.why}")
    for file in (reached.entry.kernel, *reached.entry.initrds):
        place = host_path(host, file)
        if isinstance(place, Unknown):
            raise LoaderError(f"a restart may not end on the known-good: {place.why}")


def _boot_kept(host: Host, loader: Loader, boot_set: BootSet) -> None:
    loader.install(parts.boot_files(host, boot_set.fingerprint))
    loader.make_default(KNOWN_GOOD)
    try:
        aptprotection.protect(host, boot_set.release)
    except HostError as error:
        # The vault holds without it.
        sys.stderr.write(f"autoremove may take the known-good's packages: {error}\n")


def _unprotect(host: Host) -> None:
    try:
        aptprotection.release(host)
    except HostError as error:
        sys.stderr.write(f"autoremove still spares the known-good's packages: {error}\n")


if __name__ == "__main__":
    sys.exit(oneshot.run("pin", work))
