"""What people read: the state as lines of text. Nothing is decided here, only worded."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trialboot.core.bootset import shown
from trialboot.core.change import Area, Risk
from trialboot.core.trial import Phase

MOST_LINES: Final = 10
MOST_NOTICE: Final = 4
_MODALIAS: Final = re.compile(
    r"(pci|usb):v(?:0000)?([0-9A-F]{4})[dp](?:0000)?([0-9A-F]{4})(?=sv|d)", re.ASCII
)
"""How the kernel names a device by vendor and device (its scripts/mod/file2alias.c)."""
_BEGINS: Final = "The next boot "
_RISKS: Final[Mapping[Risk, str]] = {
    Risk.DANGER: "danger: what this host uses will not be there, or something else boots",
    Risk.CAUTION: "look at: what this host uses will be another one",
    Risk.NOTICE: "to know: nothing that this host is known to use",
}

_UNPINNED: Final = "A pre-check failed, and nothing holds it back here"


def status_lines(state: Mapping[str, Any]) -> list[str]:
    """Say where this host stands, the phase first."""
    lines = [f"{state['phase']}: {state['meaning']}", f"mode: {state['mode']}"]
    if state["report_only"]:
        lines.append(f"only reports are made: {state['report_only']}")
    lines.append(f"running: {_release(state['running'])}")
    lines.append(_known_good_line(state))
    if state["candidate"]:
        lines.append(f"candidate: {_release(state['candidate'])}")
    lines += [f"condemned: {c['release']}: {c['why']}" for c in state["condemned"]]
    lines += _verdict_lines(state["verdict"])
    lines += _next_lines(state)
    lines += _cluster_lines(state["cluster"])
    lines += [f"trouble: {text}" for text in state["trouble"]]
    return lines


def _release(choice: Mapping[str, Any] | None) -> str:
    if not choice:
        return "not known"
    return f"{choice['release']} ({shown(choice['fingerprint'])})"


def _known_good_line(state: Mapping[str, Any]) -> str:
    if not state["known_good"]:
        return "known-good: none yet; a boot set earns it by a sound verdict"
    kept = "kept, and the loader's default" if state["pinned"] else "not pinned"
    return f"known-good: {_release(state['known_good'])}, {kept}"


def _verdict_lines(verdict: Mapping[str, Any] | None) -> list[str]:
    if not verdict:
        return ["verdict: none on this boot yet"]
    return [
        f"verdict: {verdict['outcome']}",
        *(f"  - {reason}" for reason in verdict["reasons"]),
        *(f"  evidence: {line}" for line in verdict["evidence"]),
    ]


def _next_lines(state: Mapping[str, Any]) -> list[str]:
    outlook = state["next"]
    if not outlook:
        return ["next boot: not looked at yet"]
    protection = outlook["protection"]
    return [
        f"next boot: {_head_line(state)}",
        f"protection: {protection['level']}",
        *(f"  - {reason}" for reason in protection["reasons"]),
    ]


def _cluster_lines(cluster: Mapping[str, Any]) -> list[str]:
    if cluster["waiting"]:
        wish = "cordon" if cluster["cordon_wished"] else "uncordon"
        return [f"cluster: wants to {wish}; the API server has not taken it yet"]
    if cluster["cordoned"] is None:
        return []
    if cluster["foreign_cordon"]:
        return ["cluster: cordoned by somebody else; left alone"]
    return [f"cluster: {'cordoned by trialboot' if cluster['cordoned'] else 'not cordoned by us'}"]


def next_lines(state: Mapping[str, Any]) -> list[str]:
    """Say what the next boot will change: first what boots, then by danger."""
    outlook = state["next"]
    if not outlook:
        return ["What the next boot changes is not known yet: no snapshot was taken in this boot."]
    return [
        _head_line(state),
        *_arming_lines(state),
        *_damage_lines(outlook),
        *_risk_lines(outlook["changes"] or ()),
        *_block("not known", [*outlook["unknown"], *outlook["not_seen"]]),
        *_block("others say", outlook["evidence"]),
    ]


def _head_line(state: Mapping[str, Any]) -> str:
    """Say what the next boot does; where the known-good holds a change back, that it does."""
    held = _held_back(state)
    if not held:
        return str(state["next"]["sentence"])
    return f"The next boot stays on the known-good {_release(state['known_good'])}: {held}."


def _against(refused: Mapping[str, Any]) -> list[str]:
    return [*refused["obstacles"], *refused["objections"]]


def _held_back(state: Mapping[str, Any]) -> str:
    """Say why what the host's own configuration asks for is not booted; empty where it is."""
    changes = state["next"]["changes"]
    if not state["pinned"] or state["phase"] == Phase.ARMED or changes == []:
        return ""
    if state["refused"]:
        hindered = state["refused"]["obstacles"]
        speaks = "this host cannot try" if hindered else "a pre-check speaks against"
        return f"{speaks} {state['refused']['release']}"
    match Phase(state["phase"]):
        case Phase.TRIAL:
            return "this boot is on trial, and not proven yet"
        case Phase.CONDEMNED | Phase.RECOVERED if state["condemned"]:
            return f"{state['condemned'][-1]['release']} was condemned and is not booted again"
        case Phase.STRANDED:
            return "nothing else is tried until somebody has looked at this node"
        case _:
            return ""


