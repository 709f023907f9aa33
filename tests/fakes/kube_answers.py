"""What the fake API server answers to a user's request, before it goes over the wire."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.fakes import kube_objects
from tests.fakes.kube_rules import (
    Body,
    Refused,
    Target,
    User,
    authorize,
    failure,
    not_found,
    restrict,
    stale,
    unknown,
)

_PATH: Final = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)
_QUERY: Final = frozenset({"fieldManager", "timeout", "dryRun", "fieldSelector"})
_DNS: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_EVENT: Final = frozenset({
    "apiVersion", "kind", "metadata", "involvedObject", "reason", "message", "source", "type",
    "firstTimestamp", "lastTimestamp", "count", "reportingComponent", "reportingInstance",
})  # fmt: skip
_PATCHES: Final = frozenset({kube_objects.MERGE, kube_objects.STRATEGIC})
_PATCHES_NOT_KNOWN: Final = frozenset(
    {"application/json-patch+json", "application/apply-patch+yaml"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, taken apart."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    agent: str
    body: Body | None

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager") or self.agent.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Success:
    status: int
    body: Body | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Cluster:
    """Nodes and Events, and the rules by which they change."""

    now: Callable[[], str]
    nodes: dict[str, Body] = field(default_factory=dict)
    events: dict[str, Body] = field(default_factory=dict)
    version: int = 200
    knows_reviews: bool = True

    def add_node(self, node: Body) -> None:
        """Put a Node there as it is; without a resourceVersion it gets the next one."""
        node = copy.deepcopy(node)
        if "resourceVersion" not in node["metadata"]:
            node["metadata"]["resourceVersion"] = self._next_version()
        self.version = max(self.version, int(node["metadata"]["resourceVersion"]))
        self.nodes[node["metadata"]["name"]] = node

    def change(self, name: str, patch: Body, manager: str) -> None:
        """Change a Node as an administrator does, past every rule."""
        old = self.nodes[name]
        new = kube_objects.patched(old, patch, kube_objects.MERGE)
        kube_objects.normalise(new)
        self._keep(old, new, manager, "")

    def answer(self, user: User, asked: Asked) -> Success:
        """Answer, or raise `Refused`."""
        if asked.method == "GET" and asked.path in {"/livez", "/readyz"}:
            return Success(200, "ok", {"Content-Type": "text/plain; charset=utf-8"})
        target = _target(asked)
        authorize(user, target)
        odd = sorted(asked.query.keys() - _QUERY)
        if odd:
            raise unknown(f"the query {', '.join(odd)}")
        match target.verb, target.resource, target.group:
            case "create", "selfsubjectreviews", "authentication.k8s.io":
                return self._review(user, target)
            case "get", "nodes", "" if not target.subresource:
                return Success(200, self._node(target.name))
            case "patch", "nodes", "" if target.subresource in {"", "status"}:
                return self._patch_node(user, target, asked)
            case "create", "events", "":
                return self._create_event(target, asked)
            case _:
                raise unknown(f"{asked.method} {asked.path}")

    def _review(self, user: User, target: Target) -> Success:
        if not self.knows_reviews:
            raise failure(403, f'{target.kind} is forbidden: User "{user.name}" cannot create it')
        info = {"username": user.name, "groups": list(user.groups)}
        body: Body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
        body |= {"metadata": {"creationTimestamp": self.now()}, "status": {"userInfo": info}}
        return Success(201, body)

    def _node(self, name: str) -> Body:
        if name not in self.nodes:
            raise not_found(name)
        return self.nodes[name]

    def _patch_node(self, user: User, target: Target, asked: Asked) -> Success:
        _refuse_content_type(asked.content_type)
        old = self._node(target.name)
        patch = asked.body or {}
        version = (patch.get("metadata") or {}).get("resourceVersion")
        new = kube_objects.patched(old, patch, asked.content_type)
        dropped = kube_objects.prune(new)
        _refuse_new_identity(old, new)
        restrict(user, old, new)
        other = "spec" if target.subresource else "status"
        new[other] = copy.deepcopy(old.get(other, {}))
        kube_objects.normalise(new)
        current = old["metadata"]["resourceVersion"]
        if version not in {None, current}:
            raise stale(target.name)
        dry = asked.query.get("dryRun") == "All"
        self._keep(old, new, asked.manager, target.subresource, dry=dry)
        warning = ", ".join(f'299 - "unknown field \\"{name}\\""' for name in dropped)
        return Success(200, new, {"Warning": warning} if warning else {})

    def _keep(
        self, old: Body, new: Body, manager: str, subresource: str, *, dry: bool = False
    ) -> None:
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        new["metadata"]["managedFields"] = old["metadata"].get("managedFields", [])
        if new == old:
            return
        kube_objects.own(old, new, manager, subresource, self.now())
        if dry:
            return
        new["metadata"]["resourceVersion"] = self._next_version()
        self.nodes[new["metadata"]["name"]] = new

    def _create_event(self, target: Target, asked: Asked) -> Success:
        event = copy.deepcopy(asked.body or {})
        name = _event_name(event, target.namespace)
        about = event.get("involvedObject", {}).get("namespace", "")
        if about != target.namespace and (about, target.namespace) != ("", "default"):
            raise _wrong_namespace(name, about)
        key = f"{target.namespace}/{name}"
        if key in self.events:
            text = f'events "{name}" already exists'
            raise failure(409, text, reason="AlreadyExists", name=name, kind="events")
        event["metadata"] |= {"resourceVersion": self._next_version(), "uid": f"uid-of-{name}"}
        event["metadata"]["creationTimestamp"] = self.now()
        self.events[key] = event
        return Success(201, event)

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)


def _target(asked: Asked) -> Target:
    found = _PATH.fullmatch(asked.path)
    if not found:
        raise unknown(f"the path {asked.path}")
    name = found["name"] or ""
    reading = "get" if name else "watch" if "watch" in asked.query else "list"
    verbs = {"GET": reading, "POST": "create", "PATCH": "patch", "PUT": "update"}
    return Target(
        verb=verbs.get(asked.method, "delete"),
        group=found["group"] or "",
        resource=found["resource"],
        namespace=found["namespace"] or "",
        name=name,
        subresource=found["subresource"] or "",
        query=asked.query,
    )


def _refuse_content_type(content_type: str) -> None:
    if content_type in _PATCHES_NOT_KNOWN:
        raise unknown(f"a patch of type {content_type}")
    if content_type not in _PATCHES:
        text = "415: Unsupported Media Type"
        refused = failure(415, text)
        if isinstance(refused.body, dict):
            refused.body["details"] = {}
        raise refused


def _refuse_new_identity(old: Body, new: Body) -> None:
    for key in ("name", "uid", "creationTimestamp", "managedFields"):
        if old["metadata"].get(key) != new["metadata"].get(key):
            raise unknown(f"what is said to a changed metadata.{key}")


def _event_name(event: Body, namespace: str) -> str:
    odd = sorted(event.keys() - _EVENT)
    if odd:
        raise unknown(f"what is said to an Event with {', '.join(odd)}")
    metadata = event.get("metadata") or {}
    name = metadata.get("name")
    if not isinstance(name, str) or not _DNS.fullmatch(name) or len(name) > 253:
        raise unknown(f"what is said to an Event named {name!r}: a real server wants a DNS name")
    if metadata.get("namespace") != namespace:
        raise unknown("what is said to an Event whose namespace is not that of the path")
    return name


def _wrong_namespace(name: str, about: str) -> Refused:
    why = f'Invalid value: "{about}": does not match event.namespace'
    where = "involvedObject.namespace"
    cause = {"reason": "FieldValueInvalid", "message": why, "field": where}
    text = f'Event "{name}" is invalid: {where}: {why}'
    return failure(422, text, name=name, kind="Event", causes=[cause])
