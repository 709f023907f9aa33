"""Module packages that this host builds itself, and the kernels that they were built for."""

from pathlib import Path

from trialboot.core.facts import Dkms, Unknown
from trialboot.host import Host
from trialboot.readers.dkms import read_dkms


def built(root: Path, name: str, version: str, release: str, what: str = "module") -> Path:
    folder = root / "var/lib/dkms" / name / version / release / "x86_64"
    (folder / what).mkdir(parents=True)
    return folder


def test_a_host_without_dkms_has_built_nothing(tmp_path: Path) -> None:
    assert read_dkms(Host(root=tmp_path)) == ()


def test_what_is_built_is_told_by_kernel_in_order(tmp_path: Path) -> None:
    built(tmp_path, "zfs", "2.2.2", "6.12")
    built(tmp_path, "nvidia", "550.1", "6.1")
    built(tmp_path, "zfs", "2.2.2", "6.1")
    (tmp_path / "var/lib/dkms/zfs/2.2.2/6.1/aarch64/module").mkdir(parents=True)
    assert read_dkms(Host(root=tmp_path)) == (
        Dkms(name="nvidia", version="550.1", release="6.1"),
        Dkms(name="zfs", version="2.2.2", release="6.1"),
        Dkms(name="zfs", version="2.2.2", release="6.12"),
    )


def test_what_is_only_added_or_failed_to_build_is_not_built(tmp_path: Path) -> None:
    built(tmp_path, "zfs", "2.2.2", "6.12", "log")
    (tmp_path / "var/lib/dkms/zfs/2.2.2/build/make").mkdir(parents=True)
    (tmp_path / "var/lib/dkms/mok.key").write_text("a file beside them")
    assert read_dkms(Host(root=tmp_path)) == ()


def test_links_to_sources_and_installed_kernels_are_not_followed(tmp_path: Path) -> None:
    folder = built(tmp_path, "zfs", "2.2.2", "6.12")
    (tmp_path / "var/lib/dkms/zfs/kernel-6.12-x86_64").symlink_to(folder)
    (tmp_path / "source/6.13/x86_64/module").mkdir(parents=True)
    (tmp_path / "var/lib/dkms/zfs/2.2.2/source").symlink_to(tmp_path / "source")
    (tmp_path / "var/lib/dkms/zfs/2.3").symlink_to(tmp_path / "source")
    assert read_dkms(Host(root=tmp_path)) == (Dkms(name="zfs", version="2.2.2", release="6.12"),)


def test_what_cannot_be_listed_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/dkms").write_text("no folder")
    found = read_dkms(Host(root=tmp_path))
    assert found == Unknown(f"{tmp_path}/var/lib/dkms: Not a directory")
