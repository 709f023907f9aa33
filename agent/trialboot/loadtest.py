"""The load test: keep a CNI's compiled programs, and ask another kernel whether it takes them.

Each object is loaded whole in a process of its own that may hang or die. What goes wrong on the
way is no verdict on the kernel.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from trialboot import confined, libbpf
from trialboot.bpf import bpf, loaded_tags
from trialboot.core.facts import Kernel, Unknown
from trialboot.core.loadtest import (
    Accepted,
    KeptObject,
    LoadTest,
    Manifest,
    Probe,
    Program,
    Refused,
    Tried,
    is_evidence,
    load_check,
)
from trialboot.core.record import parse, plain
from trialboot.core.verdict import Check
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.readers.objects import Found, read_objects
from trialboot.readers.probes import read_probes
from trialboot.writers import objects, store

MANIFEST: Final = f"{store.STATE}/objects.json"
RESULT: Final = f"{store.RUN}/load-test.json"

Result: TypeAlias = Accepted | Refused | Unknown
Load: TypeAlias = Callable[[bytes, str], Result]

_EACH_SECONDS: Final = 20.0
_MEMORY: Final = 2 << 30  # address space of the process that loads
_LEAST_AVAILABLE: Final = 512  # MiB
_AVAILABLE: Final = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)


def _tags() -> tuple[str, ...]:
    try:
        return tuple(loaded_tags(bpf))
    except OSError as error:
        raise HostError(f"the loaded programs cannot be walked: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the running kernel is asked by; tests hand in another one."""

    load: Load
    probe: Callable[[Host], tuple[Probe, ...]] = read_probes
    tags: Callable[[], Iterable[str]] = _tags


def load_confined(content: bytes, name: str) -> Result:
    """Load one object in a child process; it dies, or takes too long, without a verdict."""
    library = libbpf.find_library()

    def load() -> bytes:
        tried = Tried(name=name, digest="", result=libbpf.load(content, name, library))
        return json.dumps(plain(tried)).encode()

    try:
        answer = confined.call(load, seconds=_EACH_SECONDS, memory=_MEMORY)
        return parse(Tried, json.loads(answer)).result
    except (HostError, ValueError) as error:
        return Unknown(str(error))


THIS_KERNEL: Final = Kernels(load_confined)


def run(host: Host, *, seconds: float, ask: Kernels = THIS_KERNEL) -> LoadTest:
    """Load what the kernel before took, for at most so many seconds. Raises `HostError`."""
    began = host.monotonic()
    boot, runs = kernel.read_boot_id(host), kernel.read_kernel(host)
    if isinstance(runs, Unknown):
        raise HostError(f"the running kernel cannot be told: {runs.why}")
    manifest = store.load(host, MANIFEST, Manifest)
    why = _why_not_needed(manifest, runs)
    if why or not isinstance(manifest, Manifest):
        return LoadTest(boot=boot, release=runs.release, not_needed=why)
    patient = _Patient(host, began + seconds, ask.load)
    probes = ask.probe(host)
    tried = tuple(_try(host, one, patient) for one in manifest.objects if is_evidence(one))
    took = host.monotonic() - began
    return LoadTest(
        boot=boot, release=runs.release, objects=tried, probes=probes, seconds=round(took, 3)
    )


def answer(host: Host) -> Check:
    """Give the check of this boot, from what is kept and what its load test left."""
    return load_check(*records(host), kernel.read_boot_id(host))


def records(
    host: Host,
) -> tuple[Manifest | Unknown | None, LoadTest | Unknown | None]:
    """Give what is kept, and what the last load test of this boot found."""
    return store.load(host, MANIFEST, Manifest), store.load(host, RESULT, LoadTest)


