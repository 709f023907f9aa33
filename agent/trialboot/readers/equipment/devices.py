"""Firmware inside devices, as /sys and /proc tell it: BIOS, microcode, disks, InfiniBand, GPUs.

Sources: Documentation/ABI/ of the kernel (sysfs-firmware-dmi-tables, sysfs-class-infiniband,
sysfs-driver-amdgpu), and NVIDIA's /proc/driver/nvidia. What waits in such a device for its next
start is told by none of them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from trialboot.core.facts import Device
from trialboot.errors import HostError
from trialboot.host import Host

_DMI: Final = "/sys/class/dmi/id"
_NVIDIA: Final = "/proc/driver/nvidia/gpus"
_CARD: Final = re.compile(r"card\d+", re.ASCII)
_MICROCODE: Final = re.compile(r"^microcode[ \t]*:[ \t]*(\w+)[ \t]*$", re.ASCII | re.MULTILINE)
_NVIDIA_LINE: Final = re.compile(r"^(Model|Video BIOS|GPU Firmware):(.*)$", re.MULTILINE)
_LONGEST: Final = 200
_NOTHING: Final = re.compile(r"(?:0x)?0*|N/A|\?[?.]*", re.IGNORECASE)
"""How a device says that it has none: zeros, N/A, or `??.??.??.??.??`."""


@dataclass(frozen=True, slots=True)
class _View:
    """The host as these sources see it: what is not there is empty, what is unreadable is told."""

    host: Host
    unread: list[str] = field(default_factory=list)

    def text(self, path: str) -> str:
        try:
            return self.host.read_text(path)
        except HostError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                self.unread.append(str(error))
            return ""

    def word(self, path: str) -> str:
        return _plain(self.text(path))

    def names(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(path.name for path in self.host.path(folder).iterdir()))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            self.unread.append(f"{folder}: {error.strerror}")
            return ()


def read_devices(host: Host) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Read what each source tells: the devices, and a sentence for each that cannot be read."""
    view = _View(host)
    devices = tuple(device for source in _SOURCES for device in source(view))
    return devices, tuple(view.unread)


def parse_microcode(text: str) -> tuple[str, ...]:
    """Give the revisions of `/proc/cpuinfo`, each once, sorted. Guests often see a made-up one."""
    return tuple(sorted(set(_MICROCODE.findall(text))))


def parse_nvidia(text: str) -> dict[str, str]:
    """Give `Model`, `Video BIOS` and `GPU Firmware` of `/proc/driver/nvidia/gpus/BUS/information`.

    What the driver does not know (`N/A`, `??`) is left out.
    """
    rows = {key: _plain(value) for key, value in _NVIDIA_LINE.findall(text)}
    return {key: value for key, value in rows.items() if not _NOTHING.fullmatch(value)}


def _bios(view: _View) -> Iterator[Device]:
    version, date = view.word(f"{_DMI}/bios_version"), view.word(f"{_DMI}/bios_date")
    running = f"{version} ({date})" if version and date else version or date
    if running:
        yield Device(kind="bios", name=view.word(f"{_DMI}/bios_vendor"), running=running)


def _microcode(view: _View) -> Iterator[Device]:
    revisions = parse_microcode(view.text("/proc/cpuinfo"))
    if revisions:
        yield Device(kind="microcode", name="CPU", running=", ".join(revisions))


def _nvme(view: _View) -> Iterator[Device]:
    for name in view.names("/sys/class/nvme"):
        folder = f"/sys/class/nvme/{name}"
        yield from _revision(view, "nvme", name, folder, "firmware_rev")


def _disks(view: _View) -> Iterator[Device]:
    for name in view.names("/sys/block"):
        yield from _revision(view, "disk", name, f"/sys/block/{name}/device", "rev")


def _revision(view: _View, kind: str, name: str, folder: str, file: str) -> Iterator[Device]:
    running = view.word(f"{folder}/{file}")
    if running:
        model = view.word(f"{folder}/model")
        yield Device(kind=kind, name=f"{name} ({model})" if model else name, running=running)


def _infiniband(view: _View) -> Iterator[Device]:
    for name in view.names("/sys/class/infiniband"):
        running = view.word(f"/sys/class/infiniband/{name}/fw_ver")
        if running:
            yield Device(kind="infiniband", name=name, running=running)


def _amdgpu(view: _View) -> Iterator[Device]:
    cards = (name for name in view.names("/sys/class/drm") if _CARD.fullmatch(name))
    for card in cards:
        device = f"/sys/class/drm/{card}/device"
        parts = {"vbios": view.word(f"{device}/vbios_version")}
        for file in view.names(f"{device}/fw_version"):
            name = file.removesuffix("_fw_version")
            parts[name] = view.word(f"{device}/fw_version/{file}")
        for part, running in parts.items():
            if not _NOTHING.fullmatch(running):
                yield Device(kind="gpu", name=f"{card} {part}", running=running)


def _nvidia(view: _View) -> Iterator[Device]:
    for bus in view.names(_NVIDIA):
        told = parse_nvidia(view.text(f"{_NVIDIA}/{bus}/information"))
        for part in ("Video BIOS", "GPU Firmware"):
            if part in told:
                name = " ".join(word for word in (bus, told.get("Model", ""), part) if word)
                yield Device(kind="gpu", name=name, running=told[part])


def _plain(text: str) -> str:
    """Make a device's words fit for a line of a report: printable, single blanks, not endless."""
    words = " ".join(text.split())[:_LONGEST]
    return "".join(letter if letter.isprintable() else "?" for letter in words)


_SOURCES: Final[tuple[Callable[[_View], Iterator[Device]], ...]] = (
    _bios,
    _microcode,
    _nvme,
    _disks,
    _infiniband,
    _amdgpu,
    _nvidia,
)
