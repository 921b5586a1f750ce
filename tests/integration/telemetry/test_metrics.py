"""Metrics are correct over all workers, and only operators can read them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.gateway import GatewayProcess, four_services
from tests.support.metrics import metric_value
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]


def test_refusals_are_counted_by_reason_over_all_workers(gateway: GatewayProcess) -> None:
    before = metric_value(gateway, "gateway_token_refusals_total", reason="missing")
    for _ in range(20):
        assert gateway.get("/api/devices").status == 401
    assert metric_value(gateway, "gateway_token_refusals_total", reason="missing") == before + 20
    for field, reason in [(("Authorization", "Bearer x"), "malformed"), (bearer(exp=1), "expired")]:
        assert gateway.get("/api/devices", field).status == 401
        assert metric_value(gateway, "gateway_token_refusals_total", reason=reason) == 1


def test_unknown_statuses_and_methods_are_counted_as_other(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")
    assert gateway.request("ODD", "/api/devices", [bearer()]).status == 999
    labels = {"service": "devices", "route": "devices", "method": "other", "status": "other"}
    gateway.wait_until(lambda: metric_value(gateway, "gateway_requests_total", **labels) == 1, "count it")
    assert "Traceback" not in gateway.output()


@pytest.mark.parametrize(
    ("kind", "is_stream"),
    [("text/event-stream; charset=utf-8", True), ("application/jsonl", True), ("application/json", False)],
)
def test_the_duration_of_a_stream_is_in_no_histogram(
    gateway: GatewayProcess, upstream: ScriptedUpstream, kind: str, is_stream: bool
) -> None:
    labels = {"service": "livestreams", "route": "livestreams", "method": "GET", "status": "2xx"}
    requests = metric_value(gateway, "gateway_requests_total", **labels)
    timed = metric_value(gateway, "gateway_request_seconds_count", service="livestreams")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.answers(head.encode() + b"9\r\ndata: 1\n\n\r\n0\r\n\r\n")
    assert gateway.get("/api/livestreams", bearer()).body == b"data: 1\n\n"
    gateway.wait_until(lambda: metric_value(gateway, "gateway_requests_total", **labels) == requests + 1, "count it")
    assert metric_value(gateway, "gateway_request_seconds_count", service="livestreams") == timed + (not is_stream)


def test_the_counts_of_a_killed_worker_stay(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(four_services(module_upstream.url), workers=1)
    assert gateway.get("/api/devices").status == 401
    (pid,) = gateway.worker_pids()
    os.kill(pid, signal.SIGKILL)
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 2, "start another worker")
    assert gateway.get("/api/devices").status == 401
    assert metric_value(gateway, "gateway_token_refusals_total", reason="missing") == 2


@pytest.fixture(scope="module")
def alone(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway that can't reach its Redis."""
    return start_gateway(four_services(module_upstream.url), workers=1, environ={"REDIS_URL": "redis://127.0.0.1:1/0"})


def test_missing_revocation_checks_are_counted(alone: GatewayProcess) -> None:
    before = metric_value(alone, "gateway_revocations_unseen_total")
    for _ in range(3):
        assert alone.get("/api/devices", bearer()).status == 200
    assert metric_value(alone, "gateway_revocations_unseen_total") == before + 3


def test_redis_seconds_counts_only_requests_that_called_redis(alone: GatewayProcess) -> None:
    before = metric_value(alone, "gateway_request_seconds_count", service="devices")
    for _ in range(20):
        assert alone.get("/api/devices", bearer()).status == 200
    alone.wait_until(
        lambda: metric_value(alone, "gateway_request_seconds_count", service="devices") >= before + 20,
        "count them",
    )
    calls = metric_value(alone, "gateway_redis_failures_total")
    assert metric_value(alone, "gateway_redis_seconds_count") == calls < before + 20


@pytest.fixture(scope="module")
def configured(start_gateway: StartGateway, gateway: GatewayProcess) -> Callable[[dict[str, object]], GatewayProcess]:
    """A function that starts a gateway with these settings. It returns the same gateway for the same settings."""
    started = {repr({}): gateway}

    def with_settings(settings: dict[str, object]) -> GatewayProcess:
        if repr(settings) not in started:
            started[repr(settings)] = start_gateway(settings, workers=1)
        return started[repr(settings)]

    return with_settings


@pytest.mark.parametrize(
    ("settings", "fields", "status"),
    [
        ({}, [], 200),
        ({"admin": {"allow": ["10.0.0.0/8"]}}, [], 404),
        ({"admin": {"allow": []}}, [], 404),
        # A proxy on this machine that is not configured sends these headers: the address of its client is unknown.
        ({}, [("X-Forwarded-For", "127.0.0.1")], 404),
        ({}, [("Forwarded", "for=127.0.0.1")], 404),
        ({}, [("X-Real-IP", "127.0.0.1")], 404),
        ({}, [("Via", "1.1 proxy")], 404),
        ({}, [("Fastly-Client-IP", "127.0.0.1")], 404),
        ({}, [("X-Forwarded-Prefix", "/x")], 404),
        ({"proxy": {"trusted_hops": 1}}, [("X-Forwarded-For", "203.0.113.9")], 404),
        ({"proxy": {"trusted_hops": 1}}, [("X-Forwarded-For", "not an address")], 404),
        ({"proxy": {"trusted_hops": 1}}, [("Forwarded", "for=10.1.2.3")], 404),
        ({"proxy": {"trusted_hops": 1}, "admin": {"allow": ["127.0.0.1", "10.0.0.0/8"]}},
         [("X-Forwarded-For", "[::ffff:10.1.2.3]:4711")], 200),
    ],
)  # fmt: skip
def test_only_operators_can_read_metrics(
    configured: Callable[[dict[str, object]], GatewayProcess],
    settings: dict[str, object],
    fields: list[tuple[str, str]],
    status: int,
) -> None:
    gateway = configured(settings)
    reply = gateway.get("/metrics", *fields)
    assert reply.status == status
    assert reply.value("X-Gateway-Error") == (None if status == 200 else "no_route")
    if status == 404:
        line = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
        is_address = "admin" in settings or ("proxy" in settings and fields[0][1] == "203.0.113.9")
        address = "203.0.113.9" if fields and "admin" not in settings else "127.0.0.1"
        why = f"admin.allow does not list {address}" if is_address else "a proxy forwarded it, and without"
        assert line["cause"].startswith(f"NotAnOperator: {why}")
        # Each worker logs this once.
        assert gateway.output().count("a request for /status or /metrics got 404: ") in (1, 2)


def test_metrics_contain_no_secret_and_no_caller(gateway: GatewayProcess) -> None:
    token = signed("very-private-subject", key="k" * 40)
    gateway.get("/api/devices/secret-path", ("Authorization", f"Bearer {token}"))
    text = gateway.get("/metrics").body.decode()
    assert 'reason="signature"' in text
    assert not [word for word in ("very-private-subject", "secret-path", token) if word in text]
