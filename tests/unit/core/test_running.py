"""Services, processes and the CNI's agents: what is not up fails, what was refused is proven."""

import pytest

from trialboot.core.cni import REFUSAL
from trialboot.core.facts import Process, Unit, UnitState, Unknown
from trialboot.core.running import is_ill, process_check, unit_check
from trialboot.core.verdict import Answer

# --- services ---------------------------------------------------------------------------------

LINE = 'level=fatal msg="BPF program is too large. Processed 1000001 insn"'


def unit(state: UnitState = UnitState.ACTIVE, restarts: int = 0) -> Unit:
    return Unit(name="kubelet.service", state=state, restarts=restarts)


def test_services_that_run_pass() -> None:
    found = unit_check((unit(), unit(restarts=2)), ())
    assert (found.name, found.answer, found.reasons, found.proof) == (
        "units",
        Answer.PASS,
        (),
        False,
    )


@pytest.mark.parametrize("state", UnitState)
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_service_is_ill_unless_it_is_up_and_stays_up(state: UnitState, restarts: int) -> None:
    well = state is UnitState.ACTIVE and restarts == 0
    assert is_ill(unit(state, restarts)) is not well


@pytest.mark.parametrize("state", [s for s in UnitState if s is not UnitState.ACTIVE])
@pytest.mark.parametrize("restarts", [0, 9])
def test_a_service_that_is_not_up_fails_without_proof(state: UnitState, restarts: int) -> None:
    found = unit_check((unit(), unit(state, restarts)), ())
    assert (found.answer, found.proof) == (Answer.FAIL, False)
    assert found.reasons == (
        f"kubelet.service is {state}, restarted {restarts} times in this boot",
    )


@pytest.mark.parametrize("state", [UnitState.ACTIVE, UnitState.ACTIVATING, UnitState.FAILED])
def test_a_refusal_with_restarts_is_proof_even_while_the_loop_is_up(state: UnitState) -> None:
    found = unit_check((unit(state, 3),), (LINE,))
    assert (found.answer, found.proof) == (Answer.FAIL, True)
    assert found.reasons[-1] == f"the kernel refused it: {LINE}"


@pytest.mark.parametrize("restarts", [0, 2])
def test_a_refusal_without_restarts_proves_nothing(restarts: int) -> None:
    assert unit_check((unit(restarts=restarts),), (LINE,)).answer is Answer.PASS
    assert not unit_check((unit(UnitState.ACTIVATING, restarts),), (LINE,)).proof


def test_restarts_without_a_refusal_prove_nothing() -> None:
    found = unit_check((unit(restarts=9),), ())
    assert (found.answer, found.proof) == (Answer.PASS, False)


def test_services_that_cannot_be_asked_are_no_verdict() -> None:
    found = unit_check(Unknown("no bus"), (LINE,))
    assert (found.answer, found.reasons) == (Answer.NO_VERDICT, ("services: no bus",))


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        "Verifier error: load program: argument list too long",
        "load program: permission denied",
        "failed to probe socket filter",
        "Argument list too long",
        'iptables: unknown option "--set-mark"',
        "missing kernel module: xt_mark",
        "bpf_set_retval#187: R1 is not a scalar",
    ],
)
def test_the_words_of_a_refusal_are_known(line: str) -> None:
    assert REFUSAL.search(line)


@pytest.mark.parametrize("line", ["", "level=info msg=ready", "context deadline exceeded"])
def test_other_words_are_no_refusal(line: str) -> None:
    assert not REFUSAL.search(line)


def test_a_process_that_the_operator_named_must_run() -> None:
    agent, proxy = Process(name="cilium-agent", count=1), Process(name="kube-proxy", count=0)
    assert process_check((agent,)).answer is Answer.PASS
    found = process_check((agent, proxy))
    assert (found.name, found.answer, found.proof) == ("processes", Answer.FAIL, False)
    assert found.reasons == ("no process kube-proxy runs",)


def test_processes_that_cannot_be_listed_are_no_verdict() -> None:
    found = process_check(Unknown("EPERM"))
    assert (found.answer, found.reasons) == (Answer.NO_VERDICT, ("processes: EPERM",))
