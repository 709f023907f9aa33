"""The HTTPS client: whom it trusts, when it reads the credential anew, which error says what."""

import ssl
import time
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.fakes import kubelet, pki
from tests.fakes.apiserver import ApiServer
from tests.fakes.kube_rules import User
from tests.fakes.pki import PKI
from trialboot.cluster.api import MERGE, Answer, Api, ConflictError, judge, parse_body, tls_context
from trialboot.cluster.credential import read_credential
from trialboot.errors import ClusterAwayError, ClusterError
from trialboot.host import Host

NODE = "/api/v1/nodes/node-a"
CA = "/var/lib/kubelet/pki/ca.crt"
CORDON = {"spec": {"unschedulable": True}}


def test_it_reads_its_own_node(api: Api) -> None:
    assert api.get(NODE)["metadata"]["name"] == "node-a"


def test_it_names_itself_and_limits_the_servers_time(api: Api, server: ApiServer) -> None:
    api.patch(NODE, CORDON, MERGE)
    entry = server.nodes["node-a"]["metadata"]["managedFields"][-1]
    assert (entry["manager"], entry["operation"]) == ("trialboot", "Update")
    assert server.log[-1].content_type == MERGE


def test_inline_data_is_enough(host: Host, keys: PKI, server: ApiServer) -> None:
    certificate, key = keys.client
    inline = {
        "client-certificate-data": kubelet.inline(certificate),
        "client-key-data": kubelet.inline(key),
    }
    cluster = {"server": server.url, "certificate-authority-data": kubelet.inline(keys.ca)}
    kubelet.write(host, cluster=cluster, user=inline)
    with Api(host) as api:
        assert api.get(NODE)["kind"] == "Node"
        assert api.common_name() == "system:node:node-a"


def test_a_token_file_is_read_for_each_request(host: Host, server: ApiServer) -> None:
    user = User("system:node:node-a", ("system:nodes", "system:authenticated"))
    server.tokens = {"first": user, "second": user}
    token = host.path("/etc/kubernetes/token")
    token.write_text("first\n")
    cluster = {"server": server.url, "certificate-authority": CA}
    kubelet.write(host, cluster=cluster, user={"tokenFile": "token"})
    with Api(host) as api:
        api.get(NODE)
        del server.tokens["first"]
        token.write_text("second\n")
        assert api.get(NODE)["kind"] == "Node"
        assert api.common_name() is None


def test_a_token_cannot_smuggle_a_header(host: Host, server: ApiServer) -> None:
    cluster = {"server": server.url, "certificate-authority": CA}
    kubelet.write(host, cluster=cluster, user={"token": "a\r\nX-Evil: 1"})
    with Api(host) as api, pytest.raises(ClusterError, match="characters that no token has"):
        api.get(NODE)


def test_a_server_of_another_authority_is_refused(
    host: Host, stranger: PKI, server: ApiServer
) -> None:
    host.path(CA).write_bytes(stranger.ca.read_bytes())
    with Api(host) as api, pytest.raises(ClusterAwayError, match="is not the server of"):
        api.get(NODE)
    assert server.log == []


def test_an_empty_authority_trusts_nobody(host: Host) -> None:
    host.path(CA).write_text("")
    with Api(host) as api, pytest.raises(ClusterError, match="certificates cannot be used"):
        api.get(NODE)


def test_tls_server_name_is_what_is_checked(host: Host, server: ApiServer) -> None:
    address = server.url.replace("127.0.0.1", "localhost")
    cluster = {"server": address, "certificate-authority": CA}
    kubelet.write(host, cluster=cluster | {"tls-server-name": "kubernetes"})
    with Api(host) as api:
        assert api.get(NODE)["kind"] == "Node"
    for name in ({}, {"tls-server-name": "other"}):
        kubelet.write(host, cluster=cluster | name)
        with Api(host) as api, pytest.raises(ClusterAwayError, match=r"is not valid for|mismatch"):
            api.get(NODE)


def test_an_authority_without_key_identifier_is_accepted(tmp_path: Path) -> None:
    old = pki.authority(tmp_path / "eks", "old authority", identified=False)
    old.issue("server", "/CN=kubernetes", section="server")
    old.issue_node("node-a")
    with ApiServer(old) as server:
        server.add_node("node-a")
        host = kubelet.install(tmp_path / "root", old, server.url)
        with Api(host) as api:
            assert api.get(NODE)["kind"] == "Node"


