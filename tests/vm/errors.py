"""What can go wrong with a test machine, apart from what is being tested."""


class InfrastructureError(Exception):
    """The machine, not the program on it, let the test down. Such a test may be tried again."""


class AgentGone(Exception):  # noqa: N818 - a state of the guest, not a mistake of the caller
    """The guest stopped answering: it reboots, hangs, or its power was cut."""


class CommandFailed(AssertionError):  # noqa: N818 - reads as the sentence it is
    """A command in the guest failed or took too long. Counts as a failed test."""
