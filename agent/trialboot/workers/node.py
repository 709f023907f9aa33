"""trialboot-node.service: makes the Node object say what this node wishes.

Converges, once: the daemon starts it again, later and later, until the API server has taken all.
"""

import sys

from trialboot.cluster.api import Api
from trialboot.cluster.node import deliver, node_name
from trialboot.config import read_config
from trialboot.core.facts import Unknown
from trialboot.core.node import Wish
from trialboot.errors import ClusterAwayError, StoreError
from trialboot.host import Host
from trialboot.workers import oneshot
from trialboot.writers import store


def work(host: Host) -> None:
    """Deliver the wish and remember what was taken, also where it was not all."""
    wish = store.load_wish(host)
    if wish is None:
        return
    if isinstance(wish, Unknown):
        aside = store.set_aside(host, store.WISH)
        raise StoreError(f"{wish.why}; set aside as {aside}; the next verdict makes a new one")
    _deliver(host, wish)


def _deliver(host: Host, wish: Wish) -> None:
    config = read_config(host).node
    done = _done(host)
    with Api(host, config.kubeconfig or None) as api:
        taken = deliver(api, node_name(api, config.name or None), wish, done)
    notices = tuple(sorted(done | taken.notices))[-store.NOTICES_REMEMBERED :]
    if taken.trouble:
        # The cordon stands; what is missing is remembered as missing.
        store.save_notices(host, notices)
        raise ClusterAwayError("; ".join(taken.trouble))
    store.save_delivered(
        host,
        store.Delivered(
            wish=wish,
            cordoned=taken.cordoned,
            foreign=taken.foreign,
            ready=taken.ready,
            notices=notices,
        ),
    )


def _done(host: Host) -> frozenset[str]:
    found = store.load_delivered(host)
    return frozenset(found.notices) if isinstance(found, store.Delivered) else frozenset()


if __name__ == "__main__":
    sys.exit(oneshot.run("node", work))
