"""The operator's own checks, run one after the other; what their service does, and its errand."""

from collections.abc import Iterator, Mapping
from typing import Final

from trialboot.config import Config, read_config
from trialboot.core.facts import Unknown
from trialboot.core.operatorchecks import OperatorCheck, judged, not_run
from trialboot.errands import Errand, run_errand
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.readers.checkfolders import Program, read_programs
from trialboot.writers import store

RECORD: Final = f"{store.RUN}/operator-checks.json"
MOST_CHECKS: Final = 64
MOST_SECONDS: Final = 240.0
"""All checks together: their service has a minute more (TimeoutStartSec=)."""
_MOST_OUTPUT: Final = 4096  # bytes of each


def gather(host: Host) -> tuple[OperatorCheck, ...] | Unknown | None:
    """Have the checks run by their service; None where the operator has none."""
    try:
        if not read_programs(host):
            return None
    except HostError as error:
        return Unknown(str(error))
    return run_errand(host, _ERRAND)


def work(host: Host) -> None:
    """Run the checks and leave their record. Raises `HostError`, `ConfigError`, `StoreError`."""
    store.save(host, RECORD, run_checks(host, read_config(host), read_programs(host)))


def run_checks(
    host: Host, config: Config, programs: tuple[Program, ...]
) -> tuple[OperatorCheck, ...]:
    """Run them in this order, each to its end or to its limit."""
    return tuple(_results(host, config, programs))


def _results(host: Host, config: Config, programs: tuple[Program, ...]) -> Iterator[OperatorCheck]:
    until = host.monotonic() + MOST_SECONDS
    environment = {"TRIALBOOT_BOOT": kernel.read_boot_id(host)}
    for number, program in enumerate(programs):
        left = until - host.monotonic()
        if program.refusal:
            yield not_run(program.name, program.level, program.refusal)
        elif number >= MOST_CHECKS:
            yield not_run(program.name, program.level, f"there are more than {MOST_CHECKS}")
        elif left <= 0:
            why = f"all together they took more than {MOST_SECONDS:.0f} s"
            yield not_run(program.name, program.level, why)
        else:
            yield _run(host, program, min(left, config.verify.check_seconds), environment)


def _run(
    host: Host, program: Program, seconds: float, environment: Mapping[str, str]
) -> OperatorCheck:
    try:
        ran = host.run_check(
            [str(program.path)],
            seconds=seconds,
            most_bytes=_MOST_OUTPUT,
            environment=environment,
        )
    except HostError as error:
        return not_run(program.name, program.level, f"it {error}")
    return judged(
        program.name, program.level, code=ran.code, output=ran.output, seconds=ran.seconds
    )


_ERRAND: Final = Errand(
    worker="operator-checks",
    record=RECORD,
    kind=tuple[OperatorCheck, ...],
    work=work,
    limit=MOST_SECONDS + 90,
)
