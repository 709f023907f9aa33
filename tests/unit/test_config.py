"""The operator's file: every key has a default, and a wrong one is named."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.config import (
    PATH,
    Boot,
    Config,
    Least,
    Mode,
    Node,
    Prove,
    Unsure,
    Verify,
    parse_config,
    read_config,
)
from trialboot.core.trial import Policy
from trialboot.core.verdict import Patience
from trialboot.errors import ConfigError
from trialboot.host import Host

DEFAULTS = Config(
    mode=Mode.OBSERVE,
    boot=Boot(least_protection=Least.USERSPACE_ONLY),
    verify=Verify(
        minimum_settle_seconds=60.0,
        settle_seconds=30.0,
        deadline_seconds=600.0,
        interval_seconds=10.0,
        repeat_seconds=600.0,
        unsure=Unsure.STAY,
        cordon_at_rest=False,
        units=(),
        processes=(),
        check_seconds=30.0,
    ),
    prove=Prove(enabled=False, targets=("gateway", "service"), seconds=5.0),
    node=Node(enabled=True, kubeconfig="", name=""),
)

WHOLE = """
mode = "armed"

[boot]
least_protection = "panic-only"
by_kexec = true

[verify]
minimum_settle_seconds = 1
settle_seconds = 2.5
deadline_seconds = 3
interval_seconds = 4
repeat_seconds = 5
unsure = "roll-back"
cordon_at_rest = true
units = ["kubelet.service", "containerd.service"]
processes = ["cilium-agent"]
check_seconds = 6

[prove]
enabled = true
targets = ["tcp://10.0.0.1:4240 tcp://10.0.0.2:4240", "gateway"]
seconds = 7

