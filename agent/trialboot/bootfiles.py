"""The boot menu's files on this host: read for the snapshot and for the loader alike.

Which loader it is, the loader itself says where it can (LoaderInfo); else what lies in /boot.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Final

from trialboot.core.bls import COUNT_LIMIT, FILE_LIMIT, EntryFile
from trialboot.core.facts import Unknown
from trialboot.core.grub import names_boot_entries, parse_environment, parse_menu
from trialboot.core.menu import Menu
from trialboot.core.systemdboot import (
    LOADER_VENDOR,
    VARIABLE_LIMIT,
    Choices,
    image_of,
    menu_of,
    parse_default,
    parse_variable,
)
from trialboot.host import Host

GRUB_FOLDER: Final = "/boot/grub"
GRUB_CFG: Final = f"{GRUB_FOLDER}/grub.cfg"
GRUB_ENVIRONMENT: Final = f"{GRUB_FOLDER}/grubenv"
BOOT_SETS: Final = "/boot/trialboot"
"""One folder a kept boot set, by fingerprint, where the boot loader reads /boot (`boot_sets`)."""
KNOWN_GOOD_FILE: Final = f"{BOOT_SETS}/known-good.sh"
"""What /etc/grub.d/09_trialboot reads. Without it the host's menu is its own."""
KEPT_FIRMWARE: Final = "/usr/lib/trialboot/kept"
"""One folder a kept boot set, by fingerprint; on the file system of /lib/firmware."""

_GRUB_FILES: Final = (GRUB_CFG, "/boot/grub2/grub.cfg", "/etc/grub2-efi.cfg")
"""RHEL 8 keeps its menu on the ESP where it boots by UEFI, and a link to it in /etc."""
_OTHER_GRUB_BLOCK: Final = "/boot/grub2/grubenv"
_SOURCED: Final = ("custom.cfg", "user.cfg")
_ENTRIES: Final = "loader/entries"
_SETTINGS: Final = "loader/loader.conf"
_IMAGES: Final = "EFI/Linux"
_ESP_OR_BOOT: Final = ("/efi", "/boot/efi", "/boot")
"""Where the ESP and the boot partition are mounted; the ESP, with the settings, first."""
_BOOT: Final = "/boot"
_FIRMWARE: Final = "/sys/firmware/efi"
_VARIABLES: Final = f"{_FIRMWARE}/efivars"
_MOUNTS: Final = "/proc/self/mountinfo"
_CFG_LIMIT: Final = 1024 * 1024
_BLOCK_LIMIT: Final = 64 * 1024
_ENTRIES_LIMIT: Final = 4 * 1024 * 1024


def read_menu(host: Host) -> Menu | Unknown:
    """Read the menu of this host's boot loader: GRUB, or systemd-boot."""
    grub = next((path for path in _GRUB_FILES if _is_there(host, path)), "")
    settings = [f for f in _ESP_OR_BOOT if _is_there(host, f"{f}/{_SETTINGS}")]
    loader = _variable(host, "LoaderInfo")
    if isinstance(loader, Unknown):
        if grub and settings:
            return Unknown(f"GRUB or systemd-boot: {loader.why}")
        loader = ""
    if loader.startswith("systemd-boot") or (settings and not grub and not loader):
        return _read_systemd_boot(host)
    if loader and not loader.startswith("GRUB"):
        return Unknown(f"the boot loader «{loader}» is not understood")
    if grub:
        return _read_grub(host, grub)
    others = ", ".join((*_GRUB_FILES[1:], *(f"{f}/{_SETTINGS}" for f in _ESP_OR_BOOT)))
    return Unknown(f"{GRUB_CFG}: No such file, nor is there any of {others}")


def boot_sets(host: Host) -> str:
    """Name the folder of the kept boot sets: on a file system that the boot loader reads."""
    del host
    return BOOT_SETS


def read_environment(host: Host, path: str = GRUB_ENVIRONMENT) -> dict[str, str] | Unknown:
    """Read the environment block. Missing, empty or garbage is to GRUB a block without keys."""
    content = _content(host.path(path), path, limit=_BLOCK_LIMIT)
    if isinstance(content, Unknown):
        return content
    found = parse_environment(content)
    return {} if isinstance(found, Unknown) else found


def host_path(host: Host, path: str) -> str | Unknown:
    """Find the file of the host that the menu names so.

    GRUB's paths start at the file system of /boot: with a separate /boot they lack `/boot`, and on
    btrfs they begin with the subvolume.
    """
    for place in chain((f"/boot{path}", path), _in_subvolumes(host, path)):
        if path.startswith("/") and _is_there(host, place):
            return place
    return Unknown(f"{path} is neither below /boot nor below /")


def _in_subvolumes(host: Host, path: str) -> Iterator[str]:
    """Give what a path of a mounted file system is on this host (proc_pid_mountinfo(5))."""
    content = _content(host.path(_MOUNTS), _MOUNTS, limit=_CFG_LIMIT)
    lines = "" if isinstance(content, Unknown) else content.decode(errors="replace")
    for line in lines.splitlines():
        root, place = [*line.split(), "", "", "", "", ""][3:5]
        if place in {"/", "/boot"} and path.startswith(f"{root}/"):
            yield f"{place.rstrip('/')}{path[len(root) :]}"


def _is_there(host: Host, path: str) -> bool:
    """Tell whether a path of a menu names anything: one that is no path at all does not."""
    try:
        return host.exists(path)
    except OSError:
        return False