def keep(host: Host, *, seconds: float, ask: Kernels = THIS_KERNEL) -> Manifest | None:
    """Keep the CNI's objects with what this kernel says of each; None where nothing is new.

    To be called on a boot whose verdict is sound. Raises `HostError` and `StoreError`.
    """
    runs = kernel.read_kernel(host)
    if isinstance(runs, Unknown):
        raise HostError(f"the running kernel cannot be told: {runs.why}")
    found, left_out = read_objects(host)
    seen = _digest_of(found)
    before = store.load(host, MANIFEST, Manifest)
    loaded = frozenset(ask.tags())
    if isinstance(before, Manifest) and _is_still_true(before, runs, seen, loaded):
        return None
    patient = _Patient(host, host.monotonic() + seconds, ask.load)
    known = before if isinstance(before, Manifest) and _is_of(before, runs) else None
    kept = tuple(_tried_and_kept(host, found, patient, known, loaded))
    unused = len(_by_digest(found)) - len(kept)
    told = (f"{unused} objects that the CNI does not use",) if unused else ()
    manifest = Manifest(
        boot=kernel.read_boot_id(host), release=runs.release, version=runs.version, seen=seen,
        objects=kept, left_out=(*left_out, *told), probes=ask.probe(host),
    )  # fmt: skip
    store.save(host, MANIFEST, manifest)
    objects.forget_others(host, {one.digest for one in kept})
    return manifest


@dataclass(frozen=True, slots=True)
class _Patient:
    """Loads one object after the other, until the time is up or memory lacks."""

    host: Host
    until: float
    load: Load

    def __call__(self, content: bytes, name: str) -> Result:
        if self.host.monotonic() > self.until:
            return Unknown("the time for the load test was up before its turn")
        available = _available(self.host)
        if available is None or available < _LEAST_AVAILABLE:
            return Unknown(f"less than {_LEAST_AVAILABLE} MiB of memory are available")
        return self.load(content, name)


def _available(host: Host) -> int | None:
    """Give MemAvailable in MiB; None where it cannot be told."""
    try:
        found = _AVAILABLE.search(host.read_text("/proc/meminfo"))
    except HostError:
        return None
    return int(found[1]) >> 10 if found else None


def _why_not_needed(manifest: Manifest | Unknown | None, runs: Kernel) -> str:
    if manifest is None:
        return "no compiled programs of a CNI are kept"
    if isinstance(manifest, Unknown):
        return f"what is kept cannot be read: {manifest.why}"
    if _is_of(manifest, runs):
        return "the kernel is the one that they were tried on"
    return ""


def _is_of(manifest: Manifest, runs: Kernel) -> bool:
    return (manifest.release, manifest.version) == (runs.release, runs.version)


def _try(host: Host, kept: KeptObject, load: Load) -> Tried:
    content = objects.recall(host, kept.digest)
    result = content if isinstance(content, Unknown) else load(content, kept.name)
    return Tried(name=kept.name, digest=kept.digest, result=result)


def _is_still_true(before: Manifest, runs: Kernel, seen: str, loaded: frozenset[str]) -> bool:
    used = {program.tag for one in before.objects for program in one.used}
    return _is_of(before, runs) and before.seen == seen and used <= loaded


def _digest_of(found: tuple[Found, ...]) -> str:
    rows = sorted(f"{one.name} {_sha256(one.content)}" for one in found)
    return _sha256("\n".join(rows).encode(errors="surrogateescape"))


def _by_digest(found: tuple[Found, ...]) -> dict[str, Found]:
    """Take each content once, under the first name that it has."""
    once: dict[str, Found] = {}
    for one in found:
        once.setdefault(_sha256(one.content), one)
    return once


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tried_and_kept(
    host: Host,
    found: tuple[Found, ...],
    load: Load,
    known: Manifest | None,
    loaded: frozenset[str],
) -> Iterator[KeptObject]:
    """Keep each object once; of those from an image only what the CNI has loaded now."""
    controls = {one.digest: one.control for one in known.objects} if known else {}
    for digest, one in _by_digest(found).items():
        control = controls.get(digest)
        if control is None or isinstance(control, Unknown):
            control = load(one.content, one.name)
        used = _used(control, loaded) if one.shipped else ()
        if used or not one.shipped:
            objects.keep(host, one.content)
            yield KeptObject(
                name=one.name, digest=digest, size=len(one.content), shipped=one.shipped,
                control=control, used=used,
            )  # fmt: skip


def _used(control: Result, loaded: frozenset[str]) -> tuple[Program, ...]:
    programs = control.programs if isinstance(control, Accepted) else ()
    return tuple(program for program in programs if program.tag in loaded)
