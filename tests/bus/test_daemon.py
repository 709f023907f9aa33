"""The real daemon on a private bus: what it asks systemd and logind for, and in which order."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bus.conftest import (
    ARMED,
    AT,
    BOOT,
    GOOD,
    KEEP_OBJECTS,
    NEW,
    NODE,
    OBSERVE,
    OLDER,
    PIN,
    RENDER,
    SNAPSHOT,
    VERIFY,
    Machine,
    failing,
    judgement,
    outlook,
    wait_for,
)
from trialboot.core.actions import BootOnce, ForgetOnce, Keep, PinKnownGood, Reboot, Secure, Tell
from trialboot.core.change import Area, Change
from trialboot.core.facts import BootId, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Judgement
from trialboot.core.packagechange import PackageChange
from trialboot.core.trial import Condemned, Crowded, Decision, Phase, Trial
from trialboot.core.verdict import Outcome
from trialboot.errors import HostError
from trialboot.resident.judging import APART
from trialboot.writers import store

pytestmark = pytest.mark.bus

EARNED = Trial(known_good=GOOD.boot_set, pinned=True)
MARK = Condemned(
    fingerprint=NEW.boot_set.fingerprint, release=NEW.boot_set.release, why="worse", at=AT
)
RECOVERED = replace(EARNED, phase=Phase.RECOVERED, candidate=NEW, condemned=(MARK,))


def todo(call: dict[str, Any]) -> list[str]:
    """Name the actions that were on disk when a call was made."""
    return [action["is"] for action in call["decision"]["todo"]]


def phase(call: dict[str, Any]) -> str:
    return str(call["decision"]["trial"]["phase"])


def on_trial(machine: Machine, outcome: Outcome) -> None:
    """Have the candidate of an armed trial run now, and be judged."""
    machine.remembers(Decision(trial=replace(EARNED, phase=Phase.ARMED, candidate=NEW)))
    machine.script(snapshot=[outlook(NEW, NEW)], verify=[judgement(outcome, "eBPF is missing")])


# --- life ---------------------------------------------------------------------------------------


def test_the_daemon_tells_its_supervisor_once_its_name_and_state_are_there(
    machine: Machine,
) -> None:
    pytest.importorskip("systemd.daemon")
    machine.script(snapshot=[{"delay": 60.0}])
    machine.start()
    heard = wait_for("READY=1", machine.heard)
    assert heard == ["READY=1"]
    assert machine.state()["phase"] == "steady"
    assert json.loads(machine.ask("Status"))["phase"] == "steady"


def test_sigterm_ends_it_cleanly_with_its_state_written(machine: Machine) -> None:
    daemon = machine.runs()
    (machine.root / "run/trialboot/state.json").unlink()
    daemon.send_signal(signal.SIGTERM)
    assert machine.ends(daemon)[0] == 0
    assert machine.state()["verdict"]["outcome"] == "sound"
    with pytest.raises(HostError):
        machine.ask("Status")


def test_a_second_daemon_is_refused_with_what_to_look_at(machine: Machine) -> None:
    machine.runs()
    code, said = machine.ends(machine.start())
    assert code == 74
    assert said.splitlines()[-1] == (
        "org.trialboot1 is taken: another trialbootd runs (systemctl status trialbootd)"
    )
    assert machine.ask("Status")


def test_a_wrong_key_ends_it_with_the_keys_name(machine: Machine) -> None:
    machine.configure('moed = "armed"\n')
    code, said = machine.ends(machine.start())
    assert code == 78
    assert "/etc/trialboot/trialboot.toml: unknown key: moed" in said
    assert machine.calls() == []


def test_a_bus_that_goes_away_ends_it(machine: Machine) -> None:
    daemon = machine.runs()
    machine.bus_daemon.kill()
    assert machine.ends(daemon)[0] != 0


def test_a_systemd_that_is_not_there_is_told(machine: Machine) -> None:
    machine.script(snapshot=[{"refuse": "Unit trialboot-snapshot.service not found."}])
    machine.start()
    wait_for("the trouble", lambda: machine.state()["trouble"])
    assert machine.state()["trouble"] == [
        "trialboot-snapshot.service: systemd StartUnit: Unit trialboot-snapshot.service not found."
    ]
    machine.script(snapshot=[outlook()])
    machine.rests()  # the trouble is told before the next try has its time
    machine.later(301)
    wait_for("the snapshot", lambda: machine.state()["verdict"])
    wait_for("no trouble any more", lambda: not machine.state()["trouble"])


def test_it_carries_no_library_of_the_workers() -> None:
    program = "import json, sys, trialboot.daemon; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "dbus" in loaded
    assert not loaded & {
        "asyncio",
        "gi",
        "http",
        "prometheus_client",
        "psutil",
        "pyroute2",
        "ssl",
        "yaml",
    }


# --- a host at rest -----------------------------------------------------------------------------


def test_a_sound_first_boot_earns_the_known_good(machine: Machine) -> None:
    machine.runs()
    state = machine.state()
    assert state["known_good"]["release"] == "6.1-good"
    assert (state["phase"], state["pinned"], state["trouble"]) == ("steady", True, [])
    assert state["verdict"]["outcome"] == "sound"
    (pinned,) = machine.starts(PIN)
    assert todo(pinned) == ["Keep", "PinKnownGood", "Tell"]
    assert machine.decision().todo == ()
    units = [call["unit"] for call in machine.calls() if call.get("unit") != RENDER]
    assert units == [SNAPSHOT, VERIFY, PIN, KEEP_OBJECTS, SNAPSHOT]


APT = 777


def apt_lives(machine: Machine, *, lives: bool = True) -> None:
    """Have a process, or none, that was started before this machine's notes (proc(5), stat)."""
    place = machine.root / f"proc/{APT}"
    if lives:
        machine.write(f"/proc/{APT}/stat", f"{APT} (apt-get) S {'0 ' * 18}1000 0\n")
    else:
        shutil.rmtree(place)


def note(machine: Machine, at: int, event: str, *plan: str) -> None:
    """Leave a note as the hooks do, and wait until the daemon has taken it."""
    file = f"/var/lib/trialboot/spool/{at:013}-{at}-{event}.ev"
    packages = "".join(f"pkg={line}\n" for line in plan)
    chain = f"chain=900:sh {APT}:apt-get"
    machine.write(
        file, f"event={event}\nup={at}.00\nboot={BOOT}\npid={at}\n{chain}\n{packages}end\n"
    )
    wait_for("the note to be taken", lambda: not machine.host.exists(file))
    machine.ask("Status")


def test_a_change_that_a_package_run_makes_is_armed(machine: Machine) -> None:
    machine.runs()
    machine.script(snapshot=[outlook(GOOD, NEW)])
    note(machine, 300, "end")
    machine.later(6)
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")
    armed = machine.starts(PIN)[-1]
    assert phase(armed) == "armed", "the decision is on disk before the loader is touched"
    assert todo(armed) == ["PinKnownGood", "Keep", "BootOnce"]
    assert machine.state()["candidate"]["release"] == "6.1-new"
    assert machine.state()["counters"]["transactions"] == 1
    assert machine.reboots() == []


