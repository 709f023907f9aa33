"""The GRUB loader against a folder that looks like a host."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.boot_hosts import BootHost, fedora, systemd_boot
from tests.unit.loaders.host_folder import (
    OLD,
    SIMPLE,
    Node,
    PowerCutError,
    make_node,
    power_for,
)
from trialboot.core.facts import EntryId
from trialboot.core.grub import parse_environment
from trialboot.core.menu import KNOWN_GOOD, Resolved, next_entry, wanted_entry
from trialboot.errors import LoaderError
from trialboot.loaders.grub import Grub
from trialboot.loaders.interface import Loader
from trialboot.readers.bootmenu import host_path
from trialboot.writers.vault import bootsets, layout, parts


def tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kept(node: Node) -> Grub:
    bootsets.keep(node.host, node.boot_set(), node.sources())
    return Grub(node.host)


def install(node: Node, grub: Grub) -> EntryId:
    return grub.install(parts.boot_files(node.host, node.boot_set().fingerprint))


def environment(node: Node) -> object:
    return parse_environment((node.root / "boot/grub/grubenv").read_bytes())


def next_of(node: Node) -> str:
    answer = next_entry(Grub(node.host).state())
    assert isinstance(answer, Resolved), answer
    return answer.entry.entry


def boots(node: Node) -> Resolved:
    """Resolve what GRUB would boot, and make sure that its files are there."""
    answer = next_entry(Grub(node.host).state())
    assert isinstance(answer, Resolved), answer
    for file in (answer.entry.kernel, *answer.entry.initrds):
        assert isinstance(host_path(node.host, file), str), file
    return answer


def test_grub_is_a_loader(tmp_path: Path) -> None:
    loader: Loader = Grub(make_node(tmp_path).host)
    assert loader.state().default_spec == "0"


@pytest.mark.parametrize("make", [fedora, systemd_boot])
def test_a_loader_that_is_only_read_is_not_written(
    tmp_path: Path, make: Callable[[Path], BootHost]
) -> None:
    host = make(tmp_path)
    before = tree(tmp_path)
    for act in (Grub(host.host).state, lambda: Grub(host.host).make_default(EntryId(OLD))):
        with pytest.raises(LoaderError, match=r"is (grub-bls|systemd-boot), not grub$"):
            act()
    assert tree(tmp_path) == before


def test_the_known_good_becomes_the_first_entry_and_the_default(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    assert install(node, grub) == KNOWN_GOOD
    grub.make_default(KNOWN_GOOD)
    fingerprint = node.boot_set().fingerprint
    entry = boots(node).entry
    assert entry.place == (0,)
    assert entry.kernel == f"/trialboot/{fingerprint}/vmlinuz"
    assert entry.initrds[1] == f"/trialboot/{fingerprint}/firmware.cpio"
    words = f"trialboot.boot={fingerprint} trialboot.firmware={layout.firmware_of(fingerprint)}"
    assert entry.arguments == f"root=UUID=x ro quiet panic=10 {words}"
    assert not list((tmp_path / "boot/grub").glob("*.trialboot*"))


def test_all_may_be_said_twice(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    for _ in range(2):
        install(node, grub)
        grub.make_default(KNOWN_GOOD)
        grub.boot_once(EntryId(SIMPLE))
    assert node.mkconfig.ran == ["grub-mkconfig", "grub-script-check"]
    assert boots(node).entry.entry == SIMPLE
    for _ in range(2):
        grub.forget_once()
    assert boots(node).entry.entry == KNOWN_GOOD
    for _ in range(2):
        grub.remove()
    assert (boots(node).entry.entry, grub.state().known_good) == (SIMPLE, "")
    assert environment(node) == {}


def test_both_pointers_go_in_one_write(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    install(node, grub)
    grub.point(default=KNOWN_GOOD, once=EntryId(OLD))
    assert environment(node) == {
        "saved_entry": KNOWN_GOOD,
        "next_entry": OLD,
        "trialboot_admin_saved": "",
    }


def test_what_an_administrator_saved_comes_back(tmp_path: Path) -> None:
    node = make_node(tmp_path, host_default="saved")
    grub = kept(node)
    grub.make_default(EntryId(OLD))
    install(node, grub)
    grub.make_default(KNOWN_GOOD)
    grub.make_default(KNOWN_GOOD)
    wanted = wanted_entry(grub.state())
    assert isinstance(wanted, Resolved)
    assert wanted.entry.entry == OLD
    grub.remove()
    assert environment(node) == {"saved_entry": OLD}


def test_a_default_that_an_operator_saved_after_us_stays(tmp_path: Path) -> None:
    node = make_node(tmp_path, host_default="saved")
    grub = kept(node)
    install(node, grub)
    grub.make_default(KNOWN_GOOD)
    grub.make_default(EntryId(OLD))
    grub.remove()
    assert environment(node) == {"saved_entry": OLD}


def test_a_one_shot_that_an_operator_set_stays(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    install(node, grub)
    grub.make_default(KNOWN_GOOD)
    grub.boot_once(EntryId(OLD))
    grub.remove()
    assert environment(node) == {"next_entry": OLD}


@pytest.mark.parametrize("garbage", [b"", b"\1" * 1024, b"saved_entry=x\n"])
def test_a_broken_environment_starts_anew(tmp_path: Path, garbage: bytes) -> None:
    node = make_node(tmp_path, host_default="saved")
    (tmp_path / "boot/grub/grubenv").write_bytes(garbage)
    Grub(node.host).make_default(EntryId(OLD))
    assert environment(node) == {"saved_entry": OLD}


def test_unknown_keys_stay(tmp_path: Path) -> None:
    node = make_node(tmp_path, host_default="saved")
    block = b"# GRUB Environment Block\nkernelopts=a=b \\\\\xff\n"
    (tmp_path / "boot/grub/grubenv").write_bytes(block.ljust(1024, b"#"))
    Grub(node.host).make_default(EntryId(OLD))
    assert b"kernelopts=a=b \\\\\xff\n" in (tmp_path / "boot/grub/grubenv").read_bytes()


def test_an_entry_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(LoaderError, match="no entry «gone»"):
        Grub(node.host).boot_once(EntryId("gone"))


@pytest.mark.parametrize("file", ["vmlinuz-6.1.0-56-amd64", "initrd.img-6.1.0-56-amd64"])
def test_an_entry_whose_file_is_gone_is_refused(tmp_path: Path, file: str) -> None:
    node = make_node(tmp_path, host_default="saved")
    (tmp_path / "boot" / file).unlink()
    with pytest.raises(LoaderError, match=file):
        Grub(node.host).make_default(EntryId(OLD))
    assert not (tmp_path / "boot/grub/grubenv").exists()


def test_an_entry_without_a_kernel_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    node.write("/boot/grub/grub.cfg", "menuentry 'a' {\n fwsetup\n}\n")
    with pytest.raises(LoaderError, match="no Linux kernel"):
        Grub(node.host).boot_once(EntryId("a"))


def test_a_default_that_grub_would_not_follow_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    with pytest.raises(LoaderError, match="would boot"):
        Grub(node.host).make_default(EntryId(OLD))


def test_an_environment_that_is_a_link_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "boot/grub/grubenv").symlink_to("elsewhere")
    with pytest.raises(LoaderError, match="link"):
        Grub(node.host).boot_once(EntryId(OLD))


@pytest.mark.parametrize("size", [1025, 64 * 1024 + 1])
def test_an_environment_of_another_size_is_not_written(tmp_path: Path, size: int) -> None:
    node = make_node(tmp_path, host_default="saved")
    content = b"# GRUB Environment Block\n".ljust(size, b"#")
    (tmp_path / "boot/grub/grubenv").write_bytes(content)
    for act in (lambda g: g.make_default(EntryId(OLD)), Grub.forget_once, Grub.remove):
        with pytest.raises(LoaderError, match=r"no file of 1024 bytes|more than"):
            act(Grub(node.host))
    assert (tmp_path / "boot/grub/grubenv").read_bytes() == content


def test_an_environment_that_is_no_file_is_not_written(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "boot/grub/grubenv").mkdir()
    with pytest.raises(LoaderError, match="grubenv"):
        Grub(node.host).boot_once(EntryId(OLD))


@given(st.binary(max_size=1100))
def test_any_environment_is_followed_or_left_alone(block: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = make_node(Path(folder), host_default="saved")
        place = Path(folder) / "boot/grub/grubenv"
        place.write_bytes(block)
        try:
            Grub(node.host).make_default(EntryId(OLD))
        except LoaderError:
            assert place.read_bytes() == block
        else:
            assert next_of(node) == OLD


def test_a_boot_set_that_is_not_kept_is_refused(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    files = parts.boot_files(node.host, node.boot_set().fingerprint)
    bootsets.drop(node.host, files.boot_set.fingerprint)
    with pytest.raises(LoaderError, match="not kept"):
        grub.install(files)


@pytest.mark.parametrize("tool", ["grub-mkconfig", "grub-script-check"])
def test_a_failing_tool_changes_nothing(tmp_path: Path, tool: str) -> None:
    node = make_node(tmp_path, refuse=tool)
    grub = kept(node)
    before = (tmp_path / "boot/grub/grub.cfg").read_bytes()
    with pytest.raises(LoaderError, match="ended with 1"):
        install(node, grub)
    assert (tmp_path / "boot/grub/grub.cfg").read_bytes() == before
    assert not (tmp_path / "boot/trialboot/known-good.sh").exists()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (("trialboot.boot=", "other="), "no known-good entry"),
        (('default="${saved_entry}"', 'default="1"'), "GRUB_DEFAULT"),
        (('set fallback="0 0"', "menuentry 'x' {\n}"), "first entry"),
        (("/vmlinuz root", "/gone root"), "gone"),
        (('set fallback="0 0"', "blscfg"), "unevaluable"),
    ],
)
def test_a_menu_that_is_not_what_we_need_is_not_put_in_place(
    tmp_path: Path, spoil: tuple[str, str], why: str
) -> None:
    node = make_node(tmp_path, spoil=spoil)
    grub = kept(node)
    with pytest.raises(LoaderError, match=why):
        install(node, grub)
    assert grub.state().known_good == ""


def test_a_new_known_good_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    install(node, grub)
    grub.make_default(KNOWN_GOOD)
    old = node.boot_set().fingerprint
    new = node.boot_set("6.12.117-amd64")
    bootsets.keep(node.host, new, node.sources("6.12.117-amd64"))
    node.mkconfig.refuse = "grub-mkconfig"
    with pytest.raises(LoaderError):
        grub.install(parts.boot_files(node.host, new.fingerprint))
    assert grub.state().known_good == old
    node.mkconfig.refuse = ""
    grub.install(parts.boot_files(node.host, new.fingerprint))
    assert grub.state().known_good == new.fingerprint
    assert len(boots(node).entry.initrds) == 2


def test_an_odd_quote_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    grub = kept(node)
    files = parts.boot_files(node.host, node.boot_set().fingerprint)
    odd = replace(files, boot_set=replace(files.boot_set, command_line='"'))
    with pytest.raises(LoaderError, match="cannot hand over"):
        grub.install(odd)


def test_an_unreadable_menu_is_told(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    (tmp_path / "boot/grub/grub.cfg").unlink()
    with pytest.raises(LoaderError, match="No such file"):
        Grub(node.host).state()


@pytest.mark.parametrize("default", ["0", "saved"])
@pytest.mark.parametrize("effects", range(72))
def test_a_power_cut_anywhere_leaves_a_bootable_host(
    tmp_path: Path, effects: int, default: str
) -> None:
    node = make_node(tmp_path, host_default=default)

    def trial() -> None:
        grub = kept(node)
        install(node, grub)
        grub.make_default(KNOWN_GOOD)
        grub.boot_once(EntryId(OLD))
        grub.forget_once()
        grub.remove()
        bootsets.drop(node.host, node.boot_set().fingerprint)

    try:
        with power_for(effects, tmp_path):
            trial()
    except PowerCutError:
        assert effects < 71, "there are more effects than instants"
        boots(node)
        for fingerprint in bootsets.kept(node.host):
            bootsets.verify(node.host, fingerprint)
    trial()
    assert boots(node).entry.entry == SIMPLE
    assert bootsets.kept(node.host) == ()
