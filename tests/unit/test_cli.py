"""The command line: data on stdout, words on stderr, codes that scripts can rely on."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.host.conftest import run_inside
from tests.unit.boot_hosts import controlled_fedora, controlled_systemd_boot, protected
from tests.unit.test_report import NEW, REFUSED, condemned, outlook, state, told, trial
from tests.unit.workers.debian_host import NEW as NEW_RELEASE
from tests.unit.workers.debian_host import OLD as OLD_RELEASE
from tests.unit.workers.debian_host import debian
from trialboot import __version__, byhand, cli, screens, statefile
from trialboot.config import PATH, Config, Mode, Verify, read_config
from trialboot.core.change import Area, Change
from trialboot.core.trial import Phase
from trialboot.core.verdict import Outcome
from trialboot.errors import HostError
from trialboot.host import Host

BUS: Final = ("org.trialboot1", "/org/trialboot1", "org.trialboot1.Manager")


@dataclass
class Shell:
    """Runs commands on a folder, and keeps what went over the bus."""

    root: Path
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    broken: BaseException | None = None
    daemon: dict[str, Any] = field(default_factory=dict)
    """What `Status` answers."""

    def run(self, *argv: str) -> int:
        return cli.main(argv, Host(root=self.root, call=self._call))

    def _call(self, *words: Any, **_: Any) -> Any:
        if words[:3] != BUS:
            return 0  # systemd, that knows no watchdog
        if self.broken:
            raise self.broken
        self.calls.append(words)
        return json.dumps(self.daemon)

    @property
    def asked(self) -> list[str]:
        """Say what the daemon was told; its status is asked by who only looks."""
        return [words[3] for words in self.calls if words[3] != "Status"]

    @property
    def file(self) -> Path:
        return self.root / PATH.lstrip("/")

    def configure(self, text: str) -> None:
        self.file.parent.mkdir(parents=True)
        self.file.write_text(text, encoding="utf-8")

    def knows(self, made: dict[str, Any]) -> None:
        statefile.write_state(Host(root=self.root), made)

    def config(self) -> Config:
        return read_config(Host(root=self.root))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def node(tmp_path: Path) -> Shell:
    """Give a shell on a host that survives a panic."""
    return Shell(protected(tmp_path))


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "next", "why"])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_without_a_state_file_a_command_says_what_to_do(
    shell: Shell, capsys: pytest.CaptureFixture[str], command: str, option: list[str]
) -> None:
    assert shell.run(command, *option) == 74
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "trialboot: /run/trialboot/state.json: No such file or directory; "
        "has trialbootd run since the last boot? (systemctl status trialbootd)\n"
    )


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("status", screens.status_lines),
        ("next", screens.next_lines),
        ("why", screens.why_lines),
    ],
)
def test_a_command_prints_the_reports_lines_and_asks_nobody(
    shell: Shell, capsys: pytest.CaptureFixture[str], command: str, lines: Any
) -> None:
    made = state(trial(Phase.ARMED, candidate=NEW))
    shell.knows(made)
    assert shell.run(command) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == lines(made)
    assert (said.err, shell.calls) == ("", [])


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("status", set(state(trial(Phase.STEADY)))),
        ("next", {"format", "phase", "refused", "next"}),
        ("why", {"format", "phase", "story", "condemned", "verdict"}),
    ],
)
def test_json_is_one_object_with_a_format(
    shell: Shell, capsys: pytest.CaptureFixture[str], command: str, keys: set[str]
) -> None:
    made = state(trial(Phase.RECOVERED, condemned=condemned("r"), story=told("«é»")))
    shell.knows(made)
    assert shell.run(command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == keys
    assert found["format"] == 1
    assert {key: made[key] for key in keys} == found


@pytest.mark.parametrize(
    ("rows", "option", "code"),
    [
        ((), [], 0),
        ((), ["--exit-code"], 0),
        (("a",), [], 0),
        (("a",), ["--exit-code"], 1),
        (("a", "b"), ["--exit-code", "--json"], 1),
    ],
)
def test_next_tells_scripts_by_its_code_only_if_asked(
    shell: Shell, rows: tuple[str, ...], option: list[str], code: int
) -> None:
    changes = tuple(Change(area=Area.INITRD, subject=s, before="a", after="b") for s in rows)
    shell.knows(state(trial(Phase.STEADY), outlook=outlook(changes=changes)))
    assert shell.run("next", *option) == code


# --- verdicts -----------------------------------------------------------------------------------


def test_each_outcome_has_a_code_of_its_own() -> None:
    assert dict(byhand.OUTCOME_CODES) == {Outcome.SOUND: 0, Outcome.WORSE: 1, Outcome.UNSURE: 2}


def impatient(shell: Shell) -> None:
    shell.configure("[verify]\ndeadline_seconds = 0\nminimum_settle_seconds = 0\n")
    for name in ("proc", "sys"):
        (shell.root / name).symlink_to(f"/{name}")


@pytest.mark.host
def test_verify_judges_now_and_its_json_parses(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    impatient(shell)
    code, out = run_inside(lambda: (shell.run("verify", "--json"), capsys.readouterr().out))
    found = json.loads(out)
    # A namespace of its own has no default route: nothing can be told.
    assert (code, found["verdict"]["outcome"], found["format"]) == (2, "unsure", 1)
    assert '"is"' not in out
    assert not (shell.root / "var").exists(), "a look by hand leaves nothing behind"


@pytest.mark.host
def test_run_once_changes_nothing_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = debian(tmp_path)
    impatient_host = Shell(tmp_path)
    impatient_host.configure("[verify]\ndeadline_seconds = 0\nminimum_settle_seconds = 0\n")
    before = contents(tmp_path / "boot")
    code, out = run_inside(
        lambda: (cli.main(["run", "--once"], host.host), capsys.readouterr().out)
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "The next boot changes nothing that could be seen."
    assert "verdict on this boot:" in lines
    assert contents(tmp_path / "boot") == before
    assert not (tmp_path / "var/lib/trialboot").exists()
    assert not any(words[3] == "Reboot" for words in host.called)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.host
def test_a_host_that_cannot_be_looked_at_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = debian(tmp_path)
    (tmp_path / "proc/version").unlink()
    Shell(tmp_path).configure("[verify]\ndeadline_seconds = 0\nminimum_settle_seconds = 0\n")
    told = run_inside(lambda: (cli.main(["run", "--once"], host.host), capsys.readouterr()))
    assert told[0] == 0
    why = "what the next boot changes is not known: the running kernel cannot be read"
    assert why in told[1].err
    assert "What the next boot changes is not known yet" in told[1].out


def test_next_now_looks_by_itself_and_remembers_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = debian(tmp_path)
    assert cli.main(["next", "--now", "--exit-code"], host.host) == 0
    assert capsys.readouterr().out.startswith("The next boot changes nothing that")
    assert not (tmp_path / "var/lib/trialboot").exists()
    host.install_kernel(NEW_RELEASE, "bnx2")
    host.menu(NEW_RELEASE)
    host.boots(OLD_RELEASE, started=0)
    assert cli.main(["next", "--now", "--exit-code"], host.host) == 2
    assert "has changed since this boot" in capsys.readouterr().out


# --- may it be rebooted -------------------------------------------------------------------------


def test_may_reboot_answers_by_its_exit_code(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.daemon = state(trial(Phase.STEADY))
    assert shell.run("may-reboot") == 0
    assert capsys.readouterr().out == "yes: nothing speaks against a reboot\n"
    shell.daemon = state(trial(Phase.TRIAL), against_reboot=("this boot is on trial",))
    assert shell.run("may-reboot") == 1
    assert capsys.readouterr().out == "no:\n  this boot is on trial\n"
    assert shell.run("may-reboot", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {"format": 1, "answer": False, "reasons": ["this boot is on trial"]}


def test_may_reboot_is_not_answered_by_what_a_dead_daemon_left(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.knows(state(trial(Phase.STEADY)))
    shell.broken = HostError("org.trialboot1 Status: nobody has the name")
    assert shell.run("may-reboot") == 74
    assert "only the running daemon knows" in capsys.readouterr().err


def test_allow_says_where_there_is_nothing_to_allow(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.knows(state(trial(Phase.STEADY)))
    assert shell.run("allow") == 74
    assert "nothing to allow" in capsys.readouterr().err
    shell.knows(state(trial(Phase.STEADY, refused=replace(REFUSED, obstacles=("no one-shot",)))))
    assert shell.run("allow") == 74
    assert "cannot try it, whatever is allowed: no one-shot" in capsys.readouterr().err
    shell.knows(state(trial(Phase.STEADY, refused=REFUSED)))
    assert shell.run("allow") == 0
    assert shell.calls == [(*BUS, "Allow")]


# --- acting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [controlled_fedora, controlled_systemd_boot])
def test_a_host_of_any_loader_that_is_known_is_armed(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path)
    shell = Shell(tmp_path)
    assert shell.run("arm") == 0
    assert 'mode = "armed"' in shell.file.read_text()


COMMENTED: Final = """\
# my own words
mode = "observe"

