"""Trees by content."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from trialboot.content import file_sha256, paths_of, read_tree


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
