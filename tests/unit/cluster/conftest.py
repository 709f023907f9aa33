"""One authority for all tests, a fake API server and a host for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import kubelet, pki
from tests.fakes.apiserver import ApiServer
from tests.fakes.pki import PKI
from trialboot.cluster.api import Api
from trialboot.host import Host


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = pki.make(tmp_path_factory.mktemp("pki"))
    made.issue_node("node-a", name="brief", days=1)
    made.issue_node("node-ghost", name="ghost")
    made.issue("no-group", "/CN=system:node:node-a")
    made.issue("no-prefix", "/O=system:nodes/CN=node-a")
    return made


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = pki.authority(tmp_path_factory.mktemp("stranger"), "another authority")
    made.issue_node("node-a")
    return made


@pytest.fixture
def server(keys: PKI, stranger: PKI) -> Iterator[ApiServer]:
    with ApiServer(keys, strangers=(stranger.ca,)) as api_server:
        api_server.add_node("node-a")
        yield api_server


@pytest.fixture
def host(tmp_path: Path, keys: PKI, server: ApiServer) -> Host:
    return kubelet.install(tmp_path / "root", keys, server.url)


@pytest.fixture
def api(host: Host) -> Iterator[Api]:
    with Api(host, patience=5) as client:
        yield client
