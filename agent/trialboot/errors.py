"""Every error that trialboot raises on purpose, with the exit code an entry ends with.

The codes follow sysexits.h(3) where it has one: 69 unavailable, 74 I/O, 75 try again, 77 no
permission, 78 configuration.
"""


class TrialbootError(Exception):
    """Something failed that an operator can understand. The text says what to do next."""

    exit_code = 1


class HostError(TrialbootError):
    """The machine refused: a file, a command or a bus call."""

    exit_code = 74


class ConfigError(TrialbootError):
    """The configuration file is wrong; the text names the key."""

    exit_code = 78


class StoreError(TrialbootError):
    """The record on disk cannot be read; it was set aside, never deleted."""

    exit_code = 74


class LoaderError(TrialbootError):
    """The boot loader's files are not what we understand; nothing was changed."""

    exit_code = 74


class VaultError(TrialbootError):
    """A boot set could not be kept whole, or is no longer what was kept."""

    exit_code = 74


class VaultRoomError(VaultError):
    """There is no room to keep a boot set; nothing of it was left."""


class ClusterError(TrialbootError):
    """The API server refused, or the credential cannot be used; trying again will not help."""

    exit_code = 69


class ClusterAwayError(ClusterError):
    """The API server did not answer usefully now; the same request may succeed later."""

    exit_code = 75
