"""A boot is watched until its network has settled, and a sound one is learned from."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.conftest import run_inside, sh
from tests.unit.core.samples import NETWORK, contract, observation
from tests.unit.workers.debian_host import BOOT, OLD, Debian, debian
from trialboot import verification
from trialboot.config import Config, Verify
from trialboot.core.contract import Amendments, Contract
from trialboot.core.facts import Agent, BootId, Cni, Network, Observation, Sysctl, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Judgement
from trialboot.core.trial import Decision, Phase, Trial
from trialboot.core.verdict import Answer, Check, Outcome, Verdict
from trialboot.host import Host
from trialboot.readers import kernel
from trialboot.workers import verify
from trialboot.writers import store

AT: Final = "2026-01-01T00:00:00Z"
CONTRACTS: Final = "var/lib/trialboot/contracts.json"
SEEN: Final = observation()


def judgement(outcome: Outcome = Outcome.SOUND, at: str = AT) -> Judgement:
    return Judgement(boot=BootId(BOOT), at=at, verdict=Verdict(outcome=outcome, reasons=("r",)))


# --- learning -----------------------------------------------------------------------------------


def test_nothing_is_learned_yet_on_a_fresh_host(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    assert verification.newest_contract(host) is None
    assert verification.contracts(host) is None


def test_a_sound_boot_is_learned_from(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    learned = verification.learn_from(host, judgement(), SEEN)
    assert isinstance(learned, Contract)
    assert (learned.kernel, learned.boot) == (OLD, BOOT)
    assert verification.newest_contract(host) == learned


def test_a_pod_that_is_being_made_is_no_model(tmp_path: Path) -> None:
    links = NETWORK.links
    assert not isinstance(links, Unknown)
    making = links[-1].name
    half = replace(
        NETWORK,
        attachments=tuple(a for a in NETWORK.attachments if a.place != f"dev:{making}"),  # type: ignore[union-attr]
        sysctls=tuple(
            Sysctl(name=f"net.ipv4.conf.{x.name}.rp_filter", value=str(2 * (x.name == making)))
            for x in links
        ),
    )
    seen = replace(observation(half), young=frozenset({making}))
    learned = verification.learn_from(debian(tmp_path).host, judgement(), seen)
    assert isinstance(learned, Contract)
    assert [role.carried for role in learned.pod_roles] == [4]
    assert learned.pods == (("lxc*", 4),)
    assert {s.values for s in learned.sysctls} == {("0",)}


@pytest.mark.parametrize("outcome", [Outcome.WORSE, Outcome.UNSURE])
def test_any_other_boot_teaches_nothing(tmp_path: Path, outcome: Outcome) -> None:
    host = debian(tmp_path).host
    learned = verification.learn_from(host, judgement(outcome), SEEN)
    assert learned == Unknown(f"the verdict is {outcome}")
    assert not (tmp_path / CONTRACTS).exists()


def test_a_network_that_was_not_read_whole_teaches_nothing(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    blind = replace(NETWORK, attachments=Unknown("bpf(2) is not permitted"))
    assert isinstance(verification.learn_from(host, judgement(), observation(blind)), Unknown)
    assert not (tmp_path / CONTRACTS).exists()


def test_without_a_running_kernel_nothing_is_learned(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    (tmp_path / "proc/version").unlink()
    learned = verification.learn_from(host, judgement(), SEEN)
    assert learned == Unknown("/proc/version: No such file or directory")


def test_the_last_three_contracts_are_kept_newest_first(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    times = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 6)]
    for at in times:
        verification.learn_from(host, judgement(at=at), SEEN)
    found = verification.contracts(host)
    assert isinstance(found, tuple)
    assert [kept.learned_at for kept in found] == times[:1:-1]


@pytest.mark.parametrize("content", ["", "{", '{"format": 2, "value": []}', "\x00"])
def test_an_unreadable_contract_is_unknown_and_the_next_sound_boot_sets_it_aside(
    tmp_path: Path, content: str
) -> None:
    host = debian(tmp_path).host
    file = tmp_path / CONTRACTS
    file.parent.mkdir(parents=True)
    file.write_text(content)
    found = verification.newest_contract(host)
    assert isinstance(found, Unknown)
    assert "/var/lib/trialboot/contracts.json" in found.why
    learned = verification.learn_from(host, judgement(), SEEN)
    assert verification.contracts(host) == (learned,)
    aside = file.with_name("contracts.json.unreadable-20260102T123015Z")
    assert aside.read_text() == content


def test_an_empty_list_of_contracts_is_nothing_learned(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    store.save(host, store.CONTRACTS, ())
    assert verification.newest_contract(host) is None


# --- asking -------------------------------------------------------------------------------------


def ask(
    host: Debian, known: Contract | Unknown | None, network: Network = NETWORK, **verify: object
) -> dict[str, Check]:
    config = Config(verify=Verify(**verify))  # type: ignore[arg-type]  # a table of any keys
    promise = verification._Promise(contract=known, amendments=Amendments())
    checks = verification._ask(host.host, config, promise, observation(network))
    return {check.name: check for check in checks}


def test_against_a_contract_all_questions_are_asked(tmp_path: Path) -> None:
    checks = ask(debian(tmp_path), contract())
    assert list(checks) == [
        "roles", "pods", "links", "routes", "rules", "neighbours", "sysctls", "agents", "units",
        "processes", "load",
    ]  # fmt: skip
    assert {check.answer for check in checks.values()} == {Answer.PASS}


def test_without_a_contract_a_healthy_network_is_asked_for(tmp_path: Path) -> None:
    names = ["healthy", "agents", "units", "processes", "load"]
    assert list(ask(debian(tmp_path), None)) == names


def test_an_unreadable_contract_gives_no_verdict_not_a_pass(tmp_path: Path) -> None:
    check = ask(debian(tmp_path), Unknown("not JSON"))["contract"]
    assert check.answer is Answer.NO_VERDICT
    assert check.reasons == ("the contract cannot be read: not JSON",)


def test_the_operators_services_are_asked_for(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.unit_states = {"kubelet.service": "active"}
    units = ("kubelet.service", "containerd.service")
    check = ask(host, contract(), units=units)["units"]
    assert check.answer is Answer.FAIL
    assert check.reasons == ("containerd.service is inactive, restarted 0 times in this boot",)


def test_the_operators_processes_are_asked_for(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / "proc").rename(tmp_path / "old-proc")
    (tmp_path / "proc").symlink_to("/proc")
    check = ask(host, contract(), processes=("no-such-agent",))["processes"]
    assert (check.answer, check.reasons) == (Answer.FAIL, ("no process no-such-agent runs",))


PASSES: Final = Check(name="roles", answer=Answer.PASS)
WAITS: Final = Check(name="pods", answer=Answer.NO_VERDICT, waits=True)


@pytest.mark.parametrize(
    ("others", "asked"),
    [
        ((PASSES,), True),
        ((PASSES, WAITS), True),  # a node on trial is drained: no pod may come
        ((replace(WAITS, waits=False),), False),
        ((PASSES, Check(name="links", answer=Answer.FAIL)), False),
    ],
)
def test_the_operators_checks_are_asked_once_nothing_else_is_in_the_way(
    tmp_path: Path, others: tuple[Check, ...], *, asked: bool
) -> None:
    beside = verification._Beside(debian(tmp_path).host, Config())
    names = [check.name for check in beside.ask(others)]
    assert names == (["operator", "proof"] if asked else [])


@given(st.floats(0.1, 1000), st.floats(0, 3600))
def test_enough_samples_are_remembered_to_span_the_settling_time(
    interval: float, settle: float
) -> None:
    config = Config(verify=Verify(interval_seconds=interval, settle_seconds=settle))
    assert (verification._samples_kept(config) - 1) * interval >= settle


# --- watching, in a network namespace of its own ------------------------------------------------


@pytest.mark.parametrize(("ready", "learns"), [(True, True), (None, True), (False, False)])
def test_a_node_that_is_not_ready_teaches_nothing(
    tmp_path: Path, *, ready: bool | None, learns: bool
) -> None:
    host = debian(tmp_path).host
    wish = Wish(cordoned=False, reason="", message="", condition="", boot="", at="", notices=())
    told = store.Delivered(wish=wish, cordoned=False, foreign=False, ready=ready)
    store.save_delivered(host, told)
    learned = verification.learn_from(host, judgement(), SEEN)
    assert isinstance(learned, Contract) is learns
    if not learns:
        assert learned == Unknown("the cluster says that this node is not Ready")


@pytest.mark.parametrize(("age", "learns"), [(299.0, False), (300.0, True)])
def test_a_cni_that_has_just_started_teaches_nothing(
    tmp_path: Path, age: float, *, learns: bool
) -> None:
    host = debian(tmp_path).host
    agent = Agent(name="cilium-agent", age=age, restarts=0, image="cilium:v1")
    seen = observation(cni=Cni(configuration=None, agents=(agent,)))
    learned = verification.learn_from(host, judgement(), seen)
    assert isinstance(learned, Contract) is learns
    assert isinstance(verification.newest_contract(host), Contract) is learns


@dataclass
class Watched:
    """A host whose /proc is real and whose clock goes on only in sleep.

    Its wall clock jumps by years, back and forth: a deadline that went by it would not be kept.
    """

    root: Path
    clock: float = 1000.0
    said: list[str] = field(default_factory=list)
    years: Iterator[int] = field(default_factory=lambda: cycle((2026, 1970, 2099, 2001)))
    while_asleep: Callable[[], None] = lambda: None

    @property
    def host(self) -> Host:
        if not (self.root / "sys").exists():
            (self.root / "sys").symlink_to("/sys")
            (self.root / "proc").mkdir()
            # Without others' processes: agents of this machine's own cluster are none of it.
            for entry in Path("/proc").iterdir():
                if not entry.name.isdecimal() or entry.name == str(os.getpid()):
                    (self.root / "proc" / entry.name).symlink_to(entry)
        return Host(
            root=self.root,
            run=lambda *_, **__: "",
            sleep=self._sleep,
            monotonic=lambda: self.clock,
            now=lambda: datetime(next(self.years), 1, 1, tzinfo=timezone.utc),
        )

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        self.while_asleep()

    def verify(self, config: Config | None = None) -> tuple[Judgement, Observation]:
        found = verification.verify(self.host, config or Config(), self.said.append)
        if isinstance(found[1].network.attachments, Unknown):
            pytest.skip(f"eBPF programs cannot be listed here: {found[1].network.attachments.why}")
        return found


HEALTHY: Final = """
ip link add eth0 type veth peer name eth1
ip addr add 10.1.0.2/24 dev eth0
ip link set eth0 up
ip link set eth1 up
ip route add default via 10.1.0.1 proto static
for link in eth0 eth1; do
  until ip -oneline link show $link | grep -q "state UP"; do sleep 0.05; done
