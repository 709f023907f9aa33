"""What the load test keeps and finds: a CNI's compiled programs, and whether a kernel takes them.

Never cry wolf: an object is evidence only if the same loader had it accepted by the kernel that it
was kept on, and only a refusal of a program by the kernel's verifier is a refusal. All else that
goes wrong is `Unknown(why)`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from trialboot.core.facts import BootId, ProgramSize, Unknown
from trialboot.core.headroom import headroom_note
from trialboot.core.verdict import Answer, Check

NAME: Final = "load"
_LINES_TOLD: Final = 3
_OF_THE_CNI: Final = frozenset({"roles", "pods", "agents"})
"""Checks that pass together only where the CNI has loaded what it needs."""
_STATISTICS: Final = ("processed ", "verification time ", "stack depth ")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Program:
    """One program of an object, as the kernel took it."""

    name: str
    tag: str
    """Hash over its instructions, in hex (`bpf_prog_info.tag`); another one on other kernels."""
    verified_instructions: int
    """0 where the kernel shows none (before 5.16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The kernel took every program."""

    programs: tuple[Program, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The kernel's verifier refused a program."""

    program: str
    error: str
    """`E2BIG`, `EINVAL` ..."""
    log: tuple[str, ...]
    """The verifier's last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptObject:
    """One compiled object of a CNI, and what the kernel that it was kept on said of it."""

    name: str
    """Where it lay: a path, for those inside an agent's image with the agent before it."""
    digest: str
    """SHA-256; the name of the copy."""
    size: int
    shipped: bool
    """From the CNI's image, where the next boot finds it again: not compiled on this node."""
    control: Accepted | Refused | Unknown
    used: tuple[Program, ...] = ()
    """Of a shipped object: the programs that the CNI had loaded when it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One small question to the kernel that CNIs ask it too."""

    name: str
    result: Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is kept, and the kernel that it was tried on."""

    boot: BootId
    release: str
    version: str
    """Of /proc/version: tells two builds of one release apart."""
    seen: str
    """SHA-256 over all objects that were found: the same again means nothing to do."""
    objects: tuple[KeptObject, ...]
    left_out: tuple[str, ...] = ()
    """What was found and is not kept: a sentence each."""
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One kept object on the kernel of this boot."""

    name: str
    digest: str
    result: Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTest:
    """What the load test of one boot found."""

    boot: BootId
    release: str
    objects: tuple[Tried, ...] = ()
    probes: tuple[Probe, ...] = ()
    not_needed: str = ""
    """Why nothing was loaded; empty where something was to be loaded."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectFact:
    """One kept object, for metrics."""

    name: str
    result: str
    """`accepted`, `refused` or `no verdict`."""
    verified_instructions: int
    """Of its dearest program; 0 where that is not known."""


def is_evidence(kept: KeptObject) -> bool:
    """Tell whether a refusal of it would mean anything."""
    return isinstance(kept.control, Accepted) and (bool(kept.used) or not kept.shipped)


def load_check(
    manifest: Manifest | Unknown | None, found: LoadTest | Unknown | None, boot: BootId
) -> Check:
    """Judge this boot by what the load test left. What could not be tested is a note."""
    if not isinstance(manifest, Manifest):
        return _passed((f"load test: {_why_none_kept(manifest)}",))
    if not isinstance(found, LoadTest) or found.boot != boot:
        why = found.why if isinstance(found, Unknown) else "it did not run in this boot"
        return _passed((f"load test: not tested: {why}",))
    reasons = tuple(_refusals(manifest, found))
    notes = (*_not_proven(manifest, found), *_headroom(found), *_regressions(manifest, found))
    if reasons:
        return Check(name=NAME, answer=Answer.FAIL, reasons=reasons, notes=notes, proof=True)
    return _passed(notes)


def excused(check: Check, others: Iterable[Check], *, changed: bool) -> Check:
    """Take a refusal for a note where the CNI itself shows that it does not matter.

    It was changed since its objects were kept, or it is whole: an agent compiles anew for the
    kernel that it finds.
    """
    whole = {c.name for c in others if c.answer is Answer.PASS} >= _OF_THE_CNI
    if check.answer is Answer.PASS or not (changed or whole):
        return check
    why = "the CNI itself was changed since" if changed else "the CNI is whole without it"
    told = tuple(f"{reason} ({why})" for reason in check.reasons)
    return Check(name=check.name, answer=Answer.PASS, notes=(*told, *check.notes))


def facts(
    manifest: Manifest | Unknown | None, found: LoadTest | Unknown | None
) -> tuple[ObjectFact, ...]:
    """Give what metrics show: this boot's results, else those of the kernel it was kept on."""
    rows: list[tuple[str, Accepted | Refused | Unknown]] = []
    if isinstance(manifest, Manifest):
        rows = [(one.name, one.control) for one in manifest.objects]
    if isinstance(found, LoadTest) and found.objects:
        rows = [(one.name, one.result) for one in found.objects]
    return tuple(sorted(_fact(name, result) for name, result in rows))


def _fact(name: str, result: Accepted | Refused | Unknown) -> ObjectFact:
    if isinstance(result, Accepted):
        most = max((p.verified_instructions for p in result.programs), default=0)
        return ObjectFact(name=name, result="accepted", verified_instructions=most)
    word = "refused" if isinstance(result, Refused) else "no verdict"
    return ObjectFact(name=name, result=word, verified_instructions=0)


def _passed(notes: tuple[str, ...]) -> Check:
    return Check(name=NAME, answer=Answer.PASS, notes=notes)


def _why_none_kept(manifest: Unknown | None) -> str:
    if manifest is None:
        return "no compiled programs of a CNI are kept"
    return f"what is kept cannot be read: {manifest.why}"


def _doubt(manifest: Manifest, found: LoadTest, tried: Tried) -> str:
    """Say why a refusal proves nothing; empty where it does, or where there is none."""
    before = next((one for one in manifest.objects if one.digest == tried.digest), None)
    if before is None or not is_evidence(before):
        return "it is no evidence: the kernel it was kept on is not known to have taken it"
    if before.shipped:
        used = {program.name for program in before.used}
        refused = isinstance(tried.result, Refused) and tried.result.program
        return "" if refused in used else "the CNI did not use that program"
    if _numbers(found.release) < _numbers(manifest.release):
        return "it was compiled for a newer kernel, and the CNI compiles it again"
    return ""


def _refusals(manifest: Manifest, found: LoadTest) -> Iterator[str]:
    """Tell each refusal that proves that the CNI cannot work on this kernel."""
    for tried in found.objects:
        if isinstance(tried.result, Refused) and not _doubt(manifest, found, tried):
            yield _told(tried.name, tried.result, manifest, found)


def _not_proven(manifest: Manifest, found: LoadTest) -> Iterator[str]:
    for tried in found.objects:
        if isinstance(tried.result, Unknown):
            yield f"load test: {tried.name} was not tested: {tried.result.why}"
        if isinstance(tried.result, Refused):
            doubt = _doubt(manifest, found, tried)
            if doubt:
                yield f"{_told(tried.name, tried.result, manifest, found)}; {doubt}"


def _told(name: str, refused: Refused, manifest: Manifest, found: LoadTest) -> str:
    said = " / ".join(telling_lines(refused.log)[-_LINES_TOLD:])
    return (
        f"load test: {name}: program {refused.program} is refused by {found.release}"
        f" ({refused.error}), {manifest.release} took it: {said}"
    )


def telling_lines(log: tuple[str, ...]) -> tuple[str, ...]:
    """Give the lines of a verifier's log without its statistics, if there are others."""
    telling = tuple(line for line in log if not line.startswith(_STATISTICS))
    return telling or log


def _headroom(found: LoadTest) -> Iterator[str]:
    for tried in found.objects:
        programs = tried.result.programs if isinstance(tried.result, Accepted) else ()
        for program in sorted(programs, key=lambda p: -p.verified_instructions):
            size = ProgramSize(
                program=program.name, verified_instructions=program.verified_instructions
            )
            note = headroom_note(size)
            if note:
                yield f"load test: {tried.name}: {note}"


def _regressions(manifest: Manifest, found: LoadTest) -> Iterator[str]:
    took = {probe.name for probe in manifest.probes if isinstance(probe.result, Accepted)}
    for probe in found.probes:
        if isinstance(probe.result, Refused) and probe.name in took:
            said = "; ".join(telling_lines(probe.result.log)[-1:])
            yield (
                f"load test: {found.release} refuses «{probe.name}» ({probe.result.error}"
                f"{': ' if said else ''}{said}), {manifest.release} took it"
            )


def _numbers(release: str) -> tuple[int, ...]:
    """Give the numbers that a kernel's release begins with: `6.12.57+deb13-amd64` -> 6, 12, 57."""
    begin = re.match(r"\d+(\.\d+)*", release)
    return tuple(map(int, begin.group().split("."))) if begin else ()
