"""The boot menu's files on this host: read for the snapshot and for the loader alike.

Which loader it is, the loader itself says where it can (LoaderInfo); else what lies in /boot.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Final

from trialboot.bootonce import may_be_hidden, read_once
from trialboot.core.bls import COUNT_LIMIT, FILE_LIMIT, EntryFile
from trialboot.core.facts import Unknown
from trialboot.core.grub import Script, names_boot_entries, parse_environment, parse_menu
from trialboot.core.menu import SYSTEMD_BOOT, Menu
from trialboot.core.systemdboot import (
    LOADER_VENDOR,
    NOTHING_BEFORE,
    VARIABLE_LIMIT,
    Before,
    Choices,
    image_of,
    menu_of,
    parse_before,
    parse_default,
    parse_features,
    parse_variable,
)
from trialboot.core.uki import (
    HEAD_LIMIT,
    TEXT_LIMIT,
    ImageFile,
    Section,
    UnifiedImage,
    parse_image,
    parse_sections,
)
from trialboot.efivariables import GLOBAL, VARIABLES
from trialboot.host import Host

GRUB_FOLDER: Final = "/boot/grub"
GRUB_CFG: Final = f"{GRUB_FOLDER}/grub.cfg"
GRUB_ENVIRONMENT: Final = f"{GRUB_FOLDER}/grubenv"
BOOT_SETS: Final = "/boot/trialboot"
"""One folder a kept boot set, by fingerprint, where the boot loader reads /boot (`boot_sets`)."""
KNOWN_GOOD_FILE: Final = f"{BOOT_SETS}/known-good.sh"
"""What the package managers' hook reads, of any loader, and /etc/grub.d/09_trialboot with GRUB."""
BEFORE_FILE: Final = "systemd-boot-before.json"
"""In the folder of the kept boot sets: what systemd-boot's variables held before ours."""
KEPT_FIRMWARE: Final = "/usr/lib/trialboot/kept"
"""One folder a kept boot set, by fingerprint; on the file system of /lib/firmware."""

_GRUB_FILES: Final = (GRUB_CFG, "/boot/grub2/grub.cfg", "/etc/grub2-efi.cfg")
"""RHEL 8 keeps its menu on the ESP where it boots by UEFI, and a link to it in /etc."""
OTHER_GRUB_ENVIRONMENT: Final = "/boot/grub2/grubenv"
_SOURCED: Final = ("custom.cfg", "user.cfg")
ENTRIES: Final = "loader/entries"
_SETTINGS: Final = "loader/loader.conf"
_IMAGES: Final = "EFI/Linux"
_ADDITIONS: Final = "loader/addons"
_ESP_OR_BOOT: Final = ("/efi", "/boot/efi", "/boot")
"""Where the ESP and the boot partition are mounted; the ESP, with the settings, first."""
_BOOT: Final = "/boot"
_BOOT_OR_ESP: Final = (_BOOT, "/efi", "/boot/efi")
"""The same with the boot partition first, as systemd's tools look for it (bootctl(1))."""
_FIRMWARE: Final = "/sys/firmware/efi"
_SECURE_BOOT: Final = f"{VARIABLES}/SecureBoot-{GLOBAL}"
"""A variable of the firmware's own (UEFI specification 2.10, 3.3): one byte behind attributes."""
_MOUNTS: Final = "/proc/self/mountinfo"
_CFG_LIMIT: Final = 1024 * 1024
_BLOCK_LIMIT: Final = 64 * 1024
_ENTRIES_LIMIT: Final = 4 * 1024 * 1024


def read_menu(host: Host) -> Menu | Unknown:
    """Read the menu of this host's boot loader: GRUB, or systemd-boot."""
    loader = _loader(host)
    if isinstance(loader, Unknown):
        return loader
    return _read_systemd_boot(host) if loader == SYSTEMD_BOOT else _read_grub(host, loader)


def boot_sets(host: Host) -> str:
    """Name the folder of the kept boot sets: on a file system that the boot loader reads."""
    if _loader(host) != SYSTEMD_BOOT:
        return BOOT_SETS
    return f"{boot_partition(host)}/trialboot"


def boot_partition(host: Host) -> str:
    """Name the partition that systemd-boot takes entries from: XBOOTLDR, else the ESP.

    Of several folders that look like it the one counts that a file system is mounted at, as where
    /boot on the root file system holds what another loader left.
    """
    found = [f for f in _distinct(host, _BOOT_OR_ESP) if _is_there(host, f"{f}/{ENTRIES}")]
    places = set(_mount_places(host))
    return next((f for f in found if f in places), next(iter(found), _BOOT_OR_ESP[0]))


