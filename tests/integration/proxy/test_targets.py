"""Services with several targets: balancing, retries, breakers, health checks and timeouts."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from typing import Any

import pytest

from tests.support.client import Connection, Reply, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.metrics import metric_value
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream, answering

# Nothing listens on this port.
DEAD = "http://127.0.0.1:1"
NEVER_AGAIN = {"failures": 3, "open_seconds": 30, "max_open_seconds": 30}
# Each test has its own service, as the state of targets outlasts a test.
SERVICES: dict[str, dict[str, Any]] = {
    "spread": {"weights": [3, 1]},
    "refusing_get": {"targets": "dead first"},
    "refusing_post": {"targets": "dead first"},
    "resetting": {"breaker": {"failures": 0}},
    "outage": {"retries": 5, "breaker": {"failures": 0}},
    "failing": {"targets": "first", "breaker": {"failures": 3, "open_seconds": 1}},
    "busy": {},
    "loyal": {"balancing": "principal"},
    "slow": {
        "targets": "first",
        "read_timeout_seconds": 30,
        "routes": [{"path": "/api/slow/head", "head_timeout_seconds": 0.3}],
        "breaker": {"failures": 0},
    },
    "hanging": {"max_in_flight_per_target": 2},
    "narrow": {"targets": "first", "max_in_flight": 2},
    "stopping": {"targets": "first", "read_timeout_seconds": 0.3, "breaker": NEVER_AGAIN},
    "breaking": {"targets": "first", "breaker": NEVER_AGAIN},
    "uploading": {"targets": "first", "breaker": {"failures": 1, "open_seconds": 0.05}},
}


@pytest.fixture(scope="module")
def module_second() -> Iterator[ScriptedUpstream]:
    running = ScriptedUpstream()
    yield running
    running.close()


@pytest.fixture
def second(module_second: ScriptedUpstream) -> ScriptedUpstream:
    module_second.reset()
    return module_second


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, module_second: ScriptedUpstream
) -> GatewayProcess:
    """A gateway with SERVICES. It has only one worker, because each worker has its own state of the targets."""
    urls = {"first": module_upstream.url, "second": module_second.url, "dead": DEAD}
    services = {}
    for name, own in SERVICES.items():
        targets = [urls[one] for one in own.get("targets", "first second").split()]
        services[name] = {"prefix": f"/api/{name}", "balancing": "round_robin"} | own | {"targets": targets}
    return start_gateway({"default_services": False, "services": services}, workers=1)


def reset(_: Received, connection: socket.socket) -> bool:
    """Closes the connection without a response."""
    connection.shutdown(socket.SHUT_RDWR)
    return False


def send(gateway: GatewayProcess, path: str, method: str = "GET", body: bytes | None = None) -> Reply:
    return gateway.request(method, f"/api/{path}", [bearer()], body)


def code(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.value("X-Gateway-Error")


def test_requests_are_spread_over_targets(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    for _ in range(8):
        assert send(gateway, "spread").status == 200
    assert (len(upstream.requests), len(second.requests)) == (6, 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_refuses_connections_fails_no_request(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str
) -> None:
    service = f"refusing_{method.lower()}"
    replies = [send(gateway, service, method, b"body" if method == "POST" else None) for _ in range(20)]
    assert Counter(reply.status for reply in replies) == {200: 20}
    assert len(upstream.requests) == 20
    # The first five attempts fail and open the breaker. Then it allows a probe now and then, which fails as well.
    assert 5 <= metric_value(gateway, "gateway_retries_total", service=service) <= 8
    assert f"{service}: the breaker of {DEAD} opened" in gateway.output()
    logged = gateway.wait_for_log(lambda line: line["service"] == service and len(line["attempts"] or ()) > 1)
    assert [one["outcome"] for one in logged["attempts"]] == ["upstream_unreachable", "answered"]
    # Neither the client nor the upstream receives information about the attempts.
    assert not [name for name, _ in replies[0].fields if "attempt" in name.lower()]
    assert upstream.requests[-1].values("X-Gateway-Attempts") == []


def test_only_idempotent_requests_are_retried_after_a_reset(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.script = reset
    assert [send(gateway, "resetting").status for _ in range(6)] == [200] * 6
    assert [send(gateway, "resetting", "PUT", b"x" * 1000).status for _ in range(4)] == [200] * 4
    assert Counter(code(send(gateway, "resetting", "POST", b"x")) for _ in range(6)) == {
        (200, None): 3,
        (502, "upstream_unreachable"): 3,
    }
    # No POST arrived twice.
    posts = [one for one in (*upstream.requests, *second.requests) if one.method == "POST"]
    assert len(posts) == 6
    # A large body is streamed and not stored, so it can't be sent again.
    large = [code(send(gateway, "resetting", "PUT", b"x" * 200_000)) for _ in range(2)]
    assert sorted(large) == [(200, None), (502, "upstream_unreachable")]


def test_retries_do_not_multiply_an_outage(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.script = second.script = reset
    for _ in range(100):
        assert send(gateway, "outage").status == 502
    # 100 requests, 10 retries that the budget had saved up, and one retry for every fifth request.
    assert 100 < len(upstream.requests) + len(second.requests) <= 131


def test_the_breaker_opens_and_closes_again(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = reset
    assert [code(send(gateway, "failing")) for _ in range(3)] == [(502, "upstream_unreachable")] * 3
    refused = send(gateway, "failing")
    assert code(refused) == (503, "upstream_open")
    assert int(refused.value("Retry-After") or "") >= 1
    assert len(upstream.requests) == 3
    upstream.answers(OK)
    gateway.wait_until(lambda: send(gateway, "failing").status == 200, "close the breaker")
    assert [send(gateway, "failing").status for _ in range(5)] == [200] * 5


def test_retry_after_of_a_503_is_respected(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.answers(b"HTTP/1.1 503 Busy\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n")
    # The client gets this first 503 and no retry, as the target may have begun to process the request. Later requests
    # go to the other target.
    assert Counter(send(gateway, "busy").status for _ in range(20)) == {503: 1, 200: 19}


def test_balancing_by_principal_keeps_the_target(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    for subject in ("ada", "bob", "eve", "joe", "sue", "tim"):
        before = len(upstream.requests), len(second.requests)
        for _ in range(4):
            assert gateway.get("/api/loyal", bearer(subject)).status == 200
        after = len(upstream.requests), len(second.requests)
        assert sorted((after[0] - before[0], after[1] - before[1])) == [0, 4]


def test_head_timeout_of_a_route(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    released = threading.Event()

    def send_byte_by_byte(_: Received, connection: socket.socket) -> bool:
        """Sends an endless head one byte at a time, with short pauses."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not released.wait(0.05):
            connection.sendall(b"x")
        return False

    upstream.at["/api/slow/head"] = send_byte_by_byte
    try:
        assert code(send(gateway, "slow/head")) == (504, "upstream_timeout")
        assert send(gateway, "slow").status == 200
    finally:
        released.set()


