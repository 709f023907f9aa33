"""The linters, as tests: that pytest passes means everything. A missing tool is a failure."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
SPELLED = ("agent", "debian", "docs", "packaging", "systemd", "tests", ".ci", "Makefile")
# tr is meant to replace sets of characters; names of systemd's units hold no blanks.
UNHEEDED = "SC2020,SC2044"
# Netlink's input interface, a cloud's Kubernetes, and words that tests spell wrongly on purpose.
NO_MISTAKES = "iif,notin,aks,fase,caf"
_FOLDERS_WITH_SHELL = ("packaging", "debian", "tests", ".ci")


def run(program: Path | str, *words: Path | str) -> None:
    """Run a linter on the checkout; what it says is the failure."""
    done = subprocess.run(
        [str(program), *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def beside_python(name: str) -> Path:
    """Find a tool of the development group, installed where this Python is."""
    tool = SCRIPTS / name
    assert tool.exists(), f"{name} is missing: packaging/set-up, then $(packaging/set-up --python)"
    return tool


def is_shell(path: Path) -> bool:
    """Tell a shell script by its first line, also one that is only sourced."""
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith((b"#!/bin/sh", b"#!/usr/bin/env bash", b"# shellcheck shell=sh"))


def shell_scripts() -> list[Path]:
    found = (path for folder in _FOLDERS_WITH_SHELL for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and is_shell(path))


def test_ruff_has_nothing_to_say() -> None:
    run(beside_python("ruff"), "check", "--quiet", ".")


def test_the_formatter_has_nothing_to_change() -> None:
    run(beside_python("ruff"), "format", "--check", "--quiet", ".")


def test_mypy_has_nothing_to_say() -> None:
    run(beside_python("mypy"), "--no-error-summary")


def test_the_import_contracts_are_kept() -> None:
    run(beside_python("lint-imports"), "--no-cache")


def test_codespell_has_nothing_to_say() -> None:
    pages = sorted(path.name for path in ROOT.glob("*.md"))
    there = [name for name in (*SPELLED, *pages) if (ROOT / name).exists()]
    words = (f"--ignore-words-list={NO_MISTAKES}", "--skip=*.pyc,*.json")
    run(beside_python("codespell"), *words, *there)


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck is missing: apt-get install shellcheck"
    run(shellcheck, "--external-sources", f"--exclude={UNHEEDED}", script)
