"""The plan of a transaction as dnf5 tells it: a reply of its actions plugin, in JSON.

The form is that of libdnf5-actions(8), «Reading list of packages in transaction»; the letters are
those of libdnf5/transaction/transaction_item_action.cpp.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

_ACTIONS: Final[Mapping[str, str]] = {
    "I": "install",
    "U": "upgrade",
    "D": "downgrade",
    "R": "reinstall",
    "E": "remove",
    "O": "replaced",
    "C": "reason-change",
}


def parse_reply(text: str) -> tuple[str, ...]:
    """Give the steps of a plan, `ACTION NAME EPOCH:VERSION-RELEASE.ARCH` each.

    What is no such reply, or tells of an error, has no steps: a plan is a hint about the cause.
    """
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    match reply:
        case {"return": {"trans_packages": [*packages]}}:
            return tuple(line for package in packages if (line := _line(package)))
        case _:
            return ()


def _line(package: Any) -> str:
    match package:
        case {"action": str(letter), "full_nevra": str(nevra)}:
            name, version, release = _split(nevra)
            action = _ACTIONS.get(letter, letter.lower())
            return f"{action} {name} {version}-{release}" if name else ""
        case _:
            return ""


def _split(nevra: str) -> tuple[str, str, str]:
    """Split `NAME-EPOCH:VERSION-RELEASE.ARCH`: only the name may have a `-` within."""
    rest, _, release = nevra.rpartition("-")
    name, _, version = rest.rpartition("-")
    return name, version, release
