"""A small HTTPS client for the API server: one connection, one credential, no retries.

The worker that uses it is a oneshot which the daemon starts again, so a request is sent once. The
one exception is the first 401: an x509 credential is checked with each request, so a rotated
certificate shows as 401 on an open connection; the files are read again and the request repeated.
"""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode, urlsplit

from trialboot.cluster.credential import (
    Credential,
    Kubeconfig,
    Source,
    find_kubeconfig,
    is_rotated,
    read_credential,
)
from trialboot.errors import ClusterAwayError, ClusterError, HostError
from trialboot.host import Host

Body: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"

MANAGER: Final = "trialboot"
_SOCKET_SECONDS: Final = 10.0
_SERVER_LIMIT: Final = "5s"
_BODY_CAP: Final = 8 * 1024 * 1024
_MESSAGE_CAP: Final = 300


class ConflictError(ClusterError):
    """Somebody else wrote the object meanwhile (409): read again and decide again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one request: its status and its JSON, or its text as a message."""

    status: int
    body: Body

    @property
    def message(self) -> str:
        """The server's own sentence, shortened."""
        return str(self.body.get("message", ""))[:_MESSAGE_CAP]


class Api:
    """The API server as the kubelet of this host sees it."""

    def __init__(
        self, host: Host, kubeconfig: str | None = None, *, patience: float = _SOCKET_SECONDS
    ) -> None:
        self._host = host
        self._patience = patience
        self._path = find_kubeconfig(host, kubeconfig)
        self._credential: Credential | None = None
        self._line: http.client.HTTPSConnection | None = None

    def __enter__(self) -> "Api":  # noqa: PYI034  typing.Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def get(self, path: str) -> Body:
        """Read one object."""
        return judge(self.ask("GET", path)).body

    def post(self, path: str, body: Body) -> Body:
        """Create one object."""
        return judge(self.ask("POST", path, body)).body

    def patch(self, path: str, body: Body, kind: str) -> Body:
        """Change one object; `kind` is the content type of the patch."""
        return judge(self.ask("PATCH", path, body, kind)).body

    def ask(self, method: str, path: str, body: Body | None = None, kind: str = JSON) -> Answer:
        """Send one request and give the answer, whatever its status; raise if there was none."""
        self._renew_if_rotated()
        answer = self._exchange(method, path, body, kind)
        if answer.status != http.client.UNAUTHORIZED:
            return answer
        self._renew()
        return self._exchange(method, path, body, kind)

    def common_name(self) -> str | None:
        """Give the CN of the client certificate, or None where the credential is a token."""
        source = self._renew_if_rotated().kubeconfig.certificate
        if source is None:
            return None
        with _pem_file(self._host, source) as name:
            return _common_name(name)

    def _renew_if_rotated(self) -> Credential:
        known = self._credential
        if known is None or is_rotated(self._host, known):
            return self._renew()
        return known

    def _renew(self) -> Credential:
        self.close()
        self._credential = read_credential(self._host, self._path)
        return self._credential

    def _exchange(self, method: str, path: str, body: Body | None, kind: str) -> Answer:
        try:
            return self._exchange_once(method, path, body, kind)
        except ssl.SSLCertVerificationError as error:
            self.close()
            why = f"{self._server()} is not the server of the kubeconfig: {error.verify_message}"
            raise ClusterAwayError(why) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            told = str(error) or type(error).__name__
            raise ClusterAwayError(f"{self._server()} did not answer: {told}") from error

    def _exchange_once(self, method: str, path: str, body: Body | None, kind: str) -> Answer:
        credential = self._credential or self._renew()
        if self._line is None:
            self._line = connect(self._host, credential.kubeconfig, self._patience)
        sent = None if body is None else json.dumps(body).encode()
        headers = _headers(self._host, credential.kubeconfig)
        if sent is not None:
            headers["Content-Type"] = kind
        prefix = urlsplit(credential.kubeconfig.server).path
        self._line.request(method, prefix + _with_query(method, path), body=sent, headers=headers)
        response = self._line.getresponse()
        raw = response.read(_BODY_CAP + 1)
        if len(raw) > _BODY_CAP:
            self.close()
            raise ClusterError(f"the answer to {method} {path} is larger than {_BODY_CAP} bytes")
        return Answer(response.status, parse_body(raw))

    def _server(self) -> str:
        return self._credential.kubeconfig.server if self._credential else str(self._path)


