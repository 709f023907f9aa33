"""Hashes remembered between processes: whatever is on disk, only speed can be lost."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialboot.errors import StoreError
from trialboot.host import Host
from trialboot.writers import contentcache

FILE = "var/lib/trialboot/content-cache.json"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    assert contentcache.load(host) == {}
    contentcache.save(host, {"1:2:3:4": "abc"})
    assert contentcache.load(host) == {"1:2:3:4": "abc"}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_is_known_already_is_not_written_again(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    contentcache.save(host, {"1:2:3:4": "abc"})
    before = (tmp_path / FILE).stat().st_ino
    contentcache.save(host, {"1:2:3:4": "abc"})
    assert (tmp_path / FILE).stat().st_ino == before
    contentcache.save(host, {"1:2:3:4": "xyz"})
    assert contentcache.load(host) == {"1:2:3:4": "xyz"}


def test_files_that_are_gone_do_not_fill_the_disk(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    contentcache.save(host, {str(number): "abc" for number in range(contentcache.MOST + 5)})
    found = contentcache.load(host)
    assert len(found) == contentcache.MOST
    assert "4" not in found
    assert str(contentcache.MOST + 4) in found


@given(
    raw=st.one_of(st.binary(), st.sampled_from([b"[]", b"1", b"{", b'{"a": [1]}', b"[" * 9999]))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_cannot_be_understood_is_nothing(tmp_path: Path, raw: bytes) -> None:
    place = tmp_path / FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(raw)
    found = contentcache.load(Host(root=tmp_path))
    assert all(isinstance(word, str) for pair in found.items() for word in pair)


def test_a_place_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="content-cache"):
        contentcache.save(Host(root=tmp_path), {})
