"""What this node wants its Node object in the cluster to say.

A wish, never a log of requests: the worker converges the real object to it, as often as needed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One Event to be written once. Its key names it, so that a repeat is harmless."""

    key: str
    kind: str
    """`Normal` or `Warning`, as core/v1 Event.type has it."""
    reason: str
    message: str
    at: str
    """RFC 3339, UTC, seconds, ending in Z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Cordon, condition `BootProven` and Events, as the trial's phase wants them."""

    cordoned: bool
    reason: str
    """One CamelCase word, for the condition and the receipt."""
    message: str
    condition: str
    """`True`, `False` or `Unknown`: status of the Node condition `BootProven`."""
    boot: str
    at: str
    notices: tuple[Notice, ...] = ()
