"""The steps of the stories, as the tests and `make demo` play them: each step is observed.

Every function waits for what it names, and fails with the evidence where it does not come.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm import faultswitch, hosts, loaderfiles
from tests.vm.hosts import BASE, Host
from tests.vm.image import Image
from tests.vm.node import KNOWN_GOOD, RECEIPT, Node, Say, kept_disk, set_up, steady_disk

OLD, GOOD, BAD = "6.1", "6.12", "7"
BOOT_ORDER = "/root/boot-order"
"""Where an armed disk remembers the firmware's boot order from before the change."""


def incident(image: Image, node: Node, say: Say) -> str:
    """The main job: only firmware, thought the administrator; 7.x came along, refused the CNI's
    programs, and the node went back by itself. Gives the boot id of the known-good.
    """
    good, bad = image.kernels[GOOD], image.kernels[BAD]
    boot_known_good(node, say)
    upgrade(node, candidate(image), say)
    assert f"{good} → {bad}" in node.trialboot("next")
    assert node.default_release() == good
    assert node.once_kernel() == f"/boot/vmlinuz-{bad}"
    say(f"GRUB's default stays {good}; {bad} is booted once")

    trial = reboot_into_trial(node, bad, say)
    node.wait_cluster(
        "a cordon with our receipt", lambda: node.is_cordoned() and node.has_receipt()
    )
    say(f"the API server has the cordon, with receipt: {node.receipt()['reason']}")
    back = fall_back(node, trial, good, say)
    assert_failure_was_told(node, say)
    recover(node, say)
    assert_reasons(node, say)
    for line in node.trialboot("why").splitlines():
        say(f"  why: {line}")
    return back


def candidate(image: Image) -> str:
    """What the administrator of the incident installs."""
    return f"linux-image-{image.kernels[BAD]} firmware-toynic=1.1"


def boot_known_good(node: Node, say: Say) -> str:
    """Switch the prepared node on; the known-good boots and proves itself. Gives the boot id."""
    boot = node.start()
    assert "trialboot.boot=" in node.command_line()
    say(f"{node.release()} is up, from the known-good entry")
    node.wait_state(
        "this boot is judged sound",
        lambda s: bool(s["boot"] == boot and s["verdict"] and s["verdict"]["outcome"] == "sound"),
    )
    say("its network is proven: eBPF roles, pods, links, routes and rules are as promised")
    return boot


def upgrade(node: Node, packages: str, say: Say) -> None:
    """Install packages as an administrator does and wait until the change is armed."""
    say(f"apt-get install {packages}")
    node.install(packages)
    say("apt-get is done")
    node.wait_phase("armed")
    for line in node.trialboot("next").splitlines():
        say(f"  next: {line}")


def reboot_into_trial(node: Node, release: str, say: Say) -> str:
    """Reboot as an administrator does; the candidate comes up on trial. Gives its boot id."""
    left = node.reboot()
    say("the administrator reboots")
    boot = node.wait_release(release, left)
    assert "trialboot.boot=" not in node.command_line()
    say(f"{release} is up: this boot is a trial")
    return boot


def boot_once_by_hand(node: Node, release: str) -> str:
    """Boot a kernel by GRUB's own entry for it, as an administrator may. Gives the boot id."""
    ids = "sed -n \"s/.*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg"
    entries = node.machine.exec(ids).stdout.split()
    menu = next(e for e in entries if e.startswith("gnulinux-advanced"))
    entry = next(e for e in entries if e.startswith(f"gnulinux-{release}-advanced"))
    node.machine.exec(f"grub-reboot '{menu}>{entry}'")
    return node.wait_release(release, node.reboot())


def fall_back(node: Node, trial_boot: str, release: str, say: Say) -> str:
    """Wait until the node has gone back by itself. Gives the boot id of the known-good."""
    boot = node.wait_release(release, trial_boot, timeout=420)
    assert "trialboot.boot=" in node.command_line()
    say(f"the node has rebooted by itself: {release} is up, from the known-good entry")
    took = _seconds_to_reboot(node, trial_boot)
    say(f"from the end of the verify worker to the reboot it took {took}")
    return boot


def _seconds_to_reboot(node: Node, trial_boot: str) -> str:
    """Ask the journal of the trial: from the end of the verify worker to logind's reboot."""
    words = f"-b {trial_boot.replace('-', '')} -o json --no-pager"
    log = node.machine.exec(
        f"journalctl {words} UNIT=trialboot-verify.service + _COMM=systemd-logind"
    ).stdout
    lines = [json.loads(line) for line in log.splitlines()]
    judged, left = (
        [int(line["__MONOTONIC_TIMESTAMP"]) for line in lines if said in str(line["MESSAGE"])]
        for said in ("Finished", "reboot")
    )
    if not judged or not left:
        return "a time that the journal of that boot does not have"
    return f"{(left[-1] - judged[-1]) / 1e6:.1f} s"


