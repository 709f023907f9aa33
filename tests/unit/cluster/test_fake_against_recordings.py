"""The fake API server answers what a real kube-apiserver answered."""

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tests.fakes
from tests.fakes.apiserver import ApiServer
from tests.fakes.pki import PKI

RECORDINGS = Path(str(tests.fakes.__file__)).parent / "recordings"
NAMES = sorted(file.stem for file in RECORDINGS.glob("*.json"))

# The recording whose answer is the Node as it was before; else 02-get-own-node.
BEFORE = {
    "03-cordon-strategic-again-noop": "03-cordon-strategic",
    "03-uncordon-strategic-false": "03-cordon-strategic",
    "03-uncordon-strategic-null": "03-cordon-strategic",
    "04-cordon-merge-with-rv-ok": "04-cordon-merge",
    "04-merge-stale-rv-409": "04-cordon-merge-with-rv-ok",
    "04-uncordon-merge-null": "04-cordon-merge-with-rv-ok",
    "06-unknown-field-warning": "06-unknown-field-warning",
    "09-condition-strategic-status": "07-annotation-any",
    "09-condition-strategic-delete": "09-condition-strategic-status",
    "09-condition-merge-HAZARD-dryrun": "09-condition-strategic-delete",
    "09-main-patch-cannot-touch-status": "09-condition-strategic-delete",
    "09-status-patch-cannot-touch-spec": "09-condition-strategic-delete",
    "15-cordon-recommended": "15-uncordon-recommended",
    "15-uncordon-recommended": "15-cordon-recommended",
}
BEFORE |= {name: "06-unknown-field-warning" for name in NAMES if name[:3] in {"07-", "08-"}}
VERSION_BEFORE = {"15-uncordon-recommended": "393"}
CLIENTS = {
    "20-auth-cert-from-wrong-ca": "stranger",
    "20-auth-expired-cert": "brief",
    "20-auth-ghost-own-node-404": "ghost",
    "20-auth-ghost-patch-404": "ghost",
    "20-auth-no-group": "no-group",
    "20-auth-no-prefix": "no-prefix",
    "20-auth-anonymous": "",
    "20-auth-bad-token": "",
    "20-livez-anon": "",
    "27-auth-cert-expires-on-open-connection": "brief",
}
SKEW = {"20-auth-expired-cert": 2, "20-auth-notyet-cert": -2}
EXISTING = {"10-event-core-duplicate-409": "10-event-core"}
PLANNED = {"21-429-too-many-requests": 429, "22-etcd-frozen-patch-timeout3s": 504}
# Recorded while other managers had a hand in the Node: who owns what is not compared.
OTHERS_OWN = {"15-cordon-recommended", "15-uncordon-recommended", "09-condition-strategic-delete"}


@dataclass
class Line:
    """A connection that knows nothing of trialboot's client."""

    raw: http.client.HTTPSConnection

    def send(self, request: dict[str, Any], headers: dict[str, str]) -> tuple[Any, Any]:
        body = None if request.get("body") is None else json.dumps(request["body"])
        every = request["headers"] | headers
        self.raw.request(request["method"], request["path"], body, every)
        response = self.raw.getresponse()
        text = response.read().decode()
        return response, json.loads(text) if text.startswith("{") else text


@pytest.fixture
def line(request: pytest.FixtureRequest, server: ApiServer) -> Iterator[Line]:
    name = str(request.node.callspec.params.get("name"))
    context = ssl.create_default_context(cafile=str(server.pki.ca))
    client = CLIENTS.get(name, "client")
    if client:
        authority: PKI = request.getfixturevalue("stranger" if client == "stranger" else "keys")
        context.load_cert_chain(*authority.pair("client" if client == "stranger" else client))
    raw = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5, context=context)
    yield Line(raw)
    raw.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_fake_answers_as_recorded(name: str, server: ApiServer, line: Line) -> None:
    recorded = _recording(name)
    headers = _prepare(name, server, line)
    if name in PLANNED:
        server.fail_next(PLANNED[name])
    response, body = line.send({**recorded["request"], "path": _path(recorded)}, headers)
    expected = recorded["response"]
    assert (response.status, response.reason) == (expected["status"], expected["reason"])
    for header in ("Content-Type", "Retry-After", "Warning"):
        assert response.getheader(header) == expected["headers"].get(header)
    assert _what_matters(body, name) == _what_matters(expected["body"], name)


