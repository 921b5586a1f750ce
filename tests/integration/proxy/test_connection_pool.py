"""Idle connections to services: which request may use them, stray bytes on them, and when they are closed."""

from __future__ import annotations

import resource
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ServiceSettings
from gateway.errors import UpstreamConnectError, UpstreamConnectionStale, UpstreamProtocolError
from gateway.proxy.connection_pool import FRESH_SECONDS, QUARANTINE_SECONDS, UpstreamConnectionPool
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.round_trip import UpstreamRequest, round_trip
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from tests.support.certificates import Authority
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.upstream import OK, Received, ScriptedUpstream

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
NONE = b"HTTP/1.1 204 No Content\r\n"
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\n"
STRAY_BYTES = [b"abcd", b"\r\n", b"0\r\n\r\n", b"HTTP/2", b"HTTX/1.1 200 OK\r\n\r\n"]
# Bytes that could be the start of a response.
STRAY_BEGINNINGS = [b"HTTP/1.1 ", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX"]


class Sender:
    """Sends requests through a connection pool in this process. `now` is the clock of the pool."""

    def __init__(self, upstream: ScriptedUpstream, ca_file: Path | None) -> None:
        self.now = 1000.0
        self.target = Target.parse(upstream.url)
        self._settings = ServiceSettings(prefix="/x", targets=(upstream.url,), ca_file=ca_file)
        self.set_idle_seconds(60)

    def set_idle_seconds(self, seconds: float) -> None:
        """Replaces the pool by a new one, whose connections may be idle for this time."""
        settings = self._settings.model_copy(update={"keepalive_idle_seconds": seconds})
        self.pool = UpstreamConnectionPool(settings, "x", lambda: self.now)

    def send(
        self, method: str, path: str, content: bytes = b"", client: socket.socket | None = None
    ) -> tuple[int, bytes]:
        def send_interim(_: ResponseHead, client: socket.socket | None = client) -> None:
            """Has a reference to the client's socket, as the callback of a real request has."""

        fields = [("Host", "x"), ("Content-Length", str(len(content)))]
        limits = Timeouts(5, 5, 5)
        request = UpstreamRequest(method, self.target, path, fields, content, limits, client, send_interim)
        head, body = round_trip(self.pool, request)
        return head.status, b"".join(body)


@pytest.fixture
def sender(service: ScriptedUpstream, authority: Authority) -> Iterator[Sender]:
    sender = Sender(service, authority.ca_file if service.url.startswith("https") else None)
    yield sender
    sender.pool.close_idle()


def then_late(first: bytes, late: bytes) -> Callable[[Received, socket.socket], bool]:
    """Responds to /first with `first`, and sends the late bytes when that connection is used again."""
    used: set[int] = set()

    def script(received: Received, connection: socket.socket) -> bool:
        if received.target == "/first":
            used.add(received.connection)
            connection.sendall(first)
        elif received.connection in used:
            connection.sendall(late + OK)
        else:
            connection.sendall(OK)
        return True

    return script


class TestContentOfResponsesWithoutContent:
    @pytest.mark.parametrize("late", [b"abcd", POISON], ids=["bytes", "a response"])
    @pytest.mark.parametrize(
        "first",
        [
            NONE + b"Content-Length: 4\r\n\r\n",
            NONE + b"Transfer-Encoding: chunked\r\n\r\n",
            UNCHANGED + b"Transfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n" + NONE + b"\r\n",
            b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + NONE + b"\r\n",
        ],
    )
    def test_a_connection_on_which_content_was_announced_is_not_reused(
        self, service: ScriptedUpstream, sender: Sender, first: bytes, late: bytes
    ) -> None:
        service.script = then_late(first, late)
        assert sender.send("GET", "/first")[1] == b""
        assert sender.pool.idle_count(sender.target) == 0
        assert sender.send("GET", "/next") == (200, b'{"ok":true}')

    @pytest.mark.parametrize("late", [b"abcd", POISON], ids=["bytes", "a response"])
    @pytest.mark.parametrize(
        ("method", "first"),
        [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            ("GET", UNCHANGED + b"Content-Length: 4\r\n\r\n"),
            ("GET", UNCHANGED + b"\r\n"),
        ],
    )
    def test_a_connection_is_quarantined_while_content_may_still_arrive(
        self, service: ScriptedUpstream, sender: Sender, method: str, first: bytes, late: bytes
    ) -> None:
        service.script = then_late(first, late)
        sender.send(method, "/first")
        sender.now += QUARANTINE_SECONDS * 0.99
        assert sender.send("GET", "/next") == (200, b'{"ok":true}')
        assert len({request.connection for request in service.requests}) == 2

    def test_a_connection_is_reused_after_its_quarantine(self, service: ScriptedUpstream, sender: Sender) -> None:
        service.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for _ in range(3):
            sender.send("HEAD", "/first")
            sender.now += QUARANTINE_SECONDS
        assert len({request.connection for request in service.requests}) == 1

    def test_bytes_received_in_quarantine_are_no_response(self, service: ScriptedUpstream, sender: Sender) -> None:
        connections: list[socket.socket] = []

        def script(received: Received, connection: socket.socket) -> bool:
            connections.append(connection)
            connection.sendall(UNCHANGED + b"\r\n" if received.target == "/first" else OK)
            return True

        service.script = script
        sender.send("GET", "/first")
        connections[0].sendall(POISON)
        sender.now += QUARANTINE_SECONDS
        assert sender.send("GET", "/next") == (200, b'{"ok":true}')
        assert len({request.connection for request in service.requests}) == 2

    @pytest.mark.parametrize("first", [NONE + b"\r\n", NONE + b"Content-Length: 0\r\n\r\n"])
    def test_a_connection_is_reused_after_a_204_without_content(
        self, service: ScriptedUpstream, sender: Sender, first: bytes
    ) -> None:
        service.answers(first)
        for _ in range(3):
            assert sender.send("DELETE", "/first") == (204, b"")
        assert len({request.connection for request in service.requests}) == 1


class TestStrayBytes:
    """The service sends bytes of an earlier response after it has received the next request."""

    @pytest.mark.parametrize("late", STRAY_BYTES + STRAY_BEGINNINGS)
    def test_a_repeatable_request_is_sent_again(self, service: ScriptedUpstream, sender: Sender, late: bytes) -> None:
        service.script = then_late(OK, late)
        sender.send("GET", "/first")
        assert sender.send("GET", "/next") == (200, b'{"ok":true}')
        assert [request.target for request in service.requests] == ["/first", "/next", "/next"]

    @pytest.mark.parametrize("late", STRAY_BYTES)
    def test_any_other_request_fails_as_stale(self, service: ScriptedUpstream, sender: Sender, late: bytes) -> None:
        service.script = then_late(OK, late)
        sender.send("GET", "/first")
        with pytest.raises(UpstreamConnectionStale):
            sender.send("POST", "/next")
        assert [request.target for request in service.requests] == ["/first", "/next"]

    def test_a_second_malformed_response_is_a_protocol_error(self, service: ScriptedUpstream, sender: Sender) -> None:
        sender.send("GET", "/first")
        service.answers(b"HTTP/1.1 200 OK\r\nX-A\r\n\r\n")
        with pytest.raises(UpstreamProtocolError):
            sender.send("GET", "/next")
        assert len(service.requests) == 3

    def test_stray_bytes_on_a_new_connection_are_a_protocol_error(
        self, service: ScriptedUpstream, sender: Sender
    ) -> None:
        service.answers(b"abcd")
        with pytest.raises(UpstreamProtocolError):
            sender.send("GET", "/first")
        assert len(service.requests) == 1


class TestRequestsThatAreNotRepeatable:
    def test_they_reuse_fresh_connections(self, service: ScriptedUpstream, sender: Sender) -> None:
        for _ in range(3):
            sender.send("POST", "/", b"x")
            sender.now += FRESH_SECONDS
        assert len({request.connection for request in service.requests}) == 1

    def test_they_do_not_reuse_older_connections(self, service: ScriptedUpstream, sender: Sender) -> None:
        for method in ("POST", "POST", "PATCH", "GET"):
            sender.send(method, "/", b"x")
            sender.now += FRESH_SECONDS + 0.01
        # GET is repeatable, so it reuses the newest of the older connections.
        assert [request.connection for request in service.requests][3] == service.requests[2].connection
        assert len({request.connection for request in service.requests}) == 3

    def test_an_idle_connection_that_is_closed_under_one_is_stale(
        self, service: ScriptedUpstream, sender: Sender
    ) -> None:
        def script(received: Received, connection: socket.socket) -> bool:
            connection.sendall(OK if received.target == "/first" else b"")
            return received.target == "/first"

        service.script = script
        sender.send("POST", "/first")
        with pytest.raises(UpstreamConnectionStale):
            sender.send("POST", "/next")

    @pytest.mark.parametrize("service_seconds", [5.0, 2.0], ids=["uvicorn", "gunicorn"])
    def test_default_settings_avoid_services_that_close_idle_connections(
        self, service: ScriptedUpstream, sender: Sender, service_seconds: float
    ) -> None:
        """Some services close an idle connection at the worst moment: when a request arrives."""
        used: dict[int, float] = {}

        def script(received: Received, connection: socket.socket) -> bool:
            if sender.now - used.get(received.connection, sender.now) > service_seconds - 0.1:
                return False
            used[received.connection] = sender.now
            connection.sendall(OK)
            return True

        service.script = script
        sender.set_idle_seconds(ServiceSettings.model_fields["keepalive_idle_seconds"].default)
        for number in range(60):
            assert sender.send("POST", "/", b"x")[0] == 200
            sender.now += number / 10

    def test_a_new_connection_that_is_closed_under_one_is_a_failure(
        self, service: ScriptedUpstream, sender: Sender
    ) -> None:
        service.answers(b"", keep=False)
        with pytest.raises(UpstreamConnectError) as caught:
            sender.send("POST", "/first")
        assert not isinstance(caught.value, UpstreamConnectionStale)

    def test_a_connection_that_is_closed_within_a_head_is_a_failure(
        self, service: ScriptedUpstream, sender: Sender
    ) -> None:
        def script(received: Received, connection: socket.socket) -> bool:
            connection.sendall(OK if received.target == "/first" else b"HTTP/1.1 2")
            return received.target == "/first"

        service.script = script
        sender.send("POST", "/first")
        with pytest.raises(UpstreamConnectError) as caught:
            sender.send("POST", "/next")
        assert not isinstance(caught.value, UpstreamConnectionStale)


def test_an_idle_connection_does_not_keep_the_clients_socket_alive(service: ScriptedUpstream, sender: Sender) -> None:
    client, other = socket.socketpair()
    with client, other:
        held = weakref.ref(client)
        sender.send("GET", "/", client=client)
    del client
    assert sender.pool.idle_count(sender.target) == 1
    assert held() is None


class TestIdleTime:
    @pytest.mark.parametrize(
        ("field", "seconds"),
        [
            (b"X: y", 60),
            (b"Keep-Alive: timeout=5", 4),
            (b"Keep-Alive: max=100, timeout=5", 4),
            (b'keep-alive: Timeout = "2"', 1),
            (b"Keep-Alive: timeout=1", 0.5),
            (b"Keep-Alive: timeout=1000", 60),
            (b"Keep-Alive: notimeout=5", 60),
            (b"Keep-Alive: timeout=x", 60),
        ],
    )
    def test_a_connection_is_reused_until_its_idle_time_is_over(
        self, service: ScriptedUpstream, sender: Sender, field: bytes, seconds: float
    ) -> None:
        service.answers(OK.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n", 1))
        for _ in range(2):
            sender.send("GET", "/")
            sender.now += seconds - 0.01
        sender.send("GET", "/")
        sender.now += seconds
        sender.send("GET", "/")
        numbers = [request.connection for request in service.requests]
        assert numbers[0] == numbers[1] == numbers[2] != numbers[3]

    def test_a_keep_alive_timeout_of_zero_is_respected(self, service: ScriptedUpstream, sender: Sender) -> None:
        service.answers(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=0\r\n\r\n", 1))
        sender.send("GET", "/")
        assert sender.pool.idle_count(sender.target) == 0

    def test_an_expired_connection_is_closed_without_traffic(self, service: ScriptedUpstream, sender: Sender) -> None:
        sender.send("GET", "/")
        sender.pool.close_expired()
        assert sender.pool.idle_count(sender.target) == 1
        sender.now += 60
        # The background thread closes the expired connection.
        number = service.requests[0].connection
        assert service.wait_until(lambda: number in service.closed_connections)
        assert sender.pool.idle_count(sender.target) == 0

    def test_a_connection_closed_by_the_service_is_closed(self, service: ScriptedUpstream, sender: Sender) -> None:
        service.answers(OK, keep=False)
        sender.send("GET", "/")
        number = service.requests[0].connection
        assert service.wait_until(lambda: number in service.closed_connections)
        deadline = threading.Event()
        for _ in range(200):
            if not sender.pool.idle_count(sender.target):
                break
            deadline.wait(0.05)
        assert sender.pool.idle_count(sender.target) == 0


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    def service(prefix: str, **more: Any) -> dict[str, Any]:
        return {"prefix": prefix, "targets": [module_upstream.url], "auth": "none", **more}

    return start_gateway(
        {
            "default_services": False,
            "services": {
                "fragile": service("/fragile", breaker={"failures": 1, "open_seconds": 60, "max_open_seconds": 60}),
                "brief": service("/brief", keepalive_idle_seconds=0.02),
                "lasting": service("/lasting", keepalive_idle_seconds=3600),
            },
        },
        workers=1,
    )


class TestInAGateway:
    def test_stale_connections_open_no_breaker(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        seen: set[int] = set()

        def script(received: Received, connection: socket.socket) -> bool:
            if received.connection in seen:
                return False
            seen.add(received.connection)
            connection.sendall(OK)
            return True

        upstream.script = script
        statuses = [gateway.request("POST", "/fragile", [], b"x").status for _ in range(6)]
        assert 502 in statuses
        assert set(statuses) <= {200, 502}
        line = gateway.wait_for_log(lambda line: line["status"] == 502)
        assert [one["outcome"] for one in line["attempts"]] == ["stale connection"]

    def test_idle_connections_are_closed_when_descriptors_run_out(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        together = threading.Barrier(10)

        def all_at_once(_: Received, connection: socket.socket) -> bool:
            together.wait(15)
            connection.sendall(OK)
            return True

        upstream.script = all_at_once
        clients = [Connection(gateway.port) for _ in range(10)]
        for client in clients:
            client.send(request_bytes("GET", "/lasting"))
        assert [client.reply().status for client in clients] == [200] * 10
        upstream.reset()
        (pid,) = gateway.worker_pids()
        open_now = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
            # A request to another service needs a new connection.
            clients[0].send(request_bytes("GET", "/brief"))
            assert clients[0].reply().status == 200
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.socket.close()
        assert upstream.wait_until(lambda: len(upstream.closed_connections) >= 10)
