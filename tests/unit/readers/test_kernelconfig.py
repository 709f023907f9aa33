"""Where the configuration of a kernel lies, and what happens when it does not."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers.kernelconfig import read_options

RELEASE = "6.1.0-56-amd64"


def with_file(root: Path, path: str, content: bytes) -> Host:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return Host(root=root)


@pytest.mark.parametrize(
    "path",
    [
        f"boot/config-{RELEASE}",
        f"usr/lib/modules/{RELEASE}/config",
        f"lib/modules/{RELEASE}/config",
    ],
)
def test_a_configuration_is_found_where_distributions_put_it(tmp_path: Path, path: str) -> None:
    host = with_file(tmp_path, path, b"CONFIG_VXLAN=m\nCONFIG_BPF=y\n")
    assert read_options(host, RELEASE) == (("BPF", "y"), ("VXLAN", "m"))


def test_the_one_in_boot_comes_first(tmp_path: Path) -> None:
    with_file(tmp_path, f"lib/modules/{RELEASE}/config", b"CONFIG_BPF=m\n")
    host = with_file(tmp_path, f"boot/config-{RELEASE}", b"CONFIG_BPF=y\n")
    assert read_options(host, RELEASE) == (("BPF", "y"),)


def test_a_kernel_without_one_is_unknown(tmp_path: Path) -> None:
    assert read_options(Host(root=tmp_path), RELEASE) == Unknown(
        f"/boot/config-{RELEASE}: no configuration of this kernel is there"
    )


def test_a_configuration_of_absurd_size_is_unknown(tmp_path: Path) -> None:
    host = with_file(tmp_path, f"boot/config-{RELEASE}", b"")
    with (tmp_path / f"boot/config-{RELEASE}").open("wb") as file:
        file.truncate(1 << 40)
    assert read_options(host, RELEASE) == Unknown(
        f"/boot/config-{RELEASE} is too large for a kernel's configuration"
    )


@pytest.mark.parametrize("release", ["", "../../etc/shadow", "a\0b", "x" * 5000])
def test_a_release_that_is_none_is_unknown(tmp_path: Path, release: str) -> None:
    assert isinstance(read_options(Host(root=tmp_path), release), Unknown)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_options_or_none(tmp_path: Path, content: bytes) -> None:
    host = with_file(tmp_path, f"boot/config-{RELEASE}", content + b"\nCONFIG_BPF=y\n")
    found = read_options(host, RELEASE)
    assert not isinstance(found, Unknown)
    assert ("BPF", "y") in found
