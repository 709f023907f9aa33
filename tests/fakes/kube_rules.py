"""Who may do what at the fake API server: authentication, the Node authorizer, NodeRestriction.

Each text is a recorded answer of a real kube-apiserver (tests/fakes/recordings).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Body = dict[str, Any]

_PREFIX: Final = "system:node:"
_REASONS: Final = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_FREE_LABELS: Final = frozenset({
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
    "beta.kubernetes.io/os", "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
})  # fmt: skip
_FREE_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KEPT_DOMAINS: Final = ("kubernetes.io", "k8s.io")


class Refused(Exception):  # noqa: N818  an answer, not a failure
    """An answer other than success, as it goes over the wire."""

    def __init__(
        self, status: int, body: Body | str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()

    @property
    def node(self) -> str | None:
        """The node this credential belongs to, if the authorizer takes it for a node at all."""
        if "system:nodes" not in self.groups or not self.name.startswith(_PREFIX):
            return None
        return self.name.removeprefix(_PREFIX)


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request asks for, as the authorizer sees it."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


def failure(code: int, message: str, **details: Any) -> Refused:
    """A Status object with the reason that belongs to the code."""
    body: Body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body |= {"message": message, "reason": details.pop("reason", _REASONS[code])}
    if details:
        body["details"] = details
    return Refused(code, {**body, "code": code})


def unknown(what: str) -> Refused:
    """The fake's own answer: better no answer than an invented one."""
    return Refused(501, f"the fake API server does not know: {what}\n")


def unauthorized() -> Refused:
    return failure(401, "Unauthorized")


def too_many_requests() -> Refused:
    text = "Too many requests, please try again later.\n"
    return Refused(429, text, {"Content-Type": "text/plain; charset=utf-8", "Retry-After": "1"})


def timed_out() -> Refused:
    body = {
        "metadata": {},
        "status": "Failure",
        "message": "Timeout: request did not complete within the allotted timeout",
        "reason": "Timeout",
        "details": {},
        "code": 504,
    }
    return Refused(504, body, {"Content-Type": "text/plain; charset=utf-8"})


def not_found(name: str) -> Refused:
    return failure(404, f'nodes "{name}" not found', name=name, kind="nodes")


def stale(name: str) -> Refused:
    text = (
        f'Operation cannot be fulfilled on nodes "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return failure(409, text, name=name, kind="nodes")


def forbidden(user: User, target: Target, because: str = "") -> Refused:
    """The authorizer's refusal."""
    subject = f'{target.kind} "{target.name}"' if target.name else target.kind
    scope = (
        f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    )
    what = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    text = (
        f'{subject} is forbidden: User "{user.name}" cannot {target.verb} resource "{what}" '
        f'in API group "{target.group}" {scope}'
    )
    details = {"name": target.name} if target.name else {}
    details |= {"group": target.group} if target.group else {}
    return failure(
        403, text + (f": {because}" if because else ""), **details, kind=target.resource
    )


def authorize(user: User, target: Target) -> None:
    """Let pass what the Node authorizer and the bootstrap roles let pass; raise for the rest."""
    if target.resource == "selfsubjectreviews" and target.verb == "create":
        if "system:authenticated" in user.groups:
            return
        raise forbidden(user, target)
    node = user.node
    if node is None:
        raise forbidden(user, target)
    if target.group == "" and target.resource == "nodes":
        _authorize_nodes(user, node, target)
    elif target.group == "" and target.resource == "events":
        if target.verb not in {"create", "patch", "update"}:
            raise forbidden(user, target)
    elif target.resource == "leases":
        raise unknown("leases")
    else:
        raise forbidden(user, target, _why_not(node, target))


def _authorize_nodes(user: User, node: str, target: Target) -> None:
    if target.verb in {"create", "patch", "update"}:
        return  # NodeRestriction decides, with the object in hand
    if target.verb in {"list", "watch"}:
        if target.query.get("fieldSelector") == f"metadata.name={node}":
            return
        why = f"node '{node}' cannot read all nodes, only its own Node object"
        raise forbidden(user, target, why)
    if target.verb != "get":
        raise forbidden(user, target)
    if target.name != node:
        why = f"node '{node}' cannot read '{target.name}', only its own Node object"
        raise forbidden(user, target, why)


def _why_not(node: str, target: Target) -> str:
    if target.group != "" or target.resource != "configmaps":
        return ""
    if target.verb == "get":
        return f"no relationship found between node '{node}' and this object"
    return "can only read resources of this type"


def restrict(user: User, old: Body, new: Body) -> None:
    """NodeRestriction: what a kubelet may not change even on its own Node."""
    name = old["metadata"]["name"]
    if user.node != name:
        raise _denied(name, f'node "{user.node}" is not allowed to modify node "{name}"')
    if old.get("spec", {}).get("taints") != new.get("spec", {}).get("taints"):
        raise _denied(name, f'node "{name}" is not allowed to modify taints')
    labels = _foreign_labels(old["metadata"], new["metadata"])
    if labels:
        raise _denied(name, f"is not allowed to modify labels: {', '.join(labels)}")
    if old["metadata"].get("ownerReferences") != new["metadata"].get("ownerReferences"):
        raise _denied(name, f'node "{name}" is not allowed to modify ownerReferences')


def _denied(name: str, why: str) -> Refused:
    return failure(403, f'nodes "{name}" is forbidden: {why}', name=name, kind="nodes")


def _foreign_labels(old: Body, new: Body) -> list[str]:
    before, after = old.get("labels") or {}, new.get("labels") or {}
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    return sorted(key for key in changed if not _is_free(key))


def _is_free(label: str) -> bool:
    domain, slash, _ = label.partition("/")
    if not slash or label in _FREE_LABELS:
        return True
    if _within(domain, _FREE_DOMAINS):
        return True
    return not _within(domain, _KEPT_DOMAINS)


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
