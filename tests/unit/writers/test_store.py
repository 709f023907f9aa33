"""What is remembered comes back the same, and what cannot be understood is never lost."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot.core.actions import ForgetOnce, Keep, Reboot, Tell
from trialboot.core.facts import BootId, EntryId, Unknown
from trialboot.core.machine import step
from trialboot.core.node import Notice, Wish
from trialboot.core.trial import Decision, Judged, Phase, Policy, Trial
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import StoreError
from trialboot.host import Host
from trialboot.writers import store
from trialboot.writers.store import Delivered

AT: Final = "2026-01-01T00:00:00Z"
DECISION: Final = "var/lib/trialboot/decision.json"


def noon() -> datetime:
    return datetime(2026, 1, 2, 12, 30, tzinfo=timezone.utc)


def host_in(root: Path) -> Host:
    return Host(root=root, now=noon)


def wish_of(*keys: str, reason: str = "TrialFailed") -> Wish:
    return Wish(
        cordoned=True,
        reason=reason,
        message="eBPF is missing",
        condition="False",
        boot="boot-1",
        at=AT,
        notices=tuple(notice(key) for key in keys),
    )


def notice(key: str, message: str = "told") -> Notice:
    return Notice(key=key, kind="Warning", reason="TrialFailed", message=message, at=AT)


def delivered(wish: Wish, *keys: str) -> Delivered:
    return Delivered(wish=wish, cordoned=True, foreign=False, notices=keys)


FULL: Final = Decision(
    trial=Trial(phase=Phase.CONDEMNED, known_good=boot_set("old"), pinned=True),
    todo=(
        Keep(boot_set("old"), EntryId("a>b")),
        ForgetOnce(),
        Tell(wish_of("k")),
        Reboot("worse", BootId("boot-1")),
    ),
)


def test_decision_wish_and_delivered_come_back_the_same(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_decision(host, FULL)
    store.save_wish(host, wish_of("a", "b"))
    store.save_delivered(host, delivered(wish_of("a", "b"), "a", "b"))
    assert store.load_decision(host) == FULL
    assert store.load_wish(host) == wish_of("a", "b")
    assert store.load_delivered(host) == delivered(wish_of("a", "b"), "a", "b")


def test_nothing_on_disk_is_a_fresh_start(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    assert store.load_decision(host) == Decision(trial=Trial())
    assert store.load_wish(host) is None
    assert store.load_delivered(host) is None
    assert store.is_delivered(host)
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_does_not_take_is_held_for_this_boot_until_it_takes_something(
    tmp_path: Path,
) -> None:
    host = Host(root=tmp_path)
    first, held, last = (
        Decision(trial=Trial(phase=phase)) for phase in (Phase.ARMED, Phase.TRIAL, Phase.STEADY)
    )
    store.save_decision(host, first)
    store.hold_decision(host, held)
    assert store.load_decision(host) == store.read_decision(host) == held
    store.save_decision(host, last)
    assert store.load_decision(host) == last
    store.hold_decision(host, held)
    (tmp_path / "run/trialboot/decision.json").write_text("half")
    assert store.load_decision(host) == last, "what is on disk still counts"


def test_a_record_says_its_format_and_is_for_root_alone(tmp_path: Path) -> None:
    store.save_decision(host_in(tmp_path), FULL)
    file = tmp_path / DECISION
    assert json.loads(file.read_text())["format"] == 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_replaced_record_leaves_no_draft(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_decision(host, Decision(trial=Trial()))
    store.save_decision(host, FULL)
    assert [path.name for path in (tmp_path / DECISION).parent.iterdir()] == ["decision.json"]


# --- what cannot be understood ------------------------------------------------------------------


def spoiled(change: Any) -> bytes:
    record = {"format": 1, "value": {"is": "Decision", "trial": {"is": "Trial"}, "todo": []}}
    change(record)
    return json.dumps(record).encode()


WHOLE: Final = spoiled(lambda _: None)
UNREADABLE: Final = {
    "empty": b"",
    "no JSON": b"phase = armed\n",
    "not UTF-8": b"\xff\xfe\x00",
    "truncated": WHOLE[:-9],
    "no object": b"[]",
    "no format": spoiled(lambda record: record.pop("format")),
    "another format": spoiled(lambda record: record.update(format=2)),
    "no value": spoiled(lambda record: record.pop("value")),
    "an unknown key": spoiled(lambda record: record["value"].update(mood="good")),
    "a key of another type": spoiled(lambda record: record["value"]["trial"].update(pinned=1)),
    "an unknown phase": spoiled(lambda record: record["value"]["trial"].update(phase="odd")),
    "an unknown action": spoiled(lambda record: record["value"]["todo"].append({"is": "Wipe"})),
    "bottomless": b"[" * 100_000,
}


def test_the_record_that_is_spoiled_below_is_whole_before(tmp_path: Path) -> None:
    place(tmp_path, WHOLE)
    assert store.load_decision(host_in(tmp_path)) == Decision(trial=Trial())


def place(root: Path, content: bytes) -> Path:
    file = root / DECISION
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_decision_is_set_aside_whole_and_only_reports_are_made(
    tmp_path: Path, content: bytes
) -> None:
    file = place(tmp_path, content)
    found = store.load_decision(host_in(tmp_path))
    aside = file.with_name("decision.json.unreadable-20260102T123000Z")
    assert aside.read_bytes() == content
    assert store.read_decision(host_in(tmp_path)) == found, "no fresh start after a restart"
    why = found.trial.report_only
    assert f"/{DECISION}" in why
    assert f"it was set aside as /var/lib/trialboot/{aside.name}" in why
    assert found == Decision(trial=Trial(report_only=why))


def test_after_an_unreadable_decision_not_even_a_worse_verdict_touches_the_host(
    tmp_path: Path,
) -> None:
    place(tmp_path, b"garbage")
    trial = store.load_decision(host_in(tmp_path)).trial
    verdict = Verdict(outcome=Outcome.WORSE, reasons=("gone",))
    event = Judged(at=AT, boot=trial.boot, verdict=verdict)
    assert step(trial, event, Policy(armed=True)).todo == ()


def test_a_full_disk_sets_an_unreadable_decision_aside_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, b"garbage")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trialboot.writers.store.write_durably", full)
    assert "set aside" in store.load_decision(host_in(tmp_path)).trial.report_only


def test_who_is_not_the_daemon_sets_nothing_aside(tmp_path: Path) -> None:
    assert store.read_trial(host_in(tmp_path)) == Trial()
    file = place(tmp_path, b"garbage")
    assert DECISION in store.read_trial(host_in(tmp_path)).report_only
    assert file.read_bytes() == b"garbage"
    file.write_bytes(WHOLE)
    assert store.read_trial(host_in(tmp_path)) == Trial()


def test_the_reason_is_remembered_with_the_next_decision(tmp_path: Path) -> None:
    place(tmp_path, b"garbage")
    host = host_in(tmp_path)
    found = store.load_decision(host)
    store.save_decision(host, found)
    assert store.load_decision(host) == found


def test_what_cannot_be_set_aside_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"/var/lib/trialboot/wish\.json cannot be set aside: No"):
        store.set_aside(host_in(tmp_path), store.WISH)


def test_an_unreadable_wish_is_unknown_and_stays_where_it_is(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_wish(host, wish_of("a"))
    file = tmp_path / store.WISH.lstrip("/")
    file.write_text("{", encoding="utf-8")
    found = store.load_wish(host)
    assert isinstance(found, Unknown)
    assert found.why.startswith("/var/lib/trialboot/wish.json: ")
    assert file.read_text(encoding="utf-8") == "{"


def test_a_folder_where_a_record_belongs_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "var/lib/trialboot/wish.json").mkdir(parents=True)
    assert isinstance(store.load_wish(host_in(tmp_path)), Unknown)


# --- a disk that refuses ------------------------------------------------------------------------


@contextmanager
def files_no_larger_than(most: int) -> Iterator[None]:
    """Have the kernel refuse longer files, as a full disk does: it holds for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_the_old_record_whole(tmp_path: Path, room: int) -> None:
    host = host_in(tmp_path)
    before = Decision(trial=Trial(boot=BootId("boot-0")))
    store.save_decision(host, before)
    with (
        pytest.raises(StoreError, match=r"decision\.json cannot be written: .*make room"),
        files_no_larger_than(room),
    ):
        store.save_decision(host, FULL)
    assert store.load_decision(host) == before
    assert [path.name for path in (tmp_path / DECISION).parent.iterdir()] == ["decision.json"]


