"""What the next boot will change, read from hosts that are folders."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.unit.loaders.host_folder import UUID
from tests.unit.workers.debian_host import (
    ARGUMENTS,
    FIRMWARE,
    NEW,
    NEXT_BOOT,
    OLD,
    Debian,
    debian,
    menu_of,
)
from trialboot import lookahead, snapshot
from trialboot.bootonce import KNOWN_BY
from trialboot.config import PATH as CONFIG
from trialboot.content import file_sha256
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.core.change import Area
from trialboot.core.facts import EntryId, Kernel, Tree, Unknown
from trialboot.core.grub import format_environment
from trialboot.core.menu import BOOT_WORD, INSTEAD_WORD, KEXEC_WORD, KNOWN_GOOD
from trialboot.core.outlook import Outlook
from trialboot.core.protection import Protection
from trialboot.core.trial import Choice, Phase, Trial
from trialboot.errors import HostError, LoaderError, StoreError
from trialboot.writers import contentcache
from trialboot.writers.vault import bootsets, ownfiles, parts
from trialboot.writers.vault.bootsets import Sources

NOTHING: Final = "The next boot changes nothing that could be seen."
"""The folder shows neither devices nor routes, and has no configuration of its kernels."""
TOP: Final = f"gnulinux-simple-{UUID}"
ENTRY_OF_OLD: Final = f"gnulinux-advanced-{UUID}>gnulinux-{OLD}-advanced-{UUID}"


def look(host: Debian, trial: Trial | None = None) -> Outlook:
    """Look as the worker does: with what was hashed before, and remembering what is hashed now."""
    cache = contentcache.load(host.host)
    taken = snapshot.take(host.host, cache)
    found = lookahead.look_ahead(host.host, trial or Trial(), taken, cache)
    contentcache.save(host.host, cache)
    return found


def rows(outlook: Outlook) -> list[tuple[Area, str, str, str]]:
    assert not isinstance(outlook.changes, Unknown), outlook.changes.why
    return [(row.area, row.subject, row.before, row.after) for row in outlook.changes]


def set_of(choice: Choice | Unknown) -> BootSet:
    assert isinstance(choice, Choice), choice
    return choice.boot_set


def why(part: object) -> str:
    assert isinstance(part, Unknown), part
    return part.why


# --- what runs, what would boot -----------------------------------------------------------------


def test_nothing_pinned_and_nothing_changed(tmp_path: Path) -> None:
    outlook = look(debian(tmp_path))
    assert rows(outlook) == []
    assert outlook.sentence == NOTHING
    assert set_of(outlook.running) == set_of(outlook.wanted)
    assert (outlook.next_entry, outlook.once_pending) == (TOP, False)
    assert outlook.taken_at == "2026-01-02T12:30:15Z"


def test_a_boot_set_is_told_by_what_its_files_hold(tmp_path: Path) -> None:
    found = set_of(look(debian(tmp_path)).running)
    assert found.release == OLD
    assert found.kernel == file_sha256(tmp_path / f"boot/vmlinuz-{OLD}")
    assert found.initrd == file_sha256(tmp_path / f"boot/initrd.img-{OLD}")
    assert found.command_line == ARGUMENTS


def test_a_new_kernel_is_told_old_to_new(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.install_kernel(NEW)
    host.menu(NEW)
    outlook = look(host)
    assert outlook.sentence == f"The next boot switches the kernel {OLD} → {NEW}."
    assert rows(outlook) == [(Area.KERNEL, "release", OLD, NEW)]
    assert (set_of(outlook.running).release, set_of(outlook.wanted).release) == (OLD, NEW)
    assert isinstance(outlook.wanted, Choice)
    assert outlook.wanted.summary == outlook.sentence


def test_a_changed_firmware_file_that_a_loaded_module_names_is_told_as_in_use(
    tmp_path: Path,
) -> None:
    host = debian(tmp_path)
    look(host)
    host.write(f"/lib/firmware/{FIRMWARE}", "firmware 2")
    outlook = look(host)
    assert outlook.sentence == (
        f"The next boot changes 1 firmware file ({FIRMWARE}) that this host uses."
    )
    assert [row[:2] for row in rows(outlook)] == [(Area.FIRMWARE, FIRMWARE)]
    assert set_of(outlook.running).fingerprint != set_of(outlook.wanted).fingerprint


def test_a_changed_firmware_file_that_nobody_names_is_told_as_such(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.write("/lib/firmware/other/unused.bin", "unused 2")
    assert look(host).sentence == (
        "The next boot changes 1 firmware file (none that a loaded module names)."
    )


def test_a_new_kernel_without_a_loaded_module_names_the_module(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.install_kernel(NEW, "bnx2")
    host.menu(NEW)
    outlook = look(host)
    assert (Area.MODULES, "nf_tables", "loaded", "missing") in rows(outlook)
    assert outlook.sentence.endswith("; 1 loaded module is missing from it: nf_tables.")


def test_a_rebuilt_initrd_is_a_change(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.write(f"/boot/initrd.img-{OLD}", "rebuilt")
    assert look(host).sentence == "The next boot loads a rebuilt initrd."


def test_another_command_line_is_a_change(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.write("/boot/grub/grub.cfg", menu_of(OLD).replace(" quiet", " quiet nokaslr"))
    outlook = look(host)
    assert outlook.sentence == "The next boot changes the kernel command line."
    assert rows(outlook)[0][3] == ARGUMENTS.replace("quiet", "quiet nokaslr")


def test_what_runs_stays_what_this_boot_loaded_whatever_becomes_of_its_files(
    tmp_path: Path,
) -> None:
    host = debian(tmp_path)
    first = look(host).running
    shutil.rmtree(tmp_path / "boot")
    assert look(host).running == first


def test_what_an_earlier_boot_loaded_says_nothing_of_this_one(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.write(f"/boot/initrd.img-{OLD}", "rebuilt")
    host.boots(OLD, boot=NEXT_BOOT)
    outlook = look(host)
    assert outlook.boot == NEXT_BOOT
    assert set_of(outlook.running).initrd == file_sha256(tmp_path / f"boot/initrd.img-{OLD}")
    assert outlook.sentence == NOTHING


def test_the_older_kernel_booted_by_hand_is_recognized_by_its_entry(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.install_kernel(NEW)
    host.menu(NEW)
    outlook = look(host)
    assert isinstance(outlook.running, Choice)
    assert outlook.running.entry == ENTRY_OF_OLD
    assert rows(outlook) == [(Area.KERNEL, "release", OLD, NEW)]


def test_a_one_shot_is_told_and_does_not_count_as_what_the_host_wants(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.install_kernel(NEW)
    host.menu(NEW)
    host.write("/boot/grub/grubenv", format_environment({"next_entry": ENTRY_OF_OLD}))
    outlook = look(host)
    assert outlook.once_pending
    assert outlook.next_entry == ENTRY_OF_OLD
    assert set_of(outlook.wanted).release == NEW


def test_what_a_one_shot_leads_to_is_told_as_a_boot_set(tmp_path: Path) -> None:
    host = debian(tmp_path)
    first = look(host)
    assert first.once is None
    wanted = first.wanted
    assert isinstance(wanted, Choice)
    for once, entry in ((TOP, TOP), (ENTRY_OF_OLD, ENTRY_OF_OLD)):
        host.write("/boot/grub/grubenv", format_environment({"next_entry": once}))
        found = look(host)
        assert isinstance(found.once, Choice)
        assert (found.once.entry, found.once.boot_set) == (entry, wanted.boot_set)
    host.write("/boot/grub/grubenv", format_environment({"next_entry": "1st"}))
    assert "digit" in why(look(host).once)
    (tmp_path / f"boot/initrd.img-{OLD}").unlink()
    host.write("/boot/grub/grubenv", format_environment({"next_entry": ENTRY_OF_OLD}))
    assert f"initrd.img-{OLD}" in why(look(host).once)
    (tmp_path / "boot/grub/grub.cfg").unlink()
    assert "grub.cfg" in why(look(host).once)


def test_an_entry_with_several_initrds_is_told_by_all_of_them(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.write("/boot/microcode.img", "microcode 1")
    menu = menu_of(OLD).replace("initrd\t/initrd", "initrd\t/microcode.img /initrd")
    host.write("/boot/grub/grub.cfg", menu)
    look(host)
    host.write("/boot/microcode.img", "microcode 2")
    assert rows(look(host)) == [(Area.INITRD, f"initrd of {OLD}", "as before", "rebuilt")]


# --- what changed before anybody looked ---------------------------------------------------------


def later_than(file: Path) -> int:
    """Give the next whole second and wait it out: both /proc/stat and a tree tell no less."""
    started = int(file.stat().st_ctime) + 1
    time.sleep(max(0.0, started + 1.02 - time.time()))
    return started


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"/boot/initrd.img-{OLD}", f"/boot/initrd.img-{OLD} has changed since this boot"),
        (f"/lib/firmware/{FIRMWARE}", "the firmware tree has changed since this boot"),
    ],
)
def test_a_file_that_changed_after_this_boot_makes_what_runs_unknown(
    tmp_path: Path, path: str, told: str
) -> None:
    host = debian(tmp_path)
    newest = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_ctime)
    host.boots(OLD, started=later_than(newest))
    host.write(path, "rebuilt")
    outlook = look(host)
    assert why(outlook.running).startswith(told)
    assert outlook.sentence.startswith(f"What the next boot changes is not known: {told}")
    assert set_of(outlook.wanted).release == OLD


def test_another_release_than_the_entry_holds_makes_what_runs_unknown(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.boots(NEW, command_line=f"BOOT_IMAGE=/vmlinuz-{OLD} {ARGUMENTS}")
    told = why(look(host).running)
    assert told == f"/vmlinuz-{OLD} is {OLD}, but {NEW} runs"


def test_a_command_line_that_no_entry_has_makes_what_runs_unknown(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.boots(OLD, command_line=f"BOOT_IMAGE=/vmlinuz-{OLD} typed by hand")
    assert "no entry of the menu boots" in why(look(host).running)


def test_a_host_without_a_firmware_folder_has_no_firmware(tmp_path: Path) -> None:
    host = debian(tmp_path)
    shutil.rmtree(tmp_path / "lib/firmware")
    newest = max((p for p in tmp_path.rglob("*") if p.exists()), key=lambda p: p.stat().st_ctime)
    host.boots(OLD, started=later_than(newest))
    assert set_of(look(host).running).firmware == tree_identity(Tree(files=(), newest_change=0))


def test_a_firmware_folder_that_is_a_dangling_link_is_not_known(tmp_path: Path) -> None:
    host = debian(tmp_path)
    shutil.rmtree(tmp_path / "lib/firmware")
    (tmp_path / "lib/firmware").symlink_to("/mnt/not-mounted")
    assert "/lib/firmware: No such file" in why(snapshot.take(host.host, {}).firmware)


def test_one_that_lost_it_since_this_boot_is_not_known(tmp_path: Path) -> None:
    host = debian(tmp_path)
    newest = max((p for p in tmp_path.rglob("*") if p.exists()), key=lambda p: p.stat().st_ctime)
    host.boots(OLD, started=later_than(newest))
    shutil.rmtree(tmp_path / "lib/firmware")
    assert why(look(host).running).startswith("the firmware tree has changed since this boot")


# --- what cannot be read ------------------------------------------------------------------------


def spoil_kernel(host: Debian) -> None:
    host.write(f"/boot/vmlinuz-{OLD}", b"\0" * 0x600)


def elsewhere(host: Debian) -> None:
    host.write("/boot/grub/grub.cfg", menu_of(OLD) + "\nconfigfile /other.cfg\n")


def gone(path: str) -> Callable[[Debian], None]:
    def remove(host: Debian) -> None:
        place = host.root / path.lstrip("/")
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (gone("/boot/grub/grub.cfg"), "/boot/grub/grub.cfg: No such file"),
        (elsewhere, "unevaluable /boot/grub/grub.cfg, line 201"),
        (spoil_kernel, "not an x86 kernel image"),
        (gone(f"/boot/initrd.img-{OLD}"), f"/initrd.img-{OLD} is neither below /boot nor below /"),
        (gone(f"/boot/vmlinuz-{OLD}"), f"/vmlinuz-{OLD} is neither below /boot nor below /"),
        (gone(f"/lib/modules/{OLD}/modules.builtin"), "modules.builtin: No such file"),
        (gone(f"/lib/modules/{OLD}"), f"/lib/modules/{OLD}: No such file"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_named_never_empty(
    tmp_path: Path, spoil: Callable[[Debian], None], told: str
) -> None:
    host = debian(tmp_path)
    spoil(host)
    outlook = look(host)
    assert told in why(outlook.running)
    assert told in why(outlook.wanted)
    assert told in why(outlook.changes)
    assert told in outlook.sentence
    assert not (tmp_path / "var/lib/trialboot/ran.json").exists()


def test_a_menu_that_cannot_be_read_leaves_the_next_entry_unknown_too(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / "boot/grub/grub.cfg").unlink()
    outlook = look(host)
    assert "/boot/grub/grub.cfg" in why(outlook.next_entry)
    assert outlook.once_pending is False


def test_a_missing_environment_block_is_to_grub_one_without_keys(tmp_path: Path) -> None:
    host = debian(tmp_path)
    assert not (tmp_path / "boot/grub/grubenv").exists()
    assert look(host).next_entry == TOP


def test_an_environment_block_that_cannot_be_read_makes_the_menu_unknown(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / "boot/grub/grubenv").mkdir()
    assert "/boot/grub/grubenv: Is a directory" in why(look(host).next_entry)


def test_without_a_running_kernel_there_is_no_outlook(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / "proc/version").unlink()
    with pytest.raises(HostError, match="running kernel cannot be read: /proc/version: No such"):
        look(host)


def test_the_protection_is_told_with_the_outlook(tmp_path: Path) -> None:
    protection = look(debian(tmp_path)).protection
    assert isinstance(protection, Protection)
    assert protection.level == "panic-only"


# --- what this host cannot try ------------------------------------------------------------------

BTRFS: Final = "29 1 0:25 / / rw - btrfs /dev/sda2 rw\n"


def obstacles(host: Debian) -> tuple[str, ...]:
    wanted = look(host).wanted
    assert isinstance(wanted, Choice)
    return wanted.obstacles


def upgraded(root: Path) -> Debian:
    host = debian(root)
    look(host)
    host.install_kernel(NEW)
    host.menu(NEW)
    return host


def test_a_host_that_reaches_its_least_protection_may_try_a_change(tmp_path: Path) -> None:
    host = upgraded(tmp_path)
    assert obstacles(host) == ()
    host.write(CONFIG, '[boot]\nleast_protection = "panic-only"\n')
    assert obstacles(host) == ()


def test_below_the_least_protection_no_change_is_tried(tmp_path: Path) -> None:
    host = upgraded(tmp_path)
    host.write(CONFIG, '[boot]\nleast_protection = "full"\n')
    (why,) = obstacles(host)
    assert why.startswith("protection panic-only is below boot.least_protection «full»: ")
    assert "hardware watchdog" in why


def test_where_no_one_shot_can_be_relied_on_nothing_is_tried(tmp_path: Path) -> None:
    host = upgraded(tmp_path)
    host.write("/proc/self/mountinfo", BTRFS)
    assert obstacles(host)[0] == "GRUB cannot write its environment block on btrfs"


def test_a_least_protection_that_cannot_be_read_is_not_taken_for_the_default(
    tmp_path: Path,
) -> None:
    host = upgraded(tmp_path)
    host.write(CONFIG, "[boot]\nleast = 1\n")
    (why,) = obstacles(host)
    assert "unknown key: boot.least" in why


def test_a_loader_that_cannot_be_asked_is_not_known() -> None:
    def ask() -> str:
        raise LoaderError("no menu")

    assert snapshot.guarded(ask) == Unknown("no menu")


def test_without_a_change_there_is_nothing_that_could_not_be_tried(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.write("/proc/self/mountinfo", BTRFS)
    assert obstacles(host) == ()


# --- the known-good -----------------------------------------------------------------------------


def pinned(host: Debian) -> tuple[BootSet, Trial]:
    """Keep what runs, and boot what was kept."""
    good = set_of(look(host).running)
    sources = Sources(
        kernel=f"/boot/vmlinuz-{OLD}",
        initrds=(f"/boot/initrd.img-{OLD}",),
        firmware="/lib/firmware",
    )
    bootsets.keep(host.host, good, sources)
    return good, Trial(known_good=good, pinned=True)


NO_ENTRY: Final = "the boot menu has no entry for the known-good any more"


def boot_kept(host: Debian, fingerprint: str, more: str = "") -> None:
    line = f"BOOT_IMAGE=/trialboot/{fingerprint}/vmlinuz {ARGUMENTS} {BOOT_WORD}={fingerprint}"
    line += more
    host.boots(OLD, boot=NEXT_BOOT, command_line=line)


def test_the_known_good_that_was_booted_is_what_was_kept(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    outlook = look(host, trial)
    assert outlook.running == Choice(entry=KNOWN_GOOD, boot_set=good)
    assert outlook.sentence == NOTHING
    assert outlook.instead == ""


@pytest.mark.parametrize(
    ("word", "told"), [("picked", "picked"), ("fallback", "fallback"), ("other", "")]
)
def test_what_the_loader_says_of_its_one_shot_is_passed_on(
    tmp_path: Path, word: str, told: str
) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint, f" {INSTEAD_WORD}={word}")
    outlook = look(host, trial)
    assert (outlook.running, outlook.instead) == (Choice(entry=KNOWN_GOOD, boot_set=good), told)


def test_the_next_boot_is_compared_with_the_known_good_not_with_what_runs(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    host.install_kernel(NEW)
    host.menu(NEW)
    host.boots(NEW, boot=NEXT_BOOT)
    outlook = look(host, trial)
    assert set_of(outlook.running).release == NEW
    assert rows(outlook) == [(Area.KERNEL, "release", good.release, NEW)]


def test_a_known_good_that_is_not_pinned_is_not_compared_with(tmp_path: Path) -> None:
    host = debian(tmp_path)
    _, trial = pinned(host)
    host.install_kernel(NEW)
    host.menu(NEW)
    host.boots(NEW, boot=NEXT_BOOT)
    assert look(host, replace(trial, pinned=False)).sentence == NOTHING


def test_packages_may_replace_the_known_goods_files_and_it_is_still_what_runs(
    tmp_path: Path,
) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    host.write(f"/boot/initrd.img-{OLD}", "rebuilt")
    host.write(f"/lib/firmware/{FIRMWARE}", "firmware 2")
    outlook = look(host, trial)
    assert set_of(outlook.running) == good
    assert [row[0] for row in rows(outlook)] == [Area.FIRMWARE, Area.INITRD]


def test_a_kept_boot_set_that_is_gone_is_unknown(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    shutil.rmtree(tmp_path / "boot/trialboot")
    outlook = look(host, trial)
    assert why(outlook.running) == (
        f"the boot set {good.fingerprint[:12]} is not kept: No such file or directory"
    )


def test_under_the_kept_firmware_the_packages_own_tree_is_what_would_boot(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    shutil.copytree(tmp_path / "lib/firmware", tmp_path / "run/trialboot/packaged-firmware")
    host.write(f"/run/trialboot/packaged-firmware/{FIRMWARE}", "firmware 2")
    assert look(host, trial).sentence == NOTHING
    host.write("/run/trialboot/kept-firmware-mounted", "")
    assert [row[:2] for row in rows(look(host, trial))] == [(Area.FIRMWARE, FIRMWARE)]


def test_under_the_kept_modules_the_packages_own_tree_is_what_would_boot(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    shutil.copytree(tmp_path / "lib/modules", tmp_path / "run/trialboot/packaged-modules")
    host.write(f"/run/trialboot/packaged-modules/{OLD}/kernel/bnx2.ko", "another build")
    assert look(host, trial).sentence == NOTHING
    host.write("/run/trialboot/kept-modules-mounted", "")
    wanted = set_of(look(host, trial).wanted)
    assert (wanted.modules != good.modules, wanted.kernel) == (True, good.kernel)


def test_a_known_good_whose_initrd_ran_no_hook_of_ours_is_told(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    words = parts.boot_files(host.host, good.fingerprint).command_line
    host.boots(OLD, boot=NEXT_BOOT, command_line=words)
    assert look(host, trial).not_seen[0].startswith("firmware and modules of the known-good that")
    host.write("/run/trialboot/second-initrd-ran", "")
    assert "known-good" not in " ".join(look(host, trial).not_seen)
    host.write("/run/trialboot/kept-modules-left", "")
    told = look(host, trial).not_seen[0]
    assert told.startswith("modules of the known-good that runs: they could not be bound")


def test_a_rebuilt_initrd_of_the_same_kernel_is_a_candidate_and_harms_nothing_kept(
    tmp_path: Path,
) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    host.write(f"/boot/initrd.img-{OLD}", "rebuilt by update-initramfs")
    outlook = look(host, trial)
    assert rows(outlook) == [(Area.INITRD, f"initrd of {OLD}", "as before", "rebuilt")]
    assert set_of(outlook.wanted).fingerprint != good.fingerprint
    assert outlook.damage == (NO_ENTRY,)  # in this folder nobody made one
    bootsets.verify(host.host, good.fingerprint)


def test_kept_modules_that_were_written_in_place_are_damage(tmp_path: Path) -> None:
    host = debian(tmp_path)
    good = set_of(look(host).running)
    sources = Sources(
        kernel=f"/boot/vmlinuz-{OLD}",
        initrds=(f"/boot/initrd.img-{OLD}",),
        firmware="/lib/firmware",
        modules=f"/lib/modules/{OLD}",
    )
    bootsets.keep(host.host, good, sources)
    trial = Trial(known_good=good, pinned=True)
    boot_kept(host, good.fingerprint)
    assert look(host, trial).damage == (NO_ENTRY,)
    with (tmp_path / f"lib/modules/{OLD}/kernel/bnx2.ko").open("ab") as file:
        file.write(b"in place")
    assert look(host, trial).damage[0] == "the kept modules are not what was kept"


@pytest.mark.parametrize(
    ("free", "names", "told"),
    [
        (2, 1, "a kernel takes 3 MiB, 2 MiB are free, and it alone holds 2 MiB"),
        (9, 1, ""),
        (2, 2, ""),
    ],
    ids=["short", "room", "short, and nothing to win"],
)
def test_the_generation_before_is_in_the_way_where_the_next_kernel_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, names: int, told: str
) -> None:
    host = debian(tmp_path)
    host.write(f"/boot/initrd.img-{OLD}", "initrd 1" * (1 << 18))
    before, _ = pinned(host)
    if names > 1:
        os.link(parts.boot_folder(host.host, before.fingerprint) / "initrd.img", tmp_path / "it")
    host.write(f"/boot/initrd.img-{OLD}", "initrd 2" * (1 << 18))
    good = set_of(look(host).wanted)
    sources = Sources(
        kernel=f"/boot/vmlinuz-{OLD}",
        initrds=(f"/boot/initrd.img-{OLD}",),
        firmware="/lib/firmware",
    )
    bootsets.keep(host.host, good, sources)
    trial = Trial(known_good=good, pinned=True)
    status = os.statvfs_result((1 << 20, 1 << 20, free, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    found = look(host, replace(trial, previous=before)).crowded
    assert (found.why if found else "") == told
    assert found is None or found.fingerprint == before.fingerprint
    assert look(host, trial).crowded is None


def test_a_kept_initrd_that_dracut_would_write_over_is_damage_before_it_does(
    tmp_path: Path,
) -> None:
    host = debian(tmp_path)
    good, trial = pinned(host)
    boot_kept(host, good.fingerprint)
    host.write("/usr/bin/dracut", "")
    shared = "the kept initrd.img has another name, and dracut writes over it"
    assert look(host, trial).damage == (shared, NO_ENTRY)
    ownfiles.own_initrds(host.host, good.fingerprint)
    assert look(host, trial).damage == (NO_ENTRY,)


# --- the cache ----------------------------------------------------------------------------------

CACHE: Final = "var/lib/trialboot/content-cache.json"


def test_a_file_that_was_hashed_is_not_read_again(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    cache = json.loads((tmp_path / CACHE).read_text())
    (tmp_path / CACHE).write_text(json.dumps(dict.fromkeys(cache, "remembered")))
    assert set_of(look(host).wanted).kernel == "remembered"


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    host = debian(tmp_path)
    look(host)
    host.write(f"/boot/initrd.img-{OLD}", f"INITRD of {OLD}")
    initrd = file_sha256(tmp_path / f"boot/initrd.img-{OLD}")
    assert set_of(look(host).wanted).initrd == initrd


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "\x00"])
def test_a_broken_cache_costs_only_time(tmp_path: Path, content: str) -> None:
    host = debian(tmp_path)
    first = look(host)
    (tmp_path / CACHE).write_text(content)
    assert look(host) == first
    assert json.loads((tmp_path / CACHE).read_text())


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    host = debian(tmp_path)
    (tmp_path / CACHE).mkdir(parents=True)
    with pytest.raises(StoreError, match=r"content-cache\.json: Is a directory"):
        look(host)


def test_a_look_that_is_not_to_be_remembered_leaves_nothing_behind(tmp_path: Path) -> None:
    host = debian(tmp_path)
    taken = snapshot.take(host.host, {})
    first = lookahead.look_ahead(host.host, Trial(), taken, {}, remember=False)
    assert not (tmp_path / "var/lib/trialboot").exists()
    assert look(host) == first


@pytest.mark.parametrize("line", ["", f"BOOT_IMAGE=/vmlinuz-{OLD} {ARGUMENTS} {BOOT_WORD}=0123"])
def test_what_kexec_has_started_is_not_taken_for_what_its_command_line_names(
    tmp_path: Path, line: str
) -> None:
    host = debian(tmp_path)
    host.boots(OLD, command_line=line)
    host.write("/proc/sys/kernel/bootloader_type", "208\n")
    outlook = look(host)
    assert "started by kexec" in why(outlook.running)
    assert not (tmp_path / "var/lib/trialboot/ran.json").exists()


def armed_and_booted(host: Debian) -> Trial:
    """Arm the new kernel and boot it, with all of its files as they were armed."""
    good, trial = pinned(host)
    host.install_kernel(NEW)
    host.menu(NEW)
    candidate = look(host, trial).wanted
    assert isinstance(candidate, Choice)
    files = (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}")
    sources = Sources(kernel=files[0], initrds=files[1:], firmware="/lib/firmware")
    bootsets.keep(host.host, candidate.boot_set, sources)
    host.boots(NEW, boot=NEXT_BOOT)
    return Trial(known_good=good, pinned=True, phase=Phase.ARMED, candidate=candidate)


def changed_early(host: Debian) -> None:
    """As dkms or depmod do it before the first snapshot."""
    host.boots(NEW, boot=NEXT_BOOT, started=time.time() - 3600)


def built_anew(host: Debian) -> None:
    host.boots(NEW, boot=NEXT_BOOT, started=time.time() - 3600)
    host.write(f"/boot/initrd.img-{NEW}", "another initrd")


@pytest.mark.parametrize("change", [lambda _: None, changed_early, built_anew])
def test_an_armed_candidate_is_on_trial_whatever_changed_since(
    tmp_path: Path, change: Callable[[Debian], None]
) -> None:
    host = debian(tmp_path)
    trial = armed_and_booted(host)
    assert trial.candidate is not None
    change(host)
    assert set_of(look(host, trial).running) == trial.candidate.boot_set


def test_what_was_not_armed_is_not_taken_for_the_candidate(tmp_path: Path) -> None:
    host = debian(tmp_path)
    trial = armed_and_booted(host)
    assert trial.candidate is not None
    changed_early(host)
    told = "has changed since this boot"
    for other in (
        replace(trial, phase=Phase.STEADY),
        replace(trial, candidate=None),
        replace(trial, candidate=replace(trial.candidate, entry=EntryId(ENTRY_OF_OLD))),
    ):
        assert told in why(look(host, other).running)
    host.boots(OLD, boot=NEXT_BOOT, command_line=f"BOOT_IMAGE=/vmlinuz-{NEW} {ARGUMENTS}")
    assert f"but {OLD} runs" in why(look(host, trial).running)
    changed_early(host)
    bootsets.drop(host.host, trial.candidate.boot_set.fingerprint, {})
    assert told in why(look(host, trial).running)


def by_our_kexec(host: Debian, word: str = "00ff") -> None:
    host.write("/boot/grub/trialboot/trial.env", format_environment({KNOWN_BY: "00ff"}))
    line = f"BOOT_IMAGE=/vmlinuz-{NEW} {ARGUMENTS} {KEXEC_WORD}={word}"
    host.boots(NEW, boot=NEXT_BOOT, command_line=line)
    host.write("/proc/sys/kernel/bootloader_type", "208\n")


def test_a_trial_that_we_staged_is_known_by_its_token(tmp_path: Path) -> None:
    host = debian(tmp_path)
    trial = armed_and_booted(host)
    assert trial.candidate is not None
    by_our_kexec(host, "another")
    assert "started by kexec" in why(look(host, trial).running)
    by_our_kexec(host)
    running = look(host, trial).running
    assert isinstance(running, Choice)
    assert (running.entry, running.boot_set) == (TOP, trial.candidate.boot_set)


def test_a_token_that_cannot_be_looked_up_is_not_known(tmp_path: Path) -> None:
    host = debian(tmp_path)
    trial = armed_and_booted(host)
    by_our_kexec(host)
    (tmp_path / "boot/grub/trialboot/trial.env").unlink()
    (tmp_path / "boot/grub/trialboot/trial.env").mkdir()
    assert "no file of 1024 bytes" in why(look(host, trial).running)


def test_a_word_that_grub_of_ubuntu_adds_names_no_other_entry(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.boots(OLD, command_line=f"BOOT_IMAGE=/vmlinuz-{OLD} {ARGUMENTS} vt.handoff=7")
    assert set_of(look(host).running).release == OLD


# --- the whole snapshot -------------------------------------------------------------------------


def test_a_snapshot_has_all_parts(tmp_path: Path) -> None:
    host = debian(tmp_path)
    taken = snapshot.take(host.host, {})
    assert taken.taken_at == "2026-01-02T12:30:15Z"
    assert isinstance(taken.kernel, Kernel)
    assert taken.kernel.release == OLD
    assert not isinstance(taken.modules, Unknown)
    assert [m.name for m in taken.modules if m.firmware == (FIRMWARE,)] == ["bnx2"]
    assert not isinstance(taken.firmware, Unknown)
    assert [path for path, _ in taken.firmware.files] == [FIRMWARE, "other/unused.bin"]
    assert not isinstance(taken.packages, Unknown)
    assert [package.name for package in taken.packages] == ["a"]


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        ("/proc/stat", {"kernel", "modules"}),
        ("/proc/modules", {"modules"}),
        ("/var/lib/dpkg/status", {"packages"}),
    ],
)
def test_a_part_that_cannot_be_read_is_unknown_and_the_others_are_there(
    tmp_path: Path, path: str, unknown: set[str]
) -> None:
    host = debian(tmp_path)
    gone(path)(host)
    taken = snapshot.take(host.host, {})
    parts = ("kernel", "modules", "firmware", "packages")
    told = {name: getattr(taken, name) for name in parts}
    assert {name for name, part in told.items() if isinstance(part, Unknown)} == unknown
    assert all(path in told[name].why for name in unknown)
