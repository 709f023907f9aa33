"""The judgement of doctor and arm: a row a subject, and the level they add up to."""

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialboot.core.bootset import Fingerprint
from trialboot.core.doctor import ROWS, against_arming, against_least, diagnose
from trialboot.core.examined import (
    Examined,
    GrubFiles,
    Kept,
    Room,
    Row,
    State,
    Watchdogs,
)
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import GRUB_BLS, KNOWN_GOOD, SAVED, SYSTEMD_BOOT, Menu, MenuEntry
from trialboot.core.protection import (
    ENVIRONMENT_BLOCK,
    Ground,
    Level,
    Protection,
    against_environment_block,
    is_below,
    protection,
)

GIB: Final = 1 << 30
WHY: Final = Unknown("it cannot be read")
GOOD: Final = Kept(fingerprint=Fingerprint("good"), release="6.1", pinned=True)
OURS: Final = MenuEntry(entry=KNOWN_GOOD, title="trialboot: known-good", place=(0,))
HOSTS: Final = MenuEntry(entry=EntryId("debian"), title="Debian", place=(1,))
ODD: Final = replace(HOSTS, title="Tuned", doubt="two of them")
MENU: Final = Menu(
    entries=(OURS, HOSTS),
    default_spec=SAVED,
    saved=KNOWN_GOOD,
    known_good="good",
    host_default="0",
)
BARE: Final = Menu(entries=(replace(HOSTS, place=(0,)),), default_spec="0")
GRUB: Final = GrubFiles(script=True, before_ours=(), other_default=(), waits=False, password=False)
GROUND: Final = Ground(
    carrier=ENVIRONMENT_BLOCK,
    against_once=(),
    running="ro panic=10",
    candidate="ro panic=10",
    watchdogs=("iTCO_wdt",),
    watchdog_seconds=60.0,
    early_watchdog=True,
)
DOGS: Final = Watchdogs(
    identities=("iTCO_wdt",), runtime=60.0, reboot=600.0, early=True, asked_early=True
)
WELL: Final = Examined(
    as_root=True,
    menu=MENU,
    uncontrolled="",
    protection=protection(GROUND),
    kept=GOOD,
    running="ro panic=10",
    following="ro panic=10",
    watchdogs=DOGS,
    grub=GRUB,
    lockups=(("softlockup_panic", 1),),
    boot=Room(free=GIB, needed=100 << 20),
    root=Room(free=GIB, needed=0),
    rescue=(),
    gate=True,
    autoremove="6.1",
    secure_boot=False,
    kexec=(),
    rpm=False,
    daemon="",
    state_age=60.0,
)


def row(subject: str, **other: Any) -> Row | None:
    return ROWS[subject](replace(WELL, **other))


def state(subject: str, **other: Any) -> State | None:
    made = row(subject, **other)
    return made.state if made else None


def dogs(**other: Any) -> dict[str, Any]:
    return {"watchdogs": replace(DOGS, **other)}


def grub(**other: Any) -> dict[str, Any]:
    return {"grub": replace(GRUB, **other)}


def kept(**other: Any) -> dict[str, Any]:
    return {"kept": replace(GOOD, **other)}


def test_a_host_in_order_is_fine_in_every_row() -> None:
    found = diagnose(WELL)
    assert (found.level, found.reasons) == (Level.FULL, ())
    assert {made.state for made in found.rows} == {State.FINE}
    assert against_arming(found) == ()
    assert {made.subject for made in found.rows} == set(ROWS) - {"rpm host"}


