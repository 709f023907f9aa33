"""EFI load options, device paths, BootOrder, and the programs of the ESP: as read, and hostile."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.efi import (
    TRIAL_ENTRY,
    LoadOption,
    Partition,
    boot_number,
    format_number,
    format_option,
    format_order,
    free_number,
    is_ours,
    parse_description,
    parse_number,
    parse_option,
    parse_order,
)
from trialboot.core.espimages import Image, image_of, partition_of
from trialboot.core.facts import Unknown

END = b"\x7f\xff\4\0"
GPT = Partition(number=1, start=2048, size=262144, signature=bytes(range(16)), is_gpt=True)
MBR = Partition(
    number=1, start=2048, size=98304, signature=b"\0\x7b\0\x7b".ljust(16, b"\0"), is_gpt=False
)
DEBIAN = LoadOption(description="debian", partition=GPT, file="/EFI/debian/shimx64.efi")
OURS = LoadOption(description=TRIAL_ENTRY, partition=GPT, file="/EFI/trialboot/shimx64.efi")
BARE = LoadOption(description="x", file="/EFI/a.efi")
# As OVMF 2022.11 made them for a virtio disk, and for its own application.
AUTOMATIC = bytes.fromhex(
    "010000001600550045004600490020004d006900730063002000440065007600690063006500000002010c00"
    "d041030a0000000001010600000 47fff04004eac0881119f594d850ee21a522c59b2".replace(" ", "")
)
FIRMWARES_OWN = bytes.fromhex(
    "090100002c0055006900410070007000000004071400c9bdb87cebf8344faaea3ee4af6516a104061400"
    "21aa2c4614760345836e8ab6f46623317fff0400"
)


def text(words: str) -> bytes:
    return f"{words}\0".encode("utf-16-le")


def node(kind: int, subkind: int, payload: bytes) -> bytes:
    return struct.pack("<BBH", kind, subkind, 4 + len(payload)) + payload


def option(*nodes: bytes, description: bytes = text("x"), more: bytes = b"") -> bytes:
    path = b"".join(nodes)
    return struct.pack("<IH", 1, len(path)) + description + path + more


DISK = format_option(LoadOption(description="x", partition=GPT))[10:-4]


@pytest.mark.parametrize("known", [DEBIAN, OURS, LoadOption(description="ä", partition=MBR), BARE])
def test_what_is_written_is_read_again(known: LoadOption) -> None:
    assert parse_option(format_option(known)) == known
    assert parse_description(format_option(known)) == known.description


def test_an_option_is_written_as_efibootmgr_writes_it() -> None:
    """Boot0004 of a Debian 12 guest, `efibootmgr --create --label debian --loader ...`."""
    known = LoadOption(description="d", partition=MBR, file="/EFI/g.efi")
    path = "04012a000100000000080000000000000080010000000000"
    path += "007b007b0000000000000000000000000101"
    path += "04041a00" + text("\\EFI\\g.efi").hex() + "7fff0400"
    assert format_option(known).hex() == "010000004800" + text("d").hex() + path


def test_options_of_firmware_itself_are_read() -> None:
    found = parse_option(AUTOMATIC)
    assert found == LoadOption(description="UEFI Misc Device")
    own = parse_option(FIRMWARES_OWN)
    assert isinstance(own, LoadOption)
    assert (own.description, own.file, own.partition) == ("UiApp", "", None)


def test_a_path_may_have_several_parts_vendors_nodes_alternatives_and_optional_data() -> None:
    raw = option(
        node(1, 4, bytes(20)),
        DISK,
        node(4, 4, text("\\EFI")),
        node(4, 4, text("fedora\\shimx64.efi")),
        END,
        node(4, 3, bytes(16)),
        END,
        more=b"\1\2\3",
    )
    found = parse_option(raw)
    assert isinstance(found, LoadOption)
    assert (found.partition, found.file) == (GPT, "/EFI/fedora/shimx64.efi")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no end"),
        (option(END, description=b"x"), "no end"),
        (option(END, description=b"\x00\xd8\0\0"), "no UTF-16"),
        (option(END, description=text("\x1b")), "no plain text"),
        (struct.pack("<IH", 1, 9) + text("x") + END, "longer than the option"),
        (option(DISK), "has no end"),
        (option(b"\4\4\3\0"), "no length"),
        (option(b"\4\4\xff\0"), "no length"),
        (option(node(4, 1, b"short"), END), "not told as UEFI"),
        (option(node(4, 1, bytes(38)), END), "neither of a GPT nor of an MBR"),
        (option(DISK, DISK, END), "two partitions"),
        (option(DISK, node(4, 4, b"\x00\xd8\0\0"), END), "file name is no UTF-16"),
        (option(DISK, node(4, 4, b"a"), END), "file name is no UTF-16"),
        (option(DISK, node(4, 4, "a".encode("utf-16-le")), END), "file name is no plain text"),
        (option(DISK, node(4, 4, text("a\0b")), END), "file name is no plain text"),
        (option(DISK, node(4, 4, text("\x1b")), END), "file name is no plain text"),
    ],
)
def test_an_odd_option_is_unknown(raw: bytes, why: str) -> None:
    found = parse_option(raw)
    assert isinstance(found, Unknown)
    assert why in found.why


@given(st.binary(max_size=300))
def test_any_bytes_are_an_option_or_unknown(raw: bytes) -> None:
    assert isinstance(parse_option(raw), LoadOption | Unknown)
    assert not is_ours(parse_option(raw))
    assert isinstance(parse_order(raw), Unknown) == bool(len(raw) % 2)


@given(st.integers(0), st.binary(max_size=8))
def test_any_spoiled_option_is_an_option_or_unknown(at: int, other: bytes) -> None:
    raw = bytearray(format_option(DEBIAN))
    raw[at % len(raw) : at % len(raw) + len(other)] = other
    assert isinstance(parse_option(bytes(raw)), LoadOption | Unknown)


@given(st.lists(st.integers(0, 0xFFFF), max_size=50))
def test_an_order_is_read_as_it_is_written(order: list[int]) -> None:
    assert parse_order(format_order(order)) == tuple(order)
    free = free_number(order)
    assert isinstance(free, int)
    assert free not in order
    assert parse_number(format_number(free)) == free


def test_half_a_number_is_no_order() -> None:
    assert isinstance(parse_order(b"\1\0\2"), Unknown)


def test_what_has_no_description_is_unknown() -> None:
    assert isinstance(parse_description(b"\1"), Unknown)


def test_where_all_numbers_are_taken_there_is_none() -> None:
    assert isinstance(free_number(range(0x10000)), Unknown)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Boot001A", 0x1A),
        ("Boot001a", 0x1A),
        ("BootOrder", None),
        ("Boot001", None),
        ("Boot0001x", None),
        ("BootABCD", 0xABCD),
        ("Boot٠٠٠١", None),
    ],
)
def test_names_of_entries(name: str, number: int | None) -> None:
    assert boot_number(name) == number


@pytest.mark.parametrize(
    ("known", "ours"),
    [
        (OURS, True),
        (LoadOption(description=TRIAL_ENTRY, file="/efi/TRIALBOOT/grubx64.efi"), True),
        (LoadOption(description=TRIAL_ENTRY, file="/EFI/debian/grubx64.efi"), False),
        (LoadOption(description="debian", file="/EFI/trialboot/grubx64.efi"), False),
        (Unknown("x"), False),
    ],
)
def test_an_entry_is_ours_by_name_and_by_file(known: LoadOption | Unknown, ours: bool) -> None:  # noqa: FBT001  a row of the table
    assert is_ours(known) is ours


# --- which GRUB, on which partition -------------------------------------------------------------

SIGNED = ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/fbx64.efi", "EFI/debian/grubx64.efi"]
SIGNED += ["EFI/debian/mmx64.efi", "EFI/debian/shimx64.efi", "EFI/trialboot/shimx64.efi"]
SHIM = Image("EFI/debian", ("shimx64.efi", "grubx64.efi", "mmx64.efi"))
PLAIN = LoadOption(description="debian", partition=GPT, file="/EFI/debian/grubx64.efi")
OTHER = LoadOption(description="other", partition=MBR, file="/EFI/other/grubx64.efi")
AUTO = LoadOption(description="UEFI Misc Device")
NONE = Unknown("none")


@pytest.mark.parametrize(
    ("started", "order", "image"),
    [
        (DEBIAN, [], SHIM),
        (PLAIN, [], Image("EFI/debian", ("grubx64.efi",))),
        (AUTO, [DEBIAN], Image("EFI/BOOT", ("BOOTX64.EFI",))),
        (OURS, [DEBIAN], SHIM),
        (OURS, [AUTO, OTHER], Image("EFI/BOOT", ("BOOTX64.EFI",))),
        (NONE, [AUTO, NONE, OTHER, DEBIAN], SHIM),
        (NONE, [], Image("EFI/BOOT", ("BOOTX64.EFI",))),
    ],
)
def test_the_grub_of_this_boot_is_found(
    started: LoadOption | Unknown, order: list[LoadOption | Unknown], image: Image
) -> None:
    assert image_of(started, order, GPT, SIGNED) == image


def test_shim_on_the_removable_path_has_its_grub_beside_it() -> None:
    files = ["EFI/BOOT/BOOTX64.EFI", "EFI/boot/GRUBX64.EFI"]
    assert image_of(NONE, [], GPT, files) == Image("EFI/BOOT", ("BOOTX64.EFI", "GRUBX64.EFI"))


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("/EFI/debian/gone.efi", "the ESP has no EFI/debian/gone.efi"),
        ("/EFI/Microsoft/Boot/bootmgfw.efi", "the ESP has no"),
        ("/EFI/BOOT/fbx64.efi", "not known to be GRUB"),
        ("/EFI/trialboot/shimx64.efi", "not known to be GRUB"),
    ],
)
def test_what_is_not_known_to_be_grub_is_not_copied(file: str, why: str) -> None:
    option = LoadOption(description="x", partition=GPT, file=file)
    found = image_of(option, [], GPT, SIGNED)
    assert isinstance(found, Unknown)
    assert why in found.why


UDEV = {
    "ID_PART_ENTRY_SCHEME": "gpt",
    "ID_PART_ENTRY_UUID": "03020100-0504-0706-0809-0a0b0c0d0e0f",
    "ID_PART_ENTRY_NUMBER": "1",
    "ID_PART_ENTRY_OFFSET": "2048",
    "ID_PART_ENTRY_SIZE": "262144",
}
DOS = {"ID_PART_ENTRY_SCHEME": "dos", "ID_PART_ENTRY_UUID": "7b007b00-01"}


def test_a_partition_is_made_from_what_udev_knows() -> None:
    assert partition_of(UDEV, 512) == GPT
    assert partition_of({**UDEV, **DOS, "ID_PART_ENTRY_SIZE": "98304"}, 512) == MBR
    large = partition_of(UDEV, 4096)
    assert isinstance(large, Partition)
    assert (large.start, large.size) == (256, 32768)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {**UDEV, "ID_PART_ENTRY_NUMBER": "x"},
        {**UDEV, "ID_PART_ENTRY_UUID": "7b007b00-01"},
        {**UDEV, "ID_PART_ENTRY_UUID": ""},
        {**UDEV, "ID_PART_ENTRY_SCHEME": "dos"},
        {**UDEV, "ID_PART_ENTRY_SCHEME": "sun"},
    ],
)
def test_a_partition_that_udev_does_not_tell_is_unknown(words: dict[str, str]) -> None:
    assert isinstance(partition_of(words, 512), Unknown)
