"""The package goes: the boot loader is given back, and nothing goes that a menu still boots."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DASH = shutil.which("dash") or "/bin/sh"
PRERM, POSTRM = "debian/trialboot.prerm", "debian/trialboot.postrm"
SPEC = "packaging/rpm/trialboot.spec"
RELEASE = "/usr/bin/python3 -I -B -m trialboot.workers.release"
STANDS_THERE = ("/boot/", "/efi/", "/var/lib/trialboot", "/run/systemd/system")
KEPT = ("boot/trialboot/aa/vmlinuz", "usr/lib/trialboot/kept/aa/firmware/x")
OURS = "menuentry 'known-good' {\n linux /trialboot/aa/vmlinuz\n}\n"
THEIRS = "### BEGIN /etc/grub.d/09_trialboot ###\nmenuentry 'own' {\n linux /vmlinuz\n}\n"


@dataclass(frozen=True)
class Run:
    """What a script ended with and said."""

    code: int
    said: str


def before_removal(root: Path, name: str, release: str) -> Run:
    """Run what comes before the files go, below another root; `release` is its worker."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name == SPEC:
        text = text.partition("\n%preun\n")[2].partition("\n%postun\n")[0]
    assert text.count(RELEASE) == 1
    text = text.replace(RELEASE, f"{root}/release").replace("/boot/efi/", "/boot-efi/")
    for place in STANDS_THERE:
        text = re.sub(rf"(?<= ){re.escape(place)}", f"{root}{place}", text)
    text = text.replace("/boot-efi/", f"{root}/boot/efi/")
    root.mkdir(exist_ok=True)
    program(root / "release", f"echo asked\n{release}")
    programs = root / "bin"
    programs.mkdir()
    (programs / "timeout").symlink_to(shutil.which("timeout") or "")
    return run(text, {"PATH": str(programs)}, "0" if name == SPEC else "remove")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(text: str, environment: dict[str, str], *words: str) -> Run:
    done = subprocess.run(
        [DASH, "-c", text, "script", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=20,
    )
    return Run(done.returncode, done.stdout)


def write(root: Path, path: str, text: str = "") -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.mark.parametrize("name", [PRERM, SPEC])
@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ((), False),
        (("var/lib/trialboot/contracts.json",), False),
        # The ESP is not mounted: systemd-boot's variables are ours all the same.
        (("var/lib/trialboot/decision.json",), True),
        (("boot/grub/grub.cfg",), True),
        (("boot/trialboot/known-good.sh",), True),
        (("efi/trialboot/aa/linux",), True),
        (("boot/efi/trialboot/aa/linux",), True),
    ],
)
def test_the_boot_loader_is_given_back_where_something_may_be_ours(
    tmp_path: Path,
    name: str,
    there: tuple[str, ...],
    asked: bool,  # noqa: FBT001  a column
) -> None:
    for path in there:
        write(tmp_path, path)
    assert before_removal(tmp_path, name, "exit 0") == Run(0, "asked\n" if asked else "")


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (PRERM, ("grub-editenv - unset saved_entry", "grub-editenv - unset next_entry")),
        (SPEC, ("grub2-editenv - unset saved_entry", "grub2-editenv - unset next_entry")),
    ],
)
def test_a_boot_loader_that_was_not_given_back_is_told_with_commands(
    tmp_path: Path, name: str, commands: tuple[str, ...]
) -> None:
    write(tmp_path, "var/lib/trialboot/decision.json")
    done = before_removal(tmp_path, name, "exit 1")
    assert done.code == 0, "a failure never keeps the package"
    assert "could not be given back" in done.said
    for word in (*commands, "efibootmgr -N", "bootctl set-default ''", "EFI/trialboot on the ESP"):
        assert word in done.said


# --- purge ---------------------------------------------------------------------------------------


def purge(root: Path) -> Run:
    """Run all of postrm below another root, where it calls none of GRUB's tools."""
    text = (ROOT / POSTRM).read_text(encoding="utf-8")
    return run(text, {"PATH": "/usr/bin:/bin", "DPKG_ROOT": str(root)}, "purge")


def vault(root: Path, menu: str | None) -> None:
    for path in (*KEPT, "var/lib/trialboot/decision.json", "boot/trialboot/known-good.sh"):
        write(root, path)
    if menu is not None:
        write(root, "boot/grub/grub.cfg", menu)


@pytest.mark.parametrize("menu", [None, THEIRS, ""])
def test_a_purge_takes_all_away(tmp_path: Path, menu: str | None) -> None:
    vault(tmp_path, menu)
    for partition in ("boot", "efi", "boot/efi"):
        write(tmp_path, f"{partition}/loader/entries/trialboot-known-good.conf")
        write(tmp_path, f"{partition}/trialboot/aa/linux")
    assert purge(tmp_path) == Run(0, "")
    left = [path for path in tmp_path.rglob("*") if "trialboot" in path.name]
    assert left == []


@pytest.mark.parametrize("menu", [OURS, "directory"])
def test_a_purge_keeps_what_the_menu_may_still_boot(tmp_path: Path, menu: str) -> None:
    vault(tmp_path, menu)
    restored = "lib/modules/1-gone/modules.dep"
    write(tmp_path, "usr/lib/trialboot/kept/aa/modules/1-gone/modules.dep")
    write(tmp_path, "usr/lib/trialboot/kept/aa/modules-restored")
    write(tmp_path, restored)
    if menu == "directory":
        (tmp_path / "boot/grub/grub.cfg").unlink()
        (tmp_path / "boot/grub/grub.cfg").mkdir()
    done = purge(tmp_path)
    assert done.code == 0
    assert f"{tmp_path}/boot/grub/grub.cfg still boots from /boot/trialboot" in done.said
    assert [path for path in (*KEPT, restored) if not (tmp_path / path).exists()] == []
    assert not (tmp_path / "boot/trialboot/known-good.sh").exists()
    assert not (tmp_path / "var/lib/trialboot").exists()


@pytest.mark.parametrize(("works", "told"), [(True, False), (False, True)])
def test_the_menu_is_made_anew_before_the_vault_goes(
    tmp_path: Path,
    works: bool,  # noqa: FBT001  a column of the table
    told: bool,  # noqa: FBT001  a column of the table
) -> None:
    """The functions alone, with places of a test and an update-grub of a test."""
    vault(tmp_path, OURS)
    whole = (ROOT / POSTRM).read_text(encoding="utf-8")
    found = [
        re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", whole, re.MULTILINE | re.DOTALL)
        for name in ("write_menu", "forget_in_grub")
    ]
    text = "".join(match[0] for match in found if match).replace("/boot/", f"{tmp_path}/boot/")
    (tmp_path / "bin").mkdir()
    boot = tmp_path / "boot"
    making = f"[ ! -e {boot}/trialboot/known-good.sh ] && [ -e {boot}/trialboot/aa/vmlinuz ]"
    program(
        tmp_path / "bin/update-grub",
        f"{making} && echo '{THEIRS}' >{boot}/grub/grub.cfg" if works else "exit 1",
    )
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    done = run(f"set -e\n{text}\nforget_in_grub", {"PATH": path}, "purge")
    assert (done.code, "still boots from" in done.said) == (int(told), told)