BELOW: Final = (
    "protection panic-only is below boot.least_protection «full»: there is no hardware watchdog: "
    "a hang waits for somebody"
)
NO_BLOCK: Final = protection(replace(GROUND, against_once=against_environment_block("ext4", "md")))
CASES: Final[dict[str, list[tuple[dict[str, Any], State | None, str]]]] = {
    "boot loader": [
        ({"menu": WHY}, State.BLOCKS, "cannot be read"),
        ({"menu": WHY, "as_root": False}, State.UNKNOWN, "cannot be read"),
        ({"uncontrolled": "it is lilo"}, State.BLOCKS, "it is lilo"),
    ],
    "one-shot": [
        ({"protection": NO_BLOCK}, State.BLOCKS, "through md"),
        ({"protection": Protection(level=Level.NONE)}, State.BLOCKS, "no one-shot"),
        ({"protection": Protection(level=Level.NONE, reasons=("a", "b"))}, State.BLOCKS, "a; b"),
        ({"protection": WHY}, State.UNKNOWN, "cannot be read"),
        ({"protection": WHY, "as_root": False}, State.UNKNOWN, "cannot be read"),
        ({"protection": WHY, "menu": WHY}, State.UNKNOWN, "takes a boot loader"),
        ({"protection": WHY, "uncontrolled": "lilo"}, State.UNKNOWN, "takes a boot loader"),
    ],
    "known-good": [
        ({"kept": None}, State.NOTE, "none yet"),
        ({"kept": WHY}, State.UNKNOWN, "cannot be read"),
        (kept(pinned=False), State.NOTE, "not kept"),
        (kept(damage=WHY), State.UNKNOWN, "whole is not known"),
        (kept(damage=("vmlinuz is gone",)), State.LOWERS, "vmlinuz is gone"),
    ],
    "known-good entry": [
        ({"menu": WHY}, None, ""),
        ({"uncontrolled": "lilo"}, None, ""),
        ({"grub": WHY}, State.UNKNOWN, "cannot be read"),
        (grub(script=False), State.BLOCKS, "09_trialboot does not run"),
        (grub(before_ours=("/etc/grub.d/06_x",)), State.BLOCKS, "/etc/grub.d/06_x"),
        ({"kept": WHY}, State.UNKNOWN, "cannot be read"),
        ({"kept": None, "menu": BARE}, State.FINE, "none is needed yet"),
        (kept(pinned=False), State.FINE, "none is needed yet"),
        ({"menu": BARE}, State.LOWERS, "no entry"),
        ({"menu": replace(MENU, entries=())}, State.LOWERS, "no entry"),
        ({"grub": None}, State.FINE, "before all others"),
        (
            {"menu": replace(MENU, entries=(replace(OURS, place=(2,)), HOSTS))},
            State.LOWERS,
            "«Debian» comes before it",
        ),
    ],
    "default": [
        ({"menu": WHY}, None, ""),
        ({"uncontrolled": "lilo"}, None, ""),
        (grub(other_default=("/etc/default/grub.d/z.cfg",)), State.BLOCKS, "z.cfg"),
        ({"menu": replace(MENU, default_spec="0")}, State.BLOCKS, "not saved"),
        ({"menu": replace(MENU, saved="debian")}, State.NOTE, "«debian»"),
        ({"menu": BARE}, State.FINE, "the host's own"),
        ({"grub": None, "menu": replace(MENU, loader=SYSTEMD_BOOT)}, State.FINE, "known-good"),
    ],
    "entries": [
        ({"menu": WHY}, None, ""),
        ({"menu": replace(MENU, entries=())}, None, ""),
        ({"menu": replace(MENU, entries=(OURS, ODD))}, State.NOTE, "«Tuned»: two"),
        ({"menu": replace(MENU, entries=(ODD, HOSTS, ODD))}, State.NOTE, "«Tuned», and 1 more"),
    ],
    "menu": [
        ({"grub": None}, None, ""),
        ({"grub": WHY}, None, ""),
        (grub(waits=True), State.LOWERS, "for ever"),
        (grub(password=True), State.LOWERS, "password"),
    ],
    "room in /boot": [
        ({"boot": WHY}, State.UNKNOWN, "cannot be read"),
        ({"boot": Room(free=99 << 20, needed=100 << 20)}, State.LOWERS, "99 MiB free"),
        ({"boot": Room(free=9 << 20, needed=0)}, State.LOWERS, "9 MiB free"),
    ],
    "panic= of this boot": [
        ({"running": WHY}, State.UNKNOWN, "cannot be read"),
        ({"running": "ro"}, State.LOWERS, "panic= is not on the running"),
        ({"running": "panic=0"}, State.LOWERS, "panic=0 on the running"),
    ],
    "panic= of the next boot": [
        ({"following": WHY}, State.UNKNOWN, "cannot be read"),
        ({"following": "ro"}, State.LOWERS, "panic= is not on the next"),
    ],
    "hardware watchdog": [
        (dogs(identities=WHY), State.UNKNOWN, "cannot be read"),
        (dogs(identities=("Software Watchdog",)), State.LOWERS, "no hardware watchdog"),
    ],
    "RuntimeWatchdogSec": [
        (dogs(runtime=WHY), State.UNKNOWN, "cannot be read"),
        (dogs(runtime=0.0, asked_early=False), State.LOWERS, "is off"),
        (dogs(runtime=0.0, identities=(), asked_early=False), State.LOWERS, "is off"),
    ],
    "watchdog in the initrd": [
        (dogs(early=WHY), State.UNKNOWN, "cannot be read"),
        (dogs(early=False), State.LOWERS, "before systemd"),
        (dogs(early=False, asked_early=False), State.LOWERS, "before systemd"),
    ],
    "RebootWatchdogSec": [
        (dogs(reboot=WHY), State.UNKNOWN, "cannot be read"),
        (dogs(reboot=0.0), State.NOTE, "off"),
    ],
    "lockups": [
        ({"lockups": ()}, None, ""),
        ({"lockups": (("hung_task_panic", 0),)}, State.NOTE, "hung_task_panic off"),
    ],
    "emergency and rescue": [
        ({"rescue": WHY}, State.UNKNOWN, "cannot be read"),
        ({"rescue": ("emergency",)}, State.LOWERS, "emergency not enabled"),
    ],
    "room in /": [
        ({"root": WHY}, State.UNKNOWN, "cannot be read"),
        ({"root": Room(free=9 << 20, needed=0)}, State.LOWERS, "9 MiB free"),
    ],
    "boot-complete.target": [({"gate": False}, State.NOTE, "does not wait")],
    "autoremove": [
        ({"autoremove": None}, None, ""),
        ({"kept": None}, None, ""),
        (kept(pinned=False), None, ""),
        ({"autoremove": WHY}, State.UNKNOWN, "cannot be read"),
        ({"autoremove": ""}, State.LOWERS, "apt may remove the packages of 6.1"),
    ],
    "daemon": [({"daemon": "no bus"}, State.LOWERS, "no bus: no trial would be judged")],
    "state file": [
        ({"state_age": WHY}, State.UNKNOWN, "cannot be read"),
        ({"state_age": 7200.0}, State.NOTE, "120 min old"),
    ],
    "kexec": [({"kexec": ("a kernel is staged",)}, State.NOTE, "a kernel is staged")],
    "Secure Boot": [
        ({"secure_boot": None}, None, ""),
        ({"secure_boot": WHY}, State.UNKNOWN, "cannot be read"),
        ({"secure_boot": True}, State.NOTE, "on"),
    ],
    "rpm host": [
        ({"rpm": True}, State.NOTE, "fixtures"),
        ({"menu": replace(BARE, loader=GRUB_BLS)}, State.NOTE, "fixtures"),
        ({"menu": WHY}, None, ""),
    ],
}


