"""Finds the package mirrors of this machine, so that no file has to name one."""

from __future__ import annotations

import shutil

from tests.vm import command

# Settings of this machine's apt that decide whether it reaches its mirror at all.
_SETTINGS = (
    *("Acquire::http::Proxy", "Acquire::https::Proxy"),
    *("Acquire::Check-Valid-Until", "Acquire::Check-Date"),
)
# Releases whose mirror has the other releases beside them.
_MAIN = ("bookworm", "trixie", "sid", "forky")


def options() -> list[str]:
    """Words for mmdebstrap: what the apt in the new root needs to reach the mirror."""
    found = []
    if shutil.which("apt-config"):
        lines = command.output("apt-config", "dump").splitlines()
        found = [line.rstrip(";") for line in lines if line.startswith(_SETTINGS)]
    # A mirror may lag behind, sid's more than others; what is built here only serves tests.
    found.append('Acquire::Check-Valid-Until "false"')
    return [f"--aptopt={line}" for line in found]


def sources(suite: str) -> list[str]:
    """Lines for apt: this machine's mirror with another suite, else mmdebstrap's default."""
    if shutil.which("apt-get") is None:
        return []
    form = "$(RELEASE) $(REPO_URI)"
    lines = command.output("apt-get", "indextargets", "--format", form).splitlines()
    known = dict(line.split(" ", 1) for line in lines if " " in line)
    return [f"deb {known[name]} {suite} main" for name in _MAIN if name in known][:1]
