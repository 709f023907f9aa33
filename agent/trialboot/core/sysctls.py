"""Kernel settings of the network in stable terms: those of pods put together by class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trialboot.core.facts import Sysctl


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setting:
    """One sysctl and its values: several where pods of one class differ."""

    name: str
    values: tuple[str, ...]


def settings_of(
    sysctls: tuple[Sysctl, ...], pods: Callable[[str], str | None], young: frozenset[str]
) -> tuple[Setting, ...]:
    """Put the settings of pods together by class: `net.ipv4.conf.lxc*.rp_filter`.

    A pod that is being made has the default of all links until its CNI sets it.
    """
    values: dict[str, set[str]] = {}
    for sysctl in sysctls:
        head, middle, tail = _interface_in(sysctl.name)
        link = middle.replace("/", ".")
        if link not in young:
            values.setdefault(f"{head}{pods(link) or middle}{tail}", set()).add(sysctl.value)
    return tuple(
        sorted(Setting(name=name, values=tuple(sorted(seen))) for name, seen in values.items())
    )


def _interface_in(name: str) -> tuple[str, str, str]:
    """Split `net.ipv4.conf.eth0.rp_filter` around its interface; sysctl(8) has `/` for a dot."""
    words = name.split(".")
    if len(words) != 5 or words[2] != "conf":  # noqa: PLR2004  net.FAMILY.conf.LINK.KEY
        return name, "", ""
    return ".".join(words[:3]) + ".", words[3], f".{words[4]}"


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Give a sysctl's name after its interface was renamed."""
    head, middle, tail = _interface_in(name)
    return f"{head}{names.get(middle, middle)}{tail}" if middle else name