# more of them
[verify]
units = ["kubelet.service"]  # and here
"""


def test_arm_changes_one_line_and_keeps_the_rest(node: Shell) -> None:
    node.configure(COMMENTED)
    assert node.run("arm") == 0
    assert node.file.read_text() == COMMENTED.replace("observe", "armed")
    assert node.run("observe") == 0
    assert node.file.read_text() == COMMENTED
    assert node.file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "armed"),
    [
        ('  mode = "observe"\n', '  mode = "armed"\n'),
        ("mode='observe' # for now\n", 'mode="armed" # for now\n'),
        ('mode = "ARMED" # no such word', 'mode = "armed" # no such word'),
        ("mode = true\n[node]\n", 'mode = "armed"\n[node]\n'),
    ],
)
def test_the_line_is_found_however_it_is_written_and_its_comment_stays(
    node: Shell, text: str, armed: str
) -> None:
    node.configure(text)
    assert node.run("arm") == 0
    assert node.file.read_text() == armed


def test_arm_without_a_file_makes_one(node: Shell) -> None:
    assert node.run("arm") == 0
    assert node.file.read_text() == 'mode = "armed"\n'
    assert node.config() == Config(mode=Mode.ARMED)


def test_arm_puts_a_missing_line_above_the_first_section(node: Shell) -> None:
    node.configure('# mode = "armed" arms\n[verify]\nsettle_seconds = 3\n')
    assert node.run("arm") == 0
    assert node.config() == Config(mode=Mode.ARMED, verify=Verify(settle_seconds=3.0))
    assert node.file.read_text().endswith('# mode = "armed" arms\n[verify]\nsettle_seconds = 3\n')


@pytest.mark.parametrize("command", ["arm", "disarm", "observe"])
def test_the_daemon_is_asked_to_read_the_file_again(
    node: Shell, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert node.run(command) == 0
    assert node.asked == ["Reload"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "«trialboot status» shows what follows" in said.err


@pytest.mark.parametrize(
    ("text", "told_why"),
    [
        ('moed = "armed"\n', "unknown key: moed"),
        ("[verify]\nunits = 3\n", "verify.units must be a list of names"),
        ("[verify\n", "Expected"),
        ('[verify]\nsettle_seconds = 1\nmode = "observe"\n', "unknown key: verify.mode"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_written(
    node: Shell, capsys: pytest.CaptureFixture[str], text: str, told_why: str
) -> None:
    node.configure(text)
    assert node.run("arm") == 78
    assert told_why in capsys.readouterr().err
    assert (node.file.read_text(), node.asked) == (text, [])


def test_a_file_that_cannot_be_written_asks_for_root(
    node: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.root / "etc/trialboot").write_text("not a folder")
    assert node.run("arm") == 74
    assert capsys.readouterr().err.endswith("are you root?\n")
    assert node.asked == []


def test_a_daemon_that_is_away_is_told_and_the_mode_holds_for_its_next_start(
    node: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    node.broken = HostError("org.trialboot1: the name is not activatable")
    assert node.run("arm") == 74
    assert "org.trialboot1: the name" in capsys.readouterr().err
    assert node.config().mode is Mode.ARMED


def test_retry_goes_over_the_bus(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run("retry") == 0
    assert shell.calls == [(*BUS, "Retry")]
    assert capsys.readouterr().out == ""


def test_a_refusal_of_the_daemon_is_one_line_and_its_code(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.broken = HostError("org.trialboot1 Retry: only root may")
    assert shell.run("retry") == 74
    assert capsys.readouterr().err == "trialboot: org.trialboot1 Retry: only root may\n"


def test_an_interrupt_ends_as_shells_expect(shell: Shell) -> None:
    shell.broken = KeyboardInterrupt()
    assert shell.run("retry") == 130


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["explode"], ["status", "--colour"]])
def test_a_wrong_command_line_is_told_on_stderr(
    shell: Shell, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        shell.run(*argv)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err.startswith("usage: trialboot")) == ("", True)


def test_the_version_is_ours(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        shell.run("--version")
    assert (left.value.code, capsys.readouterr().out) == (0, f"trialboot {__version__}\n")
