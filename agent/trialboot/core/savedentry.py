"""GRUB's saved default: ours while a known-good is pinned, and what somebody had saved before."""

from collections.abc import Mapping

from trialboot.core.facts import EntryId
from trialboot.core.menu import ADMIN_SAVED, KNOWN_GOOD


def with_default(values: Mapping[str, str], default: EntryId) -> dict[str, str]:
    """Set the default in an environment block; keep what somebody had saved before ours."""
    saved = values.get("saved_entry", "")
    kept = {ADMIN_SAVED: saved} if default == KNOWN_GOOD and saved != KNOWN_GOOD else {}
    return {**values, **kept, "saved_entry": default}


def without_ours(values: Mapping[str, str]) -> dict[str, str]:
    """Give the block back: what was saved before us is saved again, and our one-shot is gone."""
    ours = {ADMIN_SAVED, "next_entry"} if ADMIN_SAVED in values else {ADMIN_SAVED}
    restored = {name: value for name, value in values.items() if name not in ours}
    if values.get("saved_entry") != KNOWN_GOOD:
        return restored
    restored.pop("saved_entry")
    saved = values.get(ADMIN_SAVED)
    return {**restored, "saved_entry": saved} if saved else restored
