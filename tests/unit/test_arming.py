"""doctor, arm and disarm: a host that could not undo a trial is not armed."""

import io
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.boot_hosts import protected, systemd_boot
from trialboot import cli
from trialboot.arming import with_least, with_mode
from trialboot.config import PATH, Least, Mode, parse_config, read_config
from trialboot.core.doctor import ROWS
from trialboot.errors import ConfigError, HostError
from trialboot.host import Host

RAID: Final = "22 1 9:0 / / rw - ext4 /dev/md0 rw\n"


class Bus:
    """A systemd that knows no watchdog, and a daemon; keeps what the daemon was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.away = False

    def __call__(self, *words: Any, **_: Any) -> Any:
        if words[0] != "org.trialboot1":
            return 0
        if self.away:
            raise HostError("org.trialboot1: nobody has the name")
        self.told += [words[3]] if words[3] != "Status" else []
        return "{}"


def host_at(root: Path) -> Host:
    return Host(root=protected(root), call=Bus())


def raid(host: Host) -> None:
    host.path("/proc/self/mountinfo").write_text(RAID)
    host.path("/sys/dev/block/9:0/md").mkdir(parents=True)


def without_panic(host: Host) -> None:
    host.path("/proc/cmdline").write_text("BOOT_IMAGE=/vmlinuz ro\n")


def configure(host: Host, text: str) -> None:
    host.path(PATH).parent.mkdir(parents=True, exist_ok=True)
    host.path(PATH).write_text(text)


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_tells_the_level_then_the_worst_and_fits_one_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    raid(host)
    assert cli.main(["doctor"], host) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "protection: none",
        "  - GRUB cannot write its environment block through md",
    ]
    heads = [line for line in lines if not line.startswith(" ")]
    assert [head.partition(":")[0] for head in heads] == [
        "protection",
        "blocks arming",
        "lowers the protection",
        "not known",
        "to know",
        "fine",
    ]
    assert len(lines) <= 40
    at = lines.index("blocks arming:")
    assert lines[at + 1].startswith("  one-shot: GRUB cannot write")
    assert lines[at + 2].startswith("      → mount a plain partition of 1 MiB")


def test_doctors_json_has_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = host_at(tmp_path)
    assert cli.main(["doctor", "--json"], host) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"format", "level", "reasons", "notes", "as_root", "rows"}
    assert (found["format"], found["level"]) == (1, "panic-only")
    assert found["as_root"] is (os.geteuid() == 0)
    for row in found["rows"]:
        assert set(row) == {"subject", "state", "found", "remedy"}
        assert row["subject"] in ROWS


def test_doctor_tells_what_does_not_lower_the_level_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    host.path("/proc/self/mountinfo").write_text(RAID.replace("9:0", "8:2").replace("ext4", "xfs"))
    assert cli.main(["doctor"], host) == 0
    assert "  note: GRUB does not replay the log of xfs" in capsys.readouterr().out


def test_doctor_tells_scripts_by_its_code_only_if_asked(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    assert cli.main(["doctor", "--exit-code"], host) == 0
    configure(host, '[boot]\nleast_protection = "full"\n')
    assert cli.main(["doctor", "--exit-code"], host) == 1
    assert cli.main(["doctor"], host) == 0
    configure(host, "")
    raid(host)
    assert cli.main(["doctor", "--exit-code"], host) == 1
    host.path("/boot/grub/grub.cfg").unlink()
    assert cli.main(["doctor", "--exit-code"], host) == 2


def test_doctor_says_that_it_is_blind_without_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_at(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host.path("/boot/grub/grub.cfg").unlink()
    assert cli.main(["doctor"], host) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "not run as root: some of it is not known (sudo)"
    assert lines[1] == "protection: not known"
    assert not any(line.startswith("blocks arming") for line in lines)


def test_doctor_writes_nothing(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    cli.main(["doctor"], host)
    assert sorted(path for path in tmp_path.rglob("*")) == before


# --- arm ----------------------------------------------------------------------------------------


def test_arm_says_what_is_not_protected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    assert cli.main(["arm"], host) == 0
    said = capsys.readouterr().err
    assert "protection panic-only" in said
    assert "  - there is no hardware watchdog: a hang waits for somebody" in said
    assert read_config(host).mode is Mode.ARMED


@pytest.mark.parametrize("accept", [[], ["--accept-protection", "userspace-only"]])
def test_a_host_without_a_one_shot_is_never_armed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], accept: list[str]
) -> None:
    host = host_at(tmp_path)
    raid(host)
    assert cli.main(["arm", *accept], host) == 74
    said = capsys.readouterr().err
    assert "one-shot: GRUB cannot write its environment block through md" in said
    assert "not armed" in said
    assert not host.exists(PATH)
    assert host.call.told == []  # type: ignore[attr-defined]  # it is the Bus from above


def test_a_host_whose_level_is_not_known_is_not_armed(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    host.path("/boot/grub/grub.cfg").unlink()
    assert cli.main(["arm"], host) == 74
    assert not host.exists(PATH)


def test_a_level_that_cannot_be_told_is_said_to_be_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    host.path("/boot/grub/grubenv").mkdir()
    assert cli.main(["arm"], host) == 74
    assert "/boot/grub/grubenv: Is a directory" in capsys.readouterr().err


def test_set_and_unset_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--set", "panic", "--unset", "panic"], host_at(tmp_path))


def test_what_would_keep_our_entry_from_being_first_keeps_a_host_from_being_armed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    host.path("/etc/grub.d/09_trialboot").chmod(0o644)
    assert cli.main(["arm"], host) == 74
    assert "09_trialboot does not run" in capsys.readouterr().err


ASKING: Final = '[boot]\nleast_protection = "full"\n[node]\nenabled = false\n'


def test_below_the_least_protection_arming_wants_to_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    configure(host, ASKING)
    assert cli.main(["arm"], host) == 74
    said = capsys.readouterr().err
    assert "protection is panic-only, below boot.least_protection «full»" in said
    assert "«trialboot arm --accept-protection panic-only»" in said
    assert host.path(PATH).read_text() == ASKING


def test_accepting_less_is_lowering_it_in_the_file_that_the_daemon_obeys(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    configure(host, ASKING)
    assert cli.main(["arm", "--accept-protection", "userspace-only"], host) == 0
    config = read_config(host)
    assert (config.mode, config.boot.least_protection) == (Mode.ARMED, Least.USERSPACE_ONLY)
    assert not config.node.enabled


def test_what_is_accepted_must_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    without_panic(host)
    configure(host, ASKING)
    assert cli.main(["arm", "--accept-protection", "panic-only"], host) == 74
    assert "protection is userspace-only" in capsys.readouterr().err
    assert host.path(PATH).read_text() == ASKING


def test_accepting_less_than_is_there_lowers_nothing(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    configure(host, '[boot]\nleast_protection = "panic-only"\n')
    assert cli.main(["arm", "--accept-protection", "userspace-only"], host) == 0
    assert read_config(host).boot.least_protection is Least.PANIC_ONLY


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 74), ("", 74)])
def test_on_a_terminal_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    host = host_at(tmp_path)
    configure(host, ASKING)
    said = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", said)
    assert cli.main(["arm"], host) == code
    assert "Arm all the same, and lower it to «panic-only»? [y/N]" in said.getvalue()
    wanted = Least.PANIC_ONLY if code == 0 else Least.FULL
    assert read_config(host).boot.least_protection is wanted


# --- disarm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["disarm", "observe"])
def test_disarm_needs_no_boot_loader_and_names_what_doctor_has_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    systemd_boot(tmp_path)
    host = Host(root=tmp_path, call=Bus())
    configure(host, 'mode = "armed"\n')
    setting = host.path("/etc/default/grub.d/trialboot-panic.cfg")
    setting.parent.mkdir(parents=True)
    setting.write_text("x")
    assert cli.main([word], host) == 0
    said = capsys.readouterr().err
    assert "trialboot-panic.cfg stays; «trialboot doctor --unset panic» removes it" in said
    assert "watchdog" not in said
    assert read_config(host).mode is Mode.OBSERVE
    assert host.call.told == ["Reload"]  # type: ignore[attr-defined]  # it is the Bus from above


# --- the operator's file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", '[boot]\nleast_protection = "full"\n'),
        ('mode = "armed"', 'mode = "armed"\n[boot]\nleast_protection = "full"\n'),
        ("[boot]", '[boot]\nleast_protection = "full"\n'),
        ("[boot] # mine\n[node]\n", '[boot] # mine\nleast_protection = "full"\n[node]\n'),
        (
            "[boot]\n  least_protection = 'panic-only' # ok\n",
            '[boot]\n  least_protection = "full" # ok\n',
        ),
        (
            "[boot]\n#least_protection = 'panic-only'\n[node]\n",
            "[boot]\nleast_protection = \"full\"\n#least_protection = 'panic-only'\n[node]\n",
        ),
    ],
)
def test_the_least_protection_is_written_where_it_belongs(text: str, changed: str) -> None:
    assert with_least(text, Least.FULL) == changed


def test_a_file_that_is_not_understood_is_not_written() -> None:
    with pytest.raises(ConfigError):
        with_least('boot = "x"\n', Least.FULL)
    with pytest.raises(ConfigError):
        with_least("boot.least_protection = 'full'\n", Least.PANIC_ONLY)


@given(
    st.permutations(
        ["[boot]\n", "[verify]\nsettle_seconds = 3\n", "# text\n", "[node]\nname = 'a'\n"]
    ),
    st.sampled_from(Least),
)
def test_all_else_in_the_file_stays(parts: list[str], least: Least) -> None:
    text = "".join(parts)
    changed = with_least(with_mode(text, Mode.ARMED), least)
    config = parse_config(changed)
    assert (config.mode, config.boot.least_protection) == (Mode.ARMED, least)
    assert (config.verify.settle_seconds, config.node.name) == (3.0, "a")
    kept = changed.splitlines()
    assert [line for line in text.splitlines() if line not in kept] == []


@given(st.text(alphabet="[boot]=\n #'\"\\le ast_protection.fu"), st.sampled_from(Least))
def test_whatever_the_file_says_it_comes_out_as_meant_or_not_at_all(
    text: str, least: Least
) -> None:
    try:
        changed = with_least(text, least)
    except ConfigError:
        return
    assert parse_config(changed).boot.least_protection is least
