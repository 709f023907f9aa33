"""A fake API server, as strict with a kubelet's credential as the recordings say the real one is.

What it does not know it answers with 501 and says so: a fake that says yes is a defect. One thing
is not as in the real server: a client certificate with a wrong key usage fails in TLS, not as 401.

    python3 -m tests.fakes.apiserver --pki DIR [--port N] [--log FILE] [--node NAME]
"""

import argparse
import contextlib
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from tests.fakes import kube_objects
from tests.fakes.kube_answers import Asked, Cluster, Success
from tests.fakes.kube_rules import (
    ANONYMOUS,
    Body,
    Refused,
    User,
    failure,
    timed_out,
    too_many_requests,
    unauthorized,
    unknown,
)
from tests.fakes.pki import PKI

_PHRASES: Final = {422: "Unprocessable Entity"}  # Python 3.13 says it in newer words
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: dates are checked per request


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived and was answered."""

    method: str
    path: str
    user: str
    content_type: str
    body: Body | None
    status: int
    at: str


@dataclass
class _Failure:
    status: int
    method: str | None
    applied: bool
    times: int


@dataclass
class ApiServer:
    """The server and, for tests, the administrator's side of it. Use it as a context manager."""

    pki: PKI
    port: int = 0
    log_file: Path | None = None
    strangers: tuple[Path, ...] = ()
    """Authorities whose clients get through TLS and are then refused with 401."""
    tokens: dict[str, User] = field(default_factory=dict)
    skew: timedelta = timedelta()
    """How far the server's clock is ahead: certificates expire without waiting."""
    delay: float = 0.0
    """Seconds before each answer."""
    log: list[Request] = field(default_factory=list)
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = Cluster(now=self._stamp)
        self._failures: list[_Failure] = []
        self._lock = threading.RLock()
        self._http: _Server | None = None
        self._issuer = _subject(self.pki.ca)

    def __enter__(self) -> "ApiServer":  # noqa: PYI034  typing.Self came with Python 3.11
        self.accept_connections()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse_connections()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def nodes(self) -> dict[str, Body]:
        return self.cluster.nodes

    @property
    def events(self) -> list[Body]:
        return list(self.cluster.events.values())

    @property
    def writes(self) -> list[Request]:
        """Every request that could have changed something."""
        reviews = "/selfsubjectreviews"
        return [one for one in self.log if one.method != "GET" and reviews not in one.path]

    def accept_connections(self) -> None:
        """Listen; on the same port as before, if there was one."""
        if self._http is None:
            self._http = _Server(self, self.port, self._tls())
            self.port = self._http.server_address[1]
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def refuse_connections(self) -> None:
        """Close the listening socket and every open connection."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.hang_up()
            self._http = None

    def fail_next(
        self, status: int, *, method: str | None = None, applied: bool = False, times: int = 1
    ) -> None:
        """Answer the next requests (of this method) so; `applied`: but do what they ask."""
        self._failures.append(_Failure(status, method, applied, times))

    def add_node(self, name: str | Body) -> None:
        """Register a Node: a fresh one by its name, or this very object."""
        self.cluster.add_node(kube_objects.new_node(name) if isinstance(name, str) else name)

    def cordon_as(self, manager: str, node: str = "node-a") -> None:
        """Cordon as somebody else does: kubectl-cordon sends nothing if it is cordoned already."""
        self.change(node, {"spec": {"unschedulable": True}}, manager)

    def uncordon_as(self, manager: str, node: str = "node-a") -> None:
        self.change(node, {"spec": {"unschedulable": None}}, manager)

    def change(self, node: str, patch: Body, manager: str) -> None:
        """Merge a patch into a Node as an administrator, past authorizer and admission."""
        with self._lock:
            self.cluster.change(node, patch, manager)

    def serve(self, asked: Asked, peer: dict[str, Any], authorization: str) -> Success | Refused:
        """Answer one request and write it down."""
        time.sleep(self.delay)
        with self._lock:
            user, answer = self._answer(asked, peer, authorization)
            self._note(asked, user, answer.status)
        return answer

    def _answer(
        self, asked: Asked, peer: dict[str, Any], authorization: str
    ) -> tuple[User | None, Success | Refused]:
        user = None
        try:
            user = self._authenticate(peer, authorization)
            planned = self._planned_failure(asked.method)
            if planned is None:
                return user, self.cluster.answer(user, asked)
            if planned.applied:
                self.cluster.answer(user, asked)
            return user, _planned(planned.status)
        except Refused as refused:
            return user, refused

    def _authenticate(self, peer: dict[str, Any], authorization: str) -> User:
        if authorization:
            user = self.tokens.get(authorization.removeprefix("Bearer "))
            if user is None:
                raise unauthorized()
            return user
        if not peer:
            return ANONYMOUS
        now = (_utc() + self.skew).timestamp()
        begins, ends = (ssl.cert_time_to_seconds(peer[key]) for key in ("notBefore", "notAfter"))
        if peer["issuer"] != self._issuer or not begins <= now <= ends:
            raise unauthorized()
        words = [word for part in peer["subject"] for word in part]
        name = next((value for key, value in words if key == "commonName"), "")
        groups = tuple(value for key, value in words if key == "organizationName")
        return User(name, (*groups, "system:authenticated"))

    def _planned_failure(self, method: str) -> _Failure | None:
        for planned in self._failures:
            if planned.method in {None, method}:
                planned.times -= 1
                if planned.times == 0:
                    self._failures.remove(planned)
                return planned
        return None

    def _note(self, asked: Asked, user: User | None, status: int) -> None:
        name = user.name if user else ""
        request = Request(
            asked.method, asked.path, name, asked.content_type, asked.body, status, self._stamp()
        )
        self.log.append(request)
        if self.log_file is not None:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(request)) + "\n")

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pki.server)
        context.verify_mode = ssl.CERT_OPTIONAL
        for authority in (self.pki.ca, *self.strangers):
            context.load_verify_locations(authority)
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
        return context

    def _stamp(self) -> str:
        return (_utc() + self.skew).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: ApiServer, port: int, tls: ssl.SSLContext) -> None:
        self.api = api
        self._tls = tls
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # The handshake happens in the connection's own thread, not in the accepting one.
        line = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._open.add(line)
        return line, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or does not trust us, is no news."""

    def hang_up(self) -> None:
        for line in list(self._open):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the server keeps a log of its own."""

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        asked = Asked(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            content_type=self.headers.get("Content-Type") or "",
            agent=self.headers.get("User-Agent") or "",
            body=json.loads(raw) if raw else None,
        )
        line: Any = self.connection
        peer = line.getpeercert() or {}
        authorization = self.headers.get("Authorization") or ""
        self._send(self.server.api.serve(asked, peer, authorization))

    def _send(self, answer: Success | Refused) -> None:
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        kind = "text/plain" if isinstance(answer.body, str) else "application/json"
        headers = {"Cache-Control": "no-cache, private", "Content-Type": kind, **answer.headers}
        self.send_response(answer.status, _PHRASES.get(answer.status))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def _planned(status: int) -> Refused:
    known = {401: unauthorized, 429: too_many_requests, 504: timed_out}
    if status in known:
        return known[status]()
    if status in {403, 409, 422, 500, 503}:
        return failure(status, f"the test asked for {status}")
    return unknown(f"how a {status} looks")


def _subject(certificate: Path) -> Any:
    decode: Any = getattr(ssl, "_ssl")._test_decode_cert  # noqa: B009
    return decode(str(certificate))["subject"]


def _utc() -> datetime:
    return datetime.now(timezone.utc)


def main(words: Iterable[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="fake API server for tests")
    parser.add_argument("--pki", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--node", action="append", default=[])
    options = parser.parse_args(None if words is None else list(words))
    server = ApiServer(PKI(options.pki), options.port, options.log)
    for node in options.node or ["node-a"]:
        server.add_node(node)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with server:
        print(server.url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
