"""S9 at length: twelve healthy reboots, within and across all kernels, on one machine."""

from __future__ import annotations

import itertools

import pytest

from tests.vm import reboots, stories
from tests.vm.image import Image
from tests.vm.node import Node, Say
from tests.vm.reboots import Reboot
from tests.vm.stories import BAD, GOOD, OLD

pytestmark = pytest.mark.vm

NEW = BAD  # bad only for a CNI that is not mended
BEFORE_THE_UPGRADE = (
    Reboot(into=OLD, cni="SEED=1 START_DELAY=40 POD_DELAY=3", via="tc"),
    Reboot(into=OLD, cni="SEED=2 PODS=5 POD_DELAY=4 CHURN=4", via="tc"),
    Reboot(into=GOOD, cni="SEED=3 PODS=2 POD_DELAY=20", via="tcx"),
    Reboot(into=GOOD, cni="SEED=4 START_DELAY=50 LEGACY=1", via="tc"),
    Reboot(into=GOOD, cni="SEED=5 PODS=0", via="tcx"),
)
AFTER_IT = (
    Reboot(into=NEW, cni="SEED=6 START_DELAY=40 POD_DELAY=8", via="tcx"),
    Reboot(into=NEW, cni="SEED=7 PODS=6 POD_DELAY=2 CHURN=2", via="tcx"),
    Reboot(into=GOOD, cni="SEED=8 PODS=1 POD_DELAY=40", via="tcx"),
    Reboot(into=NEW, cni="SEED=9 PODS=4 POD_DELAY=5 LEGACY=1", via="tc"),
    Reboot(into=OLD, cni="SEED=10 START_DELAY=15 CHURN=3", via="tc"),
    Reboot(into=NEW, cni="SEED=11 PODS=7 POD_DELAY=1", via="tcx"),
    Reboot(into=OLD, cni="SEED=12 POD_DELAY=8", via="tc"),
)
# Small and as large as any: every kernel takes them.
COMPILED = {"bpf_host.o": "cilium", "bpf_lxc.o": "large"}
EVERY_PAIR = {(before, after) for before in (OLD, GOOD, NEW) for after in (OLD, GOOD, NEW)}


def test_the_reboots_cross_every_pair_of_kernels() -> None:
    path = [GOOD, *(reboot.into for reboot in (*BEFORE_THE_UPGRADE, *AFTER_IT))]
    assert len(path) == 13
    assert set(itertools.pairwise(path)) == EVERY_PAIR


def test_all_twelve_are_sound(image: Image, node: Node, say: Say) -> None:
    stories.boot_known_good(node, say)
    reboots.compile_objects(node, COMPILED)
    reboots.prove(node, image, BEFORE_THE_UPGRADE, say)
    stories.upgrade(node, f"linux-image-{image.kernels[NEW]}", say)
    reboots.prove(node, image, AFTER_IT, say)
