"""Reads what is loaded and kept of eBPF: programs by their cost, maps, links, pins.

For people and metrics, once a verification: unlike the places of `readers.ebpf` it asks for every
object that the host has. Layouts: linux/bpf.h.
"""

import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from trialboot.bpf import (
    LINKS,
    MAPS,
    PROGRAMS,
    Kind,
    Syscall,
    bpf,
    described,
    ids,
    map_name,
    program_name,
)
from trialboot.core.cni import pod_class
from trialboot.core.facts import BpfObjects, ProgramSize, Unknown
from trialboot.host import Host

MOST_PINS: Final = 10_000
_LARGEST: Final = 10
_VERIFIED: Final = 216  # verified_insns of struct bpf_prog_info
_PINS: Final = "/sys/fs/bpf"
_WORD: Final = re.compile(r"[0-9A-Za-z]+")
_NUMBER: Final = re.compile(r"[0-9a-f]{8,}|[0-9]+")
_LINK_TYPES: Final = (
    "unspecified", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event",
    "kprobe_multi", "struct_ops", "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap",
)  # fmt: skip


def read_objects(host: Host, *, syscall: Syscall = bpf) -> BpfObjects | Unknown:
    """Read all programs, maps and links of the host, and the pins in its bpffs."""
    try:
        programs = list(_described(syscall, PROGRAMS))
        return BpfObjects(
            programs=len(programs),
            largest=largest(programs),
            maps=_counted(map(map_name, _described(syscall, MAPS))),
            links=_counted(map(_link_type, _described(syscall, LINKS))),
            pins=_read_pins(host.path(_PINS)),
        )
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def largest(programs: Iterable[bytes]) -> tuple[ProgramSize, ...]:
    """Give the ten programs that cost the verifier most, the dearest first.

    Of programs of one name, such as those of all pods, the dearest stands for all.
    """
    sizes: dict[str, int] = {}
    for info in programs:
        name, (size,) = program_name(info), struct.unpack_from("=I", info, _VERIFIED)
        sizes[name] = max(size, sizes.get(name, 0))
    dearest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LARGEST]
    return tuple(ProgramSize(program=name, verified_instructions=n) for name, n in dearest)


def pin_class(path: str) -> str:
    """Write `*` for what a reboot renumbers: pods' interfaces, numbers, hashes."""
    return _WORD.sub(lambda word: pod_class(word[0]) or _NUMBER.sub("*", word[0]), path)


def _described(syscall: Syscall, kind: Kind) -> Iterator[bytes]:
    return filter(None, (described(syscall, kind, id_) for id_ in ids(syscall, kind)))


def _counted(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(names).items()))


def _link_type(info: bytes) -> str:
    (number,) = struct.unpack_from("=I", info)
    return _LINK_TYPES[number] if number < len(_LINK_TYPES) else f"type {number}"


def _read_pins(folder: Path) -> tuple[str, ...]:
    """Give the classes of the pins; of a bpffs with more than `MOST_PINS` entries a part only."""
    entries = list(islice(_entries(folder), MOST_PINS + 1))
    pins = {pin_class(_told(entry, folder)) for entry, is_folder in entries if not is_folder}
    if len(entries) > MOST_PINS:
        pins.add(f"... and what is beyond {MOST_PINS} entries")
    return tuple(sorted(pins))


def _told(entry: str, folder: Path) -> str:
    inside = os.fsencode(os.path.relpath(entry, folder))  # whatever bytes the name has
    return f"{_PINS}/{inside.decode(errors='replace')}"


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Give everything below a folder, and whether it is a folder; what goes away is not there."""
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as found:
            for entry in found:
                is_folder = entry.is_dir(follow_symlinks=False)
                yield entry.path, is_folder
                waiting += [entry.path] * is_folder
