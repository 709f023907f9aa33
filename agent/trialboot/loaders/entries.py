"""What every loader asks of an entry before it is pointed at, and of the menu afterwards."""

from pathlib import Path

from trialboot.bootfiles import host_path, read_menu
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import Menu, MenuEntry, next_entry
from trialboot.errors import LoaderError
from trialboot.host import Host, sync_folder, write_durably


def menu_of(host: Host, loader: str) -> Menu:
    """Give the menu as it is now, of the loader that is asked for. Raises `LoaderError`."""
    menu = read_menu(host)
    if isinstance(menu, Unknown):
        raise LoaderError(menu.why)
    if menu.loader != loader:
        raise LoaderError(f"the boot loader is {menu.loader}, not {loader}")
    return menu


def listed(menu: Menu, entry: EntryId) -> MenuEntry:
    """Find an entry of the menu. Raises `LoaderError`."""
    found = [known for known in menu.entries if known.entry == entry]
    if not found:
        raise LoaderError(f"the boot menu has no entry «{entry}»")
    return found[0]


def check_bootable(host: Host, entry: MenuEntry) -> None:
    """Make sure that an entry starts a kernel, and that all its files are there."""
    if entry.doubt or not entry.kernel:
        raise LoaderError(f"«{entry.entry}»: {entry.doubt or 'it starts no Linux kernel'}")
    for file in (entry.kernel, *entry.initrds):
        place = host_path(host, file)
        if isinstance(place, Unknown):
            raise LoaderError(f"«{entry.entry}» cannot boot: {place.why}")


def check_reached(menu: Menu, entry: EntryId) -> None:
    """Make sure that the loader of a menu would boot an entry."""
    reached = next_entry(menu)
    if isinstance(reached, Unknown):
        raise LoaderError(reached.why)
    if reached.entry.entry != entry:
        raise LoaderError(
            f"{menu.loader} would boot «{reached.entry.entry}», not «{entry}»: {reached.why}"
        )


def put_back(path: Path, before: bytes | None) -> None:
    """Have a file hold what it held; None for one that was not there. Raises `LoaderError`.

    Nothing is written where nothing has changed: the disk may take no write.
    """
    try:
        if before is None:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        elif not path.exists() or path.read_bytes() != before:
            write_durably(path, before, mode=0o644)
    except OSError as error:
        raise LoaderError(f"{path} is not as it was: {error.strerror}") from error
