"""The few lines that tie trialboot to apt, dpkg, kernel hooks and the bus."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest

from trialboot.config import Boot, Config, Node, Prove, Verify, parse_config

ROOT = Path(__file__).parents[3]
DASH = shutil.which("dash") or "/bin/sh"
HOOK = "/usr/lib/trialboot/package-hook"
NOTICE = "/usr/lib/trialboot/package-notice"
SCRIPTS = [
    *("packaging/build-deb", "packaging/dpkg/package-hook", "packaging/dpkg/zzz-trialboot"),
    *("packaging/dpkg/package-notice", "packaging/motd/85-trialboot"),
    *("debian/trialboot.postinst", "debian/trialboot.prerm", "debian/trialboot.postrm"),
    "debian/tests/smoke",
]


def apt_configuration(folder: Path) -> list[str]:
    """Have apt itself say what it understood, in its order."""
    apt_config = shutil.which("apt-config")
    if apt_config is None:
        pytest.skip("apt-config is not here")
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::parts "{ROOT}/packaging/apt"; Dir::Etc::main "/dev/null";\n'
    )
    return subprocess.run(
        [apt_config, "dump"],
        env={"PATH": "/usr/bin:/bin", "APT_CONFIG": str(configuration)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_apt_reads_our_configuration_as_it_is_meant(tmp_path: Path) -> None:
    dump = apt_configuration(tmp_path)
    assert f'DPkg::Pre-Install-Pkgs:: "{HOOK} begin 2>/dev/null || true";' in dump
    assert f'DPkg::Tools::Options::{HOOK}::Version "3";' in dump
    assert [line for line in dump if line.startswith("DPkg::Post-Invoke::")] == [
        f'DPkg::Post-Invoke:: "{HOOK} end 2>/dev/null || true";',
        f'DPkg::Post-Invoke:: "{NOTICE} 2>/dev/null || true";',
    ], "the notice comes after the end of what it tells of"


def test_every_line_for_apt_begins_with_its_program_and_survives_its_absence(
    tmp_path: Path,
) -> None:
    dump = apt_configuration(tmp_path)
    lines = [line.split('"')[1] for line in dump if "/usr/lib/trialboot/" in line and "||" in line]
    assert len(lines) == 3
    for line in lines:
        assert line.split()[0] in {HOOK, NOTICE}, "apt takes the protocol from the first word"
        assert line.endswith(" 2>/dev/null || true")
        absent = line.replace("/usr/lib/trialboot", str(tmp_path))
        done = subprocess.run(["/bin/sh", "-c", absent], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_our_lines_for_apt_come_before_those_of_others() -> None:
    (name,) = (path.name for path in (ROOT / "packaging/apt").iterdir())
    assert all(name < other for other in ("05etckeeper", "20packagekit", "99needrestart"))


HOSTS_OWN = {"GRUB_DEFAULT": "1>2", "GRUB_SAVEDEFAULT": "true"}


OURS, THEIRS = ["saved", "false", "1>2"], ["1>2", "true", ""]
WHOLE = "KERNEL={0}/kernel\nINITRDS='{0}/initrd {0}/second'\n"


def settings_of(place: Path) -> list[str]:
    """Read the file as grub-mkconfig does: default, whether GRUB saves, the host's own default."""
    text = (ROOT / "packaging/grub/trialboot.cfg").read_text()
    for file in ("/boot/trialboot/known-good.sh", "/etc/grub.d/09_trialboot"):
        assert file in text
        text = text.replace(file, f"{place}/{Path(file).name}")
    told = ["$GRUB_DEFAULT", "$GRUB_SAVEDEFAULT", "${TRIALBOOT_HOST_DEFAULT-}"]
    said = "\n".join(f'echo "{word}"' for word in told)
    done = subprocess.run(
        [DASH, "-euc", f"{text}\n{said}"],
        env={"PATH": "/usr/bin:/bin", **HOSTS_OWN},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def furnish(place: Path, known_good: str = WHOLE, **contents: str) -> None:
    """Make the files that trialboot.cfg asks for."""
    (place / "known-good.sh").write_text(known_good.format(place))
    for name in ("kernel", "initrd", "second"):
        (place / name).write_text(contents.get(name, name))
    (place / "09_trialboot").touch(mode=0o755)


@pytest.mark.parametrize(
    ("known_good", "contents", "settings"),
    [
        (WHOLE, {}, OURS),
        ("KERNEL={0}/kernel\n", {}, OURS),
        ("KERNEL={0}/kernel\nINITRDS=\n", {}, OURS),
        (WHOLE, {"kernel": ""}, THEIRS),
        (WHOLE, {"initrd": ""}, THEIRS),
        (WHOLE, {"second": ""}, THEIRS),
        ("KERNEL=\n", {}, THEIRS),
        ("INITRDS={0}/initrd\n", {}, THEIRS),
        ("KERNEL={0}/kernel\nINITRDS='\n", {}, THEIRS),
        ("", {}, THEIRS),
    ],
)
def test_grub_does_not_save_by_itself_what_is_picked_while_a_known_good_is_kept(
    tmp_path: Path, known_good: str, contents: dict[str, str], settings: list[str]
) -> None:
    furnish(tmp_path, known_good, **contents)
    assert settings_of(tmp_path) == settings


@pytest.mark.parametrize("name", ["known-good.sh", "09_trialboot", "kernel", "initrd", "second"])
def test_the_hosts_default_is_its_own_where_our_entry_is_not_written(
    tmp_path: Path, name: str
) -> None:
    furnish(tmp_path)
    (tmp_path / name).unlink()
    assert settings_of(tmp_path) == THEIRS


def test_a_script_that_does_not_run_writes_no_entry(tmp_path: Path) -> None:
    furnish(tmp_path)
    (tmp_path / "09_trialboot").chmod(0o644)
    assert settings_of(tmp_path) == THEIRS


def test_dpkg_calls_the_hook_and_survives_its_absence() -> None:
    lines = (ROOT / "packaging/dpkg/trialboot").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"pre-invoke={HOOK} dpkg-begin 2>/dev/null || true",
        f"post-invoke={HOOK} dpkg-end 2>/dev/null || true",
    ]