def test_the_host_is_looked_at_once_and_only_after_the_end_of_a_package_run(
    machine: Machine,
) -> None:
    apt_lives(machine)
    machine.runs()
    before = len(machine.starts(SNAPSHOT))
    for number, event in enumerate(("begin", "dpkg-begin", "dpkg-end", "dpkg-end")):
        note(machine, 300 + number, event)
        machine.later(20)
    machine.rests()
    assert len(machine.starts(SNAPSHOT)) == before
    assert machine.state()["may_reboot"]["reasons"] == ["a package run is under way (apt)"]
    note(machine, 309, "end")
    machine.later(6)
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) > 1)
    machine.rests()
    units = [call["unit"] for call in machine.calls() if call.get("unit") in {SNAPSHOT, VERIFY}]
    assert units[-3:] == [SNAPSHOT, VERIFY, SNAPSHOT]
    assert len(machine.starts(SNAPSHOT)) == before + 2
    assert machine.state()["may_reboot"]["answer"] is True


def test_a_package_run_that_was_killed_is_looked_at_all_the_same(machine: Machine) -> None:
    apt_lives(machine)
    machine.runs()
    before = len(machine.starts(SNAPSHOT))
    note(machine, 300, "begin")
    machine.later(40)
    machine.rests()
    assert len(machine.starts(SNAPSHOT)) == before
    apt_lives(machine, lives=False)
    machine.later(31)
    machine.later(6)
    wait_for("the snapshot", lambda: len(machine.starts(SNAPSHOT)) > before)
    (run,) = machine.state()["transactions"]
    assert (run["state"], run["manager"]) == ("interrupted", "apt")


def test_whoever_changed_what_boots_is_told_at_once_and_nothing_is_armed_yet(
    machine: Machine,
) -> None:
    apt_lives(machine)
    machine.runs()
    rows = (Change(area=Area.KERNEL, subject="release", before="6.1", after="6.2"),)
    machine.script(snapshot=[outlook(GOOD, NEW, changes=rows, sentence="It is another kernel.")])
    before = len(machine.starts(SNAPSHOT))
    note(machine, 300, "begin", "linux-image-6.2 - - none < 6.2 amd64 none /a.deb")
    note(machine, 301, "end")
    wait_for("the notice", lambda: machine.host.exists("/run/trialboot/notice"))
    machine.rests()
    assert len(machine.starts(SNAPSHOT)) == before + 1
    assert machine.state()["phase"] == "steady"
    text = machine.host.read_text("/run/trialboot/notice")
    assert text.startswith("trialboot: It is another kernel.\n")
    machine.later(6)
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")


def test_what_changes_while_a_snapshot_is_taken_is_looked_at_once_more(machine: Machine) -> None:
    apt_lives(machine)
    machine.runs()
    before = len(machine.starts(SNAPSHOT))
    machine.script(snapshot=[{**outlook(GOOD, NEW), "delay": 2.0}])
    note(machine, 300, "begin", "linux-image-6.2 - - none < 6.2 amd64 none /a.deb")
    note(machine, 301, "end")
    wait_for("the look to tell", lambda: len(machine.starts(SNAPSHOT)) > before)
    machine.later(6)  # quiet has come, and the look to tell is still under way
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) > 1)
    units = [call["unit"] for call in machine.calls() if call.get("unit") not in {RENDER, None}]
    looked = units.index(VERIFY, units.index(VERIFY) + 1)
    assert units[looked - 3 : looked] == [SNAPSHOT, SNAPSHOT, PIN]
    assert units[:looked].count(SNAPSHOT) == before + 2


def test_a_snapshot_in_the_middle_of_a_package_run_decides_nothing(machine: Machine) -> None:
    apt_lives(machine)
    machine.runs()
    machine.script(snapshot=[{**outlook(GOOD, NEW, damage=("half-way",)), "delay": 1.0}])
    before = len(machine.starts(SNAPSHOT))
    machine.ask("Verify")
    wait_for("the snapshot", lambda: len(machine.starts(SNAPSHOT)) > before)
    note(machine, 300, "begin", "linux-image-6.2 - - none < 6.2 amd64 none /a.deb")
    machine.rests()
    time.sleep(1.2)
    machine.rests()
    assert machine.state()["phase"] == "steady"
    assert [todo(pin) for pin in machine.starts(PIN)] == [["Keep", "PinKnownGood", "Tell"]]
    note(machine, 301, "end")
    machine.later(6)
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")


def test_what_changed_last_speaks_against_a_reboot_until_it_was_looked_at(
    machine: Machine,
) -> None:
    apt_lives(machine)
    machine.runs()
    note(machine, 300, "begin")
    note(machine, 301, "end")
    (why,) = machine.state()["may_reboot"]["reasons"]
    assert "not looked at yet" in why
    machine.later(6)
    wait_for("the look", lambda: machine.state()["may_reboot"]["answer"])


def test_a_look_to_tell_that_systemd_refuses_is_no_excuse_for_the_next(machine: Machine) -> None:
    apt_lives(machine)
    machine.runs()
    machine.script(snapshot=[{"refuse": "no"}])
    note(machine, 300, "begin", "linux-image-6.2 - - none < 6.2 amd64 none /a.deb")
    note(machine, 301, "end")
    wait_for("the refusal", lambda: machine.state()["trouble"])
    machine.script(snapshot=[outlook(GOOD, NEW)])
    machine.later(301)
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")


def test_what_the_pin_worker_writes_to_boot_is_no_news(machine: Machine) -> None:
    (machine.root / "boot/grub").mkdir(parents=True)
    machine.script(pin=[{"files": {"/boot/grub/grubenv": "written"}}])
    machine.runs()
    before = len(machine.starts(SNAPSHOT))
    machine.later(6)
    machine.rests()
    assert len(machine.starts(SNAPSHOT)) == before


def test_a_loader_that_is_only_read_is_observed_whatever_the_configuration_says(
    machine: Machine,
) -> None:
    machine.script(snapshot=[outlook(GOOD, NEW, controlled=False)])
    machine.runs()
    assert (machine.starts(PIN), machine.state()["pinned"]) == ([], False)
    assert machine.state()["mode"] == "observe"
    assert machine.state()["trouble"][0].startswith("loader: armed by the configuration")


def test_a_transaction_is_settled_with_what_the_package_database_says(machine: Machine) -> None:
    apt_lives(machine)
    machine.runs()
    changed = PackageChange(name="a", architecture="all", before="1", after="2")
    seen = outlook(GOOD, GOOD, packages=(changed,))
    seen["files"][store.PACKAGES_SEEN] = "the newer list"
    machine.script(snapshot=[seen])
    note(machine, 300, "begin", "a 1 all none < 2 all none /a.deb")
    note(machine, 301, "end")
    machine.later(6)
    wait_for("the end", lambda: machine.state()["transactions"][-1]["changed"])
    run = machine.state()["transactions"][-1]
    assert (run["state"], run["text"]) == ("closed", "apt: 1 package changed, closed")
    assert machine.host.read_text(store.PACKAGES) == "the newer list"


def test_a_journal_that_cannot_be_read_is_set_aside_and_told(machine: Machine) -> None:
    machine.write("/var/lib/trialboot/transactions.json", "{")
    machine.runs()
    (told,) = machine.state()["trouble"]
    assert told.startswith("transactions: /var/lib/trialboot/transactions.json: ")
    assert "set aside as /var/lib/trialboot/transactions.json.unreadable-" in told


