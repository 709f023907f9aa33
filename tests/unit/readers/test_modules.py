"""Modules that are loaded, and those that a kernel's tree has for this host."""

import json
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.module_files import (
    PACK,
    SIGNATURE,
    depmod,
    elf64,
    install,
    load,
    missing,
    module,
    note,
    program,
)
from tests.unit.workers.debian_host import FIRMWARE, OLD, debian
from trialboot.content import is_module
from trialboot.core.facts import Driver, Module, ModuleFile, ModuleTree, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.kmod import MOST
from trialboot.readers.modules import (
    parse_builtin,
    parse_dependencies,
    parse_module,
    parse_references,
    read_loaded_modules,
    read_modaliases,
    read_module_tree,
)

LOADED = """\
nf_tables 331776 29 nft_ct, Live 0xffffffffc0a00000
bnx2 118784 0 - Live 0xffffffffc0900000 (OE)

ext4 999424 - - Live 0x0
"""

DEPENDENCIES = """\
kernel/drivers/net/bnx2.ko.xz:
kernel/net/nf-tables.ko.xz: kernel/net/nfnetlink.ko.xz
updates/dkms/nv.ko.zst:
kernel/plain.ko:
"""

NO_BUILTIN = "line 1 names no module: install the kernel's package again"
ICE = module(
    "version=1.2.3",
    "firmware=intel/ice/ddp/ice.pkg",
    "firmware=a.bin",
    "firmware=a.bin",
    "srcversion=ABC",
    "parm=debug:netif level",  # codespell:ignore parm
    "parmtype=debug:int",
    build_id=b"\x01\xab",
    signature=SIGNATURE,
    code=b"\x90" * 4096,
)


def ice(path: str) -> ModuleFile:
    """Give what ICE says, at a path."""
    return ModuleFile(
        name="ice",
        path=path,
        version="1.2.3",
        srcversion="ABC",
        build_id="01ab",
        signed=True,
        firmware=("a.bin", "intel/ice/ddp/ice.pkg"),
        parameters=("debug",),
    )


def tree_of(
    root: Path, *names: str, cache: dict[str, str] | None = None, folder: str | None = None
) -> ModuleTree:
    """Read a tree whose drivers are of no interest."""
    found = read_module_tree(
        Host(root=root), OLD, names, Unknown("not asked"), cache=cache, folder=folder
    )
    assert isinstance(found, ModuleTree)
    return found


# --- loaded modules ---------------------------------------------------------------------------


def test_references_are_counted_where_the_kernel_counts_them() -> None:
    assert parse_references(LOADED) == {"nf_tables": 29, "bnx2": 0, "ext4": 0}
    assert parse_references("a\nb 1\nc 1 x\nd 1 99999999999\ne 1 ²") == dict.fromkeys("abcde", 0)


@pytest.mark.parametrize("text", ["../../etc 1 0", "a 1 0\n.. 1 0", "/a 1 0", ". 1 0"])
def test_a_name_that_leads_out_of_sysfs_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=r"^/proc/modules: .* is no module's name$"):
        parse_references(text)


@given(st.text(max_size=200))
def test_any_list_of_modules_is_an_answer_or_refused(text: str) -> None:
    try:
        assert all(count >= 0 for count in parse_references(text).values())
    except HostError as error:
        assert "is no module's name" in str(error)  # noqa: PT017  refusing is one of two answers


def test_loaded_modules_come_with_what_the_kernel_shows_and_their_firmware(tmp_path: Path) -> None:
    install(tmp_path, OLD, {"kernel/ice.ko": ICE, "kernel/nf-tables.ko": module("license=GPL")})
    load(tmp_path, "nf_tables", 29, build_id=note(b"\x02"))
    load(
        tmp_path, "ice", 1, version=b"1.2\n", srcversion=b"ABC\n", build_id=note(b"\x01\xab")
    )  # fmt: skip
    load(tmp_path, "by_hand", build_id=note(b"\x03")[:15])
    assert read_loaded_modules(Host(root=tmp_path), OLD) == (
        Module(name="by_hand"),
        Module(
            name="ice",
            firmware=("a.bin", "intel/ice/ddp/ice.pkg"),
            references=1,
            version="1.2",
            srcversion="ABC",
            build_id="01ab",
        ),
        Module(name="nf_tables", references=29, build_id="02"),
    )