def test_every_row_has_its_cases() -> None:
    assert set(CASES) == set(ROWS)


@pytest.mark.parametrize(
    ("subject", "other", "wanted", "words"),
    [(subject, *case) for subject, cases in CASES.items() for case in cases],
)
def test_a_row_says_what_was_found(
    subject: str, other: dict[str, Any], wanted: State | None, words: str
) -> None:
    made = row(subject, **other)
    assert (made.state if made else None) is wanted
    assert words in (made.found if made else "")


@pytest.mark.parametrize(
    ("ground", "level"),
    [
        ({}, Level.FULL),
        ({"early_watchdog": False}, Level.PANIC_ONLY),
        ({"early_watchdog": WHY}, Level.PANIC_ONLY),
        ({"watchdog_seconds": 0.0}, Level.PANIC_ONLY),
        ({"watchdogs": ()}, Level.PANIC_ONLY),
        ({"running": "ro"}, Level.USERSPACE_ONLY),
        ({"candidate": WHY, "watchdogs": ()}, Level.USERSPACE_ONLY),
        ({"against_once": ("nothing",)}, Level.NONE),
        ({"against_once": ("nothing",), "running": "ro"}, Level.NONE),
        ({"carrier": "an own block on /dev/sda1"}, Level.FULL),
    ],
)
def test_the_level_is_the_least_of_its_ground(ground: dict[str, Any], level: Level) -> None:
    found = protection(replace(GROUND, **ground))
    assert found.level is level
    assert bool(found.reasons) is (level is not Level.FULL)
    assert bool(found.carrier) is (level is not Level.NONE)


@pytest.mark.parametrize(
    ("file_system", "device", "words"),
    [
        ("ext4", "partition", ""),
        ("vfat", "partition", ""),
        ("ext4", "lvm", "through lvm"),
        ("ext4", WHY, "the device of /boot/grub is not known"),
        ("btrfs", "partition", "on btrfs"),
        (WHY, "partition", "the file system of /boot/grub is not known"),
    ],
)
def test_where_grub_cannot_write_its_block_is_told(
    file_system: str | Unknown, device: str | Unknown, words: str
) -> None:
    found = against_environment_block(file_system, device)
    assert bool(found) is bool(words)
    assert words in " ".join(found)