def test_files_that_change_without_a_package_run_are_looked_at_once_they_rest(
    machine: Machine,
) -> None:
    (machine.root / "boot/grub").mkdir(parents=True)
    machine.runs()
    before = len(machine.starts(SNAPSHOT))
    machine.write("/boot/grub/grub.cfg", "another menu")
    machine.ask("Status")
    machine.rests()
    assert len(machine.starts(SNAPSHOT)) == before
    machine.later(6)
    wait_for("the snapshot", lambda: len(machine.starts(SNAPSHOT)) == before + 1)


# --- the network while no trial runs ------------------------------------------------------------

NETWORKD = "systemd-networkd.service"
JUDGED = 62
"""Seconds after a verification in which no service has another one begin."""


def settled(machine: Machine) -> None:
    """Have this boot judged, long enough ago."""
    machine.runs()
    machine.later(JUDGED)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 1


def test_the_network_is_verified_once_after_a_burst_of_restarts(machine: Machine) -> None:
    settled(machine)
    for unit in (NETWORKD, "systemd-udevd.service", NETWORKD):
        machine.restart(unit)
        machine.rests()
        machine.later(6)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 1, "each restart waits for quiet anew"
    machine.later(6)
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) == 2)
    machine.later(11)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 2


@pytest.mark.parametrize(("unit", "verifications"), [("frr.service", 2), ("cron.service", 1)])
def test_the_operators_services_count_as_network_services_and_others_do_not(
    machine: Machine, unit: str, verifications: int
) -> None:
    machine.configure(f'{ARMED}verify.units = ["frr.service"]\n')
    settled(machine)
    machine.restart(unit)
    machine.rests()
    machine.later(11)
    machine.rests()
    assert len(machine.starts(VERIFY)) == verifications


def test_a_restart_during_a_verification_is_followed_by_another_one(machine: Machine) -> None:
    settled(machine)
    machine.script(verify=[{**judgement(Outcome.SOUND), "delay": 1.5}])
    machine.ask("Verify")
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) == 2)
    machine.restart(NETWORKD)
    machine.rests()
    machine.later(11)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 2, "one is under way at the most"
    time.sleep(1.5)
    machine.rests()
    machine.later(JUDGED)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 3


def test_the_operator_who_asks_during_a_verification_gets_one_of_his_own(
    machine: Machine,
) -> None:
    settled(machine)
    machine.script(verify=[{**judgement(Outcome.SOUND), "delay": 1.0}])
    machine.ask("Verify")
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) == 2)
    machine.ask("Verify")
    machine.ask("Verify")
    wait_for("the second one", lambda: len(machine.starts(VERIFY)) == 3)
    time.sleep(1.2)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 3


def test_no_verification_begins_in_the_middle_of_a_package_run(machine: Machine) -> None:
    apt_lives(machine)
    settled(machine)
    note(machine, 300, "begin")
    machine.restart(NETWORKD)
    machine.rests()
    machine.later(11)
    machine.ask("Verify")
    machine.later(601)  # the repeat is due as well
    machine.rests()
    assert len(machine.starts(VERIFY)) == 1
    note(machine, 301, "end")
    machine.rests()
    assert len(machine.starts(VERIFY)) == 1, "it may be one cycle of many"
    machine.later(6)
    wait_for("the verification", lambda: len(machine.starts(VERIFY)) == 2)
    machine.later(31)
    machine.rests()
    assert len(machine.starts(VERIFY)) == 2, "all that asked meanwhile is answered by the one"


def test_a_trial_is_verified_also_in_the_middle_of_a_package_run(machine: Machine) -> None:
    apt_lives(machine)
    on_trial(machine, Outcome.UNSURE)
    machine.script(snapshot=[{**outlook(NEW, NEW), "delay": 0.5}])
    machine.start()
    wait_for("the snapshot", lambda: machine.starts(SNAPSHOT))
    note(machine, 300, "begin")
    wait_for("the first verdict", lambda: machine.state()["verdict"])
    machine.rests()
    assert machine.state()["may_reboot"]["reasons"][0] == "a package run is under way (apt)"
    machine.script(verify=[judgement(Outcome.SOUND)])
    machine.later(601)
    wait_for("the second verdict", lambda: machine.state()["verdict"]["outcome"] == "sound")


@pytest.mark.parametrize("cordons", [True, False])
def test_a_network_that_breaks_at_rest_is_told_cordons_by_policy_and_reboots_nobody(
    machine: Machine, *, cordons: bool
) -> None:
    machine.configure(f"{ARMED}verify.cordon_at_rest = {str(cordons).lower()}\n")
    settled(machine)
    machine.script(verify=[judgement(Outcome.WORSE, "10 rules are gone")])
    pins = len(machine.starts(PIN))
    note(machine, 300, "end")
    machine.later(6)
    wait_for("the verdict", lambda: machine.state()["verdict"]["outcome"] == "worse")
    machine.rests()
    assert machine.state()["cluster"]["cordon_wished"] is cordons
    found = store.load_wish(machine.host)
    assert isinstance(found, Wish)
    assert (found.reason, found.condition, len(found.notices)) == ("NetworkWorse", "False", 1)
    assert (machine.state()["phase"], machine.reboots()) == ("steady", [])
    assert len(machine.starts(PIN)) == pins


# --- pre-checks, and a known-good that packages damage ------------------------------------------

LACKING = replace(NEW, objections=("ice is missing from the next kernel",))


def test_what_a_pre_check_refuses_is_not_armed_until_the_operator_allows_it(
    machine: Machine,
) -> None:
    machine.script(snapshot=[outlook(), outlook(), outlook(GOOD, LACKING)])
    machine.runs()
    note(machine, 300, "end")
    machine.later(6)
    wait_for("the refusal", lambda: machine.state()["refused"])
    machine.rests()
    assert machine.state()["phase"] == "steady"
    assert machine.state()["may_reboot"] == {
        "answer": False,
        "reasons": ["ice is missing from the next kernel"],
    }
    assert "It is not tried" in machine.host.read_text("/run/trialboot/motd")
    machine.ask("Allow")
    wait_for("the arming", lambda: machine.state()["phase"] == "armed")
    assert machine.state()["refused"] is None


def test_a_damaged_known_good_is_told_loudly_and_mended(machine: Machine) -> None:
    machine.remembers(Decision(trial=EARNED))
    damaged = outlook(damage=("/lib/modules/6.1-good lacks modules.dep",))
    machine.script(snapshot=[damaged, outlook()])
    machine.start()
    wait_for("the mending", lambda: machine.starts(PIN))
    assert todo(machine.starts(PIN)[0]) == ["Mend"]
    told = wait_for("the whole known-good", lambda: not machine.state()["trouble"])
    assert told