[node]
enabled = false
kubeconfig = "/etc/kubernetes/kubelet.conf"
name = "node-1"
"""


def file_in(root: Path, text: str) -> Host:
    file = root / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return Host(root=root)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(text)
    assert error.value.exit_code == 78
    return str(error.value)


def test_a_missing_file_is_all_defaults(tmp_path: Path) -> None:
    assert read_config(Host(root=tmp_path)) == DEFAULTS


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read_config(file_in(tmp_path, "")) == DEFAULTS


def test_a_section_without_keys_is_all_defaults() -> None:
    assert parse_config("[verify]\n[prove]\n[node]\n") == DEFAULTS


def test_every_key_is_read() -> None:
    assert parse_config(WHOLE) == Config(
        mode=Mode.ARMED,
        boot=Boot(least_protection=Least.PANIC_ONLY, by_kexec=True),
        verify=Verify(
            minimum_settle_seconds=1.0,
            settle_seconds=2.5,
            deadline_seconds=3.0,
            interval_seconds=4.0,
            repeat_seconds=5.0,
            unsure=Unsure.ROLL_BACK,
            cordon_at_rest=True,
            units=("kubelet.service", "containerd.service"),
            processes=("cilium-agent",),
            check_seconds=6.0,
        ),
        prove=Prove(
            enabled=True,
            targets=("tcp://10.0.0.1:4240 tcp://10.0.0.2:4240", "gateway"),
            seconds=7.0,
        ),
        node=Node(enabled=False, kubeconfig="/etc/kubernetes/kubelet.conf", name="node-1"),
    )


def test_the_whole_file_above_has_every_key() -> None:
    for section in (Config, Boot, Verify, Prove, Node):
        assert [f.name for f in fields(section) if f.name not in WHOLE] == []


@pytest.mark.parametrize("word", ["'none'", "'all'", "1"])
def test_the_least_protection_is_a_level_that_protects(word: str) -> None:
    assert refused(f"[boot]\nleast_protection = {word}\n") == (
        f'{PATH}: boot.least_protection must be "full" or "panic-only" or "userspace-only", '
        f"not {word}"
    )


def test_each_least_protection_is_a_level() -> None:
    assert [str(least.level) for least in Least] == [str(least) for least in Least]


def test_seconds_are_numbers_of_one_kind() -> None:
    seconds = parse_config("[verify]\ndeadline_seconds = 7\n").verify.deadline_seconds
    assert (seconds, type(seconds)) == (7.0, float)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('moed = "armed"\n', "moed"),
        ("[verify]\nsetle_seconds = 3\n", "verify.setle_seconds"),
        ("[node]\nNAME = 'a'\n", "node.NAME"),
        ("[cluster]\nname = 'a'\n", "cluster"),
        ("[verify.more]\na = 1\n", "verify.more"),
        ("[verify]\nb = 1\na = 1\n", "verify.a, verify.b"),
    ],
)
def test_an_unknown_key_is_named_with_its_section(text: str, named: str) -> None:
    assert refused(text).startswith(f"{PATH}: unknown key: {named}; known here: ")


def test_an_unknown_key_is_told_with_those_that_are_known() -> None:
    assert refused("[node]\nx = 1\n").endswith("known here: enabled, kubeconfig, name")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('mode = "on"', 'mode must be "observe" or "armed", not \'on\''),
        ('mode = "ARMED"', 'mode must be "observe" or "armed", not \'ARMED\''),
        ("mode = true", 'mode must be "observe" or "armed", not True'),
        ("mode = []", 'mode must be "observe" or "armed", not []'),
        ("verify = 3", "verify is a section: write [verify]"),
        ('node = "n"', "node is a section: write [node]"),
        ('verify.unsure = "rollback"', 'verify.unsure must be "stay" or "roll-back", not'),
        ('verify.settle_seconds = "3"', "verify.settle_seconds must be a number of seconds"),
        ("verify.settle_seconds = -1", "verify.settle_seconds must be a number of seconds"),
        ("verify.settle_seconds = true", "verify.settle_seconds must be a number of seconds"),
        ("verify.settle_seconds = nan", "verify.settle_seconds must be a number of seconds"),
        ("verify.interval_seconds = inf", "verify.interval_seconds must be a number of seconds"),
        ("verify.deadline_seconds = 1e300", "verify.deadline_seconds must be a number of"),
        ('verify.units = "a"', "verify.units must be a list of names"),
        ("verify.units = [1]", "verify.units must be a list of names"),
        ("verify.processes = {}", "verify.processes must be a list of names"),
        ("verify.deadline_seconds = 901", "verify.deadline_seconds must be 900 or less"),
        (
            "verify.minimum_settle_seconds = 901",
            "verify.minimum_settle_seconds must be 900",
        ),
        ("verify.settle_seconds = 901", "verify.settle_seconds must be 900 or less"),
        ("verify.interval_seconds = 901", "verify.interval_seconds must be 900 or less"),
        ("verify.interval_seconds = 0.9", "verify.interval_seconds must be 1 or more"),
        ("verify.check_seconds = 0", "verify.check_seconds must be 1 or more"),
        ("prove.enabled = 1", "prove.enabled must be true or false, not 1"),
        ("prove.seconds = 0.5", "prove.seconds must be from 1 to 30"),
        ("prove.seconds = 31", "prove.seconds must be from 1 to 30"),
        ('prove.targets = "gateway"', "prove.targets must be a list of names"),
        ('prove.targets = ["gate"]', "prove.targets: 'gate' is not «gateway», «service», «tcp://"),
        ('prove.targets = ["service", ""]', "prove.targets: there is nothing in it"),
        (
            'prove.targets = ["tcp://10.0.0.1"]',
            "prove.targets: 'tcp://10.0.0.1': tcp takes a port",
        ),
        ('prove.targets = ["ping://300.1.1.1"]', "prove.targets: '300.1.1.1' does not appear"),
        (f"prove.targets = {['gateway'] * 17}", "prove.targets: 16 addresses are the most"),
        ("node.enabled = 1", "node.enabled must be true or false, not 1"),
        ("node.name = 1", "node.name must be text in quotes, not 1"),
        ("node.kubeconfig = false", "node.kubeconfig must be text in quotes, not False"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be(text: str, told: str) -> None:
    assert refused(text).startswith(f"{PATH}: {told}")


def test_broken_toml_is_told_with_its_line() -> None:
    told = refused('mode = "armed"\nunits = [\n')
    assert told.startswith(f"{PATH}: ")
    assert "line 3" in told or "end of document" in told


def test_a_file_that_cannot_be_read_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / PATH.lstrip("/")).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"trialboot\.toml: Is a directory"):
        read_config(Host(root=tmp_path))


@given(st.text())
def test_any_text_is_a_configuration_or_refused_by_name(text: str) -> None:
    try:
        parse_config(text)
    except ConfigError as error:
        assert str(error).startswith(PATH)  # noqa: PT017  most texts are refused, some are not


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Policy(armed=False, unsure_rolls_back=False, cordon_at_rest=False)),
        ('mode = "observe"', Policy(armed=False, unsure_rolls_back=False)),
        ('mode = "armed"', Policy(armed=True, unsure_rolls_back=False)),
        (
            'mode = "armed"\nverify.unsure = "roll-back"',
            Policy(armed=True, unsure_rolls_back=True),
        ),
        ('mode = "armed"\nverify.unsure = "stay"', Policy(armed=True, unsure_rolls_back=False)),
        ('mode = "armed"\nverify.cordon_at_rest = false', Policy(armed=True)),
        (
            'mode = "armed"\nverify.cordon_at_rest = true',
            Policy(armed=True, cordon_at_rest=True),
        ),
    ],
)
def test_mode_unsure_and_the_cordon_at_rest_make_the_policy(text: str, policy: Policy) -> None:
    assert parse_config(text).policy == policy


def test_the_times_make_the_patience() -> None:
    assert parse_config(WHOLE).patience == Patience(minimum_settle=1.0, settle=2.5, deadline=3.0)
    assert DEFAULTS.patience == Patience()