done
"""


@pytest.mark.host
def test_a_healthy_node_is_sound_once_it_has_stayed_the_same(tmp_path: Path) -> None:
    def flow() -> tuple[Judgement, float, list[str]]:
        sh(HEALTHY)
        watched = Watched(tmp_path)
        found, _ = watched.verify()
        return found, watched.clock, watched.said

    found, clock, said = run_inside(flow)
    assert found.verdict.outcome is Outcome.SOUND
    assert found.boot == kernel.read_boot_id(Host())
    # What the machine has been up already counts for the settling minute.
    assert clock == 1030.0
    assert said == [f"{at} s of 600 s: passing, settling" for at in (60, 70, 80)]


@pytest.mark.host
def test_a_node_that_settles_late_is_waited_for(tmp_path: Path) -> None:
    def flow() -> tuple[Judgement, float, list[str]]:
        watched = Watched(tmp_path)

        def grow() -> None:
            if watched.clock == 1200.0:
                sh(HEALTHY)

        watched.while_asleep = grow
        found, _ = watched.verify()
        return found, watched.clock, watched.said

    found, clock, said = run_inside(flow)
    assert found.verdict.outcome is Outcome.SOUND
    assert clock == 1230.0
    assert said[0] == "60 s of 600 s: waiting for healthy"


@pytest.mark.host
def test_a_node_that_shows_nothing_to_learn_from_is_unsure_at_the_deadline(
    tmp_path: Path,
) -> None:
    def flow() -> tuple[Judgement, float]:
        watched = Watched(tmp_path)
        return watched.verify()[0], watched.clock

    found, clock = run_inside(flow)
    assert found.verdict.outcome is Outcome.UNSURE
    assert found.verdict.reasons == (
        "there is no default route through a link with carrier to learn from",
    )
    assert clock == 1540.0


@pytest.mark.host
def test_a_disk_that_takes_no_record_costs_no_verdict(tmp_path: Path) -> None:
    def flow() -> Judgement | Unknown | None:
        sh(HEALTHY)
        watched = Watched(tmp_path)
        for name in ("contracts", "reached", "network", "ebpf"):
            (tmp_path / f"var/lib/trialboot/.{name}.json.draft").mkdir(parents=True)
        verify.work(watched.host)
        return store.load(watched.host, store.JUDGEMENT, Judgement)

    found = run_inside(flow)
    assert isinstance(found, Judgement)
    assert found.verdict.outcome is Outcome.SOUND


@pytest.mark.host
def test_what_a_sound_boot_taught_is_what_the_next_one_is_held_against(tmp_path: Path) -> None:
    def flow() -> tuple[Judgement, Judgement, float]:
        sh(HEALTHY)
        watched = Watched(tmp_path)
        first, seen = watched.verify()
        assert isinstance(verification.learn_from(watched.host, first, seen), Contract)
        again, _ = watched.verify()
        sh("ip route del default")
        watched.clock = 0.0
        return again, watched.verify()[0], watched.clock

    again, worse, clock = run_inside(flow)
    assert again.verdict.outcome is Outcome.SOUND
    assert worse.verdict.outcome is Outcome.WORSE
    assert worse.verdict.reasons == ("route default via 10.1.0.1 dev eth0 table 254 is gone",)
    assert clock == 540.0, "a missing route is no proof: it may come until the deadline"


@pytest.mark.host
@pytest.mark.parametrize("phase", [Phase.TRIAL, Phase.CONDEMNED])
def test_a_contract_that_cannot_be_read_leaves_a_trial_unsure(
    tmp_path: Path, phase: Phase
) -> None:
    found = run_inside(lambda: _judged_with_a_newer_contract(tmp_path, phase))
    assert found.verdict.outcome is Outcome.UNSURE
    assert found.verdict.reasons[0].startswith("the contract cannot be read: ")


@pytest.mark.host
@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.ARMED, Phase.RECOVERED])
def test_at_rest_a_contract_of_a_newer_version_is_learned_anew(
    tmp_path: Path, phase: Phase
) -> None:
    found = run_inside(lambda: _judged_with_a_newer_contract(tmp_path, phase))
    assert found.verdict.outcome is Outcome.SOUND
    assert "healthy" in [check.name for check in found.verdict.checks]


@pytest.mark.host
def test_a_record_that_cannot_be_read_is_left_where_it_is_and_may_be_a_trials(
    tmp_path: Path,
) -> None:
    decision = tmp_path / "var/lib/trialboot/decision.json"
    decision.parent.mkdir(parents=True)
    decision.write_text("{")
    (tmp_path / CONTRACTS).write_text("{")

    def flow() -> Judgement:
        sh(HEALTHY)
        return Watched(tmp_path).verify()[0]

    assert run_inside(flow).verdict.outcome is Outcome.UNSURE
    assert decision.read_text() == "{"


def _judged_with_a_newer_contract(root: Path, phase: Phase) -> Judgement:
    sh(HEALTHY)
    watched = Watched(root)
    store.save_decision(watched.host, Decision(trial=Trial(phase=phase)))
    (root / CONTRACTS).write_text(json.dumps({"format": 1, "value": [{"format": 9, "new": 1}]}))
    return watched.verify()[0]
