"""What stands around a trial: GRUB's own settings, lockups, room, units, kexec, Secure Boot."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.boot_hosts import BootHost
from tests.unit.loaders.host_folder import OURS, PLAIN
from trialboot.core.examined import GrubFiles, Room
from trialboot.core.facts import Unknown
from trialboot.host import Host
from trialboot.readers import safeguards
from trialboot.readers.safeguards import asks_for_password, entries_before_ours
from trialboot.writers import aptprotection

SECURE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def section(script: str, *lines: str) -> str:
    body = "".join(f"{line}\n" for line in lines)
    return f"### BEGIN /etc/grub.d/{script} ###\n{body}### END /etc/grub.d/{script} ###\n"


@pytest.fixture
def node(tmp_path: Path) -> BootHost:
    made = BootHost(tmp_path)
    made.write("/boot/grub/grub.cfg", PLAIN)
    made.write("/etc/grub.d/09_trialboot").chmod(0o755)
    return made


# --- GRUB ---------------------------------------------------------------------------------------


def test_debians_own_menu_is_in_nobodys_way(node: BootHost) -> None:
    fine = GrubFiles(script=True, before_ours=(), other_default=(), waits=False, password=False)
    assert safeguards.read_grub_files(node.host) == fine
    node.write("/boot/grub/grub.cfg", OURS)
    assert safeguards.read_grub_files(node.host) == fine


def test_a_script_that_does_not_run_is_seen(node: BootHost) -> None:
    (node.root / "etc/grub.d/09_trialboot").chmod(0o644)
    found = safeguards.read_grub_files(node.host)
    assert isinstance(found, GrubFiles)
    assert not found.script


def test_entries_before_ours_are_told_by_their_script() -> None:
    text = (
        section("00_header", "set timeout=5")
        + section("06_mine", "menuentry 'x' {", "}")
        + section("08_more", "\tsubmenu 'y' {", "}")
        + section("09_trialboot", "menuentry 'ours' {", "}")
        + section("10_linux", "menuentry 'theirs' {", "}")
    )
    assert entries_before_ours(text) == ("/etc/grub.d/06_mine", "/etc/grub.d/08_more")
    assert entries_before_ours(PLAIN) == ()


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert entries_before_ours(text) == ()
    asks_for_password(text)


def test_only_files_after_ours_replace_the_default(node: BootHost) -> None:
    for name, text in {
        "00-a.cfg": "GRUB_DEFAULT=0\n",
        "trialboot-panic.cfg": "GRUB_CMDLINE_LINUX=x\n",
        "trialboot.cfg": "GRUB_DEFAULT=saved\n",
        "x.cfg": "# GRUB_DEFAULT=0\n",
        "y.cfg": "  export GRUB_DEFAULT=0\n",
        "y-1.cfg": "GRUB_SAVEDEFAULT='true'\n",
        "y-2.cfg": "GRUB_SAVEDEFAULT=false\n",
        "z.cfg.off": "GRUB_DEFAULT=0\n",
    }.items():
        node.write(f"/etc/default/grub.d/{name}", text)
    found = safeguards.read_grub_files(node.host)
    assert isinstance(found, GrubFiles)
    assert found.other_default == ("/etc/default/grub.d/y-1.cfg", "/etc/default/grub.d/y.cfg")


def test_a_menu_that_waits_for_ever_is_seen(node: BootHost) -> None:
    node.write("/boot/grub/grub.cfg", PLAIN.replace("set timeout=5", "set timeout=-1"))
    found = safeguards.read_grub_files(node.host)
    assert isinstance(found, GrubFiles)
    assert found.waits


def test_a_password_counts_where_the_hosts_own_entries_ask_for_it() -> None:
    locked = f'set superusers="root"\npassword_pbkdf2 root grub.x\n{OURS}'
    assert asks_for_password(locked)
    free = locked.replace("--class gnu-linux", "--class gnu-linux --unrestricted")
    assert not asks_for_password(free)
    assert not asks_for_password(OURS)
    assert not asks_for_password(f'set superusers=""\n{OURS}')


def test_a_menu_that_cannot_be_read_is_not_known(node: BootHost) -> None:
    (node.root / "boot/grub/grub.cfg").unlink()
    found = safeguards.read_grub_files(node.host)
    assert isinstance(found, Unknown)
    assert "/boot/grub/grub.cfg" in found.why


# --- the host -----------------------------------------------------------------------------------


def test_settings_that_this_kernel_does_not_have_are_left_out(node: BootHost) -> None:
    assert safeguards.read_lockups(node.host) == ()
    node.write("/proc/sys/kernel/softlockup_panic", "1\n")
    node.write("/proc/sys/kernel/hung_task_panic", "garbage\n")
    assert safeguards.read_lockups(node.host) == (("softlockup_panic", 1),)


def test_room_is_asked_for_where_the_folder_will_be(node: BootHost) -> None:
    found = safeguards.read_room(node.host, "/var/lib/trialboot", 7)
    assert isinstance(found, Room)
    assert (found.needed, found.free > 0) == (7, True)


def test_room_that_cannot_be_asked_for_is_not_known() -> None:
    found = safeguards.read_room(Host(root=Path("/nowhere/at/all")), "/x")
    assert isinstance(found, Unknown)


def test_units_are_there_by_their_links(node: BootHost) -> None:
    missing = safeguards.read_rescue(node.host)
    assert len(missing) == 3
    assert not safeguards.read_gate(node.host)
    links = (*missing, "boot-complete.target.requires/trialboot-boot-check.service")
    for link in links:
        place = node.root / "etc/systemd/system" / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to("/usr/lib/systemd/system/x.service")
    assert safeguards.read_rescue(node.host) == ()
    assert safeguards.read_gate(node.host)


def test_what_apt_keeps_is_read_as_it_was_written(node: BootHost) -> None:
    def kept() -> str | Unknown | None:
        return safeguards.read_kept_by_apt(node.host, aptprotection.FOLDER, aptprotection.FILE)

    assert kept() is None
    (node.root / aptprotection.FOLDER.lstrip("/")).mkdir(parents=True)
    assert kept() == ""
    aptprotection.protect(node.host, "6.12.1+deb13-amd64")
    assert kept() == "6.12.1+deb13-amd64"
    node.write(aptprotection.FILE, "// nothing\n")
    assert kept() == ""
    (node.root / aptprotection.FILE.lstrip("/")).unlink()
    (node.root / aptprotection.FILE.lstrip("/")).mkdir()
    assert isinstance(kept(), Unknown)


def test_what_goes_past_the_boot_loader_is_told(node: BootHost) -> None:
    assert safeguards.read_kexec(node.host) == ()
    node.write("/sys/kernel/kexec_loaded", "1\n")
    node.write("/etc/default/kexec", "LOAD_KEXEC=false\n")
    assert safeguards.read_kexec(node.host) == ("a kernel is staged by kexec",)
    node.write("/etc/default/kexec", 'LOAD_KEXEC="true"\n')
    assert len(safeguards.read_kexec(node.host)) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\x06\0\0\0\1", "on"), (b"\x06\0\0\0\0", "off"), (None, "off")],
)
def test_secure_boot_is_one_byte(node: BootHost, content: bytes | None, told: str) -> None:
    assert safeguards.read_secure_boot(node.host) is None
    (node.root / "sys/firmware/efi").mkdir(parents=True)
    if content is not None:
        node.write(SECURE, content)
    assert safeguards.read_secure_boot(node.host) is (told == "on")


def test_secure_boot_that_is_no_byte_is_not_known(node: BootHost) -> None:
    node.write(SECURE, b"\x06\0\0\0")
    assert isinstance(safeguards.read_secure_boot(node.host), Unknown)
    (node.root / SECURE.lstrip("/")).unlink()
    (node.root / SECURE.lstrip("/")).mkdir()
    assert isinstance(safeguards.read_secure_boot(node.host), Unknown)


def test_a_host_of_rpms_is_one_without_dpkg(node: BootHost) -> None:
    assert not safeguards.read_rpm(node.host)
    node.write("/var/lib/rpm/rpmdb.sqlite")
    assert safeguards.read_rpm(node.host)
    node.write("/var/lib/dpkg/status")
    assert not safeguards.read_rpm(node.host)