def test_the_context_checks_everything_else(host: Host) -> None:
    credential = read_credential(host, PurePosixPath(kubelet.KUBECONFIG))
    context = tls_context(host, credential.kubeconfig)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_one_connection_carries_many_requests(api: Api) -> None:
    api.get(NODE)
    line = api._line
    api.get(NODE)
    assert line is not None
    assert api._line is line


def test_a_rotated_certificate_is_used_without_a_401(
    api: Api, host: Host, keys: PKI, server: ApiServer
) -> None:
    kubelet.rotate(host, keys, name="brief")
    api.get(NODE)
    kubelet.rotate(host, keys, name="client")
    server.skew = timedelta(days=2)
    api.get(NODE)
    assert [request.status for request in server.log] == [200, 200]


def test_a_certificate_that_expires_on_an_open_connection_is_read_anew(
    host: Host, keys: PKI, server: ApiServer
) -> None:
    kubelet.rotate(host, keys, name="brief")
    with Api(host) as api:
        api.get(NODE)
        server.skew = timedelta(days=2)
        with pytest.raises(ClusterAwayError, match=r"401: Unauthorized.*read anew"):
            api.get(NODE)
        kubelet.rotate(host, keys, name="client")
        assert api.get(NODE)["kind"] == "Node"
    assert [request.status for request in server.log] == [200, 401, 401, 200]


def test_the_first_401_reconnects_and_repeats_once(api: Api, server: ApiServer) -> None:
    api.get(NODE)
    line = api._line
    server.fail_next(401)
    assert api.get(NODE)["kind"] == "Node"
    assert api._line is not line
    assert [request.status for request in server.log] == [200, 401, 200]


def test_overload_is_away_though_it_is_plain_text(api: Api, server: ApiServer) -> None:
    server.fail_next(429)
    with pytest.raises(ClusterAwayError, match="429: Too many requests, please try again later"):
        api.get(NODE)


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_server_in_trouble_is_away(api: Api, server: ApiServer, status: int) -> None:
    server.fail_next(status)
    with pytest.raises(ClusterAwayError, match=f"answered {status}"):
        api.get(NODE)
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [403, 422])
def test_a_refusal_is_final(api: Api, server: ApiServer, status: int) -> None:
    server.fail_next(status)
    with pytest.raises(ClusterError, match=f"answered {status}") as caught:
        api.get(NODE)
    assert type(caught.value) is ClusterError


def test_a_conflict_has_its_own_error(api: Api) -> None:
    stale = CORDON | {"metadata": {"resourceVersion": "1"}}
    with pytest.raises(ConflictError, match="the object has been modified"):
        api.patch(NODE, stale, MERGE)


def test_a_node_that_is_not_registered_is_away(host: Host, keys: PKI) -> None:
    kubelet.rotate(host, keys, name="ghost")
    with Api(host) as api, pytest.raises(ClusterAwayError, match="not registered yet"):
        api.get("/api/v1/nodes/node-ghost")


def test_a_refused_connection_is_away_and_the_next_request_dials_again(
    api: Api, server: ApiServer
) -> None:
    api.get(NODE)
    port = server.port
    server.refuse_connections()
    for _ in range(2):
        with pytest.raises(ClusterAwayError, match="did not answer"):
            api.get(NODE)
    server.accept_connections()
    assert api.get(NODE)["kind"] == "Node"
    assert server.port == port


def test_a_silent_server_is_away_in_time(host: Host, server: ApiServer) -> None:
    server.delay = 2.0
    begin = time.monotonic()
    with Api(host, patience=0.2) as api, pytest.raises(ClusterAwayError, match="timed out"):
        api.get(NODE)
    assert time.monotonic() - begin < 1.5


def test_a_mismatched_pair_cannot_be_used(host: Host, keys: PKI) -> None:
    host.path("/var/lib/kubelet/pki/client.key").write_bytes(keys.server[1].read_bytes())
    with Api(host) as api, pytest.raises(ClusterError, match="certificates cannot be used"):
        api.get(NODE)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b'{"message": "m"}', {"message": "m"}),
        (b"<html>no</html>\n", {"message": "<html>no</html>"}),
        (b"[1]", {"message": "[1]"}),
        (b"", {"message": ""}),
        (b"x" * 900, {"message": "x" * 300}),
    ],
)
def test_an_answer_is_read_whatever_it_is(raw: bytes, body: dict[str, Any]) -> None:
    assert parse_body(raw) == body


def test_a_redirect_is_refused() -> None:
    with pytest.raises(ClusterError, match="answered 302"):
        judge(Answer(302, {}))
