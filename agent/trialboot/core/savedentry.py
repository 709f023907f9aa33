"""GRUB's saved default: ours while a known-good is pinned, and what somebody had saved before.

A GRUB of old asked for a one-shot by two keys, which today's 00_header still obeys: it boots
`saved_entry` once more, and then lets `prev_saved_entry` replace it.
"""

from collections.abc import Mapping
from typing import Final

from trialboot.core.facts import EntryId
from trialboot.core.menu import ADMIN_SAVED, KNOWN_GOOD

PREVIOUS: Final = "prev_saved_entry"
"""What 00_header makes the saved default at the next boot, and removes."""
_SAVED: Final = "saved_entry"
_ONCE: Final = "next_entry"


def with_default(values: Mapping[str, str], default: EntryId) -> dict[str, str]:
    """Set the default in an environment block; keep what somebody had saved before ours.

    What would replace it at the next boot goes, as grub-set-default does it.
    """
    saved = values.get(PREVIOUS) or values.get(_SAVED, "")
    kept = {ADMIN_SAVED: saved} if default == KNOWN_GOOD and saved != KNOWN_GOOD else {}
    others = {name: value for name, value in values.items() if name != PREVIOUS}
    return {**others, **kept, _SAVED: default}


def without_ours(values: Mapping[str, str]) -> dict[str, str]:
    """Give the block back: what was saved before us is saved again, and nothing names our entry.

    A one-shot that leads elsewhere may be somebody's wish: ours is taken back by `forget_once`.
    """
    restored = {name: value for name, value in values.items() if name != ADMIN_SAVED}
    saved = values.get(ADMIN_SAVED)
    if restored.get(_ONCE) == KNOWN_GOOD:
        restored.pop(_ONCE)
    for name in (_SAVED, PREVIOUS):
        if restored.get(name) == KNOWN_GOOD:
            restored.pop(name)
            restored |= {name: saved} if saved else {}
    return restored
