"""The connection pool of a service: its size, its reuse, and that each worker has its own pool."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from gateway.config import ServiceSettings
from gateway.proxy.connection_pool import UpstreamConnectionPool
from gateway.proxy.requests_session import ServiceSession
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

GET = request_bytes("GET", "/api/devices", [bearer()])


def test_idle_connections_beyond_the_limit_are_closed(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    services = four_services(upstream.url)
    services["services"]["devices"]["keepalive_connections"] = 2
    gateway = start_gateway(services, workers=1)
    together = threading.Barrier(5)

    def all_at_once(_: Received, connection: socket.socket) -> bool:
        together.wait(15)
        connection.sendall(OK)
        return True

    upstream.script = all_at_once
    clients = [Connection(gateway.port) for _ in range(5)]
    for client in clients:
        client.send(GET)
    assert [client.reply().status for client in clients] == [200] * 5
    for client in clients:
        client.socket.close()
    assert len({request.connection for request in upstream.requests}) == 5
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == 3)


def test_with_preload_each_worker_has_its_own_connections(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(upstream.url), arguments=["--preload"])
    clients = [Connection(gateway.port) for _ in range(20)]
    for number, client in enumerate(clients * 5):
        client.send(request_bytes("GET", f"/api/devices/{number}", [bearer()]))
        assert client.reply().status == 200
    for client in clients:
        client.socket.close()
    assert [request.target for request in upstream.requests] == [f"/api/devices/{number}" for number in range(100)]


def test_a_name_is_looked_up_for_each_new_connection(
    monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream
) -> None:
    other = ScriptedUpstream()
    real, asked = socket.getaddrinfo, []

    def moving(host: str, port: int, **options: int) -> object:
        asked.append(host)
        return real("127.0.0.1", upstream.port if len(asked) == 1 else other.port, **options)

    # Replaces the system's resolver, which a test can't make return another address.
    monkeypatch.setattr(socket, "getaddrinfo", moving)
    pool = UpstreamConnectionPool(ServiceSettings(prefix="/x", targets=("http://moving.test",)), "x")
    target, timeouts = Target.parse("http://moving.test"), Timeouts(2, 30, 30)
    for _ in range(2):
        connection = pool.connect(target, timeouts)
        connection.begin_round_trip(None, timeouts)
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
    assert upstream.wait_until(lambda: len(upstream.requests) == 1)
    assert other.wait_until(lambda: len(other.requests) == 1)
    assert asked == ["moving.test"] * 2
    other.close()


def test_the_session_works_with_the_methods_of_requests(upstream: ScriptedUpstream) -> None:
    upstream.answers(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'
    )
    session = ServiceSession(ServiceSettings(prefix="/x", targets=(upstream.url,)), "x")
    for _ in range(2):
        answer = session.get(upstream.url + "/openapi.json?a=%2F", headers={"Accept": "application/json"}, timeout=5)
        assert answer.json() == {"ok": True}
        assert answer.headers["X-A"] == "1, 2"
    assert len(session.cookies) == 0
    assert [request.target for request in upstream.requests] == ["/openapi.json?a=%2F"] * 2
    assert all(request.values("cookie") == [] for request in upstream.requests)
    assert len({request.connection for request in upstream.requests}) == 1
    session.close()
