"""The Node is brought to the wish, and nothing of anybody else's is undone."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import kubelet
from tests.fakes.apiserver import ApiServer
from tests.fakes.kube_rules import User
from tests.fakes.pki import PKI
from trialboot.cluster.api import Api, Body
from trialboot.cluster.node import (
    CONDITION,
    RECEIPT,
    Delivered,
    deliver,
    node_name,
    ready_of,
)
from trialboot.core.node import Notice, Wish
from trialboot.errors import ClusterAwayError, ClusterError
from trialboot.host import Host

AT = "2026-11-22T12:00:00Z"
TRIAL = Wish(
    cordoned=True,
    reason="TrialRunning",
    message="The boot of today is on trial.",
    condition="Unknown",
    boot="6f1c",
    at=AT,
)
PROVEN = replace(TRIAL, cordoned=False, reason="BootProven", condition="True", message="All well.")
NOTICE = Notice(key="1f3a-condemned", kind="Warning", reason="Condemned", message="m", at=AT)
NOBODY: frozenset[str] = frozenset()
OURS = json.dumps({"by": "trialboot", "boot": "6f1c", "at": AT, "reason": "TrialRunning"})


def _send(api: Api, wish: Wish, done: frozenset[str] = NOBODY) -> Delivered:
    return deliver(api, "node-a", wish, done)


def _node(server: ApiServer) -> tuple[bool, str | None]:
    node = server.nodes["node-a"]
    receipt = node["metadata"].get("annotations", {}).get(RECEIPT)
    return node["spec"].get("unschedulable", False), receipt


def _condition(server: ApiServer) -> Any:
    conditions = server.nodes["node-a"]["status"]["conditions"]
    return next(one for one in conditions if one["type"] == CONDITION)


# Who we are


def test_the_cluster_says_which_node_we_are(api: Api) -> None:
    assert node_name(api) == "node-a"
    assert node_name(api, "node-a") == "node-a"


def test_another_configured_name_is_refused_naming_both(api: Api) -> None:
    with pytest.raises(ClusterError, match="'node-b', but the credential is that of 'node-a'"):
        node_name(api, "node-b")


def test_before_reviews_existed_the_certificate_says_it(api: Api, server: ApiServer) -> None:
    server.cluster.knows_reviews = False
    assert node_name(api) == "node-a"


def test_without_reviews_and_certificate_nobody_says_it(host: Host, server: ApiServer) -> None:
    server.cluster.knows_reviews = False
    server.tokens = {"t": User("system:node:node-a", ("system:nodes", "system:authenticated"))}
    ca = "/var/lib/kubelet/pki/ca.crt"
    cluster = {"server": server.url, "certificate-authority": ca}
    kubelet.write(host, cluster=cluster, user={"token": "t"})
    with Api(host) as api, pytest.raises(ClusterError, match="no client certificate"):
        node_name(api)


def test_a_credential_that_is_no_nodes_is_refused(host: Host, keys: PKI) -> None:
    kubelet.rotate(host, keys, name="no-prefix")
    with Api(host) as api, pytest.raises(ClusterError, match="that of 'node-a', not of a node"):
        node_name(api)


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([], None),
        ([{"type": "DiskPressure", "status": "True"}], None),
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "False"}], False),
        ([{"type": "Ready", "status": "Unknown"}], False),
        (None, None),
    ],
)
def test_the_node_is_ready_only_if_its_condition_says_so(
    conditions: list[Body] | None, *, ready: bool | None
) -> None:
    assert ready_of({"status": {"conditions": conditions}}) is ready


# The whole delivery


def test_a_trial_cordons_tells_the_condition_and_an_event(api: Api, server: ApiServer) -> None:
    delivered = _send(api, replace(TRIAL, notices=(NOTICE,)))
    assert delivered == Delivered(
        cordoned=True, foreign=False, ready=True, notices=frozenset({NOTICE.key})
    )
    cordoned, receipt = _node(server)
    assert (cordoned, json.loads(receipt or "")) == (True, json.loads(OURS))
    assert _condition(server)["status"] == "Unknown"
    (event,) = server.events
    assert event["metadata"]["name"] == "node-a.trialboot-1f3a-condemned"
    assert event["involvedObject"]["uid"] == "node-a"


def test_cordon_and_receipt_are_one_write_before_all_others(api: Api, server: ApiServer) -> None:
    _send(api, replace(TRIAL, notices=(NOTICE,)))
    paths = [request.path.rpartition("/")[2] for request in server.writes]
    assert paths == ["node-a", "status", "events"]
    body = server.writes[0].body or {}
    assert body["spec"] == {"unschedulable": True}
    assert body["metadata"].keys() == {"resourceVersion", "annotations"}


@pytest.mark.parametrize("wish", [TRIAL, PROVEN])
def test_a_second_delivery_writes_nothing(api: Api, server: ApiServer, wish: Wish) -> None:
    first = _send(api, replace(wish, notices=(NOTICE,)))
    server.log.clear()
    later = replace(wish, notices=(NOTICE,), at="2026-11-23T00:00:00Z")
    second = _send(api, later, first.notices)
    assert server.writes == []
    assert second == replace(first, notices=NOBODY)


def test_the_other_conditions_stay(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    kinds = {one["type"] for one in server.nodes["node-a"]["status"]["conditions"]}
    assert kinds == {"Ready", CONDITION}


def test_an_event_that_is_there_already_is_done(api: Api, server: ApiServer) -> None:
    wish = replace(TRIAL, notices=(NOTICE,))
    _send(api, wish)
    assert _send(api, wish).notices == {NOTICE.key}
    assert len(server.events) == 1


def test_a_refused_event_does_not_hide_the_cordon(api: Api, server: ApiServer) -> None:
    server.fail_next(403, method="POST")
    other = replace(NOTICE, key="other")
    delivered = _send(api, replace(TRIAL, notices=(NOTICE, other)))
    assert (delivered.cordoned, delivered.notices) == (True, frozenset({"other"}))
    assert "answered 403" in delivered.trouble[0]


def test_when_the_server_goes_away_the_rest_waits(api: Api, server: ApiServer) -> None:
    server.fail_next(503, method="POST")
    delivered = _send(api, replace(TRIAL, notices=(NOTICE, replace(NOTICE, key="other"))))
    assert (delivered.notices, len(delivered.trouble)) == (NOBODY, 1)
    assert len(server.writes) == 3


def test_a_condition_that_fails_is_told_as_trouble(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    server.fail_next(422, method="PATCH")
    delivered = _send(api, replace(TRIAL, message="Other words."))
    assert delivered.cordoned
    assert delivered.trouble[0].startswith("condition BootProven: ")


def test_an_api_that_is_away_raises_and_the_next_start_delivers(
    api: Api, server: ApiServer
) -> None:
    server.refuse_connections()
    with pytest.raises(ClusterAwayError):
        _send(api, TRIAL)
    server.accept_connections()
    assert _send(api, TRIAL).cordoned


def test_a_node_that_is_not_registered_yet_is_away(api: Api, server: ApiServer) -> None:
    del server.nodes["node-a"]
    with pytest.raises(ClusterAwayError, match="not registered yet"):
        _send(api, TRIAL)
    assert server.writes == []


# Who wins the cordon (the interleavings that were measured)


def test_a_foreign_cordon_is_left_alone(api: Api, server: ApiServer) -> None:
    server.cordon_as("kubectl-cordon")
    delivered = _send(api, TRIAL)
    assert (delivered.cordoned, delivered.foreign) == (True, True)
    assert _node(server) == (True, None)
    assert _send(api, PROVEN).foreign
    assert _node(server) == (True, None)


def test_our_cordon_is_undone(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    delivered = _send(api, PROVEN)
    assert (delivered.cordoned, delivered.foreign) == (False, False)
    assert _node(server) == (False, None)


def test_a_human_who_cordons_a_cordoned_node_changes_nothing(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    server.cordon_as("kubectl-cordon")
    assert not _send(api, PROVEN).cordoned


def test_after_a_humans_uncordon_only_the_receipt_goes(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    server.uncordon_as("kubectl-uncordon")
    server.log.clear()
    _send(api, PROVEN)
    assert _node(server) == (False, None)
    assert "spec" not in (server.writes[0].body or {})


def test_a_humans_own_cordon_outlives_ours(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    server.uncordon_as("kubectl-uncordon")
    server.cordon_as("kubectl-cordon")
    delivered = _send(api, PROVEN)
    assert (delivered.cordoned, delivered.foreign) == (True, True)
    assert _node(server) == (True, None)


def test_an_uncordon_is_repaired_twice_and_then_respected(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    for again in (1, 2):
        server.uncordon_as("kured")
        assert _send(api, TRIAL).cordoned
        assert json.loads(_node(server)[1] or "")["again"] == again
    server.uncordon_as("kubectl-uncordon")
    delivered = _send(api, TRIAL)
    assert (delivered.cordoned, delivered.overruled) == (False, True)
    assert _send(api, replace(TRIAL, boot="next")).cordoned


def test_a_new_boot_renews_the_receipt_of_a_standing_cordon(api: Api, server: ApiServer) -> None:
    _send(api, TRIAL)
    _send(api, replace(TRIAL, boot="next", reason="Recovered"))
    cordoned, receipt = _node(server)
    assert (cordoned, json.loads(receipt or "")["boot"]) == (True, "next")
    assert not _send(api, PROVEN).cordoned


@pytest.mark.parametrize("conflicts", [1, 4])
def test_a_conflict_is_read_and_decided_again(api: Api, server: ApiServer, conflicts: int) -> None:
    server.fail_next(409, method="PATCH", times=conflicts)
    assert _send(api, TRIAL).cordoned
    assert [one.method for one in server.log[:2]] == ["GET", "PATCH"]


def test_five_conflicts_are_enough(api: Api, server: ApiServer) -> None:
    server.fail_next(409, method="PATCH", times=5)
    with pytest.raises(ClusterAwayError, match="changed by others 5 times"):
        _send(api, TRIAL)
    assert len(server.log) == 10


def test_a_write_of_unknown_outcome_is_read_before_it_is_repeated(
    api: Api, server: ApiServer
) -> None:
    server.fail_next(504, method="PATCH", applied=True)
    assert _send(api, TRIAL).cordoned
    cordons = [one for one in server.writes if one.path.endswith("/node-a")]
    assert len(cordons) == 1


def test_a_write_that_got_lost_is_repeated_once(api: Api, server: ApiServer) -> None:
    server.fail_next(504, method="PATCH")
    assert _send(api, TRIAL).cordoned
    server.fail_next(504, method="PATCH", times=2)
    with pytest.raises(ClusterAwayError):
        _send(api, PROVEN)


def test_a_stranger_at_the_address_is_away(api: Api, server: ApiServer) -> None:
    server.nodes["node-a"] = {"kind": "Status", "metadata": {}}
    with pytest.raises(ClusterAwayError, match="sent no Node"):
        _send(api, TRIAL)
