"""libbpf's words become a refusal by the kernel, or no verdict: in the words of three versions."""

import pytest

from trialboot.core.facts import Unknown
from trialboot.core.loadlog import parse_failure
from trialboot.core.loadtest import Refused

NAMES = {
    "Argument list too long": "E2BIG",
    "Invalid argument": "EINVAL",
    "Permission denied": "EACCES",
    "Operation not permitted": "EPERM",
    "Cannot allocate memory": "ENOMEM",
    "Resource temporarily unavailable": "EAGAIN",
    "No space left on device": "ENOSPC",
}
LOG = (
    "0: (85) call bpf_set_retval#187",
    "R1 is not a scalar",
    "processed 1 insns (limit 1000000)",
)


def version_1(words: str, *log: str) -> list[str]:
    said = [f"libbpf: prog 'probe': BPF program load failed: {words}"]
    if log:
        said += [
            "libbpf: prog 'probe': -- BEGIN PROG LOAD LOG --",
            *log,
            "-- END PROG LOAD LOG --",
        ]
    return [
        *said,
        "libbpf: prog 'probe': failed to load: -22",
        "libbpf: failed to load object 'a'",
    ]


def version_0(words: str, *log: str) -> list[str]:
    said = [f"libbpf: load bpf program failed: {words}"]
    if log:
        said += ["libbpf: -- BEGIN DUMP LOG ---", "libbpf: ", *log, "", "libbpf: -- END LOG --"]
    return [*said, "libbpf: failed to load program 'probe'", "libbpf: failed to load object 'a'"]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        (version_1("Invalid argument", *LOG), "EINVAL"),
        (version_1("-EINVAL", *LOG), "EINVAL"),
        (version_0("Invalid argument", *LOG), "EINVAL"),
        (version_1("Argument list too long", *LOG), "E2BIG"),
        (version_1("Permission denied", *LOG), "EACCES"),
        (version_1("Operation not permitted", *LOG), "EPERM"),
    ],
)
def test_a_refusal_with_the_verifiers_log_is_one(messages: list[str], error: str) -> None:
    assert parse_failure(messages, NAMES) == Refused(program="probe", error=error, log=LOG)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (version_1("Invalid argument"), "the verifier said nothing"),
        (version_0("Operation not permitted"), "the verifier said nothing"),
        (version_1("Cannot allocate memory", *LOG), "Cannot allocate memory"),
        (version_1("-ENOMEM", *LOG), "-ENOMEM"),
        (version_1("Resource temporarily unavailable", *LOG), "temporarily unavailable"),
        (version_1("No space left on device", *LOG), "No space left on device"),
        (version_1("Invalid argument", "3: <invalid CO-RE relocation>"), "was not found"),
        (["libbpf: map 'm': failed to create: Invalid argument(-22)"], "failed to create"),
        (["libbpf: Error loading vmlinux BTF: -22", "libbpf: failed to load object 'a'"], "BTF"),
        (["libbpf: failed to load object 'a'"], "did not say why"),
        ([], "did not say why"),
    ],
)
def test_everything_else_is_no_verdict(messages: list[str], why: str) -> None:
    found = parse_failure(messages, NAMES)
    assert isinstance(found, Unknown)
    assert why in found.why


def test_only_the_last_lines_are_kept() -> None:
    found = parse_failure(version_1("Invalid argument", *map(str, range(100))), NAMES)
    assert isinstance(found, Refused)
    assert found.log == ("94", "95", "96", "97", "98", "99")


def test_the_log_of_the_last_try_counts() -> None:
    both = [*version_1("Invalid argument", "first"), *version_1("Invalid argument", "second")]
    found = parse_failure(both, NAMES)
    assert isinstance(found, Refused)
    assert found.log == ("second",)