def test_a_loaded_module_whose_file_is_damaged_has_unknown_firmware(tmp_path: Path) -> None:
    install(tmp_path, OLD, {"kernel/ice.ko": ICE[:999]})
    load(tmp_path, "ice")
    found = read_loaded_modules(Host(root=tmp_path), OLD)
    why = "it is cut short: the table of its sections is not whole"
    assert found == (Module(name="ice", firmware=Unknown(why)),)


def test_loaded_modules_of_a_debian_host_are_read(tmp_path: Path) -> None:
    assert read_loaded_modules(debian(tmp_path).host, OLD) == (
        Module(name="bnx2", firmware=(FIRMWARE,)),
        Module(name="nf_tables"),
    )


def test_a_kernel_that_has_no_list_of_modules_is_unknown(tmp_path: Path) -> None:
    install(tmp_path, OLD, {})
    found = read_loaded_modules(Host(root=tmp_path), OLD)
    assert found == Unknown("/proc/modules: No such file or directory")


# --- what a tree has --------------------------------------------------------------------------


def test_dependencies_give_the_file_of_each_module_by_its_name() -> None:
    assert parse_dependencies(DEPENDENCIES) == {
        "bnx2": "kernel/drivers/net/bnx2.ko.xz",
        "nf_tables": "kernel/net/nf-tables.ko.xz",
        "nv": "updates/dkms/nv.ko.zst",
        "plain": "kernel/plain.ko",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [("kernel/a.ko", 1), ("kernel/a.ko:\nkernel/b.k", 2), (":\n", 1), ("\n\x7fELF:\n", 2)],
)
def test_dependencies_that_are_damaged_are_refused(text: str, line: int) -> None:
    with pytest.raises(HostError, match=f"^line {line} names no module: run depmod$"):
        parse_dependencies(text)


def test_modules_that_are_built_in_are_named_in_order() -> None:
    assert parse_builtin("kernel/net/x-y.ko\n\nkernel/fs/ext4/ext4.ko\n") == ("ext4", "x_y")
    with pytest.raises(HostError, match=r"^line 2 names no module: "):
        parse_builtin("kernel/fs/ext4/ext4.ko\nkernel/ne")


@given(st.text(max_size=200) | st.lists(st.sampled_from("ab/.ko:\n-_ "), max_size=60).map("".join))
def test_any_list_of_a_tree_is_an_answer_or_refused(text: str) -> None:
    for parse in (parse_dependencies, parse_builtin):
        try:
            assert all("-" not in name for name in parse(text))
        except HostError as error:  # noqa: PERF203  two parsers
            assert "names no module" in str(error)  # noqa: PT017  refusing is one of two answers


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("kernel/a.ko", True),
        ("kernel/a.ko.xz", True),
        ("kernel/a.ko.zst", True),
        ("kernel/a.ko.gz", True),
        ("modules.dep", False),
        ("modules.builtin.bin", False),
        ("kernel/a.ko.sig", False),
    ],
)
def test_module_files_are_told_from_what_depmod_writes(path: str, answer: bool) -> None:  # noqa: FBT001  a column of the table
    assert is_module(path) is answer


def test_a_tree_has_names_and_details_only_of_what_is_in_use(tmp_path: Path) -> None:
    files = {"kernel/ice.ko": ICE, "updates/b-b.ko": module("license=GPL"), "kernel/a.ko": b"?"}
    install(tmp_path, OLD, files, "kernel/fs/ext4.ko\n")
    assert tree_of(tmp_path, "ice", "b_b", "ext4", "gone") == ModuleTree(
        release=OLD,
        names=("a", "b_b", "ice"),
        builtin=("ext4",),
        used=(ModuleFile(name="b_b", path="updates/b-b.ko"), ice("kernel/ice.ko")),
        drivers=Unknown("not asked"),
    )


def test_a_tree_that_is_kept_elsewhere_is_read_there(tmp_path: Path) -> None:
    install(tmp_path, OLD, {"kernel/ice.ko": ICE})
    (tmp_path / "kept").mkdir()
    (tmp_path / "lib/modules" / OLD).rename(tmp_path / "kept/modules")
    assert tree_of(tmp_path, "ice", folder="/kept/modules").used == (ice("kernel/ice.ko"),)


