"""An OpenTelemetry collector that receives spans by OTLP over HTTP, or fails as a test configures it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass
class Received:
    """A received span. Ids are hexadecimal; `parent_id` is empty for the root span."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    started: int
    ended: int
    is_error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    state: str


class Collector:
    """Listens on a free port of 127.0.0.1 and responds with `status`. While `is_hanging`, it does not respond."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.asked = 0
        self.is_hanging = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        with self._changed:
            self.asked += 1
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            if request.path == "/v1/traces" and self.status == 200 and not self.is_hanging:
                self.spans += spans_of(body)
            self._changed.notify_all()
        if self.is_hanging:
            self._closing.wait()
            return
        request.send_response(self.status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def of(self, trace_id: str) -> list[Received]:
        """The spans of a trace so far, in the order of their start."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda one: one.started)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), self.spans

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


def spans_of(body: bytes) -> list[Received]:
    return [
        received(span, attributes_of(resource.resource.attributes))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def received(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        is_error=span.status.code == Status.StatusCode.STATUS_CODE_ERROR,
        attributes=attributes_of(span.attributes),
        resource=resource,
        state=span.trace_state,
    )


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
