"""The files a kubelet leaves on a host: a kubeconfig and its certificates, below a root folder."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from tests.fakes.pki import PKI
from trialboot.host import Host

KUBECONFIG = "/etc/kubernetes/kubelet.conf"
_FOLDER = "/var/lib/kubelet/pki"


def install(root: Path, pki: PKI, server: str, *, name: str = "client") -> Host:
    """Make a host whose kubelet has this client pair and talks to this server."""
    host = Host(root=root)
    host.path(_FOLDER).mkdir(parents=True, exist_ok=True)
    host.path(KUBECONFIG).parent.mkdir(parents=True, exist_ok=True)
    rotate(host, pki, name=name)
    write(host, cluster={"server": server, "certificate-authority": f"{_FOLDER}/ca.crt"})
    return host


def rotate(host: Host, pki: PKI, *, name: str) -> None:
    """Put other certificates in place, as the kubelet does: by renaming over."""
    certificate, key = pki.pair(name)
    sources = {"ca.crt": pki.ca, "client.crt": certificate, "client.key": key}
    for target, source in sources.items():
        draft = host.path(f"{_FOLDER}/{target}.new")
        shutil.copyfile(source, draft)
        draft.replace(host.path(f"{_FOLDER}/{target}"))


def write(
    host: Host,
    *,
    cluster: dict[str, Any],
    user: dict[str, Any] | None = None,
    path: str = KUBECONFIG,
) -> None:
    """Write the kubeconfig anew; without a user it names the client pair by path."""
    pair = {
        "client-certificate": f"{_FOLDER}/client.crt",
        "client-key": f"{_FOLDER}/client.key",
    }
    place = host.path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(kubeconfig(cluster, pair if user is None else user))
    place.chmod(0o600)


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> str:
    """A kubeconfig's text (JSON is YAML)."""
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "contexts": [{"name": "default", "context": {"cluster": "local", "user": "me"}}],
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
    }
    return json.dumps(whole)


def inline(file: Path) -> str:
    """A file as a `-data` key holds it."""
    return base64.b64encode(file.read_bytes()).decode()