def test_a_refused_record_says_that_nothing_was_done(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("not a folder", encoding="utf-8")
    with pytest.raises(StoreError, match="nothing was decided or done: make room or mend"):
        store.save_decision(host_in(tmp_path), FULL)


# --- the cluster --------------------------------------------------------------------------------


def keys(host: Host) -> list[str]:
    return [pending.key for pending in store.pending_notices(host)]


def test_events_are_carried_from_wish_to_wish_until_they_are_delivered(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_wish(host, wish_of("a"))
    store.save_wish(host, wish_of(reason="Quiet"))
    store.save_wish(host, wish_of("b"))
    assert keys(host) == ["a", "b"]
    store.save_delivered(host, delivered(wish_of("a", "b"), "a"))
    assert keys(host) == ["b"]
    store.save_wish(host, wish_of("c"))
    assert keys(host) == ["b", "c"]
    found = store.load_wish(host)
    assert isinstance(found, Wish)
    assert [told.key for told in found.notices] == ["b", "c"]


def test_an_event_that_is_wished_twice_is_not_doubled_and_the_newer_words_count(
    tmp_path: Path,
) -> None:
    host = host_in(tmp_path)
    store.save_wish(host, wish_of("a", "b"))
    newer = replace(wish_of(), notices=(notice("a", "told anew"),))
    store.save_wish(host, newer)
    assert [(n.key, n.message) for n in store.pending_notices(host)] == [
        ("a", "told anew"),
        ("b", "told"),
    ]


def test_a_wish_is_delivered_only_as_a_whole(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_wish(host, wish_of("a"))
    assert not store.is_delivered(host)
    store.save_delivered(host, delivered(wish_of(reason="BootProven"), "a"))
    assert not store.is_delivered(host)
    store.save_delivered(host, delivered(wish_of("a"), "a"))
    assert store.is_delivered(host)


def test_what_was_taken_of_an_undelivered_wish_is_remembered(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    old = wish_of(reason="BootProven")
    store.save_delivered(host, delivered(old))
    store.save_wish(host, wish_of("a", "b"))
    store.save_notices(host, ("a",))
    assert keys(host) == ["b"]
    assert not store.is_delivered(host)
    found = store.load_delivered(host)
    assert isinstance(found, Delivered)
    assert found.wish == old


def test_an_unreadable_delivery_delivers_again_instead_of_losing(tmp_path: Path) -> None:
    host = host_in(tmp_path)
    store.save_wish(host, wish_of("a"))
    store.save_delivered(host, delivered(wish_of("a"), "a"))
    (tmp_path / "var/lib/trialboot/delivered.json").write_text("?", encoding="utf-8")
    assert keys(host) == ["a"]
    assert not store.is_delivered(host)


some_keys = st.lists(st.sampled_from("abcdef"), max_size=4)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.one_of(st.tuples(st.just("wish"), some_keys), st.tuples(st.just("done")))))
def test_whatever_order_events_come_in_none_is_lost_and_none_is_doubled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    host = host_in(tmp_path_factory.mktemp("order"))
    waiting: set[str] = set()
    taken: set[str] = set()
    for what in steps:
        if what[0] == "wish":
            store.save_wish(host, wish_of(*what[1]))
            waiting |= set(what[1]) - taken
        elif isinstance(found := store.load_wish(host), Wish):
            taken |= {told.key for told in found.notices}
            waiting.clear()
            store.save_delivered(host, delivered(found, *sorted(taken)))
        assert sorted(keys(host)) == sorted(waiting)


def test_what_is_no_utf_8_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = b"Debi\xe1n".decode("utf-8", "surrogateescape")
    store.save(Host(root=tmp_path), store.OUTLOOK, EntryId(odd))
    raw = (tmp_path / store.OUTLOOK.lstrip("/")).read_text(encoding="utf-8")
    assert json.loads(raw)["value"] == odd
