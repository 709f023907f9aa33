"""The other workers: each leaves its result, or why it failed, in a file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_report import state, trial
from tests.unit.workers.debian_host import BOOT, NEXT_BOOT, OLD, Debian, debian
from trialboot import statefile
from trialboot.core.facts import BootId, Unknown
from trialboot.core.outlook import Judgement, Outlook, Snapshot
from trialboot.core.trial import Phase
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import HostError, StoreError
from trialboot.workers import boot_check, node, render, snapshot
from trialboot.writers import contentcache, store

AT = "2026-01-01T00:00:00Z"


# --- snapshot -----------------------------------------------------------------------------------


def test_the_snapshot_worker_leaves_the_outlook_and_the_whole_snapshot(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    snapshot.work(host)
    outlook = store.load(host, store.OUTLOOK, Outlook)
    assert isinstance(outlook, Outlook)
    assert outlook.boot == BOOT
    assert (tmp_path / "run/trialboot/outlook.json").stat().st_mode & 0o777 == 0o644
    taken = store.load(host, snapshot.SNAPSHOT, Snapshot)
    assert isinstance(taken, Snapshot)
    assert not isinstance(taken.kernel, Unknown)
    assert taken.kernel.release == OLD


def test_a_disk_that_takes_no_record_costs_no_outlook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = debian(tmp_path).host
    for name in ("ran", "packages-seen", "snapshot", "content-cache"):
        (tmp_path / f"var/lib/trialboot/.{name}.json.draft").mkdir(parents=True)
    snapshot.work(host)
    outlook = store.load(host, store.OUTLOOK, Outlook)
    assert isinstance(outlook, Outlook)
    assert not isinstance(outlook.running, Unknown)
    assert isinstance(outlook.packages, Unknown)
    assert "packages-seen.json cannot be written" in outlook.packages.why
    assert "snapshot.json cannot be written" in capsys.readouterr().err


def test_the_snapshot_worker_leaves_a_record_that_it_cannot_read(tmp_path: Path) -> None:
    host = debian(tmp_path)
    place = host.write("/var/lib/trialboot/decision.json", "{")
    snapshot.work(host.host)
    assert place.read_text() == "{"
    assert isinstance(store.load(host.host, store.OUTLOOK, Outlook), Outlook)


def test_the_snapshot_worker_writes_nothing_into_the_loader(tmp_path: Path) -> None:
    host = debian(tmp_path)
    before = {p: p.read_bytes() for p in (tmp_path / "boot").rglob("*") if p.is_file()}
    snapshot.work(host.host)
    assert {p: p.read_bytes() for p in before} == before
    assert host.ran == []


STOPPED = """\
import sys
from pathlib import Path
from trialboot.host import Host
from trialboot.workers import snapshot
snapshot.stop_in_order()
snapshot.work(Host(root=Path(sys.argv[1])))
"""


def test_what_a_stopped_snapshot_worker_has_hashed_is_not_hashed_again(tmp_path: Path) -> None:
    """A disk that needs longer than the unit may take would never be read to the end."""
    machine = debian(tmp_path)
    machine.write("/run/reboot-required", "")
    last = tmp_path / "run/reboot-required.pkgs"
    os.mkfifo(last)
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", STOPPED, tmp_path], env=path) as worker:
        writer = -1
        while writer < 0:
            assert worker.poll() is None, "it waits where it reads what nobody writes"
            with suppress(OSError):
                writer = os.open(last, os.O_WRONLY | os.O_NONBLOCK)
        worker.terminate()
        assert worker.wait(timeout=60) == 1
        os.close(writer)
    assert contentcache.load(machine.host)
    assert store.load(machine.host, store.OUTLOOK, Outlook) is None


# --- render -------------------------------------------------------------------------------------


def test_the_render_worker_leaves_a_page_that_everybody_may_read(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    statefile.write_state(host, state(trial(Phase.STEADY)))
    render.work(host)
    page = tmp_path / "run/trialboot/metrics.prom"
    assert 'trialboot_phase{phase="steady"} 1.0' in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o644


def test_the_render_worker_without_a_state_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="has trialbootd run since the last boot"):
        render.work(debian(tmp_path).host)


# --- node ---------------------------------------------------------------------------------------


def test_the_node_worker_without_a_wish_asks_nobody(tmp_path: Path) -> None:
    host = debian(tmp_path)
    node.work(host.host)
    assert (host.ran, host.called) == ([], [])


def test_the_node_worker_sets_an_unreadable_wish_aside(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.write(store.WISH, "{")
    with pytest.raises(StoreError, match=r"set aside as .*; the next verdict makes a new one"):
        node.work(host.host)
    left = [path.name for path in (tmp_path / "var/lib/trialboot").iterdir()]
    assert left == ["wish.json.unreadable-20260102T123015Z"]
    assert store.load_wish(host.host) is None


# --- the gate of boot-complete.target -----------------------------------------------------------


def judge(host: Debian, outcome: Outcome, boot: str = BOOT) -> None:
    verdict = Verdict(outcome=outcome, reasons=("eBPF a is missing", "b"))
    store.save(host.host, store.JUDGEMENT, Judgement(boot=BootId(boot), at=AT, verdict=verdict))


def armed(root: Path) -> Debian:
    host = debian(root)
    host.write("/etc/trialboot/trialboot.toml", 'mode = "armed"\n')
    return host


def test_in_observe_mode_nothing_is_held_up(tmp_path: Path) -> None:
    host = debian(tmp_path)
    boot_check.work(host.host)
    assert host.clock == 0


def test_a_sound_boot_completes(tmp_path: Path) -> None:
    host = armed(tmp_path)
    judge(host, Outcome.SOUND)
    boot_check.work(host.host)
    assert host.clock == 0


@pytest.mark.parametrize("outcome", [Outcome.WORSE, Outcome.UNSURE])
def test_any_other_boot_does_not_complete_and_says_why(tmp_path: Path, outcome: Outcome) -> None:
    host = armed(tmp_path)
    judge(host, outcome)
    with pytest.raises(HostError, match=f"this boot is {outcome}: eBPF a is missing"):
        boot_check.work(host.host)


def spoil(host: Debian) -> None:
    host.write(store.JUDGEMENT, "{")


@pytest.mark.parametrize(
    "before",
    [lambda _: None, spoil, lambda host: judge(host, Outcome.WORSE, NEXT_BOOT)],
    ids=["none", "unreadable", "of another boot"],
)
def test_the_gate_waits_for_the_verdict_on_this_boot(
    tmp_path: Path, before: Callable[[Debian], None]
) -> None:
    host = armed(tmp_path)
    before(host)

    def sleep(seconds: float) -> None:
        host.clock += seconds
        if host.clock >= 6:
            judge(host, Outcome.SOUND)

    boot_check.work(replace(host.host, sleep=sleep))
    assert host.clock == 6


# --- how a worker begins and ends ---------------------------------------------------------------

# oneshot.run makes its own Host: the child has a root folder of its own, in namespaces of its own.
CHILD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000):
    print("no namespaces here"); sys.exit(77)
if libc.mount(b"none", b"/", None, 0x44000, None) or libc.mount(
    b"none", b"/run", b"tmpfs", 0, None
):
    print("no mounts here"); sys.exit(77)
from trialboot.errors import VaultError
from trialboot.workers import oneshot
def work(host):
    if sys.argv[1]:
        raise VaultError(sys.argv[1])
codes = []
codes.append(oneshot.run("pin", work))
left = "/run/trialboot/pin.trouble"
print(codes, open(left).read() if os.path.exists(left) else None)
def crash(host):
    raise SystemExit(os.path.exists(left))
try:
    oneshot.run("pin", crash)
except SystemExit as crashed:
    print("left over:", crashed.code)
sys.argv[1] = ""
codes.append(oneshot.run("pin", work))
print(codes, os.path.exists(left))
"""


@pytest.mark.host
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
def test_a_worker_leaves_why_it_failed_until_it_is_run_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "no room in /boot"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition(" ")
    record, _, last = rest.rpartition("\n\nleft over: False\n")
    assert first == "[74]"
    trouble = {"is": "Trouble", "kind": "VaultError", "why": "no room in /boot"}
    assert json.loads(record) == {"format": 1, "value": trouble}
    assert last.strip() == "[74, 0] False"
    assert done.stderr.splitlines() == ["no room in /boot"]
