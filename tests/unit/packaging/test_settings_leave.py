"""What doctor has set is taken away with the package, and nothing that somebody else wrote."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trialboot.host import Host
from trialboot.writers import dropins
from trialboot.writers.dropins import DROP_INS, Setting

ROOT = Path(__file__).parents[3]
DASH = shutil.which("dash") or "/bin/sh"


def leave(root: Path) -> None:
    """Run the function of postrm that does it, below another root."""
    text = (ROOT / "debian/trialboot.postrm").read_text()
    found = re.search(r"^forget_settings\(\) \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    assert found
    script = f"set -e\n{found[0]}forget_settings\n"
    subprocess.run(
        [DASH, "-c", script], env={"PATH": "/usr/bin:/bin", "DPKG_ROOT": str(root)}, check=True
    )


def test_what_doctor_has_set_goes(tmp_path: Path) -> None:
    host = Host(root=tmp_path)
    leave(tmp_path)
    for setting in Setting:
        dropins.put(host, setting)
    leave(tmp_path)
    assert [setting for setting in Setting if dropins.is_set(host, setting)] == []


@pytest.mark.parametrize("text", ["", "[Manager]\n", "\n# Written by trialboot\n"])
def test_what_somebody_else_wrote_stays(tmp_path: Path, text: str) -> None:
    for drop_in in DROP_INS.values():
        place = tmp_path / drop_in.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    leave(tmp_path)
    assert all((tmp_path / drop_in.path.lstrip("/")).exists() for drop_in in DROP_INS.values())


@pytest.mark.parametrize("name", ["debian/trialboot.postrm", "packaging/rpm/trialboot.spec"])
def test_every_setting_is_known_to_the_packages(name: str) -> None:
    text = (ROOT / name).read_text()
    assert f'"{dropins.MARK}"*' in text
    for drop_in in DROP_INS.values():
        assert drop_in.path.lstrip("/") in text
