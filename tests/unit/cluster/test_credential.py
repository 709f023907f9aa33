"""The kubelet's credential: found, read, trusted only where nobody else could have written it."""

import base64
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.fakes import kubelet
from trialboot.cluster.credential import (
    KNOWN_PATHS,
    find_kubeconfig,
    is_rotated,
    parse_kubeconfig,
    read_credential,
)
from trialboot.errors import ClusterError
from trialboot.host import Host

BASE = PurePosixPath("/etc/kubernetes")
CLUSTER = {"server": "https://10.0.0.1:6443", "certificate-authority": "pki/ca.crt"}
USER = {"client-certificate": "/var/lib/kubelet/client.pem", "client-key": "client.key"}


@pytest.fixture
def bare(tmp_path: Path) -> Host:
    return Host(root=tmp_path)


def test_a_configured_path_wins_over_known_ones(bare: Host) -> None:
    kubelet.write(bare, cluster=CLUSTER)
    kubelet.write(bare, cluster=CLUSTER, path="/opt/my.conf")
    assert find_kubeconfig(bare, "/opt/my.conf") == PurePosixPath("/opt/my.conf")


@pytest.mark.parametrize("path", KNOWN_PATHS)
def test_each_known_path_is_found(bare: Host, path: str) -> None:
    kubelet.write(bare, cluster=CLUSTER, path=path)
    assert find_kubeconfig(bare) == PurePosixPath(path)


def test_two_names_of_one_file_are_one(bare: Host) -> None:
    kubelet.write(bare, cluster=CLUSTER)
    other = bare.path("/var/lib/kubelet/kubeconfig")
    other.parent.mkdir(parents=True)
    other.symlink_to(bare.path(kubelet.KUBECONFIG))
    assert find_kubeconfig(bare) == PurePosixPath(kubelet.KUBECONFIG)


def test_two_files_are_refused_and_the_key_is_named(bare: Host) -> None:
    kubelet.write(bare, cluster=CLUSTER)
    kubelet.write(bare, cluster=CLUSTER, path="/var/lib/k0s/kubelet.conf")
    with pytest.raises(ClusterError, match=r"kubelet\.conf, /var/lib/k0s.*`kubeconfig`"):
        find_kubeconfig(bare)


def test_none_at_all_says_where_we_looked(bare: Host) -> None:
    with pytest.raises(ClusterError, match="no kubelet credential found; looked in /etc/kuber"):
        find_kubeconfig(bare)


@pytest.mark.parametrize("configured", ["/nowhere.conf", "relative.conf", "/etc"])
def test_a_configured_path_that_is_no_file_is_refused(bare: Host, configured: str) -> None:
    bare.path("/etc").mkdir()
    with pytest.raises(ClusterError, match=configured):
        find_kubeconfig(bare, configured)


@pytest.mark.parametrize(
    ("place", "bits"),
    [
        (kubelet.KUBECONFIG, stat.S_IWOTH),
        ("/etc/kubernetes", stat.S_IWOTH),
        ("/etc", stat.S_IWOTH),
        ("/var/lib/kubelet/pki/client.key", stat.S_IWOTH),
        ("/var/lib/kubelet/pki", stat.S_IWOTH),
    ],
)
def test_what_others_can_write_is_not_trusted(host: Host, place: str, bits: int) -> None:
    path = host.path(place)
    path.chmod(path.stat().st_mode | bits)
    with pytest.raises(ClusterError, match=r"not trusted.*somebody other than root"):
        read_credential(host, PurePosixPath(kubelet.KUBECONFIG))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_trusted(host: Host) -> None:
    os.chown(host.path(kubelet.KUBECONFIG), 65534, 65534)
    with pytest.raises(ClusterError, match="not trusted"):
        find_kubeconfig(host)


def test_a_link_into_an_unsafe_folder_is_not_trusted(host: Host) -> None:
    real, loose = host.path(kubelet.KUBECONFIG), host.path("/loose")
    loose.mkdir()
    loose.chmod(0o777)
    real.rename(loose / "config")
    real.symlink_to(loose / "config")
    with pytest.raises(ClusterError, match=r"not trusted: .*/loose"):
        find_kubeconfig(host)