def test_a_patch_that_changes_nothing_keeps_the_version(server: ApiServer) -> None:
    server.cordon_as("kubectl-cordon")
    version = server.nodes["node-a"]["metadata"]["resourceVersion"]
    server.cordon_as("somebody else")
    assert server.nodes["node-a"]["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("PATCH", "/api/v1/nodes/node-a", "application/apply-patch+yaml"),
        ("PATCH", "/api/v1/nodes/node-a", "application/json-patch+json"),
        ("PATCH", "/api/v1/nodes/node-a?force=true", "application/merge-patch+json"),
        ("PUT", "/api/v1/nodes/node-a", "application/json"),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name=node-a", ""),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-a", ""),
        ("GET", "/metrics", ""),
    ],
)
def test_the_fake_says_so_where_it_does_not_know(
    line: Line, method: str, path: str, content_type: str
) -> None:
    sent: Any = {"spec": {}} if content_type else None
    request = {"method": method, "path": path, "headers": {}, "body": sent}
    response, text = line.send(request, {"Content-Type": content_type} if content_type else {})
    assert (response.status, text[:34]) == (501, "the fake API server does not know:")


def _prepare(name: str, server: ApiServer, line: Line) -> dict[str, str]:
    before = _recording(BEFORE.get(name, "02-get-own-node"))["response"]["body"]
    if name in VERSION_BEFORE:
        before["metadata"]["resourceVersion"] = VERSION_BEFORE[name]
    server.add_node(before)
    server.add_node("node-b")
    if name in EXISTING:
        line.send(_recording(EXISTING[name])["request"], {})
    if name.startswith("27-"):
        response, _ = line.send(_recording(name)["request"], {})
        assert response.status == 200
        server.skew = timedelta(days=2)
    server.skew = timedelta(days=SKEW.get(name, server.skew.days))
    return {"Authorization": "Bearer wrong"} if name == "20-auth-bad-token" else {}


def _recording(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def _path(recorded: Any) -> str:
    return str(recorded["request"]["path"])


def _what_matters(body: Any, name: str) -> Any:
    if not isinstance(body, dict):
        return body
    if body.get("kind") == "Node":
        return _what_matters_of_a_node(body, name)
    if body.get("kind") == "SelfSubjectReview":
        info = body["status"]["userInfo"]
        return (info["username"], info["groups"])
    if body.get("kind") == "Event":
        made = {"metadata", "eventTime"}
        named = (body["metadata"]["name"], body["metadata"]["namespace"])
        return named, {key: value for key, value in body.items() if key not in made}
    return body


def _what_matters_of_a_node(node: Any, name: str) -> Any:
    metadata, spec = node["metadata"], dict(node["spec"])
    spec.pop("taints", None)  # the controller manager's, which the recordings had in between
    owners = None if name in OTHERS_OWN else _owners(metadata["managedFields"])
    same = ("name", "uid", "labels", "annotations", "creationTimestamp")
    return {key: metadata.get(key) for key in same}, spec, node["status"], owners


def _owners(entries: Any) -> Any:
    fields = set()
    for entry in entries:
        who = (entry["manager"], entry["operation"], entry.get("subresource", ""))
        fields |= {(who, path) for path in _leaves(entry["fieldsV1"])}
    return fields


def _leaves(tree: Any, above: str = "") -> Iterator[str]:
    for key, below in tree.items():
        if below:
            yield from _leaves(below, f"{above}/{key}")
        else:
            yield f"{above}/{key}"
