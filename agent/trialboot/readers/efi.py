"""What the UEFI firmware was told to start once, instead of the boot loader: BootNext."""

from typing import Final

from trialboot.core.facts import Unknown
from trialboot.host import Host

_VARIABLES: Final = "/sys/firmware/efi/efivars"
_GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""EFI_GLOBAL_VARIABLE (UEFI specification 2.10, 3.3)."""

_LARGEST: Final = 64 << 10
_ATTRIBUTES: Final = 4
"""efivarfs puts a variable's attributes before its value (Documentation/filesystems/efivarfs)."""

_DESCRIPTION: Final = 6
"""EFI_LOAD_OPTION (3.1.3): u32 Attributes, u16 FilePathListLength, then the description."""


def read_boot_next(host: Host) -> str | Unknown:
    """Name what the firmware starts at the next start only: `Boot0003 «Windows Boot Manager»`.

    Empty where there is no BootNext, no EFI, or where it names what was started this time too.
    """
    try:
        wanted = _variable(host, "BootNext")
        current = _variable(host, "BootCurrent")
        if wanted is None:
            return ""
        number = parse_number(wanted)
        if isinstance(number, Unknown):
            return Unknown(f"BootNext: {number.why}")
        if current is not None and parse_number(current) == number:
            return ""
        option = _variable(host, f"Boot{number:04X}")
    except OSError as error:
        return Unknown(f"EFI variables: {error.strerror}")
    return _told(number, option)


def parse_number(value: bytes) -> int | Unknown:
    """Give the u16 that BootNext and BootCurrent hold, without the attributes before it."""
    return int.from_bytes(value, "little") if len(value) == 2 else Unknown("not two bytes long")  # noqa: PLR2004  a u16


def parse_description(option: bytes) -> str | Unknown:
    """Give the description of a load option, without the attributes of its variable."""
    text = option[_DESCRIPTION:]
    ends = (at for at in range(0, len(text) - 1, 2) if text[at : at + 2] == b"\0\0")
    end = next(ends, None)
    if end is None:
        return Unknown("the description has no end")
    try:
        described = text[:end].decode("utf-16-le")
    except UnicodeDecodeError:
        return Unknown("the description is no UTF-16")
    return described if described.isprintable() else Unknown("the description is no plain text")


def _variable(host: Host, name: str) -> bytes | None:
    """Read a global variable; none if it is not there. Raises `OSError`."""
    try:
        with host.path(f"{_VARIABLES}/{name}-{_GLOBAL}").open("rb") as file:
            return file.read(_LARGEST)[_ATTRIBUTES:]
    except (FileNotFoundError, NotADirectoryError):
        return None


def _told(number: int, option: bytes | None) -> str | Unknown:
    name = f"Boot{number:04X}"
    if option is None:
        return Unknown(f"BootNext names {name}, which the firmware does not have")
    description = parse_description(option)
    if isinstance(description, Unknown):
        return Unknown(f"BootNext names {name}: {description.why}")
    return f"{name} «{description}»" if description else name
