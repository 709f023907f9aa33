"""trialboot-verify.service: judges this boot, and learns from a sound one."""

import sys

from trialboot import verification
from trialboot.config import read_config
from trialboot.core.facts import Observation, Unknown
from trialboot.core.outlook import Judgement
from trialboot.host import Host
from trialboot.readers.ebpf_objects import read_objects
from trialboot.workers import oneshot
from trialboot.writers import store

NETWORK = f"{store.STATE}/network.json"
"""The last sample, for people: what the verdict was found from."""

EBPF = f"{store.STATE}/ebpf.json"
"""What of eBPF is loaded and kept, for people."""


def work(host: Host) -> None:
    """Leave the verdict for the daemon."""
    judgement, seen = verification.verify(host, read_config(host), _say)
    objects = read_objects(host)
    told = verification.with_headroom(judgement, objects)
    store.save(host, store.JUDGEMENT, told, mode=0o644)
    oneshot.spare(lambda: _learn(host, judgement, seen))
    oneshot.spare(lambda: verification.remember_proof(host, judgement))
    oneshot.spare(lambda: store.save(host, NETWORK, seen))
    oneshot.spare(lambda: store.save(host, EBPF, objects))


def _learn(host: Host, judgement: Judgement, seen: Observation) -> None:
    learned = verification.learn_from(host, judgement, seen)
    if isinstance(learned, Unknown):
        _say(f"nothing was learned from this boot: {learned.why}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(oneshot.run("verify", work))