def judge(answer: Answer) -> Answer:
    """Let a success through and turn everything else into the error that says what to do."""
    status = answer.status
    if status < http.client.MULTIPLE_CHOICES:
        return answer
    told = f"the API server answered {status}: {answer.message}"
    if status == http.client.CONFLICT:
        raise ConflictError(told)
    if status == http.client.NOT_FOUND:
        raise ClusterAwayError(f"{told}; the node is not registered yet, or was deleted")
    if status == http.client.UNAUTHORIZED:
        raise ClusterAwayError(f"{told}; the kubelet's credential was read anew and is refused")
    if status == http.client.TOO_MANY_REQUESTS or status >= http.client.INTERNAL_SERVER_ERROR:
        raise ClusterAwayError(told)
    raise ClusterError(told)


def parse_body(raw: bytes) -> Body:
    """Read JSON whatever the content type says (429 is text, 504 is JSON called text)."""
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    return {"message": raw[:_MESSAGE_CAP].decode("utf-8", "replace").strip()}


def tls_context(host: Host, kubeconfig: Kubeconfig) -> ssl.SSLContext:
    """Trust the cluster's authority and nothing else, and carry the client pair."""
    # Not create_default_context: with an empty authority it falls back to the system's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are on
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Where this flag is on, the authorities of EKS and old MicroK8s are refused: they lack a key
    # identifier. Chain, dates and host name stay checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with _pem_file(host, kubeconfig.ca) as authority:
        context.load_verify_locations(authority)
    if kubeconfig.certificate is not None and kubeconfig.key is not None:
        with (
            _pem_file(host, kubeconfig.certificate) as certificate,
            _pem_file(host, kubeconfig.key) as key,
        ):
            context.load_cert_chain(certificate, key)
    return context


class _Named(http.client.HTTPSConnection):
    """A connection that checks the server against another name than the one it dials."""

    def __init__(
        self, name: str, host: str, port: int, context: ssl.SSLContext, patience: float
    ) -> None:
        super().__init__(host, port, timeout=patience, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """Dial as ever; hand the other name to TLS."""
        http.client.HTTPConnection.connect(self)  # past HTTPSConnection, which uses the address
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def connect(
    host: Host, kubeconfig: Kubeconfig, patience: float = _SOCKET_SECONDS
) -> http.client.HTTPSConnection:
    """Prepare a connection to the kubeconfig's server; it dials with the first request.

    `patience` is in seconds, for each wait on the socket.
    """
    try:
        context = tls_context(host, kubeconfig)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ClusterError(f"the kubeconfig's certificates cannot be used: {error}") from error
    parts = urlsplit(kubeconfig.server)
    address, port = str(parts.hostname), parts.port or http.client.HTTPS_PORT
    name = kubeconfig.tls_server_name or address
    return _Named(name, address, port, context, patience)


def _headers(host: Host, kubeconfig: Kubeconfig) -> dict[str, str]:
    headers = {"Accept": JSON, "User-Agent": MANAGER}
    token = kubeconfig.token
    if kubeconfig.token_file is not None:  # read each time: a projected token is replaced
        token = _read_token(host, kubeconfig.token_file)
    if token:
        headers["Authorization"] = f"Bearer {_visible(token)}"
    return headers


def _read_token(host: Host, file: PurePosixPath) -> str:
    try:
        return host.read_text(str(file)).strip()
    except HostError as error:
        raise ClusterError(f"the kubeconfig's token cannot be read: {error}") from error


def _visible(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise ClusterError("the kubeconfig's token holds characters that no token has")
    return token


def _with_query(method: str, path: str) -> str:
    query = {"timeout": _SERVER_LIMIT}
    if method != "GET":
        query["fieldManager"] = MANAGER
    return f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"


@contextlib.contextmanager
def _pem_file(host: Host, source: Source) -> Iterator[str]:
    """Give a file name for OpenSSL; inline text goes through memory, so no key touches a disk."""
    if isinstance(source, PurePosixPath):
        yield str(host.path(str(source)))
        return
    descriptor = os.memfd_create("trialboot", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, source)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _common_name(file: str) -> str | None:
    # Private, but there from Python 3.9 to 3.13; the other way would be a parser of our own.
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if decode is None:
        return None
    decoded: Mapping[str, Any] = decode(file)
    subject = {key: value for part in decoded.get("subject", ()) for key, value in part}
    return subject.get("commonName")
