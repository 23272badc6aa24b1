"""A small HTTP server for probes, on its own threads.

Each request is handled in its own thread, so it gets a response even while the service's event loop
hangs. If there are too many connections, the oldest is closed, so that clients which never send a
request can't block the probes. The server is built on the standard library, because the one in
prometheus-client has only one path and can't send JSON.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Self

import msgspec
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from normalizer.errors import ConfigurationError
from normalizer.runtime.logging_setup import log_unexpected_error

_REQUEST_TIMEOUT_S: Final = 10.0
"""Disconnect a client that sends nothing for this long."""
MAX_PROBE_CONNECTIONS: Final = 100
"""The most connections. Each has a thread. A probe and a scraper need two."""


class HttpResponse(msgspec.Struct, frozen=True):
    """The response for a path."""

    status: HTTPStatus
    content_type: str
    body: bytes


def probe_response(body: dict[str, Any], *, ok: bool) -> HttpResponse:
    """Build a probe's response: the body as JSON, with status 200 or 503."""
    status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
    return HttpResponse(status, "application/json", msgspec.json.encode(body) + b"\n")


Routes = Mapping[str, Callable[[], HttpResponse | Collector]]
"""What each path returns. Metrics are a Collector, because the client chooses their format."""


class ProbeServer:
    """Serves requests at `url`, on threads of its own, while the `with` block runs.

    `routes` maps each path to a function that returns the response, or to a collector of metrics.

        with ProbeServer("127.0.0.1", 0, {"/livez": livez, "/metrics": metrics}) as probes:
            print(probes.url)
    """

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        """Raises ConfigurationError if it can't listen at the address."""
        try:
            self._server = _Server(host, port, routes)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}. Choose another address with "
                "NORMALIZER_HTTP_HOST and NORMALIZER_HTTP_PORT (0 means a free port)"
            ) from error
        self.port: int = self._server.server_address[1]
        address = f"[{host}]" if ":" in host else host
        self.url = f"http://{address}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes"
        )
        self._thread.daemon = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.routes = routes
        self._open: dict[Any, None] = {}
        self._opening = threading.Lock()
        super().__init__((host, port), _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._opening:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MAX_PROBE_CONNECTIONS else None
            self._open.pop(oldest, None)
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._opening:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Log an unexpected error, but not a client that disconnects early."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            log_unexpected_error("probe.failed", error)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S
    server_version = "normalizer"
    sys_version = ""

    def do_GET(self) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing, because a probe comes every few seconds."""

    def _answer(self) -> HttpResponse:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            known = " ".join(self.server.routes)
            return HttpResponse(HTTPStatus.NOT_FOUND, "text/plain", f"paths: {known}\n".encode())
        answer = route()
        if isinstance(answer, HttpResponse):
            return answer
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        return HttpResponse(HTTPStatus.OK, content_type, encode(answer))
