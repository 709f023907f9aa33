"""Flags that ask for a reboot are told with the packages that set them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.host import Host
from trialboot.readers.evidence import parse_packages, read_evidence


def flag(root: Path, folder: str, packages: str | None = None) -> Host:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "reboot-required").write_text("*** System restart required ***\n")
    if packages is not None:
        (root / folder / "reboot-required.pkgs").write_text(packages)
    return Host(root=root)


def test_a_host_without_a_flag_says_nothing(tmp_path: Path) -> None:
    assert read_evidence(Host(root=tmp_path)) == ()


def test_a_flag_is_told_with_its_packages_each_once(tmp_path: Path) -> None:
    host = flag(tmp_path, "run", "linux-image-6.1.0-56-amd64\nlinux-base\nlinux-base\n")
    assert read_evidence(host) == (
        "/run/reboot-required is there: linux-image-6.1.0-56-amd64, linux-base",
    )


@pytest.mark.parametrize("packages", [None, "", "\n\n"])
def test_a_flag_that_names_nobody_is_told_alone(tmp_path: Path, packages: str | None) -> None:
    assert read_evidence(flag(tmp_path, "run", packages)) == ("/run/reboot-required is there",)


def test_var_run_is_told_where_it_is_another_folder(tmp_path: Path) -> None:
    assert read_evidence(flag(tmp_path, "var/run", "dbus\n")) == (
        "/var/run/reboot-required is there: dbus",
    )


def test_var_run_is_not_told_twice_where_it_is_a_link(tmp_path: Path) -> None:
    host = flag(tmp_path, "run", "dbus\n")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("../run")
    assert read_evidence(host) == ("/run/reboot-required is there: dbus",)


def test_packages_that_cannot_be_read_are_said_to_be_so(tmp_path: Path) -> None:
    host = flag(tmp_path, "run")
    (tmp_path / "run/reboot-required.pkgs").mkdir()
    assert read_evidence(host) == (
        "/run/reboot-required is there; which packages ask for it cannot be read: Is a directory",
    )


def test_a_flag_that_cannot_be_looked_at_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("run")
    assert read_evidence(Host(root=tmp_path)) == (
        "/run/reboot-required cannot be looked at: Too many levels of symbolic links",
    )


@given(st.text(max_size=200))
def test_any_text_gives_names_that_may_be_printed(text: str) -> None:
    names = parse_packages(text)
    assert len(set(names)) == len(names)
    assert all(name and name.isprintable() and " " not in name for name in names)
