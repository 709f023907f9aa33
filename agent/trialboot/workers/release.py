"""Run when the package is removed: boot loader and autoremove are the host's own again."""

import sys

from trialboot.bootfiles import read_menu
from trialboot.core.menu import GRUB, Menu
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.workers import oneshot
from trialboot.writers import aptprotection


def work(host: Host) -> None:
    """Take back a one-shot, our entry, our default, and what apt was told."""
    try:
        menu = read_menu(host)
        if isinstance(menu, Menu) and menu.loader != GRUB:
            return  # it was read, and never written
        loader = Grub(host)
        loader.forget_once()
        loader.remove()
    finally:
        aptprotection.release(host)


if __name__ == "__main__":
    sys.exit(oneshot.run("release", work))
