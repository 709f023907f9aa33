"""The metrics page served from one process, for `trialboot run`: no socket unit, no other user."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from trialboot.errors import HostError

Page = Callable[[], bytes]


def serve_page(port: int, page: Page) -> None:
    """Answer GET /metrics on loopback until interrupted. Raises `HostError` if it cannot."""
    try:
        server = HTTPServer(("127.0.0.1", port), _handler(page))
    except OSError as error:
        raise HostError(f"127.0.0.1:{port}: {error.strerror}; choose another --port") from error
    with server:
        server.serve_forever()


def _handler(page: Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = page()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: Any) -> None:
            """Say nothing of each scrape."""

    return Handler
