"""Doctor's rows on the boot loader: its menu and one-shot, the known-good in it, room for more."""

from typing import Final

from trialboot.core.examined import ALMOST_FULL, Examined, GrubFiles, Row, State
from trialboot.core.facts import Unknown
from trialboot.core.menu import GRUB_BLS, KNOWN_GOOD, SAVED, SYSTEMD_BOOT, Menu
from trialboot.core.protection import Level

_MEBIBYTE: Final = 1 << 20
_VARIABLE: Final = "the EFI variable LoaderEntryOneShot"
_WITHOUT_BLOCK: Final = (
    "mount a plain partition of 1 MiB or more with ext4 or vfat (no RAID, LVM, encryption) below "
    "/boot, such as an ESP on /boot/efi, or allow kexec with boot.by_kexec = true in "
    "trialboot.toml: «What carries the one-shot» in operations.md"
)


def boot_loader(seen: Examined) -> Row:
    """Tell whether the loader is known, and one that is written."""
    if isinstance(seen.menu, Unknown):
        return Row(
            subject="boot loader",
            state=State.BLOCKS if seen.as_root else State.UNKNOWN,
            found=f"its menu is not understood: {seen.menu.why}",
            remedy="mend the file that is named; «trialboot next --now» as root tries again",
        )
    if seen.uncontrolled:
        return Row(
            subject="boot loader",
            state=State.BLOCKS,
            found=seen.uncontrolled,
            remedy="stay in observe mode: trialboot disarm",
        )
    return Row(subject="boot loader", state=State.FINE, found=seen.menu.loader)


def one_shot(seen: Examined) -> Row:
    """Tell what holds the one-shot, or why nothing can."""
    found = seen.protection
    if isinstance(found, Unknown):
        blind = isinstance(seen.menu, Unknown) or seen.uncontrolled
        why = "it takes a boot loader that is written" if blind else found.why
        return Row(subject="one-shot", state=State.UNKNOWN, found=why, remedy=_ask_root(seen))
    if found.level is Level.NONE:
        why = "; ".join(found.against_once or found.reasons) or "no one-shot can be relied on"
        return Row(subject="one-shot", state=State.BLOCKS, found=why, remedy=_WITHOUT_BLOCK)
    by_variable = isinstance(seen.menu, Menu) and seen.menu.loader == SYSTEMD_BOOT
    carrier = _VARIABLE if by_variable else found.carrier
    return Row(subject="one-shot", state=State.FINE, found=f"held by {carrier}")


def _ask_root(seen: Examined) -> str:
    return "" if seen.as_root else "sudo trialboot doctor"


def known_good(seen: Examined) -> Row:
    """Tell whether there is a boot set to go back to, whole."""
    state, found, remedy = _known_good(seen)
    return Row(subject="known-good", state=state, found=found, remedy=remedy)


def _known_good(seen: Examined) -> tuple[State, str, str]:
    kept = seen.kept
    if kept is None:
        text = "none yet: a boot set earns it by a sound verdict"
        return State.NOTE, text, "trialboot arm: this boot proves itself, and is kept"
    if isinstance(kept, Unknown):
        return State.UNKNOWN, kept.why, _ask_root(seen)
    if not kept.pinned:
        text = f"{kept.release} has proven itself and is not kept"
        return State.NOTE, text, "trialboot arm: it is kept while the host is armed"
    if isinstance(kept.damage, Unknown):
        text = f"{kept.release} is kept; whether it is whole is not known: {kept.damage.why}"
        return State.UNKNOWN, text, _ask_root(seen)
    if kept.damage:
        text = f"{kept.release} is not whole: {'; '.join(kept.damage)}"
        remedy = "systemctl restart trialbootd: it mends what this host still has, or says why not"
        return State.LOWERS, text, remedy
    return State.FINE, f"{kept.release} is earned, kept, and whole by hash", ""


# --- the menu -----------------------------------------------------------------------------------


def menu_entry(seen: Examined) -> Row | None:
    """Tell whether our entry is, or will be, the first of the menu."""
    menu = seen.menu
    if isinstance(menu, Unknown) or seen.uncontrolled:
        return None
    state, found, remedy = _scripts(seen.grub) or _entry(seen, menu)
    return Row(subject="known-good entry", state=state, found=found, remedy=remedy)


def _scripts(grub: GrubFiles | Unknown | None) -> tuple[State, str, str] | None:
    """Say what of GRUB's scripts keeps our entry from being the first one."""
    if grub is None:
        return None
    if isinstance(grub, Unknown):
        return State.UNKNOWN, grub.why, "sudo trialboot doctor"
    if not grub.script:
        text = "/etc/grub.d/09_trialboot does not run"
        return State.BLOCKS, text, "chmod +x /etc/grub.d/09_trialboot, or reinstall trialboot"
    if grub.before_ours:
        text = f"not the first of the menu: before it come those of {', '.join(grub.before_ours)}"
        remedy = f"mv {grub.before_ours[0]} /etc/grub.d/40_NAME && update-grub"
        return State.BLOCKS, text, remedy
    return None


def _entry(seen: Examined, menu: Menu) -> tuple[State, str, str]:
    kept = seen.kept
    if isinstance(kept, Unknown):
        return State.UNKNOWN, kept.why, _ask_root(seen)
    if kept is None or not kept.pinned:
        return State.FINE, "none is needed yet; nothing sorts before it", ""
    if menu.known_good != kept.fingerprint or not menu.entries:
        text = "the menu has no entry for the known-good"
        return State.LOWERS, text, "systemctl restart trialbootd: it installs the entry again"
    first = min(menu.entries, key=lambda entry: entry.place)
    if menu.default_spec == SAVED and first.entry != KNOWN_GOOD:
        return State.LOWERS, f"«{first.title}» comes before it", "update-grub"
    return State.FINE, "in the menu, before all others", ""


