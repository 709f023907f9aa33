"""The Node object of this host, brought to what the trial wishes: cordon, condition, Events.

Three writes, all within what every kubelet may do. The cordon carries our receipt in the same
write, and only what is ours is ever undone: an operator's cordon, and an operator's uncordon, win.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trialboot.cluster.api import JSON, MANAGER, MERGE, STRATEGIC, Api, Body, ConflictError, judge
from trialboot.core.node import Notice, Wish
from trialboot.errors import ClusterAwayError, ClusterError

RECEIPT: Final = "trialboot.io/cordoned"
CONDITION: Final = "BootProven"
REPORTER: Final = "trialboot.io"

_USER_PREFIX: Final = "system:node:"
_REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_EVENTS: Final = "/api/v1/namespaces/default/events"
_ROUNDS: Final = 5
_REASSERTIONS: Final = 2
_NAME_CAP: Final = 253
_MESSAGE_CAP: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What the cluster now says, and what of the wish it would not take."""

    cordoned: bool
    """The server's `spec.unschedulable`, whoever set it."""
    foreign: bool
    """The node is cordoned, but not by us: we neither claim nor undo it."""
    overruled: bool = False
    """We wish a cordon and gave way to somebody who took it off again and again."""
    ready: bool | None = None
    """The node's Ready condition, as the API server has it; None where it has none."""
    notices: frozenset[str] = frozenset()
    """Keys of the Events that are now in the cluster."""
    trouble: tuple[str, ...] = ()
    """Why the condition or an Event could not be written; the cordon stands as told above."""


def node_name(api: Api, configured: str | None = None) -> str:
    """Ask the cluster which node this credential is; never the host name.

    Raises `ClusterError` where the configuration names another node, or the credential is none
    of a node's.
    """
    user = _who_am_i(api)
    name = user.removeprefix(_USER_PREFIX)
    if name == user or not name:
        raise ClusterError(f"the credential is that of {user!r}, not of a node ({_USER_PREFIX}…)")
    if configured is not None and configured != name:
        raise ClusterError(
            f"the configuration says node {configured!r}, but the credential is that of {name!r}"
        )
    return name


def deliver(api: Api, name: str, wish: Wish, done: frozenset[str]) -> Delivered:
    """Bring the Node to the wish: the cordon first, then the condition, then missing Events.

    Raises only while the cordon is unsettled; what fails after that is told as `trouble`.
    """
    node = _settle_cordon(api, name, wish)
    trouble = []
    try:
        _tell_condition(api, name, node, wish)
    except ClusterError as error:
        trouble.append(f"condition {CONDITION}: {error}")
    notices, refused = _tell_notices(api, name, wish, done)
    cordoned = _is_cordoned(node)
    return Delivered(
        cordoned=cordoned,
        foreign=cordoned and not _is_ours(node),
        overruled=wish.cordoned and not cordoned,
        ready=ready_of(node),
        notices=notices,
        trouble=(*trouble, *refused),
    )


def decide_cordon(node: Body, wish: Wish) -> Body | None:
    """Give the merge patch that brings cordon and receipt to the wish, or None: nothing to do."""
    if wish.cordoned:
        return _decide_to_cordon(node, wish)
    if RECEIPT not in _annotations(node):
        return None
    if _is_ours(node):
        return _patch(node, None, {"unschedulable": None})
    return _patch(node, None)


def decide_condition(node: Body, wish: Wish) -> Body | None:
    """Give the strategic merge patch for our condition, or None: it already says so."""
    old = _old_condition(node)
    told = {"status": wish.condition, "reason": wish.reason, "message": wish.message}
    if all(old.get(key) == value for key, value in told.items()):
        return None
    same = old.get("status") == wish.condition
    since = old.get("lastTransitionTime") if same else None
    condition = {
        "type": CONDITION,
        **told,
        "lastHeartbeatTime": wish.at,
        "lastTransitionTime": since or wish.at,
    }
    return {"status": {"conditions": [condition]}}


def ready_of(node: Body) -> bool | None:
    """Give the Ready condition; that of a kubelet which is silent, Unknown, is not ready."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    told = [c.get("status") for c in conditions if c.get("type") == "Ready"]
    return told[0] == "True" if told else None


def event_name(node: str, key: str) -> str:
    """Give the Event's own name: the same for the same notice, and a valid DNS subdomain."""
    tail = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-") or "notice"
    return f"{node}.trialboot-{tail}"[:_NAME_CAP].rstrip("-.")


