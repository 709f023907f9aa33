"""A living host: pods come and go while it is read, and no check fails for that."""

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.host import bpf_loader
from tests.host.bpf_loader import Attach, ProgType, TcParent
from tests.host.conftest import Inside, sh
from trialboot.core.checks import network_checks
from trialboot.core.cni import pod_class
from trialboot.core.comparison import Terms
from trialboot.core.contract import Contract, learn
from trialboot.core.facts import Network, Unknown
from trialboot.core.verdict import Answer
from trialboot.host import Host
from trialboot.observation import take_network

pytestmark = pytest.mark.host

_PAIRS: Final = 200
_FEWEST: Final = 5
_MOST: Final = 30
_HOST: Final = Host()
_SCHED: Final = ProgType.SCHED_CLS


@dataclass
class Cni:
    """Makes pods as a CNI does: the link first, then its programs, then its route."""

    chance: random.Random
    programs: tuple[int, int]
    pods: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Descriptors of tcx links by pod interface; none where tc filters hold the programs."""
    made: int = 0
    steps: int = 0
    """Pods made or removed so far: none of them is half done."""
    stepped: threading.Condition = field(default_factory=threading.Condition)
    stopped: threading.Event = field(default_factory=threading.Event)
    trouble: list[BaseException] = field(default_factory=list)

    def live(self) -> None:
        """Make and remove pods until stopped."""
        try:
            while not self.stopped.wait(self.chance.uniform(0, 0.01)):
                self._step()
                with self.stepped:
                    self.steps += 1
                    self.stepped.notify_all()
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            self.trouble.append(error)

    def finish_step(self) -> None:
        """Wait until what is half done now is done."""
        with self.stepped:
            goal = self.steps + 1
            self.stepped.wait_for(lambda: self.steps >= goal or self.trouble, timeout=20)
        assert self.steps >= goal, self.trouble

    def _step(self) -> None:
        grow = len(self.pods) < _FEWEST or self.chance.random() < 0.5
        if grow and len(self.pods) < _MOST:
            self.add()
        else:
            self._remove()

    def add(self) -> None:
        self.made += 1
        name = f"lxc{self.chance.getrandbits(36):09x}"
        sh(f"ip link add {name} type veth peer name p{name[3:]}")
        self.pods[name] = self._attached(socket.if_nametoindex(name))
        destination = f"10.7.{self.made // 256}.{self.made % 256}"
        sh(f"ip link set {name} up\nip route add {destination} dev {name}")

    def _attached(self, index: int) -> tuple[int, ...]:
        into, out = self.programs
        if self.chance.random() < 0.5:
            bpf_loader.tc_clsact(index)
            bpf_loader.tc_attach(index, TcParent.INGRESS, into, "cil_from_container")
            bpf_loader.tc_attach(index, TcParent.EGRESS, out, "cil_to_container")
            return ()
        return (
            bpf_loader.link_create(into, index, Attach.TCX_INGRESS),
            bpf_loader.link_create(out, index, Attach.TCX_EGRESS),
        )

    def _remove(self) -> None:
        name = self.chance.choice(list(self.pods))
        descriptors = self.pods.pop(name)
        sh(f"ip link del {name}")
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _living(seed: int) -> Iterator[Cni]:
    names = ("cil_from_contai", "cil_to_containe")
    into, out = (bpf_loader.prog_load(_SCHED, bpf_loader.TINY[_SCHED], name) for name in names)
    cni = Cni(random.Random(seed), (into, out))  # noqa: S311  a seed is what is wanted
    for _ in range(10):
        cni.add()
    thread = threading.Thread(target=cni.live)
    thread.start()
    try:
        yield cni
    finally:
        cni.stopped.set()
        thread.join()
    assert not cni.trouble, cni.trouble


def _pods(network: Network) -> frozenset[str]:
    assert not isinstance(network.links, Unknown), network.links.why
    return frozenset(link.name for link in network.links if pod_class(link.name))


def _failures(seed: int) -> list[str]:
    sh(
        """
        ip link add eth0 type veth peer name eth1
        ip link set eth0 up
        ip link set eth1 up
        ip addr add 10.1.0.1/24 dev eth0
        ip route add default via 10.1.0.2
        """
    )
    told = []
    with _living(seed) as cni:
        for _ in range(_PAIRS):
            first = take_network(_HOST)
            cni.finish_step()
            second = take_network(_HOST)
            promised = learn(first, at="", boot="", kernel="")
            assert isinstance(promised, Contract), promised
            # One sample cannot tell a pod that is being made from one that the CNI failed at.
            young = _pods(second) - _pods(first)
            checks = network_checks(promised, second, Terms(young=young))
            told += [f"{c.name}: {c.reasons}" for c in checks if c.answer is not Answer.PASS]
        assert cni.steps >= _PAIRS
    return told


def test_no_check_fails_while_pods_come_and_go(inside: Inside) -> None:
    seed = random.SystemRandom().getrandbits(32)

    told = inside(lambda: _failures(seed))

    assert told == [], f"seed {seed}: {len(told)} of {_PAIRS} pairs"
