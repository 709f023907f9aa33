"""The door to libkmod and libzstd: packed files within bounds, indexes that depmod finished."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.module_files import PACK, depmod, install, missing, module, program
from trialboot.errors import HostError
from trialboot.kmod import MOST, look_up, unpack_gzip, unpack_xz, unpack_zstd

RELEASE = "9.9.9-toy"
NO_DEPMOD = pytest.mark.skipif(not program("depmod"), reason="depmod is not installed")
NO_ZSTD = pytest.mark.skipif(bool(missing(".ko.zst")), reason=missing(".ko.zst") or "it is there")
MAGICS = (b"\xfd7zXZ\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")
SUCH = module("license=GPL", code=bytes(range(256)) * 40)
UNPACK: dict[str, Callable[[bytes], memoryview]] = {
    ".ko.xz": unpack_xz,
    ".ko.gz": unpack_gzip,
    ".ko.zst": unpack_zstd,
}
PACKED = {ending: PACK[ending](SUCH) for ending in UNPACK if not missing(ending)}
ENDINGS = [pytest.param(e, marks=NO_ZSTD if e == ".ko.zst" else ()) for e in UNPACK]


def is_answer(unpack: Callable[[bytes], memoryview], packed: bytes) -> bool:
    """Tell whether it is unpacked within bounds, or refused in words; all else is raised."""
    try:
        return len(unpack(packed)) <= MOST
    except HostError as error:
        return str(error).startswith(("it cannot be unpacked: ", "it unpacks to more than "))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_packed_is_unpacked(ending: str) -> None:
    assert UNPACK[ending](PACK[ending](SUCH)) == SUCH


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_packed_and_unpacked(ending: str) -> None:
    assert bytes(UNPACK[ending](PACK[ending](b""))) == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_cut_short_is_refused(ending: str) -> None:
    packed = PACK[ending](SUCH)
    for kept in (0, 1, 4, 13, len(packed) // 2, len(packed) - 1):
        with pytest.raises(HostError, match="it cannot be unpacked: "):
            UNPACK[ending](packed[:kept])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_bomb_is_refused(ending: str) -> None:
    with pytest.raises(HostError, match="it unpacks to more than 64 MiB"):
        UNPACK[ending](PACK[ending](bytes(MOST + 1)))


def test_a_zstd_frame_that_only_claims_much_is_refused() -> None:
    claims = bytes.fromhex("28b52ffd e0 0000000000000010 010000")
    with pytest.raises(HostError, match="it unpacks to more than 64 MiB"):
        unpack_zstd(claims)


@NO_ZSTD
def test_zstd_frames_that_do_not_tell_their_size_are_unpacked() -> None:
    stream = subprocess.run(
        [program("zstd"), "-q", "-c", "--no-content-size"],
        input=SUCH,
        capture_output=True,
        check=True,
    ).stdout
    assert unpack_zstd(stream + stream) == SUCH * 2


def test_an_xz_stream_that_asks_for_much_memory_is_refused() -> None:
    header = bytearray(PACK[".ko.xz"](b"x"))
    header[16] = 34  # the size of the dictionary, 512 MiB, and the header's sum over it
    header[20:24] = struct.pack("<I", zlib.crc32(bytes(header[12:20])))
    with pytest.raises(HostError, match="it cannot be unpacked: Memory usage limit"):
        unpack_xz(bytes(header))


@settings(deadline=None)  # what a damaged head claims, up to 64 MiB, is made room for
@given(st.binary(max_size=200), st.sampled_from(MAGICS))
def test_hostile_bytes_are_unpacked_or_refused(tail: bytes, magic: bytes) -> None:
    for unpack in UNPACK.values():
        assert is_answer(unpack, magic + tail)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(deadline=None)  # as above
@given(data=st.data())
def test_a_damaged_stream_is_unpacked_or_refused(ending: str, data: st.DataObject) -> None:
    packed = bytearray(PACKED[ending])
    for place in data.draw(st.lists(st.integers(0, len(packed) - 1), min_size=1, max_size=4)):
        packed[place] = data.draw(st.integers(0, 255))
    assert is_answer(UNPACK[ending], bytes(packed))


def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^libnothing\.so\.9 cannot be used: "):
        unpack_zstd(b"", library="libnothing.so.9")
    with pytest.raises(HostError, match=r"^libnothing\.so\.9 cannot be used: "):
        look_up(tmp_path, (), library="libnothing.so.9")


def test_a_library_that_is_another_one_is_refused() -> None:
    with pytest.raises(HostError, match=r"^libc\.so\.6 cannot be used: .*ZSTD_decompressBound"):
        unpack_zstd(b"", library="libc.so.6")


# --- lookups ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tree that no test changes."""
    root = tmp_path_factory.mktemp("root")
    files = {
        "kernel/net/one.ko": module("alias=pci:v00008086d*sv*", "alias=both"),
        "kernel/net/two.ko.xz": PACK[".ko.xz"](module("alias=pci:v0000[0-9]086d00001533sv*")),
        "kernel/other-name.ko": module("alias=both"),
    }
    made = install(root, RELEASE, files, "kernel/fs/inner.ko\n")
    (made / "modules.builtin.modinfo").write_bytes(
        b"inner.license=GPL\0inner.file=fs/inner\0inner.alias=fs-inner\0"
    )
    depmod(root, RELEASE)
    return made


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    """Lend a tree that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / RELEASE))


@NO_DEPMOD
def test_modules_answer_to_aliases_as_modprobe_finds_them(whole: Path) -> None:
    asked = ("pci:v00008086d00001533sv1", "pci:v00008086d0001sv1", "both", "fs-inner", "none", "")
    assert look_up(whole, asked) == (
        ("pci:v00008086d00001533sv1", ("one", "two")),
        ("pci:v00008086d0001sv1", ("one",)),
        ("both", ("one", "other_name")),
        ("fs-inner", ("inner",)),
        ("none", ()),
        ("", ()),
    )


@NO_DEPMOD
@given(alias=st.text(max_size=60))
def test_any_alias_is_answered(whole: Path, alias: str) -> None:
    ((asked, modules),) = look_up(whole, (alias,))
    assert asked == alias
    assert isinstance(modules, tuple)


@NO_DEPMOD
@pytest.mark.parametrize(
    "alias", ["a[b", "a]b", "[" * 999, "x" * 5000, "[" * 10**6, "\udcff", "a\0b"]
)
def test_what_can_be_no_alias_has_no_module(whole: Path, alias: str) -> None:
    assert look_up(whole, (alias,)) == ((alias, ()),)


@NO_DEPMOD
def test_a_kernel_that_tells_nothing_of_what_is_built_in_is_asked_all_the_same(
    tree: Path,
) -> None:
    (tree / "modules.builtin.alias.bin").write_bytes(b"")
    assert look_up(tree, ("both", "fs-inner")) == (
        ("both", ("one", "other_name")),
        ("fs-inner", ()),
    )
    (tree / "modules.builtin.alias.bin").unlink()
    assert look_up(tree, ("both",)) == (("both", ("one", "other_name")),)


@NO_DEPMOD
def test_a_kernel_without_modules_is_asked_all_the_same(tmp_path: Path) -> None:
    tree = install(tmp_path, RELEASE, {})
    depmod(tmp_path, RELEASE)
    assert look_up(tree, ("both",)) == (("both", ()),)


INDEXES = ("modules.dep.bin", "modules.alias.bin", "modules.builtin.bin")


@NO_DEPMOD
@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_is_not_there_is_told(tree: Path, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(HostError, match=f"^{name} cannot be read: No such file or directory$"):
        look_up(tree, ("both",))


@NO_DEPMOD
@pytest.mark.parametrize("name", [*INDEXES, "modules.builtin.alias.bin"])
def test_an_index_that_was_cut_short_anywhere_never_reaches_libkmod(tree: Path, name: str) -> None:
    index = (tree / name).read_bytes()
    root = struct.unpack_from(">III", index)[2] & 0x0FFFFFFF
    unfinished = index[:8] + bytes(4) + index[12:]
    for left in (*(index[:kept] for kept in {1, 11, 12, root // 2, root}), unfinished):
        (tree / name).write_bytes(left)
        with pytest.raises(HostError, match=f"^{name} is (cut short|damaged): run depmod$"):
            look_up(tree, ("both",))


@NO_DEPMOD
@pytest.mark.parametrize("head", [b"\0" * 12, b"\xb0\x07\xf4\x57\0\x03\0\0\0\0\0\x0c", b"#" * 12])
def test_an_index_of_another_kind_is_refused(tree: Path, head: bytes) -> None:
    (tree / "modules.alias.bin").write_bytes(head + bytes(99))
    with pytest.raises(HostError, match=r"^modules\.alias\.bin is damaged: run depmod$"):
        look_up(tree, ("both",))


@NO_DEPMOD
def test_the_missing_index_of_symbols_is_told_by_libkmod(tree: Path) -> None:
    (tree / "modules.symbols.bin").unlink()
    with pytest.raises(HostError, match=r"^libkmod cannot read .*: No such file or directory$"):
        look_up(tree, ("both",))


@NO_DEPMOD
def test_libkmod_writes_nothing_to_the_journal(tree: Path) -> None:
    (tree / "modules.symbols.bin").unlink()
    words = (
        "import sys; from pathlib import Path; from trialboot.kmod import look_up\n"
        f"try: look_up(Path({str(tree)!r}), ('a[b',))\nexcept Exception: sys.exit(7)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", words], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@NO_DEPMOD
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*INDEXES, "modules.builtin.alias.bin"]),
    places=st.lists(st.tuples(st.integers(12), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_an_index_with_any_damage_is_looked_up_or_refused_and_nobody_dies(
    tree: Path, whole: Path, name: str, places: list[tuple[int, int]]
) -> None:
    index = bytearray((whole / name).read_bytes())
    for place, value in places:
        index[12 + place % (len(index) - 12)] = value
    (tree / name).write_bytes(index)
    with suppress(HostError):
        assert len(look_up(tree, ("both", "one", "fs-inner"))) == 3
    shutil.copy(whole / name, tree / name)


def node(*, prefix: bytes = b"", children: tuple[int, ...] = (), value: bytes = b"") -> bytes:
    """Write one node of an index that holds all three; its children are those from `a` on."""
    letters = bytes((ord("a"), ord("a") + len(children) - 1))
    pointers = b"".join(struct.pack(">I", child) for child in children)
    return prefix + b"\0" + letters + pointers + struct.pack(">II", 1, 0) + value + b"\0"


ALL = 0xE0000000 | 12
DAMAGE = {
    "a node that is its own child": node(children=(ALL,)),
    "a child beyond the end": node(children=(ALL + 4000,)),
    "a child in the head": node(children=(0xE0000004,)),
    "children without an end": node(children=(0,))[:4],
    "a range that ends before it begins": b"\0zaxxxxxxxxxxx",
    "a prefix without an end": b"x" * 40,
    "values without an end": node(children=(0,))[:-1],
    "a path that is longer than any": node(children=(0,), value=b"k" * 5000),
}


@NO_DEPMOD
@pytest.mark.parametrize("root", DAMAGE.values(), ids=DAMAGE)
def test_what_would_lead_libkmod_astray_is_refused(tree: Path, root: bytes) -> None:
    head = struct.pack(">III", 0xB007F457, 0x00020001, ALL)
    (tree / "modules.dep.bin").write_bytes(head + root)
    with pytest.raises(HostError, match=r"^modules\.dep\.bin is damaged: run depmod$"):
        look_up(tree, ("both",))


@NO_DEPMOD
def test_an_index_that_is_whole_is_read_once(tree: Path) -> None:
    known: dict[str, str] = {}
    first = look_up(tree, ("both",), known=known)
    assert len(known) == 4
    assert set(known.values()) == {"whole"}
    before = dict(known)
    assert look_up(tree, ("both",), known=known) == first
    assert known == before
    place = tree / "modules.alias.bin"
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(HostError):
        look_up(tree, ("both",), known=known)
