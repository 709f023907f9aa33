"""The house keeps its floors, and its plan on paper is the one that was built."""

import ast
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.diagram import PAGE, ROOT, diagram, drawn

AGENT = ROOT / "agent"
MODULES = sorted((AGENT / "trialboot").rglob("*.py"))
# Third-party libraries: pyproject.toml says in which one module each of them is at home.
LIBRARIES = {"dbus", "systemd", "psutil", "pyroute2", "prometheus_client", "yaml", "tomli"}
FORBIDDEN_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "misc"}


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {module}"
            yield node.module or ""


def test_every_import_keeps_to_its_floor() -> None:
    lint = Path(sysconfig.get_path("scripts")) / "lint-imports"
    if not lint.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(AGENT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(AGENT)))
def test_a_module_imports_the_program_itself_python_and_known_libraries(module: Path) -> None:
    roots = {name.partition(".")[0] for name in imported(module)}
    assert roots <= {"trialboot", *sys.stdlib_module_names, *LIBRARIES}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(AGENT)))
def test_no_module_is_called_after_nothing(module: Path) -> None:
    assert module.stem not in FORBIDDEN_NAMES


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    told = "run: python3 tests/unit/diagram.py --write"
    assert drawn(PAGE.read_text(encoding="utf-8")) == diagram(), told
