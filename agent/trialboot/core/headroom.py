"""How near a program is to the million instructions that the verifier walks: told, never judged.

Swings of two to five times between kernels were measured, also downwards.
"""

from typing import Final

from trialboot.core.facts import ProgramSize

LIMIT: Final = 1_000_000
"""BPF_COMPLEXITY_LIMIT_INSNS of kernel/bpf/verifier.c."""
NOTED: Final = 100_000
"""From here on a program's head-room is worth a note."""
WARNED: Final = 400_000
"""From here on the next kernel may refuse it."""


def headroom_note(size: ProgramSize) -> str:
    """Say how much of the verifier's patience a program takes; empty where it is little."""
    if size.verified_instructions <= NOTED:
        return ""
    word = "warning: " if size.verified_instructions > WARNED else ""
    return (
        f"{word}{size.program} took the verifier {size.verified_instructions:,} "
        f"of {LIMIT:,} instructions"
    )