def read_loader_info(host: Host) -> str | Unknown:
    """Say what the boot loader calls itself; empty where it did not say it."""
    return read_variable(host, "LoaderInfo")


def read_loader_features(host: Host) -> int | Unknown:
    """Give LoaderFeatures: the bits of what the loader can do."""
    shown = f"{VARIABLES}/LoaderFeatures-{LOADER_VENDOR}"
    raw = _content(host.path(shown), shown, limit=VARIABLE_LIMIT)
    return raw if isinstance(raw, Unknown) else parse_features(raw)


def secure_boot(host: Host) -> bool:
    """Tell whether the firmware verifies what it starts; what cannot be read counts as yes."""
    try:
        return host.path(_SECURE_BOOT).read_bytes()[4:] != b"\0"
    except FileNotFoundError:
        return False
    except OSError:
        return True


def read_before(host: Host) -> Before | Unknown:
    """Give what systemd-boot's variables held before ours; nothing where that is not there."""
    shown = f"{boot_partition(host)}/trialboot/{BEFORE_FILE}"
    text = _text(host.path(shown), shown, limit=FILE_LIMIT)
    if isinstance(text, Unknown) or not text:
        return text or NOTHING_BEFORE
    found = parse_before(text)
    return Unknown(f"{shown}: {found.why}") if isinstance(found, Unknown) else found


def _loader(host: Host) -> str | Unknown:
    """Say which loader it is: `systemd-boot`, or the path of GRUB's menu."""
    grub = next((path for path in _GRUB_FILES if _is_there(host, path)), "")
    settings = [f for f in _ESP_OR_BOOT if _is_there(host, f"{f}/{_SETTINGS}")]
    loader = read_loader_info(host)
    if isinstance(loader, Unknown):
        if grub and settings:
            return Unknown(f"GRUB or systemd-boot: {loader.why}")
        loader = ""
    if loader.startswith(SYSTEMD_BOOT) or (settings and not grub and not loader):
        return SYSTEMD_BOOT
    if loader and not loader.startswith("GRUB"):
        return Unknown(f"the boot loader «{loader}» is not understood")
    if grub:
        return grub
    others = ", ".join((*_GRUB_FILES[1:], *(f"{f}/{_SETTINGS}" for f in _ESP_OR_BOOT)))
    return Unknown(f"{GRUB_CFG}: No such file, nor is there any of {others}")


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
    for root, place in _mounts(host):
        if place in {"/", "/boot"} and path.startswith(f"{root}/"):
            yield f"{place.rstrip('/')}{path[len(root) :]}"


def _mount_places(host: Host) -> Iterator[str]:
    return (place for _, place in _mounts(host))


def _mounts(host: Host) -> Iterator[tuple[str, str]]:
    """Give root and place of each mount."""
    content = _content(host.path(_MOUNTS), _MOUNTS, limit=_CFG_LIMIT)
    lines = "" if isinstance(content, Unknown) else content.decode(errors="replace")
    for line in lines.splitlines():
        root, place = [*line.split(), "", "", "", "", ""][3:5]
        yield root, place


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
    block = GRUB_ENVIRONMENT if cfg == GRUB_CFG else OTHER_GRUB_ENVIRONMENT
    environment = read_environment(host, block)
    if isinstance(environment, Unknown):
        return environment
    main = host.path(cfg).resolve()
    files = [(main, cfg), *((main.with_name(n), f"{n} beside {cfg}") for n in _SOURCED)]
    scripts = []
    for path, shown in files:
        text = _text(path, shown, limit=_CFG_LIMIT)
        if isinstance(text, Unknown):
            return text
        scripts.append(Script(shown, text))
    named = any(names_boot_entries(script.text) for script in scripts)
    entries = _entry_files(host, [_BOOT]) if named else None
    if isinstance(entries, Unknown):
        return entries
    told = None if entries is None else tuple(entries)
    menu = parsed_once(tuple(scripts), tuple(environment.items()), told)
    return menu if isinstance(menu, Unknown) else _with_carried(host, menu)


@lru_cache(maxsize=1)
def parsed_once(
    scripts: tuple[Script, ...],
    environment: tuple[tuple[str, str], ...],
    entries: tuple[EntryFile, ...] | None,
) -> Menu | Unknown:
    """Parse a menu: one look reads it several times, and most often the same bytes."""
    return parse_menu(scripts, dict(environment), entries)


