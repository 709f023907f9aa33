"""kexec starts the armed candidate at a reboot, and nothing else ever."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.test_standstill import GOOD, MENU, NEW, OTHER, TRIAL
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.menu import KEXEC, OWN_BLOCK, Carrier
from trialboot.core.staging import Shutdown, candidate_to_start
from trialboot.core.trial import Choice, Phase

ASKING = replace(MENU, once="new", carrier=Carrier(KEXEC, "/boot/grub"))
NOW = Shutdown(
    rebooting=True,
    armed=True,
    against=(),
    taken=False,
    trial=TRIAL,
    menu=ASKING,
    boot_next="",
)


def test_the_armed_candidate_is_started() -> None:
    assert candidate_to_start(NOW) == OTHER


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rebooting": False}, "the machine does not reboot"),
        ({"rebooting": Unknown("systemctl: gone")}, "systemctl: gone"),
        ({"armed": False}, "trialboot is not armed"),
        ({"armed": Unknown("unknown key: mod")}, "unknown key: mod"),
        ({"taken": True}, "somebody else has a kernel staged"),
        ({"against": ("no kexec", "read-only")}, "no kexec; read-only"),
        ({"trial": None}, "there is no record"),
        ({"trial": Unknown("not JSON")}, "not JSON"),
        ({"menu": Unknown("/boot is empty")}, "/boot is empty"),
        ({"menu": replace(ASKING, carrier=None)}, "one-shots are not taken from kexec here"),
        (
            {"menu": replace(ASKING, carrier=Carrier(OWN_BLOCK, "/boot/plain"))},
            "one-shots are not taken from kexec here",
        ),
        ({"trial": replace(TRIAL, phase=Phase.TRIAL)}, "no candidate is armed"),
        ({"trial": replace(TRIAL, candidate=None)}, "no candidate is armed"),
        ({"trial": replace(TRIAL, pinned=False)}, "no candidate is armed"),
        (
            {"menu": replace(ASKING, saved="new")},
            "the boot loader's default, «new», is not the known-good",
        ),
        (
            {"trial": replace(TRIAL, known_good=NEW)},
            "the boot loader's default, «trialboot-known-good», is not the known-good",
        ),
        ({"boot_next": "Boot0003 «x»"}, "«Boot0003 «x»» is to be booted once more"),
        ({"boot_next": Unknown("EFI variables: EIO")}, "EFI variables: EIO"),
        (
            {"trial": replace(TRIAL, candidate=Choice(entry=EntryId("x"), boot_set=GOOD))},
            "«new» is to be booted once, and «x» is armed",
        ),
        (
            {
                "menu": replace(
                    ASKING, entries=(MENU.entries[0], replace(OTHER, doubt="no kernel"))
                )
            },
            "one-shot «new» leads to «new»: no kernel",
        ),
    ],
)
def test_each_doubt_leads_to_an_ordinary_reboot(change: dict[str, Any], why: str) -> None:
    assert candidate_to_start(replace(NOW, **change)) == Unknown(why)