@pytest.mark.parametrize("ending", [*PACK])
def test_a_module_says_the_same_however_it_is_packed(tmp_path: Path, ending: str) -> None:
    if why := missing(ending):
        pytest.skip(why)
    path = f"kernel/ice{ending}"
    install(tmp_path, OLD, {path: PACK[ending](ICE)})
    assert tree_of(tmp_path, "ice") == ModuleTree(
        release=OLD,
        names=("ice",),
        builtin=(),
        used=(ice(path),),
        drivers=Unknown("not asked"),
    )


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("kernel/ice.ko", b"", "it is no little-endian ELF64 file"),
        ("kernel/ice.ko", PACK[".ko.xz"](ICE), "it is no little-endian ELF64 file"),
        ("kernel/ice.ko", elf64({".text": b"x"}), "it has no section .modinfo"),
        (
            "kernel/ice.ko",
            elf64({".modinfo": b"", ".note.gnu.build-id": b"short"}),
            "its notes are cut short",
        ),
        ("kernel/ice.ko.xz", PACK[".ko.xz"](ICE)[:-1], "it cannot be unpacked: it is cut short"),
        ("kernel/ice.ko.gz", PACK[".ko.gz"](ICE)[:-1], "it cannot be unpacked: it is cut short"),
        ("kernel/ice.ko.xz", PACK[".ko.xz"](bytes(MOST + 1)), "it unpacks to more than 64 MiB"),
        ("kernel/ice.ko.zst", b"?", "it cannot be unpacked: it is no whole zstd frame"),
    ],
)
def test_a_file_that_is_not_understood_is_told_in_a_sentence(
    tmp_path: Path, path: str, content: bytes, why: str
) -> None:
    install(tmp_path, OLD, {path: content, "kernel/good.ko": module("license=GPL")})
    found = tree_of(tmp_path, "ice", "good")
    assert found.used == (ModuleFile(name="good", path="kernel/good.ko"),)
    assert found.unread == (f"{path} of {OLD} is not understood: {why}",)


def test_files_that_are_gone_pipes_or_huge_are_told_without_reading_them(tmp_path: Path) -> None:
    tree = install(tmp_path, OLD, {f"kernel/{name}.ko": b"" for name in ("gone", "huge", "pipe")})
    for name in ("gone", "pipe"):
        (tree / f"kernel/{name}.ko").unlink()
    os.mkfifo(tree / "kernel/pipe.ko")
    os.truncate(tree / "kernel/huge.ko", MOST + 1)
    assert tree_of(tmp_path, "gone", "huge", "pipe").unread == (
        f"kernel/gone.ko of {OLD} is not understood: No such file or directory",
        f"kernel/huge.ko of {OLD} is not understood: it has more than 64 MiB",
        f"kernel/pipe.ko of {OLD} is not understood: it is no regular file",
    )


