"""What a kernel's configuration says of the options that a CNI needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.kernelconfig import CNI_OPTIONS, parse_options

TEXT = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_BPF=y
CONFIG_VXLAN=m
CONFIG_EXT4_FS=m
# CONFIG_NETKIT is not set
# CONFIG_REISERFS_FS is not set
CONFIG_MODULE_SIG="text with = in it"
"""


def test_only_the_options_of_a_cni_are_told() -> None:
    assert parse_options(TEXT) == {
        "BPF": "y",
        "VXLAN": "m",
        "NETKIT": "n",
        "MODULE_SIG": '"text with = in it"',
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CONFIG_BPF",
        "xCONFIG_BPF=y",
        "# CONFIG_BPF",
        "CONFIG_BPF_=y",
        " CONFIG_BPF=y",
        "# CONFIG_BPF is not set yet",
    ],
)
def test_what_names_no_option_gives_none(text: str) -> None:
    assert parse_options(text) == {}


def test_the_last_line_about_an_option_counts_and_windows_ends_do_no_harm() -> None:
    assert parse_options("CONFIG_BPF=y\r\n# CONFIG_BPF is not set\r\n") == {"BPF": "n"}


def test_each_option_is_named_once_and_without_its_prefix() -> None:
    assert len(set(CNI_OPTIONS)) == len(CNI_OPTIONS) == 43
    assert not any(name.startswith("CONFIG_") for name in CNI_OPTIONS)


@given(st.dictionaries(st.sampled_from(CNI_OPTIONS), st.sampled_from(["y", "m", "n"])))
def test_what_was_written_is_read_back(options: dict[str, str]) -> None:
    lines = [
        f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
        for name, value in options.items()
    ]
    assert parse_options("\n".join(lines)) == options


@given(st.text(max_size=400))
def test_any_text_gives_options_of_the_list_alone(text: str) -> None:
    assert set(parse_options(text + "\nCONFIG_" + text)) <= set(CNI_OPTIONS)