@pytest.mark.parametrize("folder", ["postinst.d", "postrm.d", "post-update.d"])
@pytest.mark.parametrize("status", [0, 1])
def test_a_kernel_hook_leaves_its_tag_and_cannot_fail(
    tmp_path: Path, folder: str, status: int
) -> None:
    said = tmp_path / "said"
    package_hook = tmp_path / "package-hook"
    package_hook.write_text(
        f'#!/bin/sh\necho "$*|$DPKG_HOOK_ACTION|$DPKG_FRONTEND_LOCKED" >{said}\n'
        f"echo noise\necho noise >&2\nexit {status}\n"
    )
    package_hook.chmod(0o755)
    hook = _kernel_hook(tmp_path / folder, str(package_hook))
    done = _run_hook(hook)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert said.read_text() == f"dpkg-end|kernel:{folder}/zzz-trialboot:6.1.0-1|\n"


def test_a_kernel_hook_is_silent_when_the_package_is_gone(tmp_path: Path) -> None:
    done = _run_hook(_kernel_hook(tmp_path, str(tmp_path / "absent")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _kernel_hook(folder: Path, package_hook: str) -> Path:
    folder.mkdir(exist_ok=True)
    hook = folder / "zzz-trialboot"
    text = (ROOT / "packaging/dpkg/zzz-trialboot").read_text()
    assert f"hook={HOOK}\n" in text
    hook.write_text(text.replace(HOOK, package_hook))
    return hook


def _run_hook(hook: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DASH, str(hook), "6.1.0-1", "/boot/vmlinuz-6.1.0-1"],
        env={"PATH": "/usr/bin:/bin", "DPKG_FRONTEND_LOCKED": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("motd", "said"),
    [
        (None, ""),
        ("", ""),
        ("The next boot switches the kernel.\n", "The next boot switches the kernel.\n"),
        ("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n"),
        ("a\x1b[31m\x07b\r\t«→»\n", "a[31mb«→»\n"),
        ("x" * 5000, "x" * 2000),
    ],
)
def test_the_message_of_the_day_says_what_the_daemon_wrote(
    tmp_path: Path, motd: str | None, said: str
) -> None:
    place = tmp_path / "motd"
    if motd is not None:
        place.write_bytes(motd.encode())
    script = tmp_path / "85-trialboot"
    text = (ROOT / "packaging/motd/85-trialboot").read_text()
    assert "\nmotd=/run/trialboot/motd\n" in text
    script.write_text(text.replace("motd=/run/trialboot/motd", f"motd={place}"))
    for output in ("", " >/dev/full", " >&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{DASH} {script}{output} 2>/dev/null"],
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode() == ("" if output else said)


def test_the_bus_lets_everybody_look_and_only_root_act() -> None:
    root = ET.parse(ROOT / "packaging/dbus/org.trialboot1.conf").getroot()  # noqa: S314  ours
    ours, others = root.findall("policy")
    assert ours.attrib == {"user": "root"}
    assert others.attrib == {"context": "default"}
    assert others[0].tag == "deny"
    assert others[0].attrib == {"send_destination": "org.trialboot1"}
    assert [(rule.tag, rule.get("send_member")) for rule in others[1:]] == [
        ("allow", "Introspect"),
        ("allow", "Get"),
        ("allow", "GetAll"),
        ("allow", "Status"),
    ]


def test_the_shipped_configuration_says_the_defaults() -> None:
    text = (ROOT / "packaging/trialboot.toml").read_text()
    assert parse_config(text) == Config()
    keys = [line.removeprefix("#") for line in text.splitlines() if _is_key(line)]
    assert parse_config("\n".join(keys)) == Config()
    named = {key.partition(" = ")[0] for key in keys if " = " in key}
    assert named == {
        "mode",
        *(f.name for kind in (Boot, Verify, Prove, Node) for f in fields(kind)),
    }


def _is_key(line: str) -> bool:
    """Tell a key, set or commented out, from prose: «#key», but «# prose»."""
    return bool(line) and not line.startswith("# ") and line != "#"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_plain_sh(script: str) -> None:
    done = subprocess.run(
        [DASH, "-n", str(ROOT / script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_versions_agree() -> None:
    first = (ROOT / "debian/changelog").read_text().splitlines()[0]
    version = first[first.index("(") + 1 : first.index(")")]
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    program = (ROOT / "agent/trialboot/__init__.py").read_text()
    assert f'__version__ = "{version}"\n' in program