def test_max_in_flight_per_target(
    gateway: GatewayProcess, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    released = threading.Event()

    def wait(_: Received, connection: socket.socket) -> bool:
        released.wait(30)
        connection.sendall(OK)
        return True

    upstream.script = wait
    with ThreadPoolExecutor(2) as pool:
        hanging = []
        while len(upstream.requests) < 2:
            # Every second request goes to the target that hangs, until it has reached its limit.
            hanging.append(pool.submit(send, gateway, "hanging"))
            gateway.wait_until(lambda: len(upstream.requests) + len(second.requests) >= len(hanging), "forward it")
        assert [send(gateway, "hanging").status for _ in range(6)] == [200] * 6
        assert len(upstream.requests) == 2
        released.set()
        assert {one.result().status for one in hanging} == {200}


def test_slow_small_bodies_take_no_in_flight_slot(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    data = request_bytes("POST", "/api/narrow", [bearer()], b"x" * 1000)
    slow = [Connection(gateway.port) for _ in range(6)]
    try:
        for one in slow:
            one.send(data[:-500])
        assert [send(gateway, "narrow").status for _ in range(5)] == [200] * 5
        for one in slow:
            one.send(data[-500:])
            assert one.reply("POST").status == 200
    finally:
        for one in slow:
            one.socket.close()
    assert [one.body for one in upstream.requests if one.method == "POST"] == [b"x" * 1000] * 6


def test_an_unhealthy_target_receives_no_requests_until_it_is_healthy(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    healthy = b"HTTP/1.1 204 Fine\r\n\r\n"
    upstream.at["/health"] = answering(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n")
    second.at["/health"] = answering(healthy)
    health = {"path": "/health", "interval_seconds": 0.2, "unhealthy_after": 2, "healthy_after": 2}
    devices = {"targets": [upstream.url, second.url], "balancing": "round_robin", "health": health}
    gateway = start_gateway({"services": {"devices": devices}}, workers=1)
    assert send(gateway, "devices").status == 200
    gateway.wait_until(lambda: f"{upstream.url} fails its health check" in gateway.output(), "notice")

    def requests_to_the_first() -> int:
        before = sum(one.target == "/api/devices" for one in upstream.requests)
        assert [send(gateway, "devices").status for _ in range(6)] == [200] * 6
        return sum(one.target == "/api/devices" for one in upstream.requests) - before

    assert requests_to_the_first() == 0
    # If both targets are unhealthy, health results are ignored.
    second.at["/health"] = upstream.at["/health"]
    gateway.wait_until(lambda: f"{second.url} fails its health check" in gateway.output(), "notice")
    assert requests_to_the_first() == 3
    upstream.at["/health"] = answering(healthy)
    gateway.wait_until(lambda: f"{upstream.url} passes its health check again" in gateway.output(), "notice")
    assert requests_to_the_first() == 6


def closing_after(data: bytes) -> Callable[[Received, socket.socket], bool]:
    def script(_: Received, connection: socket.socket) -> bool:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)
        return False

    return script


def test_a_response_that_fails_before_its_body_counts_as_failure_of_the_target(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    released = threading.Event()

    def stop_after_the_head(_: Received, connection: socket.socket) -> bool:
        connection.sendall(head)
        released.wait(30)
        return False

    upstream.script = closing_after(head)
    upstream.at["/api/stopping/stops"] = stop_after_the_head
    try:
        assert code(send(gateway, "stopping/stops")) == (504, "upstream_timeout")
    finally:
        released.set()
    codes = [code(send(gateway, "stopping")) for _ in range(3)]
    assert codes == [(502, "upstream_protocol")] * 2 + [(503, "upstream_open")]


def test_truncated_responses_open_the_breaker(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    truncated = closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
    silent = closing_after(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.script = truncated
    upstream.at["/api/breaking/events"] = silent

    def is_truncated(path: str) -> bool:
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            send(gateway, path)
        return True

    # A truncated event stream is not counted as a failure, as many services end their streams like this.
    assert [is_truncated("breaking/events") for _ in range(5)]
    assert [is_truncated("breaking") for _ in range(2)]
    upstream.script = answering(OK)
    assert send(gateway, "breaking").status == 200
    # The complete response has reset the breaker's count of failures, so three more failures are needed to open it.
    upstream.script = truncated
    assert [is_truncated("breaking") for _ in range(3)]
    assert code(send(gateway, "breaking")) == (503, "upstream_open")
    assert f"breaking: the breaker of {upstream.url} opened" in gateway.output()


def test_a_slow_upload_as_probe_does_not_block_other_requests(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.script = reset
    gateway.wait_until(
        lambda: gateway.get("/api/uploading", bearer()).value("X-Gateway-Error") == "upstream_open", "open the breaker"
    )
    upstream.answers(OK)
    head = request_bytes("POST", "/api/uploading", [bearer(), ("Transfer-Encoding", "chunked")])
    uploads: list[Connection] = []

    def posts() -> int:
        return sum(one.method == "POST" for one in upstream.requests)

    def is_uploading() -> bool:
        """Begins an upload and returns whether one has reached the service. The breaker refuses uploads until it allows
        a probe."""
        uploads.append(Connection(gateway.port))
        uploads[-1].send(head + b"1\r\nx\r\n")
        return upstream.wait_until(lambda: posts() > 0, 0.1)

    try:
        gateway.wait_until(is_uploading, "allow an upload as probe")
        gateway.wait_until(
            lambda: [gateway.get("/api/uploading", bearer()).status for _ in range(10)] == [200] * 10, "serve others"
        )
        upload = next(one for one in upstream.requests if one.method == "POST")
        assert not upload.is_whole
        assert upload.connection not in upstream.closed_connections
    finally:
        for one in uploads:
            one.socket.close()
