"""A host whose candidate was booted once, and whose loader leads back to the known-good."""

from pathlib import Path

from tests.unit.loaders.host_folder import OLD, SIMPLE, Node, make_node
from trialboot.core.actions import BootOnce, Keep, PinKnownGood
from trialboot.core.facts import EntryId
from trialboot.core.trial import Choice, Decision, Phase, Trial
from trialboot.loaders.grub import Grub
from trialboot.workers import pin
from trialboot.writers import store


def stand(root: Path) -> Node:
    """Arm a trial as the worker does it, and take the one-shot as GRUB does."""
    node = make_node(root)
    good, new = node.boot_set(), node.boot_set("6.12.117-amd64")
    trial = Trial(
        phase=Phase.ARMED,
        known_good=good,
        pinned=True,
        candidate=Choice(entry=EntryId(SIMPLE), boot_set=new),
    )
    arm = (Keep(good, EntryId(OLD)), PinKnownGood(good), BootOnce(EntryId(SIMPLE)))
    store.save_decision(node.host, Decision(trial=trial, todo=arm))
    pin.work(node.host)
    Grub(node.host).forget_once()
    store.save_decision(node.host, Decision(trial=trial))
    node.write("/etc/trialboot/trialboot.toml", 'mode = "armed"\n')
    return node
