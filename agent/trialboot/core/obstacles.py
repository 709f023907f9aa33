"""Why an entry of GRUB's menu would not start by itself but wait for somebody at the console."""

from collections.abc import Iterator

from trialboot.core.facts import EntryId
from trialboot.core.menu import Menu, MenuEntry


def obstacles(menu: Menu, entry: EntryId) -> tuple[str, ...]:
    """Say what stands between a reboot and this entry; empty where it starts by itself."""
    found = next((known for known in menu.entries if known.entry == entry), None)
    if found is None:
        return (f"the boot menu has no entry «{entry}»",)
    return tuple(_against(menu, found))


def _against(menu: Menu, entry: MenuEntry) -> Iterator[str]:
    if entry.doubt or not entry.kernel:
        yield f"«{entry.entry}»: {entry.doubt or 'it starts no Linux kernel'}"
    if menu.waits:
        yield menu.waits
    if menu.asks_password:
        yield from (
            f"GRUB asks for a password before it starts «{node.title}»: make it --unrestricted"
            for node in (*_submenus_of(menu, entry), entry)
            if not node.unrestricted
        )


def _submenus_of(menu: Menu, entry: MenuEntry) -> Iterator[MenuEntry]:
    """Give the submenus that lead to an entry: GRUB asks at each (grub_menu_execute_entry)."""
    for submenu in menu.submenus:
        depth = len(submenu.place)
        if depth < len(entry.place) and entry.place[:depth] == submenu.place:
            yield submenu
