"""grub.cfg as a file: what was written by hand stays, and who was later wins."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import SIMPLE, Node, make_node
from trialboot.core.bootset import KeptBoot
from trialboot.core.facts import EntryId
from trialboot.core.menu import KNOWN_GOOD
from trialboot.core.protection import Level
from trialboot.errors import LoaderError
from trialboot.loaders.grub import Grub
from trialboot.loaders.grub_cfg import against_making
from trialboot.writers.vault import bootsets, parts

CFG = "boot/grub/grub.cfg"
DRAFT = "boot/grub/grub.cfg.trialboot"


def kept(node: Node) -> KeptBoot:
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    return parts.boot_files(node.host, boot_set.fingerprint)


def by_hand(node: Node) -> None:
    menu = node.root / CFG
    menu.write_text(menu.read_text().partition("### BEGIN")[2])


def as_link(node: Node) -> None:
    menu = node.root / CFG
    menu.rename(node.root / "boot/grub.cfg")
    menu.symlink_to("../grub.cfg")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(by_hand, "was not made by grub-mkconfig"), (as_link, "is a link")],
)
def test_a_menu_that_cannot_be_made_anew_is_left_alone(
    tmp_path: Path, spoil: Callable[[Node], None], why: str
) -> None:
    node = make_node(tmp_path)
    boot = kept(node)
    spoil(node)
    before = (tmp_path / CFG).read_bytes()
    grub = Grub(node.host)
    with pytest.raises(LoaderError, match=why):
        grub.install(boot)
    assert (tmp_path / CFG).read_bytes() == before
    assert not (tmp_path / "boot/trialboot/known-good.sh").exists()
    found = grub.protection()
    assert found.level is Level.NONE
    assert why in found.against_once[0]
    assert why in grub.against(EntryId(SIMPLE))[0]
    grub.remove()
    assert (tmp_path / CFG).read_bytes() == before


def test_a_menu_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / CFG).unlink()
    assert against_making(node.host) == ()
    (tmp_path / CFG).mkdir()
    assert against_making(node.host) == ("/boot/grub/grub.cfg: Is a directory",)


def overtaken(node: Node, times: int) -> tuple[Node, list[str]]:
    """Let somebody else's update-grub write the menu while ours is drafted."""
    drafted: list[str] = []

    def run(argv: Sequence[str], **options: object) -> str:
        done = node.mkconfig(argv, **options)
        if argv[0] == "grub-mkconfig":
            drafted.append(argv[2])
            if len(drafted) <= times:
                menu = node.root / CFG
                menu.write_text(f"{menu.read_text()}# kernel {len(drafted)}\n")
        return done

    return replace(node, host=replace(node.host, run=run)), drafted


def test_a_menu_that_somebody_wrote_meanwhile_is_drafted_again(tmp_path: Path) -> None:
    node, drafted = overtaken(make_node(tmp_path), 2)
    grub = Grub(node.host)
    assert grub.install(kept(node)) == KNOWN_GOOD
    assert len(drafted) == 3
    assert grub.state().known_good == node.boot_set().fingerprint
    assert not (tmp_path / DRAFT).exists()


def test_a_menu_that_is_written_all_the_time_is_left_to_them(tmp_path: Path) -> None:
    node, drafted = overtaken(make_node(tmp_path), 9)
    grub = Grub(node.host)
    with pytest.raises(LoaderError, match="is changed again and again by somebody else"):
        grub.install(kept(node))
    assert len(drafted) == 3
    assert (tmp_path / CFG).read_text().endswith("# kernel 3\n")
    assert not (tmp_path / DRAFT).exists()
    assert grub.state().known_good == ""


def test_a_menu_that_was_not_there_is_made(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    boot = kept(node)
    (tmp_path / CFG).unlink()
    Grub(node.host).install(boot)
    assert (tmp_path / CFG).exists()
