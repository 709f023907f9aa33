"""The faults of the matrix, as data: how each is brought about, and what has to come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from tests.vm import faultswitch
from tests.vm.errors import AgentGone, CommandFailed
from tests.vm.node import CONFIG, Node

CONFIGURATION = "/etc/trialboot/trialboot.toml"
RECOVERED = frozenset({"recovered"})
# The loader lost the one-shot: the candidate was not tried, and whether it is tried again or given
# up is not what these cells ask.
UNTRIED = frozenset({"recovered", "steady", "armed"})
# No verdict before the test has done what it came for.
_LONG_TRIAL = f"""\
sed -i -E 's/^(minimum_settle_seconds|deadline_seconds) = .*/\\1 = 900/' {CONFIGURATION}
"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong with an armed node from its next start on."""

    name: str
    told: str
    """For the table of results."""
    switch: str = ""
    """What :mod:`faultswitch` does in the candidate's initrd."""
    at_rest: str = ""
    """Shell words that change the disk before the start; see :data:`WORDS` for what they have."""
    act: Callable[[Node, str], None] | None = None
    """What is done from outside after the start; it is given the candidate's release."""
    starts: int = 1
    """How often the candidate's kernel starts."""
    ends: frozenset[str] = RECOVERED
    """The phases that it may end in."""
    watchdog: bool = False


WORDS = """\
release={release}
if [ -d /boot/grub ]; then
    kernel=/boot/vmlinuz-$release
    initrd=/boot/initrd.img-$release
    edit_entry() {{ sed -i "/vmlinuz-$release/$1" /boot/grub/grub.cfg; }}
else
    kernel=$(ls /boot/efi/*/"$release"/linux)
    initrd=$(ls /boot/efi/*/"$release"/initrd*)
    edit_entry() {{ sed -i "/^options/$1" /boot/efi/loader/entries/*"$release"*.conf; }}
fi
test -s "$kernel" && test -s "$initrd"
"""
"""What the scripts at rest begin with: `$release`, `$kernel` and `$initrd` of the candidate, and
`edit_entry` for the line of its menu entry that has the command line."""


def _trial_is_up(node: Node, release: str) -> None:
    node.machine.wait_agent()
    node.assert_runs(release)
    assert "trialboot.boot=" not in node.command_line()


def _crash(node: Node) -> None:
    """Panic, with short times again for the known-good that comes after it."""
    node.machine.write(CONFIGURATION, CONFIG)
    node.machine.exec("sync")
    # Its answer never comes.
    with suppress(AgentGone, CommandFailed):
        node.machine.exec("(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 &")


def _panic_late(node: Node, release: str) -> None:
    _trial_is_up(node, release)
    _crash(node)


def _update_grub(node: Node, release: str) -> None:
    _trial_is_up(node, release)
    node.machine.exec("update-grub", timeout=300)
    _crash(node)


def _autoremove(node: Node, release: str) -> None:
    """With a kernel package above the candidate's, and no list of what the image keeps."""
    _trial_is_up(node, release)
    node.machine.exec(
        "rm -f /etc/apt/apt.conf.d/90guest; DEBIAN_FRONTEND=noninteractive apt-get -y autoremove",
        timeout=300,
    )
    _crash(node)


def _power_cycle_at(words: str) -> Callable[[Node, str], None]:
    """Somebody comes and switches the machine off and on, once it hangs."""

    def act(node: Node, release: str) -> None:  # noqa: ARG001  all acts are called alike
        node.wait_serial(words, 240)
        time.sleep(3)
        node.machine.kill()
        node.machine.start()

    return act


_GRUBENV = "/boot/grub/grubenv"
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Fault(name="panic-early", told="panic in the initrd", switch="panic-early"),
            Fault(
                name="panic-late", told="panic in userspace", at_rest=_LONG_TRIAL, act=_panic_late
            ),
            Fault(
                name="hang-watchdog",
                told="hang in the initrd, with a watchdog",
                switch="hang-early",
                watchdog=True,
            ),
            Fault(
                name="hang-power-cycle",
                told="hang in the initrd, then a power cycle",
                switch="hang-early",
                act=_power_cycle_at(faultswitch.HANGS),
            ),
            Fault(
                name="vmlinuz-truncated",
                told="vmlinuz truncated",
                at_rest='truncate -s 1M "$kernel"',
                starts=0,
            ),
            Fault(name="vmlinuz-empty", told="vmlinuz empty", at_rest=': > "$kernel"', starts=0),
            Fault(
                name="vmlinuz-missing", told="vmlinuz missing", at_rest='rm "$kernel"', starts=0
            ),
            Fault(
                name="vmlinuz-garbage",
                told="garbage in vmlinuz, then a power cycle",
                at_rest='dd if=/dev/urandom of="$kernel" bs=1M seek=4 count=2 conv=notrunc',
                act=_power_cycle_at("System halted"),
                starts=0,
            ),
            Fault(
                name="initrd-truncated",
                told="initrd truncated",
                at_rest='truncate -s 2M "$initrd"',
            ),
            Fault(name="initrd-missing", told="initrd missing", at_rest='rm "$initrd"', starts=0),
            Fault(
                name="root-wrong",
                told="wrong root=",
                at_rest="edit_entry 's/root=[^ ]*/root=LABEL=nowhere/'",
            ),
            Fault(
                name="init-broken",
                told="init ends at once",
                at_rest="edit_entry 's/$/ init=\\/bin\\/false/'",
            ),
            Fault(
                name="modules-missing",
                told="module tree missing",
                at_rest='rm -r "/lib/modules/$release"',
            ),
            Fault(
                name="grubenv-missing",
                told="grubenv missing",
                at_rest=f"rm {_GRUBENV}",
                starts=0,
                ends=UNTRIED,
            ),
            Fault(
                name="grubenv-empty",
                told="grubenv empty",
                at_rest=f": > {_GRUBENV}",
                starts=0,
                ends=UNTRIED,
            ),
            Fault(
                name="grubenv-garbage",
                told="garbage in grubenv",
                at_rest=f"head -c 1024 /dev/urandom > {_GRUBENV}",
                starts=0,
                ends=UNTRIED,
            ),
            Fault(
                name="grubenv-immutable",
                told="grubenv immutable (chattr +i), and a panic",
                at_rest=f"chattr +i {_GRUBENV}",
                switch="panic-early",
            ),
            Fault(
                name="update-grub",
                told="update-grub during the trial, then a panic",
                at_rest=_LONG_TRIAL,
                act=_update_grub,
            ),
            Fault(
                name="autoremove",
                told="apt autoremove during the trial, then a panic",
                at_rest=_LONG_TRIAL,
                act=_autoremove,
            ),
        )
    }
)