def recover(node: Node, say: Say) -> None:
    """Wait until the known-good has proven itself and the cluster knows."""
    node.wait_phase("recovered")
    say("recovered: the network is proven on the known-good")
    node.wait_cluster("no cordon", lambda: not node.is_cordoned() and not node.has_receipt())
    node.wait_cluster("an Event", lambda: bool(node.events("Recovered")))
    say("the API server has the node uncordoned, the receipt gone, and an Event that says why")


def assert_failure_was_told(node: Node, say: Say) -> None:
    """The cluster heard of the failed trial before the node left it."""
    failed = node.events("TrialFailed")
    assert len(failed) == 1, failed
    assert failed[0]["type"] == "Warning"
    say(f"the API server has an Event: {failed[0]['message']}")
    condition = node.condition()
    assert condition is not None
    assert condition["status"] == "False"
    say(f"the API server has the condition BootProven=False: {condition['reason']}")


def assert_reasons(node: Node, say: Say) -> None:
    """The verdict names the missing roles, and the kernel's own refusal."""
    told = node.record()["trial"]["condemned"][0]["reasons"]
    for wanted in (
        "eBPF tcni_from_nic is missing at dev:eth0 ingress",
        "eBPF tcni_connect4 is missing at cgroup:root inet4_connect",
        "the kernel refused it",
        "R1 is not a scalar",
    ):
        assert any(wanted in reason for reason in told), told
    for reason in told:
        say(f"  reason: {reason[:160]}")


def assert_bootable_default(node: Node) -> None:
    """GRUB's default is our entry, and names files that are on disk and hash as they should."""
    assert node.grubenv()["saved_entry"] == KNOWN_GOOD
    values = node.known_good_entry()
    for path in (values["KERNEL"], *values["INITRDS"].split()):
        assert node.machine.exists(path), path
    good = node.record()["trial"]["known_good"]
    kernel = node.machine.exec(f"sha256sum {values['KERNEL']}").stdout.split()[0]
    assert kernel == good["kernel"]


# --- disks that several stories begin with ------------------------------------------------------


def armed_disk(image: Image, package: Path, say: Say, host: Host = BASE) -> Path:
    """The disk of the incident at rest after the package run: its next start is the trial.

    The candidate's initrd has the switches of :mod:`faultswitch`.
    """

    def make(to: Path) -> None:
        begin = steady_disk(image, package, say, host)
        with Node(image, to.with_suffix(".work"), begin, host.hardware()) as node:
            boot_known_good(node, say)
            node.machine.write(BOOT_ORDER, loaderfiles.boot_order(node))
            node.machine.write(faultswitch.PLACE, faultswitch.SCRIPT, 0o755)
            # Firmware renews the known-good's initrd too: one host shows that, others are quick.
            kernel, _, firmware = candidate(image).partition(" ")
            upgrade(node, f"{kernel} {firmware}" if host is BASE else kernel, say)
            node.machine.power_off()
            node.machine.save(to)

    name = f"armed-{hosts.identity(host, image)}"
    return kept_disk(image, package, name, make, recipe=faultswitch.SCRIPT)


def nic_disk(image: Image, package: Path, say: Say) -> Path:
    """A disk whose contract has a NIC with a driver that needs a firmware file."""

    def make(to: Path) -> None:
        with Node(image, to.with_suffix(".work")) as node:
            node.start()
            node.machine.write("/etc/modules-load.d/toynic.conf", "toynic\n")
            node.machine.write("/etc/systemd/network/50-toynic.network", _TOYNIC)
            node.machine.reboot()
            node.machine.exec("ip -br link show toynic0")
            set_up(node, package, say)
            node.machine.power_off()
            node.machine.save(to)

    return kept_disk(image, package, "nic", make)


_TOYNIC = """\
[Match]
Name=toynic0
[Link]
RequiredForOnline=no
ActivationPolicy=up
[Network]
LinkLocalAddressing=no
"""


def is_cordon(body: object) -> bool:
    """Tell the one merge patch that cordons: receipt and spec together, with resourceVersion."""
    if not isinstance(body, dict) or body.get("spec") != {"unschedulable": True}:
        return False
    metadata = body.get("metadata", {})
    assert metadata.get("resourceVersion"), body
    receipt = json.loads(metadata["annotations"][RECEIPT])
    assert receipt["by"] == "trialboot"
    return True
