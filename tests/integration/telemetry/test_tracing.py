"""Trace headers that upstreams receive, and the spans that a collector receives."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.collector import Collector, Received
from tests.support.configuration import errors_of
from tests.support.gateway import ROOT, GatewayProcess, clean_environment, four_services
from tests.support.redis import free_port
from tests.support.tokens import bearer, signed
from tests.support.upstream import Received as Request
from tests.support.upstream import ScriptedUpstream, answering

Start = Callable[..., GatewayProcess]

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
# Sets the SDK's interval between two exports, which is 5000 ms by default.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


@pytest.fixture
def own_collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="module")
def dead_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def traced(
    start_gateway: Start, module_upstream: ScriptedUpstream, collector: Collector, dead_port: int
) -> GatewayProcess:
    """A gateway that exports spans. The first target of its service `rules` refuses connections."""
    settings = four_services(module_upstream.url) | {"tracing": {"otlp_endpoint": collector.url}}
    settings["services"]["rules"] = {
        "targets": [f"http://127.0.0.1:{dead_port}", module_upstream.url],
        "balancing": "round_robin",
        "breaker": {"failures": 0},
    }
    settings["services"]["ws"] = {
        "prefix": "/ws",
        "targets": [f"{module_upstream.url}/base"],
        "strip_prefix": True,
        "auth": "none",
        "routes": [
            {"path": "/ws/{kind}/{token}", "methods": ["GET"], "redact": ["token"]},
            {"path": "/ws/files/**", "redact": ["path"]},
        ],
    }
    return start_gateway(settings, workers=1, environ=SOON)


def parents(request: Request) -> tuple[str, str, str]:
    """The trace id, parent id and flags in the traceparent that the upstream received."""
    (value,) = request.values("Traceparent")
    match = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", value)
    assert match is not None, value
    return match[1], match[2], match[3]


def new_trace(number: int) -> str:
    return f"{number:032x}"


def trace_of(collector: Collector, trace_id: str) -> tuple[Received, list[Received]]:
    """Waits for the spans of a trace. Returns the server span, which is exported last, and its child spans."""

    def servers() -> list[Received]:
        return [span for span in collector.of(trace_id) if span.kind == "server"]

    collector.wait_for(lambda: bool(servers()))
    (server,) = servers()
    inner = [span for span in collector.of(trace_id) if span is not server]
    assert all(span.parent_id == server.span_id for span in inner)
    assert all(server.started <= span.started <= span.ended <= server.ended for span in inner)
    return server, inner


def send_traced(gateway: GatewayProcess, number: int, method: str = "GET", path: str = "/api/devices") -> str:
    """Sends a request with a traceparent of its own. Returns the trace id."""
    trace_id = new_trace(number)
    gateway.request(method, path, [bearer(), ("traceparent", f"00-{trace_id}-{PARENT_ID}-01")])
    return trace_id


def test_a_trace_is_continued_and_its_id_logged(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    reply = gateway.get("/api/devices", bearer(), ("traceparent", PARENT), ("tracestate", "a=1"), ("TraceState", "b=2"))
    assert reply.status == 200
    assert not [name for name, _ in reply.fields if "trace" in name.lower()]
    assert upstream.only.values("Traceparent") == [PARENT]
    assert upstream.only.values("Tracestate") == ["a=1,b=2"]
    line = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
    assert line["trace_id"] == TRACE_ID


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", PARENT.replace("00-", "ff-", 1)), ("tracestate", "a=1")],
        [("tracestate", "a=1")],
        [("trace-parent", PARENT)],
    ],
)
def test_without_a_valid_traceparent_a_trace_is_started(
    gateway: GatewayProcess, upstream: ScriptedUpstream, fields: list[tuple[str, str]]
) -> None:
    reply = gateway.get("/api/devices", bearer(), *fields)
    trace_id, _, flags = parents(upstream.only)
    assert trace_id != TRACE_ID
    assert flags == "03"
    assert upstream.only.values("Tracestate") == []
    line = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
    assert line["trace_id"] == trace_id


def test_naming_traceparent_in_connection_does_not_remove_it(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    gateway.get("/api/devices", bearer(), ("traceparent", PARENT), ("Connection", "traceparent"))
    assert upstream.only.values("Traceparent") == [PARENT]


def test_without_propagate_trace_headers_are_forwarded_unchanged(
    start_gateway: Start, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url) | {"tracing": {"propagate": False}}, workers=1)
    gateway.get("/api/devices", bearer(), ("traceparent", "anything"), ("tracestate", "a=1"), ("tracestate", "b=2"))
    gateway.get("/api/devices", bearer())
    first, second = upstream.requests
    assert (first.values("Traceparent"), first.values("Tracestate")) == (["anything"], ["a=1", "b=2"])
    assert (second.values("Traceparent"), second.values("Tracestate")) == ([], [])
    gateway.wait_until(lambda: len(gateway.access_log()) == 2, "log both")
    assert [line["trace_id"] for line in gateway.access_log()] == [None, None]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /ws/device/s3cr3t HTTP/1.1", "/ws/device/{token}"),
        ("GET /ws/device/s3cr3t/?s3cr3t HTTP/1.1", "/ws/device/{token}/"),
        ("GET /ws/d%65vice/%733cr3t HTTP/1.1", "/ws/d%65vice/{token}"),
        ("GET http://gateway.test/ws/device/s3cr3t HTTP/1.1", "http://gateway.test/ws/device/{token}"),
        ("POST /ws/files/a/s3cr3t HTTP/1.1", "/ws/files/{path}"),
        # These paths do not match the route, but may contain the same secret.
        ("POST /ws/device/s3cr3t HTTP/1.1", "/ws/{kind}/{token}"),
        ("GET /ws/device/s3cr3t/more HTTP/1.1", "/ws/{kind}/{token}/…"),
        ("GET /ws/x/../device/s3cr3t HTTP/1.1", "/ws/{kind}/{token}"),
        ("GET //ws/device//s3cr3t HTTP/1.1", "/ws/{kind}/{token}"),
        ("GET /WS/Device/s3cr3t HTTP/1.1", "/ws/{kind}/{token}"),
        ("GET /ws%2Fdevice%252fs3cr3t HTTP/1.1", "/ws/{kind}/{token}"),
        ("GET /ws/device/s3cr3t HTTP/9.9", "/ws/{kind}/{token}"),
        # The server's parser refuses these requests, so no part of them is shown.
        ("GET /ws/device/#/s3cr3t HTTP/1.1", ""),
        ("GET ws/device/s3cr3t HTTP/1.1", ""),
        # A request target should contain no password, but some clients send one.
        ("GET http://ada:s3cr3t@gateway.test/x HTTP/1.1", "http://**********@gateway.test/x"),
        # All other paths are shown unchanged.
        ("GET /ws/device HTTP/1.1", "/ws/device"),
        ("GET /api/ws/device/token HTTP/1.1", "/api/ws/device/token"),
    ],
)
def test_redacted_segments_are_in_no_log_line_and_no_span(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector, line: str, shown: str
) -> None:
    number = crc32(line.encode())
    head = f"{line}\r\nHost: gateway.test\r\ntraceparent: 00-{new_trace(number)}-{PARENT_ID}-01\r\n"
    head += f"X-Request-Id: {number}\r\nContent-Length: 0\r\n\r\n"
    with Connection(traced.port) as connection:
        connection.send(head.encode())
        reply = connection.reply(line.partition(" ")[0])
    logged = traced.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
    assert logged["path"] == shown
    spans = [*collector.of(logged["trace_id"])] if reply.status == 505 else []
    if reply.status != 505:
        server, inner = trace_of(collector, logged["trace_id"])
        spans = [server, *inner]
        assert server.attributes["url.path"] == shown
    if reply.status == 200:
        asked_for = upstream.only.target.partition("?")[0]
        (call,) = [span for span in spans if span.kind == "client"]
        assert "s3cr3t" in asked_for.replace("%73", "s") or shown == "/ws/device"
        assert call.attributes["url.full"].startswith(f"http://127.0.0.1:{upstream.port}/")
    assert "s3cr3t" not in str(spans).replace("%73", "s") + traced.output().replace("%73", "s")


def test_the_spans_of_a_request(traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector) -> None:
    before = time.time_ns()
    reply = traced.request(
        "GET",
        "/api/devices/7?token=query-secret",
        [("Authorization", f"Bearer {signed('secret-subject')}"), ("traceparent", PARENT), ("tracestate", "a=1")],
        host="api.example.com:8443",
    )
    server, (quota, call) = trace_of(collector, TRACE_ID)
    after = time.time_ns()
    assert before <= server.started < server.ended <= after
    assert (server.name, server.kind, server.parent_id) == ("GET /api/devices/**", "server", PARENT_ID)
    assert server.attributes == {
        "http.request.method": "GET",
        "url.path": "/api/devices/7",
        "url.scheme": "http",
        "http.route": "/api/devices/**",
        "http.response.status_code": 200,
        "server.address": "api.example.com",
        "server.port": 8443,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "gateway.service": "devices",
        "gateway.request_id": reply.value("X-Request-Id"),
    }
    assert (quota.name, quota.kind, quota.attributes) == ("quota", "internal", {"gateway.quota.passed": True})
    assert (call.name, call.kind) == ("GET", "client")
    assert call.attributes == {
        "http.request.method": "GET",
        "url.full": f"{upstream.url}/api/devices/7",
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
        "http.response.status_code": 200,
        "gateway.service": "devices",
    }
    assert quota.ended <= call.started
    assert not any(span.is_error for span in (server, quota, call))
    assert {span.state for span in (server, quota, call)} == {"a=1"}
    assert server.resource["service.name"] == "gateway"
    # The upstream's parent is the span of the attempt that reached it.
    assert parents(upstream.only) == (TRACE_ID, call.span_id, "01")
    assert upstream.only.values("Tracestate") == ["a=1"]
    assert "secret" not in repr(collector.spans)


def test_a_trace_that_starts_here_has_no_parent(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector
) -> None:
    traced.get("/api/devices", bearer())
    trace_id, parent_id, flags = parents(upstream.only)
    server, inner = trace_of(collector, trace_id)
    assert (server.parent_id, flags) == ("", "03")
    assert parent_id == inner[-1].span_id


def test_each_attempt_is_a_span(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector, dead_port: int
) -> None:
    # By round robin, one of the two requests is sent to the refusing target first.
    ids = [send_traced(traced, 100 + number, path="/api/rules") for number in range(2)]
    found = [trace_of(collector, trace_id) for trace_id in ids]
    assert [server.attributes["http.response.status_code"] for server, _ in found] == [200, 200]
    (calls,) = [inner[1:] for _, inner in found if len(inner) == 3]
    first, second = calls
    assert first.is_error
    assert first.attributes["server.port"] == dead_port
    assert first.attributes["error.type"] == "upstream_unreachable"
    assert "http.response.status_code" not in first.attributes
    assert "http.request.resend_count" not in first.attributes
    assert not second.is_error
    assert second.attributes["server.port"] == upstream.port
    assert second.attributes["http.request.resend_count"] == 1
    assert first.span_id != second.span_id
    assert second.span_id in [parents(request)[1] for request in upstream.requests]


def test_error_statuses_of_the_service(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector
) -> None:
    for status, server_failed in [(404, False), (500, True)]:
        upstream.answers(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        server, inner = trace_of(collector, send_traced(traced, status))
        assert (server.is_error, server.attributes.get("error.type")) == (
            server_failed,
            str(status) if server_failed else None,
        )
        assert "gateway.error" not in server.attributes
        call = inner[-1]
        assert (call.is_error, call.attributes["error.type"]) == (True, str(status))
        assert call.attributes["http.response.status_code"] == status


def test_spans_of_responses_of_the_gateway_itself(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector
) -> None:
    def answered(number: int, path: str) -> tuple[Received, list[Received]]:
        trace_id = new_trace(number)
        traced.get(path, ("traceparent", f"00-{trace_id}-{PARENT_ID}-01"))
        return trace_of(collector, trace_id)

    refused, inner = answered(1, "/api/devices")
    assert (refused.name, refused.is_error) == ("GET /api/devices/**", False)
    assert refused.attributes["gateway.error"] == "missing_token"
    assert [span.name for span in inner] == ["quota"]
    own, inner = answered(2, "/healthz")
    assert (own.name, own.attributes["http.route"], inner) == ("GET /healthz", "/healthz", [])
    unknown, _ = answered(3, "/unknown")
    assert (unknown.name, unknown.attributes["gateway.error"]) == ("GET", "no_route")
    assert "http.route" not in unknown.attributes
    upstream.script = answering(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", keep=False)
    failed, inner = trace_of(collector, send_traced(traced, 4, "POST"))
    assert (failed.is_error, failed.attributes["error.type"]) == (True, "upstream_protocol")
    assert failed.attributes["http.response.status_code"] == 502
    assert inner[-1].attributes["error.type"] == "upstream_protocol"


def test_unknown_methods_share_one_span_name(traced: GatewayProcess, collector: Collector) -> None:
    server, inner = trace_of(collector, send_traced(traced, 20, "BREW"))
    assert (server.name, inner[-1].name) == ("HTTP /api/devices/**", "HTTP")
    assert server.attributes["http.request.method"] == "_OTHER"
    assert server.attributes["http.request.method_original"] == "BREW"


def test_an_aborted_response_is_an_error(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector
) -> None:
    arrived = threading.Event()

    def cut(_: Request, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        assert arrived.wait(20)
        return False

    upstream.script = cut
    with Connection(traced.port) as connection:
        connection.send(
            request_bytes("GET", "/api/devices", [bearer(), ("traceparent", f"00-{new_trace(30)}-{PARENT_ID}-01")])
        )
        assert b" 200 " in connection.socket.recv(65536)
        arrived.set()
        connection.rest()
    server, inner = trace_of(collector, new_trace(30))
    assert (server.is_error, server.attributes["error.type"]) == (True, "upstream_aborted")
    assert not inner[-1].is_error


def test_unsampled_requests_have_no_spans(
    traced: GatewayProcess, upstream: ScriptedUpstream, collector: Collector
) -> None:
    unsampled = f"00-{new_trace(40)}-{PARENT_ID}-00"
    traced.get("/api/devices", bearer(), ("traceparent", unsampled))
    assert upstream.only.values("Traceparent") == [unsampled]
    # Spans are exported in order. When the spans of a later request have arrived, those of this request never will.
    trace_of(collector, send_traced(traced, 41))
    assert collector.of(new_trace(40)) == []


def test_the_end_of_a_worker_exports_the_queued_spans(
    start_gateway: Start, upstream: ScriptedUpstream, own_collector: Collector
) -> None:
    tracing = {
        "otlp_endpoint": own_collector.url + "/",
        "service_name": "edge",
        "sample_ratio": 0,
        "headers": {"X-Api-Key": "the-key"},
    }
    gateway = start_gateway(
        four_services(upstream.url) | {"tracing": tracing},
        environ={"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"},
    )
    for number in range(1, 11):
        send_traced(gateway, number)
        gateway.get("/api/devices", bearer())
    gateway.wait_until(lambda: len(gateway.access_log()) == 20, "log all")
    assert own_collector.asked == 0
    assert gateway.stop() == 0
    assert len(own_collector.spans) == 30
    assert {span.trace_id for span in own_collector.spans} == {new_trace(number) for number in range(1, 11)}
    resource = own_collector.spans[0].resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("edge", "test")
    assert {headers["x-api-key"] for headers in own_collector.headers} == {"the-key"}
    assert "spans" not in gateway.output()
    assert "Traceback" not in gateway.output()


def test_a_failing_or_hanging_collector_delays_no_request(
    start_gateway: Start, upstream: ScriptedUpstream, own_collector: Collector
) -> None:
    own_collector.status = 400
    gateway = start_gateway(
        four_services(upstream.url) | {"tracing": {"otlp_endpoint": own_collector.url}}, workers=1, environ=SOON
    )

    def logged(text: str) -> int:
        return gateway.output().count(text)

    def send_until_exported(count: int) -> None:
        goal = own_collector.asked + count
        while own_collector.asked < goal:
            assert gateway.get("/api/devices", bearer()).status == 200

    send_until_exported(5)
    gateway.wait_until(lambda: logged("spans are not exported: ") == 1, "log it")
    gateway.wait_until(lambda: logged("code: 400") > 0, "log why")
    own_collector.status = 200
    send_until_exported(5)
    gateway.wait_until(lambda: logged("spans are exported again") == 1, "log it")
    own_collector.is_hanging = True
    send_until_exported(1)
    for _ in range(50):
        assert gateway.get("/api/devices", bearer()).status == 200
    began = time.monotonic()
    assert gateway.stop() == 0
    # A shutdown must not wait for the exporter's own timeout, which is ten seconds.
    assert time.monotonic() - began < 10
    assert (logged("spans are not exported"), logged("spans are exported again")) == (1, 1)
    assert logged("Traceback") == 0


def test_without_a_collector_the_exporter_is_not_imported() -> None:
    code = "import sys, wsgi; print(*sys.modules)"
    environ = clean_environment() | {"GATEWAY_JWT__SECRET": "x" * 32}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert "gateway.telemetry.span_recorder" in imported
    # redis-py imports the SDK's metrics if they are installed.
    exporting = ("gateway.telemetry.tracing.export", "opentelemetry.sdk.trace", "opentelemetry.exporter", "google")
    assert [name for name in imported if name.startswith(exporting)] == []


def test_a_missing_sdk_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.sdk'] = None\n")
    environ = clean_environment() | {"GATEWAY_JWT__SECRET": "x" * 32, "PYTHONPATH": str(tmp_path)}
    for collector, code in [({}, 0), ({"GATEWAY_TRACING__OTLP_ENDPOINT": "http://127.0.0.1:4318"}, 1)]:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "check"],
            cwd=ROOT,
            env=environ | collector,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert re.search(
        r"tracing\.otlp_endpoint: needs .+ pip install -r gateway/telemetry/tracing/requirements\.txt$",
        done.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("tracing", "error"),
    [
        ({"otlp_endpoint": "127.0.0.1:4318"}, "otlp_endpoint: must be like http://host:port, got '127.0.0.1:4318'"),
        ({"otlp_endpoint": "grpc://h:4317"}, "otlp_endpoint: scheme must be http or https, got 'grpc'"),
        ({"otlp_endpoint": "http://h:4318/?a=1"},
         "otlp_endpoint: must be a scheme, a host and perhaps a port and a path, got 'http://h:4318/?**********'"),
        ({"otlp_endpoint": "http://u:secret@h:4318"},
         "otlp_endpoint: must not have a user, a password or any other @ in it"),
        ({"otlp_endpoint": "http://h:4318/v1/traces"},
         "otlp_endpoint: must be the URL without /v1/traces, like http://127.0.0.1:4318"),
        ({"otlp_endpoint": "http://h:4318", "propagate": False}, "otlp_endpoint: needs propagate = true"),
        ({"headers": {"x-key": "secret"}}, "headers: needs otlp_endpoint"),
        ({"otlp_endpoint": "http://h:4318", "headers": {"x-key": "secret\r\nX: y"}},
         "headers.x-key: must be the value of a header: printable ASCII without blanks around it"),
        ({"sample_ratio": 2}, "sample_ratio: must be less than or equal to 1"),
        ({"sampler": "x"}, "sampler: there is no such setting"),
    ],
)  # fmt: skip
def test_configuration_errors(tracing: dict[str, Any], error: str) -> None:
    assert errors_of({"tracing": tracing}) == [f"tracing.{error}"]
