"""The kubelet's own credential: which kubeconfig it is, what it says, when it was rotated.

An explicit path from the configuration wins; else the known paths of the common distributions are
looked at. Asking running kubelets through /proc for their `--kubeconfig` is not done yet.
"""

import base64
import binascii
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import yaml

from trialboot.errors import ClusterError
from trialboot.host import Host

KNOWN_PATHS: Final = (
    "/etc/kubernetes/kubelet.conf",  # kubeadm
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/run/k0s/kubelet-direct.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
    "/var/lib/kubelet/kubeconfig",  # EKS, GKE, AKS, OpenShift
)

Source: TypeAlias = PurePosixPath | bytes
"""Where PEM text is: a path on the host, or the text itself (the `-data` keys)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """What the current context of a kubeconfig says, with absolute paths."""

    server: str
    tls_server_name: str | None
    ca: Source
    certificate: Source | None
    key: Source | None
    token: str | None
    token_file: PurePosixPath | None

    def files(self) -> tuple[PurePosixPath, ...]:
        """Name every file that the kubeconfig refers to."""
        sources = (self.ca, self.certificate, self.key, self.token_file)
        return tuple(source for source in sources if isinstance(source, PurePosixPath))


@dataclass(frozen=True, slots=True)
class Credential:
    """A kubeconfig as it was read, and the fingerprint of all files behind it."""

    path: PurePosixPath
    kubeconfig: Kubeconfig
    fingerprint: tuple["Print", ...]


@dataclass(frozen=True, slots=True)
class Print:
    """Which file it is: a rotation changes at least one of the three, an absent file has none."""

    changed_ns: int
    inode: int
    real: str


def find_kubeconfig(host: Host, configured: str | None = None) -> PurePosixPath:
    """Choose the kubelet's kubeconfig; refuse when there is none, or more than one."""
    if configured is not None:
        _refuse_unsafe(host, PurePosixPath(configured))
        return PurePosixPath(configured)
    found = _existing(host)
    if not found:
        raise ClusterError(f"no kubelet credential found; looked in {', '.join(KNOWN_PATHS)}")
    if len(found) > 1:
        raise ClusterError(
            f"more than one kubelet credential found: {', '.join(found)}; "
            "set `kubeconfig` in the configuration to the right one"
        )
    _refuse_unsafe(host, PurePosixPath(found[0]))
    return PurePosixPath(found[0])


def read_credential(host: Host, path: PurePosixPath) -> Credential:
    """Read the kubeconfig and check that nobody but root could have written what it names."""
    before = fingerprint(host, (path,))
    _refuse_unsafe(host, path)
    kubeconfig = parse_kubeconfig(_read(host, path), path.parent)
    for file in kubeconfig.files():
        _refuse_unsafe(host, file)
    return Credential(path, kubeconfig, before + fingerprint(host, kubeconfig.files()))


def is_rotated(host: Host, credential: Credential) -> bool:
    """Tell whether a file of the credential is no longer the one that was read."""
    files = (credential.path, *credential.kubeconfig.files())
    return fingerprint(host, files) != credential.fingerprint


def fingerprint(host: Host, files: tuple[PurePosixPath, ...]) -> tuple[Print, ...]:
    """Take what tells a file from its successor: modification time, inode and real path."""
    return tuple(_print(host.path(str(file))) for file in files)


def parse_kubeconfig(text: str, base: PurePosixPath) -> Kubeconfig:
    """Read the current context of a kubeconfig; relative paths are relative to `base`."""
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ClusterError(f"the kubeconfig is not YAML: {_first_line(error)}") from error
    whole = _mapping(whole, "the kubeconfig")
    context = _named(whole, "contexts", "context", _text(whole, "current-context"))
    cluster = _named(whole, "clusters", "cluster", _text(context, "cluster"))
    user = _named(whole, "users", "user", _text(context, "user"))
    _refuse_unsupported(cluster, user)
    return _kubeconfig(cluster, user, base)


