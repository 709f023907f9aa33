"""The operator's file `/etc/trialboot/contract.toml`: what they say of the contract.

Apart from the configuration, which the resident daemon reads: only who judges reads this one.
"""

import sys
from typing import Any, Final

from trialboot.core.contract import Amendments, parse_line
from trialboot.errors import ConfigError, HostError
from trialboot.host import Host

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH: Final = "/etc/trialboot/contract.toml"
_KEYS: Final = ("add", "ignore", "pin")


def read_amendments(host: Host) -> Amendments:
    """Read what the operator says of the contract; a missing file says nothing.

    Raises `ConfigError` that names the line which cannot be understood.
    """
    if not host.exists(PATH):
        return Amendments()
    try:
        return parse_amendments(host.read_text(PATH))
    except HostError as error:
        raise ConfigError(str(error)) from error


def parse_amendments(text: str) -> Amendments:
    """Turn TOML into `Amendments`, or raise `ConfigError` that names the line and its forms."""
    try:
        table = tomllib.loads(text)
        amendments = Amendments(**{key: _lines(key, value) for key, value in table.items()})
        for line in amendments.add:
            parse_line(line)
    except ValueError as error:  # what TOML itself refuses is one, too
        raise ConfigError(f"{PATH}: {error}") from error
    return amendments


def _lines(key: str, value: Any) -> tuple[str, ...]:
    if key not in _KEYS:
        raise ValueError(f"unknown key: {key}; known here: {', '.join(_KEYS)}")
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise ValueError(f"{key} must be a list of lines in quotes, not {value!r}")
    return tuple(value)
