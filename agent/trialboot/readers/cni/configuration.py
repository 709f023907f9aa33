"""The CNI configuration that the container runtime uses, as libcni and go-cni choose it."""

import hashlib
import json
import os
from itertools import islice
from typing import Any, Final

from trialboot.core.facts import CniConfiguration, Unknown
from trialboot.host import Host
from trialboot.readers.cni.files import printable, read_whole

_FOLDERS: Final = (
    # Where a distribution has a folder of its own, /etc/cni/net.d is at most podman's.
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
    "/etc/kubernetes/cni/net.d",
    "/etc/cni/net.d",
)
_ENDINGS: Final = (".conf", ".conflist", ".json")
_MOST_FILES: Final = 10_000
_LARGEST: Final = 1 << 20


def read_configuration(host: Host) -> CniConfiguration | Unknown | None:
    """Read the first file by name of the first folder that has one; None where none has.

    A first file that makes no sense hides the rest from containerd too: it is Unknown.
    """
    for folder in _FOLDERS:
        found = _read_folder(host, folder)
        if found is not None:
            return found
    return None


def parse_configuration(path: str, raw: bytes) -> CniConfiguration | Unknown:
    """Turn one file into plugin types in order: a list has `plugins`, a single one is its own."""
    shown = printable(path)
    try:
        found = json.loads(raw)
        plugins = found["plugins"] if path.endswith(".conflist") else [found]
        types = tuple(_type(plugin) for plugin in plugins)
    except (ValueError, RecursionError) as error:
        return Unknown(f"{shown}: it is no JSON: {printable(str(error))}")
    except (KeyError, TypeError):
        return Unknown(f"{shown}: it is no CNI configuration")
    if not types:
        return Unknown(f"{shown}: it names no plugin")
    digest = hashlib.sha256(raw).hexdigest()
    return CniConfiguration(path=shown, plugins=types, digest=digest)


def _read_folder(host: Host, folder: str) -> CniConfiguration | Unknown | None:
    path = folder
    try:
        name = _first(os.fspath(host.path(folder)))
        if name is None:
            return None
        path = f"{folder}/{name}"
        return parse_configuration(path, read_whole(str(host.path(path)), _LARGEST))
    except OSError as error:
        return Unknown(f"{printable(path)}: {error.strerror}")


def _type(plugin: Any) -> str:
    """Give a plugin's type. Raises `KeyError` or `TypeError` where it has none."""
    kind = plugin["type"]
    if not isinstance(kind, str) or not kind:
        raise TypeError
    return printable(kind)


def _first(folder: str) -> str | None:
    """Name the first file of a folder; None where there is none. Raises `OSError`."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with entries:
        names = [
            entry.name
            for entry in islice(entries, _MOST_FILES)
            if entry.name.endswith(_ENDINGS) and not entry.is_dir(follow_symlinks=False)
        ]
    return min(names, key=os.fsencode, default=None)
