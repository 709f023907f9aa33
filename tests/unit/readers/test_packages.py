"""The package database as dpkg keeps it."""

from pathlib import Path

import pytest

from trialboot.core.facts import Package, Unknown
from trialboot.host import Host
from trialboot.readers.packages import STATUS, interrupted, parse_status, read_packages

TEXT = """\
Package: zlib1g
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 1:1.2.13.dfsg-1
Description: compression library
 Package: this is not a field
 .
 Version: neither is this

Package: linux-image-6.1.0-56-amd64
Status: deinstall ok config-files
Architecture: amd64
Version: 6.1.1

Package: base
Status: hold ok installed
Architecture: all
Version: 3

Package: broken
Status: install ok half-configured
Architecture: all
Version: 4

Package: zlib1g
Status: install ok installed
Architecture: i386
Version: 1:1.2.13.dfsg-1
"""


def package(name: str, architecture: str, version: str) -> Package:
    return Package(name=name, architecture=architecture, version=version)


def test_what_is_installed_is_given_in_order() -> None:
    assert parse_status(TEXT) == (
        package("base", "all", "3"),
        package("zlib1g", "amd64", "1:1.2.13.dfsg-1"),
        package("zlib1g", "i386", "1:1.2.13.dfsg-1"),
    )


def test_an_empty_database_has_no_packages() -> None:
    assert parse_status("") == ()


def test_a_missing_database_is_unknown_never_empty(tmp_path: Path) -> None:
    assert read_packages(Host(root=tmp_path)) == Unknown(f"{STATUS}: No such file or directory")


@pytest.mark.parametrize(
    ("entries", "answer"),
    [(None, False), ([], False), (["tmp.i"], False), (["0001"], True), (["tmp.i", "0002"], True)],
)
def test_a_killed_dpkg_leaves_its_journal(
    tmp_path: Path,
    entries: list[str] | None,
    answer: bool,  # noqa: FBT001  a column of the table
) -> None:
    folder = tmp_path / "var/lib/dpkg/updates"
    if entries is not None:
        folder.mkdir(parents=True)
    for name in entries or ():
        (folder / name).touch()
    assert interrupted(Host(root=tmp_path)) is answer
