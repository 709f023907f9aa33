"""trialboot-pin.service: the only process that writes to the boot loader and the vault.

It performs the leading loader and vault actions of the decision on disk, and nothing else; run
again, it performs them again.
"""

import sys
from contextlib import suppress
from itertools import takewhile

from trialboot import snapshot
from trialboot.bootfiles import host_path
from trialboot.core.actions import (
    PIN_ACTIONS,
    Action,
    BootOnce,
    ForgetOnce,
    Keep,
    PinKnownGood,
    Unpin,
)
from trialboot.core.bootset import BootSet
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import KNOWN_GOOD, MenuEntry
from trialboot.core.trial import Trial
from trialboot.errors import LoaderError, VaultError
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.loaders.interface import Loader
from trialboot.workers import oneshot
from trialboot.writers import store, vault
from trialboot.writers.vault import Sources


def work(host: Host) -> None:
    """Perform what the decision on disk has for this worker."""
    decision = store.load_decision(host)
    loader = Grub(host)
    for action in takewhile(lambda action: isinstance(action, PIN_ACTIONS), decision.todo):
        perform(host, loader, action)
    _forget_old_sets(host, decision.trial)


def _forget_old_sets(host: Host, trial: Trial) -> None:
    """Bound the vault: the known-good, the one before it and the candidate stay."""
    candidate = trial.candidate.boot_set if trial.candidate else None
    named = (trial.known_good, trial.previous, candidate)
    needed = {boot_set.fingerprint for boot_set in named if boot_set is not None}
    for fingerprint in vault.kept(host):
        if fingerprint not in needed:
            # Tidying never fails the work: what is left over now goes the next time.
            with suppress(VaultError):
                vault.drop(host, fingerprint)


def perform(host: Host, loader: Loader, action: Action) -> None:
    """Perform one action; each may be done twice."""
    match action:
        case Keep(boot_set, entry):
            _keep(host, loader, boot_set, entry)
        case PinKnownGood(boot_set):
            _pin(host, loader, boot_set)
        case BootOnce(entry):
            loader.boot_once(entry)
        case ForgetOnce():
            loader.forget_once()
        case Unpin():
            loader.remove()
        case _:
            raise LoaderError(f"{type(action).__name__} is not the pin worker's")


def _keep(host: Host, loader: Loader, boot_set: BootSet, entry: EntryId) -> None:
    if boot_set.fingerprint in vault.kept(host):
        with suppress(VaultError):  # a damaged one is kept anew, from the entry's files
            vault.verify(host, boot_set.fingerprint)
            return
    found = [known for known in loader.state().entries if known.entry == entry]
    if not found:
        raise VaultError(f"the boot menu has no entry «{entry}» any more: nothing to keep")
    vault.keep(host, boot_set, _sources(host, found[0]))


def _sources(host: Host, entry: MenuEntry) -> Sources:
    places = [host_path(host, path) for path in (entry.kernel, *entry.initrds)]
    for place in places:
        if isinstance(place, Unknown):
            raise VaultError(place.why)
    files = [place for place in places if isinstance(place, str)]
    return Sources(
        kernel=files[0],
        initrd=files[1] if len(files) > 1 else "",
        firmware=snapshot.firmware_folder(host),
    )


def _pin(host: Host, loader: Loader, boot_set: BootSet) -> None:
    """Make a kept boot set entry and default; checked by hash first, each time."""
    vault.verify(host, boot_set.fingerprint)
    loader.install(boot_set.fingerprint, boot_set, str(vault.firmware_of(boot_set.fingerprint)))
    loader.make_default(KNOWN_GOOD)


if __name__ == "__main__":
    sys.exit(oneshot.run("pin", work))