def test_a_known_good_that_cannot_be_mended_holds_no_verdict_up(machine: Machine) -> None:
    machine.remembers(Decision(trial=EARNED))
    why = "/lib/modules/6.1-good lacks modules.dep"
    machine.script(snapshot=[outlook(damage=(why,))], pin=[failing("pin", "no room")])
    machine.runs()
    assert machine.state()["verdict"]["outcome"] == "sound"
    assert machine.state()["trouble"][0].startswith("known-good: ")
    assert machine.state()["may_reboot"]["reasons"] == [f"the known-good is not whole: {why}"]
    assert machine.decision().todo == ()


CROWDED = Crowded(at=AT, fingerprint=OLDER.boot_set.fingerprint, why="3 MiB are free")


def test_the_generation_before_makes_room_for_the_next_kernel(machine: Machine) -> None:
    machine.remembers(Decision(trial=replace(EARNED, previous=OLDER.boot_set)))
    machine.script(snapshot=[outlook(crowded=CROWDED)], pin=[failing("pin", "no menu")])
    machine.runs()
    assert todo(machine.starts(PIN)[0]) == ["GiveUp"]
    assert machine.decision() == Decision(trial=machine.decision().trial), "it holds nothing up"
    assert machine.decision().trial.previous is None
    assert machine.state()["verdict"]["outcome"] == "sound"


def test_the_generation_before_a_damaged_known_good_stays(machine: Machine) -> None:
    machine.remembers(Decision(trial=replace(EARNED, previous=OLDER.boot_set)))
    machine.script(snapshot=[outlook(crowded=CROWDED, damage=("its kernel is gone",))])
    machine.runs()
    assert [todo(start) for start in machine.starts(PIN)[:1]] == [["Mend"]]
    assert machine.decision().trial.previous == OLDER.boot_set


def test_notes_that_were_left_before_the_start_are_taken(machine: Machine) -> None:
    machine.write("/var/lib/trialboot/spool/1.ev", "event=end\nend\n")
    machine.runs()
    assert machine.state()["counters"]["transactions"] == 1


def test_a_worse_verdict_without_a_change_reboots_nobody(machine: Machine) -> None:
    machine.remembers(Decision(trial=EARNED))
    machine.script(verify=[judgement(Outcome.WORSE, "route is gone")])
    machine.runs()
    assert machine.state()["phase"] == "steady"
    assert machine.state()["cluster"]["cordon_wished"] is False, "that is the operator's to choose"
    assert (machine.reboots(), machine.starts(PIN)) == ([], [])


def test_the_metrics_page_is_rendered_once_for_a_burst(machine: Machine) -> None:
    machine.runs()
    machine.later(3)
    wait_for("the page", lambda: machine.starts(RENDER))
    machine.rests()
    assert len(machine.starts(RENDER)) <= 2


# --- a trial ------------------------------------------------------------------------------------


