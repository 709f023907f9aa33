"""The settings that doctor writes: a file each, marked as ours, and never somebody else's."""

from pathlib import Path

import pytest

from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.writers import dropins
from trialboot.writers.dropins import DROP_INS, MARK, Setting


@pytest.mark.parametrize("setting", Setting)
def test_a_setting_is_one_file_that_says_whose_it_is(tmp_path: Path, setting: Setting) -> None:
    host = Host(root=tmp_path)
    assert not dropins.is_set(host, setting)
    assert dropins.put(host, setting)
    assert not dropins.put(host, setting), "twice is once"
    text = host.read_text(DROP_INS[setting].path)
    assert text.startswith(f"{MARK} (doctor --set {setting}); ")
    assert text.endswith(DROP_INS[setting].lines)
    assert host.path(DROP_INS[setting].path).stat().st_mode & 0o777 == 0o644
    assert dropins.is_set(host, setting)
    assert dropins.remove(host, setting)
    assert not dropins.remove(host, setting)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    path = host.path(DROP_INS[Setting.WATCHDOG].path)
    path.parent.mkdir(parents=True)
    path.write_text("[Manager]\n")
    for act in (dropins.put, dropins.remove):
        with pytest.raises(HostError, match="was not written by trialboot"):
            act(host, Setting.WATCHDOG)
    assert path.read_text() == "[Manager]\n"


def test_an_older_file_of_ours_is_renewed(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    path = host.path(DROP_INS[Setting.PANIC].path)
    path.parent.mkdir(parents=True)
    path.write_text(f"{MARK} once\n")
    assert dropins.put(host, Setting.PANIC)
    assert "panic=10" in path.read_text()


def test_a_file_that_cannot_be_written_asks_for_root(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("not a folder")
    with pytest.raises(HostError, match="are you root"):
        dropins.put(Host(root=tmp_path), Setting.PANIC)
