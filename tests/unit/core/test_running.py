"""Services, processes and the CNI's agents: what is not up fails, what was refused is proven."""

from dataclasses import replace

import pytest

from trialboot.core.cni import DECISIVE, REFUSAL
from trialboot.core.facts import (
    Agent,
    Cni,
    CniConfiguration,
    Process,
    Unit,
    UnitState,
    Unknown,
)
from trialboot.core.running import first_agents_check, is_ill, process_check, unit_check
from trialboot.core.verdict import Answer, Check

# --- services ---------------------------------------------------------------------------------

LINE = 'level=fatal msg="BPF program is too large. Processed 1000001 insn"'


def unit(state: UnitState = UnitState.ACTIVE, restarts: int = 0) -> Unit:
    return Unit(name="kubelet.service", state=state, restarts=restarts)


def ill(state: UnitState, restarts: int) -> str:
    return f"kubelet.service is {state}, restarted {restarts} times in this boot"


REFUSED = f"the kernel refused it: {LINE}"
ACTIVATING, FAILED = UnitState.ACTIVATING, UnitState.FAILED
Found = tuple[Answer, tuple[str, ...], bool]
"""Answer, reasons, proof."""
UNITS: dict[str, tuple[tuple[Unit, ...] | Unknown, tuple[str, ...], Found]] = {
    "no service": ((), (), (Answer.PASS, (), False)),
    "services that run": ((unit(), unit(restarts=2)), (), (Answer.PASS, (), False)),
    "restarts alone": ((unit(restarts=9),), (), (Answer.PASS, (), False)),
    "not up": (
        (unit(), unit(ACTIVATING, 0)),
        (),
        (Answer.FAIL, (ill(ACTIVATING, 0),), False),
    ),
    "not up again and again": ((unit(FAILED, 9),), (), (Answer.FAIL, (ill(FAILED, 9),), False)),
    "refused, and up": ((unit(),), (LINE,), (Answer.PASS, (), False)),
    "refused, two restarts, up": ((unit(restarts=2),), (LINE,), (Answer.PASS, (), False)),
    "refused, two restarts, not up": (
        (unit(FAILED, 2),),
        (LINE,),
        (Answer.FAIL, (ill(FAILED, 2),), False),
    ),
    "refused, three restarts, up": ((unit(restarts=3),), (LINE,), (Answer.PASS, (), False)),
    "refused, three restarts, not up, in words that prove nothing": (
        (unit(FAILED, 3),),
        ("failed to probe",),
        (Answer.FAIL, (ill(FAILED, 3), "the kernel refused it: failed to probe"), False),
    ),
    "refused, three restarts, not up": (
        (unit(), unit(FAILED, 3)),
        (LINE,),
        (Answer.FAIL, (ill(FAILED, 3), REFUSED), True),
    ),
    "cannot be asked": (
        Unknown("no bus"),
        (LINE,),
        (Answer.NO_VERDICT, ("services: no bus",), False),
    ),
}


@pytest.mark.parametrize(("units", "refusals", "found"), UNITS.values(), ids=UNITS)
def test_services_are_judged(
    units: tuple[Unit, ...] | Unknown, refusals: tuple[str, ...], found: Found
) -> None:
    check = unit_check(units, refusals)
    assert (check.name, check.notes) == ("units", ())
    assert (check.answer, check.reasons, check.proof) == found


def test_every_state_of_a_service_is_well_or_ill() -> None:
    for state in UnitState:
        for restarts in (0, 1, 9):
            well = state is UnitState.ACTIVE and restarts == 0
            assert is_ill(unit(state, restarts)) == (not well)


@pytest.mark.parametrize(
    ("line", "decisive"),
    [
        (LINE, True),
        ("Verifier error: load program: argument list too long", True),
        ("program cil_from_netdev: load program: invalid argument", True),
        ("prog 'calico_sendmsg_v46': BPF program load failed: Invalid argument", True),
        ('iptables: unknown option "--set-mark"', True),
        ("Extension MARK revision 0 not supported, missing kernel module?", True),
        ("bpf_set_retval#187: R1 is not a scalar", True),
        ("load program: permission denied", False),
        ("failed to probe socket filter", False),
        ("Argument list too long", False),
        ("missing kernel module: xt_mark", False),
        ("bpf_set_retval is not supported", False),
    ],
)
def test_the_words_of_a_refusal_are_known(line: str, *, decisive: bool) -> None:
    assert REFUSAL.search(line)
    assert bool(DECISIVE.search(line)) is decisive


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


# --- a trial before which nothing was learned ----------------------------------------------------

CILIUM_HERE = CniConfiguration(path="05.conflist", plugins=("cilium-cni", "portmap"), digest="")
FLANNEL_HERE = replace(CILIUM_HERE, plugins=("flannel", "portmap"))


def running(*names: str) -> tuple[Agent, ...]:
    return tuple(Agent(name=name, age=9.0, restarts=0, image="") for name in names)


FIRST: dict[str, tuple[Cni, str]] = {
    "only the kubelet": (Cni(configuration=CILIUM_HERE, agents=running("kubelet")), "cilium-cni"),
    "nothing at all": (Cni(configuration=CILIUM_HERE, agents=()), "cilium-cni"),
    "flannel alone": (Cni(configuration=FLANNEL_HERE, agents=()), "flannel"),
    "its agent": (Cni(configuration=CILIUM_HERE, agents=running("kubelet", "cilium-agent")), ""),
    "k3s, which holds it": (Cni(configuration=FLANNEL_HERE, agents=running("k3s-agent")), ""),
    "a CNI that is not known": (
        Cni(configuration=replace(CILIUM_HERE, plugins=("somebody's",)), agents=()),
        "",
    ),
    "no CNI": (Cni(configuration=None, agents=()), ""),
    "a configuration that cannot be read": (Cni(configuration=Unknown("?"), agents=()), ""),
    "agents that cannot be read": (Cni(configuration=CILIUM_HERE, agents=Unknown("EPERM")), ""),
}


@pytest.mark.parametrize("name", FIRST)
def test_the_agent_of_a_known_cni_is_waited_for_where_nothing_was_learned(name: str) -> None:
    cni, missing = FIRST[name]
    why = f"no agent of {missing} runs yet, and nothing was learned before"
    open_ = Check(name="agents", answer=Answer.NO_VERDICT, reasons=(why,), waits=True)
    passed = Check(name="agents", answer=Answer.PASS)
    assert first_agents_check(cni) == (open_ if missing else passed)
