"""A collector of traces: takes OTLP requests over HTTP, and keeps the spans that they hold."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class SentSpan(msgspec.Struct, kw_only=True):
    """A span as it was sent, with ids in hex and times in nanoseconds since 1970."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    begin_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    events: list[str]
    resource: dict[str, Any]
    failed: bool


class OtlpEndpoint:
    """The spans sent so far, and their headers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[SentSpan] = []
        self.headers: list[dict[str, str]] = []

    def named(self, start: str) -> list[SentSpan]:
        """The spans whose name begins like this."""
        return [span for span in self.spans if span.name.startswith(start)]

    def children(self, parent: SentSpan) -> list[SentSpan]:
        """The spans below it, in the order of their begin."""
        below = [span for span in self.spans if span.parent_id == parent.span_id]
        assert {span.trace_id for span in below} <= {parent.trace_id}
        return sorted(below, key=lambda span: span.begin_ns)

    def take(self, body: bytes) -> None:
        """Decode a request."""
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                self.spans += [_span(span, resource) for span in scope.spans]


@contextmanager
def otlp_endpoint() -> Iterator[OtlpEndpoint]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            endpoint.headers.append({**self.headers})
            endpoint.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = OtlpEndpoint(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _span(span: Any, resource: dict[str, Any]) -> SentSpan:
    return SentSpan(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        begin_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        events=[event.name for event in span.events],
        resource=resource,
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    if value.HasField("array_value"):
        return [_value(one) for one in value.array_value.values]
    return getattr(value, value.WhichOneof("value"))