def _content(path: Path, shown: str, *, limit: int) -> bytes | Unknown:
    """Read a file; a missing one is empty, one above `limit` bytes is refused."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        return Unknown(f"{shown}: {error.strerror} (errno {error.errno})")
    if len(content) > limit:
        return Unknown(f"{shown} is refused: it has more than {limit} bytes")
    return content


def _text(path: Path, shown: str, *, limit: int) -> str | Unknown:
    content = _content(path, shown, limit=limit)
    return content if isinstance(content, Unknown) else content.decode("utf-8", "surrogateescape")


# --- GRUB -------------------------------------------------------------------------------------


def _read_grub(host: Host, cfg: str) -> Menu | Unknown:
    """Read GRUB's menu, with the files that it sources and those of its boot entries."""
    block = GRUB_ENVIRONMENT if cfg == GRUB_CFG else _OTHER_GRUB_BLOCK
    environment = read_environment(host, block)
    if isinstance(environment, Unknown):
        return environment
    main = host.path(cfg).resolve()
    files = [(main, cfg), *((main.with_name(n), f"{n} beside {cfg}") for n in _SOURCED)]
    texts = []
    for path, shown in files:
        text = _text(path, shown, limit=_CFG_LIMIT)
        if isinstance(text, Unknown):
            return text
        texts.append(text)
    menu = "\n".join(texts)
    entries = _entry_files(host, [_BOOT]) if names_boot_entries(menu) else None
    return entries if isinstance(entries, Unknown) else parse_menu(menu, environment, entries)


# --- boot entries, and systemd-boot ------------------------------------------------------------


def _read_systemd_boot(host: Host) -> Menu | Unknown:
    folders = _distinct(host, _ESP_OR_BOOT)
    files = _entry_files(host, folders)
    if isinstance(files, Unknown):
        return files
    images = _named(host, folders, _IMAGES, ".efi")
    if isinstance(images, Unknown):
        return images
    choices = _choices(host)
    if isinstance(choices, Unknown):
        return choices
    there = [f for f in files if not (image := image_of(f)) or _is_there(host, image)]
    return menu_of(there, [name for _, name in images], choices)


def _choices(host: Host) -> Choices | Unknown:
    places = [f"{folder}/{_SETTINGS}" for folder in _ESP_OR_BOOT]
    place = next((place for place in places if _is_there(host, place)), places[-1])
    settings = _text(host.path(place), place, limit=FILE_LIMIT)
    if isinstance(settings, Unknown):
        return settings
    values = []
    for name in ("Default", "OneShot", "LastBooted", "Selected"):
        value = _variable(host, f"LoaderEntry{name}")
        if isinstance(value, Unknown):
            return value
        values.append(value)
    default, once, last, booted = values
    return Choices(
        file=parse_default(settings), default=default, once=once, last=last, booted=booted
    )


def _variable(host: Host, name: str) -> str | Unknown:
    """Read one of the loader's EFI variables; empty where it is not set, or there is no EFI."""
    if not _is_there(host, _FIRMWARE):
        return ""
    shown = f"{_VARIABLES}/{name}-{LOADER_VENDOR}"
    content = _content(host.path(shown), shown, limit=VARIABLE_LIMIT)
    if isinstance(content, Unknown):
        return content
    if not content:
        others = _names(host, _VARIABLES, "")
        mounted = isinstance(others, list) and bool(others)  # the firmware has some of its own
        return "" if mounted else Unknown(f"{_VARIABLES} shows no variable")
    value = parse_variable(content)
    return Unknown(f"{shown}: {value.why}") if isinstance(value, Unknown) else value


def _entry_files(host: Host, folders: Sequence[str]) -> list[EntryFile] | Unknown:
    """Read the files of `loader/entries`; a large one is refused, too many are Unknown."""
    named = _named(host, folders, _ENTRIES, ".conf")
    if isinstance(named, Unknown):
        return named
    files, total = [], 0
    for folder, name in named:
        shown = f"{folder}/{_ENTRIES}/{name}"
        text = _text(host.path(shown), shown, limit=FILE_LIMIT)
        files.append(EntryFile(name=name, text=text, folder=folder))
        total += 0 if isinstance(text, Unknown) else len(text)
        if total > _ENTRIES_LIMIT:
            return Unknown(f"{_ENTRIES} holds more than {_ENTRIES_LIMIT} bytes")
    return files


def _named(
    host: Host, folders: Sequence[str], below: str, ending: str
) -> list[tuple[str, str]] | Unknown:
    """Name the files below several folders, each with its folder."""
    found: list[tuple[str, str]] = []
    for folder in folders:
        names = _names(host, f"{folder}/{below}", ending)
        if isinstance(names, Unknown):
            return names
        found += [(folder, name) for name in names]
    if len(found) > COUNT_LIMIT:
        return Unknown(f"{below} holds more than {COUNT_LIMIT} entries")
    return found


def _names(host: Host, folder: str, ending: str) -> list[str] | Unknown:
    """Name the files of a folder; of very many, one more than anybody takes."""
    try:
        with os.scandir(host.path(folder)) as entries:
            wanted = (e.name for e in entries if e.name.lower().endswith(ending) and e.is_file())
            return sorted(islice(wanted, COUNT_LIMIT + 1))
    except FileNotFoundError:
        return []
    except OSError as error:
        return Unknown(f"{folder}: {error.strerror}")


def _distinct(host: Host, folders: Sequence[str]) -> list[str]:
    """Leave out what is the same folder under another name, as where /efi is a link to /boot."""
    found: dict[tuple[int, int], str] = {}
    for folder in folders:
        if _is_there(host, folder):
            status = host.path(folder).stat()
            found.setdefault((status.st_dev, status.st_ino), folder)
    return list(found.values())
