"""Makes the test cluster's certificates: an authority, the API server's and the kubelet's.

Everything is valid from 2020 to 2049, so that no clock of a guest is ever wrong about it.
"""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

from tests.vm import command

SERVER = "https://10.0.2.100:6443"
NODE = "node-a"
CLIENT_FILE = "/var/lib/kubelet/pki/kubelet-client-2020-01-01-00-00-00.pem"
CLIENT_LINK = "/var/lib/kubelet/pki/kubelet-client-current.pem"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"

_SUBJECTS = {
    "ca": "/CN=kubernetes",
    "server": "/CN=kube-apiserver",
    "client": f"/O=system:nodes/CN=system:node:{NODE}",
}
# "openssl x509" before 3.4 cannot date a certificate back; "openssl ca" always could.
_CONFIG = """\
[ca]
default_ca = this
[this]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
[for_ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, digitalSignature
subjectKeyIdentifier = hash
[for_server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = IP:10.0.2.100, IP:127.0.0.1, DNS:kubernetes, DNS:localhost
[for_client]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = clientAuth
"""
_KUBELET = """\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: {authority}
    server: {server}
  name: default-cluster
contexts:
- context:
    cluster: default-cluster
    namespace: default
    user: default-auth
  name: default-context
current-context: default-context
preferences: {{}}
users:
- name: default-auth
  user:
    client-certificate: {client}
    client-key: {client}
"""


def make(folder: Path) -> None:
    """Write NAME.crt and NAME.key for ca, server and client into a folder."""
    folder.mkdir(mode=0o700)
    draft = folder / "draft"
    draft.mkdir()
    (draft / "index").touch()
    (draft / "config").write_text(_CONFIG.format(folder=draft))
    for name, subject in _SUBJECTS.items():
        _request(folder, name, subject)
        _sign(folder, name)
    shutil.rmtree(draft)


def _request(folder: Path, name: str, subject: str) -> None:
    key, request = folder / f"{name}.key", folder / "draft" / f"{name}.csr"
    command.output(
        *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-keyout", key, "-out", request, "-subj", subject),
    )


def _sign(folder: Path, name: str) -> None:
    own = ("-selfsign",) if name == "ca" else ("-cert", folder / "ca.crt")
    command.output(
        *("openssl", "ca", "-batch", "-notext", "-config", folder / "draft" / "config"),
        *("-startdate", "20200101000000Z", "-enddate", "20491231235959Z"),
        *("-keyfile", folder / "ca.key", *own, "-extensions", f"for_{name}"),
        *("-in", folder / "draft" / f"{name}.csr", "-out", folder / f"{name}.crt"),
    )


def kubelet_conf(folder: Path) -> str:
    """The kubeconfig that kubeadm leaves on a node."""
    authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    return _KUBELET.format(authority=authority, server=SERVER, client=CLIENT_LINK)


def client_pem(folder: Path) -> str:
    """Certificate and key in one file, as the kubelet keeps what it rotates."""
    return (folder / "client.crt").read_text() + (folder / "client.key").read_text()
