"""Run when the package is removed: boot loader and autoremove are the host's own again."""

import sys

from trialboot.bootfiles import read_menu
from trialboot.core.facts import Unknown
from trialboot.core.menu import Menu
from trialboot.errors import LoaderError
from trialboot.host import Host
from trialboot.loaders.choice import is_controlled, loader_of
from trialboot.workers import oneshot
from trialboot.writers import aptprotection


def work(host: Host) -> None:
    """Take back a one-shot, our entry, our default, and what apt was told."""
    try:
        menu = read_menu(host)
        if isinstance(menu, Menu) and not is_controlled(menu):
            return  # it was read, and never written
        loader = loader_of(host, menu)
        if isinstance(loader, Unknown):
            raise LoaderError(loader.why)
        try:
            loader.forget_once()
        finally:
            # What is out of reach does not keep the rest.
            loader.remove()
    finally:
        aptprotection.release(host)


if __name__ == "__main__":
    sys.exit(oneshot.run("release", work))
