"""The few lines that tie trialboot to dnf, rpm and kernel-install never fail."""

import ast
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.spooled import take_notes
from trialboot.core.packagenote import Note
from trialboot.host import Host

ROOT = Path(__file__).parents[3]
DASH = shutil.which("dash") or "/bin/sh"
OURS = "/usr/lib/trialboot"
QUESTION = '{"op":"get","domain":"trans_packages","args":{"output":["action","full_nevra"]}}\n'
REFUSAL = (
    '{"op":"reply","requested_op":"get","domain":"trans_packages","status":"ERROR",'
    '"message":"Domain \\"trans_packages\\" used outside the hooks"}\n'
)
SCRIPTS = (
    *("packaging/build-rpm", "packaging/dnf/dnf5-hook"),
    "packaging/kernel-install/99-zz-trialboot.install",
)
# Planned packages, and whether they touch what boots.
NAMES = [("kernel-core", True), ("microcode_ctl", True), ("kubelet", False)]


class Place:
    """Copies of the glue whose fixed places lie below a test's own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "var/lib/trialboot/spool"
        self.spool.mkdir(parents=True)
        self.state = folder / "run/trialboot"
        self.state.mkdir(parents=True)
        self.notice = self.script("package-notice", "echo look; echo noise >&2")
        self.hook = self.copy("packaging/dpkg/package-hook", "package-hook")

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def copy(self, source: str, name: str) -> Path:
        text = (ROOT / source).read_text(encoding="utf-8")
        for fixed in (f"{OURS}/package-", "/var/lib/trialboot", "/run/trialboot"):
            there = (
                f"{self.folder}/package-" if fixed.startswith(OURS) else f"{self.folder}{fixed}"
            )
            text = text.replace(fixed, there)
        assert str(self.folder) in text
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    @property
    def flag(self) -> bool:
        return (self.state / "plan-touches-boot").exists()

    def notes(self) -> tuple[Note, ...]:
        return take_notes(Host(root=self.folder))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_plain_sh(script: str) -> None:
    done = subprocess.run(
        [DASH, "-n", str(ROOT / script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- dnf5 ----------------------------------------------------------------------------------------


def test_the_actions_use_no_option_newer_than_the_oldest_plugin() -> None:
    lines = (ROOT / "packaging/dnf/trialboot.actions").read_text().splitlines()
    actions = [line.split(":", 4) for line in lines if not line.startswith("#")]
    assert [[callback, command] for callback, *_, command in actions] == [
        ["pre_transaction", f"{OURS}/dnf5-hook begin"],
        ["post_transaction", f"{OURS}/dnf5-hook end"],
    ]
    for _, names, direction, options, _ in actions:
        assert (names, direction) == ("", "")
        assert {option.partition("=")[0] for option in options.split()} == {"enabled", "mode"}


def _dnf5(place: Place, event: str, reply: str = "") -> tuple[str, str]:
    """Run the hook as dnf5 does; whatever happens it must end with 0."""
    hook = place.copy("packaging/dnf/dnf5-hook", "dnf5-hook")
    done = subprocess.run(
        [DASH, str(hook), event],
        input=reply,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0
    return done.stdout, done.stderr


def _reply(*names: str, action: str = "I") -> str:
    """Answer as dnf5 5.4.6 does."""
    packages = ", ".join(
        f'{{ "action": "{action}", "full_nevra": "{name}-0:1.0-1.x86_64" }}' for name in names
    )
    return (
        '{ "op": "reply", "requested_op": "get", "domain": "trans_packages", '
        f'"return": {{ "trans_packages": [ {packages} ] }}, "status": "OK" }}\n'
    )


def test_dnf5_is_asked_one_question_and_its_answer_is_the_plan(place: Place) -> None:
    assert _dnf5(place, "begin", _reply("a", "lib-b++")) == (QUESTION, "")
    (note,) = place.notes()
    assert (note.event, note.whole, note.action) == ("begin", True, "dnf5")
    assert note.packages == ("a install 0:1.0-1.x86_64", "lib-b++ install 0:1.0-1.x86_64")


def test_an_answer_without_blanks_is_the_same_plan(place: Place) -> None:
    _dnf5(place, "begin", json.dumps(json.loads(_reply("a", "b")), separators=(",", ":")) + "\n")
    (note,) = place.notes()
    assert note.packages == ("a install 0:1.0-1.x86_64", "b install 0:1.0-1.x86_64")


@pytest.mark.parametrize(
    ("letter", "steps"),
    [
        *(("I", ("a install 0:1.0-1.x86_64",)), ("U", ("a upgrade 0:1.0-1.x86_64",))),
        *(("D", ("a downgrade 0:1.0-1.x86_64",)), ("R", ("a reinstall 0:1.0-1.x86_64",))),
        *(("E", ("a remove 0:1.0-1.x86_64",)), ("O", ("a replaced 0:1.0-1.x86_64",))),
        *(("Z", ("a Z 0:1.0-1.x86_64",)), ("C", ())),
    ],
)
def test_letters_are_words_as_the_plugin_of_dnf4_has_them(
    place: Place, letter: str, steps: tuple[str, ...]
) -> None:
    _dnf5(place, "begin", _reply("a", action=letter))
    (note,) = place.notes()
    assert note.packages == steps


@pytest.mark.parametrize(
    "reply",
    [
        *("", "{", "not json at all\n", "\n", "a\n\nb\n", _reply(), _reply("bad name")),
        REFUSAL,
        _reply("a").replace("-0:1.0-1", ""),
        _reply("a").replace('"I"', "7"),
    ],
)
def test_an_answer_that_is_no_plan_leaves_a_note_all_the_same(place: Place, reply: str) -> None:
    assert _dnf5(place, "begin", reply) == (QUESTION, "")
    (note,) = place.notes()
    assert (note.event, note.whole, note.packages) == ("begin", True, ())


def test_a_long_answer_is_kept_whole_and_quickly(place: Place) -> None:
    started = time.monotonic()
    _dnf5(place, "begin", _reply(*(f"package-{number}" for number in range(3000))))
    assert time.monotonic() - started < 5
    (spooled,) = place.spool.iterdir()
    assert spooled.read_text().count("\npkg=package-") == 3000


def test_dnf5_keeps_the_pipe_open_and_is_not_waited_for(place: Place) -> None:
    hook = place.copy("packaging/dnf/dnf5-hook", "dnf5-hook")
    with subprocess.Popen(
        [DASH, str(hook), "begin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == QUESTION
        process.stdin.write(_reply("a"))
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
    assert len(place.notes()) == 1


def test_the_end_asks_nothing_and_shows_the_notice_apart(place: Place) -> None:
    assert _dnf5(place, "end") == ("", "\nlook\nnoise\n")
    (note,) = place.notes()
    assert (note.event, note.whole, note.packages) == ("end", True, ())


@pytest.mark.parametrize("notice", ["exit 0", "echo half; exit 1", "kill -9 $$", "exec false"])
def test_a_notice_with_nothing_to_say_or_in_trouble_is_not_shown(
    place: Place, notice: str
) -> None:
    place.script("package-notice", notice)
    assert _dnf5(place, "end") == ("", "")


@pytest.mark.parametrize("event", ["begin", "end"])
@pytest.mark.parametrize("absent", ["hook", "notice", "spool", "state"])
def test_dnf5_is_not_troubled_by_what_is_missing(place: Place, event: str, absent: str) -> None:
    path: Path = getattr(place, absent)
    path.rename(path.with_name("moved"))
    out, _ = _dnf5(place, event, _reply("kernel-core"))
    assert out == ("" if event == "end" or absent == "hook" else QUESTION)
    assert not path.exists()


@pytest.mark.parametrize("event", ["", "x", "--help"])
def test_another_word_for_the_hook_of_dnf5_does_nothing(place: Place, event: str) -> None:
    assert _dnf5(place, event) == ("", "")
    assert place.notes() == ()


@pytest.mark.parametrize(("name", "boots"), NAMES)
def test_dnf5_flags_a_plan_that_touches_the_boot(place: Place, name: str, boots: bool) -> None:  # noqa: FBT001  a column of the table
    _dnf5(place, "begin", _reply("kubelet", name))
    assert place.flag is boots


# --- dnf4 ----------------------------------------------------------------------------------------

# What dnf gives its plugins, as far as ours looks.
_DNF = """
class Plugin:
    def __init__(self, base, cli):
        self.base = base
