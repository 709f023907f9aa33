"""Run when the package is removed: the boot loader is the host's own again."""

import sys

from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.workers import oneshot


def work(host: Host) -> None:
    """Take back a one-shot, our entry and our default."""
    loader = Grub(host)
    loader.forget_once()
    loader.remove()


if __name__ == "__main__":
    sys.exit(oneshot.run("release", work))
