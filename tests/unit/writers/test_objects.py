"""Kept objects: whole under the name of their hash, or not at all."""

from pathlib import Path

from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.writers import objects

FOLDER = "var/lib/trialboot/objects"


def test_what_is_kept_is_given_back_and_only_root_may_read_it(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    digest = objects.keep(host, b"object")
    assert objects.keep(host, b"object") == digest
    assert objects.recall(host, digest) == b"object"
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / FOLDER / digest).stat().st_mode & 0o777 == 0o600


def test_a_damaged_or_missing_copy_is_unknown(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    digest = objects.keep(host, b"object")
    (tmp_path / FOLDER / digest).write_bytes(b"damage")
    assert objects.recall(host, digest) == Unknown("its copy is damaged")
    objects.forget_others(host, ())
    assert objects.recall(host, digest) == Unknown(
        "its copy cannot be read: No such file or directory"
    )


def test_others_are_forgotten(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    objects.forget_others(host, ())
    one, other = objects.keep(host, b"one"), objects.keep(host, b"other")
    objects.forget_others(host, {one})
    assert objects.recall(host, one) == b"one"
    assert isinstance(objects.recall(host, other), Unknown)
