"""What the UEFI firmware was told to start once, instead of the boot loader: BootNext."""

from trialboot import efivariables
from trialboot.core.efi import is_ours, parse_description, parse_number, parse_option
from trialboot.core.facts import Unknown
from trialboot.host import Host


def read_boot_next(host: Host) -> str | Unknown:
    """Name what the firmware starts at the next start only: `Boot0003 «Windows Boot Manager»`.

    Empty where there is no BootNext, no EFI, or where it names what was started this time too, or
    the entry of ours, which is the loader's one-shot.
    """
    try:
        wanted = efivariables.read(host, "BootNext")
        current = efivariables.read(host, "BootCurrent")
        if wanted is None:
            return ""
        number = parse_number(wanted)
        if isinstance(number, Unknown):
            return Unknown(f"BootNext: {number.why}")
        if current is not None and parse_number(current) == number:
            return ""
        option = efivariables.read(host, f"Boot{number:04X}")
    except OSError as error:
        return Unknown(f"EFI variables: {error.strerror}")
    if option is not None and is_ours(parse_option(option)):
        return ""
    return _told(number, option)


def _told(number: int, option: bytes | None) -> str | Unknown:
    name = f"Boot{number:04X}"
    if option is None:
        return Unknown(f"BootNext names {name}, which the firmware does not have")
    description = parse_description(option)
    if isinstance(description, Unknown):
        return Unknown(f"BootNext names {name}: {description.why}")
    return f"{name} «{description}»" if description else name
