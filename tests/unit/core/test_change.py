"""What the next boot will change, in rows and in one sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot.core.change import (
    Area,
    BootDetail,
    Change,
    changes,
    firmware_in_use,
    sentence,
)
from trialboot.core.facts import Module, Tree, Unknown

NIC = Module(name="mlx5_core", firmware=("mellanox/a.bin", "mellanox/b.bin"))
LOADED = (NIC, Module(name="vxlan"))
BLIND = Unknown("lsmod failed")
BEFORE = BootDetail(
    boot_set=boot_set(),
    firmware=Tree(files=(("mellanox/a.bin.zst", "1" * 64), ("other.bin", "2" * 64))),
    modules=("mlx5_core", "vxlan"),
)


def after(
    *,
    modules: tuple[str, ...] = BEFORE.modules,
    firmware: tuple[tuple[str, str], ...] = BEFORE.firmware.files,
    **parts: str,
) -> BootDetail:
    return BootDetail(
        boot_set=replace(BEFORE.boot_set, **parts), firmware=Tree(files=firmware), modules=modules
    )


def row(area: Area, subject: str, before: str, now: str) -> Change:
    return Change(area=area, subject=subject, before=before, after=now)


def firmware_rows(*paths: str) -> list[Change]:
    return [row(Area.FIRMWARE, path, "1", "2") for path in paths]


def test_the_same_boot_set_changes_nothing() -> None:
    assert changes(BEFORE, BEFORE, LOADED) == ()
    assert changes(BEFORE, BEFORE, BLIND) == ()


CASES = {
    "another kernel": (
        after(release="6.1-new", kernel="x", initrd="x", modules=("mlx5_core", "vxlan")),
        (row(Area.KERNEL, "release", "6.1-old", "6.1-new"),),
    ),
    "a rebuilt kernel": (
        after(kernel="x"),
        (row(Area.KERNEL, "image of 6.1-old", "as before", "rebuilt"),),
    ),
    "a rebuilt initrd": (
        after(initrd="x"),
        (row(Area.INITRD, "initrd of 6.1-old", "as before", "rebuilt"),),
    ),
    "another command line": (
        after(command_line="rw"),
        (row(Area.COMMAND_LINE, "command line", "ro", "rw"),),
    ),
    "firmware": (
        after(firmware=(("mellanox/a.bin.zst", "3" * 64), ("new.bin", "4" * 64))),
        (
            row(Area.FIRMWARE, "mellanox/a.bin.zst", "1" * 12, "3" * 12),
            row(Area.FIRMWARE, "new.bin", "absent", "new"),
            row(Area.FIRMWARE, "other.bin", "there", "gone"),
        ),
    ),
}


@pytest.mark.parametrize(("then", "rows"), CASES.values(), ids=CASES)
def test_each_difference_is_one_row(then: BootDetail, rows: tuple[Change, ...]) -> None:
    assert changes(BEFORE, then, LOADED) == rows


def other_modules(*modules: str, release: str = "6.1-old") -> BootDetail:
    boot = replace(BEFORE.boot_set, modules="x", release=release)
    return BootDetail(boot_set=boot, firmware=BEFORE.firmware, modules=modules)


def test_a_loaded_module_that_the_next_tree_lacks_is_named() -> None:
    rows = changes(BEFORE, other_modules("mlx5_core"), LOADED)
    assert rows == (row(Area.MODULES, "vxlan", "loaded", "missing"),)


def test_other_files_in_the_same_module_tree_are_a_change() -> None:
    rows = changes(BEFORE, other_modules("mlx5_core", "vxlan"), LOADED)
    assert rows == (row(Area.MODULES, "module tree", "as before", "other files"),)


def test_another_kernel_has_other_module_files_anyway() -> None:
    rows = changes(BEFORE, other_modules("mlx5_core", "vxlan", release="6.1-new"), LOADED)
    assert [r.area for r in rows] == [Area.KERNEL]


def test_unread_modules_are_said_to_be_unknown() -> None:
    rows = changes(BEFORE, other_modules("mlx5_core"), BLIND)
    assert rows == (row(Area.MODULES, "modules in use", "loaded", "not known: lsmod failed"),)


def test_rows_come_most_dangerous_first() -> None:
    everything = BootDetail(
        boot_set=replace(BEFORE.boot_set, kernel="x", modules="x", initrd="x", command_line="x"),
        firmware=Tree(files=()),
        modules=(),
    )
    areas = [r.area for r in changes(BEFORE, everything, LOADED)]
    assert list(dict.fromkeys(areas)) == list(Area)


@pytest.mark.parametrize("ending", ["", ".zst", ".xz", ".gz"])
def test_compressed_firmware_is_found_under_its_plain_name(ending: str) -> None:
    rows = firmware_rows(f"mellanox/a.bin{ending}", "mellanox/a.bin.txt", "other.bin")
    assert firmware_in_use(rows, LOADED) == (f"mellanox/a.bin{ending}",)


def test_rows_of_other_areas_are_no_firmware() -> None:
    rows = [row(Area.MODULES, "mellanox/a.bin", "1", "2")]
    assert firmware_in_use(rows, LOADED) == ()


def test_firmware_in_use_is_unknown_where_the_modules_are() -> None:
    assert firmware_in_use(firmware_rows("a"), BLIND) == BLIND


def test_firmware_in_use_is_unknown_where_one_module_does_not_tell() -> None:
    silent = Module(name="ice", firmware=Unknown("ice.ko: no such file"))
    in_use = firmware_in_use(firmware_rows("a"), (NIC, silent))
    assert in_use == Unknown("ice: ice.ko: no such file")


SENTENCES = {
    "nothing": ([], "changes nothing."),
    "kernel": ([row(Area.KERNEL, "release", "6.1", "6.2")], "switches the kernel 6.1 → 6.2."),
    "image": (
        [row(Area.KERNEL, "image of 6.1", "as before", "rebuilt")],
        "loads a rebuilt image of 6.1.",
    ),
    "a module": (
        [row(Area.MODULES, "vxlan", "loaded", "missing")],
        "lacks 1 module (vxlan) that is loaded now.",
    ),
    "modules": (
        [row(Area.MODULES, name, "loaded", "missing") for name in "abcd"],
        "lacks 4 modules (a, b, c, …) that are loaded now.",
    ),
    "three modules": (
        [row(Area.MODULES, name, "loaded", "missing") for name in "abc"],
        "lacks 3 modules (a, b, c) that are loaded now.",
    ),
    "module tree": (
        [row(Area.MODULES, "module tree", "as before", "other files")],
        "loads other module files.",
    ),
    "unread modules": (
        [row(Area.MODULES, "modules in use", "loaded", "not known: x")],
        "may lack modules that are loaded now (not known).",
    ),
    "unused firmware": (
        firmware_rows("x.bin"),
        "changes 1 firmware file (none that a loaded module names).",
    ),
    "used firmware": (
        firmware_rows("mellanox/a.bin"),
        "changes 1 firmware file (mellanox/a.bin) that this host uses.",
    ),
    "some used firmware": (
        firmware_rows("mellanox/a.bin", "x.bin"),
        "changes 2 firmware files, of which this host uses 1 file (mellanox/a.bin).",
    ),
    "initrd": (
        [row(Area.INITRD, "initrd of 6.1", "as before", "rebuilt")],
        "loads a rebuilt initrd.",
    ),
    "command line": (
        [row(Area.COMMAND_LINE, "command line", "a", "b")],
        "changes the kernel command line.",
    ),
    "three things": (
        [
            row(Area.KERNEL, "release", "6.1", "6.2"),
            row(Area.INITRD, "initrd of 6.1", "as before", "rebuilt"),
            row(Area.COMMAND_LINE, "command line", "a", "b"),
        ],
        (
            "switches the kernel 6.1 → 6.2, loads a rebuilt initrd "
            "and changes the kernel command line."
        ),
    ),
}


@pytest.mark.parametrize(("rows", "words"), SENTENCES.values(), ids=SENTENCES)
def test_a_tired_admin_reads_one_sentence(rows: list[Change], words: str) -> None:
    assert sentence(rows, LOADED) == f"The next boot {words}"


def test_the_sentence_admits_that_the_firmware_in_use_is_not_known() -> None:
    words = "changes 2 firmware files (which of them this host uses is not known)."
    assert sentence(firmware_rows("a", "b"), BLIND) == f"The next boot {words}"


FILES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"))


@given(FILES, FILES)
def test_a_firmware_row_stands_for_each_file_that_differs(
    old: dict[str, str], new: dict[str, str]
) -> None:
    before = replace(BEFORE, firmware=Tree(files=tuple(sorted(old.items()))))
    then = replace(BEFORE, firmware=Tree(files=tuple(sorted(new.items()))))
    differ = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    assert [r.subject for r in changes(before, then, LOADED)] == sorted(differ)
