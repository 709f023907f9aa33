"""The operator's file, `/etc/trialboot/trialboot.toml`, as one frozen value.

Every key has a default; a key that is not known is an error that names it.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, TypeVar, get_type_hints

from trialboot.core.facts import Unknown
from trialboot.core.language import Word
from trialboot.core.proof import Target, parse_target
from trialboot.core.protection import Level
from trialboot.core.trial import Policy
from trialboot.core.verdict import Patience
from trialboot.errors import ConfigError, HostError
from trialboot.host import Host

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH: Final = "/etc/trialboot/trialboot.toml"
_MOST_SECONDS: Final = 31_536_000
"""A year: what lies beyond it, such as inf and nan, is no time that anybody waits."""
_LONGEST_VERIFY: Final = 900.0
"""Seconds: trialboot-verify.service is ended after 30 minutes, and then there is no verdict.

Beside the deadline it needs `OVERTIME`, and one last round of the operator's checks and of proof.
"""
SHORTEST_INTERVAL: Final = 1.0
"""Seconds: a sample asks netlink, systemd and the journal; faster would only load the node."""
_SHORTEST_TRY: Final = 1.0
_LONGEST_TRY: Final = 30.0
_MOST_TARGETS: Final = 16
_T = TypeVar("_T")


class Mode(Word):
    """Whether trialboot may act."""

    OBSERVE = "observe"
    ARMED = "armed"


class Unsure(Word):
    """What happens to a trial that is neither proven nor refuted at its deadline."""

    STAY = "stay"
    ROLL_BACK = "roll-back"


class Least(Word):
    """How little protection an armed host may have: the levels of `core.protection` but `none`."""

    FULL = "full"
    PANIC_ONLY = "panic-only"
    USERSPACE_ONLY = "userspace-only"

    @property
    def level(self) -> Level:
        """The same as a level."""
        return Level(str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is asked of the host itself before a boot set is tried on it."""

    least_protection: Least = Least.USERSPACE_ONLY
    by_kexec: bool = False
    """Where nothing else carries a one-shot, the reboot starts the candidate by kexec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """How a boot is verified; all times in seconds."""

    minimum_settle_seconds: float = 60.0
    settle_seconds: float = 30.0
    deadline_seconds: float = 600.0
    interval_seconds: float = 10.0
    repeat_seconds: float = 600.0
    unsure: Unsure = Unsure.STAY
    cordon_at_rest: bool = False
    """An armed node whose network breaks without a changed boot takes no new pods."""
    units: tuple[str, ...] = ()
    """systemd services that make the network and must be active."""
    processes: tuple[str, ...] = ()
    """Names of processes that must run; for agents that live in containers."""
    check_seconds: float = 30.0
    """What each of the operator's own checks may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """What must be reached from the pod network, where that is asked for."""

    enabled: bool = False
    targets: tuple[str, ...] = ("gateway", "service")
    """As `core.proof.parse_target` understands them."""
    seconds: float = 5.0
    """For how long an answer is waited for."""

    @property
    def parsed(self) -> tuple[Target, ...]:
        """The targets understood. Raises `ValueError`, which `parse_config` has ruled out."""
        return tuple(parse_target(text) for text in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """How this node's object in the cluster is found."""

    enabled: bool = True
    kubeconfig: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    mode: Mode = Mode.OBSERVE
    boot: Boot = field(default_factory=Boot)
    verify: Verify = field(default_factory=Verify)
    prove: Prove = field(default_factory=Prove)
    node: Node = field(default_factory=Node)

    @property
    def policy(self) -> Policy:
        """What the machine may do."""
        return Policy(
            armed=self.mode is Mode.ARMED,
            unsure_rolls_back=self.verify.unsure is Unsure.ROLL_BACK,
            cordon_at_rest=self.verify.cordon_at_rest,
        )

    @property
    def patience(self) -> Patience:
        """How long a node may take to settle."""
        return Patience(
            minimum_settle=self.verify.minimum_settle_seconds,
            settle=self.verify.settle_seconds,
            deadline=self.verify.deadline_seconds,
        )


def read_config(host: Host) -> Config:
    """Read the operator's file; a missing one is all defaults. Raises `ConfigError`."""
    if not host.exists(PATH):
        return Config()
    try:
        return parse_config(host.read_text(PATH))
    except HostError as error:
        raise ConfigError(str(error)) from error


def is_armed(host: Host) -> bool | Unknown:
    """Tell whether the operator lets us act; Unknown where the file cannot be read."""
    try:
        return read_config(host).mode is Mode.ARMED
    except ConfigError as error:
        return Unknown(str(error))


def parse_config(text: str) -> Config:
    """Turn TOML into a `Config`, or raise `ConfigError` that names the key and what it may be."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{PATH}: {error}") from error
    config = _section(Config, table, "")
    _check_longest(config.verify)
    _check_shortest(config.verify.interval_seconds, SHORTEST_INTERVAL, "verify.interval_seconds")
    _check_shortest(config.verify.check_seconds, _SHORTEST_TRY, "verify.check_seconds")
    _check_prove(config.prove)
    return config


def _check_longest(verify: Verify) -> None:
    for name in ("minimum_settle", "settle", "deadline", "interval"):
        if getattr(verify, f"{name}_seconds") > _LONGEST_VERIFY:
            raise ConfigError(
                f"{PATH}: verify.{name}_seconds must be {_LONGEST_VERIFY:.0f} or less"
            )


def _check_shortest(value: float, shortest: float, key: str) -> None:
    if value < shortest:
        raise ConfigError(f"{PATH}: {key} must be {shortest:.0f} or more")


def _check_prove(prove: Prove) -> None:
    if not _SHORTEST_TRY <= prove.seconds <= _LONGEST_TRY:
        raise ConfigError(
            f"{PATH}: prove.seconds must be from {_SHORTEST_TRY:.0f} to {_LONGEST_TRY:.0f}"
        )
    try:
        targets = prove.parsed
    except ValueError as error:
        raise ConfigError(f"{PATH}: prove.targets: {error}") from error
    if sum(len(target.ways) for target in targets) > _MOST_TARGETS:
        raise ConfigError(f"{PATH}: prove.targets: {_MOST_TARGETS} addresses are the most")


def _section(kind: type[_T], table: Mapping[str, Any], prefix: str) -> _T:
    known = get_type_hints(kind)
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # every section is a dataclass
    unknown = sorted(set(table) - names)
    if unknown:
        raise ConfigError(
            f"{PATH}: unknown key: {', '.join(prefix + key for key in unknown)}; "
            f"known here: {', '.join(sorted(names))}"
        )
    return kind(**{key: _value(known[key], value, prefix + key) for key, value in table.items()})


def _value(kind: Any, value: Any, key: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{PATH}: {key} is a section: write [{key}]")
        return _section(kind, value, f"{key}.")  # type: ignore[arg-type]  # is_dataclass narrows to an instance too
    if isinstance(kind, type) and issubclass(kind, Word):
        return _word(kind, value, key)
    if kind is float:
        return _seconds(value, key)
    if kind is bool or kind is str:
        return _plain(kind, value, key)
    return _names(value, key)


def _word(kind: type[Word], value: Any, key: str) -> Word:
    try:
        return kind(value)
    except ValueError as error:
        words = " or ".join(f'"{word}"' for word in kind)
        raise ConfigError(f"{PATH}: {key} must be {words}, not {value!r}") from error


def _seconds(value: Any, key: str) -> float:
    a_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not a_number or not 0 <= value <= _MOST_SECONDS:
        raise ConfigError(f"{PATH}: {key} must be a number of seconds, not {value!r}")
    return float(value)


def _plain(kind: type, value: Any, key: str) -> Any:
    if type(value) is not kind:
        word = "true or false" if kind is bool else "text in quotes"
        raise ConfigError(f"{PATH}: {key} must be {word}, not {value!r}")
    return value


def _names(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{PATH}: {key} must be a list of names, not {value!r}")
    return tuple(value)
