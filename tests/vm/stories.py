"""The incident, step by step, as the tests and `make demo` play it: each step is observed.

Every function waits for what it names and fails with the evidence where it does not come.
"""

from __future__ import annotations

from tests.vm.image import Image
from tests.vm.node import Node, Say

BAD = "7"
FIRMWARE = "/lib/firmware/toynic/nic.bin"


def bad_release(image: Image) -> str:
    """The newest Debian kernel, which refuses the CNI's programs."""
    return image.kernels[max(s for s in image.kernels if s.startswith(BAD))]


def boot_known_good(node: Node, say: Say) -> str:
    """Switch the prepared node on; it boots its known-good and proves itself. Gives the boot id."""
    boot = node.start()
    say(f"{node.release()} is up (known-good: {'trialboot.boot=' in node.command_line()})")
    node.wait_state(
        "this boot is judged sound",
        lambda s: bool(s["boot"] == boot and s["verdict"] and s["verdict"]["outcome"] == "sound"),
    )
    say("its network is proven: every eBPF role, link, route and rule of the contract is there")
    return boot


def upgrade(node: Node, packages: str, say: Say) -> dict[str, object]:
    """Install packages as an administrator does and wait until the change is armed."""
    say(f"apt-get install {packages}")
    node.install(packages)
    say("apt is done; no hook held it up")
    state = node.wait_phase("armed")
    for line in node.trialboot("next").splitlines():
        say(f"  trialboot next: {line}")
    return state


def reboot_into_trial(node: Node, release: str, say: Say) -> str:
    """Reboot as an administrator does; the candidate comes up on trial. Gives its boot id."""
    left = node.reboot()
    say("the administrator reboots")
    boot = node.wait_release(release, left)
    say(f"{release} is up: this boot is a trial")
    return boot


def fall_back(node: Node, trial_boot: str, release: str, say: Say) -> str:
    """Wait until the node has gone back by itself. Gives the boot id of the known-good."""
    boot = node.wait_release(release, trial_boot, timeout=420)
    say(f"the node has rebooted by itself; {release} is up again")
    return boot


def recover(node: Node, say: Say) -> dict[str, object]:
    """Wait until the known-good has proven itself and the cluster knows."""
    state = node.wait_phase("recovered")
    say("recovered: the network is proven on the known-good")
    node.wait_cluster("the node is uncordoned", lambda: not node.is_cordoned())
    say("the node is uncordoned, its receipt is gone")
    return state