def _kubeconfig(
    cluster: Mapping[str, Any], user: Mapping[str, Any], base: PurePosixPath
) -> Kubeconfig:
    ca = _source(cluster, "certificate-authority", base)
    if ca is None:
        raise ClusterError("the kubeconfig names no certificate authority for its cluster")
    token_file = _optional(user, "tokenFile")
    config = Kubeconfig(
        server=_https(_text(cluster, "server")),
        tls_server_name=_optional(cluster, "tls-server-name"),
        ca=ca,
        certificate=_source(user, "client-certificate", base),
        key=_source(user, "client-key", base),
        token=_optional(user, "token"),
        token_file=base / token_file if token_file else None,
    )
    if (config.certificate is None) != (config.key is None):
        raise ClusterError("the kubeconfig's user has only one half of a client certificate pair")
    if config.certificate is None and config.token is None and config.token_file is None:
        raise ClusterError("the kubeconfig's user holds neither client certificate nor token")
    return config


def _refuse_unsupported(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    if cluster.get("insecure-skip-tls-verify"):
        raise ClusterError(
            "the kubeconfig sets insecure-skip-tls-verify: a server that is not checked is "
            "refused; put the cluster's certificate-authority there instead"
        )
    if cluster.get("proxy-url"):
        raise ClusterError("the kubeconfig sets proxy-url, which is not supported yet")
    for stanza in ("exec", "auth-provider"):
        if user.get(stanza):
            raise ClusterError(
                f"the kubeconfig's user takes its credential from a program ({stanza}), which is "
                "not supported yet; set `kubeconfig` in the configuration to one that holds a "
                "client certificate or a token of this node"
            )


def _https(server: str) -> str:
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname:
        raise ClusterError(f"the kubeconfig's server is not an https address: {server}")
    return server.rstrip("/")


def _named(whole: Mapping[str, Any], plural: str, singular: str, name: str) -> Mapping[str, Any]:
    entries = whole.get(plural)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") == name:
            return _mapping(entry.get(singular), f"{singular} {name}")
    raise ClusterError(f"the kubeconfig has no {singular} named {name!r}")


def _source(table: Mapping[str, Any], key: str, base: PurePosixPath) -> Source | None:
    inline = _optional(table, f"{key}-data")
    if inline:  # as client-go: data wins over the path
        try:
            return base64.b64decode(inline, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ClusterError(f"the kubeconfig's {key}-data is not base64") from error
    path = _optional(table, key)
    return base / path if path else None


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClusterError(f"{what} is not a table of keys in the kubeconfig")
    return value


def _text(table: Mapping[str, Any], key: str) -> str:
    value = _optional(table, key)
    if not value:
        raise ClusterError(f"the kubeconfig has no {key}")
    return value


def _optional(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ClusterError(f"the kubeconfig's {key} is not text")
    return value or None


def _first_line(error: Exception) -> str:
    # Never the whole message: PyYAML quotes the lines around the fault, and one may be a key.
    return str(error).partition("\n")[0]


def _existing(host: Host) -> list[str]:
    distinct: dict[str, str] = {}
    for path in KNOWN_PATHS:
        if host.exists(path):
            distinct.setdefault(os.path.realpath(host.path(path)), path)
    return list(distinct.values())


def _read(host: Host, path: PurePosixPath) -> str:
    try:
        return host.path(str(path)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path} cannot be read: {error}") from error


def _print(path: Path) -> Print:
    real = os.path.realpath(path)
    try:
        status = os.stat(real)  # noqa: PTH116  one call on the path that is remembered
    except OSError:
        return Print(0, 0, real)
    return Print(status.st_mtime_ns, status.st_ino, real)


def _refuse_unsafe(host: Host, path: PurePosixPath) -> None:
    if not path.is_absolute():
        raise ClusterError(f"{path} is not an absolute path")
    here = host.path(str(path))
    for place in _places(host.root, here):
        try:
            status = place.stat()
        except OSError as error:
            raise ClusterError(f"{path} cannot be read: {place}: {error.strerror}") from error
        if _writable_by_others(status):
            raise ClusterError(
                f"{path} is not trusted: {place} belongs to, or can be written by, somebody "
                "other than root"
            )
    if not here.is_file():
        raise ClusterError(f"{path} is not a file")


def _places(root: Path, path: Path) -> Iterator[Path]:
    """Give the file and every folder above it up to the root, by name and by real path."""
    for start in (path, path.resolve()):
        for place in (start, *start.parents):
            yield place
            if place == root:
                break


def _writable_by_others(status: os.stat_result) -> bool:
    # Our own user counts as root: what it wrote, we wrote (a foreground run without root).
    if status.st_uid not in {0, os.geteuid()}:
        return True
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return False  # sticky, as /tmp: others cannot replace what is not theirs
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in {0, os.getegid()}
    return bool(by_group or status.st_mode & stat.S_IWOTH)
