"""Two boot sets are the same when their contents are, wherever they lie."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot.core.bootset import (
    BootSet,
    KeptBoot,
    initrd_identity,
    plain_command_line,
    shown,
    tree_identity,
    word_of,
)
from trialboot.core.facts import Tree, Unknown

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
BOOT_SETS = st.builds(
    BootSet,
    release=WORDS,
    kernel=WORDS,
    initrd=WORDS,
    modules=WORDS,
    firmware=WORDS,
    command_line=WORDS,
)


@pytest.mark.parametrize("part", [field.name for field in fields(BootSet)])
def test_each_part_is_in_the_fingerprint(part: str) -> None:
    changed: BootSet = replace(boot_set(), **{part: "another"})
    assert changed.fingerprint != boot_set().fingerprint


@given(BOOT_SETS, BOOT_SETS)
def test_fingerprints_are_equal_exactly_when_the_boot_sets_are(
    one: BootSet, other: BootSet
) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other)


def test_a_value_cannot_slip_from_one_part_into_the_next() -> None:
    one = replace(boot_set(), kernel="ab", initrd="c")
    other = replace(boot_set(), kernel="a", initrd="bc")
    assert one.fingerprint != other.fingerprint


def test_a_fingerprint_stays_what_it_was_when_it_went_to_disk() -> None:
    assert shown(boot_set().fingerprint) == "92f1d12e3dc6"
    assert len(boot_set().fingerprint) == 64


@pytest.mark.parametrize(
    "files",
    [
        (),
        (("a", "1"),),
        (("a", "2"), ("b", "2")),
        (("a", "1"), ("c", "2")),
        (("a", "1"), ("b", "2"), ("c", "3")),
    ],
)
def test_another_path_or_content_is_another_tree(files: tuple[tuple[str, str], ...]) -> None:
    tree = Tree(files=(("a", "1"), ("b", "2")))
    assert tree_identity(Tree(files=files)) != tree_identity(tree)


def test_the_time_of_a_change_is_not_part_of_a_tree() -> None:
    files = (("a", "1"),)
    assert tree_identity(Tree(files=files, newest_change=7)) == tree_identity(Tree(files=files))


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro", "root=UUID=1 ro"),
        ("initrd=\\initrd.img quiet", "quiet"),
        ("ro vt.handoff=7 quiet", "ro quiet"),
        ("ro trialboot.kept=abc quiet", "ro quiet"),
        ("  ro \t quiet\n", "ro quiet"),
        ('ro  "dyndbg=file a  +p"   initrd="a b" x', 'ro "dyndbg=file a  +p" x'),
        (r'ro a=\"b  c\" odd"  q', r'ro a=\"b c\" odd" q'),
        ("noinitrd rd.initrd=1", "noinitrd rd.initrd=1"),
        ("quiet ro", "quiet ro"),
        ("", ""),
    ],
)
def test_only_words_that_say_where_things_lie_are_dropped(line: str, plain: str) -> None:
    assert plain_command_line(line) == plain


@given(st.text())
def test_a_plain_command_line_stays_as_it_is(line: str) -> None:
    plain = plain_command_line(line)
    assert plain_command_line(plain) == plain


def test_the_last_word_of_a_key_wins() -> None:
    assert word_of("root=a panic=1 root=b=c", "root") == "b=c"


def test_an_absent_word_is_unknown_and_not_empty() -> None:
    assert word_of("root=a", "panic") == Unknown("panic= is not on the command line")
    assert word_of("panic=", "panic") == ""


def test_names_and_command_lines_that_are_no_utf_8_have_an_identity() -> None:
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert tree_identity(Tree(files=((odd, "1"),))) != tree_identity(Tree(files=(("cafe", "1"),)))
    plain = boot_set()
    assert replace(plain, command_line=odd).fingerprint != plain.fingerprint


def test_one_initrd_is_its_own_identity_and_several_have_one_in_their_order() -> None:
    assert [initrd_identity(()), initrd_identity(["a"])] == ["", "a"]
    assert len({initrd_identity(names) for names in ("ab", "ba", "abc", "a")}) == 4


def test_what_is_kept_is_booted_with_words_that_make_no_other_boot_set() -> None:
    whole, words = boot_set(), ("trialboot.boot=f", "trialboot.modules=/m")
    kept = KeptBoot(boot_set=whole, kernel="/k", words=words)
    assert kept.command_line == f"{whole.command_line} trialboot.boot=f trialboot.modules=/m"
    assert plain_command_line(kept.command_line) == whole.command_line