def test_a_worse_verdict_reboots_once_and_only_after_it_is_on_disk(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.runs()
    (reboot,) = machine.reboots()
    assert phase(reboot) == "condemned"
    assert todo(reboot) == ["Secure", "Reboot"]
    assert reboot["interactive"] is False
    (secured,) = machine.starts(PIN)
    assert todo(secured) == ["Secure", "Reboot"]
    assert machine.state()["counters"] == {"reboots": 1, "condemned": 1}
    machine.ask("Verify")
    machine.rests()
    assert len(machine.starts(VERIFY)) == 2
    assert len(machine.reboots()) == 1


def test_a_sound_trial_is_blessed(machine: Machine) -> None:
    on_trial(machine, Outcome.SOUND)
    machine.runs()
    state = machine.state()
    assert (state["phase"], state["known_good"]["release"]) == ("steady", "6.1-new")
    assert state["counters"] == {"blessed": 1}
    assert machine.reboots() == []


def test_an_unsure_trial_stays_where_it_is(machine: Machine) -> None:
    on_trial(machine, Outcome.UNSURE)
    machine.runs()
    assert machine.state()["phase"] == "trial"
    assert (machine.reboots(), machine.starts(PIN)) == ([], [])


def test_a_boot_that_could_not_be_judged_is_unsure_with_the_workers_words(
    machine: Machine,
) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.script(verify=[failing("verify", "netlink: permission denied")])
    machine.write("/proc/uptime", "700.00 9.00\n")
    machine.runs()
    verdict = machine.state()["verdict"]
    assert verdict["outcome"] == "unsure"
    assert verdict["reasons"] == ["this boot was not judged: netlink: permission denied"]
    assert machine.state()["trouble"] == ["verify: netlink: permission denied"]
    assert machine.reboots() == []


def test_a_worker_that_fails_before_the_deadline_ends_no_trial(machine: Machine) -> None:
    machine.configure(f'{ARMED}verify.unsure = "roll-back"\n')
    on_trial(machine, Outcome.SOUND)
    wrong = failing("verify", "contract.toml: unknown key: routed", "ConfigError")
    machine.script(verify=[wrong, judgement(Outcome.SOUND)])
    machine.start()
    told = "verify: contract.toml: unknown key: routed"
    wait_for("the trouble", lambda: told in machine.state()["trouble"])
    machine.rests()
    assert (machine.state()["phase"], machine.reboots()) == ("trial", [])
    machine.later(APART)
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")
    assert machine.state()["trouble"] == []


@pytest.mark.parametrize(
    "units",
    [
        {"starting": ["logind"]},
        {"starting": ["shutdown.target"]},
        {"rescue.target": ["active", "active"]},
    ],
    ids=["soon", "down", "rescue"],
)
@pytest.mark.parametrize(
    "ends", [{"result": "canceled"}, judgement(Outcome.WORSE)], ids=["canceled", "worse"]
)
def test_what_ends_with_the_system_is_no_verdict(
    machine: Machine, ends: dict[str, Any], units: dict[str, list[str]]
) -> None:
    machine.configure(f'{ARMED}verify.unsure = "roll-back"\n')
    on_trial(machine, Outcome.WORSE)
    machine.script(verify=[ends, judgement(Outcome.SOUND)])
    machine.write("/units.json", json.dumps(units))
    machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    machine.rests()
    assert (machine.state()["phase"], machine.state()["verdict"]) == ("trial", None)
    assert (machine.reboots(), machine.starts(PIN)) == ([], [])
    assert store.load(machine.host, store.JUDGEMENT, Judgement) is None, "boot-check goes by it"
    machine.write("/units.json", "{}")  # somebody called it off
    machine.later(APART)
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")


OFTEN_ENOUGH = "verify.repeat_seconds = 86400\n"
"""No verification comes by itself within a day."""


@pytest.mark.parametrize(
    "first",
    [failing("snapshot", "timed out"), outlook(Unknown("no /boot yet"), NEW)],
    ids=["failed", "unknown"],
)
def test_a_trial_that_is_known_late_is_judged_once_it_is_known(
    machine: Machine, first: dict[str, Any]
) -> None:
    machine.configure(f"{ARMED}{OFTEN_ENOUGH}")
    on_trial(machine, Outcome.WORSE)
    machine.script(snapshot=[first, outlook(NEW, NEW)])
    machine.start()
    wait_for("the verdict", lambda: machine.starts(VERIFY))
    machine.rests()
    machine.later(301)
    (reboot,) = wait_for("the reboot", machine.reboots)
    assert phase(machine.starts(VERIFY)[-1]) == "trial"
    assert phase(reboot) == "condemned"


def test_a_verification_from_before_the_trial_was_known_blesses_nothing(machine: Machine) -> None:
    """It began with the terms of a host at rest, and may have taken no contract for none."""
    on_trial(machine, Outcome.SOUND)
    machine.script(
        snapshot=[failing("snapshot", "timed out"), outlook(NEW, NEW)],
        verify=[{**judgement(Outcome.SOUND), "delay": 2.0}],
    )
    machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    machine.later(301)
    wait_for("the trial", lambda: machine.state()["phase"] == "trial")
    wait_for("the blessing", lambda: machine.state()["counters"].get("blessed"))
    assert [phase(start) for start in machine.starts(VERIFY)] == ["armed", "trial"]


def test_a_verification_of_an_earlier_daemon_blesses_nothing(machine: Machine) -> None:
    on_trial(machine, Outcome.SOUND)
    machine.script(verify=[{**judgement(Outcome.SOUND), "delay": 2.0}])
    daemon = machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    daemon.kill()
    daemon.wait()
    machine.start()
    wait_for("the blessing", lambda: machine.state()["counters"].get("blessed"))
    assert len(machine.starts(VERIFY)) == 2


def test_a_package_run_that_hangs_keeps_no_trial_from_being_known(machine: Machine) -> None:
    apt_lives(machine)
    on_trial(machine, Outcome.WORSE)
    machine.script(
        snapshot=[failing("snapshot", "timed out"), outlook(NEW, NEW)],
        verify=[{**judgement(Outcome.WORSE), "delay": 1.0}],
    )
    machine.write("/var/lib/dpkg/lock-frontend", "")
    with (machine.root / "var/lib/dpkg/lock-frontend").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # dpkg waits at the console for an answer
        machine.start()
        wait_for("the verification", lambda: machine.starts(VERIFY))
        note(machine, 300, "begin")
        wait_for("the reboot", machine.reboots)


def test_what_an_earlier_daemon_had_a_worker_do_is_not_taken_for_what_is_asked_now(
    machine: Machine,
) -> None:
    """To systemd a start of what is starting is that same job."""
    armed = replace(EARNED, phase=Phase.ARMED, candidate=NEW, boot=BOOT, running=GOOD)
    pins = (PinKnownGood(GOOD.boot_set), Keep(NEW.boot_set, NEW.entry), BootOnce(NEW.entry))
    machine.remembers(Decision(trial=armed, todo=pins))
    machine.script(snapshot=[outlook(GOOD, NEW)], pin=[{"delay": 3.0}])
    daemon = machine.start()
    wait_for("the pin worker", lambda: machine.starts(PIN))
    daemon.kill()
    daemon.wait()
    machine.configure(OBSERVE)
    machine.start()
    wait_for("given back", lambda: not machine.state()["pinned"])
    machine.rests()
    assert todo(machine.starts(PIN)[-1])[:2] == ["ForgetOnce", "Unpin"]


def test_the_first_verification_lets_the_start_of_the_system_end(machine: Machine) -> None:
    _is_starting(machine)
    assert machine.starts(VERIFY) == []
    machine.later(59 - UPTIME)
    machine.rests()
    assert machine.starts(VERIFY) == []
    (machine.root / "starting").unlink()
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")
    machine.rests()
    assert len(machine.starts(VERIFY)) == 1


def test_a_start_of_the_system_that_does_not_end_keeps_no_trial_from_its_verdict(
    machine: Machine,
) -> None:
    _is_starting(machine)
    machine.later(60 - UPTIME)
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")


def test_where_the_start_waits_for_the_verdict_the_verdict_does_not_wait_for_it(
    machine: Machine,
) -> None:
    machine.write("/units.json", json.dumps({"starting": ["trialboot-boot-check.service"]}))
    _is_starting(machine)
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")


UPTIME = 20


def _is_starting(machine: Machine) -> None:
    on_trial(machine, Outcome.SOUND)
    machine.write("/proc/uptime", f"{UPTIME}.00 9.00\n")
    (machine.root / "starting").touch()
    machine.start()
    wait_for("the first look", lambda: machine.starts(SNAPSHOT))
    machine.rests()


def test_what_was_proven_before_the_system_went_down_counts(machine: Machine) -> None:
    """Else the reboot would condemn it as one that went down before it was proven."""
    on_trial(machine, Outcome.SOUND)
    machine.write("/units.json", json.dumps({"starting": ["logind"]}))
    machine.runs()
    assert (machine.state()["phase"], machine.state()["counters"]) == ("steady", {"blessed": 1})


def test_a_verification_that_somebody_stops_is_told_and_is_no_verdict(machine: Machine) -> None:
    """The job that stops it ends «done»: that is not the end of its own."""
    machine.configure(f'{ARMED}verify.unsure = "roll-back"\n')
    on_trial(machine, Outcome.WORSE)
    machine.script(verify=[{"result": "canceled"}, judgement(Outcome.SOUND)])
    machine.start()
    told = "verify: the worker ended: canceled"
    wait_for("the trouble", lambda: told in machine.state()["trouble"])
    machine.rests()
    assert (machine.state()["phase"], machine.state()["verdict"]) == ("trial", None)
    machine.later(APART)
    wait_for("the verdict", lambda: machine.state()["phase"] == "steady")
    assert (machine.state()["trouble"], machine.reboots()) == ([], [])


def test_who_stops_it_again_and_again_leaves_no_trial_unjudged(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.script(verify=[{"result": "canceled"}])
    machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    machine.rests()
    machine.later(APART)
    verdict = wait_for("the verdict", lambda: machine.state()["verdict"])
    told = "this boot was not judged: the worker ended: canceled"
    assert (verdict["outcome"], verdict["reasons"]) == ("unsure", [told])


def test_a_pin_worker_that_a_shutdown_stops_has_not_pinned(machine: Machine) -> None:
    """Its todo stays: else an armed candidate without a one-shot would be condemned untried."""
    machine.script(pin=[{"result": "canceled"}, {}])
    machine.runs()
    wanted = ["Keep", "PinKnownGood", "Tell"]
    assert [todo(start) for start in machine.starts(PIN)] == [wanted, wanted]
    assert machine.state()["pinned"]


def test_a_snapshot_that_fails_is_told_and_the_boot_is_verified_all_the_same(
    machine: Machine,
) -> None:
    machine.script(snapshot=[failing("snapshot", "no /boot")])
    machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    wait_for("the trouble", lambda: "snapshot: no /boot" in machine.state()["trouble"])
    machine.script(snapshot=[outlook()])

    def looked_again() -> bool:
        # A second snapshot follows the verification and may still fail: the clock runs on.
        machine.later(301)
        return not machine.state()["trouble"]

    wait_for("a later snapshot", looked_again)
    assert machine.state()["next"]["sentence"] == "The next boot changes nothing."


def test_what_runs_may_stay_unknown_and_then_nothing_is_done(machine: Machine) -> None:
    machine.script(snapshot=[outlook(Unknown("the initrd has changed since this boot"), NEW)])
    machine.start()
    wait_for("the verification", lambda: machine.starts(VERIFY))
    machine.rests()
    state = machine.state()
    assert (state["running"], state["known_good"], state["pinned"]) == (None, None, False)
    assert state["next"]["unknown"] == ["the initrd has changed since this boot"]
    assert machine.starts(PIN) == []


# --- observe mode -------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_observe_mode_judges_and_touches_nothing(machine: Machine, outcome: Outcome) -> None:
    machine.configure(OBSERVE)
    machine.script(snapshot=[outlook(GOOD, NEW)], verify=[judgement(outcome)])
    machine.runs()
    machine.ask("Verify")
    machine.rests()
    assert machine.state()["mode"] == "observe"
    assert machine.state()["verdict"]["outcome"] == outcome
    assert (machine.starts(PIN), machine.reboots()) == ([], [])
    assert store.load_wish(machine.host) is None


def test_a_trial_that_is_set_to_observe_is_not_rolled_back(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.configure(OBSERVE)
    machine.runs()
    assert machine.reboots() == []
    assert [todo(call)[:2] for call in machine.starts(PIN)] == [["ForgetOnce", "Unpin"]]
    assert (machine.state()["phase"], machine.state()["pinned"]) == ("steady", False)


def test_an_unreadable_record_makes_reports_only(machine: Machine) -> None:
    machine.write("/var/lib/trialboot/decision.json", "{")
    machine.script(snapshot=[outlook(GOOD, NEW)], verify=[judgement(Outcome.WORSE)])
    machine.runs()
    assert (
        "it was set aside as /var/lib/trialboot/decision.json.unreadable-"
        in (machine.state()["report_only"])
    )
    assert (machine.starts(PIN), machine.reboots()) == ([], [])


# --- what fails, and power cuts -----------------------------------------------------------------


def test_a_failing_pin_is_told_kept_and_done_later(machine: Machine) -> None:
    machine.script(pin=[failing("pin", "needs 90 MiB, /boot has 3 MiB free")])
    machine.runs()
    assert machine.state()["trouble"] == [
        "decision: needs 90 MiB, /boot has 3 MiB free; tried again every 300 s"
    ]
    assert [type(action) for action in machine.decision().todo] == [Keep, PinKnownGood, Tell]
    tries = len(machine.starts(PIN))
    machine.script(pin=[{}])
    machine.later(301)
    wait_for("the rest", lambda: not machine.state()["trouble"])
    assert machine.decision().todo == ()
    assert len(machine.starts(PIN)) == tries + 1
    assert machine.state()["pinned"] is True


def test_a_failing_pin_is_done_by_the_next_daemon(machine: Machine) -> None:
    machine.script(pin=[failing("pin", "no room")])
    daemon = machine.runs()
    daemon.kill()
    daemon.wait()
    machine.script(pin=[{}])
    machine.runs()
    wait_for("the rest of the decision", lambda: machine.decision().todo == ())
    wait_for("no trouble", lambda: machine.state()["trouble"] == [])


def test_a_trial_that_is_armed_late_is_not_condemned_by_a_look_from_before(
    machine: Machine,
) -> None:
    """The one-shot could not be set; the known-good was booted; now it can be set."""
    armed = replace(EARNED, phase=Phase.ARMED, candidate=NEW, boot=BootId("boot-before"))
    machine.remembers(Decision(trial=armed, todo=(BootOnce(NEW.entry),)))
    machine.script(snapshot=[outlook(GOOD, NEW), outlook(GOOD, NEW, once=True)], pin=[{}])
    machine.runs()
    trial = machine.decision().trial
    assert (trial.phase, trial.condemned) == (Phase.ARMED, ())


def test_a_reboot_that_logind_refuses_is_asked_for_again(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    refused = {"refuse": "There's already a shutdown or sleep operation in progress"}
    machine.script(Reboot=[refused])
    machine.runs()
    assert "already a shutdown" in machine.state()["trouble"][0]
    assert [type(action) for action in machine.decision().todo] == [Secure, Reboot]
    machine.script(Reboot=[{}])
    before = len(machine.reboots())
    machine.later(301)
    wait_for("the reboot", lambda: machine.reboots()[before:])
    assert len(machine.reboots()) == before + 1


def test_a_reboot_that_is_called_off_is_asked_for_again(machine: Machine) -> None:
    """Somebody cancels the shutdown, or it fails after a delay: the candidate still runs."""
    on_trial(machine, Outcome.WORSE)
    daemon = machine.runs()
    for _ in range(3):
        machine.later(301)
        machine.rests()
    assert len(machine.reboots()) == 1, "it is on its way"
    assert "about to go down" in machine.state()["trouble"][0]
    machine.write("/units.json", json.dumps({"called off": True}))
    machine.later(301)
    wait_for("the second call", lambda: machine.reboots()[1:])
    daemon.kill()
    daemon.wait()
    machine.start()
    wait_for("the call of the next daemon", lambda: machine.reboots()[2:])


def test_a_machine_that_goes_down_already_is_not_rebooted(machine: Machine) -> None:
    """It may be powered off; the record has the rest for a next time, and drops it."""
    condemned = replace(EARNED, phase=Phase.CONDEMNED, candidate=NEW, condemned=(MARK,))
    rest = (Secure(GOOD.boot_set), Reboot("worse", BOOT))
    machine.remembers(Decision(trial=condemned, todo=rest))
    machine.write("/units.json", json.dumps({"starting": ["shutdown.target"]}))
    machine.start()
    wait_for("the trouble", lambda: machine.state()["trouble"])
    machine.rests()
    assert machine.reboots() == []


def test_a_rollback_out_of_a_boot_that_has_ended_holds_nothing_up(machine: Machine) -> None:
    """It could not be secured, and somebody has booted the known-good by hand."""
    gone = BootId("boot-before")
    condemned = replace(EARNED, phase=Phase.CONDEMNED, candidate=NEW, condemned=(MARK,), boot=gone)
    rest = (Secure(GOOD.boot_set), Reboot("worse", gone))
    machine.remembers(Decision(trial=condemned, todo=rest))
    machine.script(snapshot=[outlook(GOOD, NEW)], pin=[failing("pin", "a restart would end on X")])
    machine.runs()
    wait_for("the recovery", lambda: machine.state()["phase"] == "recovered")
    assert (machine.reboots(), machine.starts(PIN)) == ([], [])


def test_a_configuration_that_says_observe_is_heard_though_nobody_tells_us(
    machine: Machine,
) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.script(pin=[{"delay": 1.5}])
    machine.start()
    wait_for("the pin worker", lambda: machine.starts(PIN))
    machine.configure(OBSERVE)
    wait_for("the release", lambda: not machine.state()["pinned"])
    assert machine.state()["mode"] == "observe"
    assert machine.reboots() == []


@pytest.mark.parametrize("ask", ["Reload", "SIGTERM"])
def test_who_observes_or_stops_us_while_the_way_back_is_secured_is_heard(
    machine: Machine, ask: str
) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.script(pin=[{"delay": 1.5}])
    daemon = machine.start()
    wait_for("the pin worker", lambda: machine.starts(PIN))
    if ask == "SIGTERM":
        daemon.send_signal(signal.SIGTERM)
        assert machine.ends(daemon)[0] == 0
        assert [type(action) for action in machine.decision().todo] == [Secure, Reboot]
    else:  # what «trialboot observe» does
        machine.configure(OBSERVE)
        machine.ask("Reload")
        wait_for("observe mode", lambda: machine.state()["mode"] == "observe")
        machine.rests()
    assert machine.reboots() == []


def test_no_reboot_before_it_is_known_to_end_on_the_known_good(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.script(pin=[failing("pin", "a restart would end on «entry-new»")])
    machine.runs()
    assert machine.reboots() == []
    assert [type(action) for action in machine.decision().todo] == [Secure, Reboot]
    assert machine.state()["trouble"][0].startswith("decision: a restart would end on «entry-new»")
    machine.script(pin=[{}])
    machine.later(301)
    wait_for("the reboot", machine.reboots)


def test_a_damaged_known_good_is_not_rebooted_into(machine: Machine) -> None:
    trial = replace(EARNED, phase=Phase.ARMED, candidate=NEW, previous=OLDER.boot_set)
    machine.remembers(Decision(trial=trial))
    damaged = failing("pin", "vmlinuz is not what was kept", "VaultError")
    machine.script(
        snapshot=[outlook(NEW, NEW)], verify=[judgement(Outcome.WORSE)], pin=[damaged, {}]
    )
    machine.start()
    (reboot,) = wait_for("the reboot", machine.reboots)
    assert reboot["decision"]["trial"]["known_good"]["release"] == "6.1-older"
    assert [todo(call) for call in machine.starts(PIN)] == [["Secure", "Reboot"]] * 2


def test_where_no_known_good_is_whole_nothing_is_rebooted(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    damaged = failing("pin", "vmlinuz is not what was kept", "VaultError")
    machine.script(pin=[damaged, {}])
    machine.runs()
    assert machine.reboots() == []
    assert machine.decision().trial.phase is Phase.STRANDED
    assert "vmlinuz is not what was kept" in machine.decision().trial.story[-1].text


def fill_disk(machine: Machine) -> list[Path]:
    """Let no record be written any more: a folder stands where each draft would."""
    state = machine.root / "var/lib/trialboot"
    drafts = [state / f".{name}.json.draft" for name in ("decision", "wish", "counters")]
    for draft in drafts:
        draft.mkdir()
    return drafts


def test_a_full_disk_keeps_no_node_on_a_worse_candidate(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    drafts = fill_disk(machine)
    daemon = machine.runs()
    (reboot,) = machine.reboots()
    assert phase(reboot) == "armed", "what is on disk is the record before"
    assert machine.decision().trial.phase is Phase.CONDEMNED, "and what runs is remembered in /run"
    assert any(why.startswith("record: ") for why in machine.state()["trouble"])

    # The next boot is of the known-good; still nothing can be written: it ends there.
    daemon.kill()
    daemon.wait()
    (machine.root / "run/trialboot/decision.json").unlink()
    (machine.root / "run/trialboot/state.json").unlink()
    machine.script(snapshot=[outlook(GOOD, NEW)], verify=[judgement(Outcome.SOUND)])
    pinned = len(machine.starts(PIN))
    machine.start()
    wait_for("a verdict", lambda: machine.starts(VERIFY)[1:])
    machine.rests()
    assert (len(machine.reboots()), len(machine.starts(PIN))) == (1, pinned)
    assert machine.decision().trial.phase is Phase.ARMED

    # Once there is room the record catches up, and arms nothing.
    for draft in drafts:
        draft.rmdir()
    machine.later(3600)
    wait_for("the record", lambda: machine.decision().trial.condemned)
    machine.rests()
    assert machine.decision().trial.phase in {Phase.CONDEMNED, Phase.RECOVERED}
    assert len(machine.reboots()) == 1


def test_a_full_run_folder_keeps_no_node_on_a_worse_candidate(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    for name in ("state.json", "motd", "notice"):
        (machine.root / f"run/trialboot/.{name}.draft").mkdir()
    machine.start()
    (reboot,) = wait_for("the reboot", machine.reboots)
    assert phase(reboot) == "condemned"
    assert machine.decision().trial.phase is Phase.CONDEMNED


def test_a_pin_job_that_never_ran_is_not_told_by_why_an_earlier_one_failed(
    machine: Machine,
) -> None:
    """As where /boot cannot be mounted: the worker does not get as far as to forget it."""
    on_trial(machine, Outcome.WORSE)
    old = store.Trouble(kind="VaultError", why="vmlinuz is not what was kept")
    store.save(machine.host, store.trouble_of("pin"), old)
    machine.script(pin=[{"result": "dependency"}])
    machine.start()
    wait_for("the trouble", lambda: machine.state()["trouble"])
    assert machine.state()["trouble"][0].startswith("decision: trialboot-pin.service ended: ")
    assert machine.decision().trial.known_good == GOOD.boot_set


def test_a_full_disk_blesses_nothing(machine: Machine) -> None:
    on_trial(machine, Outcome.SOUND)
    fill_disk(machine)
    machine.start()
    wait_for("the look after the verdict", lambda: machine.starts(SNAPSHOT)[1:])
    machine.rests()
    assert machine.starts(PIN) == []
    assert any("decision.json cannot be written" in why for why in machine.state()["trouble"])
    assert machine.decision().trial.known_good == GOOD.boot_set


@pytest.mark.parametrize(("leaving", "reboots"), [(BOOT, 1), (BootId("boot-before"), 0)])
def test_after_a_cut_a_reboot_is_made_only_in_the_boot_that_it_leaves(
    machine: Machine, leaving: BootId, reboots: int
) -> None:
    condemned = replace(EARNED, phase=Phase.CONDEMNED, candidate=NEW, condemned=(MARK,))
    rest = (ForgetOnce(), Reboot("worse", leaving))
    machine.remembers(Decision(trial=condemned, todo=rest))
    machine.start()
    wait_for("the first look", lambda: machine.starts(SNAPSHOT))
    machine.rests()
    assert len(machine.reboots()) == reboots
    left = [Reboot] if reboots else []
    assert [type(action) for action in machine.decision().todo] == left, "until it has come"


# --- the operator -------------------------------------------------------------------------------


def test_status_gives_the_state_files_json(machine: Machine) -> None:
    machine.runs()
    answered, on_disk = json.loads(machine.ask("Status")), machine.state()
    assert answered.pop("at")
    assert on_disk.pop("at")
    assert answered == on_disk


def test_retry_forgives_what_was_condemned(machine: Machine) -> None:
    machine.remembers(Decision(trial=RECOVERED))
    machine.script(snapshot=[outlook(GOOD, NEW)])
    machine.runs()
    assert machine.state()["phase"] == "recovered"
    machine.ask("Retry")
    wait_for("the new trial", lambda: machine.state()["phase"] == "armed")
    assert machine.state()["condemned"] == []


def test_a_retry_that_comes_while_something_is_unfinished_is_not_lost(machine: Machine) -> None:
    machine.remembers(Decision(trial=RECOVERED, todo=(ForgetOnce(),)))
    machine.script(snapshot=[outlook(GOOD, NEW)], pin=[failing("pin", "read-only /boot")])
    machine.start()
    wait_for("the trouble", lambda: machine.state()["trouble"])
    machine.rests()
    machine.ask("Retry")
    machine.rests()
    assert machine.state()["condemned"] != []
    machine.script(pin=[{}])
    machine.later(301)
    wait_for("the new trial", lambda: machine.state()["phase"] == "armed")
    assert machine.state()["condemned"] == []


def test_only_root_may_retry_and_everybody_may_read(machine: Machine) -> None:
    machine.remembers(Decision(trial=RECOVERED))
    machine.script(snapshot=[outlook(GOOD, NEW)])
    machine.runs()
    assert send(machine, "Status").returncode == 0
    for member in ("Retry", "Verify", "Reload"):
        refused = send(machine, member)
        assert refused.returncode != 0
        assert "only root may" in refused.stderr
    machine.rests()
    assert machine.state()["phase"] == "recovered"


def send(machine: Machine, member: str) -> subprocess.CompletedProcess[str]:
    """Call as nobody."""
    return subprocess.run(
        [  # noqa: S607  wherever the distribution has it
            "dbus-send",
            f"--bus={machine.address}",
            "--print-reply",
            "--dest=org.trialboot1",
            "/org/trialboot1",
            f"org.trialboot1.Manager.{member}",
        ],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_retry_while_the_pin_worker_runs_is_neither_lost_nor_in_its_way(
    machine: Machine,
) -> None:
    machine.script(pin=[{"delay": 1.5}])
    machine.start()
    wait_for("the pin worker", lambda: machine.starts(PIN))
    machine.ask("Retry")
    wait_for("the known-good", lambda: machine.state()["pinned"] and not machine.decision().todo)
    machine.rests()
    told = [moment.text for moment in machine.decision().trial.story]
    assert told == [
        "6.1-good has proven itself and is the known-good",
        "retry: the operator forgave what was condemned",
    ]
    assert len(machine.starts(PIN)) == 1
    assert machine.state()["trouble"] == []


def test_a_wrong_configuration_is_told_and_the_one_before_stays_in_force(
    machine: Machine,
) -> None:
    machine.runs()
    machine.configure('mode = "on"\n')
    machine.ask("Reload")
    wait_for("the trouble", lambda: machine.state()["trouble"])
    assert machine.state()["trouble"][0].startswith("configuration: /etc/trialboot/")
    assert machine.state()["mode"] == "armed"
    machine.configure(OBSERVE)
    machine.ask("Reload")
    wait_for("the new mode", lambda: machine.state()["mode"] == "observe")
    machine.rests()
    assert machine.state()["trouble"] == []
    assert machine.state()["pinned"] is False


def test_sighup_reads_the_configuration_again(machine: Machine) -> None:
    daemon = machine.runs()
    machine.configure(OBSERVE)
    daemon.send_signal(signal.SIGHUP)
    wait_for("the new mode", lambda: machine.state()["mode"] == "observe")


# --- the cluster --------------------------------------------------------------------------------


def test_a_wish_is_tried_until_it_is_delivered(machine: Machine) -> None:
    machine.configure(ARMED.replace("false", "true"))
    away = failing("node", "the API server did not answer")
    machine.script(node=[away, away, {"deliver": True}])
    machine.runs()
    wait_for("the first try", lambda: machine.starts(NODE))
    wait_for("the trouble", lambda: machine.state()["trouble"])
    assert machine.state()["cluster"]["waiting"] is True
    assert machine.state()["trouble"] == ["node: the API server did not answer"]
    for seconds in (6, 11):
        machine.later(seconds)
        machine.rests()
    assert len(machine.starts(NODE)) == 3
    wait_for("the delivery", lambda: not machine.state()["cluster"]["waiting"])
    assert machine.state()["trouble"] == []
    assert machine.state()["cluster"]["cordoned"] is False


def test_what_an_earlier_boot_wished_is_delivered_at_start(machine: Machine) -> None:
    machine.configure(OBSERVE.replace("false", "true"))
    wish = Wish(cordoned=True, reason="R", message="m", condition="False", boot="b", at=AT)
    store.save_wish(machine.host, wish)
    machine.script(node=[{"deliver": True}], snapshot=[{"delay": 60.0}])
    machine.start()
    wait_for("the delivery", lambda: store.is_delivered(machine.host))
    assert len(machine.starts(NODE)) == 1


def test_without_a_cluster_nobody_is_asked(machine: Machine) -> None:
    machine.runs()
    machine.later(400)
    machine.rests()
    assert machine.starts(NODE) == []
    assert isinstance(store.load_wish(machine.host), Wish)
    assert machine.state()["cluster"]["waiting"] is False


def test_a_rollback_lets_the_cluster_hear_why_before_the_node_goes_away(
    machine: Machine,
) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.configure(ARMED.replace("false", "true"))
    machine.script(node=[{"delay": 0.3, "deliver": True}])
    machine.runs()
    (reboot,) = machine.reboots()
    calls = machine.calls()
    assert NODE in {call.get("unit") for call in calls[: calls.index(reboot)]}
    found = store.load_wish(machine.host)
    assert isinstance(found, Wish)
    assert (found.reason, store.is_delivered(machine.host)) == ("TrialFailed", True)


def test_a_cluster_that_is_away_holds_a_rollback_up_for_seconds_only(machine: Machine) -> None:
    on_trial(machine, Outcome.WORSE)
    machine.configure(ARMED.replace("false", "true"))
    machine.script(node=[{"delay": 600.0}])
    machine.start()
    wait_for("the last word", lambda: store.load_wish(machine.host) and machine.starts(NODE))
    machine.rests()
    assert machine.reboots() == []
    machine.later(21)
    wait_for("the reboot", machine.reboots)
    machine.rests()
    assert len(machine.reboots()) == 1


def test_a_node_worker_that_systemd_refuses_is_started_again(machine: Machine) -> None:
    on_trial(machine, Outcome.UNSURE)
    machine.configure(ARMED.replace("false", "true"))
    machine.script(
        node=[{"refuse": "Connection timed out"}, {"deliver": True}],
        verify=[{**judgement(Outcome.SOUND), "delay": 600.0}],
    )
    machine.start()
    wait_for("the cordon", lambda: machine.starts(NODE))
    machine.rests()
    assert not store.is_delivered(machine.host)
    machine.later(61)
    wait_for("the delivery", lambda: store.is_delivered(machine.host))


def test_a_boot_set_that_cannot_be_kept_is_given_up_and_told(machine: Machine) -> None:
    no_room = failing("pin", "needs 90 MiB, /boot has 3 MiB free", "VaultRoomError")
    machine.script(pin=[no_room])
    machine.runs()
    state = machine.state()
    assert "vault: needs 90 MiB, /boot has 3 MiB free" in state["trouble"]
    assert (state["known_good"], state["pinned"]) == (None, False)
    assert machine.decision().todo == ()


def test_a_change_that_cannot_be_kept_is_not_booted_once(machine: Machine) -> None:
    machine.remembers(Decision(trial=EARNED))
    gone = failing("pin", "initrd.img is not what the boot set holds", "VaultError")
    machine.script(snapshot=[outlook(GOOD, NEW)], pin=[gone, {}])
    machine.start()
    wait_for("the pin worker", lambda: len(machine.starts(PIN)) > 1)
    assert [todo(call) for call in machine.starts(PIN)[:2]] == [
        ["PinKnownGood", "Keep", "BootOnce"],
        ["ForgetOnce"],
    ]
