"""The stories of the verdict: it cries no wolf, and it has the kernel's own words."""

from __future__ import annotations

import pytest

from tests.vm import reboots, stories
from tests.vm.image import Image
from tests.vm.node import Node, Say
from tests.vm.reboots import Reboot
from tests.vm.stories import GOOD, OLD

pytestmark = pytest.mark.vm

# To a kernel without tcx, back, and to the old way on a kernel that has the new: each time the
# pods come late and in another order, some after the verdict.
A_FEW = (
    Reboot(into=OLD, cni="SEED=1 START_DELAY=40 POD_DELAY=3", via="tc"),
    Reboot(into=GOOD, cni="SEED=2 PODS=5 POD_DELAY=4 CHURN=4", via="tcx"),
    Reboot(into=GOOD, cni="SEED=3 PODS=2 POD_DELAY=20 LEGACY=1", via="tc"),
)


def test_healthy_reboots_are_sound(image: Image, node: Node, say: Say) -> None:
    """S9: a few of them; `make test-long` has all twelve."""
    stories.boot_known_good(node, say)
    reboots.compile_objects(node, {"bpf_lxc.o": "cilium"})
    reboots.prove(node, image, A_FEW, say)