def default(seen: Examined) -> Row | None:
    """Tell whether the loader's default is, or will be, ours to set."""
    menu = seen.menu
    if isinstance(menu, Unknown) or seen.uncontrolled:
        return None
    state, found, remedy = _default(seen, menu)
    return Row(subject="default", state=state, found=found, remedy=remedy)


def _default(seen: Examined, menu: Menu) -> tuple[State, str, str]:
    if isinstance(seen.grub, GrubFiles) and seen.grub.other_default:
        file = seen.grub.other_default[0]
        text = f"{file} sets GRUB_DEFAULT or GRUB_SAVEDEFAULT after trialboot.cfg"
        return State.BLOCKS, text, f"take it out of {file} and run update-grub"
    ours = menu.known_good and seen.grub is not None
    if ours and menu.default_spec != SAVED:
        text = f"GRUB_DEFAULT is «{menu.default_spec}», not saved"
        return State.BLOCKS, text, "update-grub, then look at /etc/default/grub.d"
    if ours and menu.saved != KNOWN_GOOD:
        text = f"it is «{menu.saved}», which somebody saved after us"
        return State.NOTE, text, "grub-set-default trialboot-known-good, or leave it: it is obeyed"
    return State.FINE, "the known-good" if menu.known_good else "the host's own until armed", ""


def entries(seen: Examined) -> Row | None:
    """Tell of entries that are never tried; of some a boot is not known either."""
    menu = seen.menu
    if isinstance(menu, Unknown) or not menu.entries:
        return None
    doubted = [entry for entry in menu.entries if entry.doubt]
    if not doubted:
        return Row(subject="entries", state=State.FINE, found="what each boots is known")
    more = f", and {len(doubted) - 1} more" if doubted[1:] else ""
    return Row(
        subject="entries",
        state=State.NOTE,
        found=f"never tried: «{doubted[0].title}»{more}: {doubted[0].doubt}",
        remedy="give each entry an id of its own, one kernel, and its arguments in words",
    )


def menu_waits(seen: Examined) -> Row | None:
    """Tell whether the menu lets a trial begin, and end, without anybody there."""
    grub = seen.grub
    if grub is None or isinstance(grub, Unknown):
        return None
    if grub.waits:
        return Row(
            subject="menu",
            state=State.LOWERS,
            found="it waits for ever: a host that comes back waits for somebody",
            remedy="set GRUB_TIMEOUT and GRUB_RECORDFAIL_TIMEOUT to 5 in /etc/default/grub; "
            "update-grub",
        )
    if grub.password:
        return Row(
            subject="menu",
            state=State.LOWERS,
            found="entries ask for a password: a trial waits for somebody",
            remedy="add --unrestricted to CLASS in /etc/grub.d/10_linux; update-grub",
        )
    return Row(subject="menu", state=State.FINE, found="it waits for nobody")


# --- room and surroundings ----------------------------------------------------------------------


def room_in_boot(seen: Examined) -> Row:
    """Tell whether /boot can take another boot set: links are none once packages replace files."""
    if isinstance(seen.boot, Unknown):
        return Row(subject="room in /boot", state=State.UNKNOWN, found=seen.boot.why)
    found = f"{_mebibytes(seen.boot.free)} free, a boot set takes {_mebibytes(seen.boot.needed)}"
    if seen.boot.free < max(seen.boot.needed, ALMOST_FULL):
        remedy = "apt-get autoremove --purge, or «/boot is full» in operations.md"
        return Row(subject="room in /boot", state=State.LOWERS, found=found, remedy=remedy)
    return Row(subject="room in /boot", state=State.FINE, found=found)


def _mebibytes(size: int) -> str:
    return f"{size // _MEBIBYTE} MiB"


def kexec(seen: Examined) -> Row:
    """Tell whether a reboot may go past the boot loader, where no trial is."""
    if seen.kexec:
        return Row(
            subject="kexec",
            state=State.NOTE,
            found=f"{'; '.join(seen.kexec)}: such a reboot goes past the boot loader, and is no "
            "trial",
            remedy="LOAD_KEXEC=false in /etc/default/kexec; kexec -u",
        )
    return Row(subject="kexec", state=State.FINE, found="reboots go through the boot loader")


def secure_boot(seen: Examined) -> Row | None:
    """Tell what Secure Boot means for what is kept; a note, as nothing of ours is signed."""
    if seen.secure_boot is None:
        return None
    if isinstance(seen.secure_boot, Unknown):
        return Row(subject="Secure Boot", state=State.UNKNOWN, found=seen.secure_boot.why)
    if seen.secure_boot:
        text = "on: a kept kernel keeps its signature; initrds are not verified"
        return Row(subject="Secure Boot", state=State.NOTE, found=text)
    return Row(subject="Secure Boot", state=State.FINE, found="off")


def rpm_host(seen: Examined) -> Row | None:
    """Say of hosts with rpm and boot entries what nobody has tried."""
    bls = isinstance(seen.menu, Menu) and seen.menu.loader == GRUB_BLS
    if not (seen.rpm or bls):
        return None
    text = "written from documentation and source, and tried on fixtures only"
    remedy = "try one trial that may fail on a host that you can reach by its console"
    return Row(subject="rpm host", state=State.NOTE, found=text, remedy=remedy)
