"""Trees by content."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from trialboot.content import file_sha256, link_file, link_tree, paths_of, read_tree, remove_tree


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_tree(root: Path) -> None:
    (root / "b/c").mkdir(parents=True)
    (root / "b/c/one.ko.xz").write_text("1", encoding="utf-8")
    (root / "a").write_text("2", encoding="utf-8")
    (root / "z").symlink_to("b")
    os.mkfifo(root / "pipe")


def test_a_tree_is_its_files_and_links(tmp_path: Path) -> None:
    make_tree(tmp_path)
    tree = read_tree(tmp_path)
    assert tree.files == (("a", sha("2")), ("b/c/one.ko.xz", sha("1")), ("z", sha("-> b")))
    assert tree.newest_change == int(max(p.lstat().st_ctime for p in tmp_path.rglob("*")))
    assert paths_of(tmp_path) == ("a", "b/c/one.ko.xz", "z")


def test_a_choice_keeps_the_others_out(tmp_path: Path) -> None:
    make_tree(tmp_path)
    tree = read_tree(tmp_path, wanted=lambda name: name.endswith(".ko.xz"))
    assert [name for name, _ in tree.files] == ["b/c/one.ko.xz"]


def test_the_cache_saves_reading_until_a_file_changes(tmp_path: Path) -> None:
    make_tree(tmp_path)
    cache: dict[str, str] = {}
    before = read_tree(tmp_path, cache=cache)
    assert len(cache) == 2
    cache = json.loads(json.dumps(dict.fromkeys(cache, "remembered")))
    assert dict(read_tree(tmp_path, cache=cache).files)["a"] == "remembered"
    (tmp_path / "a").write_text("two", encoding="utf-8")
    after = dict(read_tree(tmp_path, cache=cache).files)
    assert after["a"] == file_sha256(tmp_path / "a") != dict(before.files)["a"]


def test_a_tree_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tree(tmp_path / "gone")


def test_a_tree_of_links_is_the_same_tree(tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    (tmp_path / "from/b").chmod(0o711)
    assert link_tree(tmp_path / "from", tmp_path / "to") == []
    assert read_tree(tmp_path / "to").files == read_tree(tmp_path / "from").files
    assert (tmp_path / "to/a").samefile(tmp_path / "from/a")
    assert (tmp_path / "to/b").stat().st_mode & 0o777 == 0o711


def test_a_folder_of_links_is_not_written_over(tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/a").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError):
        link_tree(tmp_path / "from", tmp_path / "to")
    with pytest.raises(FileExistsError):
        link_file(tmp_path / "from/a", tmp_path / "to/a", {})
    assert (tmp_path / "to/a").read_text(encoding="utf-8") == "mine"


def test_what_is_known_of_a_file_moves_along_with_its_links(tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    cache: dict[str, str] = {}
    tree = read_tree(tmp_path / "from", cache=cache)
    marked = {key: f"known {content}" for key, content in cache.items()}
    link_tree(tmp_path / "from", tmp_path / "to", marked)
    for place in ("to", "from"):
        read = dict(read_tree(tmp_path / place, cache=marked).files)
        assert read["a"] == f"known {dict(tree.files)['a']}"
    remove_tree(tmp_path / "to", marked)
    assert not (tmp_path / "to").exists()
    assert dict(read_tree(tmp_path / "from", cache=marked).files)["a"].startswith("known")
    assert len(marked) == 2


def test_nothing_stays_known_of_a_file_that_was_written_meanwhile(tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    cache: dict[str, str] = {}
    read_tree(tmp_path / "from", cache=cache)
    cache = dict.fromkeys(cache, "remembered")
    with (tmp_path / "from/a").open("a", encoding="utf-8") as file:
        file.write("more")
    link_tree(tmp_path / "from", tmp_path / "to", cache)
    assert dict(read_tree(tmp_path / "to", cache=cache).files)["a"] == file_sha256(
        tmp_path / "from/a"
    )


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_files_that_cannot_be_linked_are_named(tmp_path: Path) -> None:
    far = Path(f"/dev/shm/trialboot-content-{os.getpid()}")
    if far.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at hand")
    make_tree(far)
    try:
        refused = link_tree(far, tmp_path / "to")
    finally:
        remove_tree(far, {})
    assert {target.relative_to(tmp_path).as_posix() for _, target in refused} == {
        "to/a",
        "to/b/c/one.ko.xz",
    }
