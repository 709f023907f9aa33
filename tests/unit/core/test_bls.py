"""Boot entries of the specification: read, counted, sorted, and versions compared."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.bls import (
    BootEntry,
    EntryFile,
    compare_versions,
    in_order,
    is_bad,
    keys_of,
    parse_entry,
    without_tries,
)
from trialboot.core.facts import Unknown

FEDORA = """\
# /boot/loader/entries/6a9857a393724b7a981ebb5b8495b9ea-3.8.0-2.fc19.x86_64.conf
title        "Fedora 19 (Rawhide)"
sort-key     fedora
machine-id   6a9857a393724b7a981ebb5b8495b9ea
version\t3.8.0-2.fc19.x86_64

options      root=UUID=6d3376e4-fc93-4509-95ec-a21d68011da2
  options    quiet
architecture x64
linux        /6a9857a393724b7a981ebb5b8495b9ea/3.8.0-2.fc19.x86_64/linux
initrd       /6a9857a393724b7a981ebb5b8495b9ea/3.8.0-2.fc19.x86_64/initrd
initrd       /6a9857a393724b7a981ebb5b8495b9ea/3.8.0-2.fc19.x86_64/modules
grub_users   $grub_users
lonely
"""


def entry(name: str, **keys: str) -> BootEntry:
    lines = [f"{key.replace('_', '-')} {value}" for key, value in keys.items()]
    found = parse_entry(EntryFile(name=name, text="\n".join(["linux /l", *lines])))
    assert isinstance(found, BootEntry)
    return found


def test_the_example_of_the_specification_is_read() -> None:
    folder = "/6a9857a393724b7a981ebb5b8495b9ea/3.8.0-2.fc19.x86_64"
    assert parse_entry(EntryFile(name="a.conf", text=FEDORA, folder="/efi")) == BootEntry(
        name="a.conf",
        folder="/efi",
        kind="linux",
        image=f"{folder}/linux",
        title="Fedora 19 (Rawhide)",
        version="3.8.0-2.fc19.x86_64",
        machine_id="6a9857a393724b7a981ebb5b8495b9ea",
        sort_key="fedora",
        architecture="x64",
        initrds=(f"{folder}/initrd", f"{folder}/modules"),
        options="root=UUID=6d3376e4-fc93-4509-95ec-a21d68011da2 quiet",
    )


@pytest.mark.parametrize(
    "text", ["", "title a\n", "# linux /a\n", "linux\n", "linux /a\nefi /b\n", "\0\0\0"]
)
def test_what_starts_nothing_or_two_things_is_shown_by_no_loader(text: str) -> None:
    assert parse_entry(EntryFile(name="a.conf", text=text)) is None


def test_a_file_that_was_refused_stays_unknown() -> None:
    refused = Unknown("too large")
    assert parse_entry(EntryFile(name="a.conf", text=refused)) == refused


def test_lines_end_in_either_way_and_quotes_come_off_in_pairs() -> None:
    text = "a 'b c'\r\nd \"e'\n f\t\"\n#g h\n i  j  \n"
    assert list(keys_of(text)) == [("a", "b c"), ("d", "\"e'"), ("f", '"'), ("i", "j")]


@pytest.mark.parametrize(
    ("name", "bad", "plain"),
    [
        ("a.conf", False, "a.conf"),
        ("a+3.conf", False, "a.conf"),
        ("a+3-2.efi", False, "a.efi"),
        ("a+0.conf", True, "a.conf"),
        ("a+00-03.CONF", True, "a.CONF"),
        ("6.12.0+0deb13-amd64.conf", False, "6.12.0+0deb13-amd64.conf"),
        ("6.12.1+deb13-amd64+0-2.conf", True, "6.12.1+deb13-amd64.conf"),
        ("a+99999999999.conf", False, "a+99999999999.conf"),
    ],
)
def test_tries_stand_at_the_end_of_the_name(name: str, bad: bool, plain: str) -> None:  # noqa: FBT001  a column of the table
    assert is_bad(name) is bad
    assert without_tries(name) == plain


def test_entries_sort_as_the_specification_says() -> None:
    wanted = [
        entry("x.conf", sort_key="a", machine_id="1", version="2"),
        entry("w.conf", sort_key="a", machine_id="1", version="1"),
        entry("v.conf", sort_key="a", machine_id="2", version="3"),
        entry("u.conf", sort_key="b", version="9"),
        entry("t-10.conf", version="1"),
        entry("t-9+2-1.conf"),
        entry("t-9.conf", version="2"),
        entry("s+0-1.conf", sort_key="a"),
        entry("z+0.conf"),
    ]
    for mixed in (wanted[::-1], wanted[4:] + wanted[:4], sorted(wanted, key=lambda e: e.name)):
        assert list(in_order(mixed)) == wanted


@pytest.mark.parametrize(
    "names",
    [
        ["a+3.conf", "a+03.conf"],
        ["A+1.conf", "a+1.conf"],
        ["a.conf", "A.conf"],
    ],
)
def test_what_compares_equal_keeps_its_order(names: list[str]) -> None:
    assert [e.name for e in in_order([entry(name) for name in names])] == names


CHAIN = [
    "122.1",
    "123~rc1-1",
    "123",
    "123-a",
    "123-a.1",
    "123-1",
    "123-1.1",
    "123^post1",
    "123.a-1",
    "123.1-1",
    "123a-1",
    "124-1",
]


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations(range(len(CHAIN)), 2)))
def test_the_chain_of_the_version_specification_rises(left: int, right: int) -> None:
    assert compare_versions(CHAIN[left], CHAIN[right]) < 0
    assert compare_versions(CHAIN[right], CHAIN[left]) > 0


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("11", "11", 0),
        ("systemd-123", "systemd-123", 0),
        ("bar-123", "foo-123", -1),
        ("123a", "123", 1),
        ("123.a", "123", 1),
        ("123.a", "123.b", -1),
        ("123a", "123.a", 1),
        ("11α", "11β", 0),
        ("B", "a", -1),
        ("", "0", -1),
        ("0.", "0", 1),
        ("0.0", "0", 1),
        ("0", "~", 1),
        ("", "~", 1),
        ("1_", "1", 0),
        ("_1", "1", 0),
        ("1_", "1.2", -1),
        ("1_2_3", "1.3.3", 1),
        ("1+", "1", 0),
        ("+1", "1", 0),
        ("1+2+3", "1.3.3", 1),
        ("007", "7", 0),
        ("0", "a", 1),  # as systemd does it; by the letter of UAPI.10 they go on as equal
        ("9" * 5000, "8" * 5000, 1),
    ],
)
def test_the_examples_of_the_version_specification_hold(left: str, right: str, order: int) -> None:
    assert compare_versions(left, right) == order
    assert compare_versions(right, left) == -order


@given(st.text("01a.-~^+_B", max_size=12), st.text("01a.-~^+_B", max_size=12))
def test_versions_compare_the_same_from_both_sides(left: str, right: str) -> None:
    assert compare_versions(left, right) == -compare_versions(right, left)
    assert compare_versions(left, left) == 0


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_is_an_entry_or_none(text: str, name: str) -> None:
    found = parse_entry(EntryFile(name=name, text=f"linux /a\n{text}"))
    assert found is None or (isinstance(found, BootEntry) and found.kind)
    assert name.startswith(without_tries(name)[:1])
