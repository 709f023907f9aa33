"""What starts a staged candidate at the end of a shutdown, in a namespace that cannot reboot.

reboot(2) of a process identifier namespace of its own knows no kexec, and says so (EINVAL).
"""

import shutil
import subprocess
from pathlib import Path

import pytest

UNSHARE = shutil.which("unshare")
HOOK = Path(__file__).parents[2] / "packaging/kexec/trialboot-kexec"
pytestmark = pytest.mark.skipif(UNSHARE is None, reason="util-linux' unshare is not here")


def shut_down(beside: str, word: str, *, marked: bool) -> "subprocess.CompletedProcess[str]":
    """Run the hook as systemd-shutdown does, with another one beside it; say how it ended."""
    mark = "mkdir /run/trialboot; : >/run/trialboot/kexec" if marked else ":"
    script = f"""
        mount -t tmpfs tmpfs /run || exit 99
        {mark}
        {beside} &
        python3 -IS {HOOK} {word}
        echo "ended with $?, beside it: $(jobs -r | wc -l)"
        kill %1 2>/dev/null
        wait
    """
    names = ("--pid", "--fork", "--mount", "--mount-proc", "--propagation=private")
    done = subprocess.run(
        [str(UNSHARE), *names, "bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode and not done.stdout:
        pytest.skip(f"no namespaces of our own here: {done.stderr.strip()}")
    return done


def test_it_waits_for_the_other_hooks_and_leaves_an_ordinary_reboot_where_it_fails() -> None:
    done = shut_down("sleep 1", "reboot", marked=True)
    assert done.stdout == "ended with 1, beside it: 0\n"
    assert done.stderr == "trialboot: kexec did not start the candidate: an ordinary reboot\n"


@pytest.mark.parametrize(
    ("word", "marked"), [("reboot", False), ("poweroff", True), ("kexec", True), ("halt", True)]
)
def test_it_does_nothing_without_the_mark_or_at_another_end(word: str, *, marked: bool) -> None:
    done = shut_down("sleep 60", word, marked=marked)
    assert (done.stdout, done.stderr) == ("ended with 0, beside it: 1\n", "")