@pytest.mark.parametrize("path", ["/etc/ice.ko", "../x/ice.ko", "kernel/../../ice.ko"])
def test_a_file_outside_of_the_tree_is_not_read(tmp_path: Path, path: str) -> None:
    tree = install(tmp_path, OLD, {})
    (tree / "modules.dep").write_text(f"{path}:\n")
    assert tree_of(tmp_path, "ice").unread == (
        f"{path} of {OLD} is not understood: it lies outside of the kernel's tree",
    )


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no tree": lambda tree: tree.rename(tree.with_name("away")),
    "no modules.dep": lambda tree: (tree / "modules.dep").unlink(),
    "no modules.builtin": lambda tree: (tree / "modules.builtin").unlink(),
    "zeros": lambda tree: (tree / "modules.dep").write_bytes(bytes(64)),
    "huge": lambda tree: os.truncate(tree / "modules.dep", MOST + 1),
    "cut": lambda tree: (tree / "modules.dep").write_text("kernel/a."),
    "cut builtin": lambda tree: (tree / "modules.builtin").write_text("kern"),
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("no tree", f"{OLD} has no modules: there is no /lib/modules/{OLD}"),
        (
            "no modules.dep",
            f"depmod has not run for {OLD}: there is no /lib/modules/{OLD}/modules.dep",
        ),
        ("no modules.builtin", f"/lib/modules/{OLD}/modules.builtin: No such file or directory"),
        ("zeros", f"/lib/modules/{OLD}/modules.dep is damaged: it is no text"),
        ("huge", f"/lib/modules/{OLD}/modules.dep has more than 64 MiB"),
        ("cut", f"/lib/modules/{OLD}/modules.dep: line 1 names no module: run depmod"),
        (
            "cut builtin",
            f"/lib/modules/{OLD}/modules.builtin: {NO_BUILTIN}",
        ),
    ],
)
def test_a_tree_that_is_not_whole_is_unknown(tmp_path: Path, change: str, why: str) -> None:
    tree = install(tmp_path, OLD, {"kernel/a.ko": b""}, "kernel/b.ko\n")
    DAMAGE[change](tree)
    host = Host(root=tmp_path)
    assert read_module_tree(host, OLD, (), ()) == Unknown(why)
    if "builtin" not in change:
        load(tmp_path, "a")
        assert read_loaded_modules(host, OLD) == Unknown(why)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_module_never_stops_the_reading(data: st.DataObject) -> None:
    raw = bytearray(ICE)
    table = struct.unpack_from("<Q", raw, 40)[0]
    places = st.integers(6, 63) | st.integers(table, len(raw) - 1)
    for place in data.draw(st.lists(places, max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    found = parse_module(lambda length, at: cut[at : at + length], len(cut))
    assert isinstance(found, ModuleFile | Unknown)


# --- what is remembered -----------------------------------------------------------------------


def test_a_file_is_read_once_as_long_as_it_stays_the_same(tmp_path: Path) -> None:
    cache: dict[str, str] = {"8:1:2:3": "a hash of content.Cache"}
    tree = install(tmp_path, OLD, {"kernel/ice.ko.xz": PACK[".ko.xz"](ICE)})
    first = tree_of(tmp_path, "ice", cache=cache)
    (key,) = set(cache) - {"8:1:2:3"}
    assert key.startswith("module:")
    kept = json.loads(json.dumps({key: cache[key].replace("1.2.3", "remembered")}))
    assert tree_of(tmp_path, "ice", cache=kept).used[0].version == "remembered"
    (tree / "kernel/ice.ko.xz").write_bytes(PACK[".ko.xz"](ICE + b"longer"))
    assert tree_of(tmp_path, "ice", cache=kept).used[0].version == first.used[0].version


def test_two_names_of_one_file_are_two_modules(tmp_path: Path) -> None:
    tree = install(tmp_path, OLD, {"kernel/ice.ko": ICE})
    os.link(tree / "kernel/ice.ko", tree / "kernel/twin.ko")
    (tree / "modules.dep").write_text("kernel/ice.ko:\nkernel/twin.ko:\n")
    cache: dict[str, str] = {}
    used = tree_of(tmp_path, "ice", "twin", cache=cache).used
    assert [(file.name, file.path) for file in used] == [
        ("ice", "kernel/ice.ko"),
        ("twin", "kernel/twin.ko"),
    ]
    assert len(cache) == 1


def test_what_was_not_understood_is_not_remembered(tmp_path: Path) -> None:
    cache: dict[str, str] = {}
    install(tmp_path, OLD, {"kernel/ice.ko": b"?"})
    assert tree_of(tmp_path, "ice", cache=cache).unread
    assert not cache


@pytest.mark.parametrize(
    "noted",
    [
        "",
        "no JSON",
        "7",
        "null",
        "[]",
        "{}",
        '["", "", "", true, [], [], []]',
        '["", "", "", 1, [], []]',
        '["", "", 7, true, [], []]',
        '["", "", "", true, "ab", []]',
        '["", "", "", true, [], [7]]',
        "[" * 100_000,
    ],
)
def test_what_nobody_noted_is_read_anew(tmp_path: Path, noted: str) -> None:
    cache: dict[str, str] = {}
    install(tmp_path, OLD, {"kernel/ice.ko": ICE})
    tree_of(tmp_path, "ice", cache=cache)
    (key,) = cache
    damaged = {key: noted}
    assert tree_of(tmp_path, "ice", cache=damaged).used == (ice("kernel/ice.ko"),)
    assert damaged == cache


# --- devices ----------------------------------------------------------------------------------


def test_drivers_are_found_for_each_device_once(tmp_path: Path) -> None:
    asked: list[tuple[Path, list[str]]] = []

    def answers(folder: Path, aliases: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
        asked.append((folder, list(aliases)))
        return [(alias, (f"for_{alias}",)) for alias in asked[-1][1]]

    tree = install(tmp_path, OLD, {})
    found = read_module_tree(Host(root=tmp_path), OLD, (), ("b", "a", "b"), look_up=answers)
    assert isinstance(found, ModuleTree)
    assert found.drivers == (
        Driver(alias="a", modules=("for_a",)),
        Driver(alias="b", modules=("for_b",)),
    )
    assert asked == [(tree, ["a", "b"])]


@pytest.mark.skipif(not program("depmod"), reason="depmod is not installed")
def test_drivers_are_found_by_libkmod(tmp_path: Path) -> None:
    files = {"kernel/ice.ko": module("alias=pci:v00008086d*"), "kernel/a.ko": module("alias=x")}
    install(tmp_path, OLD, files)
    depmod(tmp_path, OLD)
    aliases = ("pci:v00008086d00001592", "acpi:PNP0C0A:")
    found = read_module_tree(Host(root=tmp_path), OLD, (), aliases)
    assert isinstance(found, ModuleTree)
    assert found.drivers == (
        Driver(alias="acpi:PNP0C0A:", modules=()),
        Driver(alias="pci:v00008086d00001592", modules=("ice",)),
    )


def test_without_an_index_the_drivers_are_unknown_and_the_rest_is_not(tmp_path: Path) -> None:
    install(tmp_path, OLD, {"kernel/ice.ko": ICE})
    found = read_module_tree(Host(root=tmp_path), OLD, (), ("x",))
    assert isinstance(found, ModuleTree)
    assert found.names == ("ice",)
    assert found.drivers == Unknown(
        f"drivers of {OLD}: modules.dep.bin cannot be read: No such file or directory"
    )


def device(root: Path, path: str, alias: str) -> None:
    place = root / "sys/devices" / path / "modalias"
    place.parent.mkdir(parents=True)
    place.write_text(alias)


def test_every_device_tells_its_modalias_once(tmp_path: Path) -> None:
    device(tmp_path, "pci0000:00/0000:00:02.0", "pci:v1\n")
    device(tmp_path, "pci0000:00/0000:00:02.0/virtio0", "virtio:d1\n")
    device(tmp_path, "pci0000:00/0000:00:03.0", "pci:v1\n")
    device(tmp_path, "system/cpu", "cpu:type:x86\n")
    device(tmp_path, "virtual/dmi/id", "\n")
    device(tmp_path, "pci0000:00/0000:00:02.0/power", "nobody asks here\n")
    device(tmp_path, "system/memory/memory0", "nor here\n")
    assert read_modaliases(Host(root=tmp_path)) == ("cpu:type:x86", "pci:v1", "virtio:d1")


def test_links_among_the_devices_are_not_followed(tmp_path: Path) -> None:
    device(tmp_path, "a", "a\n")
    (tmp_path / "sys/devices/a/subsystem").symlink_to(tmp_path / "sys/devices")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/modalias").write_text("not below\n")
    (tmp_path / "sys/devices/a/driver").symlink_to(tmp_path / "elsewhere")
    assert read_modaliases(Host(root=tmp_path)) == ("a",)


def test_a_device_that_goes_away_meanwhile_has_no_modalias(tmp_path: Path) -> None:
    device(tmp_path, "a", "a\n")
    (tmp_path / "sys/devices/b").mkdir()
    (tmp_path / "sys/devices/b/modalias").symlink_to("gone")
    assert read_modaliases(Host(root=tmp_path)) == ("a",)


def test_a_modalias_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    device(tmp_path, "a", "a\n")
    place = tmp_path / "sys/devices/a/modalias"
    place.unlink()
    place.symlink_to("modalias")
    why = f"{place}: Too many levels of symbolic links"
    assert read_modaliases(Host(root=tmp_path)) == Unknown(why)


def test_devices_that_cannot_be_listed_are_unknown(tmp_path: Path) -> None:
    found = read_modaliases(Host(root=tmp_path))
    assert found == Unknown(f"{tmp_path}/sys/devices: No such file or directory")


def test_devices_deeper_than_any_machine_has_them_are_unknown(tmp_path: Path) -> None:
    device(tmp_path, "a/" * 40, "x\n")
    found = read_modaliases(Host(root=tmp_path))
    assert isinstance(found, Unknown)
    assert found.why.endswith("devices lie deeper than any machine has them")


def test_the_devices_of_this_machine_are_read() -> None:
    found = read_modaliases(Host())
    if not Path("/sys/devices").exists():
        pytest.skip("this machine shows no /sys/devices")
    assert not isinstance(found, Unknown)
    assert list(found) == sorted(set(found))
