"""Doctor's look at a host: each part by itself, and nothing is remembered."""

import os
import shutil
from pathlib import Path
from typing import Any

from tests.unit.workers.debian_host import OLD, Debian, debian
from trialboot.core.doctor import diagnose
from trialboot.core.examined import Examined, Kept, Room
from trialboot.core.facts import Unknown
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Level
from trialboot.core.trial import Decision, Trial
from trialboot.errors import HostError
from trialboot.examination import examine
from trialboot.host import Host
from trialboot.workers import snapshot
from trialboot.writers import store
from trialboot.writers.vault import bootsets
from trialboot.writers.vault.bootsets import Sources


def look(host: Debian) -> Examined:
    return examine(host.host)


def keep_what_runs(host: Debian, *, pinned: bool) -> None:
    snapshot.work(host.host)
    found: Any = store.load(host.host, store.OUTLOOK, Outlook)
    good = found.running.boot_set
    bootsets.keep(
        host.host,
        good,
        Sources(
            kernel=f"/boot/vmlinuz-{OLD}",
            initrds=(f"/boot/initrd.img-{OLD}",),
            firmware="/lib/firmware",
        ),
    )
    trial = Trial(known_good=good, pinned=pinned)
    store.save_decision(host.host, Decision(trial=trial))


def test_a_debian_host_is_looked_at_in_all_its_parts(tmp_path: Path) -> None:
    seen = look(debian(tmp_path))
    assert seen.as_root is (os.geteuid() == 0)
    assert (seen.uncontrolled, seen.kept, seen.daemon) == ("", None, "")
    assert isinstance(seen.running, str)
    assert "panic=10" in seen.running
    assert seen.following == seen.running.partition(" ")[2]
    assert isinstance(seen.boot, Room)
    sizes = [f"boot/vmlinuz-{OLD}", f"boot/initrd.img-{OLD}"]
    assert seen.boot.needed == sum((tmp_path / name).stat().st_size for name in sizes)
    found = diagnose(seen)
    assert found.level is Level.PANIC_ONLY
    assert not (tmp_path / "var/lib/trialboot").exists()


def test_the_known_good_is_hashed_where_it_lies(tmp_path: Path) -> None:
    host = debian(tmp_path)
    keep_what_runs(host, pinned=False)
    kept = look(host).kept
    assert isinstance(kept, Kept)
    assert (kept.release, kept.pinned, kept.damage) == (OLD, False, ())
    keep_what_runs(host, pinned=True)
    kept = look(host).kept
    assert isinstance(kept, Kept)
    # It lies whole in the vault, and no menu has its entry.
    assert kept.damage == ("the boot menu has no entry for the known-good any more",)
    (tmp_path / f"boot/trialboot/{kept.fingerprint}/vmlinuz").write_text("other")
    kept = look(host).kept
    assert isinstance(kept, Kept)
    assert isinstance(kept.damage, tuple)
    assert "vmlinuz is not what was kept" in kept.damage[0]


def test_a_known_good_that_cannot_be_looked_at_is_not_taken_for_whole(tmp_path: Path) -> None:
    host = debian(tmp_path)
    keep_what_runs(host, pinned=True)
    (tmp_path / "proc/version").unlink()
    kept = look(host).kept
    assert isinstance(kept, Kept)
    assert isinstance(kept.damage, Unknown)


def test_a_record_that_is_not_understood_is_left_where_it_is(tmp_path: Path) -> None:
    host = debian(tmp_path)
    record = host.write("/var/lib/trialboot/decision.json", "garbage")
    assert isinstance(look(host).kept, Unknown)
    assert record.read_text() == "garbage"


def test_files_of_the_next_boot_that_are_gone_are_not_known(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / f"boot/initrd.img-{OLD}").unlink()
    seen = look(host)
    assert isinstance(seen.boot, Unknown)
    assert isinstance(seen.watchdogs.early, Unknown)


def test_without_a_menu_each_part_says_so_by_itself(tmp_path: Path) -> None:
    host = debian(tmp_path)
    shutil.rmtree(tmp_path / "boot/grub")
    seen = look(host)
    assert isinstance(seen.menu, Unknown)
    assert isinstance(seen.protection, Unknown)
    assert isinstance(seen.following, Unknown)
    assert isinstance(seen.watchdogs.early, Unknown)
    assert seen.grub is None


def test_the_daemon_and_the_age_of_its_state_are_told(tmp_path: Path) -> None:
    host = debian(tmp_path)
    assert isinstance(look(host).state_age, Unknown)
    state = host.write(store.STATE_FILE, "{}")
    then = host.host.now().timestamp() - 90
    os.utime(state, (then, then))
    assert look(host).state_age == 90.0

    def nobody(*_: Any, **__: Any) -> Any:
        raise HostError("nobody has the name")

    seen = examine(Host(root=tmp_path, call=nobody))
    assert seen.daemon == "trialbootd does not answer (nobody has the name)"
    assert isinstance(seen.watchdogs.runtime, Unknown)
