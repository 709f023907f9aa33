"""How the fake API server changes a Node: patches, unknown fields, and who owns which field."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from tests.fakes.kube_rules import Body, unknown

Path = tuple[str, ...]

MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"

_METADATA: Final = frozenset({
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation",
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "labels",
    "annotations", "ownerReferences", "finalizers", "managedFields",
})  # fmt: skip
_SPEC: Final = frozenset({
    "podCIDR", "podCIDRs", "providerID", "unschedulable", "taints", "configSource", "externalID",
})  # fmt: skip
_STATUS: Final = frozenset({
    "capacity", "allocatable", "phase", "conditions", "addresses", "daemonEndpoints", "nodeInfo",
    "images", "volumesInUse", "volumesAttached", "config", "runtimeHandlers", "features",
    "declaredFeatures",
})  # fmt: skip
_CONDITION: Final = frozenset({
    "type", "status", "reason", "message", "lastHeartbeatTime", "lastTransitionTime",
})  # fmt: skip
_MERGE_KEYS: Final = {"conditions": "type", "taints": "key", "ownerReferences": "uid"}


def new_node(name: str) -> Body:
    """A Node as a kubelet registers it."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    ready = {
        "type": "Ready",
        "status": "True",
        "lastHeartbeatTime": "2026-11-22T12:50:12Z",
        "lastTransitionTime": "2026-11-22T12:50:12Z",
        "reason": "KubeletReady",
        "message": "fake",
    }
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "creationTimestamp": "2026-11-22T12:50:12Z",
            "labels": labels,
            "managedFields": [],
        },
        "spec": {},
        "status": {"conditions": [ready]},
    }


def patched(old: Body, patch: Body, kind: str) -> Body:
    """The object after the patch, before admission and strategy."""
    new: Body = copy.deepcopy(old)
    if kind == MERGE:
        _merge(new, patch)
    else:
        _merge_strategically(new, patch)
    return new


def prune(node: Body) -> list[str]:
    """Drop fields that a Node does not have; name them as the Warning header does."""
    dropped = [
        key for key in node if key not in {"kind", "apiVersion", "metadata", "spec", "status"}
    ]
    for key in dropped:
        del node[key]
    for part, known in (("metadata", _METADATA), ("spec", _SPEC), ("status", _STATUS)):
        dropped += _prune(node.get(part) or {}, known, part)
    for index, condition in enumerate((node.get("status") or {}).get("conditions") or []):
        dropped += _prune(condition, _CONDITION, f"status.conditions[{index}]")
    return dropped


def normalise(node: Body) -> None:
    """Keep only what the server keeps: no false flag, no empty map; refuse types it would not."""
    spec = node.setdefault("spec", {})
    if not isinstance(spec.get("unschedulable", False), bool):
        raise unknown("what is said to an unschedulable that is no bool")
    if spec.get("unschedulable") is False:
        del spec["unschedulable"]
    for key in ("labels", "annotations"):
        values = node["metadata"].get(key)
        if values is not None and not all(isinstance(value, str) for value in values.values()):
            raise unknown(f"what is said to {key} that are no text")
        if not values:
            node["metadata"].pop(key, None)


def own(old: Body, new: Body, manager: str, subresource: str, at: str) -> None:
    """Keep managedFields: who changed a field owns it, a field that went is owned by nobody."""
    before, after = _leaves(old), _leaves(new)
    written = {path for path, value in after.items() if before.get(path, ...) != value}
    gone = written | (before.keys() - after.keys())
    entries = []
    mine: set[Path] = set(written)
    for entry in old["metadata"].get("managedFields", []):
        paths = set(_paths(entry["fieldsV1"])) - gone
        if _is_entry(entry, manager, subresource):
            mine |= paths
        elif paths:
            entries.append({**entry, "fieldsV1": _tree(paths)})
    if mine:
        entries.append(_entry(mine, manager, subresource, at))
    new["metadata"]["managedFields"] = entries


def owners_of(node: Body, *path: str) -> set[str]:
    """The managers of one field, for tests."""
    entries = node["metadata"].get("managedFields", [])
    return {entry["manager"] for entry in entries if path in set(_paths(entry["fieldsV1"]))}


def _merge(target: Body, patch: Body) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target.get(key)
            target[key] = inner if isinstance(inner, dict) else {}
            _merge(target[key], value)
        else:
            target[key] = value


def _merge_strategically(target: Body, patch: Body) -> None:
    for key, value in patch.items():
        if key.startswith("$"):
            raise unknown(f"the directive {key} of a strategic merge patch")
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge_strategically(target.setdefault(key, {}), value)
        elif isinstance(value, list):
            target[key] = _merge_list(target.get(key) or [], value, key)
        else:
            target[key] = value


def _merge_list(old: list[Body], patch: list[Body], key: str) -> list[Body]:
    merge_key = _MERGE_KEYS.get(key)
    if merge_key is None:
        raise unknown(f"how the list {key} is merged strategically")
    kept = {item[merge_key]: copy.deepcopy(item) for item in old}
    added: dict[str, Body] = {}
    for item in patch:
        name = item[merge_key]
        if item.get("$patch") == "delete":
            kept.pop(name, None)
        elif "$patch" in item:
            raise unknown(f"the directive $patch: {item['$patch']}")
        else:
            _merge_strategically(kept.get(name) or added.setdefault(name, {}), item)
    return [*added.values(), *kept.values()]


def _prune(table: Body, known: frozenset[str], where: str) -> list[str]:
    dropped = sorted(key for key in table if key not in known)
    for key in dropped:
        del table[key]
    return [f"{where}.{key}" for key in dropped]


def _leaves(node: Body) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for part in ("labels", "annotations"):
        for key, value in (node["metadata"].get(part) or {}).items():
            found["f:metadata", f"f:{part}", "."] = ""  # whoever made the map owns the dot
            found["f:metadata", f"f:{part}", f"f:{key}"] = value
    for key, value in (node.get("spec") or {}).items():
        found["f:spec", f"f:{key}"] = value
    for condition in (node.get("status") or {}).get("conditions") or []:
        name = "k:" + json.dumps({"type": condition["type"]}, separators=(",", ":"))
        found["f:status", "f:conditions", "."] = ""
        found["f:status", "f:conditions", name, "."] = ""
        for key, value in condition.items():
            found["f:status", "f:conditions", name, f"f:{key}"] = value
    return found


def _paths(tree: Body, above: Path = ()) -> Iterator[Path]:
    for key, below in tree.items():
        if below:
            yield from _paths(below, (*above, key))
        else:
            yield (*above, key)


def _tree(paths: set[Path]) -> Body:
    tree: Body = {}
    for path in sorted(paths):
        place = tree
        for key in path:
            place = place.setdefault(key, {})
    return tree


def _is_entry(entry: Body, manager: str, subresource: str) -> bool:
    same = (entry["manager"], entry["operation"], entry.get("subresource", ""))
    return same == (manager, "Update", subresource)


def _entry(paths: set[Path], manager: str, subresource: str, at: str) -> Body:
    entry: Body = {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": at}
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": _tree(paths)}
    return {**entry, "subresource": subresource} if subresource else entry
