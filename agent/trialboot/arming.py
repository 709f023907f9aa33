"""The commands that judge a host's protection and act on it: doctor, arm, disarm.

They run as root in the operator's own process, so that they need no daemon to say no.
"""

import re
from typing import Final

from trialboot.config import PATH, Config, Least, Mode, parse_config, read_config
from trialboot.core.doctor import Diagnosis, against_arming, diagnose
from trialboot.core.facts import Unknown
from trialboot.core.protection import Level, is_below
from trialboot.doctorreport import as_json, doctor_lines, row_lines
from trialboot.errors import ConfigError, HostError, LoaderError
from trialboot.examination import examine
from trialboot.host import Host, write_durably
from trialboot.report import FORMAT
from trialboot.terminal import ask, print_json, print_lines, tell
from trialboot.writers import dropins

_RELOAD: Final = ("org.trialboot1", "/org/trialboot1", "org.trialboot1.Manager", "Reload")
_MODE: Final = re.compile(
    r"""^([ \t]*mode[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*'|[^#\n]*)""", re.MULTILINE
)
_LEAST: Final = re.compile(
    r"""^([ \t]*least_protection[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*'|[^#\n]*)""", re.MULTILINE
)
_BOOT: Final = re.compile(r"^[ \t]*\[boot\][ \t]*(?:#[^\n]*)?\n?", re.MULTILINE)


def doctor(host: Host, *, json: bool, exit_code: bool) -> int:
    """Say what this host can survive, and what to do about it."""
    found = diagnose(examine(host))
    if json:
        print_json({"format": FORMAT, **as_json(found)})
    else:
        print_lines(doctor_lines(found))
    return _code(host, found) if exit_code else 0


def _code(host: Host, found: Diagnosis) -> int:
    """0 changes may be tried here, 1 they are not, 2 that is not known."""
    if isinstance(found.level, Unknown):
        return 2
    least = read_config(host).boot.least_protection
    return int(bool(against_arming(found)) or is_below(found.level, least.level))


def arm(host: Host, accepted: str | None) -> int:
    """Let trialboot act, if this host can undo what it tries. Raises `LoaderError` where not."""
    # What arming is to write, so that a wrong mode is no reason to refuse it.
    config = parse_config(with_mode(_text(host), Mode.ARMED))
    found = diagnose(examine(host))
    against = against_arming(found)
    if not isinstance(found.level, Level) or against:
        for line in row_lines(found.blocking) or against:
            tell(line)
        raise LoaderError("not armed: this host could not undo a trial; see «trialboot doctor»")
    least = _least(config, found.level, found.reasons, accepted)
    _write(host, Mode.ARMED, least)
    _tell_unprotected(found)
    return 0


def _least(
    config: Config, level: Level, reasons: tuple[str, ...], accepted: str | None
) -> Least | None:
    """Give the least protection to be written: none where what is configured is reached."""
    wanted = config.boot.least_protection
    if not is_below(level, wanted.level):
        return None
    for reason in reasons:
        tell(f"  - {reason}")
    if accepted and not is_below(level, Least(accepted).level):
        return Least(accepted)
    below = f"protection is {level}, below boot.least_protection «{wanted}»"
    if not accepted and ask(f"{below}. Arm all the same, and lower it to «{level}»?"):
        return Least(str(level))
    raise LoaderError(
        f"not armed: {below}; «trialboot arm --accept-protection {level}» arms all the same, and "
        f"lowers it in {PATH}"
    )


def _tell_unprotected(found: Diagnosis) -> None:
    tell(f"protection {found.level}; «trialboot status» shows what follows")
    if found.reasons:
        tell("not protected (trialboot doctor says what to do):")
        for reason in found.reasons:
            tell(f"  - {reason}")


def disarm(host: Host) -> int:
    """Give the boot loader and the cordon back to the host; what `doctor` has set stays."""
    _write(host, Mode.OBSERVE, None)
    tell("boot loader and cordon are given back; «trialboot status» shows what follows")
    for setting in dropins.Setting:
        if dropins.is_set(host, setting):
            path = dropins.DROP_INS[setting].path
            tell(f"{path} stays; «trialboot doctor --unset {setting}» removes it")
    return 0


# --- the operator's file ------------------------------------------------------------------------


def _write(host: Host, mode: Mode, least: Least | None) -> None:
    """Write a line or two of the operator's file, and have the daemon read it again."""
    changed = with_mode(_text(host), mode)
    if least:
        changed = with_least(changed, least)
    try:
        host.path(PATH).parent.mkdir(parents=True, exist_ok=True)
        write_durably(host.path(PATH), changed.encode(), mode=0o644)
    except OSError as error:
        raise HostError(f"{PATH}: {error.strerror}; are you root?") from error
    host.call(*_RELOAD)


def _text(host: Host) -> str:
    return host.read_text(PATH) if host.exists(PATH) else ""


def with_mode(text: str, mode: Mode) -> str:
    """Set the mode in the text of the operator's file; all else stays. Raises `ConfigError`."""
    line = f'mode = "{mode}"'
    # A key above the first section is what TOML takes as ours.
    changed, found = _MODE.subn(rf'\1"{mode}"', text, count=1)
    if not found:
        changed = f"{line}\n{text}"
    if parse_config(changed).mode is not mode:
        raise ConfigError(f"{PATH}: write {line} above the first section by hand")
    return changed


def with_least(text: str, least: Least) -> str:
    """Set `boot.least_protection` in the text of the operator's file. Raises `ConfigError`."""
    line = f'least_protection = "{least}"'
    changed, found = _LEAST.subn(rf'\1"{least}"', text, count=1)
    if not found:
        section = _BOOT.search(text)
        end = section.end() if section else len(text)
        head = "" if section else "[boot]\n"
        before = text[:end] if text[:end].endswith("\n") or not end else f"{text[:end]}\n"
        changed = f"{before}{head}{line}\n{text[end:]}"
    if parse_config(changed).boot.least_protection is not least:
        raise ConfigError(f"{PATH}: write {line} into its section [boot] by hand")
    return changed