def _with_carried(host: Host, menu: Menu) -> Menu | Unknown:
    """Take the one-shot from what carries it, where that is not GRUB's own block.

    GRUB cannot write its own there: a `next_entry` may stay in it for ever, and the guard of
    09_trialboot does not follow it. What lies on a partition that is not mounted, GRUB finds.
    """
    if menu.carrier is None:
        return menu
    once = read_once(host, menu.carrier)
    if isinstance(once, Unknown):
        return once
    folder = menu.carrier.folder
    hidden = folder not in _mount_places(host) and may_be_hidden(host, menu.carrier)
    why = f"what is booted once lies on {folder}, which is not mounted: mount it" if hidden else ""
    return replace(menu, once=once, once_doubt=why)


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
    return menu_of(there, [_image_file(host, *place) for place in images], choices)


def _image_file(host: Host, folder: str, name: str) -> ImageFile:
    path = f"{folder}/{_IMAGES}/{name}"
    image = _with_additions(host, folder, path) or _read_image(host, path)
    return ImageFile(name=name, folder=folder, image=image)


def _with_additions(host: Host, folder: str, path: str) -> Unknown | None:
    """Refuse an image whose command line or initrd other files add to (systemd-stub(7))."""
    for place in (f"{path}.extra.d", f"{folder}/{_ADDITIONS}"):
        if _names(host, place, ""):
            return Unknown(f"{place} adds to it, which is not read yet")
    return None


def _read_image(host: Host, path: str) -> UnifiedImage | Unknown:
    """Read headers and texts of a unified kernel image: little of a large file."""
    try:
        with host.path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            sections = parse_sections(file.read(HEAD_LIMIT), size)
            if isinstance(sections, Unknown):
                return sections
            texts = []
            for name in (".cmdline", ".osrel", ".uname"):
                place = sections.get(name, Section(0, 0))
                if place.size > TEXT_LIMIT:
                    return Unknown(f"its {name} has more than {TEXT_LIMIT} bytes")
                file.seek(place.offset)
                texts.append(file.read(place.size))
    except OSError as error:
        return Unknown(f"{path}: {error.strerror}")
    return parse_image(sections, *texts)


def _choices(host: Host) -> Choices | Unknown:
    places = [f"{folder}/{_SETTINGS}" for folder in _ESP_OR_BOOT]
    place = next((place for place in places if _is_there(host, place)), places[-1])
    settings = _text(host.path(place), place, limit=FILE_LIMIT)
    if isinstance(settings, Unknown):
        return settings
    values = []
    for name in ("Default", "OneShot", "LastBooted", "Selected"):
        value = read_variable(host, f"LoaderEntry{name}")
        if isinstance(value, Unknown):
            return value
        values.append(value)
    before = read_before(host)
    if isinstance(before, Unknown):
        return before
    default, once, last, booted = values
    return Choices(
        file=parse_default(settings),
        default=default,
        once=once,
        last=last,
        booted=booted,
        before=before,
    )


def read_variable(host: Host, name: str) -> str | Unknown:
    """Read one of the loader's EFI variables; empty where it is not set, or there is no EFI."""
    if not _is_there(host, _FIRMWARE):
        return ""
    shown = f"{VARIABLES}/{name}-{LOADER_VENDOR}"
    content = _content(host.path(shown), shown, limit=VARIABLE_LIMIT)
    if isinstance(content, Unknown):
        return content
    if not content:
        others = _names(host, VARIABLES, "")
        mounted = isinstance(others, list) and bool(others)  # the firmware has some of its own
        return "" if mounted else Unknown(f"{VARIABLES} shows no variable")
    value = parse_variable(content)
    return Unknown(f"{shown}: {value.why}") if isinstance(value, Unknown) else value


def _entry_files(host: Host, folders: Sequence[str]) -> list[EntryFile] | Unknown:
    """Read the files of `loader/entries`; a large one is refused, too many are Unknown."""
    named = _named(host, folders, ENTRIES, ".conf")
    if isinstance(named, Unknown):
        return named
    files, total = [], 0
    for folder, name in named:
        shown = f"{folder}/{ENTRIES}/{name}"
        text = _text(host.path(shown), shown, limit=FILE_LIMIT)
        files.append(EntryFile(name=name, text=text, folder=folder))
        total += 0 if isinstance(text, Unknown) else len(text)
        if total > _ENTRIES_LIMIT:
            return Unknown(f"{ENTRIES} holds more than {_ENTRIES_LIMIT} bytes")
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
