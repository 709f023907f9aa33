"""trialboot-metrics.service: answers a scrape with the metrics file, and with nothing else.

A user of its own, no capability, no library: about 4 MiB. HTTP/1.0, GET and HEAD of /metrics; the
listening socket comes from systemd (sd_listen_fds(3): the first is descriptor 3).
"""

import selectors
import socket
import sys
from collections.abc import Callable
from typing import Final

PAGE: Final = "/run/trialboot/metrics.prom"
FIRST_SOCKET: Final = 3
MOST_REQUEST: Final = 8192
MOST_PAGE: Final = 1 << 20
PATIENCE: Final = 5.0
_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def answer(request: bytes, read_page: Callable[[], bytes]) -> bytes:
    """Give the whole response to one request's head."""
    words = request.split(b"\r\n", 1)[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):  # noqa: PLR2004  method, path, version
        return _response("400 Bad Request", b"not an HTTP request\n")
    method, path = words[0], words[1].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"}:
        return _response("405 Method Not Allowed", b"GET or HEAD\n")
    if path != b"/metrics":
        return _response("404 Not Found", b"only /metrics is here\n")
    try:
        page = read_page()
    except OSError:
        return _response("503 Service Unavailable", b"no metrics were written yet\n")
    return _response("200 OK", page, head_only=method == b"HEAD")


def _response(status: str, body: bytes, *, head_only: bool = False) -> bytes:
    head = (
        f"HTTP/1.0 {status}\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)


def read_page() -> bytes:
    """Read the page, at most 1 MiB of it. Raises `OSError`."""
    with open(PAGE, "rb") as file:  # noqa: PTH123  pathlib would double this process's memory
        return file.read(MOST_PAGE)


def serve(listener: socket.socket, page: Callable[[], bytes]) -> None:
    """Answer one scrape after another, for ever; a slow client has five seconds."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        selector.select()
        try:
            connection, _ = listener.accept()
        except OSError:
            continue
        with connection:
            _talk(connection, page)


def _talk(connection: socket.socket, page: Callable[[], bytes]) -> None:
    connection.settimeout(PATIENCE)
    request = b""
    try:
        while b"\r\n\r\n" not in request and len(request) < MOST_REQUEST:
            piece = connection.recv(4096)
            if not piece:
                break
            request += piece
        connection.sendall(answer(request, page))
    except OSError:
        return  # the client went away: its loss


if __name__ == "__main__":
    serve(socket.socket(fileno=FIRST_SOCKET), read_page)
    sys.exit(0)