def event_body(node: str, notice: Notice) -> Body:
    """Put a notice into a core/v1 Event about this node, as `kubectl describe node` finds it."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(node, notice.key), "namespace": "default"},
        # The kubelet's habit: the uid of a Node in an Event is the node's name.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": notice.kind,
        "reason": notice.reason,
        "message": notice.message[:_MESSAGE_CAP],
        "source": {"component": MANAGER, "host": node},
        "reportingComponent": REPORTER,
        "reportingInstance": node,
        "firstTimestamp": notice.at,
        "lastTimestamp": notice.at,
        "count": 1,
    }


def _who_am_i(api: Api) -> str:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = api.ask("POST", _REVIEWS, review)
    if answer.status not in {403, 404}:
        return _username(judge(answer).body)
    common_name = api.common_name()  # before Kubernetes 1.28 there are no such reviews
    if common_name is None:
        raise ClusterError(
            f"the API server does not say who we are ({answer.status}: {answer.message}), and "
            "the credential has no client certificate that names the node"
        )
    return common_name


def _username(review: Body) -> str:
    status = review.get("status")
    info = status.get("userInfo") if isinstance(status, Mapping) else None
    name = info.get("username") if isinstance(info, Mapping) else None
    return str(name or "")


def _settle_cordon(api: Api, name: str, wish: Wish) -> Body:
    """Read, decide, write; read and decide again when somebody was faster or the line broke."""
    path = f"/api/v1/nodes/{name}"
    unknown_outcome = False
    for _ in range(_ROUNDS):
        node = _checked(api.get(path))
        patch = decide_cordon(node, wish)
        if patch is None:
            return node
        try:
            return _checked(api.patch(path, patch, MERGE))
        except ConflictError:
            continue
        except ClusterAwayError:
            if unknown_outcome:
                raise
            unknown_outcome = True
    raise ClusterAwayError(f"node {name} was changed by others {_ROUNDS} times while we cordoned")


def _checked(node: Body) -> Body:
    if node.get("kind") != "Node" or "resourceVersion" not in node.get("metadata", {}):
        raise ClusterAwayError("what answered under the API server's address sent no Node")
    return node


def _decide_to_cordon(node: Body, wish: Wish) -> Body | None:
    receipt = _receipt(node)
    if _is_cordoned(node):
        if not _is_ours(node) or _same_cause(receipt, wish):
            return None
        return _patch(node, _new_receipt(wish, again=_again(receipt)))
    if receipt.get("boot") != wish.boot:
        return _patch(node, _new_receipt(wish, again=0), {"unschedulable": True})
    # Our receipt of this very boot, and the cordon is gone: kured and the system upgrade
    # controller do that once, a human who means it does it again. Then the human wins.
    if _again(receipt) >= _REASSERTIONS:
        return None
    return _patch(node, _new_receipt(wish, again=_again(receipt) + 1), {"unschedulable": True})


def _patch(node: Body, receipt: str | None, spec: Body | None = None) -> Body:
    body: Body = {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "annotations": {RECEIPT: receipt},
        }
    }
    return body if spec is None else {**body, "spec": spec}


def _new_receipt(wish: Wish, *, again: int) -> str:
    receipt: Body = {"by": MANAGER, "boot": wish.boot, "at": wish.at, "reason": wish.reason}
    if again:
        receipt["again"] = again
    return json.dumps(receipt, separators=(",", ":"))


def _receipt(node: Body) -> Body:
    """Read our annotation; what somebody else wrote there counts as an empty receipt."""
    try:
        receipt = json.loads(_annotations(node).get(RECEIPT, "{}"))
    except (TypeError, ValueError):
        return {}
    return receipt if isinstance(receipt, dict) else {}


def _again(receipt: Body) -> int:
    again = receipt.get("again", 0)
    return again if isinstance(again, int) else _REASSERTIONS


def _same_cause(receipt: Body, wish: Wish) -> bool:
    return receipt.get("boot") == wish.boot and receipt.get("reason") == wish.reason


def _annotations(node: Body) -> Mapping[str, Any]:
    return node["metadata"].get("annotations") or {}


def _is_cordoned(node: Body) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def _is_ours(node: Body) -> bool:
    """Tell whether the cordon carries our receipt and nobody else set the field since."""
    return _is_cordoned(node) and RECEIPT in _annotations(node) and _owners(node) <= {MANAGER}


def _owners(node: Body) -> set[str]:
    """Name who last set `spec.unschedulable`; the server forgets them when the field goes."""
    return {
        str(entry.get("manager"))
        for entry in node["metadata"].get("managedFields") or ()
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }


def _old_condition(node: Body) -> Mapping[str, Any]:
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == CONDITION:
            return dict(condition)
    return {}


def _tell_condition(api: Api, name: str, node: Body, wish: Wish) -> None:
    patch = decide_condition(node, wish)
    if patch is not None:
        api.patch(f"/api/v1/nodes/{name}/status", patch, STRATEGIC)


def _tell_notices(
    api: Api, name: str, wish: Wish, done: frozenset[str]
) -> tuple[frozenset[str], tuple[str, ...]]:
    told: set[str] = set()
    trouble: list[str] = []
    for notice in wish.notices:
        if notice.key in done:
            continue
        try:
            _tell_notice(api, name, notice)
        except ClusterAwayError as error:
            return frozenset(told), (*trouble, f"event {notice.reason}: {error}")
        except ClusterError as error:
            trouble.append(f"event {notice.reason}: {error}")
        else:
            told.add(notice.key)
    return frozenset(told), tuple(trouble)


def _tell_notice(api: Api, name: str, notice: Notice) -> None:
    answer = api.ask("POST", _EVENTS, event_body(name, notice), JSON)
    if answer.body.get("reason") != "AlreadyExists":  # then an earlier attempt got through
        judge(answer)