def test_what_carries_the_one_shot_is_named() -> None:
    assert protection(GROUND).carrier == "GRUB's environment block"
    other = protection(replace(GROUND, carrier="UEFI BootNext"))
    made = row("one-shot", protection=other)
    assert made is not None
    assert made.found == "held by UEFI BootNext"
    made = row("one-shot", menu=replace(MENU, loader=SYSTEMD_BOOT))
    assert made is not None
    assert made.found == "held by the EFI variable LoaderEntryOneShot"


def test_nobody_arms_what_could_not_go_back() -> None:
    assert against_arming(diagnose(replace(WELL, protection=NO_BLOCK))) == (
        "one-shot: GRUB cannot write its environment block through md",
    )
    assert against_arming(diagnose(replace(WELL, protection=WHY))) == (
        "what this host can survive is not known: it cannot be read",
    )


@pytest.mark.parametrize(
    ("found", "least", "words"),
    [
        (protection(GROUND), Level.FULL, ""),
        (protection(replace(GROUND, watchdogs=())), Level.PANIC_ONLY, ""),
        (
            protection(replace(GROUND, watchdogs=())),
            Level.FULL,
            BELOW,
        ),
        (NO_BLOCK, Level.USERSPACE_ONLY, "GRUB cannot write its environment block through md"),
        (Protection(level=Level.NONE), Level.USERSPACE_ONLY, "no one-shot can be relied on"),
        (Protection(level=Level.NONE, reasons=("why",)), Level.USERSPACE_ONLY, "why"),
        (WHY, Level.USERSPACE_ONLY, "what this host can survive is not known: it cannot be read"),
    ],
)
def test_the_least_protection_is_held_against_the_level(
    found: Protection | Unknown, least: Level, words: str
) -> None:
    assert against_least(found, least) == ((words,) if words else ())


def test_levels_are_ordered_from_the_best() -> None:
    levels = [Level.FULL, Level.PANIC_ONLY, Level.USERSPACE_ONLY, Level.NONE]
    for at, level in enumerate(levels):
        assert [is_below(other, level) for other in levels] == [n > at for n in range(4)]


@st.composite
def hosts(draw: st.DrawFn) -> Examined:
    """Give any host whose level is that of its own ground, as a real one's is."""
    made = draw(st.from_type(Examined))
    ground = draw(st.from_type(Ground))
    if isinstance(made.protection, Unknown):
        return made
    return replace(
        made,
        protection=protection(ground),
        running=ground.running,
        following=ground.candidate,
        watchdogs=replace(
            made.watchdogs,
            identities=ground.watchdogs,
            runtime=ground.watchdog_seconds,
            early=ground.early_watchdog,
        ),
    )


DECIDING: Final = {
    "one-shot",
    "panic= of this boot",
    "panic= of the next boot",
    "hardware watchdog",
    "RuntimeWatchdogSec",
    "watchdog in the initrd",
}


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(hosts())
def test_rows_and_level_never_contradict(seen: Examined) -> None:
    found = diagnose(seen)
    order = [list(State).index(made.state) for made in found.rows]
    assert order == sorted(order), "the worst first"
    subjects = [made.subject for made in found.rows]
    assert len(set(subjects)) == len(subjects)
    for subject, make in ROWS.items():
        made = make(seen)
        assert made is None or made.subject == subject
    deciding = {made.subject: made.state for made in found.rows if made.subject in DECIDING}
    assert set(deciding) == DECIDING
    assert (found.level is Level.FULL) is (set(deciding.values()) == {State.FINE})
    assert (found.level is Level.NONE) is (deciding["one-shot"] is State.BLOCKS)
    assert bool(found.reasons) is (found.level is not Level.FULL)
    if not against_arming(found):
        assert isinstance(found.level, Level)
        assert found.level is not Level.NONE
        assert State.BLOCKS not in {made.state for made in found.rows}


@settings(max_examples=200)
@given(st.from_type(Protection), st.sampled_from(Level))
def test_what_is_below_the_least_always_has_an_obstacle(found: Protection, least: Level) -> None:
    below = is_below(found.level, least) or found.level is Level.NONE
    assert bool(against_least(found, least)) is below
