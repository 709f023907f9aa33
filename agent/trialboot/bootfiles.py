"""The boot menu's files on this host: read for the snapshot and for the loader alike."""

from typing import Final

from trialboot.core.facts import Unknown
from trialboot.core.grub import parse_environment, parse_menu
from trialboot.core.menu import Menu
from trialboot.host import Host

GRUB_FOLDER: Final = "/boot/grub"
GRUB_CFG: Final = f"{GRUB_FOLDER}/grub.cfg"
GRUB_ENVIRONMENT: Final = f"{GRUB_FOLDER}/grubenv"
BOOT_SETS: Final = "/boot/trialboot"
"""One folder a kept boot set, by fingerprint."""
KNOWN_GOOD_FILE: Final = f"{BOOT_SETS}/known-good.sh"
"""What /etc/grub.d/09_trialboot reads. Without it the host's menu is its own."""
KEPT_FIRMWARE: Final = "/usr/lib/trialboot/kept"
"""One folder a kept boot set, by fingerprint; on the file system of /lib/firmware."""
_CUSTOM: Final = f"{GRUB_FOLDER}/custom.cfg"


def read_menu(host: Host) -> Menu | Unknown:
    """Read GRUB's menu, with the custom.cfg that the generated file sources, if there is one."""
    environment = read_environment(host)
    if isinstance(environment, Unknown):
        return environment
    try:
        text = host.path(GRUB_CFG).read_text("utf-8", "surrogateescape")
        custom = host.path(_CUSTOM)
        if custom.exists():
            text += "\n" + custom.read_text("utf-8", "surrogateescape")
    except OSError as error:
        return Unknown(f"{GRUB_CFG}: {error.strerror} (errno {error.errno})")
    return parse_menu(text, environment)


def read_environment(host: Host) -> dict[str, str] | Unknown:
    """Read the environment block. Missing, empty or garbage is to GRUB a block without keys."""
    try:
        content = host.path(GRUB_ENVIRONMENT).read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        return Unknown(f"{GRUB_ENVIRONMENT}: {error.strerror} (errno {error.errno})")
    found = parse_environment(content)
    return {} if isinstance(found, Unknown) else found


def host_path(host: Host, path: str) -> str | Unknown:
    """Find the file of the host that GRUB names so.

    GRUB's paths start at the file system of /boot: with a separate /boot they lack `/boot`.
    """
    for place in (f"/boot{path}", path):
        if path.startswith("/") and host.exists(place):
            return place
    return Unknown(f"{path} is neither below /boot nor below /")
