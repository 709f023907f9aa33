"""The responder of the metrics page: what a scrape gets, and what a bad client cannot do."""

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.workers.metrics import MOST_REQUEST, PATIENCE, answer, serve

PAGE = b"# HELP a b\na 1\n"


def page() -> bytes:
    return PAGE


def no_page() -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def parts(response: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def test_a_scrape_gets_the_page() -> None:
    status, head, body = parts(answer(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", page))
    assert (status, body) == ("HTTP/1.0 200 OK", PAGE)
    assert head == {
        "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
        "Content-Length": str(len(PAGE)),
        "Connection": "close",
    }


def test_a_query_is_left_out() -> None:
    assert parts(answer(b"GET /metrics?a=b HTTP/1.0\r\n\r\n", page))[2] == PAGE


def test_head_gets_the_length_and_no_page() -> None:
    status, head, body = parts(answer(b"HEAD /metrics HTTP/1.0\r\n\r\n", page))
    assert (status, head["Content-Length"], body) == ("HTTP/1.0 200 OK", str(len(PAGE)), b"")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"", "400 Bad Request"),
        (b"GET /metrics", "400 Bad Request"),
        (b"GET /metrics FTP/1", "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00", "400 Bad Request"),
        (b"GET / HTTP/1.1", "404 Not Found"),
        (b"GET /metrics/ HTTP/1.1", "404 Not Found"),
        (b"GET /../etc/shadow HTTP/1.1", "404 Not Found"),
        (b"POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        (b"DELETE / HTTP/1.1", "405 Method Not Allowed"),
    ],
)
def test_anything_else_is_refused(request_line: bytes, status: str) -> None:
    assert parts(answer(request_line + b"\r\n\r\n", page))[0] == f"HTTP/1.0 {status}"


def test_before_the_first_page_the_service_is_unavailable() -> None:
    status, _, body = parts(answer(b"GET /metrics HTTP/1.1\r\n\r\n", no_page))
    assert (status, body) == ("HTTP/1.0 503 Service Unavailable", b"no metrics were written yet\n")


@given(st.binary(max_size=64))
def test_any_request_gets_one_whole_response(request: bytes) -> None:
    status, head, body = parts(answer(request, page))
    assert status.startswith("HTTP/1.0 ")
    assert int(head["Content-Length"]) in {len(body), len(PAGE)}


# --- over a socket ------------------------------------------------------------------------------

Port = tuple[str, int]


@pytest.fixture
def port() -> Iterator[Port]:
    """Serve in a child, as systemd does: serving never ends by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = multiprocessing.get_context("fork").Process(
            target=serve, args=(listener, page), daemon=True
        )
        child.start()
        yield listener.getsockname()
        child.terminate()
        child.join()


def ask(port: Port, *pieces: bytes) -> bytes:
    with socket.create_connection(port, timeout=PATIENCE * 2) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(4096):
        received += piece
    return received


def test_one_scrape_after_another_is_answered(port: Port) -> None:
    for _ in range(3):
        assert ask(port, b"GET /metrics HTTP/1.1\r\n", b"Host: a\r\n\r\n").endswith(PAGE)


def test_a_client_that_goes_away_stops_nobody(port: Port) -> None:
    for _ in range(3):
        socket.create_connection(port).close()
    assert ask(port, b"GET /metrics HTTP/1.1\r\n\r\n").endswith(PAGE)


def test_a_client_that_says_nothing_is_left_after_its_patience(port: Port) -> None:
    with socket.create_connection(port, timeout=PATIENCE * 2) as silent:
        silent.sendall(b"GET /met")
        assert ask(port, b"GET /metrics HTTP/1.1\r\n\r\n").endswith(PAGE)
        assert read_all(silent) == b""


def test_a_client_that_never_ends_its_head_is_cut(port: Port) -> None:
    said = b""
    with suppress(ConnectionError):  # what it sent too much of may reset the connection
        said = ask(port, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * MOST_REQUEST)
    assert said.endswith(PAGE) or said == b""
    assert ask(port, b"GET /metrics HTTP/1.1\r\n\r\n").endswith(PAGE)
