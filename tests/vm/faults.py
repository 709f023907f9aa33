"""The faults of the matrix, as data: how each is brought about, and what has to come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tests.vm import faultswitch
from tests.vm.errors import AgentGone, CommandFailed
from tests.vm.node import CONFIG, Node

_GRUBENV = "/boot/grub/grubenv"
CONFIGURATION = "/etc/trialboot/trialboot.toml"
NEVER, ONCE, AT_MOST_ONCE = (0,), (1,), (0, 1)
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
    begin: Literal["armed", "steady", "nic"] = "armed"
    """The disk that it begins with; a disk that is armed starts its trial when it is started."""
    prepare: Callable[[Node, str], None] | None = None
    """What is done on the known-good before it is rebooted, where the disk is not armed."""
    starts: Container[int] = ONCE
    """How often the candidate's kernel may start."""
    ends: frozenset[str] = RECOVERED
    """The phases that it may end in."""
    patience: float = 600.0
    """Seconds from the start of the trial to its end."""
    blessed: bool = False
    """Nothing is wrong with the candidate: it stays."""
    default_lost: bool = False
    """The loader's default is gone before the boot, and has to be put back by the daemon."""


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


def _install_unseen(node: Node, release: str, then: str) -> None:
    """Install the candidate while the daemon is down, spoil something, and let it find both."""
    node.machine.exec("systemctl mask --runtime --now trialbootd.service")
    node.install(f"linux-image-{release}")
    node.machine.exec(then, check=False)
    node.machine.exec(
        "systemctl unmask --runtime trialbootd.service && systemctl start trialbootd"
    )
    _wait_noticed(node)


def _wait_noticed(node: Node) -> None:
    """Wait until the daemon has armed the change, or has said what is in the way."""
    node.wait_state(
        "the change is seen",
        lambda s: bool(s["phase"] == "armed" or s["trouble"] or s["refused"]),
    )


def _fill_boot(node: Node, release: str) -> None:
    _install_unseen(node, release, "cat /dev/zero > /boot/filler; sync")


def _immutable(node: Node, release: str) -> None:
    _install_unseen(node, release, f"chattr +i {_GRUBENV}")


def _mutable_again(node: Node, release: str) -> None:  # noqa: ARG001  all acts are called alike
    """The known-good runs and what is in the way is told; an administrator puts it right."""
    node.machine.wait_agent()
    node.wait_state(
        "what is in the way is told",
        lambda s: "Operation not permitted" in " ".join(s["trouble"]),
    )
    assert node.trialboot("may-reboot", check=False).startswith("no")
    node.machine.exec(f"chattr -i {_GRUBENV} && systemctl restart trialbootd")


def _remove_firmware(node: Node, release: str) -> None:  # noqa: ARG001  all are called alike
    node.machine.exec("DEBIAN_FRONTEND=noninteractive apt-get purge -y firmware-toynic")
    node.wait_phase("armed")


def _upgrade_unprotected(node: Node, release: str) -> None:
    """On a host that cannot boot anything once."""
    node.install(f"linux-image-{release}")
    state = node.wait_state(
        "the change is seen and not armed",
        lambda s: bool(s["next"] and s["next"]["changes"]),
    )
    assert state["next"]["protection"]["level"] == "none", state["next"]["protection"]
    time.sleep(20)
    assert node.state()["phase"] == "steady"


def _power_cycle_at(words: str, after: float = 3) -> Callable[[Node, str], None]:
    """Somebody comes and switches the machine off and on, once it hangs."""

    def act(node: Node, release: str) -> None:  # noqa: ARG001  all acts are called alike
        node.wait_serial(words, 240)
        time.sleep(after)
        node.machine.kill()
        node.machine.start()

    return act


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Fault(name="panic-early", told="panic in the initrd", switch="panic-early"),
            Fault(
                name="panic-late", told="panic in userspace", at_rest=_LONG_TRIAL, act=_panic_late
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
                starts=NEVER,
            ),
            Fault(
                name="vmlinuz-empty", told="vmlinuz empty", at_rest=': > "$kernel"', starts=NEVER
            ),
            Fault(
                name="vmlinuz-missing",
                told="vmlinuz missing",
                at_rest='rm "$kernel"',
                starts=NEVER,
            ),
            Fault(
                name="vmlinuz-garbage",
                told="garbage in vmlinuz, then a power cycle",
                at_rest='dd if=/dev/urandom of="$kernel" bs=1M seek=4 count=2 conv=notrunc',
                act=_power_cycle_at("Loading initial ramdisk", after=40),
                starts=NEVER,
            ),
            Fault(
                name="initrd-truncated",
                told="initrd truncated",
                at_rest='truncate -s 2M "$initrd"',
            ),
            Fault(
                name="initrd-missing",
                told="initrd missing",
                at_rest='rm "$initrd"',
                # GRUB complains and boots the kernel without it, which finds no root and panics.
                starts=AT_MOST_ONCE,
            ),
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
                starts=NEVER,
                ends=UNTRIED,
                default_lost=True,
            ),
            Fault(
                name="grubenv-empty",
                told="grubenv empty",
                at_rest=f": > {_GRUBENV}",
                starts=NEVER,
                ends=UNTRIED,
                default_lost=True,
            ),
            Fault(
                name="grubenv-garbage",
                told="garbage in grubenv",
                at_rest=f"head -c 1024 /dev/urandom > {_GRUBENV}",
                starts=NEVER,
                ends=UNTRIED,
                default_lost=True,
            ),
            Fault(
                name="grubenv-immutable",
                told="grubenv immutable (chattr +i), and a panic",
                at_rest=f"chattr +i {_GRUBENV}",
                switch="panic-early",
            ),
            Fault(
                name="boot-full-at-arming",
                told="no byte left on /boot when the change is armed",
                begin="steady",
                prepare=_fill_boot,
                starts=AT_MOST_ONCE,
                ends=UNTRIED,
            ),
            Fault(
                name="grubenv-immutable-at-arming",
                told="grubenv immutable when the change is armed, and put right after a reboot",
                begin="steady",
                prepare=_immutable,
                act=_mutable_again,
                starts=AT_MOST_ONCE,
                ends=UNTRIED,
            ),
            Fault(
                name="firmware-missing",
                told="the firmware of a network card removed",
                begin="nic",
                prepare=_remove_firmware,
                # Its network never comes up: 300 s until a late start, 240 s until the verdict.
                patience=900,
            ),
            Fault(
                name="unprotected",
                told="a kernel upgrade on a host that cannot boot once",
                begin="steady",
                prepare=_upgrade_unprotected,
                starts=NEVER,
                ends=frozenset({"steady"}),
            ),
            Fault(
                name="nothing",
                told="nothing: a good upgrade",
                at_rest="echo SCALAR=1 > /etc/default/testcni",
                ends=frozenset({"steady"}),
                blessed=True,
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
