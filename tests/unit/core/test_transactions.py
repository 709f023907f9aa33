"""From notes to transactions: one run is one, nothing is lost, and at most one is open."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trialboot.core.facts import BootId, Unknown
from trialboot.core.packagechange import PackageChange
from trialboot.core.packagenote import NOBODY, Leader, Note
from trialboot.core.record import parse, plain
from trialboot.core.transaction import (
    NOT_TOLD,
    WHOLE,
    Condition,
    HalfDone,
    HistoryRecord,
    Journal,
    Moment,
    State,
    Transaction,
    changed_count,
    under_way,
    words,
)
from trialboot.core.transactions import (
    KEPT,
    PLANNED_AT_MOST,
    QUIET,
    ROWS,
    SILENT,
    TEXT_AT_MOST,
    settle,
    suspects,
    take,
)

BOOT = BootId("11111111-aaaa")
OLDER = BootId("00000000-bbbb")
ALIVE = frozenset({100, 200})

NOW = Moment(boot=BOOT, uptime=900.0, time="2026-11-25T13:00:00Z")
BEGUN = "2026-11-25T12:00:00Z"
PLAN = "linux-image-6.1 1 amd64 same < 2 amd64 same /var/cache/l.deb"
LEFT_OVER = "old 1 amd64 same < 1 amd64 same **CONFIGURE**"


def chain(pid: int, name: str) -> tuple[Leader, ...]:
    """Give the ancestors of a hook as apt has them: a shell, a fork, itself, and who called it."""
    return tuple(
        Leader(pid=each, name=called)
        for each, called in ((pid + 2, "sh"), (pid + 1, name), (pid, name), (7, "bash"))
    )


def note(event: str, at: float, pid: int = 100, name: str = "apt-get", **more: Any) -> Note:
    return Note(
        **{
            "event": event,
            "boot": BOOT,
            "whole": True,
            "at": at,
            "pid": pid + 3,
            "time": BEGUN,
            "chain": chain(pid, name),
            **more,
        }
    )


def taken(
    *notes: Note,
    journal: Journal = (),
    uptime: float = 0.0,
    alive: frozenset[int] = ALIVE,
    locked: bool = False,
) -> Journal:
    return take(journal, notes, boot=BOOT, uptime=uptime, alive=alive, locked=locked)


def settled(
    journal: Journal,
    changes: tuple[PackageChange, ...] | Unknown = (),
    condition: Condition = WHOLE,
    alive: frozenset[int] = frozenset(),
    *,
    locked: bool = False,
) -> Journal:
    return settle(journal, condition, changes, now=NOW, alive=alive, locked=locked)


def change(name: str, before: str = "1", after: str = "2") -> PackageChange:
    return PackageChange(name=name, architecture="amd64", before=before, after=after)


def states(journal: Journal) -> list[str]:
    return [f"{each.state}/{each.cycles}" for each in journal]


RUN = (note("begin", 10, packages=(PLAN, LEFT_OVER, "")), note("end", 20, pid=100))


# --- stories of notes ---------------------------------------------------------------------------


def test_a_run_opens_and_closes_and_remembers_its_plan() -> None:
    first, end = RUN
    opened = taken(first)
    assert under_way(opened) == opened[0]
    assert opened[0] == Transaction(
        key="11111111-10.00-100-1",
        manager="apt",
        boot=BOOT,
        leader=Leader(pid=100, name="apt-get"),
        opened_at=10,
        time=BEGUN,
        planned=("linux-image-6.1",),
        frontend=True,
        heard=(10, 103),
    )
    (closed,) = taken(end, journal=opened)
    assert under_way((closed,)) is None
    assert (closed.state, closed.closed_at, closed.key) == (State.CLOSED, 20, opened[0].key)


STORIES: dict[str, tuple[tuple[Note, ...], list[str]]] = {
    "a run": (RUN, ["closed/1"]),
    "two runs of two processes": (
        (*RUN, note("begin", 21, 200), note("end", 22, 200)),
        ["closed/1", "closed/1"],
    ),
    "a run in 22 cycles is one transaction": (
        tuple(note(("begin", "end")[n % 2], 10 + n, name="unattended-upgr") for n in range(44)),
        ["closed/22"],
    ),
    "cycles lie apart at most as long as is quiet": (
        (*RUN, note("begin", 20 + QUIET), note("end", 90)),
        ["closed/2"],
    ),
    "later it is another transaction": (
        (*RUN, note("begin", 21 + QUIET), note("end", 90)),
        ["closed/1", "closed/1"],
    ),
    "the last cycle is still open": ((*RUN, note("begin", 30)), ["open/2"]),
    "an aborted step among many": (
        (*RUN, note("begin", 30), note("begin", 40), note("end", 41)),
        ["closed/3"],
    ),
    "an aborted beginning is superseded by the next": (
        (note("begin", 5), *RUN),
        ["superseded/1", "closed/1"],
    ),
    "another begins though the first lives": (
        (note("begin", 5, 200, "packagekitd"), *RUN),
        ["superseded/1", "closed/1"],
    ),
    "another begins for the first is dead": (
        (note("begin", 5, 300), *RUN),
        ["interrupted/1", "closed/1"],
    ),
    "dead, and nobody after it": ((note("begin", 5, 300),), ["interrupted/1"]),
    "an end that comes late still ends what was given up": (
        (note("begin", 5, 200, "packagekitd"), *RUN, note("end", 25, 200, "packagekitd")),
        ["closed/1", "closed/1"],
    ),
    "an end alone": ((RUN[1],), ["closed/1"]),
    "a second end soon after": ((*RUN, note("end", 25)), ["closed/1"]),
    "a second end much later": ((*RUN, note("end", 25 + QUIET)), ["closed/1", "closed/1"]),
    "a run that goes on after another began": (
        (*RUN, note("begin", 21, 200), note("begin", 22), note("end", 23)),
        ["closed/1", "superseded/1", "closed/1"],
    ),
    "another goes on, of which only an end was told, though the first lives": (
        (note("begin", 5, 200, "packagekitd"), note("end", 10), note("begin", 11)),
        ["superseded/1", "open/2"],
    ),
    "power loss in the middle": (
        (note("begin", 500, boot=OLDER), *RUN),
        ["interrupted/1", "closed/1"],
    ),
    "power loss, and nothing after it": ((note("begin", 500, boot=OLDER),), ["interrupted/1"]),
    "kernel hooks and triggers are in the middle": (
        (
            RUN[0],
            note("dpkg-end", 12, action="kernel:postinst.d/zzz-trialboot:6.1"),
            note("dpkg-end", 13, action="trigger"),
        ),
        ["open/1"],
    ),
    "aptitude's runs of dpkg take themselves for bare ones": (
        tuple(
            note(event, 10 + n, name="aptitude")
            for n, event in enumerate(
                ("begin", "dpkg-begin", "dpkg-end", "dpkg-begin", "dpkg-end", "end")
            )
        ),
        ["closed/1"],
    ),
    "aptitude is killed between two of them": (
        tuple(
            note(event, 10 + n, 300, "aptitude")
            for n, event in enumerate(("begin", "dpkg-begin", "dpkg-end"))
        ),
        ["interrupted/1"],
    ),
    "unattended-upgrades call each hook twice": (
        tuple(
            note(event, 10 + n, packages=(f"p{n // 4} 1 2",))
            for n, event in enumerate(("begin", "begin", "end", "end") * 3)
        ),
        ["closed/3"],
    ),
    "the same plan again, much later": (
        (replace(RUN[0], at=5), replace(RUN[0], at=6 + QUIET)),
        ["superseded/1", "open/1"],
    ),
    "a program that runs dpkg again and again": (
        tuple(
            note(event, 10 + n, name="nala")
            for n, event in enumerate(("dpkg-begin", "dpkg-end") * 3)
        ),
        ["closed/3"],
    ),
    "dpkg after a frontend's end": (
        (*RUN, note("dpkg-begin", 21), note("dpkg-end", 22)),
        ["closed/2"],
    ),
    "bare dpkg": (
        (note("dpkg-begin", 1, name="dpkg"), note("dpkg-end", 2, name="dpkg")),
        ["closed/1"],
    ),
    "an initrd that was built by hand is no transaction": (
        (note("dpkg-end", 12, action="kernel:post-update.d/zzz-trialboot:6.1"),),
        [],
    ),
    "a torn note only wakes": ((note("begin", 1, whole=False),), []),
    "an event of another time": ((note("pause", 1),), []),
    "hooks that could not tell who they are": (
        (replace(note("begin", 0, chain=()), pid=0), replace(note("end", 0, chain=()), pid=0)),
        ["closed/1"],
    ),
    "one that nobody leads is never called dead": ((note("begin", 1, chain=()),), ["open/1"]),
}


@pytest.mark.parametrize(("notes", "ends"), STORIES.values(), ids=STORIES)
def test_notes_become_transactions(notes: tuple[Note, ...], ends: list[str]) -> None:
    at_once = taken(*notes)
    assert states(at_once) == ends
    known = tuple(each for each in notes if each.pid)
    assert taken(*known, journal=at_once) == at_once, "the same notes are folded twice"


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ((note("begin", 5, 300),), "apt-get (process 300) is gone and never told its end"),
        ((note("begin", 5, boot=OLDER),), "power loss or reset"),
        ((note("begin", 5), RUN[0]), "it was stopped before it began to change anything, and"),
        ((note("begin", 5), note("begin", 6, 200, "dpkg")), "dpkg began before its end was told"),
        ((RUN[1],), "its beginning was not told"),
        (RUN, ""),
    ],
)
def test_why_it_ended_so_is_told(notes: tuple[Note, ...], why: str) -> None:
    assert taken(*notes)[0].why.startswith(why)
    assert bool(taken(*notes)[0].why) is bool(why)


def test_the_journal_keeps_the_newest() -> None:
    notes = [
        note(e, 100 * n + m, n) for n in range(1, 251) for m, e in enumerate(("begin", "end"))
    ]
    journal = taken(*notes)
    assert len(journal) == KEPT
    assert journal[-1].leader.pid == 250


def test_a_long_plan_is_remembered_in_part() -> None:
    (one,) = taken(note("begin", 1, packages=tuple(f"p{n} 1" for n in range(600))))
    assert one.planned == tuple(f"p{n}" for n in range(PLANNED_AT_MOST))


def test_the_plans_of_all_cycles_are_one() -> None:
    (one,) = taken(*RUN, note("begin", 21, packages=("b 1", PLAN, "b 2")))
    assert one.planned == ("linux-image-6.1", "b")


def test_those_whose_life_matters_are_named() -> None:
    journal = taken(note("begin", 5))
    fresh = (note("begin", 7, 200), note("end", 9, 200), note("begin", 9, whole=False, pid=300))
    assert suspects(journal) == ((100, 5),)
    assert suspects(journal, fresh) == ((100, 5), (200, 9))
    assert suspects(taken(note("begin", 1, chain=()))) == ()
    assert suspects(taken(*RUN)) == ()


# --- what the package database tells ------------------------------------------------------------


def test_the_difference_belongs_to_the_last_run() -> None:
    (one,) = settled(taken(*RUN), (change("a"),))
    assert (one.state, one.changes, one.settled, one.why) == (
        State.CLOSED,
        (change("a"),),
        True,
        "",
    )


def test_cycles_after_a_look_add_to_it() -> None:
    journal = settled(taken(*RUN), (change("a"), change("b")))
    journal = taken(note("begin", 30), note("end", 40), journal=journal)
    assert not journal[0].settled
    (one,) = settled(journal, (change("b", "2", "1"), change("c")))
    assert one.changes == (change("a"), change("c"))


def test_a_change_that_no_hook_told_of_is_a_transaction_of_its_own() -> None:
    journal = settled(settled(taken(*RUN)), (change("a"),))
    assert states(journal) == ["closed/1", "closed/1"]
    assert journal[1] == Transaction(
        key="11111111-900.00-0-1",
        manager=NOT_TOLD,
        boot=BOOT,
        leader=NOBODY,
        opened_at=900,
        closed_at=900,
        time=NOW.time,
        state=State.CLOSED,
        changes=(change("a"),),
        settled=True,
    )
    (alone,) = settled((), (change("a"),))
    assert alone == journal[1]


@pytest.mark.parametrize("changes", [(), Unknown("no list")])
@pytest.mark.parametrize("journal", [(), settled(taken(*RUN))])
def test_a_look_at_an_unchanged_host_adds_nothing(
    journal: Journal, changes: tuple[PackageChange, ...] | Unknown
) -> None:
    assert settled(journal, changes) == journal


def test_two_changes_at_one_moment_have_two_names() -> None:
    journal = settled(settled((), (change("a"),)), (change("b"),))
    assert [each.key for each in journal] == ["11111111-900.00-0-1", "11111111-900.00-0-2"]


def test_a_difference_that_cannot_be_told_is_unknown() -> None:
    (one,) = settled(taken(*RUN), Unknown("no list of before"))
    assert one.changes == Unknown("no list of before")
    (again,) = settled(taken(note("begin", 21), note("end", 22), journal=(one,)), (change("a"),))
    assert again.changes == Unknown("no list of before")


def test_after_what_is_unknown_a_change_stands_alone() -> None:
    journal = settled(settled(taken(*RUN), Unknown("no list of before")), (change("a"),))
    assert [each.changes for each in journal] == [
        Unknown("no list of before"),
        (change("a"),),
    ]


def test_the_same_difference_twice_is_told_once_also_where_cycles_were_added_up() -> None:
    journal = settled(taken(note("begin", 5)), (change("a"), change("b")), locked=True)
    rest = (change("a", "2", "3"), change("b", "2", ""))
    once = settled(taken(note("end", 9), journal=journal), rest)
    assert once[0].changes == (change("a", "1", "3"), change("b", "1", ""))
    assert len(settled(once, (change("a", "2", "3"),))) == 1
    assert len(settled(once, (change("b", "1", ""),))) == 1
    assert len(settled(once, (change("c", "1", ""),))) == 2


def test_an_open_run_is_left_open_while_its_leader_lives() -> None:
    (one,) = settled(taken(note("begin", 400)), (change("a"),), alive=ALIVE)
    assert (one.state, one.changes, one.settled) == (State.OPEN, (change("a"),), False)
    (dead,) = settled((one,), (change("b"),))
    assert (dead.state, dead.changes) == (State.INTERRUPTED, (change("a"), change("b")))


LONG_AGO = NOW.uptime - SILENT - 1
OVER: dict[str, tuple[Note, bool, str]] = {
    "its leader was killed, and its dpkg goes on": (note("begin", 899, 300), True, ""),
    "its leader was killed, and so was its dpkg": (
        note("begin", 899, 300),
        False,
        "apt-get (process 300) is gone and never told its end",
    ),
    "nobody leads it, and a note was heard lately": (note("begin", 300, chain=()), False, ""),
    "nobody leads it, and it is silent": (
        note("begin", LONG_AGO, chain=()),
        False,
        "it never told its end",
    ),
    "nobody leads it, and its dpkg is at work": (note("begin", LONG_AGO, chain=()), True, ""),
    "its leader stays, and it is silent": (
        note("begin", LONG_AGO, name="aptitude"),
        False,
        "it never told its end",
    ),
    "its leader stays, and its dpkg is at work": (
        note("begin", LONG_AGO, name="aptitude"),
        True,
        "",
    ),
    "the power went, and another run is at work": (
        note("begin", LONG_AGO, boot=OLDER),
        True,
        "power loss or reset",
    ),
}


@pytest.mark.parametrize(("begin", "locked", "why"), OVER.values(), ids=OVER)
def test_a_run_is_over_when_nobody_is_at_work(begin: Note, *, locked: bool, why: str) -> None:
    state = State.INTERRUPTED if why else State.OPEN
    (one,) = taken(begin, uptime=NOW.uptime, locked=locked)
    assert (one.state, one.why) == (state, why)
    (same,) = settled(taken(begin, locked=True), alive=ALIVE, locked=locked)
    assert (same.state, same.why) == (state, why)


@pytest.mark.parametrize(
    ("coming", "state"),
    [
        ((note("begin", 6, 200),), "open/1"),
        ((note("end", 6, 200), note("begin", 7, 200)), "open/2"),
    ],
    ids=["it begins", "it goes on, and its first beginning was not told"],
)
def test_the_lock_of_who_comes_next_keeps_no_dead_run_open(
    coming: tuple[Note, ...], state: str
) -> None:
    journal = taken(note("begin", 5, 300), *coming, locked=True)
    assert states(journal) == ["interrupted/1", state]


def test_a_run_that_was_given_up_in_silence_may_still_tell_its_end() -> None:
    silent = taken(note("begin", LONG_AGO), uptime=NOW.uptime)
    assert states(taken(note("end", NOW.uptime), journal=silent)) == ["closed/1"]


def history(**more: str) -> HistoryRecord:
    return HistoryRecord(**{"start": BEGUN, "end": "2026-11-25  12:01:00", **more})


POSTFIX = HalfDone(name="postfix", architecture="amd64", state="half-configured")

CONDITIONS: dict[str, tuple[Condition, State, str]] = {
    "whole": (Condition(history=history()), State.CLOSED, ""),
    "a package half done": (
        Condition(half_done=(POSTFIX,), history=history()),
        State.FAILED,
        "postfix is half-configured",
    ),
    "many packages half done": (
        Condition(half_done=(POSTFIX,) * 5),
        State.FAILED,
        "; ".join(["postfix is half-configured"] * 3) + "; 2 more packages are not whole",
    ),
    "dpkg's records left in the middle": (
        Condition(updates=("0001",)),
        State.FAILED,
        "dpkg was stopped in the middle of its records",
    ),
    "apt wrote down an error": (
        Condition(history=history(error="Sub-process dpkg exited unexpectedly")),
        State.FAILED,
        "apt says: Sub-process dpkg exited unexpectedly",
    ),
    "apt wrote down no end": (
        Condition(half_done=(POSTFIX,), history=history(end="")),
        State.INTERRUPTED,
        "apt never wrote down its end",
    ),
    "an error of an earlier run": (
        Condition(history=history(start="2026-11-25T11:59:59Z", error="x")),
        State.CLOSED,
        "",
    ),
    "a history that cannot be read": (Condition(history=Unknown("no")), State.CLOSED, ""),
    "a database that cannot be read": (
        Condition(half_done=Unknown("status: no"), updates=Unknown("updates: no")),
        State.CLOSED,
        "whether it is whole is not known: status: no; updates: no",
    ),
    "dnf says that it was not ended": (
        Condition(unfinished=("dnf: transaction 3 was not ended",)),
        State.FAILED,
        "dnf: transaction 3 was not ended",
    ),
    "what dnf says is unknown, the rest broken": (
        Condition(unfinished=Unknown("history: no"), updates=("0001",)),
        State.FAILED,
        "dpkg was stopped in the middle of its records",
    ),
    "one half unknown, the other broken": (
        Condition(half_done=Unknown("status: no"), updates=("0001",)),
        State.FAILED,
        "dpkg was stopped in the middle of its records",
    ),
}


@pytest.mark.parametrize(("condition", "state", "why"), CONDITIONS.values(), ids=CONDITIONS)
def test_the_condition_of_the_database_is_the_end_of_the_story(
    condition: Condition, state: State, why: str
) -> None:
    (one,) = settled(taken(*RUN), (), condition)
    assert (one.state, one.why) == (state, why)


def test_bare_dpkg_has_no_history() -> None:
    run = (note("dpkg-begin", 1, name="dpkg"), note("dpkg-end", 2, name="dpkg"))
    (one,) = settled(taken(*run), (), Condition(history=history(error="apt's")))
    assert one.state is State.CLOSED


@pytest.mark.parametrize("told", [{"user": "ann", "command": "mine"}, {}])
def test_the_history_says_who_and_how(told: dict[str, Any]) -> None:
    record = history(command="apt-get install x", user="ann (1000)")
    (one,) = settled(taken(note("begin", 1, **told), RUN[1]), (), Condition(history=record))
    assert (one.command, one.user) == ("apt-get install x", "ann (1000)")
    (bare,) = settled(taken(note("begin", 1, **told), RUN[1]), (), Condition(history=history()))
    assert (bare.command, bare.user) == (told.get("command", ""), told.get("user", ""))


@pytest.mark.parametrize("first", [note("begin", 5, 300), note("begin", 5, boot=OLDER)])
def test_an_interrupted_run_stays_so_whatever_the_database_says(first: Note) -> None:
    (one,) = settled(taken(first), (change("a"),), Condition(half_done=(POSTFIX,)))
    assert one.state is State.INTERRUPTED
    assert one.changes == (change("a"),)


# --- what is held of them -----------------------------------------------------------------------


def many(number: int, first: str = "p") -> tuple[PackageChange, ...]:
    return tuple(change(f"{first}{n:05}") for n in range(number))


def rows(journal: Journal) -> int:
    return sum(
        len(each.planned) + (len(each.changes) if isinstance(each.changes, tuple) else 0)
        for each in journal
    )


def runs_of(sizes: list[int]) -> Journal:
    """Give a journal of runs, each with a plan and changes of this size, oldest first."""
    journal: Journal = ()
    for n, size in enumerate(sizes):
        plan = tuple(f"{each.name} 1 2" for each in many(size))
        at = 1000.0 * n
        run = (note("begin", at, n + 1, packages=plan), note("end", at + 1, n + 1))
        journal = settled(taken(*run, journal=journal), many(size, f"{n}-"))
    return journal


def test_rows_are_held_of_the_newest_and_of_the_others_how_many() -> None:
    journal = runs_of([300, 1, 0, 600, 300])
    assert [len(each.planned) for each in journal] == [0, 1, 0, 500, 300]
    assert [each.changed for each in journal] == [300, None, None, None, None]
    assert [changed_count(each) for each in journal] == [300, 1, 0, 600, 300]
    assert words(journal[0]) == "apt: 300 packages changed, closed"


def test_once_rows_are_dropped_so_are_all_that_are_older() -> None:
    journal = runs_of([1, 400, 400, 400])
    assert [len(each.planned) for each in journal] == [0, 0, 400, 400]
    assert [changed_count(each) for each in journal] == [1, 400, 400, 400]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8))
@settings(deadline=None, max_examples=20)
def test_the_rows_of_a_journal_are_bounded_and_the_counts_exact(sizes: list[int]) -> None:
    journal = runs_of(sizes)
    assert rows(journal) <= ROWS
    assert [changed_count(each) for each in journal] == sizes
    assert taken(journal=journal) == journal, "to bound it again changes nothing"


def test_a_full_journal_is_small_on_disk() -> None:
    journal: Journal = ()
    for n in range(KEPT + 5):
        plan = tuple(f"linux-image-and-a-long-name-{m} 1" for m in range(500))
        run = (note("begin", 99.0 * n, n + 1, packages=plan, command="x" * 60000),)
        journal = taken(*run, note("end", 99.0 * n + 1, n + 1), journal=journal)
        journal = settled(journal, many(500, f"{n}-a-name-of-some-length-"))
    assert len(journal) == KEPT
    assert len(json.dumps(plain(journal), indent=1)) < 2**20


def test_the_newest_is_cut_too_and_what_boots_stays_of_it() -> None:
    last = change("zfs-dkms")
    (one,) = settled(taken(*RUN), (*many(2999), last))
    assert isinstance(one.changes, tuple)
    assert len(one.changes) == ROWS - len(one.planned)
    assert one.changes == tuple(sorted(one.changes))
    assert last in one.changes
    assert changed_count(one) == 3000


def test_what_was_cut_is_known_when_it_is_told_again() -> None:
    once = settled(taken(*RUN), many(3000))
    assert settled(once, many(3000)) == once
    assert len(settled(once, many(2999))) == 1, "it was in there"
    for other in (many(3000, "q"), many(1), (change("z"),)):
        assert len(settled(once, other)) == 2


def test_cycles_after_a_cut_are_counted() -> None:
    journal = settled(taken(*RUN), many(3000))
    journal = taken(note("begin", 30), note("end", 40), journal=journal)
    (one,) = settled(journal, many(5, "a"))
    assert changed_count(one) == 3005
    (lost,) = settled(taken(note("begin", 50), note("end", 60), journal=(one,)), Unknown("x"))
    assert (lost.changed, changed_count(lost)) == (None, None)


def test_of_what_is_unknown_only_the_plan_is_dropped() -> None:
    journal = settled(taken(*RUN), Unknown("no list"))
    run = (note("begin", 500, 200), note("end", 501, 200))
    old, _ = settled(taken(*run, journal=journal), many(ROWS))
    assert (old.planned, old.changes, changed_count(old)) == ((), Unknown("no list"), None)
    huge = tuple(f"p{n}" for n in range(ROWS + 1))
    (kept,) = taken(journal=(replace(old, planned=huge),))
    assert kept.planned == ()


def test_long_texts_are_cut() -> None:
    (one,) = taken(note("begin", 1, command="c" * 5000, user="u" * 5000))
    assert (len(one.command), len(one.user)) == (TEXT_AT_MOST, TEXT_AT_MOST)


# --- whatever comes -----------------------------------------------------------------------------


class Hosts(RuleBasedStateMachine):
    """A host on which managers begin, end, die and are cut off, and a daemon that looks."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: Journal = ()
        self.spool: list[Note] = []
        self.folded: list[Note] = []
        self.runs: dict[int, str] = {}
        self.told = 0
        self.boot, self.boots, self.clock, self.next_pid = BOOT, 0, 0.0, 1000
        self.locked = False

    def take(self, journal: Journal, notes: list[Note]) -> Journal:
        alive = frozenset(self.runs)
        return take(
            journal,
            notes,
            boot=self.boot,
            uptime=self.clock,
            alive=alive,
            locked=self.locked,
        )

    @rule(locked=st.booleans())
    def dpkg_locks_or_lets_go(self, locked: bool) -> None:  # noqa: FBT001  drawn by hypothesis
        self.locked = locked

    @initialize(pids=st.lists(st.integers(2, 9), min_size=1, max_size=3, unique=True))
    def managers_run(self, pids: list[int]) -> None:
        self.runs = {pid: ("apt-get", "dpkg", "own")[pid % 3] for pid in pids}

    @rule(seconds=st.sampled_from([0.5, 5.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock += seconds

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), event=st.sampled_from(["begin", "end", "dpkg-begin", "dpkg-end"]))
    def a_hook_tells(self, data: st.DataObject, event: str) -> None:
        pid = data.draw(st.sampled_from(sorted(self.runs)))
        self.clock += 0.25
        self.next_pid += 1
        more = {
            "boot": self.boot,
            "whole": data.draw(st.sampled_from([True, True, True, False])),
            "packages": data.draw(st.sampled_from([(), ("a 1 2",), ("b 1 2",)])),
        }
        left = note(event, self.clock, pid, self.runs[pid], **more)
        self.spool.append(replace(left, pid=self.next_pid))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def a_manager_dies(self, data: st.DataObject) -> None:
        del self.runs[data.draw(st.sampled_from(sorted(self.runs)))]

    @rule(pid=st.integers(2, 9))
    def a_manager_starts(self, pid: int) -> None:
        self.runs.setdefault(pid, ("apt-get", "dpkg", "own")[pid % 3])

    @rule()
    def the_power_goes(self) -> None:
        self.boots += 1
        self.boot = BootId(f"{self.boots:08}-cccc")
        self.runs, self.clock = {}, 0.0

    @rule(crash=st.booleans())
    def the_daemon_takes_notes(self, crash: bool) -> None:  # noqa: FBT001  drawn by hypothesis
        before = {each.key for each in self.journal}
        once = self.take(self.journal, self.spool)
        assert self.take(once, self.spool) == once
        assert before <= {each.key for each in once}, "nothing is lost"
        heard = {(each.boot, each.heard) for each in once}
        for left in self.spool:
            if left.whole:
                assert any(
                    boot == left.boot and last >= (left.at, left.pid) for boot, last in heard
                )
        self.journal = once
        if not crash:
            self.folded, self.spool = [*self.folded, *self.spool], []

    @rule(names=st.sets(st.sampled_from("abc")), broken=st.booleans())
    def the_daemon_looks(self, names: set[str], broken: bool) -> None:  # noqa: FBT001  drawn
        self.told += 1
        versions = (str(self.told), str(self.told + 1))
        changes = tuple(change(name, *versions) for name in sorted(names))
        condition = Condition(updates=("0001",) if broken else ())
        now = Moment(boot=self.boot, uptime=self.clock, time=NOW.time)
        alive = frozenset(self.runs)
        known: dict[str, Any] = {"now": now, "alive": alive, "locked": self.locked}
        once = settle(self.journal, condition, changes, **known)
        if under_way(once) is None:
            assert settle(once, condition, changes, **known) == once
        assert len(self.journal) <= len(once) <= len(self.journal) + 1
        self.journal = once

    @invariant()
    def at_most_one_is_open(self) -> None:
        assert sum(each.state is State.OPEN for each in self.journal) <= 1

    @invariant()
    def keys_are_unique(self) -> None:
        assert len({each.key for each in self.journal}) == len(self.journal)

    @invariant()
    def what_was_folded_changes_nothing_when_it_comes_again(self) -> None:
        now = self.take(self.journal, [])
        assert self.take(self.journal, self.folded) == now

    @invariant()
    def the_record_on_disk_is_the_same(self) -> None:
        assert parse(Journal, plain(self.journal)) == self.journal


TestHosts = Hosts.TestCase
TestHosts.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
