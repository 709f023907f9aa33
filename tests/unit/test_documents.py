"""The documents say what the program does: keys, commands, exit codes and names are compared."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from trialboot import __version__, cli, errors, journal, metrics, report
from trialboot.config import Config
from trialboot.core.doctor import ROWS
from trialboot.core.language import Word
from trialboot.core.protection import Level
from trialboot.core.trial import Phase, Trial
from trialboot.errors import TrialbootError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT: Final = Path(__file__).parents[2]
MANUALS: Final = sorted((ROOT / "docs/man").glob("*.md"))
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ROW: Final = re.compile(r"^\| (`[^|]*`|[0-9]+) \|", re.MULTILINE)
LINK: Final = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Give what stands below a heading of any level, to the next of the same."""
    _, _, rest = re.split(rf"(?m)^(#+) {re.escape(title)}$", text, maxsplit=1)
    return re.split(r"(?m)^#{1,2} ", rest, maxsplit=1)[0]


def named(text: str) -> set[str]:
    """Give what the first column of the tables names."""
    return {word for cell in ROW.findall(text) for word in re.findall(r"[\w.]+", cell)}


def keys(section_of: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give each key of the configuration with its default, sections with a point."""
    for field in fields(section_of):
        value = getattr(section_of, field.name)
        if is_dataclass(value):
            yield from keys(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Word):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return str(value)


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.name)
def test_a_manual_page_builds_and_has_all_its_parts(manual: Path) -> None:
    pandoc = shutil.which("pandoc")
    assert pandoc, "pandoc is missing: apt-get install pandoc"
    words = ("--standalone", "--fail-if-warnings", "--from=markdown", "--to=man")
    argv = [pandoc, *words, str(manual)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("NAME", "SYNOPSIS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"):
        assert re.search(rf"^# {part}$", manual.read_text(encoding="utf-8"), re.MULTILINE), part
    name, number = manual.name.removesuffix(".md").rsplit(".", 1)
    assert f'.TH "{name.upper()}" "{number}"' in done.stdout
    assert f"trialboot {__version__}" in done.stdout


def test_the_manual_names_every_key_with_its_default() -> None:
    table = section(page("docs/man/trialboot.toml.5.md"), "KEYS")
    told = re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \|", table, re.MULTILINE)
    assert told == [(key, as_toml(value)) for key, value in keys(Config())]


def test_the_shipped_configuration_names_every_key_with_its_default() -> None:
    lines = page("packaging/trialboot.toml").splitlines()
    told = "\n".join(re.sub(r"^#(?=\w+ = )", "", line) for line in lines)
    found = tomllib.loads(told)
    flat = {
        **{key: value for key, value in found.items() if not isinstance(value, dict)},
        **{f"boot.{key}": value for key, value in found.get("boot", {}).items()},
        **{f"verify.{key}": value for key, value in found.get("verify", {}).items()},
        **{f"prove.{key}": value for key, value in found.get("prove", {}).items()},
        **{f"node.{key}": value for key, value in found.get("node", {}).items()},
    }
    wanted = {k: list(v) if isinstance(v, tuple) else v for k, v in keys(Config())}
    assert flat == wanted


def test_the_manual_names_every_command_and_option() -> None:
    text = section(page("docs/man/trialboot.1.md"), "COMMANDS")
    told = re.findall(r"^\*\*([\w-]+)\*\*", text, re.MULTILINE)
    actions = cli._parser()._actions
    verbs = next(a for a in actions if isinstance(a, argparse._SubParsersAction))
    assert told == list(verbs.choices)
    for parser in verbs.choices.values():
        for option in parser._option_string_actions:
            if option.startswith("--") and option not in {"--help", "--json"}:
                assert f"\\{option}**" in text, option


def test_the_tick_list_has_every_row_of_doctor_and_no_other() -> None:
    text, _ = section(page("docs/operations.md"), "Before you arm it").split(
        "What only you can know"
    )
    ticks = [line for line in text.splitlines() if line.startswith("- [ ] ")]
    heads = [line.partition(":")[0] for line in ticks]
    assert {name for head in heads for name in re.findall(r"\*\*(.+?)\*\*", head)} == set(ROWS)
    levels = re.findall(r"(?m)^\| `([\w-]+)` \|", text)
    assert levels == [str(level) for level in Level]


def test_every_exit_code_is_told() -> None:
    told = named(section(page("docs/man/trialboot.1.md"), "EXIT STATUS"))
    told |= named(section(page("docs/man/trialbootd.8.md"), "EXIT STATUS"))
    made = [e for e in vars(errors).values() if isinstance(e, type)]
    assert {str(e.exit_code) for e in made if issubclass(e, TrialbootError)} <= told


def test_every_key_of_the_state_is_told() -> None:
    view = report.View(
        at="",
        mode="observe",
        trial=Trial(),
        outlook=None,
        wished_cordon=False,
        delivered=None,
        waiting=False,
        trouble=(),
        counters={},
    )
    state = report.state_of(view)
    assert named(section(page("docs/man/trialboot.1.md"), "STATE")) == set(state)
    told = named(section(page("docs/operations.md"), "Metrics"))
    lines = metrics.render(state, 0.0).decode().splitlines()
    families = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert told == families


def test_every_message_id_is_told() -> None:
    told = named(section(page("docs/operations.md"), "Journal"))
    assert told == {journal.STEPPED, journal.JUDGED, journal.TROUBLE, journal.TRANSACTED}


@pytest.mark.parametrize("document", ["README.md", "docs/life-of-a-trial.svg"])
def test_the_picture_has_every_phase(document: str) -> None:
    text = page(document)
    shown = set(Phase) if document.endswith(".svg") else {Phase.STEADY, Phase.ARMED, Phase.TRIAL}
    assert [phase for phase in shown if str(phase) not in text] == []


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(text):
        there = document.parent / target if target else document
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", there.read_text(encoding="utf-8"))
            assert anchor[1:] in {_anchor(heading) for heading in headings}, anchor


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_decisions_are_numbered_and_dated() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    for number, path in enumerate(decisions, 1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.search(r"^20\d\d-\d\d-\d\d, accepted$", text, re.MULTILINE)
        titles = re.findall(r"(?m)^## (.*)$", text)
        assert titles == ["Context", "Decision", "Consequence"]


def test_the_changelog_knows_this_version() -> None:
    assert f"\n## {__version__} / " in page("CHANGELOG.md")


# --- the examples that reboot -------------------------------------------------------------------


class Shell:
    """A folder of programs that end as they are told, and tell that they were called."""

    def __init__(self, folder: Path, **codes: int) -> None:
        self.folder = folder
        cases = "".join(f"{verb}) exit {code} ;; " for verb, code in codes.items())
        self.program("trialboot", f'case "$1" in {cases}esac; exit 70')
        self.program("systemctl", f'echo "$*" >>{folder}/systemctl.called')
        self.program("kured", f'printf %s "$1" >{folder}/kured.called')

    def program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, *argv: str) -> int:
        path = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        return subprocess.run(argv, env=path, check=False, timeout=20).returncode

    def told(self, name: str) -> str:
        said = self.folder / f"{name}.called"
        return said.read_text() if said.exists() else ""


def example(document: str, words: str) -> str:
    """Give the one line of a document's examples that has these words."""
    lines = [line.strip() for line in page(document).splitlines()]
    (found,) = (line for line in lines if words in line and "--exit-code >" in line)
    return found


@pytest.mark.parametrize("may_reboot", [0, 1, 74])
@pytest.mark.parametrize("following", [0, 1, 2, 74, 127])
def test_the_examples_reboot_only_for_a_change_that_nothing_speaks_against(
    tmp_path: Path, following: int, may_reboot: int
) -> None:
    shell = Shell(tmp_path, **{"next": following, "may-reboot": may_reboot})
    wanted = (following, may_reboot) == (1, 0)
    shell.run("sh", "-c", example("docs/man/trialboot.1.md", "systemctl reboot"))
    assert shell.told("systemctl") == ("reboot\n" if wanted else "")
    # kured splits its option into words as a shell does, and runs them without one.
    assert shell.run("sh", "-c", example("docs/operations.md", "kured")) == 0
    option, _, sentinel = shell.told("kured").partition("=")
    assert option == "--reboot-sentinel-command"
    assert (shell.run(*shlex.split(sentinel)) == 0) is wanted
