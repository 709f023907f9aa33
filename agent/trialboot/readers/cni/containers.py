"""Which pod, container or service a process belongs to, and what its runtime calls it."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from trialboot.host import Host
from trialboot.readers.cni.files import printable, read_whole

_POD: Final = re.compile(
    r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)
"""`pod` and the pod's UID: slices have `_` for `-`; a static pod's is the hash of its file."""
_CONTAINER: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UNIT: Final = re.compile(r"/([^/]+\.service)(?=/|$)")
_TASKS: Final = "io.containerd.runtime.v2.task/k8s.io"
_SPECIFICATIONS: Final = (
    f"/run/containerd/{_TASKS}/{{}}/config.json",
    f"/run/k3s/containerd/{_TASKS}/{{}}/config.json",  # and RKE2
    f"/run/k0s/containerd/{_TASKS}/{{}}/config.json",
    f"/var/snap/microk8s/common/run/containerd/{_TASKS}/{{}}/config.json",
    "/run/containers/storage/overlay-containers/{}/userdata/config.json",  # CRI-O
    "/var/lib/docker/containers/{}/config.v2.json",
)
_NAMES: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_IMAGES: Final = (
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.ImageRef",
    "Image",
)
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""What Kubernetes allows as a container's name (RFC 1123): never a path."""
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the control groups put a process; empty where they tell nothing."""

    pod: str = ""
    container: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a runtime knows of one container; empty where it tells nothing."""

    name: str = ""
    image: str = ""


def read_place(host: Host, pid: int) -> Place | None:
    """Read where a process belongs; None once it has ended."""
    path = str(host.path(f"/proc/{pid}/cgroup"))
    try:
        return parse_place(read_whole(path, 64 << 10).decode(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return Place()


def parse_place(text: str) -> Place:
    """Turn /proc/PID/cgroup into a place (cgroups(7)): one line, or one a hierarchy of v1."""
    paths = [line.split(":", 2)[-1] for line in text.splitlines()]
    pods = [pod.replace("_", "-") for path in paths for pod in _POD.findall(path)]
    containers = [identity for path in paths for identity in _CONTAINER.findall(path)]
    system = (path for path in paths if not path.startswith("/user.slice/"))
    units = [printable(unit) for path in system for unit in _UNIT.findall(path)]
    pod, container = _last(pods), _last(containers)
    return Place(pod=pod, container=container, unit="" if pod or container else _last(units))


def _last(words: list[str]) -> str:
    return words[-1] if words else ""


def read_container(host: Host, identity: str) -> Container:
    """Ask the files of each runtime for a container, by its id."""
    for specification in _SPECIFICATIONS if identity else ():
        with suppress(OSError):
            path = str(host.path(specification.format(identity)))
            return parse_container(read_whole(path, _LARGEST))
    return Container()


def parse_container(raw: bytes) -> Container:
    """Take name and image from an OCI runtime specification, or from docker's own file."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return Container()
    docker = _object(found, "Config")
    notes = {**_object(docker, "Labels"), **_object(found, "annotations")}
    notes.setdefault("Image", docker.get("Image"))
    names = [name for name in _texts(notes, _NAMES) if _NAME.fullmatch(name)]
    images = _texts(notes, _IMAGES)
    with_digest = [image for image in images if "@" in image]
    return Container(
        name=next(iter(names), ""), image=printable(next(iter([*with_digest, *images]), ""))
    )


def _object(found: Any, key: str) -> dict[str, Any]:
    inner = found.get(key) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}


def _texts(notes: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [notes[key] for key in keys if isinstance(notes.get(key), str) and notes[key]]
