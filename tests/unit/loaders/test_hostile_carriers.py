"""Any file of a UEFI host spoiled: a typed answer, and nothing written that is somebody else's."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.loaders.efi_host import Firmware, uefi_node
from tests.unit.loaders.host_folder import OLD, SIMPLE
from trialboot.bootfiles import read_menu
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import KNOWN_GOOD, Menu
from trialboot.errors import LoaderError
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.readers.efi import read_boot_next
from trialboot.writers.vault import bootsets, parts

VARIABLES = "sys/firmware/efi/efivars"
ESP = "boot/efi/EFI"
PLACES = (
    *(Firmware(Path()).file(name) for name in ("BootNext", "BootOrder", "BootCurrent")),
    *(Firmware(Path()).file(name) for name in ("Boot0000", "Boot0001", "Boot0003", "Boot000a")),
    *(Path(f"{ESP}/trialboot/{name}") for name in ("trial.env", "shimx64.efi", "grubx64.efi")),
    *(Path(f"{ESP}/debian/{name}") for name in ("shimx64.efi", "grubx64.efi")),
    *(Path(name) for name in ("boot/grub/grubenv", "boot/grub/grub.cfg", "run/udev/data/b8:1")),
    Path("proc/self/mountinfo"),
)


@lru_cache(maxsize=1)
def good() -> Path:
    """Make an armed host once: the candidate is booted once through BootNext."""
    root = Path(tempfile.mkdtemp(prefix="efi-host-")) / "root"
    root.mkdir()
    node, _ = uefi_node(root)
    grub = Grub(node.host)
    boot_set = node.boot_set()
    bootsets.keep(node.host, boot_set, node.sources())
    grub.install(parts.boot_files(node.host, boot_set.fingerprint))
    grub.make_default(KNOWN_GOOD)
    grub.boot_once(EntryId(SIMPLE))
    return root


@contextmanager
def spoiled(place: Path, raw: bytes | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        root = Path(folder) / "root"
        shutil.copytree(good(), root, symlinks=True)
        (root / place).unlink()
        if raw is not None:
            (root / place).write_bytes(raw)
        yield root


def foreign(root: Path) -> dict[str, bytes]:
    """Give what is not ours: other entries of the firmware, other programs of the ESP."""
    ours = (f"{VARIABLES}/BootNext", f"{VARIABLES}/Boot0003", f"{ESP}/trialboot")
    found = {}
    for top in (VARIABLES, "boot/efi"):
        for path in (root / top).rglob("*"):
            name = str(path.relative_to(root))
            if path.is_file() and not name.startswith(ours):
                found[name] = without_ours(name, path.read_bytes())
    return found


def without_ours(name: str, raw: bytes) -> bytes:
    """Leave our entry out of BootOrder: it is taken out of there."""
    numbers = [raw[at : at + 2] for at in range(4, len(raw), 2)]
    return b"".join(n for n in numbers if n != b"\3\0") if "BootOrder" in name else raw


def cut(raw: bytes, at: int) -> bytes:
    return raw[: at % (len(raw) + 1)]


def turned(raw: bytes, at: int) -> bytes:
    changed = bytearray(raw or b"x")
    changed[at % len(changed)] ^= 1 + at % 255
    return bytes(changed)


def gone(_: bytes, __: int) -> None:
    return None


def huge(raw: bytes, _: int) -> bytes:
    return raw * 300


def random(_: bytes, at: int) -> bytes:
    return os.urandom(at % 2000)


Harm = Callable[[bytes, int], bytes | None]
HARMS: tuple[Harm, ...] = (cut, turned, gone, huge, random)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), harm=st.sampled_from(HARMS), at=st.integers(0, 1 << 20))
def test_a_spoiled_file_gives_an_answer_and_nothing_of_others_is_written(
    place: Path, harm: Harm, at: int
) -> None:
    raw = harm((good() / place).read_bytes(), at)
    with spoiled(place, raw) as root:
        grub = Grub(Host(root=root))
        assert isinstance(read_menu(grub.host), Menu | Unknown)
        assert isinstance(read_boot_next(grub.host), str | Unknown)
        assert all(grub.against(EntryId(SIMPLE)))
        before = foreign(root)
        with suppress(LoaderError):
            grub.boot_once(EntryId(OLD))
        with suppress(LoaderError):
            grub.forget_once()
        assert foreign(root) == before
