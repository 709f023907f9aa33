"""Active proof around its sockets: asked for, remembered, and not known where it failed."""

from pathlib import Path
from typing import Any

import pytest

from trialboot import proving
from trialboot.config import Config, Prove
from trialboot.core.facts import Unknown
from trialboot.core.proof import Proof, Reach
from trialboot.errors import HostError
from trialboot.host import Host

ASKED = Config(prove=Prove(enabled=True))
PROOF = Proof(
    pods=("lxc*",),
    reaches=(Reach(target="gateway", reached=True), Reach(target="b", reached=False, why="no")),
)


def test_who_asks_for_no_proof_gets_none(tmp_path: Path) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    assert proving.gather(Host(root=tmp_path, call=never), Config()) is None


def test_a_proof_that_cannot_be_tried_is_not_known(tmp_path: Path) -> None:
    def refuse(*words: Any, **_: Any) -> Any:
        raise HostError(f"{words[3]} {words[4]}: no")

    (tmp_path / "run/systemd/system").mkdir(parents=True)
    found = proving.gather(Host(root=tmp_path, call=refuse), ASKED)
    assert found == Unknown("StartUnit trialboot-prove.service: no")


def test_what_a_sound_boot_reached_is_kept(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    assert proving.reached_before(host) is None
    proving.remember(host, PROOF)
    assert proving.reached_before(host) == ("gateway",)
    proving.remember(host, Proof(pods=()))
    assert proving.reached_before(host) == ("gateway",)


@pytest.mark.parametrize("content", ["", "{", '{"format": 1, "value": [1]}'])
def test_a_record_that_cannot_be_read_is_set_aside_and_made_anew(
    tmp_path: Path, content: str
) -> None:
    host = Host(root=tmp_path)
    record = host.path(proving.REACHED)
    record.parent.mkdir(parents=True)
    record.write_text(content)
    assert isinstance(proving.reached_before(host), Unknown)
    proving.remember(host, PROOF)
    assert proving.reached_before(host) == ("gateway",)
    (aside,) = record.parent.glob("reached.json.unreadable-*")
    assert aside.read_text() == content