def test_paths_are_relative_to_the_kubeconfig() -> None:
    read = parse_kubeconfig(kubelet.kubeconfig(CLUSTER, USER), BASE)
    assert read.server == "https://10.0.0.1:6443"
    assert read.files() == (
        PurePosixPath("/etc/kubernetes/pki/ca.crt"),
        PurePosixPath("/var/lib/kubelet/client.pem"),
        PurePosixPath("/etc/kubernetes/client.key"),
    )


def test_inline_data_wins_over_paths() -> None:
    data = base64.b64encode(b"PEM").decode()
    cluster = CLUSTER | {"certificate-authority-data": data, "tls-server-name": "kubernetes"}
    user = USER | {"client-certificate-data": data, "client-key-data": data}
    read = parse_kubeconfig(kubelet.kubeconfig(cluster, user), BASE)
    assert (read.ca, read.certificate, read.key) == (b"PEM", b"PEM", b"PEM")
    assert read.tls_server_name == "kubernetes"


def test_tokens_are_read() -> None:
    user = {"token": "t", "tokenFile": "token"}
    read = parse_kubeconfig(kubelet.kubeconfig(CLUSTER, user), BASE)
    assert (read.token, read.token_file) == ("t", BASE / "token")


@pytest.mark.parametrize(
    ("cluster", "user", "told"),
    [
        ({}, {"exec": {"command": "aws"}}, r"\(exec\), which is not supported yet; set `kubec"),
        ({}, {"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"insecure-skip-tls-verify": True}, USER, "insecure-skip-tls-verify"),
        ({"proxy-url": "http://proxy"}, USER, "proxy-url"),
        ({"server": "http://10.0.0.1"}, USER, "not an https address"),
        ({"certificate-authority": ""}, USER, "no certificate authority"),
        ({"certificate-authority-data": "%%"}, USER, "not base64"),
        ({"server": 6443}, USER, "server is not text"),
        ({}, {}, "neither client certificate nor token"),
        ({}, {"client-key": "k"}, "one half"),
    ],
)
def test_what_cannot_be_used_is_refused(
    cluster: dict[str, Any], user: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClusterError, match=told):
        parse_kubeconfig(kubelet.kubeconfig(CLUSTER | cluster, user), BASE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not YAML"),
        ("just words", "not a table"),
        ("", "not a table"),
        ("kind: Config", "no current-context"),
        ("current-context: x", "no context named 'x'"),
        ("{current-context: x, contexts: [{name: x, context: [1]}]}", "context x is not a table"),
    ],
)
def test_a_broken_kubeconfig_is_refused(text: str, told: str) -> None:
    with pytest.raises(ClusterError, match=told):
        parse_kubeconfig(text, BASE)


def test_a_fault_in_yaml_does_not_print_the_key() -> None:
    with pytest.raises(ClusterError) as caught:
        parse_kubeconfig("client-key-data: SECRET\n\t: : bad", BASE)
    assert "SECRET" not in str(caught.value)


def test_a_rotation_is_seen(host: Host, keys: Any) -> None:
    credential = read_credential(host, PurePosixPath(kubelet.KUBECONFIG))
    assert not is_rotated(host, credential)
    kubelet.rotate(host, keys, name="brief")
    assert is_rotated(host, credential)


def test_a_file_that_went_away_is_a_rotation(host: Host) -> None:
    credential = read_credential(host, PurePosixPath(kubelet.KUBECONFIG))
    host.path("/var/lib/kubelet/pki/client.key").unlink()
    assert is_rotated(host, credential)


def test_a_missing_certificate_is_named(host: Host) -> None:
    host.path("/var/lib/kubelet/pki/client.crt").unlink()
    with pytest.raises(ClusterError, match=r"/var/lib/kubelet/pki/client\.crt cannot be read"):
        read_credential(host, PurePosixPath(kubelet.KUBECONFIG))
