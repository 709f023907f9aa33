"""trialboot-verify.service: judges this boot, and learns from a sound one."""

import sys

from trialboot import verification
from trialboot.config import read_config
from trialboot.core.facts import Unknown
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
    learned = verification.learn_from(host, judgement, seen)
    if isinstance(learned, Unknown):
        _say(f"nothing was learned from this boot: {learned.why}")
    verification.remember_proof(host, judgement)
    store.save(host, NETWORK, seen)
    objects = read_objects(host)
    store.save(host, EBPF, objects)
    told = verification.with_headroom(judgement, objects)
    store.save(host, store.JUDGEMENT, told, mode=0o644)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(oneshot.run("verify", work))
