"""Gauges are the sum over all living workers, without those that have ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.issuer import Issuer
from tests.support.metrics import metric_value
from tests.support.redis import free_port
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

Start = Callable[..., GatewayProcess]
MAX_IN_FLIGHT = 7


class Held:
    """Holds responses back until `go_on` is set."""

    def __init__(self, upstream: ScriptedUpstream, path: str) -> None:
        self.go_on = threading.Event()
        upstream.at[path] = self._answer

    def _answer(self, _: Received, connection: Any) -> bool:
        assert self.go_on.wait(60)
        connection.sendall(OK)
        return True


def wait_for(gateway: GatewayProcess, value: float, name: str, **labels: str) -> None:
    gateway.wait_until(lambda: metric_value(gateway, name, **labels) == value, f"have {value} as {name} of {labels}")


@pytest.fixture
def held(upstream: ScriptedUpstream) -> Iterator[Held]:
    held = Held(upstream, "/api/devices")
    yield held
    held.go_on.set()


def test_requests_in_flight_are_summed_over_living_workers(
    start_gateway: Start, upstream: ScriptedUpstream, held: Held
) -> None:
    services = {"devices": {"targets": [upstream.url], "max_in_flight": MAX_IN_FLIGHT}}
    gateway = start_gateway({"services": services})
    target = {"service": "devices", "target": upstream.url}
    wait_for(gateway, 2, "gateway_workers")
    wait_for(gateway, 2 * MAX_IN_FLIGHT, "gateway_requests_in_flight_limit", service="devices")
    with ExitStack() as stack:
        clients = [stack.enter_context(Connection(gateway.port)) for _ in range(3)]
        for connection in clients:
            connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        assert upstream.wait_until(lambda: len(upstream.requests) == 3)
        wait_for(gateway, 3, "gateway_requests_in_flight", service="devices")
        wait_for(gateway, 3, "gateway_upstream_connections", **target, state="in_use")
        # The connection of the scrape itself is only counted if the gauges were updated after it was accepted.
        assert metric_value(gateway, "gateway_client_connections", state="serving") >= 3
        held.go_on.set()
        assert [connection.reply().status for connection in clients] == [200] * 3
        wait_for(gateway, 0, "gateway_requests_in_flight", service="devices")
        wait_for(gateway, 3, "gateway_upstream_connections", **target, state="idle")
        wait_for(gateway, 0, "gateway_upstream_connections", **target, state="in_use")


def test_the_gauges_of_a_killed_worker_disappear_and_its_counts_stay(
    start_gateway: Start, upstream: ScriptedUpstream, held: Held
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    services = {
        "devices": {"targets": [upstream.url]},
        "rules": {"targets": [dead], "breaker": {"failures": 1, "open_seconds": 600, "max_open_seconds": 600}},
    }
    gateway = start_gateway({"services": services}, workers=1)
    assert gateway.get("/api/rules", bearer()).status == 502
    wait_for(gateway, 1, "gateway_breaker_open", service="rules", target=dead)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        wait_for(gateway, 1, "gateway_requests_in_flight", service="devices")
        (pid,) = gateway.worker_pids()
        os.kill(pid, signal.SIGKILL)
        gateway.wait_until(lambda: gateway.output().count("Booting worker") == 2, "start another worker")
        wait_for(gateway, 2, "gateway_worker_starts_total")
        wait_for(gateway, 1, "gateway_workers")
        wait_for(gateway, 0, "gateway_requests_in_flight", service="devices")
        assert metric_value(gateway, "gateway_breaker_open", service="rules", target=dead) == 0
        # The counters of the killed worker are still exported.
        assert metric_value(gateway, "gateway_breaker_openings_total", service="rules", target=dead) == 1
        assert metric_value(gateway, "gateway_worker_memory_bytes") > 1 << 20


def test_ages_and_failures_of_keys_and_documents(start_gateway: Start, upstream: ScriptedUpstream) -> None:
    issuer = Issuer()
    issuer.add_key("k1", "ES256")
    document = b'{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}}'
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(document) + document)
    gateway = start_gateway(
        {
            "default_services": False,
            "services": {"devices": {"prefix": "/api/devices", "targets": [upstream.url]}},
            "jwt": {"jwks_url": issuer.jwks_url, "issuer": issuer.url, "jwks_refresh_seconds": 0.2},
            "docs": {"refresh_seconds": 1},
        },
        workers=1,
        environ={"GATEWAY_JWT__SECRET": None},
    )
    keys = {"issuer": issuer.url}
    assert metric_value(gateway, "gateway_jwks_loaded_timestamp_seconds", **keys) == 0
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {issuer.token('k1')}")).status == 200
    assert gateway.get("/openapi.json").status == 200
    gateway.wait_until(lambda: metric_value(gateway, "gateway_jwks_loaded_timestamp_seconds", **keys) > 0, "have keys")
    name = "gateway_document_current_timestamp_seconds"
    gateway.wait_until(lambda: metric_value(gateway, name, service="devices") > 0, "have the document")
    assert metric_value(gateway, "gateway_document_failing", service="devices") == 0
    upstream.answers(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
    issuer.status = 500
    wait_for(gateway, 1, "gateway_jwks_failing", **keys)
    wait_for(gateway, 1, "gateway_document_failing", service="devices")
    since = metric_value(gateway, name, service="devices")
    fetched = len(upstream.requests)
    assert upstream.wait_until(lambda: len(upstream.requests) > fetched + 1, 20)
    assert metric_value(gateway, name, service="devices") == since
    issuer.close()