"""
_RUN = """
import sys
sys.path.insert(0, {folder!r})
import collections, signal, trialboot
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as dnf does
Item = collections.namedtuple("Item", "action_name name epoch version release arch")
class Base: pass
base = Base()
base.conf = Base()
base.conf.installroot = {root!r}
base.transaction = [Item(*words) for words in {items!r}]
plugin = trialboot.Trialboot(base, None)
print("begun")
plugin.pre_transaction()
if {ends!r}:
    plugin.transaction()
sys.exit(7)
"""
_Item = tuple[str, str, "int | None", str, str, str]
PLAN: list[_Item] = [
    ("Upgrade", "toy-a", 2, "2.0", "1", "noarch"),
    ("Upgraded", "toy-a", 0, "1.0", "1", "noarch"),
    ("Removed", "toy-b", None, "1.0", "1", "x86_64"),
    ("Reason Change", "toy-c", 0, "1.0", "1", "x86_64"),
]


def _dnf4(place: Place, items: list[_Item], *, root: str = "/", ends: bool = True) -> str:
    """Run the plugin in a dnf of its own that ends with 7; give what stood on the terminal."""
    place.copy("packaging/dnf/trialboot.py", "trialboot.py")
    (place.folder / "dnf.py").write_text(_DNF)
    program = place.folder / "run.py"
    program.write_text(_RUN.format(folder=str(place.folder), root=root, items=items, ends=ends))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "begun\n")
    return done.stderr


def test_the_plugin_is_written_for_old_pythons_and_needs_nothing_but_dnf() -> None:
    text = (ROOT / "packaging/dnf/trialboot.py").read_text()
    tree = ast.parse(text, feature_version=(3, 7))
    named = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    taken = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named | taken == {
        *("atexit", "os", "subprocess", "tempfile", "dnf", "contextlib", "pathlib")
    }


def test_dnf4_tells_its_plan_and_its_end(place: Place) -> None:
    assert _dnf4(place, PLAN) == "look\nnoise\n"
    begin, end = place.notes()
    assert (begin.event, begin.whole) == ("begin", True)
    assert begin.packages == (
        "toy-a upgrade 2:2.0-1.noarch",
        "toy-a replaced 0:1.0-1.noarch",
        "toy-b remove 0:1.0-1.x86_64",
    )
    assert (end.event, end.whole, end.packages) == ("end", True, ())


def test_a_transaction_that_failed_has_an_end_too(place: Place) -> None:
    assert _dnf4(place, PLAN, ends=False) == "look\nnoise\n"
    assert [note.event for note in place.notes()] == ["begin", "end"]


def test_nothing_planned_is_nothing_told(place: Place) -> None:
    assert _dnf4(place, []) == ""
    assert place.notes() == ()


def test_another_root_is_not_this_host(place: Place) -> None:
    assert _dnf4(place, PLAN, root="/mnt/image") == ""
    assert place.notes() == ()


def test_a_changed_reason_alone_is_nothing_told(place: Place) -> None:
    assert _dnf4(place, PLAN[-1:]) == ""
    assert place.notes() == ()


@pytest.mark.parametrize("absent", ["hook", "notice", "spool", "state"])
def test_dnf4_is_not_troubled_by_what_is_missing(place: Place, absent: str) -> None:
    path: Path = getattr(place, absent)
    path.rename(path.with_name("moved"))
    _dnf4(place, [("Install", "kernel-core", 0, "1", "1", "x86_64")])
    assert not path.exists()


@pytest.mark.parametrize("trouble", ["exit 1", "kill -9 $$", "exec <&-; echo noise; echo x >&2"])
def test_dnf4_is_not_troubled_by_a_hook_in_trouble(place: Place, trouble: str) -> None:
    place.script("package-hook", trouble)
    long = [("Install", f"package-{n}", 0, "1", "1", "x86_64") for n in range(5000)]
    assert _dnf4(place, [*PLAN, *long]) == "look\nnoise\n"


def test_dnf4_is_not_troubled_by_items_of_another_form(place: Place) -> None:
    strange: list[_Item] = [(None, None, None, None, None, None)]  # type: ignore[list-item]
    _dnf4(place, strange)
    assert all(note.whole for note in place.notes())


@pytest.mark.parametrize(("name", "boots"), NAMES)
def test_dnf4_flags_a_plan_that_touches_the_boot(place: Place, name: str, boots: bool) -> None:  # noqa: FBT001  a column of the table
    _dnf4(place, [("Install", "kubelet", 0, "1", "1", "x"), ("Install", name, 0, "1", "1", "x")])
    assert place.flag is boots


# --- kernel-install and rpm ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["add", "remove"])
@pytest.mark.parametrize("status", [0, 1, 77])
def test_kernel_install_leaves_its_tag_and_cannot_fail(
    place: Place, verb: str, status: int
) -> None:
    said = place.folder / "said"
    record = f'echo "$*|$DPKG_HOOK_ACTION|$DPKG_FRONTEND_LOCKED" >{said}'
    place.script("package-hook", f"{record}; echo noise; echo noise >&2; exit {status}")
    assert _kernel_install(place, verb) == (0, "", "")
    assert said.read_text() == f"dpkg-end|kernel:kernel-install/{verb}:6.12.0-55.el10|\n"


@pytest.mark.parametrize("verb", ["", "inspect", "list"])
def test_other_verbs_of_kernel_install_are_none_of_ours(place: Place, verb: str) -> None:
    assert _kernel_install(place, verb) == (0, "", "")
    assert place.notes() == ()


def test_kernel_install_is_not_troubled_when_the_package_is_gone(place: Place) -> None:
    place.hook.unlink()
    assert _kernel_install(place, "add") == (0, "", "")


def _kernel_install(place: Place, verb: str) -> tuple[int, str, str]:
    plugin = place.copy("packaging/kernel-install/99-zz-trialboot.install", "plugin")
    done = subprocess.run(
        [DASH, str(plugin), verb, "6.12.0-55.el10", "/boot/entry", "/boot/vmlinuz"],
        env={"PATH": "/usr/bin:/bin", "DPKG_FRONTEND_LOCKED": "true"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_rpm_triggers_watch_both_spellings_and_cannot_fail() -> None:
    spec = (ROOT / "packaging/rpm/trialboot.spec").read_text()
    triggers = re.findall(
        r"^%transfiletrigger(\w+) -- (.+)\n((?:(?!^%).*\n)*)", spec, re.MULTILINE
    )
    assert [kind for kind, _, _ in triggers] == ["un", "in", "postun"]
    for kind, paths, script in triggers:
        assert set(paths.split()) == {
            *("/usr/lib/firmware", "/usr/lib/modules", "/lib/firmware", "/lib/modules", "/boot")
        }
        event = "dpkg-begin" if kind == "un" else "dpkg-end"
        assert f"package-hook {event} </dev/null >/dev/null 2>&1 || :\n" in script
        assert "DPKG_HOOK_ACTION=rpm-trigger" in script
        assert re.search(r"^exit 0$", script, re.MULTILINE)


def test_every_scriptlet_of_the_package_ends_well() -> None:
    spec = (ROOT / "packaging/rpm/trialboot.spec").read_text()
    scriptlets = spec[spec.index("\n%post\n") :].split("\n%")
    bodies = [part.partition("\n")[2] for part in scriptlets if part.strip()]
    assert len(bodies) == 6
    for body in bodies:
        commands = [line for line in body.splitlines() if line and not line.startswith("#")]
        assert commands[-1] == "exit 0"