def _arming_lines(state: Mapping[str, Any]) -> list[str]:
    lines = _held_lines(state) if _held_back(state) else []
    if state["refused"]:
        return [*lines, *_refused_lines(state)]
    if state["phase"] == Phase.ARMED:
        good = _release(state["known_good"])
        trial = f"It is a trial, booted once: the default stays on the known-good {good}."
        return [trial, *_unprotected_lines(state)]
    if state["mode"] == "observe":
        return ["Observe mode: nothing is pinned and no boot is a trial (trialboot arm)."]
    return lines


def _refused_lines(state: Mapping[str, Any]) -> list[str]:
    refused = state["refused"]
    lines = _block("It is not tried, for this host cannot try it", refused["obstacles"])
    if not refused["objections"]:
        return lines
    head = "It is not tried, for a pre-check failed" if state["pinned"] else _UNPINNED
    allow = [] if lines else ["  «trialboot allow» has it tried all the same."]
    return [*lines, *_block(head, refused["objections"]), *allow]


def _unprotected_lines(state: Mapping[str, Any]) -> list[str]:
    """Say before a trial what this host would not undo by itself."""
    protection = (state["next"] or {}).get("protection")
    if state["phase"] != Phase.ARMED or not protection or not protection["reasons"]:
        return []
    first, *others = protection["reasons"]
    more = f" (and {len(others)} more: trialboot doctor)" if others else ""
    return [f"Protection is {protection['level']}: {first}{more}."]


def _held_lines(state: Mapping[str, Any]) -> list[str]:
    told = state["next"]["sentence"]
    does = told.removeprefix(_BEGINS)
    return [told if does == told else f"Held back is a boot set that {does}"]


def _damage_lines(outlook: Mapping[str, Any]) -> list[str]:
    return [f"The known-good is not whole: {why}." for why in outlook["damage"]]


def _risk_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    lines = []
    for risk, head in _RISKS.items():
        lines += _block(head, [_change_words(row) for row in rows if row["risk"] == risk])
    return lines


def _change_words(row: Mapping[str, str]) -> str:
    why = f" ({row['why']})" if row["why"] else ""
    area = row["area"].replace("_", " ")
    subject = _device(row["subject"]) if row["area"] == Area.DRIVERS else row["subject"]
    return f"{area}: {subject}: {row['before']} → {row['after']}{why}"


def _device(alias: str) -> str:
    """Name a device as lspci(8) and lsusb(8) do; one on another bus by its alias."""
    found = _MODALIAS.match(alias)
    if not found:
        return alias
    bus, vendor, device = found.groups()
    return f"{bus.upper()} {vendor.lower()}:{device.lower()}"


def _block(head: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = len(lines) - MOST_LINES
    rest = [f"  … and {more} more: trialboot next --json"] if more > 0 else []
    return [f"{head}:", *(f"  {line}" for line in lines[:MOST_LINES]), *rest]


def reboot_lines(state: Mapping[str, Any]) -> list[str]:
    """Say whether this host may be rebooted, and what speaks against it."""
    answer = state["may_reboot"]
    if answer["answer"]:
        return ["yes: nothing speaks against a reboot", *_unprotected_lines(state)]
    return ["no:", *(f"  {why}" for why in answer["reasons"])]


def notice_lines(state: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what whoever logs in, or ends a package run, must know; often nothing."""
    outlook = state["next"]
    lines = []
    if state["phase"] not in {Phase.STEADY, Phase.ARMED}:
        lines.append(f"this node is {state['phase']}: {state['meaning']}")
    if outlook and (outlook["changes"] or outlook["changes"] is None):
        lines.append(_head_line(state))
    if state["refused"]:
        held = state["pinned"] or state["refused"]["obstacles"]
        head = "It is not tried" if held else _UNPINNED
        lines.append(f"{head}: {_against(state['refused'])[0]}")
    if outlook:
        lines += [*_damage_lines(outlook), *_unprotected_lines(state)]
    told = [f"trialboot: {line}" for line in lines[:MOST_NOTICE]]
    return [*told, "trialboot: more: trialboot next"] if told else []


def why_lines(state: Mapping[str, Any]) -> list[str]:
    """Tell the last trial in ten lines: what happened, what was undone, what is to do."""
    story = state["story"]
    if not story:
        return ["No trial has run on this host yet."]
    told = [f"{moment['at']}  {moment['text']}" for moment in story]
    failed = [f"  reason: {r}" for r in _reasons_of(state)]
    head = [f"{state['phase']}: {state['meaning']}"]
    room = MOST_LINES - len(head) - 1
    body = [*told[-room:]]
    spare = max(0, room - len(body))
    return [*head, *body, *failed[:spare], _advice(state)]


def _reasons_of(state: Mapping[str, Any]) -> list[str]:
    condemned = state["condemned"]
    return list(condemned[-1].get("reasons", ())) if condemned else []


def _advice(state: Mapping[str, Any]) -> str:
    match Phase(state["phase"]):
        case Phase.RECOVERED:
            return "to do: mend or remove the condemned update; «trialboot retry» tries it again"
        case Phase.STRANDED:
            return "to do: look at this node by hand; then «trialboot retry»"
        case Phase.ARMED:
            for why in state["may_reboot"]["reasons"]:
                return f"to do: no reboot yet: {why}"
            return "to do: reboot when it suits you; the trial goes back by itself"
        case Phase.TRIAL | Phase.CONDEMNED:
            return "to do: nothing yet; the verdict is being found"
        case Phase.STEADY:
            return "to do: nothing"
